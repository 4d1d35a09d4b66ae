//! The names of everything kept in Redis: the one table.
//!
//! | key | what | written by | lives |
//! |---|---|---|---|
//! | `bf:{<principal>:<name>}:rec` | a session ([`super::Sessions`]) | front ends; a daemon that re-publishes | with the session |
//! | `bf:{<principal>:<name>}:ended` | the last session of this name that was ended, and by which request | front ends | a minute |
//! | `…:kept` | its artifacts, sealed ([`super::kept`]) | front ends | with the session, or until it lapses |
//! | `…:check` | its checkpoint, sealed, and what it takes to bring the session back | daemons | until the session's longest lifetime is over |
//! | `bf:{<principal>}:sessions` | which sessions a principal has (an [`super::Index`]) | as above | with the last of them |
//! | `bf:{<principal>}:checks` | which checkpoints a principal has (an [`super::Index`]) | daemons | with the last of them |
//! | `bf:sessions` | which sessions there are | as above | with the last of them |
//! | `bf:{<principal>}:calls`, `…:queue` | places a principal has taken, with `…:what` what for; `…:rate` its pace | front ends | seconds |
//! | `bf:key` | the secret that seals and signs where no file has one | whoever comes first | for ever |
//! | `bf:epoch` | drawn when this Redis was first used | whoever comes first | for ever |
//! | `bf:conn:{<principal>:<id>}:rec`, `…:used` | a legacy connection, the sessions its calls named | front ends | sliding |
//! | `bf:conn:{<principal>:<id>}:ended` | a connection that was ended, and by which request | front ends | a minute |
//! | `bf:conns`, `bf:{<principal>}:conns` | which connections there are, and a principal has (an [`super::Index`] each) | front ends | with the last of them |
//! | `bf:bus:{<principal>:<id>}` | the channel of a connection | front ends | no key |
//! | `bf:pools` | which daemons there are, and how they are | daemons | seconds |
//!
//! `<principal>` is a hash: two principals never share a key, and no key shows who somebody is. What one script changes has
//! one hash tag, so that a cluster keeps it on one node. `bf` is the deployment's prefix.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::ids::{Principal, SessionName, hex};

/// Names keys. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// What stands for a principal in keys: 128 bits of a digest, so that nobody finds one whose keys are another's.
    pub fn principal(principal: &Principal) -> String {
        let digest = Sha256::new().chain_update("browserfleet principal ").chain_update(principal.as_str()).finalize();
        hex(&digest[..16])
    }

    /// What names a session in an index: [`Self::record`] without what is around it.
    pub fn member(principal: &Principal, name: &SessionName) -> String {
        format!("{}:{}", Self::principal(principal), name.as_str())
    }

    /// The record of a session by its [`Self::member`].
    pub fn record(&self, member: &str) -> String {
        format!("{}:{{{member}}}:rec", self.prefix)
    }

    /// Where it is remembered that a session was ended.
    pub fn ended(&self, member: &str) -> String {
        format!("{}:{{{member}}}:ended", self.prefix)
    }

    /// The artifacts of a session.
    pub fn kept(&self, member: &str) -> String {
        format!("{}:{{{member}}}:kept", self.prefix)
    }

    /// The checkpoint of a session.
    pub fn checkpoint(&self, member: &str) -> String {
        format!("{}:{{{member}}}:check", self.prefix)
    }

    pub fn sessions_of(&self, principal: &Principal) -> String {
        self.of_principal(&Self::principal(principal), "sessions")
    }

    pub fn checkpoints_of(&self, principal: &Principal) -> String {
        self.of_principal(&Self::principal(principal), "checks")
    }

    /// Something of a principal, by its [`Self::principal`].
    pub fn of_principal(&self, principal: &str, what: &str) -> String {
        format!("{}:{{{principal}}}:{what}", self.prefix)
    }

    pub fn sessions(&self) -> String {
        format!("{}:sessions", self.prefix)
    }

    pub fn secret(&self) -> String {
        format!("{}:key", self.prefix)
    }

    pub fn epoch(&self) -> String {
        format!("{}:epoch", self.prefix)
    }

    /// What names a connection in its index.
    pub fn connection_member(principal: &Principal, id: &str) -> String {
        format!("{}:{id}", Self::principal(principal))
    }

    /// The record of a connection by its [`Self::connection_member`].
    pub fn connection(&self, member: &str) -> String {
        format!("{}:conn:{{{member}}}:rec", self.prefix)
    }

    /// Where it is remembered that a connection was ended.
    pub fn connection_ended(&self, member: &str) -> String {
        format!("{}:conn:{{{member}}}:ended", self.prefix)
    }

    /// The sessions that a connection's calls have named, the latest last.
    pub fn connection_used(&self, member: &str) -> String {
        format!("{}:conn:{{{member}}}:used", self.prefix)
    }

    pub fn connections_of(&self, principal: &Principal) -> String {
        self.of_principal(&Self::principal(principal), "conns")
    }

    pub fn connections(&self) -> String {
        format!("{}:conns", self.prefix)
    }

    /// The channel of a connection, for publish and subscribe.
    pub fn channel(&self, member: &str) -> String {
        format!("{}:bus:{{{member}}}", self.prefix)
    }

    pub fn pools(&self) -> String {
        format!("{}:pools", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_script_changes_has_one_hash_tag() {
        let (keys, me) = (Keys::new("bf"), Principal::named("me"));
        let tag = |key: &str| key.split(['{', '}']).nth(1).map(str::to_owned);
        let connection = Keys::connection_member(&me, "c");
        assert_eq!(tag(&keys.connection(&connection)), Some(connection.clone()));
        assert_eq!(tag(&keys.connection(&connection)), tag(&keys.connection_used(&connection)));
        assert_eq!(tag(&keys.connection(&connection)), tag(&keys.connection_ended(&connection)));
        let session = Keys::member(&me, &SessionName::parse("s").unwrap());
        for beside in [keys.ended(&session), keys.kept(&session), keys.checkpoint(&session)] {
            assert_eq!(tag(&beside), tag(&keys.record(&session)));
        }
        assert_eq!(tag(&keys.record(&session)), Some(session));
    }

    #[test]
    fn nobody_has_anybody_elses_keys() {
        let keys = Keys::new("bf");
        // A name cannot have the colon that separates it from the principal, so no pair reads like another.
        let members = [("a", "b"), ("a", "a"), ("b", "a"), ("a:b", "a")]
            .map(|(who, name)| Keys::member(&Principal::named(who), &SessionName::parse(name).unwrap()));
        let distinct: std::collections::HashSet<_> = members.iter().map(|member| keys.record(member)).collect();
        assert_eq!(distinct.len(), members.len());
        assert_ne!(keys.sessions_of(&Principal::named("a")), keys.sessions_of(&Principal::named("b")));
        assert!(!keys.sessions_of(&Principal::named("alice")).contains("alice"));
    }
}
