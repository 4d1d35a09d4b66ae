//! `browser_get_config`: what the server is set to, as far as it matters to its clients. Addresses, files and secrets do not.

use std::time::Duration;

use browserfleet_tools::{Group, Groups};
use serde_json::{Value, json};

use super::{reply::Reply, resolve};
use crate::{access::Access, core::Core};

/// What a caller is told.
pub(super) fn show(core: &Core, access: &Access) -> Reply {
    let config = &core.config;
    let names = |groups: Groups| groups.iter().map(Group::name).collect::<Vec<_>>();
    let (idle_ttl, max_lifetime) = resolve::lifetimes(core, access);
    let shown = json!({
        "server": { "name": "browserfleet", "version": env!("CARGO_PKG_VERSION") },
        "tools": { "served": names(access.groups()), "allowed": names(config.tools.allowed.and(Groups::ALWAYS)) },
        "session": {
            "idle_ttl": written(idle_ttl),
            "max_lifetime": written(max_lifetime),
            "most": access.limits.sessions.unwrap_or(config.session.per_principal),
            "artifact_bytes": config.session.artifact_bytes,
            "limits": access.limits,
        },
        "call": {
            "timeout": written(config.call.timeout),
            "tasks_timeout": written(config.call.tasks_timeout),
            "queue_wait": written(config.call.queue_wait),
            "reply_bytes": config.call.reply_bytes,
            "snapshot": config.call.snapshot,
            "inline_bytes": config.call.inline_bytes,
            "request_bytes": config.http.max_body,
        },
    });
    let text = serde_json::to_string_pretty(&shown).unwrap_or_default();
    Reply::text("Result", text).with_structured(shown)
}

/// As settings write it.
fn written(time: Duration) -> Value {
    humantime::format_duration(time).to_string().into()
}
