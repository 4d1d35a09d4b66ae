//! Where things are kept that another front end must find, or this program when it starts again: in this process, in a
//! directory, or in Redis.

use std::{path::Path, sync::Arc};

use browserfleet_common::{
    artifact, checkpoint,
    clock::Clock,
    keyring::Keyring,
    redis::{Redis, Sessions},
    secrets::Secrets,
};

use crate::{
    Config, Host,
    bus::{Bus, MemoryBus, RedisBus},
    connection, session,
    sqlite::{self, BadStateDir, Database},
    usage,
};

/// The places where front ends keep what another one must find.
#[derive(Clone, Debug)]
pub struct Stores {
    pub sessions: Arc<dyn session::Store>,
    /// Beside the sessions.
    pub artifacts: Arc<dyn artifact::Store>,
    /// Beside the sessions.
    pub checkpoints: Arc<dyn checkpoint::Store>,
    /// What seals both, and signs cursors.
    pub secrets: Secrets,
    pub connections: Arc<dyn connection::Store>,
    pub bus: Arc<dyn Bus>,
    pub usage: Arc<dyn usage::Store>,
    /// Whether what is kept ends with this process: its sessions are then ended before it does.
    pub volatile: bool,
    /// Where it is, if not in this process.
    pub redis: Option<Redis>,
}

impl Stores {
    /// Where the settings say.
    ///
    /// # Errors
    /// When that is a directory that cannot be used.
    pub fn of(config: &Config, host: &Host) -> Result<Self, BadStateDir> {
        match (&config.store, &config.state_dir) {
            (Some(settings), _) => Ok(Self::redis(config, Redis::new(settings.clone()), host)),
            (None, Some(directory)) => Self::directory(config, directory, &host.clock),
            (None, None) => Ok(Self::memory(config, &host.clock)),
        }
    }

    /// Sessions and connections in a directory of this machine, for one program at a time; the rest ends with it.
    fn directory(config: &Config, directory: &Path, clock: &Arc<dyn Clock>) -> Result<Self, BadStateDir> {
        let (database, keyring) = Database::open(directory)?;
        let sessions = Arc::new(sqlite::Sessions::new(database.clone(), Arc::clone(clock)));
        Ok(Self {
            artifacts: sessions.clone(),
            checkpoints: sessions.clone(),
            sessions,
            connections: Arc::new(sqlite::Connections::new(database, Arc::clone(clock), config.session.connections())),
            secrets: Secrets::Known(keyring),
            volatile: false,
            ..Self::memory(config, clock)
        })
    }

    /// Everything in this process.
    pub fn memory(config: &Config, clock: &Arc<dyn Clock>) -> Self {
        let sessions = Arc::new(session::MemoryStore::new(Arc::clone(clock)));
        Self {
            artifacts: sessions.clone(),
            checkpoints: sessions.clone(),
            sessions,
            secrets: Secrets::Known(Keyring::generate()),
            connections: Arc::new(connection::MemoryStore::new(Arc::clone(clock), config.session.connections())),
            bus: Arc::new(MemoryBus::new()),
            usage: Arc::new(usage::MemoryStore::default()),
            volatile: true,
            redis: None,
        }
    }

    /// Everything in Redis, which need not be reachable yet.
    pub fn redis(config: &Config, redis: Redis, host: &Host) -> Self {
        let beside = Arc::new(Sessions::new(redis.clone()));
        Self {
            sessions: Arc::new(session::RedisStore::new(redis.clone())),
            artifacts: beside.clone(),
            checkpoints: beside,
            secrets: Secrets::of(&redis),
            connections: Arc::new(connection::RedisStore::new(redis.clone(), config.session.connections())),
            bus: Arc::new(RedisBus::start(redis.clone(), &host.tasks, host.shutdown.hard().clone())),
            usage: Arc::new(usage::RedisStore::new(redis.clone())),
            volatile: false,
            redis: Some(redis),
        }
    }
}
