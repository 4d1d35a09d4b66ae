//! `PoolService`.

use std::{pin::Pin, sync::Arc, time::Duration};

use browserfleet_common::{error_code::ErrorCode, lifecycle::Tasks, pb, service::Rpc, step, telemetry::TraceParent};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::{auth::Peer, convert};
use crate::{
    config::LeaseConfig,
    pool::{
        Handle, Leased,
        handle::{Acquisition, Listed},
    },
};

/// The service.
#[derive(Clone, Debug)]
pub struct Pools {
    handle: Handle,
    leases: LeaseConfig,
    drain_grace: Duration,
    tasks: Tasks,
}

/// From one look at the pool to the next.
const SHOWN: Duration = Duration::from_millis(100);

type WatchPoolStream = Pin<Box<dyn Stream<Item = Result<pb::WatchPoolResponse, Status>> + Send>>;
type AcquireStream = Pin<Box<dyn Stream<Item = Result<pb::AcquireResponse, Status>> + Send>>;

impl Pools {
    pub fn new(handle: Handle, leases: LeaseConfig, drain_grace: Duration, tasks: Tasks) -> Self {
        Self { handle, leases, drain_grace, tasks }
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The lease of a call, if its caller may use it.
    fn check(&self, peer: &Peer, rpc: Rpc, lease_id: &str, token: &str) -> Result<Arc<Leased>, Status> {
        peer.asks(rpc, lease_id)?;
        let leased = self.handle.check(lease_id, token).map_err(convert::status)?;
        peer.uses(rpc, lease_id, &leased.key)?;
        Ok(leased)
    }
}

#[tonic::async_trait]
impl pb::pool_service_server::PoolService for Pools {
    type AcquireStream = AcquireStream;
    type WatchPoolStream = WatchPoolStream;

    async fn acquire(&self, request: Request<pb::AcquireRequest>) -> Result<Response<AcquireStream>, Status> {
        let (peer, step) = (Peer::of(&request)?, step!("grant a lease", otel.kind = "server"));
        if let Some(trace) = TraceParent::of(request.metadata().as_ref()) {
            trace.lead(&step);
        }
        let mut request = request.into_inner();
        let rules = convert::rules(request.egress.take(), request.key_origins.take())?;
        let key = convert::key(&request)?;
        peer.acquires(&key)?;
        let ttl = convert::duration("ttl", request.ttl, self.leases.ttl_range())?.unwrap_or(self.leases.ttl);
        let wait = convert::duration("wait", request.wait, Duration::ZERO..=self.leases.max_wait)?;
        let deadline = Instant::now() + wait.unwrap_or(self.leases.wait);
        let acquisition = self.handle.acquire(key, rules, ttl, deadline).await.map_err(convert::status)?;
        let (sender, receiver) = mpsc::channel(4);
        self.tasks.spawn("grpc.acquire", tell(acquisition, sender).instrument(step));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn renew(&self, request: Request<pb::RenewRequest>) -> Result<Response<pb::RenewResponse>, Status> {
        let peer = Peer::of(&request)?;
        let request = request.into_inner();
        let leased = self.check(&peer, Rpc::Renew, &request.lease_id, &request.token)?;
        let ttl = convert::duration("ttl", request.ttl, self.leases.ttl_range())?;
        let left = self.handle.renew(&leased, ttl).await.map_err(convert::status)?;
        Ok(Response::new(pb::RenewResponse { expires_in: Some(pb::to_wire(left)) }))
    }

    async fn release(&self, request: Request<pb::ReleaseRequest>) -> Result<Response<pb::ReleaseResponse>, Status> {
        let peer = Peer::of(&request)?;
        let request = request.into_inner();
        peer.asks(Rpc::Release, &request.lease_id)?;
        // A lease that has ended is what the caller wants.
        if let Ok(leased) = self.handle.check(&request.lease_id, &request.token) {
            peer.uses(Rpc::Release, &request.lease_id, &leased.key)?;
            self.handle.release(&leased).await.map_err(convert::status)?;
        }
        Ok(Response::new(pb::ReleaseResponse {}))
    }

    async fn get_lease(&self, request: Request<pb::GetLeaseRequest>) -> Result<Response<pb::GetLeaseResponse>, Status> {
        Peer::of(&request)?.operator("looking at a lease")?;
        let request = request.into_inner();
        let leased = self.handle.check(&request.lease_id, &request.token).map_err(convert::status)?;
        let listed = self.handle.list().await.map_err(convert::status)?;
        let lease = listed.iter().find(|listed| listed.leased.lease_id == leased.lease_id).map(convert::lease);
        let lease = lease.ok_or_else(|| ErrorCode::LeaseLost.status("the lease has just ended"))?;
        Ok(Response::new(pb::GetLeaseResponse { lease: Some(lease) }))
    }

    async fn list_leases(
        &self,
        request: Request<pb::ListLeasesRequest>,
    ) -> Result<Response<pb::ListLeasesResponse>, Status> {
        Peer::of(&request)?.may_look(Rpc::ListLeases)?;
        let wanted = request.into_inner();
        let listed = self.handle.list().await.map_err(convert::status)?;
        let leases = listed.iter().map(convert::lease).filter(|lease| convert::fits(lease, &wanted)).collect();
        Ok(Response::new(pb::ListLeasesResponse { leases }))
    }

    async fn get_pool(&self, request: Request<pb::GetPoolRequest>) -> Result<Response<pb::GetPoolResponse>, Status> {
        Peer::of(&request)?.may_look(Rpc::GetPool)?;
        Ok(Response::new(self.describe()))
    }

    async fn watch_pool(&self, request: Request<pb::WatchPoolRequest>) -> Result<Response<WatchPoolStream>, Status> {
        Peer::of(&request)?.operator("watching the pool")?;
        let (sender, receiver) = mpsc::channel(1);
        self.tasks.spawn("grpc.watch", self.clone().show(sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn revoke(&self, request: Request<pb::RevokeRequest>) -> Result<Response<pb::RevokeResponse>, Status> {
        Peer::of(&request)?.operator("revoking a lease")?;
        let lease_id = request.into_inner().lease_id;
        let listed = self.handle.list().await.map_err(convert::status)?;
        let found = listed.into_iter().find(|listed| listed.leased.lease_id == lease_id);
        let Listed { leased, .. } =
            found.ok_or_else(|| ErrorCode::LeaseLost.status("there is no such lease here; ListLeases lists them"))?;
        tracing::info!(lease = leased.lease_id, "an operator revokes a lease");
        self.handle.session_ended(&leased, "an operator has taken it back").await.map_err(convert::status)?;
        Ok(Response::new(pb::RevokeResponse {}))
    }

    async fn drain(&self, request: Request<pb::DrainRequest>) -> Result<Response<pb::DrainResponse>, Status> {
        Peer::of(&request)?.operator("draining")?;
        let longest = Duration::ZERO..=Duration::from_hours(24);
        let grace = convert::duration("grace", request.into_inner().grace, longest)?.unwrap_or(self.drain_grace);
        tracing::info!(?grace, "drain requested");
        let leases = self.handle.drain(grace).await.map_err(convert::status)?;
        Ok(Response::new(pb::DrainResponse { leases: convert::number(leases) }))
    }
}

impl Pools {
    /// The pool, now.
    fn describe(&self) -> pb::GetPoolResponse {
        let (counts, identity, limits) = (self.handle.counts(), self.handle.identity(), self.handle.limits());
        let unavailable = counts.unavailable().unwrap_or_default().to_owned();
        let pressure =
            [counts.pressure.memory, counts.pressure.cpu].into_iter().flatten().collect::<Vec<_>>().join("; ");
        pb::GetPoolResponse {
            pool_id: identity.pool_id.clone(),
            incarnation: identity.incarnation.clone(),
            max_browsers: convert::number(limits.max_browsers),
            starting: convert::number(counts.starting),
            idle: convert::number(counts.idle),
            leased: convert::number(counts.leased),
            killing: convert::number(counts.killing),
            queued: convert::number(counts.queued),
            draining: counts.draining,
            uptime: Some(pb::to_wire(self.handle.uptime())),
            retiring: convert::number(counts.retiring),
            poisoned: convert::number(counts.poisoned),
            leases: convert::number(counts.leases),
            contexts_per_browser: convert::number(limits.contexts_per_browser),
            unavailable,
            pressure,
        }
    }

    /// Shows the pool to somebody as it changes, until he goes away or the pool has stopped.
    async fn show(self, watcher: mpsc::Sender<Result<pb::WatchPoolResponse, Status>>) {
        let mut counts = self.handle.watch();
        loop {
            counts.mark_unchanged();
            let shown = watcher.send(Ok(pb::WatchPoolResponse { pool: Some(self.describe()) })).await;
            if shown.is_err() {
                return;
            }
            sleep(SHOWN).await;
            tokio::select! {
                changed = counts.changed() => if changed.is_err() { return },
                () = watcher.closed() => return,
            }
        }
    }
}

/// Tells a caller its place until it has its answer, or has gone: dropping the acquisition leaves the queue.
async fn tell(mut acquisition: Acquisition, caller: mpsc::Sender<Result<pb::AcquireResponse, Status>>) {
    use pb::acquire_response::Event;
    let message = |event| pb::AcquireResponse { event: Some(event) };
    loop {
        tokio::select! {
            biased;
            outcome = &mut acquisition.outcome => {
                let answer = match outcome {
                    Ok(Ok(leased)) => Ok(message(Event::Granted(granted(&leased)))),
                    Ok(Err(refusal)) => Err(convert::status(refusal)),
                    Err(_driver_gone) => Err(ErrorCode::Draining.status("the pool has stopped")),
                };
                let _caller_gone = caller.send(answer).await;
                return;
            }
            () = caller.closed() => return,
            changed = acquisition.place.changed() => {
                if changed.is_err() {
                    continue;
                }
                let place = *acquisition.place.borrow_and_update();
                let queued = pb::Queued { position: convert::number(place.position), depth: convert::number(place.depth) };
                // News for a slow caller may be skipped: the next one replaces it.
                let _skipped = caller.try_send(Ok(message(Event::Queued(queued))));
            }
        }
    }
}

fn granted(leased: &Leased) -> pb::Granted {
    pb::Granted {
        lease: Some(pb::Lease {
            lease_id: leased.lease_id.clone(),
            principal_hash: browserfleet_common::ids::digest(&leased.key.principal),
            session_hash: browserfleet_common::ids::digest(&leased.key.session),
            slot: convert::number(leased.at.browser.slot),
            generation: leased.at.browser.generation,
            browser_pid: leased.browser.tree.pid(),
            ..pb::Lease::default()
        }),
        token: leased.token.clone(),
    }
}
