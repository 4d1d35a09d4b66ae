//! Between wire types and ours, with the checks that input from outside needs.

use std::time::Duration;

use browserfleet_common::{
    egress::{Egress, EgressRules, OriginRules},
    error_code::ErrorCode,
    ids, pb,
};
use browserfleet_tools::SnapshotMode;
use tonic::Status;
use url::{Origin, Url};

use crate::pool::{Key, Refusal, handle::Listed};

/// Longest principal, in bytes.
const PRINCIPAL_MAX: usize = 128;

pub(super) fn status(refusal: Refusal) -> Status {
    match refusal.retry_after {
        Some(after) => refusal.code.status_retry(refusal.message, after),
        None => refusal.code.status(refusal.message),
    }
}

/// The key of an acquisition.
pub(super) fn key(request: &pb::AcquireRequest) -> Result<Key, Status> {
    Ok(Key {
        principal: text("principal", &request.principal, PRINCIPAL_MAX)?,
        session: text("session", &request.session, ids::SESSION_NAME_MAX)?,
        birth: text("birth", &request.birth, ids::SESSION_NAME_MAX)?,
    })
}

/// What the browser may reach.
pub(super) fn rules(egress: Option<pb::Egress>, key: Option<pb::Origins>) -> Result<EgressRules, Status> {
    let key = key.unwrap_or_default();
    let rules = Egress::from_wire(egress.unwrap_or_default())
        .rules()
        .and_then(|rules| Ok(EgressRules { key: OriginRules::of_key(&key.allowed, &key.blocked)?, ..rules }));
    rules.map_err(|bad| ErrorCode::InvalidArgument.status(bad.to_string()))
}

/// How much of the page a reply shows where its call does not say.
pub(super) fn snapshot_mode(mode: pb::SnapshotMode) -> SnapshotMode {
    match mode {
        pb::SnapshotMode::None => SnapshotMode::None,
        pb::SnapshotMode::Diff => SnapshotMode::Diff,
        pb::SnapshotMode::Interactive => SnapshotMode::Interactive,
        pb::SnapshotMode::Full | pb::SnapshotMode::Unspecified => SnapshotMode::Full,
    }
}

/// A required, bounded text.
fn text(field: &str, value: &str, max: usize) -> Result<String, Status> {
    if value.is_empty() || value.len() > max {
        return Err(ErrorCode::InvalidArgument.status(format!("{field} must have 1 to {max} bytes")));
    }
    Ok(value.to_owned())
}

/// An optional duration, brought into its range.
pub(super) fn duration(
    field: &str,
    value: Option<prost_types::Duration>,
    range: std::ops::RangeInclusive<Duration>,
) -> Result<Option<Duration>, Status> {
    let Some(value) = value else { return Ok(None) };
    let duration = pb::from_wire(value)
        .ok_or_else(|| ErrorCode::InvalidArgument.status(format!("{field} must not be negative")))?;
    Ok(Some(duration.clamp(*range.start(), *range.end())))
}

pub(super) fn lease(listed: &Listed) -> pb::Lease {
    let leased = &listed.leased;
    pb::Lease {
        lease_id: leased.lease_id.clone(),
        principal_hash: ids::digest(&leased.key.principal),
        session_hash: ids::digest(&leased.key.session),
        slot: number(leased.at.browser.slot),
        generation: leased.at.browser.generation,
        browser_pid: leased.browser.tree.pid(),
        bound: listed.bound,
        age: Some(pb::to_wire(listed.age)),
        idle: Some(pb::to_wire(listed.idle)),
        expires_in: Some(pb::to_wire(listed.expires_in)),
        origin: origin(&leased.workspace.page().document().url),
        memory_bytes: leased.browser.tree.memory(),
    }
}

/// The origin of a page's URL; the rest of it is its session's. Empty where it has none.
fn origin(url: &str) -> String {
    let origin = Url::parse(url).ok().map(|url| url.origin()).filter(Origin::is_tuple);
    origin.map_or_else(String::new, |origin| origin.ascii_serialization())
}

/// Whether somebody who lists leases wants to see this one.
pub(super) fn fits(lease: &pb::Lease, wanted: &pb::ListLeasesRequest) -> bool {
    let is = |wanted: &str, hash: &str| wanted.is_empty() || wanted == hash;
    let state = match wanted.state() {
        pb::LeaseState::Unspecified => true,
        pb::LeaseState::Bound => lease.bound,
        pb::LeaseState::Unbound => !lease.bound,
    };
    state && is(&wanted.principal_hash, &lease.principal_hash) && is(&wanted.session_hash, &lease.session_hash)
}

/// A count on the wire. Ours never come near its end.
pub(super) fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
