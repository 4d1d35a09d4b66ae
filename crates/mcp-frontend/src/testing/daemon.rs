//! A pool daemon without browsers: it keeps the rules of leases, and answers calls as told.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use browserfleet_common::{
    error_code::ErrorCode,
    lifecycle::Tasks,
    pb::{
        AcquireRequest, AcquireResponse, CallToolRequest, CallToolResponse, DrainRequest, DrainResponse,
        GetLeaseRequest, GetLeaseResponse, GetPoolRequest, GetPoolResponse, Granted, Lease, ListLeasesRequest,
        ListLeasesResponse, Queued, ReleaseRequest, ReleaseResponse, RenewRequest, RenewResponse, acquire_response,
        browser_service_server::{BrowserService, BrowserServiceServer},
        from_wire,
        pool_service_server::{PoolService, PoolServiceServer},
    },
};
use futures_util::Stream;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Server, Uri},
};

use super::script::{Event, Script, usual};

type Answer<T> = Result<Response<T>, Status>;
type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A daemon in this process. Cheap to clone: all clones are the same one.
#[derive(Clone)]
pub struct FakeDaemon {
    state: Arc<Mutex<State>>,
    tasks: Tasks,
}

struct State {
    leases: HashMap<(String, String, String), (Lease, String)>,
    granted: u64,
    script: Option<Script>,
    /// Places in the queue to tell before a grant.
    queue: Vec<(u32, u32)>,
    refuse: Option<Status>,
    reachable: bool,
    seen: Seen,
}

/// What a daemon has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub acquired: usize,
    pub renewed: usize,
    /// Ids of the leases that were returned.
    pub released: Vec<String>,
    /// Names of the tools that were called.
    pub called: Vec<String>,
    /// How many calls the caller went away from.
    pub abandoned: usize,
    /// How many waits in the queue the caller went away from.
    pub left_queue: usize,
    /// The time to live the last acquisition asked for.
    pub ttl: Option<Duration>,
}

impl FakeDaemon {
    pub fn new(tasks: &Tasks) -> Self {
        let state = State {
            leases: HashMap::new(),
            granted: 0,
            script: None,
            queue: Vec::new(),
            refuse: None,
            reachable: true,
            seen: Seen::default(),
        };
        Self { state: Arc::new(Mutex::new(state)), tasks: tasks.clone() }
    }

    /// A channel to it. Every connection is a pipe in memory.
    pub fn channel(&self) -> Channel {
        let daemon = self.clone();
        Endpoint::from_static("http://fake.daemon").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let daemon = daemon.clone();
            async move { daemon.connect().map(TokioIo::new) }
        }))
    }

    fn connect(&self) -> std::io::Result<DuplexStream> {
        if !self.state().reachable {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        let (client, server) = duplex(1 << 20);
        let incoming = tokio_stream::once(Ok::<_, std::io::Error>(server));
        let router = Server::builder()
            .add_service(PoolServiceServer::new(self.clone()))
            .add_service(BrowserServiceServer::new(self.clone()));
        self.tasks.spawn("fake daemon", router.serve_with_incoming(incoming));
        Ok(client)
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        self.state().seen.clone()
    }

    /// Ids of the leases that live.
    pub fn leases(&self) -> Vec<String> {
        self.state().leases.values().map(|(lease, _)| lease.lease_id.clone()).collect()
    }

    /// Answers calls like this from now on.
    pub fn answer(&self, script: impl Fn(&CallToolRequest) -> Vec<Event> + Send + Sync + 'static) {
        self.state().script = Some(Box::new(script));
    }

    /// Tells these places before each grant, a little apart.
    pub fn queue(&self, places: &[(u32, u32)]) {
        self.state().queue = places.to_vec();
    }

    /// Refuses acquisitions from now on.
    pub fn refuse(&self, status: Option<Status>) {
        self.state().refuse = status;
    }

    /// Ends every lease, as if the browsers had died.
    pub fn lose_leases(&self) {
        self.state().leases.clear();
    }

    /// Whether connections can be made; those that exist go on.
    pub fn reachable(&self, reachable: bool) {
        self.state().reachable = reachable;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grant(&self, request: AcquireRequest) -> AcquireResponse {
        let mut state = self.state();
        let key = (request.principal, request.session, request.birth);
        if !state.leases.contains_key(&key) {
            state.granted += 1;
            let lease_id = format!("lease-{}", state.granted);
            let token = format!("token of {lease_id}");
            state.leases.insert(key.clone(), (Lease { lease_id, ..Lease::default() }, token));
        }
        let (lease, token) = state.leases[&key].clone();
        let granted = Granted { lease: Some(lease), token };
        AcquireResponse { event: Some(acquire_response::Event::Granted(granted)) }
    }

    /// The living lease of an id and a token.
    fn holds(&self, lease_id: &str, token: &str) -> Result<(), Status> {
        let state = self.state();
        let held = state.leases.values().any(|(lease, held)| lease.lease_id == lease_id && held == token);
        if held { Ok(()) } else { Err(ErrorCode::LeaseLost.status("the lease has ended")) }
    }

    async fn play(self, events: Vec<Event>, answers: mpsc::Sender<Result<CallToolResponse, Status>>) {
        let gone = answers.clone();
        let play = async {
            for event in events {
                match event {
                    Event::Wait(time) => sleep(time).await,
                    Event::WaitForever => std::future::pending().await,
                    Event::Vanish => return,
                    Event::Fail(status) => {
                        let _gone = answers.send(Err(status)).await;
                        return;
                    }
                    Event::Send(event) => {
                        if answers.send(Ok(CallToolResponse { event: Some(event) })).await.is_err() {
                            return;
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = play => {}
            () = gone.closed() => self.state().seen.abandoned += 1,
        }
    }
}

impl std::fmt::Debug for FakeDaemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeDaemon").field("seen", &self.seen()).finish_non_exhaustive()
    }
}

#[tonic::async_trait]
impl PoolService for FakeDaemon {
    type AcquireStream = Events<AcquireResponse>;

    async fn acquire(&self, request: Request<AcquireRequest>) -> Answer<Self::AcquireStream> {
        let request = request.into_inner();
        let (queue, refuse) = {
            let mut state = self.state();
            state.seen.acquired += 1;
            state.seen.ttl = request.ttl.and_then(from_wire);
            (state.queue.clone(), state.refuse.clone())
        };
        if let Some(status) = refuse {
            return Err(status);
        }
        let (answers, stream) = mpsc::channel(4);
        let daemon = self.clone();
        self.tasks.spawn("fake queue", async move {
            for (position, depth) in queue {
                let event = Some(acquire_response::Event::Queued(Queued { position, depth }));
                let _gone = answers.send(Ok(AcquireResponse { event })).await;
                tokio::select! {
                    () = sleep(Duration::from_millis(50)) => {}
                    () = answers.closed() => {
                        daemon.state().seen.left_queue += 1;
                        return;
                    }
                }
            }
            let _gone = answers.send(Ok(daemon.grant(request))).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Answer<RenewResponse> {
        let RenewRequest { lease_id, token, ttl } = request.into_inner();
        self.holds(&lease_id, &token)?;
        self.state().seen.renewed += 1;
        Ok(Response::new(RenewResponse { expires_in: ttl }))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Answer<ReleaseResponse> {
        let ReleaseRequest { lease_id, .. } = request.into_inner();
        let mut state = self.state();
        state.leases.retain(|_, (lease, _)| lease.lease_id != lease_id);
        state.seen.released.push(lease_id);
        Ok(Response::new(ReleaseResponse {}))
    }

    async fn get_lease(&self, request: Request<GetLeaseRequest>) -> Answer<GetLeaseResponse> {
        let GetLeaseRequest { lease_id, token } = request.into_inner();
        self.holds(&lease_id, &token)?;
        Ok(Response::new(GetLeaseResponse { lease: Some(Lease { lease_id, ..Lease::default() }) }))
    }

    async fn list_leases(&self, _request: Request<ListLeasesRequest>) -> Answer<ListLeasesResponse> {
        let leases = self.state().leases.values().map(|(lease, _)| lease.clone()).collect();
        Ok(Response::new(ListLeasesResponse { leases }))
    }

    async fn get_pool(&self, _request: Request<GetPoolRequest>) -> Answer<GetPoolResponse> {
        Ok(Response::new(GetPoolResponse { pool_id: "fake".to_owned(), ..GetPoolResponse::default() }))
    }

    async fn drain(&self, _request: Request<DrainRequest>) -> Answer<DrainResponse> {
        Ok(Response::new(DrainResponse { leases: 0 }))
    }
}

#[tonic::async_trait]
impl BrowserService for FakeDaemon {
    type CallToolStream = Events<CallToolResponse>;

    async fn call_tool(&self, request: Request<CallToolRequest>) -> Answer<Self::CallToolStream> {
        let call = request.into_inner();
        self.holds(&call.lease_id, &call.token)?;
        let events = {
            let mut state = self.state();
            state.seen.called.push(call.tool.clone());
            state.script.as_ref().map_or_else(|| usual(&call), |script| script(&call))
        };
        let (answers, stream) = mpsc::channel(4);
        self.tasks.spawn("fake call", self.clone().play(events, answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
