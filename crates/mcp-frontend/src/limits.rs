//! How much a principal may use. There is one mechanism and there are two sources: the record of an API key, or the claims of a
//! token; where neither says anything, the settings do.

use std::time::Duration;

use browserfleet_common::config::Reader;
use serde::{Deserialize, Serialize};

/// Most of what is counted, and of bytes, in settings.
const COUNT_MAX: usize = 1_000_000;
const BYTES_MAX: u64 = 1 << 40;

/// How much a principal may use, on all front ends together. What is not said: as everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Open sessions; else `session.per_principal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<usize>,
    /// Calls that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<usize>,
    /// Calls that wait for a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<usize>,
    /// Requests per second, a second's worth at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<usize>,
    /// A session ends after this time without a call, if not earlier by `session.idle_ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "written")]
    pub session_idle: Option<Duration>,
    /// A session ends after this time, if not earlier by `session.max_lifetime`.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "written")]
    pub session_lifetime: Option<Duration>,
    /// Bytes of files that clients bring, an hour's worth at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_per_hour: Option<u64>,
    /// Bytes of files that pages give away, an hour's worth at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download_per_hour: Option<u64>,
}

impl Limits {
    /// `[limits]`: of each key that does not say otherwise, and the most of any token.
    pub(crate) fn read(reader: &mut Reader) -> Self {
        // Not asking the store at all is cheaper than asking it for a limit that nobody reaches.
        let count = |number: usize| (number > 0).then_some(number);
        let bytes = |number: u64| (number > 0).then_some(number);
        Self {
            calls: count(reader.count("limits.calls", 0, 0..=COUNT_MAX)),
            queue: count(reader.count("limits.queue", 0, 0..=COUNT_MAX)),
            rate: count(reader.count("limits.rate", 0, 0..=COUNT_MAX)),
            upload_per_hour: bytes(reader.bytes("limits.upload_per_hour", 0, 0..=BYTES_MAX)),
            download_per_hour: bytes(reader.bytes("limits.download_per_hour", 0, 0..=BYTES_MAX)),
            ..Self::default()
        }
    }

    /// These, and where they say nothing those: what an operator writes for one key counts, be it more or less.
    #[must_use]
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            sessions: self.sessions.or(others.sessions),
            calls: self.calls.or(others.calls),
            queue: self.queue.or(others.queue),
            rate: self.rate.or(others.rate),
            session_idle: self.session_idle.or(others.session_idle),
            session_lifetime: self.session_lifetime.or(others.session_lifetime),
            upload_per_hour: self.upload_per_hour.or(others.upload_per_hour),
            download_per_hour: self.download_per_hour.or(others.download_per_hour),
        }
    }

    /// Of each the smaller one: what somebody else writes, an issuer of tokens, takes away and never adds.
    #[must_use]
    pub(crate) fn narrowed_by(self, others: Self) -> Self {
        Self {
            sessions: least(self.sessions, others.sessions),
            calls: least(self.calls, others.calls),
            queue: least(self.queue, others.queue),
            rate: least(self.rate, others.rate),
            session_idle: least(self.session_idle, others.session_idle),
            session_lifetime: least(self.session_lifetime, others.session_lifetime),
            upload_per_hour: least(self.upload_per_hour, others.upload_per_hour),
            download_per_hour: least(self.download_per_hour, others.download_per_hour),
        }
    }

    /// What is wrong with them, if anything; `None`: nothing.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if [self.sessions, self.calls, self.rate].contains(&Some(0)) {
            return Some("0 sessions, 0 calls or 0 requests allow nothing");
        }
        let times = [self.session_idle, self.session_lifetime];
        if times.into_iter().flatten().any(|time| time < Duration::from_secs(1)) {
            return Some("a session lives for a second at least");
        }
        None
    }
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Durations as people write them: `5m`.
mod written {
    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::ref_option, reason = "so serde calls it")]
    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(&humantime::format_duration(*time)),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text: Option<String> = Option::deserialize(deserializer)?;
        let parse = |text: String| humantime::parse_duration(&text);
        text.map(parse)
            .transpose()
            .map_err(|_malformed| D::Error::custom("a time is written with its unit, such as 5m"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn some() -> Limits {
        Limits { sessions: Some(2), session_idle: Some(Duration::from_mins(5)), ..Limits::default() }
    }

    #[test]
    fn a_claim_narrows_and_never_widens() {
        let most = Limits {
            sessions: Some(10),
            calls: Some(5),
            queue: Some(3),
            rate: Some(20),
            session_idle: Some(Duration::from_mins(10)),
            session_lifetime: Some(Duration::from_hours(8)),
            upload_per_hour: Some(1000),
            download_per_hour: None,
        };
        let more = Limits {
            sessions: Some(1000),
            calls: Some(1000),
            queue: Some(1000),
            rate: Some(1000),
            session_idle: Some(Duration::from_hours(1000)),
            session_lifetime: Some(Duration::from_hours(1000)),
            upload_per_hour: Some(u64::MAX),
            download_per_hour: None,
        };
        assert_eq!(most.narrowed_by(more), most);
        assert_eq!(most.narrowed_by(Limits::default()), most);
        let less = Limits { download_per_hour: Some(7), upload_per_hour: Some(0), ..some() };
        let narrowed = most.narrowed_by(less);
        assert_eq!((narrowed.sessions, narrowed.calls, narrowed.upload_per_hour), (Some(2), Some(5), Some(0)));
        assert_eq!((narrowed.session_idle, narrowed.download_per_hour), (less.session_idle, Some(7)));
    }

    #[test]
    fn what_an_operator_writes_for_a_key_counts() {
        let settings = Limits { sessions: Some(1), calls: Some(5), ..Limits::default() };
        assert_eq!(some().or(settings), Limits { calls: Some(5), ..some() });
    }

    #[test]
    fn they_are_kept_as_people_write_them() {
        let kept = json!({ "sessions": 2, "session_idle": "5m" });
        assert_eq!(serde_json::to_value(some()).unwrap(), kept);
        assert_eq!(serde_json::from_value::<Limits>(kept).unwrap(), some());
        assert!(serde_json::from_value::<Limits>(json!({ "session": 2 })).is_err());
        assert!(Limits { session_lifetime: Some(Duration::ZERO), ..some() }.problem().is_some());
    }
}
