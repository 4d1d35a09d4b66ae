//! Health of the daemon over HTTP, for orchestrators that do not speak gRPC, and what it has counted.
//!
//! Where operators have a token (`grpc.operator_token_file`), only they see more than that it lives and wants work.

use axum::{
    Json, Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_TYPE, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use browserfleet_common::{
    metrics::{self, metrics},
    redis::Fitness,
    service::OperatorToken,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{grpc::is_operator, pool::Handle};

/// Whose health it is.
#[derive(Clone, Debug)]
pub struct Daemon {
    pub handle: Handle,
    /// Whether the store will do, if there is one.
    pub store: Option<Fitness>,
    /// Who may look closer. None: everybody.
    pub operators: Option<OperatorToken>,
}

impl Daemon {
    fn lets_look(&self, headers: &HeaderMap) -> bool {
        self.operators.as_ref().is_none_or(|operators| is_operator(operators, headers))
    }
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, daemon: Daemon, stop: CancellationToken) {
    let served = axum::serve(listener, router(daemon)).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "admin server failed");
    }
}

fn router(daemon: Daemon) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(counted))
        .with_state(daemon)
}

/// Alive: the process answers. Counts are for people.
async fn health(State(daemon): State<Daemon>, headers: HeaderMap) -> Json<Value> {
    Json(if daemon.lets_look(&headers) { describe(&daemon.handle) } else { json!({ "status": "ok" }) })
}

/// Ready: leases can be had, and front ends can find the daemon. A store that was there once and is away now makes no
/// difference: it may be away for everybody.
async fn ready(State(daemon): State<Daemon>, headers: HeaderMap) -> (StatusCode, Json<Value>) {
    let has_store = match &daemon.store {
        Some(store) => store.is_known_good().await,
        None => true,
    };
    let ready = daemon.handle.counts().unavailable().is_none() && has_store;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !daemon.lets_look(&headers) {
        return (status, Json(json!({ "ready": ready })));
    }
    let mut described = describe(&daemon.handle);
    described["store"] = has_store.into();
    (status, Json(described))
}

/// For Prometheus, which shows the token as operators do.
async fn counted(State(daemon): State<Daemon>, headers: HeaderMap) -> Response {
    if daemon.lets_look(&headers) {
        return ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics().render()).into_response();
    }
    let who = [(WWW_AUTHENTICATE, "Bearer realm=\"pool-daemon\"")];
    let why = "send the token of grpc.operator_token_file (Authorization: Bearer …)";
    (StatusCode::UNAUTHORIZED, who, why).into_response()
}

fn describe(handle: &Handle) -> Value {
    let counts = handle.counts();
    let pressure: Vec<_> = [&counts.pressure.memory, &counts.pressure.cpu].into_iter().flatten().collect();
    json!({
        "status": if counts.draining { "draining" } else if counts.unavailable().is_some() { "unavailable" } else { "ok" },
        "unavailable": counts.unavailable(),
        "pressure": pressure,
        "pool_id": handle.identity().pool_id,
        "uptime_seconds": handle.uptime().as_secs(),
        "browsers": {
            "max": handle.limits().max_browsers,
            "starting": counts.starting,
            "idle": counts.idle,
            "leased": counts.leased,
            "retiring": counts.retiring,
            "killing": counts.killing,
            "poisoned": counts.poisoned,
        },
        "leases": counts.leases,
        "queued": counts.queued,
    })
}
