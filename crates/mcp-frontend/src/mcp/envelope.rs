//! JSON-RPC, before anybody acts on it: which kind of message, which era.

use http::HeaderMap;
use rmcp::model::ProtocolVersion;
use serde_json::{Map, Value};

/// The header of the protocol's version.
pub(super) const VERSION_HEADER: &str = "mcp-protocol-version";
/// The `_meta` key of the protocol's version: requests of the modern era carry it.
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
/// Most bytes of a request's id.
const ID_MAX: usize = 256;

/// What is wrong with a message: a JSON-RPC error, and the id it answers, as far as there is one.
#[derive(Debug, PartialEq)]
pub(super) struct Malformed {
    pub(super) id: Value,
    pub(super) code: i32,
    pub(super) why: String,
}

impl Malformed {
    fn request(id: &Value, why: &str) -> Self {
        Self { id: id.clone(), code: -32600, why: format!("Invalid Request: {why}") }
    }
}

/// A well-formed message.
#[derive(Debug, PartialEq)]
pub(super) enum Message {
    Request {
        id: Value,
        method: String,
    },
    Notification {
        method: String,
    },
    /// Of a request of ours.
    Response,
}

/// Checks one message.
pub(super) fn check(message: &Value) -> Result<Message, Malformed> {
    let Value::Object(members) = message else {
        let why = if message.is_array() { "batches are not supported" } else { "a message is an object" };
        return Err(Malformed::request(&Value::Null, why));
    };
    let id = members.get("id").filter(|id| is_id(id)).unwrap_or(&Value::Null);
    let invalid = |why| Err(Malformed::request(id, why));
    if members.get("jsonrpc") != Some(&Value::from("2.0")) {
        return invalid("jsonrpc must be \"2.0\"");
    }
    let answers = usize::from(members.contains_key("result")) + usize::from(members.contains_key("error"));
    let Some(method) = members.get("method") else {
        return if answers == 1 {
            Ok(Message::Response)
        } else {
            invalid("neither method nor one of result and error")
        };
    };
    let Some(method) = method.as_str().filter(|method| !method.is_empty() && answers == 0) else {
        return invalid("method must be a text, without result or error beside it");
    };
    if members.get("params").is_some_and(|params| !params.is_object()) {
        return invalid("params must be an object");
    }
    let method = method.to_owned();
    match members.get("id") {
        None if method.starts_with("notifications/") => Ok(Message::Notification { method }),
        Some(id) if is_id(id) => {
            check_call(id, &method, members)?;
            Ok(Message::Request { id: id.clone(), method })
        }
        _ => invalid("id must be a whole number, or a text of at most 256 bytes"),
    }
}

fn is_id(id: &Value) -> bool {
    id.is_i64() || id.as_str().is_some_and(|text| text.len() <= ID_MAX)
}

/// A call that is none would reach the handler as an unknown method.
fn check_call(id: &Value, method: &str, members: &Map<String, Value>) -> Result<(), Malformed> {
    let params = members.get("params");
    let why = match method {
        "tools/call" if !params.is_some_and(|params| params["name"].is_string()) => "params.name must be a text",
        "tools/call"
            if !params.is_some_and(|params| params["arguments"].is_object() || params["arguments"].is_null()) =>
        {
            "params.arguments must be an object"
        }
        _ => return Ok(()),
    };
    Err(Malformed { id: id.clone(), code: -32602, why: format!("Invalid params: {why}") })
}

/// How requests are told apart: modern ones say their version each time, legacy ones shook hands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Era {
    Modern,
    Legacy,
}

/// The era of a message: its body decides first, then the header, never the presence of a connection's id.
pub(super) fn era(message: &Value, headers: &HeaderMap) -> Era {
    let (method, params) = (message["method"].as_str(), &message["params"]);
    let in_body = params["_meta"].get(VERSION_KEY).is_some();
    // The handshake is of the legacy era whatever it says; a modern request of that name is no handshake.
    if method == Some("initialize") && !(in_body && params["protocolVersion"].is_null()) {
        return Era::Legacy;
    }
    if in_body || method == Some("server/discover") { Era::Modern } else { era_of(headers) }
}

/// The era of a request without a body.
pub(super) fn era_of(headers: &HeaderMap) -> Era {
    // Versions are dates: they compare as texts. One that is not even a text is refused by the legacy side.
    let version = headers.get(VERSION_HEADER).and_then(|value| value.to_str().ok());
    let is_date = |text: &&str| text.starts_with(|c: char| c.is_ascii_digit());
    match version.filter(is_date) {
        Some(version) if version >= ProtocolVersion::NO_INITIALIZE.as_str() => Era::Modern,
        _ => Era::Legacy,
    }
}

/// Whether a legacy request's version header is one we know. Clients send none, or another one than agreed: that is fine.
pub(super) fn is_known_version(headers: &HeaderMap) -> bool {
    headers.get(VERSION_HEADER).is_none_or(|value| {
        ProtocolVersion::KNOWN_VERSIONS.iter().any(|version| version.as_str().as_bytes() == value.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code(message: &Value) -> i32 {
        check(message).unwrap_err().code
    }

    #[test]
    fn the_three_kinds() {
        let request = json!({ "jsonrpc": "2.0", "id": "a", "method": "tools/list" });
        assert_eq!(check(&request), Ok(Message::Request { id: json!("a"), method: "tools/list".to_owned() }));
        let notification = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
        assert!(matches!(check(&notification), Ok(Message::Notification { .. })));
        for answer in
            [json!({ "jsonrpc": "2.0", "id": 1, "result": {} }), json!({ "jsonrpc": "2.0", "id": 1, "error": {} })]
        {
            assert_eq!(check(&answer), Ok(Message::Response));
        }
    }

    #[test]
    fn ids_are_whole_numbers_or_short_texts() {
        for id in [json!(null), json!(1.5), json!({}), json!([1]), json!(true), json!("x".repeat(257)), json!(u64::MAX)]
        {
            assert_eq!(code(&json!({ "jsonrpc": "2.0", "id": id, "method": "ping" })), -32600, "{id}");
        }
        assert_eq!(code(&json!({ "jsonrpc": "2.0", "method": "tools/list" })), -32600, "a request without id");
        for id in [json!(0), json!(-1), json!(i64::MAX), json!(""), json!("x".repeat(256))] {
            assert!(check(&json!({ "jsonrpc": "2.0", "id": id, "method": "ping" })).is_ok(), "{id}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for bad in [
            json!([{ "jsonrpc": "2.0", "id": 1, "method": "ping" }]),
            json!("ping"),
            json!({ "id": 1, "method": "ping" }),
            json!({ "jsonrpc": "1.0", "id": 1, "method": "ping" }),
            json!({ "jsonrpc": "2.0", "id": 1 }),
            json!({ "jsonrpc": "2.0", "id": 1, "method": 5 }),
            json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "result": {} }),
            json!({ "jsonrpc": "2.0", "id": 1, "result": {}, "error": {} }),
            json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "params": [] }),
        ] {
            assert_eq!(code(&bad), -32600, "{bad}");
        }
        for params in [json!({}), json!({ "name": 1 }), json!({ "name": "a", "arguments": [] })] {
            assert_eq!(code(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })), -32602);
        }
    }

    #[test]
    fn the_body_decides_the_era_before_the_header() {
        let with = |version: &str| HeaderMap::from_iter([(VERSION_HEADER.parse().unwrap(), version.parse().unwrap())]);
        let meta = json!({ "method": "tools/list", "params": { "_meta": { VERSION_KEY: "2026-07-28" } } });
        let (bare, initialize) = (json!({ "method": "tools/list" }), json!({ "method": "initialize" }));
        let no_handshake = json!({ "method": "initialize", "params": { "_meta": { VERSION_KEY: "2026-07-28" } } });
        assert_eq!(era(&no_handshake, &HeaderMap::new()), Era::Modern);
        assert_eq!(era(&meta, &with("2025-11-25")), Era::Modern);
        assert_eq!(era(&initialize, &with("2026-07-28")), Era::Legacy);
        assert_eq!(era(&bare, &with("2026-07-28")), Era::Modern);
        assert_eq!(era(&bare, &with("2027-01-01")), Era::Modern);
        for version in ["2025-11-25", "2024-11-05", "nonsense", ""] {
            assert_eq!(era(&bare, &with(version)), Era::Legacy, "{version}");
        }
        assert!(is_known_version(&with("2024-11-05")) && is_known_version(&HeaderMap::new()));
        assert!(!is_known_version(&with("2020-01-01")) && !is_known_version(&with("nonsense")));
    }
}
