//! Usage of all front ends, in Redis: of each principal a sorted set of places by when they lapse, and what each is for.

use std::{collections::BTreeSet, sync::LazyLock, time::Duration};

use async_trait::async_trait;
use browserfleet_common::{
    ids::Principal,
    redis::{Error, Keys, LoadedScript, Redis},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redis::{Script, cmd, pipe};
use uuid::Uuid;

use super::{Kind, Pace, Place, Store, held::LAPSE};
use crate::{Unavailable, session::Scope};

static TAKE: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/take.lua")));
static HELD: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/held.lua")));
static PASS: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/pass.lua")));

const WHAT: &str = "the count of calls";
/// Sessions that are looked at to find out who may have calls.
const SESSIONS_MAX: usize = 10_000;
/// Principals who are asked about at a time.
const AT_ONCE: usize = 64;

/// Places in Redis.
#[derive(Clone, Debug)]
pub struct RedisStore {
    redis: Redis,
    keys: Keys,
    lapse: Duration,
}

impl RedisStore {
    pub fn new(redis: Redis) -> Self {
        let keys = Keys::new(&redis.settings().prefix);
        Self { redis, keys, lapse: LAPSE }
    }

    /// The places of a principal by its hash, and what they are for.
    fn keys(&self, kind: Kind, principal: &str) -> [String; 2] {
        let name = match kind {
            Kind::Call => "calls",
            Kind::Queue => "queue",
        };
        [self.keys.of_principal(principal, name), self.keys.of_principal(principal, &format!("{name}:what"))]
    }

    async fn take(&self, kind: Kind, place: &Place, most: Option<usize>) -> Result<bool, Error> {
        let what = serde_json::to_string(place).expect("a place is plain data with text keys");
        let most = most.map_or(-1, |most| i64::try_from(most).unwrap_or(i64::MAX));
        let mut script = TAKE.prepare_invoke();
        script.key(&self.keys(kind, &Keys::principal(&place.principal))).arg(place.id.to_string()).arg(what);
        let lapse = u64::try_from(self.lapse.as_millis()).unwrap_or(u64::MAX);
        self.redis.script(script.arg(most).arg(lapse)).await
    }

    async fn give_back(&self, kind: Kind, principal: &Principal, id: Uuid) -> Result<(), Error> {
        let [places, what] = self.keys(kind, &Keys::principal(principal));
        let mut commands = pipe();
        commands.zrem(places, id.to_string()).ignore().hdel(what, id.to_string()).ignore();
        self.redis.pipeline(&commands).await
    }

    async fn held(&self, kind: Kind, scope: Scope<'_>) -> Result<Vec<Place>, Error> {
        let principals = match scope {
            Scope::Of(principal) => BTreeSet::from([Keys::principal(principal)]),
            Scope::All => self.principals().await?,
        };
        let held = stream::iter(principals).map(|principal| async move {
            let mut script = HELD.prepare_invoke();
            let places: Vec<Option<String>> = self.redis.script(script.key(&self.keys(kind, &principal))).await?;
            let places = places.iter().flatten().map(|place| serde_json::from_str(place));
            places.collect::<Result<Vec<Place>, _>>().map_err(|_malformed| Error::Strange("a place"))
        });
        held.buffered(AT_ONCE).try_concat().await
    }

    /// Who has sessions: nobody else has calls for long.
    async fn principals(&self) -> Result<BTreeSet<String>, Error> {
        let sessions = cmd("ZRANGE").arg(self.keys.sessions()).arg(0).arg(SESSIONS_MAX - 1).to_owned();
        let members: Vec<String> = self.redis.query(&sessions).await?;
        Ok(members.iter().filter_map(|member| member.split_once(':')).map(|(who, _)| who.to_owned()).collect())
    }

    async fn pass(
        &self,
        pace: Pace,
        principal: &Principal,
        amount: u64,
        allowance: u64,
    ) -> Result<Option<Duration>, Error> {
        let name = match pace {
            Pace::Requests => "rate",
            Pace::Uploads => "uploads",
            Pace::Downloads => "downloads",
        };
        let window = u64::try_from(pace.window().as_micros()).unwrap_or(u64::MAX);
        let mut script = PASS.prepare_invoke();
        script.key(self.keys.of_principal(&Keys::principal(principal), name));
        script.arg(amount).arg(allowance.max(1)).arg(window);
        let wait: u64 = self.redis.script(&script).await?;
        Ok((wait > 0).then(|| Duration::from_millis(wait)))
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn take(&self, kind: Kind, place: &Place, most: Option<usize>) -> Result<bool, Unavailable> {
        self.take(kind, place, most).await.map_err(Unavailable::redis(WHAT))
    }

    async fn give_back(&self, kind: Kind, principal: &Principal, id: Uuid) -> Result<(), Unavailable> {
        self.give_back(kind, principal, id).await.map_err(Unavailable::redis(WHAT))
    }

    async fn held(&self, kind: Kind, scope: Scope<'_>) -> Result<Vec<Place>, Unavailable> {
        self.held(kind, scope).await.map_err(Unavailable::redis(WHAT))
    }

    async fn pass(
        &self,
        pace: Pace,
        principal: &Principal,
        amount: u64,
        allowance: u64,
    ) -> Result<Option<Duration>, Unavailable> {
        self.pass(pace, principal, amount, allowance).await.map_err(Unavailable::redis(WHAT))
    }
}

#[cfg(test)]
mod tests {
    use browserfleet_common::redis::testing::Server;
    use futures_util::future::join_all;
    use tokio::time::sleep;

    use super::*;
    use crate::usage::suite::{self, place};

    #[tokio::test]
    async fn keeps_the_contract() {
        for server in [Server::start().await, Server::cluster().await] {
            suite::run(&RedisStore::new(server.client())).await;
        }
    }

    #[tokio::test]
    async fn of_many_front_ends_as_many_get_a_place_as_there_are() {
        let server = Server::start().await;
        let front_ends: Vec<_> = (0..32).map(|_| RedisStore::new(server.client())).collect();
        let me = Principal::named("me");
        let taken = join_all(front_ends.iter().map(|store| {
            let place = place(&me);
            async move { Store::take(store, Kind::Call, &place, Some(5)).await.unwrap() }
        }))
        .await;
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 5);
    }

    #[tokio::test]
    async fn places_of_a_front_end_that_died_lapse_and_nothing_is_left_of_them() {
        let server = Server::start().await;
        let store = RedisStore { lapse: Duration::from_millis(300), ..RedisStore::new(server.client()) };
        let (me, kept) = (Principal::named("me"), place(&Principal::named("me")));
        for place in [&kept, &place(&me)] {
            assert!(Store::take(&store, Kind::Call, place, Some(2)).await.unwrap());
        }
        sleep(Duration::from_millis(200)).await;
        assert!(Store::take(&store, Kind::Call, &kept, None).await.unwrap());
        sleep(Duration::from_millis(200)).await;
        assert_eq!(Store::held(&store, Kind::Call, Scope::Of(&me)).await.unwrap(), [kept]);
        assert!(Store::take(&store, Kind::Call, &place(&me), Some(2)).await.unwrap(), "its place is free");
        sleep(Duration::from_millis(500)).await;
        let left: Vec<String> = server.client().query(cmd("KEYS").arg("*")).await.unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
}
