//! Front ends, a fake daemon, and clients for them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use browserfleet_common::{
    clock::{Clock, SystemClock},
    lifecycle::{Shutdown, Tasks},
    redis::testing::Server,
};
use browserfleet_mcp_frontend::{App, Config, Fault, Host, Pools, Stores, testing::FakeDaemon};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

/// Longest time anything in these tests may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// A fleet in this process.
pub(crate) struct World {
    /// The first daemon: in most tests the only one.
    pub(crate) daemon: FakeDaemon,
    pub(crate) daemons: Vec<FakeDaemon>,
    /// Those of the first front end.
    pub(crate) stores: Stores,
    /// What several front ends share.
    pub(crate) redis: Option<Server>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) apps: Vec<App>,
    pub(crate) tasks: Tasks,
    /// One per front end.
    pub(crate) shutdown: Vec<Shutdown>,
    pub(crate) served: Vec<JoinHandle<Option<()>>>,
}

/// What a front end is put before.
pub(crate) struct Behind {
    pub(crate) tasks: Tasks,
    pub(crate) daemons: Vec<FakeDaemon>,
    pub(crate) pools: Pools,
    pub(crate) redis: Option<Server>,
}

impl Behind {
    /// One daemon, in memory.
    pub(crate) fn one() -> Self {
        let tasks = Tasks::new();
        let daemon = FakeDaemon::new(&tasks);
        let pools = Pools::inside("local", daemon.channel());
        Self { tasks, daemons: vec![daemon], pools, redis: None }
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::build(|_| (), |_| (), None).await
    }

    pub(crate) async fn with(change: impl Fn(&mut Config)) -> Self {
        Self::build(change, |_| (), None).await
    }

    /// Several front ends that share a Redis, each over connections of its own, asked in turn.
    pub(crate) async fn replicas(count: usize) -> Self {
        Self::replicas_with(count, |_| ()).await
    }

    pub(crate) async fn replicas_with(count: usize, change: impl Fn(&mut Config)) -> Self {
        let behind = Behind { redis: Some(Server::start().await), ..Behind::one() };
        Self::over(behind, count, change, |_| (), None).await
    }

    /// With other stores.
    pub(crate) async fn keeping(keep: impl Fn(&mut Stores)) -> Self {
        Self::build(|_| (), keep, None).await
    }

    pub(crate) async fn with_fault(fault: Fault) -> Self {
        Self::build(|_| (), |_| (), Some(fault)).await
    }

    /// One front end over several daemons, in memory.
    pub(crate) async fn fleet(count: usize) -> Self {
        let tasks = Tasks::new();
        let daemons: Vec<_> = (0..count).map(|_| FakeDaemon::new(&tasks)).collect();
        let named = daemons.iter().enumerate();
        let pools = named.fold(Pools::default(), |pools, (number, daemon)| {
            daemon.restart(&format!("pool-{number}"), false);
            pools.and(format!("daemon-{number}"), daemon.channel())
        });
        let plenty = |config: &mut Config| config.session.per_principal = 1000;
        Self::over(Behind { tasks, daemons, pools, redis: None }, 1, plenty, |_| (), None).await
    }

    async fn build(change: impl Fn(&mut Config), keep: impl Fn(&mut Stores), fault: Option<Fault>) -> Self {
        Self::over(Behind::one(), 1, change, keep, fault).await
    }

    /// Front ends over daemons that are there already.
    pub(crate) async fn over(
        behind: Behind,
        count: usize,
        change: impl Fn(&mut Config),
        keep: impl Fn(&mut Stores),
        fault: Option<Fault>,
    ) -> Self {
        let Behind { tasks, daemons, pools, redis } = behind;
        let mut shutdown = Vec::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut config = Config { store: redis.as_ref().map(Server::settings), ..Config::default() };
        change(&mut config);
        let (mut addresses, mut apps, mut served, mut kept) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::<Stores>::new());
        for _ in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            shutdown.push(Shutdown::new());
            let host = Host {
                tasks: tasks.clone(),
                shutdown: shutdown[shutdown.len() - 1].clone(),
                clock: Arc::clone(&clock),
            };
            let mut stores = Stores::of(&config, &host).unwrap();
            keep(&mut stores);
            kept.push(stores.clone());
            let (config, pools) = (config.clone(), pools.clone());
            let app = match &fault {
                Some(fault) => App::with_fault(config, pools, stores, host, fault.clone()),
                None => App::build_with(config, pools, stores, host),
            };
            apps.push(app.clone());
            served.push(tasks.spawn("front end", async move { app.serve_http(listener).await.unwrap() }));
        }
        let stores = kept.swap_remove(0);
        Self { daemon: daemons[0].clone(), daemons, stores, redis, addresses, apps, tasks, shutdown, served }
    }

    /// A client that has not said anything.
    pub(crate) fn client(&self) -> Client {
        Client {
            addresses: self.addresses.clone(),
            turn: AtomicUsize::new(0),
            tasks: self.tasks.clone(),
            path: "/mcp".to_owned(),
            headers: vec![
                ("content-type".to_owned(), "application/json".to_owned()),
                ("accept".to_owned(), "application/json, text/event-stream".to_owned()),
            ],
        }
    }

    /// A client of the legacy era that has shaken hands.
    pub(crate) async fn legacy(&self) -> Client {
        self.client().shaken_hands().await
    }
}

impl Client {
    /// The same client, of the legacy era, after its handshake.
    pub(crate) async fn shaken_hands(self) -> Self {
        let mut client = self;
        let reply = client.post(&initialize("2025-11-25")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let id = reply.headers["mcp-session-id"].to_str().unwrap().to_owned();
        client.headers.push(("mcp-session-id".to_owned(), id));
        client.headers.push(("mcp-protocol-version".to_owned(), "2025-11-25".to_owned()));
        let reply = client.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        assert_eq!((reply.status, reply.body.len()), (StatusCode::ACCEPTED, 0));
        client
    }
}

pub(crate) fn initialize(version: &str) -> Value {
    json!({
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": version,
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" },
        },
    })
}

pub(crate) fn request(id: impl Into<Value>, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id.into(), "method": method, "params": params })
}

pub(crate) fn call(id: impl Into<Value>, tool: &str, arguments: Value) -> Value {
    request(id, "tools/call", json!({ "name": tool, "arguments": arguments }))
}

/// A client. Each request has a TCP connection of its own, to the next front end in turn.
pub(crate) struct Client {
    pub(crate) addresses: Vec<SocketAddr>,
    turn: AtomicUsize,
    tasks: Tasks,
    /// The endpoint, with what its query asks for.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Client {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The same client, at an endpoint that asks for these groups of tools.
    pub(crate) fn asking(mut self, caps: &str) -> Self {
        self.path = format!("/mcp?caps={caps}");
        self
    }

    /// The same client, at one front end only.
    pub(crate) fn at(mut self, address: SocketAddr) -> Self {
        self.addresses = vec![address];
        self
    }

    pub(crate) fn connection(&self) -> String {
        let id = self.headers.iter().find(|(name, _)| name == "mcp-session-id");
        id.expect("a client that has shaken hands").1.clone()
    }

    pub(crate) fn again(&self) -> Self {
        Self {
            addresses: self.addresses.clone(),
            turn: AtomicUsize::new(self.turn.load(Ordering::Relaxed)),
            tasks: self.tasks.clone(),
            path: self.path.clone(),
            headers: self.headers.clone(),
        }
    }

    pub(crate) fn next_address(&self) -> SocketAddr {
        self.addresses[self.turn.fetch_add(1, Ordering::Relaxed) % self.addresses.len()]
    }

    /// Sends a request and answers as soon as the headers are there. Dropping the future hangs up.
    pub(crate) async fn open(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Open {
        let address = self.next_address();
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let driver = HangUp(self.tasks.spawn("client connection", async move { drop(connection.await) }));
        let mut request = Request::builder().method(method).uri(path);
        if !self.headers.iter().any(|(name, _)| name == "host") {
            request = request.header("host", address.to_string());
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let response = timeout(LIMIT, sender.send_request(request)).await.expect("an answer in time").unwrap();
        let (parts, body) = response.into_parts();
        Open { status: parts.status, headers: parts.headers, body, text: String::new(), _driver: driver }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Reply {
        self.open(method, path, body).await.all().await
    }

    pub(crate) async fn post(&self, message: &Value) -> Reply {
        self.send(Method::POST, &self.path, message.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, "").await
    }

    pub(crate) async fn delete(&self) -> Reply {
        self.send(Method::DELETE, "/mcp", "").await
    }

    /// Calls a tool in the legacy era and answers its result.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Value {
        let reply = self.post(&call(1, tool, arguments)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["result"].clone()
    }

    /// A request of the modern era.
    pub(crate) async fn modern(&self, method: &str, params: Value) -> Reply {
        let client = self.again().for_modern(method, params["name"].as_str().unwrap_or_default());
        client.post(&request(1, method, modern_params(params))).await
    }

    /// Calls a tool in the modern era and answers its result.
    pub(crate) async fn modern_call(&self, tool: &str, arguments: Value) -> Value {
        let reply = self.modern("tools/call", json!({ "name": tool, "arguments": arguments })).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["result"].clone()
    }

    pub(crate) fn for_modern(self, method: &str, name: &str) -> Self {
        self.header("mcp-protocol-version", "2026-07-28").header("mcp-method", method).header("mcp-name", name)
    }
}

pub(crate) fn modern_params(mut params: Value) -> Value {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    params["_meta"]["io.modelcontextprotocol/clientInfo"] = json!({ "name": "modern test", "version": "2" });
    params
}

/// Closes a connection when it goes.
struct HangUp(JoinHandle<Option<()>>);

impl Drop for HangUp {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer whose body is still coming.
pub(crate) struct Open {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    text: String,
    _driver: HangUp,
}

impl Open {
    pub(crate) async fn all(self) -> Reply {
        let body = timeout(LIMIT, self.body.collect()).await.expect("a body in time").unwrap().to_bytes();
        Reply { status: self.status, headers: self.headers, body }
    }

    /// The next event of a stream, comments included; `None` when it is over.
    pub(crate) async fn event(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event = self.text[..end].to_owned();
                self.text.drain(..end + 2);
                return Some(event);
            }
            let frame = timeout(LIMIT, self.body.frame()).await.expect("an event in time")?;
            self.text.push_str(std::str::from_utf8(&frame.ok()?.into_data().unwrap()).unwrap());
        }
    }

    /// The next message of a stream.
    pub(crate) async fn message(&mut self) -> Option<Value> {
        loop {
            let event = self.event().await?;
            if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The JSON-RPC error code, 0 without.
    pub(crate) fn code(&self) -> i64 {
        serde_json::from_slice::<Value>(&self.body).map_or(0, |body| body["error"]["code"].as_i64().unwrap_or(0))
    }
}

/// The text of a tool's result.
pub(crate) fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {result}"))
}

/// The code of a tool's failure; empty if it succeeded.
pub(crate) fn failure(result: &Value) -> &str {
    result["structuredContent"]["error"]["code"].as_str().unwrap_or_default()
}

/// Waits for a state.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LIMIT, "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
