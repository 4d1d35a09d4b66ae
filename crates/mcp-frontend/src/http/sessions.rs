//! `/sessions`: what is open and what runs, on all front ends: to operators everybody's, to others their own. Hashes, never
//! handles.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use browserfleet_common::ids::digest;
use http::{Extensions, StatusCode};
use serde_json::{Value, json};

use crate::{
    Unavailable,
    access::Access,
    caller::access,
    core::Core,
    session::{Record, Scope},
    usage::{Kind, Place},
};

/// Most sessions listed one by one.
const LISTED_MAX: usize = 1000;

/// The sessions of all front ends that are the caller's to see, oldest first.
pub(super) async fn sessions(State(core): State<Arc<Core>>, extensions: Extensions) -> Response {
    let access = access(&extensions);
    let (sessions, calls) = (core.sessions.list(scope(&access)), core.usage.held(Kind::Call, scope(&access)));
    match tokio::try_join!(sessions, calls) {
        Ok((records, calls)) => Json(overview(&records, &calls, core.clock.now())).into_response(),
        Err(error) => store_unavailable(&error),
    }
}

/// What somebody may see.
pub(super) fn scope(access: &Access) -> Scope<'_> {
    if access.is_admin() { Scope::All } else { Scope::Of(&access.principal) }
}

pub(super) fn store_unavailable(error: &Unavailable) -> Response {
    tracing::error!(%error, cause = error.cause.as_deref().map(tracing::field::display), "an operator cannot be answered");
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": "store_unavailable" }))).into_response()
}

fn overview(records: &[Record], calls: &[Place], now: Duration) -> Value {
    let age = |record: &Record| now.saturating_sub(record.created).as_secs_f64();
    let ages = || records.iter().map(age);
    let average = (!records.is_empty()).then(|| ages().sum::<f64>() / ages().map(|_| 1.0).sum::<f64>());
    let listed: Vec<Value> = records.iter().take(LISTED_MAX).map(|record| item(record, now)).collect();
    json!({
        "total": records.len(),
        "with_browser": records.iter().filter(|record| record.lease.lease.is_some()).count(),
        "oldest_age_seconds": ages().reduce(f64::max),
        "newest_age_seconds": ages().reduce(f64::min),
        "average_age_seconds": average,
        "truncated": records.len() > LISTED_MAX,
        "sessions": listed,
        "calls": calls.iter().take(LISTED_MAX).map(|place| call(place, now)).collect::<Vec<_>>(),
    })
}

fn call(place: &Place, now: Duration) -> Value {
    json!({
        "call": place.id,
        "tool": place.tool,
        "session": place.session,
        "principal": place.principal.digest(),
        "front_end": place.front_end,
        "running_seconds": now.saturating_sub(place.since).as_secs_f64(),
    })
}

fn item(record: &Record, now: Duration) -> Value {
    json!({
        "session": record.name.digest(),
        "principal": record.principal.digest(),
        "connection": record.connection.as_deref().map(digest),
        "age_seconds": now.saturating_sub(record.created).as_secs_f64(),
        "idle_seconds": now.saturating_sub(record.last_used).as_secs_f64(),
        "expires_in_seconds": record.idle_ttl.saturating_sub(now.saturating_sub(record.last_used)).as_secs_f64(),
        "client": { "name": record.client.name, "version": record.client.version },
        "user_agent": record.client.user_agent,
        "restorable": record.restorable,
        "lease": record.lease.lease.as_ref().map(|lease| &lease.lease_id),
    })
}
