//! What is served where.

use std::sync::Arc;

use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::{any, delete, get, post},
};
use rmcp::ServerHandler;

use super::{
    artifacts, auth, calls,
    guard::{self, Guard},
    health, metadata, pool, sessions,
};
use crate::{
    core::Core,
    mcp::endpoint::{self, Endpoint},
    oauth::WELL_KNOWN,
};

/// All routes, behind the guard and then behind the question who asks. `handler` is who answers MCP.
pub(crate) fn router<H: ServerHandler + Clone>(core: &Arc<Core>, handler: H) -> Router {
    let guard = Arc::new(Guard::new(&core.config.http));
    let operators = Router::new()
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/sessions", get(sessions::sessions))
        .route("/pool", get(pool::pool))
        .route("/calls/{id}", delete(calls::stop))
        .route(WELL_KNOWN, get(metadata::resource))
        .route(&format!("{WELL_KNOWN}/{{*resource}}"), get(metadata::resource))
        .with_state(Arc::clone(core));
    let artifacts = Router::new()
        .route("/artifacts/{name}", post(artifacts::upload).put(artifacts::upload).get(artifacts::download))
        .with_state(artifacts::Doors::new(core));
    Router::new()
        .route("/mcp", any(endpoint::serve::<H>))
        .with_state(Endpoint::new(core, handler))
        .merge(operators)
        .merge(artifacts)
        .layer(from_fn_with_state(Arc::clone(core), auth::check))
        // The last layer is the first that a request meets.
        .layer(from_fn_with_state(guard, guard::check))
}
