//! What everything in a front end shares, and how sessions end.

use std::{fmt, sync::Arc, time::Duration};

use browserfleet_common::{
    artifact::Artifact,
    checkpoint,
    clock::Clock,
    ids::Principal,
    lifecycle::{Shutdown, Tasks},
    redis::{Fitness, Redis, checks::Need},
    session::Owner,
};
use browserfleet_tools::Tool;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::{
    sync::Semaphore,
    time::{Instant, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Stores, Unavailable,
    access::Access,
    artifacts::{Artifacts, parse_uri},
    bus::{self, Bus},
    caller::Caller,
    changes::Changes,
    connection,
    failure::Failure,
    fleet::{Fleet, Pools},
    http::tls::Tls,
    keys::ApiKeys,
    oauth::Issuer,
    running::Running,
    session::{self, Record, Scope},
    usage::Usage,
};

/// How often stores in memory are swept. Expired sessions are invisible before: this returns their browsers.
const SWEEP: Duration = Duration::from_secs(1);
/// How often the files of keys and of the certificate are looked at: a revoked key lets nobody in for longer.
const FILES: Duration = Duration::from_secs(1);
/// How long the end of all sessions may take when the program stops.
const LAST_SESSIONS: Duration = Duration::from_secs(5);
/// Sessions that are ended at a time.
const ENDING_AT_ONCE: usize = 32;

/// What the program around it gives a front end.
#[derive(Clone, Debug)]
pub struct Host {
    pub tasks: Tasks,
    pub shutdown: Shutdown,
    pub clock: Arc<dyn Clock>,
}

/// Acts before each tool call: how tests make one go wrong.
#[derive(Clone)]
pub struct Fault(pub Arc<dyn Fn(&Tool) + Send + Sync>);

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fault")
    }
}

/// What everything inside shares.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    /// Who issues the tokens that are good here, if any are.
    pub(crate) issuer: Option<Issuer>,
    pub(crate) sessions: Arc<dyn session::Store>,
    pub(crate) connections: Arc<dyn connection::Store>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) artifacts: Artifacts,
    /// What sessions can be restored from; daemons write it.
    pub(crate) checkpoints: Arc<dyn checkpoint::Store>,
    /// Tells clients of a principal that something has changed: `changes.raise(principal, Change::Resources)`.
    pub(crate) changes: Changes,
    volatile: bool,
    /// Where the stores are, if not in this process, and whether that will do.
    redis: Option<(Redis, Fitness)>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) running: Running,
    /// What principals use, here and elsewhere.
    pub(crate) usage: Usage,
    /// Places for TCP connections.
    pub(crate) places: Arc<Semaphore>,
    /// Cancelled when event streams have to end: after the calls, which have to be answered first.
    pub(crate) streams: CancellationToken,
    /// Cancelled when running calls have to end.
    pub(crate) hard: CancellationToken,
    pub(crate) tasks: Tasks,
    pub(crate) shutdown: Shutdown,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) started: Instant,
    fault: Option<Fault>,
}

impl Core {
    pub(crate) fn new(config: Config, pools: Pools, stores: Stores, host: Host) -> Self {
        let Stores { sessions, artifacts, checkpoints, secrets, connections, bus, usage, volatile, redis } = stores;
        let Host { tasks, shutdown, clock } = host;
        let streams = CancellationToken::new();
        let changes = Changes::new(Arc::clone(&bus), config.auth.clone(), Arc::clone(&clock), streams.clone());
        Self {
            issuer: config.oauth.clone().map(Issuer::new),
            sessions,
            connections,
            bus,
            artifacts: Artifacts::new(artifacts, secrets, config.session.artifact_bytes),
            checkpoints,
            changes,
            volatile,
            redis: redis.map(|redis| (redis.clone(), Fitness::new(redis, Need::Messages))),
            fleet: Arc::new(Fleet::new(pools, Arc::clone(&clock))),
            running: Running::new(),
            usage: Usage::new(usage, tasks.clone()),
            places: Arc::new(Semaphore::new(config.http.max_connections)),
            streams,
            hard: shutdown.hard().child_token(),
            tasks,
            shutdown,
            clock,
            started: Instant::now(),
            fault: None,
            config,
        }
    }

    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn with_fault(self, fault: Fault) -> Self {
        Self { fault: Some(fault), ..self }
    }

    /// For tests that need a call to go wrong.
    pub(crate) fn before_call(&self, tool: &Tool) {
        if let Some(Fault(act)) = &self.fault {
            act(tool);
        }
    }

    /// Whether the stores answer, and are such that sessions can rely on them.
    pub(crate) async fn has_store(&self) -> bool {
        match &self.redis {
            Some((redis, fitness)) => redis.is_reachable().await && fitness.is_known_good().await,
            None => true,
        }
    }

    /// How many TCP connections are open.
    pub(crate) fn tcp_connections(&self) -> usize {
        self.config.http.max_connections - self.places.available_permits()
    }

    /// The caller on stdio. Its connection never lapses while the process lives.
    pub(crate) async fn stdio_caller(&self, key: &connection::Key) -> Result<Caller, Unavailable> {
        let record = match self.connections.touch(key).await? {
            Some(record) => record,
            None => self.new_stdio_connection(key).await?,
        };
        let caller = Caller {
            principal: key.principal.clone(),
            access: Arc::new(Access::clone(&Access::open()).served(self.config.tools)),
            connection: None,
            session_header: None,
            client: record.client.clone(),
            trace: None,
        };
        Ok(caller.over(Arc::new(record)))
    }

    async fn new_stdio_connection(&self, key: &connection::Key) -> Result<connection::Record, Unavailable> {
        let client = session::Client::default();
        let new = connection::NewConnection { key: key.clone(), initialize: Value::Null, client, caps: None };
        let full = Unavailable { what: "room for a connection", cause: None };
        self.connections.create(new).await?.ok_or(full)
    }

    /// The artifact at a URI, if its session lives and is this principal's. Reading counts as use.
    pub(crate) async fn read_artifact(
        &self,
        principal: &Principal,
        uri: &str,
    ) -> Result<Option<(Artifact, Vec<u8>)>, Unavailable> {
        let Some((name, id)) = parse_uri(uri) else { return Ok(None) };
        let key = session::Key { principal: principal.clone(), name };
        let Some(record) = self.sessions.touch(&key).await? else { return Ok(None) };
        self.artifacts.read(&record.owner(), id).await
    }

    /// Where an artifact can be had without a key, for a while; none where the operator has not said how this server is
    /// reached.
    pub(crate) async fn download_url(&self, of: &Owner, artifact: &str) -> Option<String> {
        let base = self.config.http.public_url.as_deref()?;
        let until = self.clock.now() + self.config.http.link_ttl;
        let link = self.artifacts.link(of, artifact, until).await;
        let unsealed = |error: &Unavailable| tracing::warn!(%error, "an artifact gets no link");
        link.inspect_err(unsealed).ok().map(|link| format!("{base}/artifacts/{link}"))
    }

    /// Ends a session and everything of it: every step is tried even if another fails. Answers whether there was one.
    pub(crate) async fn end_session(&self, key: &session::Key, birth: Option<&str>) -> Result<bool, Failure> {
        let Some(record) = self.sessions.end(key, birth).await? else { return Ok(false) };
        self.return_lease(&record).await;
        Ok(true)
    }

    /// Returns the lease of a session that is no more, as well as possible: the daemon takes back what is left.
    async fn return_lease(&self, record: &Record) {
        let Some(lease) = &record.lease.lease else { return };
        if let Err(error) = self.fleet.release(record, lease).await {
            let session = record.name.digest();
            tracing::warn!(session, lease = lease.lease_id, ?error, "a lease could not be returned; it will lapse");
        }
    }

    /// Ends the sessions a connection made or named.
    pub(crate) async fn end_connection_sessions(&self, key: &connection::Key) {
        let connection = match self.connections.end(key).await {
            Ok(Some(connection)) => connection,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the sessions of an ended connection stay until they expire");
                return;
            }
        };
        let named = connection.sessions.iter().chain([&connection.default_session]).cloned();
        self.end_all(named.map(|name| session::Key { principal: key.principal.clone(), name }).collect()).await;
    }

    /// Waits until what operators are told of the last calls has been written, in bounded time.
    pub(crate) async fn last_words(&self) {
        if let Some(audit) = &self.config.audit {
            audit.written().await;
        }
    }

    /// Nobody will ever see the sessions of a store that ends with the process: their browsers go back now.
    pub(crate) async fn end_volatile_sessions(&self) {
        if !self.volatile {
            return;
        }
        match self.sessions.list(Scope::All).await {
            Ok(records) => self.end_all(records.iter().map(Record::key).collect()).await,
            Err(error) => tracing::warn!(%error, "the last sessions cannot be listed"),
        }
    }

    async fn end_all(&self, keys: Vec<session::Key>) {
        let count = keys.len();
        let ending = stream::iter(keys).for_each_concurrent(ENDING_AT_ONCE, async |key| {
            if let Err(failure) = self.end_session(&key, None).await {
                tracing::warn!(%failure, "a session could not be ended");
            }
        });
        if timeout(LAST_SESSIONS, ending).await.is_err() {
            tracing::warn!(count, "not every session could be ended in time");
        }
    }

    /// Starts what runs beside the requests.
    pub(crate) fn start(self: &Arc<Self>) {
        self.fleet.watch(&self.tasks, self.shutdown.hard());
        self.usage.start(&self.shutdown);
        if let Some((_, fitness)) = &self.redis {
            let (fitness, hard) = (fitness.clone(), self.shutdown.hard().clone());
            self.tasks.spawn("look at the store", async move {
                tokio::select! {
                    () = fitness.find_out() => {}
                    () = hard.cancelled() => {}
                }
            });
        }
        self.start_stopping_calls();
        self.start_sweeping();
        self.start_reading_files();
        self.start_asking_the_issuer();
    }

    /// Starts stopping calls that somebody wants stopped, whichever front end was asked to.
    fn start_stopping_calls(self: &Arc<Self>) {
        let core = Arc::clone(self);
        self.tasks.spawn("stop calls", async move {
            tokio::select! {
                () = core.stop_calls() => {}
                () = core.shutdown.hard().cancelled() => {}
            }
        });
    }

    async fn stop_calls(&self) {
        loop {
            if let Ok(mut listener) = self.bus.listen(&bus::of_front_end(self.usage.front_end())).await {
                while let Some(message) = listener.next().await {
                    if let bus::Message::Stop { call } = message {
                        self.running.stop(call);
                    }
                }
            }
            // A bus that does not work now may do so in a moment.
            sleep(SWEEP).await;
        }
    }

    /// Starts looking whether the files of keys and of the certificate have changed.
    fn start_reading_files(self: &Arc<Self>) {
        let (keys, tls) = (self.config.auth.clone(), self.config.http.tls.clone());
        if keys.is_none() && tls.is_none() {
            return;
        }
        let shutdown = self.shutdown.clone();
        self.tasks.spawn("files", async move {
            let mut ticks = interval(FILES);
            loop {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = shutdown.soft().cancelled() => return,
                }
                let (keys, tls) = (keys.clone(), tls.clone());
                let refresh = move || {
                    keys.iter().for_each(ApiKeys::refresh);
                    tls.iter().for_each(Tls::refresh);
                };
                // A file system may take its time. A panic in there has been logged.
                let _panicked = tokio::task::spawn_blocking(refresh).await;
            }
        });
    }

    /// Starts reading the keys that tokens are signed with.
    fn start_asking_the_issuer(&self) {
        let Some(issuer) = self.issuer.clone() else { return };
        let soft = self.shutdown.soft().clone();
        self.tasks.spawn("the issuer's keys", async move {
            tokio::select! {
                () = issuer.run() => {}
                () = soft.cancelled() => {}
            }
        });
    }

    /// Starts removing what has expired, for stores that do not do so themselves, and looking after the secret.
    fn start_sweeping(self: &Arc<Self>) {
        let core = Arc::clone(self);
        self.tasks.spawn("sweep", async move {
            let mut ticks = interval(SWEEP);
            loop {
                tokio::select! {
                    _ = ticks.tick() => core.sweep().await,
                    () = core.shutdown.soft().cancelled() => return,
                }
            }
        });
    }

    async fn sweep(&self) {
        match self.sessions.sweep().await {
            Ok(expired) => {
                let returning = stream::iter(expired);
                returning.for_each_concurrent(ENDING_AT_ONCE, async |record| self.return_lease(&record).await).await;
            }
            Err(error) => tracing::warn!(%error, "expired sessions cannot be removed"),
        }
        if let Err(error) = self.connections.sweep().await {
            tracing::warn!(%error, "lapsed connections cannot be removed");
        }
        // Whoever needs it says so more loudly.
        if let Err(error) = self.artifacts.look_after_secret().await {
            tracing::debug!(%error, "the secret cannot be looked after");
        }
    }
}
