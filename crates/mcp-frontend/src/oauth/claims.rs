//! What a token says: who it is about, what it allows, how much.

use std::time::Duration;

use browserfleet_tools::{Group, Scope};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::scopes::ScopeNames;
use crate::limits::Limits;

/// Longest subject, in bytes. `OpenID` Connect allows 255.
const SUBJECT_MAX: usize = 1024;
/// The groups of tools among the limits of a token.
const GROUPS: &str = "groups";

/// The claims that count here. Issuer, audience and times have been checked when somebody looks at them.
#[derive(Deserialize)]
pub(super) struct Claims {
    /// A text: an array with the right issuer among others is none.
    pub(super) iss: String,
    pub(super) sub: String,
    /// Seconds since 1970.
    exp: f64,
    scope: Option<Words>,
    /// What some issuers call it.
    scp: Option<Words>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// A list, however it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    Text(String),
    List(Vec<String>),
}

impl Words {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let (text, list) = match self {
            Self::Text(text) => (text.as_str(), &[][..]),
            Self::List(list) => ("", &list[..]),
        };
        text.split_ascii_whitespace().chain(list.iter().map(String::as_str))
    }
}

/// How much a token leaves of what the settings allow.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Narrowed {
    /// None: all of them.
    pub(super) groups: Option<Vec<Group>>,
    pub(super) limits: Limits,
}

impl Claims {
    /// Whether it is about somebody.
    pub(super) fn has_subject(&self) -> bool {
        (1..=SUBJECT_MAX).contains(&self.sub.len())
    }

    /// When it stops to be good, since 1970, and nobody's clock may be later.
    pub(super) fn expires(&self) -> Option<Duration> {
        Duration::try_from_secs_f64(self.exp).ok()
    }

    pub(super) fn scopes(&self, names: &ScopeNames) -> Vec<Scope> {
        let said = [&self.scope, &self.scp].into_iter().flatten();
        names.allowed(said.flat_map(Words::iter))
    }

    /// What the claim of this name takes away.
    ///
    /// # Errors
    /// When it cannot be read as a whole: what an issuer wanted to forbid must not be allowed because nobody understood it.
    pub(super) fn narrowed(&self, claim: &str) -> Result<Narrowed, String> {
        let Some(said) = self.others.get(claim).filter(|said| !said.is_null()) else { return Ok(Narrowed::default()) };
        let Value::Object(mut said) = said.clone() else { return Err("it is no object".to_owned()) };
        let groups = said.remove(GROUPS).filter(|groups| !groups.is_null());
        let groups: Option<Vec<Group>> =
            groups.map(serde_json::from_value).transpose().map_err(|error| format!("{GROUPS}: {error}"))?;
        let limits: Limits = serde_json::from_value(Value::Object(said)).map_err(|error| error.to_string())?;
        match limits.problem() {
            Some(problem) => Err(problem.to_owned()),
            None => Ok(Narrowed { groups, limits }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(more: &Value) -> Claims {
        let mut claims = json!({ "iss": "i", "sub": "s", "exp": 7 });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(claims).unwrap()
    }

    #[test]
    fn scopes_are_a_text_or_a_list_under_either_name() {
        for said in [
            json!({ "scope": "openid browser:read  browser:act" }),
            json!({ "scp": ["browser:act", "browser:read"] }),
            json!({ "scope": ["browser:read"], "scp": "browser:act" }),
        ] {
            assert_eq!(claims(&said).scopes(&ScopeNames::default()), [Scope::Read, Scope::Act], "{said}");
        }
        assert!(claims(&json!({})).scopes(&ScopeNames::default()).is_empty());
    }

    #[test]
    fn limits_are_read_as_a_whole_or_not_at_all() {
        let narrowed = |said: Value| claims(&json!({ "fleet": said })).narrowed("fleet");
        let said = json!({ "groups": ["core"], "sessions": 2, "session_idle": "5m", "upload_per_hour": 1024 });
        let limits = Limits {
            sessions: Some(2),
            session_idle: Some(Duration::from_mins(5)),
            upload_per_hour: Some(1024),
            ..Limits::default()
        };
        assert_eq!(narrowed(said), Ok(Narrowed { groups: Some(vec![Group::Core]), limits }));
        assert_eq!(narrowed(Value::Null), Ok(Narrowed::default()));
        assert_eq!(claims(&json!({})).narrowed("fleet"), Ok(Narrowed::default()));
        for wrong in [
            json!([]),
            json!("sessions=2"),
            json!({ "session": 2 }),
            json!({ "sessions": -1 }),
            json!({ "sessions": "2" }),
            json!({ "rate": 0 }),
            json!({ "groups": "core" }),
            json!({ "groups": ["kore"] }),
            json!({ "session_idle": 300 }),
        ] {
            assert!(narrowed(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
