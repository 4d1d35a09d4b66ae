//! A pool daemon without browsers: it keeps the rules of leases, and answers calls as told.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use browserfleet_common::{
    egress::Egress,
    error_code::ErrorCode,
    lifecycle::Tasks,
    pb::{
        AcquireRequest, AcquireResponse, CallToolRequest, CallToolResponse, DrainRequest, DrainResponse,
        GetLeaseRequest, GetLeaseResponse, GetPoolRequest, GetPoolResponse, Granted, Lease, ListLeasesRequest,
        ListLeasesResponse, Queued, ReleaseRequest, ReleaseResponse, RenewRequest, RenewResponse, RevokeRequest,
        RevokeResponse, WatchPoolRequest, WatchPoolResponse, acquire_response, browser_service_server::BrowserService,
        from_wire, pool_service_server::PoolService,
    },
};
use futures_util::Stream;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::script::{Event, Script, usual};

type Answer<T> = Result<Response<T>, Status>;
type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A daemon in this process. Cheap to clone: all clones are the same one.
#[derive(Clone)]
pub struct FakeDaemon {
    state: Arc<Mutex<State>>,
    pub(super) tasks: Tasks,
}

struct State {
    pool_id: String,
    /// How often it has been started.
    incarnation: u64,
    /// Browsers it has; `usize::MAX` without a limit.
    capacity: usize,
    draining: bool,
    /// Takes every token for one of its own, as no daemon should.
    gullible: bool,
    leases: HashMap<(String, String, String), (Lease, String)>,
    /// Their tokens by their ids: calls are many.
    tokens: HashMap<String, String>,
    granted: u64,
    /// Callers in its queue.
    waiting: u32,
    script: Option<Script>,
    /// Places in the queue to tell before a grant.
    queue: Vec<(u32, u32)>,
    refuse: Option<Status>,
    /// Cancelled while it cannot be reached through memory.
    unreachable: CancellationToken,
    seen: Seen,
}

impl State {
    fn forget_leases(&mut self) {
        self.leases.clear();
        self.tokens.clear();
    }
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
    /// Where the sessions of all acquisitions may go.
    pub egress: Vec<Egress>,
    /// How often it was asked how it is.
    pub looked: usize,
}

impl FakeDaemon {
    pub fn new(tasks: &Tasks) -> Self {
        let state = State {
            pool_id: "fake".to_owned(),
            incarnation: 1,
            capacity: usize::MAX,
            draining: false,
            gullible: false,
            waiting: 0,
            leases: HashMap::new(),
            tokens: HashMap::new(),
            granted: 0,
            script: None,
            queue: Vec::new(),
            refuse: None,
            unreachable: CancellationToken::new(),
            seen: Seen::default(),
        };
        Self { state: Arc::new(Mutex::new(state)), tasks: tasks.clone() }
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
        self.state().forget_leases();
    }

    /// Whether it can be reached through memory. When not, the connections that exist break.
    pub fn reachable(&self, reachable: bool) {
        let mut state = self.state();
        if reachable == state.unreachable.is_cancelled() {
            std::mem::take(&mut state.unreachable).cancel();
        }
        if !reachable {
            state.unreachable.cancel();
        }
    }

    /// Cancelled when it cannot be reached any more.
    pub(super) fn unreachable(&self) -> CancellationToken {
        self.state().unreachable.clone()
    }

    /// Has so many browsers from now on. Callers for whom there is none wait until one is free.
    pub fn capacity(&self, browsers: usize) {
        self.state().capacity = browsers;
    }

    /// Callers in its queue.
    pub fn waiting(&self) -> u32 {
        self.state().waiting
    }

    /// Takes no new leases; those it has go on.
    pub fn start_draining(&self) {
        self.state().draining = true;
    }

    /// Which of its lives this is.
    pub fn incarnation(&self) -> String {
        self.state().incarnation.to_string()
    }

    /// Dies and is started again, as `pool_id`: its leases are gone. A gullible one would take their tokens all the same.
    pub fn restart(&self, pool_id: &str, gullible: bool) {
        let mut state = self.state();
        state.forget_leases();
        state.incarnation += 1;
        pool_id.clone_into(&mut state.pool_id);
        state.gullible = gullible;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A lease, unless every browser is taken.
    fn grant(&self, request: &AcquireRequest) -> Option<AcquireResponse> {
        let mut state = self.state();
        let key = (request.principal.clone(), request.session.clone(), request.birth.clone());
        if !state.leases.contains_key(&key) {
            if state.leases.len() >= state.capacity {
                return None;
            }
            state.granted += 1;
            let of = if state.pool_id == "fake" { String::new() } else { format!("{}-", state.pool_id) };
            let lease_id = format!("{of}lease-{}", state.granted);
            let token = format!("{}/{}/{}/1", state.pool_id, state.incarnation, state.granted);
            state.tokens.insert(lease_id.clone(), token.clone());
            state.leases.insert(key.clone(), (Lease { lease_id, ..Lease::default() }, token));
        }
        let (lease, token) = state.leases[&key].clone();
        let granted = Granted { lease: Some(lease), token };
        Some(AcquireResponse { event: Some(acquire_response::Event::Granted(granted)) })
    }

    /// Tells the scripted places, then waits for a browser as long as the caller does.
    async fn serve_in_turn(
        self,
        request: AcquireRequest,
        queue: Vec<(u32, u32)>,
        answers: mpsc::Sender<Result<AcquireResponse, Status>>,
    ) {
        let deadline = Instant::now() + request.wait.and_then(from_wire).unwrap_or_default();
        for (position, depth) in queue {
            if !self.tell(&answers, position, depth).await {
                return;
            }
        }
        let mut line = None;
        let answer = loop {
            if let Some(grant) = self.grant(&request) {
                break Ok(grant);
            }
            if deadline <= Instant::now() {
                break Err(ErrorCode::QueueTimeout.status("no browser became free in time"));
            }
            let position = line.get_or_insert_with(|| InLine::join(&self)).position;
            if !self.tell(&answers, position, position).await {
                return;
            }
        };
        let _gone = answers.send(answer).await;
    }

    /// Tells a place and lets some time pass. Answers whether the caller is still there.
    async fn tell(&self, answers: &mpsc::Sender<Result<AcquireResponse, Status>>, position: u32, depth: u32) -> bool {
        let event = Some(acquire_response::Event::Queued(Queued { position, depth }));
        let _gone = answers.send(Ok(AcquireResponse { event })).await;
        tokio::select! {
            () = sleep(Duration::from_millis(50)) => true,
            () = answers.closed() => {
                self.state().seen.left_queue += 1;
                false
            }
        }
    }

    /// The living lease of an id and a token.
    fn holds(&self, lease_id: &str, token: &str) -> Result<(), Status> {
        let state = self.state();
        if state.tokens.get(lease_id).is_some_and(|held| held == token) || state.gullible {
            Ok(())
        } else {
            Err(ErrorCode::LeaseLost.status("the lease has ended"))
        }
    }

    async fn play(self, events: Vec<Event>, answers: mpsc::Sender<Result<CallToolResponse, Status>>) {
        let gone = answers.clone();
        let play = async {
            for event in events {
                if matches!(event, Event::Die(_)) {
                    self.lose_leases();
                }
                match event {
                    Event::Wait(time) => sleep(time).await,
                    Event::WaitForever => std::future::pending().await,
                    Event::Vanish => return,
                    Event::Fail(status) | Event::Die(status) => {
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

/// A place in the queue.
struct InLine {
    daemon: FakeDaemon,
    position: u32,
}

impl InLine {
    fn join(daemon: &FakeDaemon) -> Self {
        let mut state = daemon.state();
        state.waiting += 1;
        Self { daemon: daemon.clone(), position: state.waiting }
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.daemon.state().waiting -= 1;
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
    type WatchPoolStream = Events<WatchPoolResponse>;

    async fn acquire(&self, request: Request<AcquireRequest>) -> Answer<Self::AcquireStream> {
        let request = request.into_inner();
        let (queue, refuse) = {
            let mut state = self.state();
            state.seen.acquired += 1;
            state.seen.ttl = request.ttl.and_then(from_wire);
            state.seen.egress.push(Egress::from_wire(request.egress.clone().unwrap_or_default()));
            let draining = state.draining.then(|| ErrorCode::Draining.status("the daemon is stopping"));
            (state.queue.clone(), draining.or_else(|| state.refuse.clone()))
        };
        if let Some(status) = refuse {
            return Err(status);
        }
        let (answers, stream) = mpsc::channel(4);
        self.tasks.spawn("fake queue", self.clone().serve_in_turn(request, queue, answers));
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
        state.tokens.remove(&lease_id);
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
        let mut state = self.state();
        state.seen.looked += 1;
        let number = |count: usize| u32::try_from(count.min(1000)).unwrap_or_default();
        Ok(Response::new(GetPoolResponse {
            pool_id: state.pool_id.clone(),
            incarnation: state.incarnation.to_string(),
            max_browsers: number(state.capacity),
            idle: number(state.capacity.saturating_sub(state.leases.len())),
            leased: number(state.leases.len()),
            queued: state.waiting,
            draining: state.draining,
            ..GetPoolResponse::default()
        }))
    }

    async fn watch_pool(&self, _request: Request<WatchPoolRequest>) -> Answer<Self::WatchPoolStream> {
        Err(Status::unimplemented("front ends do not watch"))
    }

    async fn revoke(&self, _request: Request<RevokeRequest>) -> Answer<RevokeResponse> {
        Err(Status::unimplemented("front ends do not revoke"))
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
