//! `/health`: this process lives. `/ready`: it can serve. `/metrics`: what it has counted. Where keys are asked for, only
//! those of operators see more than that.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use browserfleet_common::ids::Principal;
use browserfleet_tools::Scope;
use http::{Extensions, StatusCode, header::CONTENT_TYPE};
use serde_json::json;

use super::auth::forbidden;
use crate::{access::Access, core::Core};

/// Answers as long as the process does. Counts that cannot be had are missing.
pub(super) async fn health(State(core): State<Arc<Core>>, extensions: Extensions) -> Response {
    if !is_operator(&extensions) {
        return Json(json!({ "status": "ok" })).into_response();
    }
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
    .into_response()
}

/// Whether the details are for whoever asks. Probes have no access at all.
pub(super) fn is_operator(extensions: &Extensions) -> bool {
    extensions.get::<Arc<Access>>().is_some_and(|access| access.is_admin())
}

/// Whether new work should be sent here.
pub(super) async fn ready(State(core): State<Arc<Core>>, extensions: Extensions) -> Response {
    let stopping = core.shutdown.soft().is_cancelled();
    let (pool, store) = if stopping { (false, false) } else { tokio::join!(core.fleet.is_ready(), core.has_store()) };
    let ready = pool && store;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if !is_operator(&extensions) {
        return (status, Json(json!({ "ready": ready }))).into_response();
    }
    let daemons = json!({ "total": core.fleet.count(), "in_service": core.fleet.in_service() });
    (status, Json(json!({ "ready": ready, "stopping": stopping, "pool": pool, "store": store, "daemons": daemons })))
        .into_response()
}

/// What this process has counted, and how the daemons are now.
pub(super) async fn metrics(State(core): State<Arc<Core>>, extensions: Extensions) -> Response {
    if !is_operator(&extensions) {
        return forbidden(&extensions, Scope::Admin);
    }
    let metrics = browserfleet_common::metrics::metrics();
    metrics.daemons.set("in_service", core.fleet.in_service());
    metrics.daemons.set("ejected", core.fleet.ejected());
    metrics.daemons.set("known", core.fleet.count());
    // A store that cannot answer is found in the log, and by `/ready`.
    if let Ok(counts) = core.sessions.counts(&Principal::anonymous()).await {
        metrics.sessions.set("open", counts.total);
    }
    if let Ok(connections) = core.connections.count().await {
        metrics.connections.set("open", connections);
    }
    if let Ok(Some(kept)) = core.sessions.kept().await {
        metrics.kept.set("sessions", kept.sessions);
        metrics.kept.set("artifacts", kept.artifacts);
        metrics.kept.set("checkpoints", kept.checkpoints);
    }
    let page = metrics.render();
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], page).into_response()
}
