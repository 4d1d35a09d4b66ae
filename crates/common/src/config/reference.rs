//! Settings as documentation shows them.

use serde::Serialize;

use super::about::{ABOUT, About};

/// A setting that a program has asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub key: &'static str,
    /// What it is where nobody sets it.
    pub default: String,
    /// What it may be.
    pub allowed: String,
    /// What it is for; empty where nobody has written that.
    pub what: &'static str,
    /// Why its default is what it is.
    pub why: &'static str,
}

impl Setting {
    pub(super) fn new(key: &'static str, default: String, allowed: String) -> Self {
        let about = ABOUT.iter().find(|about| about.key == key);
        let (what, why) = about.map_or(("", ""), |About { what, why, .. }| (what, why));
        let default = about.and_then(|about| about.default).map_or(default, str::to_owned);
        Self { key, default, allowed, what, why }
    }
}
