//! The connection of a process to Redis: one, shared by everybody, made when it is first needed and again when it is lost.
//!
//! The client's own manager of connections is not used: it knows no Sentinel, it keeps a connection on which nothing is
//! answered any more, and whoever asks while it reconnects waits for all of its tries.

use std::{
    fmt,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisFuture, RedisResult,
    ScriptInvocation, ServerErrorKind, TlsMode, Value,
    aio::{ConnectionLike, MultiplexedConnection, PubSub},
    cluster::ClusterClient,
    cluster_async::ClusterConnection,
    sentinel::{SentinelClientBuilder, SentinelServerType},
};
use tokio::{
    sync::Mutex,
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{
    Settings,
    address::{Node, Place, prompt},
};
use crate::metrics::metrics;

/// After a failed try to connect, who comes within this time hears the same.
const PAUSE: Duration = Duration::from_millis(100);

/// Why Redis did not do what it was asked to. No text of it holds a key, a value or a password.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Whether it was done is unknown.
    #[error("Redis did not answer within {0:?}")]
    Late(Duration),
    /// Nothing was done.
    #[error("Redis cannot be connected to")]
    Connect(#[source] RedisError),
    /// Whether it was done is unknown, unless the server itself says no.
    #[error("Redis failed")]
    Failed(#[source] RedisError),
    /// What is kept is not what we keep.
    #[error("Redis holds something else than {0}")]
    Strange(&'static str),
}

impl Error {
    /// Whether the server answers and does not let us: waiting does not help.
    pub fn is_refusal(&self) -> bool {
        let (Self::Connect(error) | Self::Failed(error)) = self else { return matches!(self, Self::Strange(_)) };
        let code = error.code().unwrap_or_default();
        error.kind() == ErrorKind::AuthenticationFailed || matches!(code, "NOAUTH" | "WRONGPASS" | "NOPERM" | "ERR")
    }
}

/// A shared connection to Redis. Cheap to clone: all clones are the same one.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    /// The connection there is. Held only to read or replace it.
    live: std::sync::Mutex<Live>,
    /// Held while connecting: one connects, the others wait for that. When and why it last failed.
    connecting: Mutex<Option<(Instant, Error)>>,
    /// Where the next try begins, among several addresses: one that does not answer must not hide the others.
    turn: AtomicUsize,
}

#[derive(Default)]
struct Live {
    wire: Option<Wire>,
    /// Numbers connections, so that who finds one broken does not drop its successor.
    number: u64,
}

impl Redis {
    /// A connection that is made when it is first used.
    pub fn new(settings: Settings) -> Self {
        Self {
            inner: Arc::new(Inner {
                settings,
                live: std::sync::Mutex::default(),
                connecting: Mutex::default(),
                turn: AtomicUsize::new(0),
            }),
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Runs a command, twice if the connection broke in between: commands have to bear that.
    ///
    /// # Errors
    /// When Redis does not answer in time, or says no.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        self.bounded(Question::Command(command), true).await
    }

    /// Runs a command at most once.
    ///
    /// # Errors
    /// When Redis does not answer in time, or says no; the command may have been run.
    pub async fn query_once<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        self.bounded(Question::Command(command), false).await
    }

    /// Runs commands on keys of one hash tag in one round trip; see [`Self::query`].
    ///
    /// # Errors
    /// When Redis does not answer in time, or says no to one of them.
    pub async fn pipeline<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, Error> {
        self.bounded(Question::Pipeline(commands), true).await
    }

    /// Runs a script, by its hash; a server that does not know it is taught; see [`Self::query`].
    ///
    /// # Errors
    /// When Redis does not answer in time, or the script fails.
    pub async fn script<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Error> {
        self.bounded(Question::Script(script), true).await
    }

    /// Whether Redis answers now.
    pub async fn is_reachable(&self) -> bool {
        self.query::<()>(&redis::cmd("PING")).await.is_ok()
    }

    /// A connection of its own, for subscriptions. In a cluster every node hears what is published on any; after a failure
    /// another one is tried.
    ///
    /// # Errors
    /// When there is none within the time for connecting.
    pub async fn subscriber(&self) -> Result<PubSub, Error> {
        let limit = self.inner.settings.connect_timeout;
        let connected = timeout(limit, async {
            self.inner.know_authorities().await;
            self.inner.client().await?.get_async_pubsub().await
        });
        let connected = connected.await;
        let connected = connected.map_err(|_elapsed| Error::Late(limit)).and_then(|made| made.map_err(Error::Connect));
        if connected.is_err() {
            self.inner.turn.fetch_add(1, Ordering::Relaxed);
        }
        connected
    }

    /// Asks in bounded time, and counts how it went.
    async fn bounded<T: FromRedisValue>(&self, question: Question<'_>, again: bool) -> Result<T, Error> {
        let (limit, started) = (self.inner.settings.command_timeout, Instant::now());
        let mut used = None;
        // On the heap: the client's futures are large and deep, and everything that asks would be as well.
        let attempts = Box::pin(self.inner.attempts(question, again, &mut used));
        let done = timeout(limit, attempts).await;
        let result = done.unwrap_or(Err(Error::Late(limit)));
        if let (Err(Error::Late(_)), Some(number)) = (&result, used)
            && !self.inner.settings.address.is_cluster()
        {
            // A connection that says nothing may be none any more. To a cluster there are many, and the client looks after each.
            self.inner.drop_wire(number);
        }
        let outcome = match &result {
            Ok(_) => "ok",
            Err(Error::Late(_)) => "late",
            Err(_) => "failed",
        };
        metrics().store_seconds.observe(outcome, started.elapsed());
        metrics().store_requests.add(outcome);
        result
    }
}

/// Says where it leads; a password is in no log.
impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redis({})", self.inner.settings.address)
    }
}

impl Inner {
    /// One attempt, and a second one over a new connection if the first broke. `used` is the connection of the last.
    async fn attempts<T: FromRedisValue>(
        &self,
        question: Question<'_>,
        again: bool,
        used: &mut Option<u64>,
    ) -> Result<T, Error> {
        let mut tries = if again { 2 } else { 1 };
        loop {
            let (wire, number) = self.wire().await?;
            *used = Some(number);
            tries -= 1;
            match question.ask(wire).await {
                Ok(answer) => return Ok(answer),
                Err(error) if is_lost(&error) => {
                    self.drop_wire(number);
                    if tries == 0 {
                        return Err(Error::Failed(error));
                    }
                }
                Err(error) => return Err(Error::Failed(error)),
            }
        }
    }

    /// The connection, made if there is none.
    async fn wire(&self) -> Result<(Wire, u64), Error> {
        if let Some(there) = self.live_wire() {
            return Ok(there);
        }
        let mut failed = self.connecting.lock().await;
        if let Some(there) = self.live_wire() {
            return Ok(there);
        }
        if let Some((_, error)) = failed.as_ref().filter(|(when, _)| when.elapsed() < PAUSE) {
            return Err(error.clone());
        }
        let limit = self.settings.connect_timeout;
        let connected = timeout(limit, self.connect()).await.unwrap_or(Err(Error::Late(limit)));
        match connected {
            Ok(wire) => {
                metrics().store_connections.add("made");
                *failed = None;
                let mut live = self.live();
                live.number += 1;
                live.wire = Some(wire.clone());
                Ok((wire, live.number))
            }
            Err(error) => {
                metrics().store_connections.add("failed");
                self.turn.fetch_add(1, Ordering::Relaxed);
                *failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    fn live_wire(&self) -> Option<(Wire, u64)> {
        let live = self.live();
        live.wire.clone().map(|wire| (wire, live.number))
    }

    /// Forgets a connection that is of no use any more, unless there is another one already.
    fn drop_wire(&self, number: u64) {
        let mut live = self.live();
        if live.number == number {
            live.wire = None;
        }
    }

    fn live(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Wire, Error> {
        self.connected().await.map_err(Error::Connect)
    }

    async fn connected(&self) -> RedisResult<Wire> {
        self.know_authorities().await;
        if let Place::Cluster { nodes } = self.settings.address.place() {
            let nodes = self.in_turn(nodes).map(|node| self.settings.address.to(node, 0));
            // The client waits for every node, one after the other: those that are away must leave time for the others.
            let mut client = ClusterClient::builder(nodes.collect::<RedisResult<Vec<_>>>()?)
                .tcp_settings(prompt())
                .connection_timeout(self.settings.connect_timeout / 4)
                .response_timeout(self.settings.command_timeout);
            if let Some(certificates) = self.settings.address.certificates() {
                client = client.certs(certificates);
            }
            return Ok(Wire::Cluster(Box::new(client.build()?.get_async_connection().await?)));
        }
        // The limits are ours: they hold for waiting and repeating, too.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let client = self.client().await?;
        Ok(Wire::One(client.get_multiplexed_async_connection_with_config(&config).await?))
    }

    /// Reads again who vouches for servers, if that has changed. Connections that are there go on.
    async fn know_authorities(&self) {
        if let Some(authorities) = self.settings.address.authorities() {
            // A file system may take its time. A panic in there has been logged.
            let _panicked = spawn_blocking(move || authorities.refresh()).await;
        }
    }

    /// One server: the only one, the one that Sentinel says is the master, or any of a cluster.
    async fn client(&self) -> RedisResult<Client> {
        let address = &self.settings.address;
        match address.place() {
            Place::One { node, database } => address.client(node, *database),
            Place::Cluster { nodes } => {
                let node = self.in_turn(nodes).next().expect("an address has a host");
                address.client(node, 0)
            }
            Place::Sentinel { sentinels, service, database } => {
                let sentinels = self.in_turn(sentinels).map(|node| address.way_to(node));
                let login = address.login(*database);
                let mut client = SentinelClientBuilder::new(sentinels, service, SentinelServerType::Master)?
                    .set_client_to_redis_db(*database)
                    .set_client_to_redis_tcp_settings(prompt());
                if let Some(certificates) = address.certificates() {
                    client = client
                        .set_client_to_redis_tls_mode(TlsMode::Secure)
                        .set_client_to_redis_certificates(certificates.clone())
                        .set_client_to_sentinel_tls_mode(TlsMode::Secure)
                        .set_client_to_sentinel_certificates(certificates);
                }
                // Not to the sentinels: one that asks for no password refuses everybody who gives one.
                if let Some(user) = login.username() {
                    client = client.set_client_to_redis_username(user);
                }
                if let Some(password) = login.password() {
                    client = client.set_client_to_redis_password(password);
                }
                client.build()?.async_get_client().await
            }
        }
    }

    /// The addresses, beginning with another one after each failure.
    fn in_turn<'a>(&self, nodes: &'a [Node]) -> impl Iterator<Item = &'a Node> + use<'a> {
        let first = self.turn.load(Ordering::Relaxed) % nodes.len();
        nodes[first..].iter().chain(&nodes[..first])
    }
}

/// Whether a new connection may do better. A server that has become a replica takes no writes: its successor does.
fn is_lost(error: &RedisError) -> bool {
    let demoted = ErrorKind::Server(ServerErrorKind::ReadOnly) == error.kind()
        || ErrorKind::Server(ServerErrorKind::MasterDown) == error.kind();
    error.is_unrecoverable_error() || demoted
}

/// What is asked.
#[derive(Clone, Copy)]
enum Question<'a> {
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
    Script(&'a ScriptInvocation<'a>),
}

impl Question<'_> {
    async fn ask<T: FromRedisValue>(self, mut wire: Wire) -> RedisResult<T> {
        match self {
            Self::Command(command) => command.query_async(&mut wire).await,
            Self::Pipeline(commands) => commands.query_async(&mut wire).await,
            Self::Script(script) => script.invoke_async(&mut wire).await,
        }
    }
}

/// A connection. Commands of all clones go over it at the same time.
#[derive(Clone)]
enum Wire {
    One(MultiplexedConnection),
    Cluster(Box<ClusterConnection>),
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(wire) => wire.req_packed_command(command),
            Self::Cluster(wire) => wire.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(wire) => wire.req_packed_commands(commands, offset, count),
            Self::Cluster(wire) => wire.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(wire) => wire.get_db(),
            Self::Cluster(wire) => wire.get_db(),
        }
    }
}
