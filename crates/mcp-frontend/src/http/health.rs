//! `/health`: this process lives. `/ready`: it can serve.

use std::sync::Arc;

use axum::{Json, extract::State, response::IntoResponse};
use browserfleet_common::ids::Principal;
use http::StatusCode;
use serde_json::json;

use crate::app::Core;

/// Answers as long as the process does. Counts that cannot be had are missing.
pub(super) async fn health(State(core): State<Arc<Core>>) -> impl IntoResponse {
    let sessions = core.sessions.counts(&Principal::anonymous()).await.ok().map(|counts| counts.total);
    let connections = core.connections.count().await.ok();
    Json(json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": core.started.elapsed().as_secs(),
        "sessions": sessions,
        "mcp_connections": connections,
        "tcp_connections": core.tcp_connections(),
        "active_calls": core.running.count(),
        "oldest_call_seconds": core.running.oldest().map(|age| age.as_secs()),
    }))
}

/// Whether new work should be sent here.
pub(super) async fn ready(State(core): State<Arc<Core>>) -> impl IntoResponse {
    let stopping = core.shutdown.soft().is_cancelled();
    let pool = !stopping && core.pool.status().await.is_ok();
    let status = if pool { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": pool, "stopping": stopping, "pool": pool })))
}
