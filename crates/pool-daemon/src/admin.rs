//! Health of the daemon over HTTP, for orchestrators that do not speak gRPC.

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::pool::Handle;

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, handle: Handle, stop: CancellationToken) {
    let router = Router::new().route("/health", get(health)).route("/ready", get(ready)).with_state(handle);
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
    let status = if handle.counts().draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, Json(describe(&handle)))
}

fn describe(handle: &Handle) -> Value {
    let counts = handle.counts();
    json!({
        "status": if counts.draining { "draining" } else { "ok" },
        "pool_id": handle.identity().pool_id,
        "uptime_seconds": handle.uptime().as_secs(),
        "browsers": {
            "max": handle.max_browsers(),
            "starting": counts.starting,
            "idle": counts.idle,
            "leased": counts.leased,
            "ending": counts.ending,
        },
        "queued": counts.queued,
    })
}
