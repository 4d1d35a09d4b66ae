//! What a daemon sees of the sessions whose leases it has: of all of them, every second, whether they hold them; of those that
//! do not, what they hold.

use std::{sync::LazyLock, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redis::{FromRedisValue as _, Script, Value, pipe};

use super::{
    Error, LoadedScript, Sessions,
    index::AT_ONCE,
    sessions::{member, parsed},
};
use crate::session::{Key, LeaseState};

static HOLDS: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/holds.lua")));

/// Sessions asked for in one question.
const TOGETHER: usize = 64;

/// Whether a session holds the lease that it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    Held {
        /// Until the session ends, unless it is used. None: it does not.
        rest: Option<Duration>,
    },
    /// It does not, or is not there: [`Sessions::look`] tells more.
    Unclear,
}

/// What a daemon sees of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    Lives(Held),
    /// It is not there.
    Missing {
        /// The birth of the session of this name that was ended last, if that was within [`REMEMBERED`].
        ended: Option<String>,
    },
}

/// What a session holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub birth: String,
    pub lease_id: Option<String>,
    /// The lease it held, if a front end could not reach it and so cannot know whether it lives.
    pub doubtful: Option<String>,
    /// Until it ends, unless it is used. None: it does not.
    pub rest: Option<Duration>,
}

impl Sessions {
    /// What names a session to [`Self::holds`].
    pub fn record_of(&self, key: &Key) -> String {
        self.keys.record(&member(key))
    }

    /// Whether sessions, by their [`Self::record_of`], hold these leases, in the order asked for. Does not prolong them.
    ///
    /// # Errors
    /// When Redis cannot answer for one of them.
    pub fn holds<'s>(
        &'s self,
        leases: &[(&str, &str)],
    ) -> impl Future<Output = Result<Vec<Hold>, Error>> + Send + use<'s> {
        let ask = |leases: &[(&str, &str)]| {
            let mut script = HOLDS.prepare_invoke();
            for (record, lease_id) in leases {
                script.key(*record).arg(*lease_id);
            }
            async move { self.redis.script::<Vec<i64>>(&script).await }
        };
        let (answers, asked): (Vec<_>, _) = (leases.chunks(self.together()).map(ask).collect(), leases.len());
        async move {
            let rests: Vec<i64> = stream::iter(answers).buffered(AT_ONCE).try_concat().await?;
            if rests.len() == asked { Ok(rests.into_iter().map(hold).collect()) } else { Err(STRANGE) }
        }
    }

    /// What there is of sessions, in the order asked for. Does not prolong them.
    ///
    /// # Errors
    /// When Redis cannot answer for one of them.
    pub async fn look(&self, keys: &[Key]) -> Result<Vec<Sight>, Error> {
        let question = |keys: &[Key]| {
            let mut commands = pipe();
            for member in keys.iter().map(member) {
                let record = self.keys.record(&member);
                commands
                    .hmget(&record, &["birth", "held", "lease"])
                    .pttl(&record)
                    .hget(self.keys.ended(&member), "birth");
            }
            commands
        };
        let questions: Vec<_> = keys.chunks(self.together()).map(question).collect();
        let answers =
            stream::iter(questions).map(|commands| async move { self.redis.pipeline::<Vec<Value>>(&commands).await });
        let mut answers = answers.buffered(AT_ONCE).try_concat().await?.into_iter();
        let mut sights = Vec::with_capacity(keys.len());
        while let Some(fields) = answers.next() {
            let (Some(rest), Some(ended)) = (answers.next(), answers.next()) else { return Err(STRANGE) };
            sights.push(sight(fields, rest, ended)?);
        }
        if sights.len() == keys.len() { Ok(sights) } else { Err(STRANGE) }
    }

    /// How many sessions one question is about: in a cluster they are on different nodes.
    fn together(&self) -> usize {
        if self.redis.settings().address.is_cluster() { 1 } else { TOGETHER }
    }
}

const STRANGE: Error = Error::Strange("a session");

fn hold(rest: i64) -> Hold {
    if rest == -2 { Hold::Unclear } else { Hold::Held { rest: lasts(rest) } }
}

/// What a record's birth, lease id and lease state say, with how long it lives in ms and which birth was ended.
fn sight(fields: Value, rest: Value, ended: Value) -> Result<Sight, Error> {
    let fields = Vec::<Option<String>>::from_redis_value(fields).map_err(|_| STRANGE)?;
    let rest = i64::from_redis_value(rest).map_err(|_| STRANGE)?;
    let Ok([Some(birth), Some(held), Some(state)]) = <[Option<String>; 3]>::try_from(fields) else {
        return Ok(Sight::Missing { ended: Option::<String>::from_redis_value(ended).map_err(|_| STRANGE)? });
    };
    let lease_id = Some(held).filter(|id| !id.is_empty());
    // Who has a lease is in no doubt about another. One of another version of us is no reason to see none of the others.
    let lost = lease_id.is_none().then(|| parsed::<LeaseState>(&state).ok()).flatten().and_then(|state| state.lost);
    let doubtful = lost.filter(|loss| loss.reason.is_uncertain()).map(|loss| loss.lease_id);
    Ok(Sight::Lives(Held { birth, lease_id, doubtful, rest: lasts(rest) }))
}

/// What PTTL says of a key that is there. One that never lapses has none.
fn lasts(rest: i64) -> Option<Duration> {
    u64::try_from(rest).ok().map(Duration::from_millis)
}
