//! One pool daemon over the wire: every request has a deadline, and those that may be repeated are, once.

use std::{fmt, time::Duration};

use browserfleet_common::{
    metrics::metrics,
    pb::{
        self, AcquireRequest, CallToolRequest, CallToolResponse, GetPoolRequest, GetPoolResponse, Lease,
        ListLeasesRequest, ReleaseRequest, RenewRequest, acquire_response,
        browser_service_client::BrowserServiceClient, pool_service_client::PoolServiceClient,
    },
    service::Rpc,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Request, Response, Status, Streaming};

use super::{placing::Wanted, signer::Signer, wire::Door};
use crate::{
    failure::DaemonError,
    session::{LeaseRef, Record},
};

/// How long a daemon may take for an answer that needs no browser.
const SHORT: Duration = Duration::from_secs(5);
/// … and for one that another daemon could give instead.
const PROMPT: Duration = Duration::from_secs(2);
/// How long the end of a stream may take after its last message.
const LAST_WORD: Duration = Duration::from_millis(100);
/// Before the one repetition of an idempotent request whose connection broke.
const PAUSE: Duration = Duration::from_millis(100);
/// Beyond the time a request was given, so that the daemon's own answer about it arrives first.
const SLACK: Duration = Duration::from_secs(2);

/// A daemon, over one pooled connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PoolClient {
    /// What [`LeaseRef::daemon`] says for leases of this daemon.
    name: String,
    pool: PoolServiceClient<Door>,
    browsers: BrowserServiceClient<Door>,
    signer: Signer,
}

impl fmt::Debug for PoolClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolClient").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Told about a place in the queue.
pub(crate) trait QueueWatch {
    fn queued(&mut self, position: u32, depth: u32) -> impl Future<Output = ()> + Send;
}

/// For callers who do not wait.
pub(super) struct Unwatched;

impl QueueWatch for Unwatched {
    async fn queued(&mut self, _position: u32, _depth: u32) {}
}

impl PoolClient {
    pub(super) fn new(name: String, door: Door, signer: Signer) -> Self {
        let pool = PoolServiceClient::new(door.clone());
        let browsers = BrowserServiceClient::new(door)
            .max_decoding_message_size(pb::MESSAGE_BYTES)
            .max_encoding_message_size(pb::MESSAGE_BYTES);
        Self { name, pool, browsers, signer }
    }

    /// What [`LeaseRef::daemon`] says for leases of this daemon.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Gets a browser for a session, waiting at most `wait` in the queue. Idempotent; dropping it leaves the queue.
    pub(super) async fn acquire(
        &self,
        wanted: Wanted<'_>,
        watch: &mut (impl QueueWatch + Send),
    ) -> Result<LeaseRef, DaemonError> {
        let wait = wanted.wait;
        // Who does not wait wants what is ready; after a wait a browser may have to be launched.
        let beyond = if wait.is_zero() { PROMPT } else { SHORT + SLACK };
        let deadline = Instant::now() + wait + beyond;
        let answer = async {
            match self.acquire_once(wanted, watch).await {
                Err(error) if error.is_silence() => {
                    sleep(PAUSE).await;
                    self.acquire_once(wanted, watch).await
                }
                answer => answer,
            }
        };
        // A daemon that takes a request and says nothing is as good as none.
        timed("acquire", timeout_at(deadline, answer)).await.unwrap_or(Err(DaemonError::Broken))
    }

    async fn acquire_once(
        &self,
        Wanted { session, access, ttl, wait }: Wanted<'_>,
        watch: &mut (impl QueueWatch + Send),
    ) -> Result<LeaseRef, DaemonError> {
        let request = AcquireRequest {
            principal: session.principal.as_str().to_owned(),
            session: session.name.as_str().to_owned(),
            birth: session.birth.clone(),
            ttl: Some(pb::to_wire(ttl)),
            wait: Some(pb::to_wire(wait)),
            egress: Some(session.egress.to_wire()),
            key_origins: Some(access.origins.to_wire()),
        };
        let request = self.signer.about(request, Rpc::Acquire, session, None, wait + SHORT + SLACK);
        let mut events = self.pool.clone().acquire(request).await?.into_inner();
        while let Some(response) = events.message().await? {
            match response.event {
                Some(acquire_response::Event::Queued(queued)) => watch.queued(queued.position, queued.depth).await,
                Some(acquire_response::Event::Granted(granted)) => {
                    let lease_id = granted.lease.map(|lease| lease.lease_id).unwrap_or_default();
                    // To its end: a stream that is dropped looks like a caller that has gone away.
                    let _late = timeout(LAST_WORD, events.message()).await;
                    return Ok(LeaseRef { lease_id, token: granted.token, daemon: self.name.clone() });
                }
                None => {}
            }
        }
        // The stream ended without a word: the daemon went away.
        Err(DaemonError::Broken)
    }

    /// Confirms a lease to the daemon and prolongs it.
    pub(crate) async fn renew(&self, session: &Record, lease: &LeaseRef, ttl: Duration) -> Result<(), DaemonError> {
        let ttl = Some(pb::to_wire(ttl));
        again(|| async {
            let (lease_id, token) = (lease.lease_id.clone(), lease.token.clone());
            let request = RenewRequest { lease_id, token, ttl };
            let request = self.signer.about(request, Rpc::Renew, session, Some(&lease.lease_id), SHORT);
            timed("renew", bounded(soon(), self.pool.clone().renew(short(request)))).await
        })
        .await
        .map(drop)
    }

    /// Returns a lease. One that is not there any more counts as returned.
    pub(crate) async fn release(&self, session: &Record, lease: &LeaseRef) -> Result<(), DaemonError> {
        again(|| async {
            let (lease_id, token) = (lease.lease_id.clone(), lease.token.clone());
            let request = ReleaseRequest { lease_id, token };
            let request = self.signer.about(request, Rpc::Release, session, Some(&lease.lease_id), SHORT);
            timed("release", bounded(soon(), self.pool.clone().release(short(request)))).await
        })
        .await
        .map(drop)
    }

    /// Runs a tool. Never repeated: whether anything has happened, only the stream tells.
    pub(crate) async fn call_tool(
        &self,
        session: &Record,
        request: CallToolRequest,
        deadline: Instant,
    ) -> Result<Streaming<CallToolResponse>, DaemonError> {
        let within = deadline.saturating_duration_since(Instant::now());
        let lease_id = request.lease_id.clone();
        let mut request = self.signer.about(request, Rpc::CallTool, session, Some(&lease_id), within);
        request.set_timeout(within);
        bounded(deadline + SLACK, self.browsers.clone().call_tool(request)).await
    }

    /// Capacity and use; also: whether the daemon answers.
    pub(crate) async fn status(&self) -> Result<GetPoolResponse, DaemonError> {
        let mut request = self.signer.plain(GetPoolRequest {}, Rpc::GetPool, PROMPT);
        request.set_timeout(PROMPT);
        timed("status", bounded(Instant::now() + PROMPT, self.pool.clone().get_pool(request))).await
    }

    /// The leases that it has, for operators.
    pub(super) async fn leases(&self) -> Result<Vec<Lease>, DaemonError> {
        let mut request = self.signer.plain(ListLeasesRequest::default(), Rpc::ListLeases, PROMPT);
        request.set_timeout(PROMPT);
        let listed = timed("leases", bounded(Instant::now() + PROMPT, self.pool.clone().list_leases(request))).await;
        Ok(listed?.leases)
    }
}

/// Notes how long an answer takes, if it comes.
async fn timed<T>(rpc: &'static str, answer: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let answer = answer.await;
    metrics().pool_seconds.observe(rpc, begun.elapsed());
    answer
}

/// Asks, and once more when the connection broke: for idempotent requests only.
async fn again<T, F>(ask: impl Fn() -> F) -> Result<T, DaemonError>
where
    F: Future<Output = Result<T, DaemonError>>,
{
    match ask().await {
        Err(error) if error.is_silence() => {
            sleep(PAUSE).await;
            ask().await
        }
        answer => answer,
    }
}

/// Waits for an answer on our side, too: a daemon of this process has no wire that would.
async fn bounded<T>(
    deadline: Instant,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, DaemonError> {
    match timeout_at(deadline, answer).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_elapsed) => Err(DaemonError::Broken),
    }
}

/// Beyond the time of a short request.
fn soon() -> Instant {
    Instant::now() + SHORT + SLACK
}

fn short<T>(mut request: Request<T>) -> Request<T> {
    request.set_timeout(SHORT);
    request
}
