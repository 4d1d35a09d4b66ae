//! The daemons a front end knows: those of its settings for ever, those of the directory while they are listed, and some
//! time longer, because leases may still be there.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{client::PoolClient, placement::Index};

/// How long a daemon is remembered that the directory does not list any more.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Who answers at an address. Another daemon, or the same one started again, knows nothing of earlier leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) pool: String,
    pub(super) incarnation: String,
}

impl Identity {
    /// Who minted a token: `pool/incarnation/…`.
    pub(super) fn of_token(token: &str) -> Option<Self> {
        let mut parts = token.split('/');
        let (pool, incarnation, _slot) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { pool: pool.to_owned(), incarnation: incarnation.to_owned() })
    }
}

/// A daemon.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) client: PoolClient,
    /// As it was last seen.
    pub(super) identity: Option<Identity>,
    /// Since when the directory does not list it.
    unlisted: Option<Instant>,
}

/// All of them, each under a number of its own that is never given again.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_index: BTreeMap<Index, Member>,
    next: Index,
}

impl Members {
    pub(super) fn add(&mut self, client: PoolClient) -> Index {
        let index = self.next;
        self.next += 1;
        self.by_index.insert(index, Member { client, identity: None, unlisted: None });
        index
    }

    pub(super) fn get(&self, index: Index) -> Option<&Member> {
        self.by_index.get(&index)
    }

    pub(super) fn get_mut(&mut self, index: Index) -> Option<&mut Member> {
        self.by_index.get_mut(&index)
    }

    pub(super) fn named(&self, name: &str) -> Option<Index> {
        self.by_index.iter().find(|(_, member)| member.client.name() == name).map(|(index, _)| *index)
    }

    /// The numbers of all.
    pub(super) fn indices(&self) -> Vec<Index> {
        self.by_index.keys().copied().collect()
    }

    /// How many there are, without those that are only remembered.
    pub(super) fn count(&self) -> usize {
        self.by_index.values().filter(|member| member.unlisted.is_none()).count()
    }

    /// The directory lists these and no others. Answers which of the others are left, and which are forgotten.
    pub(super) fn listed(&mut self, listed: &[Index], now: Instant) -> (Vec<Index>, Vec<Index>) {
        for (index, member) in &mut self.by_index {
            let since = *member.unlisted.get_or_insert(now);
            member.unlisted = Some(since).filter(|_| !listed.contains(index));
        }
        let forgotten = |member: &Member| member.unlisted.is_some_and(|since| since + REMEMBERED <= now);
        let gone: Vec<_> =
            self.by_index.extract_if(.., |_, member| forgotten(member)).map(|(index, _)| index).collect();
        let left = self.by_index.iter().filter(|(_, member)| member.unlisted.is_some());
        (left.map(|(index, _)| *index).collect(), gone)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use browserfleet_common::clock::SystemClock;

    use super::*;
    use crate::{Wire, fleet::signer::Signer};

    #[test]
    fn a_token_says_who_minted_it() {
        let identity = Identity { pool: "a".to_owned(), incarnation: "1f".to_owned() };
        assert_eq!(Identity::of_token("a/1f/3/17"), Some(identity));
        assert_eq!(Identity::of_token("opaque"), None);
    }

    #[tokio::test]
    async fn one_that_is_not_listed_is_remembered_for_a_while() {
        let client = |port: u16| {
            let address = format!("http://127.0.0.1:{port}");
            let door = Wire::default().door(&address).unwrap();
            PoolClient::new(address, door, Signer::new(None, Arc::new(SystemClock)))
        };
        let (mut members, now) = (Members::default(), Instant::now());
        let (stays, goes) = (members.add(client(1)), members.add(client(2)));
        assert_eq!(members.listed(&[stays], now), (vec![goes], vec![]));
        assert_eq!((members.count(), members.named("http://127.0.0.1:2")), (1, Some(goes)));
        // It comes back in time, and later not.
        assert_eq!(members.listed(&[stays, goes], now + REMEMBERED / 2), (vec![], vec![]));
        assert_eq!(members.listed(&[stays], now + REMEMBERED), (vec![goes], vec![]));
        assert_eq!(members.listed(&[stays], now + 2 * REMEMBERED), (vec![], vec![goes]));
        assert_eq!((members.indices(), members.named("http://127.0.0.1:2")), (vec![stays], None));
        assert_eq!(members.add(client(2)), goes + 1, "a number is never given again");
    }
}
