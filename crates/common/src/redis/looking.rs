//! What a daemon sees of the sessions whose leases it has: all of them, every second.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redis::{FromRedisValue as _, Pipeline, Value, pipe};

use super::{
    Error, Sessions,
    index::AT_ONCE,
    sessions::{member, parsed},
};
use crate::session::{Key, LeaseState};

/// Sessions asked for in one question.
const TOGETHER: usize = 64;

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
    /// What there is of sessions, in the order asked for. Does not prolong them.
    ///
    /// # Errors
    /// When Redis cannot answer for one of them.
    pub async fn look(&self, keys: &[Key]) -> Result<Vec<Sight>, Error> {
        let members: Vec<String> = keys.iter().map(member).collect();
        let glances = self.together(&members, |commands, member| self.ask_briefly(commands, member), brief).await?;
        // Nearly all of them hold a lease, and then there is nothing more to know.
        let unclear: Vec<String> =
            members.into_iter().zip(&glances).filter(|(_, held)| held.is_none()).map(|(member, _)| member).collect();
        let looks = self.together(&unclear, |commands, member| self.ask_closely(commands, member), close).await?;
        let mut looks = looks.into_iter();
        let sights = glances.into_iter().map(|held| held.map(Sight::Lives).or_else(|| looks.next()));
        sights.collect::<Option<_>>().ok_or(STRANGE)
    }

    /// Asks the same about many: in few questions, unless they are on different nodes.
    async fn together<T, const ANSWERS: usize>(
        &self,
        members: &[String],
        ask: impl Fn(&mut Pipeline, &str),
        read: impl Fn([Value; ANSWERS]) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let size = if self.redis.settings().address.is_cluster() { 1 } else { TOGETHER };
        let questions: Vec<Pipeline> = members
            .chunks(size)
            .map(|members| {
                let mut commands = pipe();
                for member in members {
                    ask(&mut commands, member);
                }
                commands
            })
            .collect();
        let answers =
            stream::iter(questions).map(|commands| async move { self.redis.pipeline::<Vec<Value>>(&commands).await });
        let mut answers = answers.buffered(AT_ONCE).try_concat().await?.into_iter();
        let mut all = Vec::with_capacity(members.len());
        while let Some(first) = answers.next() {
            let mut one = std::array::from_fn(|_| Value::Nil);
            one[0] = first;
            for place in &mut one[1..] {
                *place = answers.next().ok_or(STRANGE)?;
            }
            all.push(read(one)?);
        }
        if all.len() == members.len() { Ok(all) } else { Err(STRANGE) }
    }

    fn ask_briefly(&self, commands: &mut Pipeline, member: &str) {
        let record = self.keys.record(member);
        commands.hmget(&record, &["birth", "held"]).pttl(&record);
    }

    fn ask_closely(&self, commands: &mut Pipeline, member: &str) {
        let record = self.keys.record(member);
        commands.hmget(&record, &["birth", "held", "lease"]).pttl(&record).hget(self.keys.ended(member), "birth");
    }
}

const STRANGE: Error = Error::Strange("a session");

/// What a session holds that holds a lease.
fn brief([fields, rest]: [Value; 2]) -> Result<Option<Held>, Error> {
    let (birth, held) = <(Option<String>, Option<String>)>::from_redis_value(fields).map_err(|_| STRANGE)?;
    let rest = i64::from_redis_value(rest).map_err(|_| STRANGE)?;
    let lease_id = held.filter(|id| !id.is_empty());
    Ok(birth.filter(|_| lease_id.is_some()).map(|birth| Held { birth, lease_id, doubtful: None, rest: lasts(rest) }))
}

/// What a record's birth, lease id and lease state say, with how long it lives in ms and which birth was ended.
fn close([fields, rest, ended]: [Value; 3]) -> Result<Sight, Error> {
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
