//! `/health`: this process lives. `/ready`: it can serve. `/metrics`: what it has counted.

use std::sync::Arc;

use axum::{Json, extract::State, response::IntoResponse};
use browserfleet_common::ids::Principal;
use http::{StatusCode, header::CONTENT_TYPE};
use serde_json::json;

use crate::core::Core;

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
    let pool = !stopping && core.fleet.is_ready().await;
    let status = if pool { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let daemons = json!({ "total": core.fleet.count(), "in_service": core.fleet.in_service() });
    (status, Json(json!({ "ready": pool, "stopping": stopping, "pool": pool, "daemons": daemons })))
}

/// What this process has counted, and how the daemons are now.
pub(super) async fn metrics(State(core): State<Arc<Core>>) -> impl IntoResponse {
    let metrics = browserfleet_common::metrics::metrics();
    metrics.daemons.set("in_service", core.fleet.in_service());
    metrics.daemons.set("ejected", core.fleet.ejected());
    metrics.daemons.set("known", core.fleet.count());
    let page = metrics.render();
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], page)
}
