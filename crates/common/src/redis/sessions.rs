//! Sessions in Redis: one hash each, changed by scripts that touch nothing else, so that a cluster can keep it anywhere.
//!
//! | field | what |
//! |---|---|
//! | `birth` | as [`Record::birth`] |
//! | `doc` | what never changes, as JSON |
//! | `made`, `used` | when it was created and last used, in ms since 1970 |
//! | `idle`, `hard` | its idle time in ms, and when it ends whatever happens |
//! | `held` | the id of its lease, empty without |
//! | `lease` | its [`LeaseState`], as JSON |
//!
//! All times are the server's: the clocks of front ends need not agree. Which sessions there are is kept beside, see [`Index`].

use std::{borrow::Cow, future::ready, sync::LazyLock, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use redis::{FromRedisValue as _, Script, Value, cmd, pipe};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Error, Index, Keys, LoadedScript, Redis,
    index::{AT_ONCE, Place, millis},
};
use crate::{
    egress::Egress,
    ids::{Principal, SessionName, random_hex},
    session::{Client, Created, Full, Key, LeaseState, Limits, Record, Swapped},
};

static CREATE: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/create.lua")));
static TOUCH: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/touch.lua")));
static SWAP: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/swap.lua")));
static END: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/end.lua")));
static REVIVE: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/revive.lua")));

/// The fields that make a record, in the order in which the scripts answer them; some add whether there is a checkpoint.
const FIELDS: [&str; 7] = ["birth", "doc", "made", "used", "idle", "hard", "lease"];
/// How long it is remembered that a session was ended: daemons look every second, if Redis answers.
pub const REMEMBERED: Duration = Duration::from_mins(1);
/// How long a place is kept for a session that is about to be written.
const HOLD: Duration = Duration::from_secs(10);

/// The sessions of all front ends. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions {
    pub(super) redis: Redis,
    pub(super) keys: Keys,
}

/// A session to write.
#[derive(Clone, Debug)]
pub struct NewSession<'a> {
    pub key: &'a Key,
    /// Drawn by whoever creates it; see [`Record::birth`].
    pub birth: &'a str,
    pub connection: Option<&'a str>,
    pub client: &'a Client,
    pub egress: &'a Egress,
    pub idle_ttl: Duration,
    pub max_lifetime: Duration,
    /// What it holds already: nothing, unless it is written again after Redis has lost it.
    pub lease: &'a LeaseState,
    pub limits: Limits,
}

impl Sessions {
    pub fn new(redis: Redis) -> Self {
        let keys = Keys::new(&redis.settings().prefix);
        Self { redis, keys }
    }

    /// Writes a session unless one of this name lives. Of any number of callers at the same time one writes. The limits hold
    /// for sessions that are not there yet.
    ///
    /// # Errors
    /// When Redis cannot answer; the session may or may not be there. Asking again with the same birth is safe.
    pub async fn create(&self, new: NewSession<'_>) -> Result<Created, Error> {
        let member = member(new.key);
        if let Some(full) = self.reserve(&member, &new.key.principal, new.limits, new.max_lifetime).await? {
            return Ok(self.read(&member).await?.map_or(Created::Full(full), Created::Existing));
        }
        let (fresh, expires, record) = self.write(&member, &new).await?;
        // Also one that was there: its place must not be kept for longer than it lives.
        self.enter(&member, &new.key.principal, expires).await;
        Ok(if fresh { Created::Fresh(record) } else { Created::Existing(record) })
    }

    /// Takes the places of a session that is about to be written, or answers which limit keeps it out. The indexes live on for
    /// at least `keep`.
    async fn reserve(
        &self,
        member: &str,
        principal: &Principal,
        limits: Limits,
        keep: Duration,
    ) -> Result<Option<Full>, Error> {
        let (of_principal, all) = (self.of_principal(principal), self.all());
        let place = of_principal.reserve(member, limits.per_principal, HOLD, keep).await?;
        if place == Place::Full {
            return Ok(Some(Full::Principal));
        }
        if all.reserve(member, limits.total, HOLD, keep).await? == Place::Full {
            if let Place::Added(score) = place {
                of_principal.remove(member, &score).await?;
            }
            return Ok(Some(Full::Total));
        }
        Ok(None)
    }

    /// Settles the places of a session that is there.
    async fn enter(&self, member: &str, principal: &Principal, expires: u64) {
        let (of_principal, all) = (self.of_principal(principal), self.all());
        if let Err(error) = tokio::try_join!(of_principal.enter(member, expires), all.enter(member, expires)) {
            // It is there, and counts again when it is next looked for.
            tracing::warn!(%error, "a session is not counted for a while");
        }
    }

    async fn write(&self, member: &str, new: &NewSession<'_>) -> Result<(bool, u64, Record), Error> {
        let Key { principal, name } = new.key;
        let (connection, client, egress) = (new.connection.map(Into::into), new.client, new.egress);
        let doc = Doc {
            principal: Cow::Borrowed(principal),
            name: Cow::Borrowed(name),
            connection,
            client: Cow::Borrowed(client),
            egress: Cow::Borrowed(egress),
        };
        let mut script = CREATE.key(self.keys.record(member));
        script.key(self.keys.kept(member)).key(self.keys.checkpoint(member));
        script.arg(new.birth).arg(json(&doc)).arg(millis(new.idle_ttl)).arg(millis(new.max_lifetime));
        let held = new.lease.lease.as_ref().map_or("", |lease| &lease.lease_id);
        script.arg(held).arg(json(new.lease));
        let (fresh, expires, fields): (bool, u64, Value) = self.redis.script(&script).await?;
        let record = record(fields)?.ok_or(Error::Strange("a session"))?;
        Ok((fresh, expires, record))
    }

    /// Reads a session and prolongs it, in one round trip.
    ///
    /// # Errors
    /// When Redis cannot answer. Asking again is safe.
    pub async fn touch(&self, key: &Key) -> Result<Option<Record>, Error> {
        let member = member(key);
        let mut script = TOUCH.key(self.keys.record(&member));
        script.key(self.keys.kept(&member)).key(self.keys.checkpoint(&member));
        record(self.redis.script(&script).await?)
    }

    /// Brings back a session that has lapsed and left a checkpoint: as it was, but without a browser. Nothing if there is
    /// none. The limits are those of a creation; no session lives longer than `max_lifetime`.
    ///
    /// # Errors
    /// When Redis cannot answer; the session may or may not be there. Asking again is safe.
    pub async fn revive(&self, key: &Key, limits: Limits, max_lifetime: Duration) -> Result<Option<Created>, Error> {
        let member = member(key);
        let checkpoint = self.keys.checkpoint(&member);
        if !self.redis.query::<bool>(cmd("EXISTS").arg(&checkpoint)).await? {
            return Ok(None);
        }
        if let Some(full) = self.reserve(&member, &key.principal, limits, max_lifetime).await? {
            return Ok(Some(Created::Full(full)));
        }
        let mut script = REVIVE.key(self.keys.record(&member));
        script.key(checkpoint).arg(json(&LeaseState::default()));
        let Some((expires, fields)): Option<(u64, Value)> = self.redis.script(&script).await? else { return Ok(None) };
        self.enter(&member, &key.principal, expires).await;
        Ok(record(fields)?.map(Created::Existing))
    }

    /// Replaces the lease state of the session born as `birth` if it holds the lease `expected` (`None`: none): binds,
    /// unbinds, remembers a loss. Does not prolong the session.
    ///
    /// # Errors
    /// When Redis cannot answer; it may or may not be replaced. Asking again is safe.
    pub async fn swap_lease(
        &self,
        key: &Key,
        birth: &str,
        expected: Option<&str>,
        next: &LeaseState,
    ) -> Result<Swapped, Error> {
        let mut script = SWAP.key(self.keys.record(&member(key)));
        let held = next.lease.as_ref().map_or("", |lease| &lease.lease_id);
        script.arg(birth).arg(expected.unwrap_or_default()).arg(held).arg(json(next));
        let answer: Vec<String> = self.redis.script(&script).await?;
        match answer.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["done"] => Ok(Swapped::Done),
            ["conflict", state] => Ok(Swapped::Conflict(parsed(state)?)),
            ["gone"] => Ok(Swapped::Gone),
            _ => Err(Error::Strange("a session")),
        }
    }

    /// Removes a session (only the one born as `birth`, if given) with everything kept of it, and answers what it was.
    ///
    /// # Errors
    /// When Redis cannot answer; the session may or may not be gone. Asking again is safe.
    pub async fn end(&self, key: &Key, birth: Option<&str>) -> Result<Option<Record>, Error> {
        self.end_by(&random_hex(), key, birth).await
    }

    /// As [`Self::end`]; `who` asks again gets the same answer.
    pub(super) async fn end_by(&self, who: &str, key: &Key, birth: Option<&str>) -> Result<Option<Record>, Error> {
        let member = member(key);
        let indexes = [self.of_principal(&key.principal), self.all()];
        // Read before: one created again under this name has later scores, and stays.
        let scores = try_join_all(indexes.iter().map(|index| index.score(&member))).await?;
        let mut script = END.key(self.keys.record(&member));
        script.key(self.keys.ended(&member)).key(self.keys.kept(&member)).key(self.keys.checkpoint(&member));
        script.arg(birth.unwrap_or_default()).arg(millis(REMEMBERED)).arg(who).arg(json(&LeaseState::default()));
        let Some(ended) = record(self.redis.script(&script).await?)? else {
            return Ok(None);
        };
        // It has ended, whether or not it is counted on for a while.
        for (index, score) in indexes.iter().zip(scores) {
            if let Some(score) = score
                && let Err(error) = index.remove(&member, &score).await
            {
                tracing::warn!(%error, "an ended session is counted until its time would have passed");
            }
        }
        if let Err(error) = self.take_out(&key.principal, &member).await {
            tracing::warn!(%error, "the checkpoint of an ended session is counted until its time would have passed");
        }
        // Sessions are counted often, checkpoints only when there is a new one: the last to end leaves none of those that have lapsed.
        if let Err(error) = self.checkpoints_of(&key.principal).count().await {
            tracing::warn!(%error, "checkpoints that have lapsed are counted for a while");
        }
        Ok(Some(ended))
    }

    /// The sessions of a principal, or of everybody: at most `most`, in no order. Does not prolong them.
    ///
    /// # Errors
    /// When Redis cannot answer.
    pub async fn list(&self, of: Option<&Principal>, most: usize) -> Result<Vec<Record>, Error> {
        let index = of.map_or_else(|| self.all(), |principal| self.of_principal(principal));
        let members = index.members(most).await?;
        let records = stream::iter(members).map(|member| async move { self.read(&member).await }).buffered(AT_ONCE);
        records.try_filter_map(|record| ready(Ok(record))).try_collect().await
    }

    /// How many sessions a principal has, or everybody.
    ///
    /// # Errors
    /// When Redis cannot answer.
    pub async fn count(&self, of: Option<&Principal>) -> Result<usize, Error> {
        of.map_or_else(|| self.all(), |principal| self.of_principal(principal)).count().await
    }

    /// What this Redis was called when it was first used; drawn now if it is new. Another answer than before, or none
    /// before, says that sessions are missing because Redis lost them, not because they ended.
    ///
    /// # Errors
    /// When Redis cannot answer.
    pub async fn epoch(&self) -> Result<String, Error> {
        let mut set = cmd("SET");
        set.arg(self.keys.epoch()).arg(random_hex()).arg("NX");
        let mut commands = pipe();
        commands.add_command(set).ignore().get(self.keys.epoch());
        let (epoch,): (String,) = self.redis.pipeline(&commands).await?;
        Ok(epoch)
    }

    async fn read(&self, member: &str) -> Result<Option<Record>, Error> {
        let mut commands = pipe();
        commands.hmget(self.keys.record(member), &FIELDS).exists(self.keys.checkpoint(member));
        let (fields, restorable): (Value, bool) = self.redis.pipeline(&commands).await?;
        Ok(record(fields)?.map(|record| Record { restorable, ..record }))
    }

    fn of_principal(&self, principal: &Principal) -> Index<'_> {
        Index::new(&self.redis, self.keys.sessions_of(principal), |member| self.keys.record(member))
    }

    fn all(&self) -> Index<'_> {
        Index::new(&self.redis, self.keys.sessions(), |member| self.keys.record(member))
    }
}

pub(super) fn member(key: &Key) -> String {
    Keys::member(&key.principal, &key.name)
}

/// What never changes about a session.
#[derive(Serialize, Deserialize)]
struct Doc<'a> {
    principal: Cow<'a, Principal>,
    name: Cow<'a, SessionName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connection: Option<Cow<'a, str>>,
    client: Cow<'a, Client>,
    #[serde(default)]
    egress: Cow<'a, Egress>,
}

/// Reads [`FIELDS`] and whether there is a checkpoint; a session that is not there has none of them.
fn record(answer: Value) -> Result<Option<Record>, Error> {
    let strange = |_| Error::Strange("a session");
    if answer == Value::Nil {
        return Ok(None);
    }
    let fields = Vec::<Option<String>>::from_redis_value(answer).map_err(strange)?;
    let Some(mut fields) = fields.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
    let restorable = fields.get(FIELDS.len()).is_some_and(|there| there == "1");
    fields.truncate(FIELDS.len());
    let [birth, doc, made, used, idle, _hard, lease] =
        <[String; 7]>::try_from(fields).map_err(|_| Error::Strange("a session"))?;
    let Doc { principal, name, connection, client, egress } = parsed(&doc)?;
    let time = |text: &str| text.parse().map(Duration::from_millis).map_err(|_| Error::Strange("a session"));
    Ok(Some(Record {
        principal: principal.into_owned(),
        name: name.into_owned(),
        birth,
        created: time(&made)?,
        last_used: time(&used)?,
        idle_ttl: time(&idle)?,
        connection: connection.map(Cow::into_owned),
        client: client.into_owned(),
        egress: egress.into_owned(),
        lease: parsed(&lease)?,
        restorable,
    }))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("these types are plain data with text keys")
}

pub(super) fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|_malformed| Error::Strange("a session"))
}
