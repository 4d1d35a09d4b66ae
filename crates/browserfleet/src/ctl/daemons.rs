//! Daemons, asked over gRPC.

use std::{future::Future, time::Duration};

use anyhow::{Context as _, bail};
use browserfleet_common::pb::{
    self, DrainRequest, GetPoolRequest, Lease, ListLeasesRequest, RevokeRequest, pool_service_client::PoolServiceClient,
};
use serde_json::{Value, json};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use super::{ANSWER, table::Table};

/// The daemons an operator has named.
#[derive(Debug)]
pub(super) struct Daemons {
    daemons: Vec<Daemon>,
}

#[derive(Clone, Debug)]
struct Daemon {
    address: String,
    client: PoolServiceClient<InterceptedService<Channel, Bearer>>,
}

/// What daemons have answered, and why the others have not. Each is in the order of the daemons.
#[derive(Debug)]
pub(super) struct Answers<T> {
    pub(super) told: Vec<T>,
    pub(super) failed: Vec<anyhow::Error>,
}

/// Says who asks.
#[derive(Clone, Debug)]
struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

impl Daemons {
    /// Nobody is asked yet. To be called in a runtime.
    pub(super) fn new(addresses: &[String], token: Option<String>) -> anyhow::Result<Self> {
        let token = token.map(|token| format!("Bearer {token}").parse().context("the token is no text of one line"));
        let bearer = Bearer(token.transpose()?);
        let daemon = |address: &String| {
            let endpoint = Endpoint::from_shared(address.clone());
            let endpoint =
                endpoint.with_context(|| format!("{address}: not an address, such as http://10.0.0.7:50051"))?;
            let channel = endpoint.connect_timeout(ANSWER).timeout(ANSWER).connect_lazy();
            let client = PoolServiceClient::with_interceptor(channel, bearer.clone());
            Ok(Daemon { address: address.clone(), client })
        };
        Ok(Self { daemons: addresses.iter().map(daemon).collect::<anyhow::Result<_>>()? })
    }

    /// The leases that fit, of all daemons, oldest first.
    pub(super) async fn leases(&self, wanted: &ListLeasesRequest) -> Answers<Value> {
        let lists = self.each(|mut daemon| async move {
            let leases = daemon.client.list_leases(wanted.clone()).await?.into_inner().leases;
            Ok(leases.iter().map(|lease| of_lease(&daemon.address, lease)).collect::<Vec<_>>())
        });
        let Answers { told, failed } = lists.await;
        let mut told: Vec<Value> = told.into_iter().flatten().collect();
        told.sort_by(|one, other| seconds(&other["age_seconds"]).total_cmp(&seconds(&one["age_seconds"])));
        Answers { told, failed }
    }

    /// How each daemon is.
    pub(super) async fn pools(&self) -> Answers<Value> {
        self.each(|mut daemon| async move {
            let pool = daemon.client.get_pool(GetPoolRequest {}).await?.into_inner();
            Ok(of_pool(&daemon.address, &pool))
        })
        .await
    }

    /// Has every one of them drained.
    pub(super) async fn drain(&self, grace: Option<Duration>) -> Answers<Value> {
        let request = DrainRequest { grace: grace.map(pb::to_wire) };
        self.each(|mut daemon| async move {
            let drained = daemon.client.drain(request).await?.into_inner();
            Ok(json!({ "daemon": daemon.address, "leases": drained.leases }))
        })
        .await
    }

    /// Has a lease ended, by the daemon that granted it. Answers which one that is.
    ///
    /// # Errors
    /// When none of them has it, or one that may have it does not answer.
    pub(super) async fn revoke(&self, lease_id: &str) -> anyhow::Result<String> {
        let revoked = self.each(|mut daemon| async move {
            match daemon.client.revoke(RevokeRequest { lease_id: lease_id.to_owned() }).await {
                Ok(_) => Ok(Some(daemon.address)),
                // It may be another daemon's.
                Err(status) if status.code() == Code::FailedPrecondition => Ok(None),
                Err(status) => Err(status),
            }
        });
        let Answers { told, failed } = revoked.await;
        if let Some(daemon) = told.into_iter().flatten().next() {
            return Ok(daemon);
        }
        if failed.is_empty() {
            bail!("none of the daemons asked has a lease {lease_id}; browserfleet ctl leases lists them");
        }
        let failed: Vec<String> = failed.iter().map(|error| format!("{error:#}")).collect();
        bail!("no daemon that has answered has a lease {lease_id}; {}", failed.join("; "));
    }

    /// Asks all daemons at once, each to its end: one that fails breaks off none that does what it was asked for.
    async fn each<T, F>(&self, ask: impl Fn(Daemon) -> F) -> Answers<T>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let asked = self.daemons.iter().map(|daemon| {
            let answer = ask(daemon.clone());
            async { answer.await.map_err(|status| refused(&daemon.address, &status)) }
        });
        let mut answers = Answers { told: Vec::new(), failed: Vec::new() };
        for answer in futures_util::future::join_all(asked).await {
            match answer {
                Ok(told) => answers.told.push(told),
                Err(error) => answers.failed.push(error),
            }
        }
        answers
    }
}

fn refused(address: &str, status: &Status) -> anyhow::Error {
    let hint = match status.code() {
        Code::Unauthenticated => " (--token-file)",
        Code::Unavailable => " (is it running there? --daemon)",
        _ => "",
    };
    anyhow::anyhow!("{address}: {}{hint}", status.message())
}

fn of_lease(daemon: &str, lease: &Lease) -> Value {
    json!({
        "daemon": daemon,
        "lease": lease.lease_id,
        "state": if lease.bound { "bound" } else { "unbound" },
        "principal": lease.principal_hash,
        "session": lease.session_hash,
        "slot": lease.slot,
        "pid": lease.browser_pid,
        "age_seconds": of_wire(lease.age),
        "idle_seconds": of_wire(lease.idle),
        "expires_in_seconds": of_wire(lease.expires_in),
    })
}

fn of_pool(daemon: &str, pool: &pb::GetPoolResponse) -> Value {
    let state = if pool.draining { "draining".to_owned() } else { pool.unavailable.clone() };
    json!({
        "daemon": daemon,
        "state": if state.is_empty() { "ok".to_owned() } else { state },
        "max": pool.max_browsers,
        "idle": pool.idle,
        "leased": pool.leased,
        "starting": pool.starting,
        "retiring": pool.retiring,
        "killing": pool.killing,
        "poisoned": pool.poisoned,
        "leases": pool.leases,
        "queued": pool.queued,
        "pressure": pool.pressure,
        "uptime_seconds": of_wire(pool.uptime),
    })
}

pub(super) fn lease_table(leases: &[Value]) -> Table {
    let columns = [
        "lease",
        "daemon",
        "state",
        "principal",
        "session",
        "pid",
        "age_seconds",
        "idle_seconds",
        "expires_in_seconds",
    ];
    Table::of(&columns, leases)
}

pub(super) fn pool_table(pools: &[Value]) -> Table {
    let columns = [
        "daemon",
        "state",
        "max",
        "idle",
        "leased",
        "starting",
        "retiring",
        "killing",
        "poisoned",
        "leases",
        "queued",
        "pressure",
        "uptime_seconds",
    ];
    Table::of(&columns, pools)
}

fn of_wire(duration: Option<prost_types::Duration>) -> f64 {
    duration.and_then(pb::from_wire).unwrap_or_default().as_secs_f64()
}

fn seconds(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}
