//! Connections in Redis: a hash each, and a list of the sessions its calls have named.

use std::{borrow::Cow, sync::LazyLock, time::Duration};

use async_trait::async_trait;
use browserfleet_common::{
    ids::{Principal, SessionName, random_hex},
    redis::{Error, Index, Keys, LoadedScript, Redis, index::Place},
};
use browserfleet_tools::Groups;
use redis::Script;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Bounds, Key, NewConnection, Record, SESSIONS_MAX, Store};
use crate::{Unavailable, session::Client};

static CREATE: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/create.lua")));
static TOUCH: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/touch.lua")));
static REMEMBER: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/remember.lua")));
static TAKE_STREAM: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/take_stream.lua")));
static END: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/end.lua")));

const WHAT: &str = "the connection store";
/// How long a place is kept for a connection that is about to be written.
const HOLD: Duration = Duration::from_secs(10);

/// How long it is remembered that a connection was ended.
const REMEMBERED: Duration = Duration::from_mins(1);

/// Connections in Redis. They outlive any front end.
#[derive(Clone, Debug)]
pub struct RedisStore {
    redis: Redis,
    keys: Keys,
    bounds: Bounds,
}

/// What never changes about a connection.
#[derive(Serialize, Deserialize)]
struct Doc<'a> {
    key: Cow<'a, Key>,
    initialize: Cow<'a, Value>,
    client: Cow<'a, Client>,
    #[serde(default)]
    caps: Option<Groups>,
    default_session: Cow<'a, SessionName>,
}

/// As the scripts answer it: [`Doc`], when it was made and last seen in ms, and its sessions.
type Kept = Option<(String, u64, u64, Vec<String>)>;

impl RedisStore {
    /// Keeps connections within bounds.
    pub fn new(redis: Redis, bounds: Bounds) -> Self {
        let keys = Keys::new(&redis.settings().prefix);
        Self { redis, keys, bounds }
    }

    fn index(&self) -> Index<'_> {
        self.index_at(self.keys.connections())
    }

    /// Those of a principal.
    fn index_of(&self, principal: &Principal) -> Index<'_> {
        self.index_at(self.keys.connections_of(principal))
    }

    fn index_at(&self, key: String) -> Index<'_> {
        Index::new(&self.redis, key, |member| self.keys.connection(member))
    }

    fn ttl_ms(&self) -> u64 {
        u64::try_from(self.bounds.ttl.as_millis()).unwrap_or(u64::MAX)
    }

    async fn create(&self, new: NewConnection) -> Result<Option<Record>, Error> {
        let (member, default_session) = (member(&new.key), SessionName::mint());
        let (index, own) = (self.index(), self.index_of(&new.key.principal));
        // Indices outlive each connection that is in use: each creation, and each look at them, prolongs them.
        let Bounds { ttl, most, per_principal } = self.bounds;
        for (index, most) in [(&own, per_principal), (&index, most)] {
            if index.reserve(&member, most, HOLD, ttl * 2).await? == Place::Full {
                return Ok(None);
            }
        }
        let doc = Doc {
            key: Cow::Borrowed(&new.key),
            initialize: Cow::Borrowed(&new.initialize),
            client: Cow::Borrowed(&new.client),
            caps: new.caps,
            default_session: Cow::Borrowed(&default_session),
        };
        let doc = serde_json::to_string(&doc).expect("these types are plain data with text keys");
        let mut script = CREATE.key(self.keys.connection(&member));
        let (made, expires): (u64, u64) = self.redis.script(script.arg(doc).arg(self.ttl_ms())).await?;
        tokio::try_join!(own.enter(&member, expires), index.enter(&member, expires))?;
        let NewConnection { key, initialize, client, caps } = new;
        let created = Duration::from_millis(made);
        let sessions = Vec::new();
        Ok(Some(Record { key, initialize, client, caps, default_session, sessions, created, last_seen: created }))
    }

    async fn touch(&self, key: &Key) -> Result<Option<Record>, Error> {
        let member = member(key);
        let mut script = TOUCH.key(self.keys.connection(&member));
        script.key(self.keys.connection_used(&member)).arg(self.ttl_ms());
        record(self.redis.script(&script).await?)
    }

    async fn remember(&self, key: &Key, session: &SessionName) -> Result<(), Error> {
        let member = member(key);
        let mut script = REMEMBER.key(self.keys.connection(&member));
        script.key(self.keys.connection_used(&member)).arg(session.as_str()).arg(SESSIONS_MAX);
        self.redis.script(&script).await
    }

    async fn take_stream(&self, key: &Key) -> Result<Option<u64>, Error> {
        self.redis.script(&TAKE_STREAM.key(self.keys.connection(&member(key)))).await
    }

    /// `who` asks again gets the same answer.
    async fn end_by(&self, who: &str, key: &Key) -> Result<Option<Record>, Error> {
        let member = member(key);
        let indices = [self.index_of(&key.principal), self.index()];
        let scores = [indices[0].score(&member).await?, indices[1].score(&member).await?];
        let mut script = END.key(self.keys.connection(&member));
        script.key(self.keys.connection_used(&member)).key(self.keys.connection_ended(&member));
        script.arg(who).arg(u64::try_from(REMEMBERED.as_millis()).unwrap_or(u64::MAX));
        let ended = record(self.redis.script(&script).await?)?;
        if ended.is_some() {
            for (index, score) in indices.iter().zip(scores) {
                if let Some(score) = score
                    && let Err(error) = index.remove(&member, &score).await
                {
                    tracing::warn!(%error, "an ended connection is counted until its time would have passed");
                }
            }
        }
        Ok(ended)
    }
}

fn member(key: &Key) -> String {
    Keys::connection_member(&key.principal, &key.id)
}

fn record(kept: Kept) -> Result<Option<Record>, Error> {
    let Some((doc, made, seen, sessions)) = kept else { return Ok(None) };
    let strange = Error::Strange("a connection");
    let Ok(doc) = serde_json::from_str::<Doc<'_>>(&doc) else { return Err(strange) };
    let sessions = sessions.iter().map(|name| SessionName::parse(name)).collect::<Result<_, _>>();
    Ok(Some(Record {
        key: doc.key.into_owned(),
        initialize: doc.initialize.into_owned(),
        client: doc.client.into_owned(),
        caps: doc.caps,
        default_session: doc.default_session.into_owned(),
        sessions: sessions.map_err(|_malformed| strange)?,
        created: Duration::from_millis(made),
        last_seen: Duration::from_millis(seen),
    }))
}

#[async_trait]
impl Store for RedisStore {
    async fn create(&self, new: NewConnection) -> Result<Option<Record>, Unavailable> {
        self.create(new).await.map_err(Unavailable::redis(WHAT))
    }

    async fn touch(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        self.touch(key).await.map_err(Unavailable::redis(WHAT))
    }

    async fn remember(&self, key: &Key, session: &SessionName) -> Result<(), Unavailable> {
        self.remember(key, session).await.map_err(Unavailable::redis(WHAT))
    }

    async fn take_stream(&self, key: &Key) -> Result<Option<u64>, Unavailable> {
        self.take_stream(key).await.map_err(Unavailable::redis(WHAT))
    }

    async fn end(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        self.end_by(&random_hex(), key).await.map_err(Unavailable::redis(WHAT))
    }

    async fn count(&self) -> Result<usize, Unavailable> {
        self.index().count().await.map_err(Unavailable::redis(WHAT))
    }

    /// Redis removes what has lapsed by itself.
    async fn sweep(&self) -> Result<(), Unavailable> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use browserfleet_common::redis::{Settings, testing::Server};
    use serde_json::json;

    use super::*;
    use crate::connection::suite;

    const TTL: Duration = Duration::from_millis(1500);

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
        let store = || {
            let prefix = format!("part-{}", stores.fetch_add(1, Ordering::Relaxed));
            let redis = Redis::new(Settings { prefix, ..server.settings() });
            Arc::new(RedisStore::new(redis, suite::bounds(TTL, 1000))) as Arc<dyn Store>
        };
        suite::run(store, TTL).await;
    }

    #[tokio::test]
    async fn a_repeated_end_answers_what_the_first_did_and_nobody_else_gets_it() {
        let server = Server::start().await;
        let store = RedisStore::new(server.client(), suite::bounds(TTL, 2));
        for named in [&["a", "b"][..], &[]] {
            let key = Key { principal: Principal::anonymous(), id: random_hex() };
            let new = NewConnection { key: key.clone(), initialize: json!({}), client: Client::default(), caps: None };
            Store::create(&store, new).await.unwrap().unwrap();
            for name in named {
                Store::remember(&store, &key, &SessionName::parse(name).unwrap()).await.unwrap();
            }
            let ended = store.end_by("me", &key).await.unwrap().unwrap();
            let names: Vec<_> = ended.sessions.iter().map(SessionName::as_str).collect();
            assert_eq!(names, named);
            // As when the answer was lost: the same request once more.
            let again = store.end_by("me", &key).await.unwrap().unwrap();
            assert_eq!((again.sessions, again.default_session), (ended.sessions, ended.default_session));
            assert!(Store::end(&store, &key).await.unwrap().is_none());
        }
    }

    #[tokio::test]
    async fn their_number_is_bounded_and_lapsed_connections_make_room() {
        let server = Server::start().await;
        let store = RedisStore::new(server.client(), suite::bounds(TTL, 2));
        let new = |id: &str| NewConnection {
            key: Key { principal: Principal::anonymous(), id: id.to_owned() },
            initialize: json!({}),
            client: Client::default(),
            caps: None,
        };
        for id in ["a", "b"] {
            assert!(Store::create(&store, new(id)).await.unwrap().is_some());
        }
        assert!(Store::create(&store, new("c")).await.unwrap().is_none());
        let keys: Vec<String> = store.redis.query(redis::cmd("KEYS").arg("*")).await.unwrap();
        for key in keys {
            let rest: i64 = store.redis.query(redis::cmd("PTTL").arg(&key)).await.unwrap();
            assert!(rest > 0, "{key} would stay for ever");
        }
        tokio::time::sleep(TTL).await;
        assert!(Store::create(&store, new("c")).await.unwrap().is_some());
    }
}
