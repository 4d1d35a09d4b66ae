//! Metrics: the one list of them, and their page in the `OpenMetrics` format that Prometheus reads.
//!
//! They belong to the process: `metrics().launches.add("ok")` works everywhere. Each has one label with few values; none
//! names a principal, a session or a URL.

use std::{
    sync::{LazyLock, atomic::Ordering},
    time::Duration,
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::telemetry;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What things are counted by: the label's name and its value.
type Label = [(&'static str, &'static str); 1];

/// Something that only rises, counted by one label.
#[derive(Debug)]
pub struct Count {
    label: &'static str,
    family: Family<Label, Counter>,
}

impl Count {
    /// Counts one more.
    pub fn add(&self, value: &'static str) {
        self.family.get_or_create(&[(self.label, value)]).inc();
    }

    /// For what somebody else counts: there have been so many by now.
    pub fn reach(&self, value: &'static str, total: u64) {
        self.family.get_or_create(&[(self.label, value)]).inner().fetch_max(total, Ordering::Relaxed);
    }

    /// Counts so many more.
    pub fn add_many(&self, value: &'static str, many: u64) {
        self.family.get_or_create(&[(self.label, value)]).inc_by(many);
    }

    /// How many there have been.
    pub fn get(&self, value: &'static str) -> u64 {
        self.family.get_or_create(&[(self.label, value)]).get()
    }
}

/// Something that goes up and down, told apart by one label.
#[derive(Debug)]
pub struct Level {
    label: &'static str,
    family: Family<Label, Gauge>,
}

impl Level {
    pub fn set(&self, value: &'static str, level: usize) {
        self.family.get_or_create(&[(self.label, value)]).set(i64::try_from(level).unwrap_or(i64::MAX));
    }
}

/// How long something took.
#[derive(Debug)]
pub struct Times {
    histogram: Histogram,
}

impl Times {
    /// Fine where a round trip to a neighbour is, and up to the longest that anybody waits.
    const BUCKETS: [f64; 10] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];

    fn new() -> Self {
        Self { histogram: Histogram::new(Self::BUCKETS) }
    }

    /// Counts one more.
    pub fn observe(&self, took: Duration) {
        self.histogram.observe(took.as_secs_f64());
    }
}

macro_rules! metrics {
    (
        $($kind:ident $field:ident by $label:literal = $name:literal: $text:literal;)+
        $(@times $times:ident = $times_name:literal: $times_text:literal;)+
    ) => {
        /// Every metric there is.
        #[derive(Debug)]
        #[expect(clippy::doc_markdown, reason = "the texts are Prometheus' help texts too, which are plain")]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $text] pub $field: $kind,)+
            $(#[doc = $times_text] pub $times: Times,)+
        }

        impl Metrics {
            fn new() -> Self {
                let mut registry = Registry::default();
                $(
                    let $field = $kind { label: $label, family: Family::default() };
                    registry.register($name, $text, $field.family.clone());
                )+
                $(
                    let $times = Times::new();
                    registry.register_with_unit($times_name, $times_text, Unit::Seconds, $times.histogram.clone());
                )+
                Self { registry, $($field,)+ $($times,)+ }
            }
        }
    };
}

// Counters get their `_total` from the encoder.
metrics! {
    Count invariant_violations by "invariant" = "browserfleet_invariant_violations":
        "Broken invariants of the pool; each cost its slot. Alert at 1";
    Count launches by "outcome" = "browserfleet_browser_launches": "Launches of browsers: ok, failed";
    Count ends by "outcome" = "browserfleet_browser_ends":
        "Browsers that were ended: gone (its processes are verified gone) or left (some could not be ended)";
    Count deaths by "code" = "browserfleet_browser_deaths":
        "Browsers that died, or were ended because they were not sound any more";
    Count grants by "kind" = "browserfleet_leases_granted": "Leases granted: process (a browser of its own) or context";
    Count refusals by "code" = "browserfleet_acquire_refusals": "Callers who got no browser";
    Level browsers by "state" = "browserfleet_browsers": "Browsers: starting, idle, leased, draining, killing, poisoned";
    Level queue by "state" = "browserfleet_queue": "Callers who wait for a browser: waiting";
    Count recoveries by "step" = "browserfleet_page_recoveries":
        "Pages that did not answer, by the step that helped: dialog, script, loading, blank, replaced, none";
    Count frames_skipped by "reason" = "browserfleet_cdp_frames_skipped":
        "Messages from browsers that were dropped: too_large, malformed, unknown_id";
    Level daemons by "state" = "browserfleet_daemons":
        "Pool daemons of a front end: known (all of them), of which in_service take new leases and ejected have failed too \
         often to be asked for a while; the others are silent, draining or cannot start browsers";
    Count log_lines by "outcome" = "browserfleet_log_lines":
        "Log lines that were not written: dropped (nobody reads them fast enough)";
    Count egress_requests by "outcome" = "browserfleet_egress_requests":
        "What browsers asked their egress proxies for: ok, blocked (by policy), failed, foreign (it was not the browser)";
    Count egress_bytes by "direction" = "browserfleet_egress_bytes":
        "Bytes between browsers and the outside: sent, received; of every lease together";
    Count unauthenticated by "reason" = "browserfleet_unauthenticated_requests":
        "Requests whose key does not let them in: no_token, bad_token, in_query";
    Count throttled by "limit" = "browserfleet_throttled_requests":
        "Requests whose key lets them in, but not yet: per_second (more of them than it may)";
    Count key_files by "outcome" = "browserfleet_key_files_read":
        "Times a changed file of API keys was read: ok, or failed (the keys stay as they were). Alert at failed";
    Count store_requests by "outcome" = "browserfleet_store_requests":
        "Questions to Redis: ok, late (no answer in time) or failed. Alert when the latter two rise";
    Count store_connections by "outcome" = "browserfleet_store_connections":
        "Connections to Redis: made for questions, bus (made to listen; more than one of either: it was lost), or failed";
    Level kept by "what" = "browserfleet_kept":
        "What is kept in this process or its state directory: sessions (those that have lapsed and can be restored, too), \
         artifacts, checkpoints";
    Count pages_closed by "reason" = "browserfleet_pages_closed": "Pages closed by us, not by their session: too_many";
    @times store_seconds = "browserfleet_store_request_duration": "How long Redis took to answer";
}

impl Metrics {
    /// The page, in the `OpenMetrics` text format.
    pub fn render(&self) -> String {
        self.log_lines.reach("dropped", telemetry::dropped_lines());
        let mut page = String::new();
        encode(&mut page, &self.registry).expect("a String takes every text");
        page
    }
}

/// The metrics of this process.
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_was_counted() {
        let metrics = Metrics::new();
        metrics.launches.add("ok");
        metrics.launches.add("ok");
        metrics.browsers.set("idle", 2);
        for total in [3, 5, 4] {
            metrics.frames_skipped.reach("malformed", total);
        }
        let page = metrics.render();
        assert!(page.contains("browserfleet_browser_launches_total{outcome=\"ok\"} 2"), "{page}");
        assert!(page.contains("browserfleet_browsers{state=\"idle\"} 2"), "{page}");
        assert!(page.contains("browserfleet_log_lines_total{outcome=\"dropped\"} 0"), "{page}");
        assert_eq!((metrics.launches.get("ok"), metrics.frames_skipped.get("malformed")), (2, 5));
    }
}
