//! What is kept of a key: never its text.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use browserfleet_common::{egress::OriginRules, pb};
use browserfleet_tools::{Group, Scope};
use serde::{Deserialize, Serialize};

use super::secret;
use crate::limits::Limits;

/// Longest name, in bytes.
const NAME_MAX: usize = 64;

/// A key, as its file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Part of the key's text, and no secret.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// SHA-256 of the key's text, in hexadecimal digits.
    pub hash: String,
    pub scopes: Vec<Scope>,
    /// Groups of tools; none: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Group>>,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub origins: Origins,
    /// When it was made, UTC.
    pub created: Moment,
    /// When it stops to be good, UTC; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Moment>,
}

/// Where the pages of a key's sessions may go: `[scheme://]host[:port]`, `*.` before the host for its subdomains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origins {
    /// None: everywhere.
    #[serde(default)]
    pub allowed: Vec<String>,
    /// Not there, even if it is allowed.
    #[serde(default)]
    pub blocked: Vec<String>,
}

impl Origins {
    /// As they travel to a daemon.
    pub(crate) fn to_wire(&self) -> pb::Origins {
        pb::Origins { allowed: self.allowed.clone(), blocked: self.blocked.clone() }
    }
}

/// Wall time to the second, written as `2026-12-21T16:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(Duration);

impl Moment {
    /// The moment that is so long after 1970-01-01 UTC.
    pub fn at(since_1970: Duration) -> Self {
        Self(Duration::from_secs(since_1970.as_secs()))
    }

    /// Time since 1970-01-01 UTC.
    pub fn since_1970(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Moment {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parsed: Option<SystemTime> = humantime::parse_rfc3339(&text).ok();
        let since = parsed.and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
        since.map(Self::at).ok_or("a moment is written as 2026-12-21T16:00:00Z")
    }
}

impl From<Moment> for String {
    fn from(Moment(since): Moment) -> Self {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from(*self))
    }
}

impl Record {
    /// Whether it is good at a moment of wall time.
    pub fn is_good(&self, now: Duration) -> bool {
        self.expires.is_none_or(|end| now < end.since_1970())
    }

    /// What is wrong with it, if anything; `None`: nothing.
    fn problem(&self) -> Option<&'static str> {
        if !is_name(&self.name) {
            return Some("a name has 1 to 64 characters of A-Z a-z 0-9 . _ -, and does not look like an id");
        }
        if !secret::is_id(&self.id) || secret::from_hex(&self.hash).is_none() {
            return Some("id or hash is not one of ours");
        }
        if self.scopes.is_empty() || self.groups.as_ref().is_some_and(Vec::is_empty) {
            return Some("without a scope, or with an empty list of groups, it allows nothing");
        }
        if let Some(problem) = self.limits.problem() {
            return Some(problem);
        }
        if OriginRules::of_key(&self.origins.allowed, &self.origins.blocked).is_err() {
            return Some(
                "an origin is a host, perhaps with a scheme, a port or *. before it: https://app.example.com, *.example.com",
            );
        }
        None
    }
}

/// Checks the keys of a file; the text says which one is wrong and why.
pub(super) fn check(records: &[Record]) -> Result<(), String> {
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    for (place, record) in records.iter().enumerate() {
        let known = !ids.insert(&record.id) || !names.insert(&record.name);
        let problem = record.problem().or(known.then_some("its name or id is there twice"));
        if let Some(problem) = problem {
            return Err(format!("key {}: {problem}", place + 1));
        }
    }
    Ok(())
}

/// Whether a key may have this name. An id is no name: whoever revokes one must not hit the other.
pub(super) fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(allowed) && !secret::is_id(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_texts_that_people_read() {
        let moment = Moment::at(Duration::from_hours(499_656));
        assert_eq!(moment.to_string(), "2027-01-01T00:00:00Z");
        assert_eq!(Moment::try_from(moment.to_string()), Ok(moment));
        assert!(Moment::try_from("tomorrow".to_owned()).is_err());
    }

    #[test]
    fn names_are_no_ids() {
        assert!(is_name("ci") && is_name("team-a.prod_1"));
        for none in ["", "a b", "0123456789ab", &"x".repeat(65), "é", "a\n"] {
            assert!(!is_name(none), "{none:?}");
        }
    }
}
