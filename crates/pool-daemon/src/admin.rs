//! Health of the daemon over HTTP, for orchestrators that do not speak gRPC.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use browserfleet_common::{
    metrics::{self, metrics},
    redis::Fitness,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::pool::Handle;

/// Whose health it is.
#[derive(Clone)]
struct Daemon {
    handle: Handle,
    store: Option<Fitness>,
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, handle: Handle, store: Option<Fitness>, stop: CancellationToken) {
    let router = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(async || ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics().render()).into_response()))
        .with_state(Daemon { handle, store });
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "admin server failed");
    }
}

/// Alive: the process answers. Counts are for people.
async fn health(State(Daemon { handle, .. }): State<Daemon>) -> Json<Value> {
    Json(describe(&handle))
}

/// Ready: leases can be had, and front ends can find the daemon. A store that was there once and is away now makes no
/// difference: it may be away for everybody.
async fn ready(State(Daemon { handle, store }): State<Daemon>) -> (StatusCode, Json<Value>) {
    let has_store = match &store {
        Some(store) => store.is_known_good().await,
        None => true,
    };
    let available = handle.counts().unavailable().is_none() && has_store;
    let status = if available { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut described = describe(&handle);
    described["store"] = has_store.into();
    (status, Json(described))
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
