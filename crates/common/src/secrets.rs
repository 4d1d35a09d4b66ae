//! The secret that what is kept of sessions is sealed and signed with.

use std::{sync::Arc, time::Duration};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, ready},
};
use redis::cmd;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    keyring::{Keyring, random_secret},
    redis::{Keys, Redis},
    unavailable::Unavailable,
};

/// How long a secret kept in Redis is used without a look at it. Front ends ask for it every second: a Redis that was emptied has
/// it back within ten, before another program is started that would draw one of its own.
const FRESH: Duration = Duration::from_secs(8);
const WHAT: &str = "the store of the secret";

/// Where the secret is. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Secrets {
    /// In a file, or drawn for this process.
    Known(Keyring),
    /// In Redis, beside what it seals: no protection from who can read that, but the programs of a fleet agree.
    Shared(Arc<Shared>),
}

/// A secret in Redis.
#[derive(Debug)]
pub struct Shared {
    redis: Redis,
    key: String,
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    secret: String,
    keyring: Keyring,
    at: Instant,
}

impl Secrets {
    /// As the settings of Redis say: of a file, else in Redis.
    pub fn of(redis: &Redis) -> Self {
        if let Some(keyring) = &redis.settings().keyring {
            return Self::Known(keyring.clone());
        }
        let key = Keys::new(&redis.settings().prefix).secret();
        Self::Shared(Arc::new(Shared { redis: redis.clone(), key, seen: Mutex::default() }))
    }

    /// The secret, and the one before it.
    ///
    /// # Errors
    /// When it is in Redis, which does not answer.
    pub fn keyring(&self) -> BoxFuture<'_, Result<Keyring, Unavailable>> {
        match self {
            Self::Known(keyring) => ready(Ok(keyring.clone())).boxed(),
            Self::Shared(shared) => shared.keyring().boxed(),
        }
    }
}

impl Shared {
    async fn keyring(&self) -> Result<Keyring, Unavailable> {
        // Held while Redis is asked, which is bounded: one question for everybody who waits.
        let mut seen = self.seen.lock().await;
        if let Some(seen) = seen.as_ref().filter(|seen| seen.at.elapsed() < FRESH) {
            return Ok(seen.keyring.clone());
        }
        let ours = seen.as_ref().map(|seen| seen.secret.clone());
        // A Redis that was emptied gets back what we have sealed with.
        let offered = ours.clone().unwrap_or_else(random_secret);
        let mut commands = redis::pipe();
        commands.add_command(cmd("SET").arg(&self.key).arg(offered).arg("NX").take()).ignore().get(&self.key);
        let (secret,): (String,) = self.redis.pipeline(&commands).await.map_err(Unavailable::redis(WHAT))?;
        let before = ours.filter(|ours| *ours != secret);
        let keyring = Keyring::of([Some(&secret), before.as_ref()].into_iter().flatten().map(String::as_str));
        *seen = Some(Seen { secret, keyring: keyring.clone(), at: Instant::now() });
        Ok(keyring)
    }
}
