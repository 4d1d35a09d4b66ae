//! One message as it is on the wire. Only the envelope is read here; `params` and `result` stay text until someone asks.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::surrogates;

/// A message from the browser: a reply (it has an id) or an event (it has a method).
#[derive(Debug, Deserialize)]
pub(crate) struct Envelope<'a> {
    pub(crate) id: Option<u64>,
    /// Empty when there is none: serde borrows a plain `Cow`, but not one inside an `Option`.
    #[serde(borrow, default)]
    pub(crate) method: Cow<'a, str>,
    /// Empty on the browser's own level.
    #[serde(borrow, default, rename = "sessionId")]
    pub(crate) session: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) params: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) result: Option<&'a RawValue>,
    pub(crate) error: Option<Refusal>,
}

/// The error object of a reply.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    #[serde(default)]
    pub(crate) code: i64,
    #[serde(default)]
    pub(crate) message: String,
}

/// What we read of the events that change the state of sessions: attached, detached, crashed.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TargetNote<'a> {
    #[serde(borrow, default)]
    pub(crate) session_id: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) target_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) target_info: Option<TargetInfo<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TargetInfo<'a> {
    #[serde(borrow)]
    pub(crate) target_id: Cow<'a, str>,
}

/// What we read of a `Page.navigate` reply.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Navigated {
    pub(crate) error_text: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outgoing<'a, P> {
    id: u64,
    method: &'a str,
    params: &'a P,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
}

pub(crate) fn parse(frame: &[u8]) -> serde_json::Result<Envelope<'_>> {
    serde_json::from_slice(frame)
}

/// One command, terminated.
pub(crate) fn encode<P: Serialize>(
    id: u64,
    session: Option<&str>,
    method: &str,
    params: &P,
) -> serde_json::Result<Vec<u8>> {
    let mut frame = serde_json::to_vec(&Outgoing { id, method, params, session_id: session })?;
    frame.push(0);
    Ok(frame)
}

/// Reads a raw value. Unpaired surrogates, which pages may produce and Rust's strings cannot hold, become U+FFFD.
pub fn decode<T: DeserializeOwned>(raw: &RawValue) -> serde_json::Result<T> {
    serde_json::from_str(raw.get()).or_else(|first| match surrogates::replace_unpaired(raw.get()) {
        Some(fixed) => serde_json::from_str(&fixed),
        None => Err(first),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn names_are_borrowed_and_payloads_untouched() {
        let frame = br#"{"method":"A.b","sessionId":"S","params":{"x": [1, 2]}}"#;
        let envelope = parse(frame).unwrap();
        assert!(matches!((&envelope.method, &envelope.session), (Cow::Borrowed("A.b"), Cow::Borrowed("S"))));
        assert_eq!(envelope.params.unwrap().get(), r#"{"x": [1, 2]}"#);
    }

    #[test]
    fn a_command_has_no_session_key_on_browser_level() {
        let frame = encode(3, None, "Browser.getVersion", &json!({})).unwrap();
        assert_eq!(frame, b"{\"id\":3,\"method\":\"Browser.getVersion\",\"params\":{}}\0");
    }

    #[test]
    fn half_an_emoji_does_not_spoil_an_answer() {
        let raw = RawValue::from_string(r#"{"value":"a\ud83d"}"#.to_owned()).unwrap();
        assert_eq!(decode::<Value>(&raw).unwrap(), json!({ "value": "a\u{fffd}" }));
    }
}
