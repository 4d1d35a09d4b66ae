//! The front end as a whole: what it is made of, how it starts, serves and ends.

use std::{fmt, io, sync::Arc, time::Duration};

use browserfleet_common::{
    clock::Clock,
    lifecycle::{Shutdown, Tasks},
};
use browserfleet_tools::Tool;
use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    Config, Unavailable,
    bus::{Bus, MemoryBus},
    call::running::Running,
    caller::Caller,
    connection,
    failure::Failure,
    http::{router::router, server},
    mcp::{self, handler::Tools},
    pool_client::PoolClient,
    session::{self, Record, Scope},
};

/// How often stores in memory are swept. Expired sessions are invisible before: this returns their browsers.
const SWEEP: Duration = Duration::from_secs(1);
/// How long the end of all sessions may take when the program stops.
const LAST_SESSIONS: Duration = Duration::from_secs(5);
/// Sessions that are ended at a time.
const ENDING_AT_ONCE: usize = 32;

/// Where things are kept that another front end must find.
#[derive(Clone, Debug)]
pub struct Stores {
    pub sessions: Arc<dyn session::Store>,
    pub connections: Arc<dyn connection::Store>,
    pub bus: Arc<dyn Bus>,
    /// Whether what is kept ends with this process: its sessions are then ended before it does.
    pub volatile: bool,
}

impl Stores {
    /// Everything in this process.
    pub fn memory(config: &Config, clock: &Arc<dyn Clock>) -> Self {
        let settings = &config.session;
        Self {
            sessions: Arc::new(session::MemoryStore::new(Arc::clone(clock))),
            connections: Arc::new(connection::MemoryStore::new(
                Arc::clone(clock),
                settings.connection_ttl,
                settings.max_connections,
            )),
            bus: Arc::new(MemoryBus::new()),
            volatile: true,
        }
    }
}

/// What the program around it gives a front end.
#[derive(Clone, Debug)]
pub struct Host {
    pub tasks: Tasks,
    pub shutdown: Shutdown,
    pub clock: Arc<dyn Clock>,
}

/// A front end. Cheap to clone: all clones are the same one.
#[derive(Clone, Debug)]
pub struct App {
    core: Arc<Core>,
}

impl App {
    /// A front end that keeps everything in this process. The daemon need not be reachable yet.
    pub fn build(config: Config, pool: Channel, tasks: Tasks, shutdown: Shutdown, clock: Arc<dyn Clock>) -> Self {
        let stores = Stores::memory(&config, &clock);
        Self::build_with(config, pool, stores, Host { tasks, shutdown, clock })
    }

    /// A front end with given stores.
    pub fn build_with(config: Config, pool: Channel, stores: Stores, host: Host) -> Self {
        Self { core: Arc::new(Core::new(config, pool, stores, host)) }
    }

    /// Lets `fault` act before each tool call, for example panic.
    #[cfg(any(test, feature = "test-util"))]
    #[must_use]
    pub fn with_fault(config: Config, pool: Channel, stores: Stores, host: Host, fault: Fault) -> Self {
        let core = Core { fault: Some(fault), ..Core::new(config, pool, stores, host) };
        Self { core: Arc::new(core) }
    }

    /// Serves HTTP until the program is told to stop. Then: no new connections, running calls finish, event streams end,
    /// and if nobody else knows of the sessions, they end. Every step has its limit.
    ///
    /// # Errors
    /// When the listener is not usable.
    pub async fn serve_http(&self, listener: TcpListener) -> io::Result<()> {
        tracing::info!(address = %listener.local_addr()?, "serving MCP at /mcp");
        self.core.start_sweeping();
        server::serve(&self.core, listener, router(&self.core)).await;
        self.core.end_volatile_sessions().await;
        Ok(())
    }

    /// Serves one client over standard input and output, until its input ends or the program is told to stop.
    ///
    /// # Errors
    /// When the client does not speak MCP.
    pub async fn serve_stdio(&self) -> io::Result<()> {
        let (input, output) = rmcp::transport::stdio_pipes();
        self.serve_stdio_on(input, output).await
    }

    /// Serves one client over a pair of streams, as [`Self::serve_stdio`] does.
    ///
    /// # Errors
    /// When the client does not speak MCP.
    pub async fn serve_stdio_on<R, W>(&self, input: R, output: W) -> io::Result<()>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        self.core.start_sweeping();
        let result = mcp::stdio::serve(&self.core, input, output).await;
        self.core.end_volatile_sessions().await;
        result
    }
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
    pub(crate) sessions: Arc<dyn session::Store>,
    pub(crate) connections: Arc<dyn connection::Store>,
    pub(crate) bus: Arc<dyn Bus>,
    volatile: bool,
    pub(crate) pool: PoolClient,
    pub(crate) tools: Tools,
    pub(crate) running: Running,
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
    fn new(config: Config, pool: Channel, stores: Stores, host: Host) -> Self {
        let Stores { sessions, connections, bus, volatile } = stores;
        let Host { tasks, shutdown, clock } = host;
        Self {
            sessions,
            connections,
            bus,
            volatile,
            pool: PoolClient::new("default".to_owned(), pool),
            tools: Tools::new(),
            running: Running::new(),
            places: Arc::new(Semaphore::new(config.http.max_connections)),
            streams: CancellationToken::new(),
            hard: shutdown.hard().child_token(),
            tasks,
            shutdown,
            clock,
            started: Instant::now(),
            fault: None,
            config,
        }
    }

    /// For tests that need a call to go wrong.
    pub(crate) fn before_call(&self, tool: &Tool) {
        if let Some(Fault(act)) = &self.fault {
            act(tool);
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
            connection: None,
            session_header: None,
            client: record.client.clone(),
        };
        Ok(caller.over(Arc::new(record)))
    }

    async fn new_stdio_connection(&self, key: &connection::Key) -> Result<connection::Record, Unavailable> {
        let client = session::Client::default();
        let new = connection::NewConnection { key: key.clone(), initialize: Value::Null, client };
        let full = Unavailable { what: "room for a connection", cause: None };
        self.connections.create(new).await?.ok_or(full)
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
        if let Err(error) = self.pool.release(lease).await {
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

    /// Nobody will ever see the sessions of a store that ends with the process: their browsers go back now.
    async fn end_volatile_sessions(&self) {
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

    /// Starts removing what has expired, for stores that do not do so themselves.
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
    }
}
