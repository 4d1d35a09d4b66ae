//! `/pool`: the daemons behind this front end, as they are now. For operators.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use browserfleet_common::pb::{self, GetPoolResponse};
use browserfleet_tools::Scope;
use http::Extensions;
use serde_json::{Value, json};

use super::{auth::forbidden, health::is_operator};
use crate::{core::Core, failure::DaemonError};

/// What the totals are of.
const TOTALS: [&str; 9] =
    ["max_browsers", "starting", "idle", "leased", "retiring", "killing", "poisoned", "leases", "queued"];

/// Every daemon and what they are together. One that does not answer is listed with its error.
pub(super) async fn pool(State(core): State<Arc<Core>>, extensions: Extensions) -> Response {
    if !is_operator(&extensions) {
        return forbidden(&extensions, Scope::Admin);
    }
    let statuses = core.fleet.statuses().await;
    let daemons: Vec<Value> = statuses.into_iter().map(|(name, status)| daemon(&name, status)).collect();
    let total = |what: &str| daemons.iter().filter_map(|daemon| daemon[what].as_u64()).sum::<u64>();
    let mut overview: Value = TOTALS.iter().map(|what| ((*what).to_owned(), json!(total(what)))).collect();
    overview["in_service"] = core.fleet.in_service().into();
    overview["daemons"] = daemons.into();
    Json(overview).into_response()
}

fn daemon(name: &str, status: Result<GetPoolResponse, DaemonError>) -> Value {
    match status {
        Err(error) => json!({ "daemon": name, "error": error.into_failure().to_string() }),
        Ok(pool) => json!({
            "daemon": name,
            "pool_id": pool.pool_id,
            "uptime_seconds": pool.uptime.and_then(pb::from_wire).map(|uptime| uptime.as_secs()),
            "max_browsers": pool.max_browsers,
            "starting": pool.starting,
            "idle": pool.idle,
            "leased": pool.leased,
            "retiring": pool.retiring,
            "killing": pool.killing,
            "poisoned": pool.poisoned,
            "leases": pool.leases,
            "queued": pool.queued,
            "draining": pool.draining,
            "unavailable": pool.unavailable,
            "pressure": pool.pressure,
        }),
    }
}
