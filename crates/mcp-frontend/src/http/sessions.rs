//! `/sessions`: what is open and what runs, on all front ends: to operators everybody's, to others their own. Hashes, never
//! handles.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse as _, Response},
};
use browserfleet_common::{ids::digest, pb::Lease};
use http::{Extensions, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Unavailable,
    access::Access,
    caller::access,
    core::Core,
    session::{Record, Scope},
    usage::{Kind, Place},
};

/// Most sessions, and calls, listed one by one.
const LISTED_MAX: usize = 1000;

/// Which sessions are wanted, all of it together, and which part of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    /// By the hash that is shown, as is the session.
    principal: Option<String>,
    session: Option<String>,
    /// What a client calls itself.
    client: Option<String>,
    /// Whether they have a browser.
    with_browser: Option<bool>,
    offset: usize,
    limit: Option<usize>,
}

/// The sessions of all front ends that are the caller's to see, oldest first.
pub(super) async fn sessions(
    State(core): State<Arc<Core>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    extensions: Extensions,
) -> Response {
    let Query(wanted) = match wanted {
        Ok(wanted) => wanted,
        Err(rejection) => {
            let text = format!(
                "{}; principal, session, client, with_browser, offset and limit are known",
                rejection.body_text()
            );
            return (StatusCode::BAD_REQUEST, Json(json!({ "error": text }))).into_response();
        }
    };
    let access = access(&extensions);
    let (sessions, calls) = (core.sessions.list(scope(&access)), core.usage.held(Kind::Call, scope(&access)));
    let (records, calls) = match tokio::try_join!(sessions, calls) {
        Ok(found) => found,
        Err(error) => return store_unavailable(&error),
    };
    // What browsers are at is for operators; so is where they are.
    let leases = if access.is_admin() { core.fleet.leases().await } else { Vec::new() };
    let leases = leases.iter().map(|(daemon, lease)| (lease.lease_id.as_str(), (daemon.as_str(), lease))).collect();
    let (records, now) =
        (records.into_iter().filter(|record| wanted.wants(record)).collect::<Vec<_>>(), core.clock.now());
    Json(Overview { records, calls, leases, now }.shown(&wanted)).into_response()
}

impl Wanted {
    fn wants(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, it: &str| wanted.as_deref().is_none_or(|wanted| wanted == it);
        is(&self.principal, &record.principal.digest())
            && is(&self.session, &record.name.digest())
            && is(&self.client, record.client.name.as_deref().unwrap_or_default())
            && self.with_browser.is_none_or(|with| with == record.lease.lease.is_some())
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

/// What somebody may see, and wants to.
struct Overview<'a> {
    records: Vec<Record>,
    calls: Vec<Place>,
    /// By their ids, with their daemons.
    leases: HashMap<&'a str, (&'a str, &'a Lease)>,
    now: Duration,
}

impl Overview<'_> {
    fn shown(&self, wanted: &Wanted) -> Value {
        let Self { records, calls, now, .. } = self;
        let ages = || records.iter().map(|record| now.saturating_sub(record.created).as_secs_f64());
        let average = (!records.is_empty()).then(|| ages().sum::<f64>() / ages().map(|_| 1.0).sum::<f64>());
        let limit = wanted.limit.unwrap_or(LISTED_MAX).min(LISTED_MAX);
        let listed: Vec<Value> =
            records.iter().skip(wanted.offset).take(limit).map(|record| self.item(record)).collect();
        let next = wanted.offset.saturating_add(listed.len());
        json!({
            "total": records.len(),
            "with_browser": records.iter().filter(|record| record.lease.lease.is_some()).count(),
            "oldest_age_seconds": ages().reduce(f64::max),
            "newest_age_seconds": ages().reduce(f64::min),
            "average_age_seconds": average,
            "next_offset": (next < records.len() && limit > 0).then_some(next),
            "sessions": listed,
            "calls": calls.iter().take(LISTED_MAX).map(|place| call(place, *now)).collect::<Vec<_>>(),
        })
    }

    fn item(&self, record: &Record) -> Value {
        let since = |then: Duration| self.now.saturating_sub(then);
        let lease = record.lease.lease.as_ref().map(|lease| lease.lease_id.as_str());
        let (daemon, browser) = lease.and_then(|id| self.leases.get(id)).copied().unzip();
        json!({
            "session": record.name.digest(),
            "principal": record.principal.digest(),
            "connection": record.connection.as_deref().map(digest),
            "age_seconds": since(record.created).as_secs_f64(),
            "idle_seconds": since(record.last_used).as_secs_f64(),
            "expires_in_seconds": record.idle_ttl.saturating_sub(since(record.last_used)).as_secs_f64(),
            "client": { "name": record.client.name, "version": record.client.version },
            "user_agent": record.client.user_agent,
            "restorable": record.restorable,
            "lease": lease,
            "daemon": daemon,
            "origin": browser.map(|browser| &browser.origin),
            "memory_bytes": browser.map(|browser| browser.memory_bytes),
        })
    }
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
