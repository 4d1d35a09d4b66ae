//! Health of the daemon over HTTP, for orchestrators that do not speak gRPC.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use browserfleet_common::metrics::{self, metrics};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::pool::Handle;

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, handle: Handle, stop: CancellationToken) {
    let router = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(async || ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics().render()).into_response()))
        .with_state(handle);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "admin server failed");
    }
}

/// Alive: the process answers. Counts are for people.
async fn health(State(handle): State<Handle>) -> Json<Value> {
    Json(describe(&handle))
}

/// Ready: leases can be had.
async fn ready(State(handle): State<Handle>) -> (StatusCode, Json<Value>) {
    let available = handle.counts().unavailable().is_none();
    let status = if available { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(describe(&handle)))
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
