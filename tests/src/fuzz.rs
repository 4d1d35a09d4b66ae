//! Whoever reads what comes from outside: one function each, which takes any bytes and panics where a promise is broken.
//!
//! `make fuzz` has libFuzzer look for such bytes (`fuzz/`); `tests/corpora.rs` replays, with every run of the tests, what it has
//! found worth keeping.

use std::path::{Path, PathBuf};

/// A reader, by the name of its target and of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 6] = [
    ("cdp_frames", browserfleet_cdp::fuzz::frames),
    ("json_rpc", browserfleet_mcp_frontend::testing::fuzz::json_rpc),
    ("pointers", browserfleet_mcp_frontend::testing::fuzz::pointers),
    ("url_policy", browserfleet_pool_daemon::egress::fuzz::url_policy),
    ("proxy_request", browserfleet_pool_daemon::egress::fuzz::proxy_request),
    ("config", browserfleet_common::fuzz::config),
];

/// Calls the reader of a target.
///
/// # Panics
/// When there is none of that name, and whenever the reader does.
pub fn run(name: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    let (_, target) = found.unwrap_or_else(|| panic!("there is no target {name}"));
    target(data);
}

/// Where the corpus of a target is.
pub fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name)
}
