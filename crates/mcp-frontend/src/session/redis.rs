//! Sessions in Redis, for front ends that share them. What is done there, and how, is `common::redis::sessions`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use browserfleet_common::{
    ids::{Principal, random_hex},
    redis::{Redis, Sessions, sessions::NewSession as Written},
};
use tokio::time::Instant;

use super::{Counts, Created, Key, LeaseState, Limits, NewSession, Record, Scope, Store, Swapped, emptied::Epochs};
use crate::Unavailable;

/// Most sessions in a list.
const LISTED_MAX: usize = 10_000;
const WHAT: &str = "the session store";

/// Sessions in Redis. They outlive any front end.
#[derive(Clone, Debug)]
pub struct RedisStore {
    sessions: Sessions,
    epochs: Arc<Epochs>,
}

impl RedisStore {
    pub fn new(redis: Redis) -> Self {
        Self { sessions: Sessions::new(redis), epochs: Arc::default() }
    }

    async fn list_of(&self, scope: Scope<'_>) -> Result<Vec<Record>, browserfleet_common::redis::Error> {
        let of = match scope {
            Scope::Of(principal) => Some(principal),
            Scope::All => None,
        };
        self.sessions.list(of, LISTED_MAX).await
    }

    /// Whether a session that is missing may only have been lost, and come back.
    async fn was_emptied(&self) -> Result<bool, Unavailable> {
        let epoch = self.sessions.epoch().await.map_err(Unavailable::redis(WHAT))?;
        Ok(self.epochs.note(epoch, Instant::now()))
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn create(&self, new: NewSession, limits: Limits) -> Result<Created, Unavailable> {
        let written = Written {
            key: &new.key,
            birth: &random_hex(),
            connection: new.connection.as_deref(),
            client: &new.client,
            egress: &new.egress,
            idle_ttl: new.idle_ttl,
            max_lifetime: new.max_lifetime,
            lease: &LeaseState::default(),
            limits,
        };
        self.sessions.create(written).await.map_err(Unavailable::redis(WHAT))
    }

    async fn touch(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        let record = self.sessions.touch(key).await.map_err(Unavailable::redis(WHAT))?;
        if record.is_none() && self.was_emptied().await? {
            let cause = "it was emptied: the sessions whose browsers live are being written again";
            return Err(Unavailable { what: WHAT, cause: Some(cause.into()) });
        }
        Ok(record)
    }

    async fn revive(&self, key: &Key, limits: Limits, max_lifetime: Duration) -> Result<Option<Created>, Unavailable> {
        self.sessions.revive(key, limits, max_lifetime).await.map_err(Unavailable::redis(WHAT))
    }

    async fn swap_lease(
        &self,
        key: &Key,
        birth: &str,
        expected: Option<&str>,
        next: LeaseState,
    ) -> Result<Swapped, Unavailable> {
        self.sessions.swap_lease(key, birth, expected, &next).await.map_err(Unavailable::redis(WHAT))
    }

    async fn end(&self, key: &Key, birth: Option<&str>) -> Result<Option<Record>, Unavailable> {
        self.sessions.end(key, birth).await.map_err(Unavailable::redis(WHAT))
    }

    async fn list(&self, scope: Scope<'_>) -> Result<Vec<Record>, Unavailable> {
        let mut records = self.list_of(scope).await.map_err(Unavailable::redis(WHAT))?;
        records.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        Ok(records)
    }

    async fn counts(&self, principal: &Principal) -> Result<Counts, Unavailable> {
        let of_principal = self.sessions.count(Some(principal));
        let counted = tokio::try_join!(of_principal, self.sessions.count(None));
        let (of_principal, total) = counted.map_err(Unavailable::redis(WHAT))?;
        Ok(Counts { of_principal, total })
    }

    /// Redis removes what has expired by itself; the daemons notice. Here it is noticed when all is gone.
    async fn sweep(&self) -> Result<Vec<Record>, Unavailable> {
        self.was_emptied().await?;
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use browserfleet_common::{
        egress::Egress,
        ids::SessionName,
        redis::{Settings, testing::Server},
    };
    use futures_util::future::join_all;

    use super::*;
    use crate::session::{
        Client, LeaseRef,
        suite::{self, Place},
    };

    fn new(key: &Key) -> NewSession {
        NewSession {
            key: key.clone(),
            connection: None,
            client: Client::default(),
            egress: Egress::default(),
            idle_ttl: Duration::from_mins(1),
            max_lifetime: Duration::from_hours(1),
        }
    }

    const MANY: Limits = Limits { per_principal: 1000, total: 1000 };

    #[tokio::test]
    async fn keeps_the_contract() {
        keeps_the_contract_on(&Server::start().await).await;
    }

    #[tokio::test]
    async fn keeps_the_contract_in_a_cluster() {
        keeps_the_contract_on(&Server::cluster().await).await;
    }

    async fn keeps_the_contract_on(server: &Server) {
        let stores = AtomicUsize::new(0);
        let place = || {
            let prefix = format!("part-{}", stores.fetch_add(1, Ordering::Relaxed));
            let redis = Redis::new(Settings { prefix, ..server.settings() });
            let beside = Arc::new(Sessions::new(redis.clone()));
            Place { sessions: Arc::new(RedisStore::new(redis)), artifacts: beside.clone(), checkpoints: beside }
        };
        suite::run(place, Duration::from_millis(1500)).await;
    }

    #[tokio::test]
    async fn of_64_front_ends_one_creates_and_one_binds() {
        let server = Server::start().await;
        // Each has a connection of its own, and the limit is reached by the one that wins.
        let front_ends: Vec<_> = (0..64).map(|_| RedisStore::new(server.client())).collect();
        let key = Key { principal: Principal::named("me"), name: SessionName::mint() };
        let limits = Limits { per_principal: 1, total: 1 };
        let created = join_all(front_ends.iter().map(|store| store.create(new(&key), limits))).await;
        let births: Vec<_> = created
            .into_iter()
            .filter_map(|created| match created.unwrap() {
                Created::Fresh(record) => Some(record.birth),
                Created::Existing(_) => None,
                Created::Full(full) => panic!("its own place is taken: {full:?}"),
            })
            .collect();
        let [birth] = &births[..] else { panic!("{} created it", births.len()) };
        let swapped = join_all(front_ends.iter().enumerate().map(|(n, store)| {
            let lease = LeaseRef { lease_id: n.to_string(), token: String::new(), daemon: String::new() };
            store.swap_lease(&key, birth, None, LeaseState::held(lease))
        }))
        .await;
        let done = swapped.iter().filter(|swapped| matches!(swapped, Ok(Swapped::Done))).count();
        assert_eq!(done, 1);
        assert_eq!(front_ends[7].counts(&key.principal).await.unwrap(), Counts { of_principal: 1, total: 1 });
    }

    #[tokio::test]
    async fn limits_hold_across_front_ends_that_race() {
        let server = Server::start().await;
        let front_ends: Vec<_> = (0..16).map(|_| RedisStore::new(server.client())).collect();
        let me = Principal::named("me");
        let limits = Limits { per_principal: 3, total: 1000 };
        let created = join_all(front_ends.iter().map(|store| {
            let key = Key { principal: me.clone(), name: SessionName::mint() };
            async move { store.create(new(&key), limits).await.unwrap() }
        }))
        .await;
        let fresh = created.iter().filter(|created| matches!(created, Created::Fresh(_))).count();
        assert_eq!((fresh, front_ends[0].counts(&me).await.unwrap().of_principal), (3, 3));
    }

    #[tokio::test]
    async fn an_emptied_redis_is_an_empty_one() {
        let server = Server::start().await;
        let store = RedisStore::new(server.client());
        let key = Key { principal: Principal::named("me"), name: SessionName::mint() };
        store.create(new(&key), MANY).await.unwrap();
        server.client().query::<()>(&redis::cmd("FLUSHALL")).await.unwrap();
        // The scripts are gone as well: they are loaded again.
        server.client().query::<()>(redis::cmd("SCRIPT").arg("FLUSH")).await.unwrap();
        assert_eq!(store.touch(&key).await.unwrap(), None);
        assert_eq!(store.counts(&key.principal).await.unwrap(), Counts { of_principal: 0, total: 0 });
        assert!(store.list(Scope::All).await.unwrap().is_empty());
        assert!(matches!(store.create(new(&key), MANY).await, Ok(Created::Fresh(_))));
    }

    #[tokio::test]
    async fn what_an_emptied_redis_has_lost_is_not_called_unknown() {
        let server = Server::start().await;
        let store = RedisStore::new(server.client());
        let key = Key { principal: Principal::named("me"), name: SessionName::parse("mine").unwrap() };
        assert!(store.sweep().await.unwrap().is_empty());
        assert_eq!(store.touch(&key).await.unwrap(), None);
        store.create(new(&key), MANY).await.unwrap();
        server.client().query::<()>(&redis::cmd("FLUSHALL")).await.unwrap();
        let lost = store.touch(&key).await.unwrap_err();
        assert!(lost.cause.unwrap().to_string().contains("emptied"));
        // Somebody has written it again.
        store.create(new(&key), MANY).await.unwrap();
        assert!(store.touch(&key).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_said_to_be_and_used_again() {
        let mut server = Server::with(&["--appendonly", "yes", "--appendfsync", "always"]).await;
        let store = RedisStore::new(server.client());
        let key = Key { principal: Principal::named("me"), name: SessionName::mint() };
        store.create(new(&key), MANY).await.unwrap();
        server.kill();
        let away = store.touch(&key).await.unwrap_err();
        assert!(away.what == WHAT && away.cause.is_some());
        server.restart().await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(store.touch(&key).await.unwrap().is_some(), "no session was lost");
    }
}
