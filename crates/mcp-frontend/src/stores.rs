//! Where things are kept that another front end must find: in this process, or in Redis.

use std::sync::Arc;

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
    connection, session, usage,
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
    pub fn of(config: &Config, host: &Host) -> Self {
        match &config.store {
            Some(settings) => Self::redis(config, Redis::new(settings.clone()), host),
            None => Self::memory(config, &host.clock),
        }
    }

    /// Everything in this process.
    pub fn memory(config: &Config, clock: &Arc<dyn Clock>) -> Self {
        let settings = &config.session;
        let (ttl, max) = (settings.connection_ttl, settings.max_connections);
        let sessions = Arc::new(session::MemoryStore::new(Arc::clone(clock)));
        Self {
            artifacts: sessions.clone(),
            checkpoints: sessions.clone(),
            sessions,
            secrets: Secrets::Known(Keyring::generate()),
            connections: Arc::new(connection::MemoryStore::new(Arc::clone(clock), ttl, max)),
            bus: Arc::new(MemoryBus::new()),
            usage: Arc::new(usage::MemoryStore::default()),
            volatile: true,
            redis: None,
        }
    }

    /// Everything in Redis, which need not be reachable yet.
    pub fn redis(config: &Config, redis: Redis, host: &Host) -> Self {
        let settings = &config.session;
        let (ttl, max) = (settings.connection_ttl, settings.max_connections);
        let beside = Arc::new(Sessions::new(redis.clone()));
        Self {
            sessions: Arc::new(session::RedisStore::new(redis.clone())),
            artifacts: beside.clone(),
            checkpoints: beside,
            secrets: Secrets::of(&redis),
            connections: Arc::new(connection::RedisStore::new(redis.clone(), ttl, max)),
            bus: Arc::new(RedisBus::start(redis.clone(), &host.tasks, host.shutdown.hard().clone())),
            usage: Arc::new(usage::RedisStore::new(redis.clone())),
            volatile: false,
            redis: Some(redis),
        }
    }
}
