//! Metrics: the one list of them, and their page in the `OpenMetrics` format that Prometheus reads.
//!
//! They belong to the process: `metrics().launches.add("ok")` works everywhere. Their labels have few values; none names a
//! principal, a session or a URL.

mod kinds;

use std::sync::LazyLock;

use prometheus_client::{
    encoding::text::encode,
    registry::{Registry, Unit},
};

pub use self::kinds::{Count, Level, Times};
use crate::telemetry;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

macro_rules! metrics {
    (
        $($kind:ident $(<$labels:literal>)? $field:ident by $($label:literal),+ = $name:literal: $text:literal;)+
        $(@times $times:ident by $of:literal = $times_name:literal: $times_text:literal;)+
    ) => {
        /// Every metric there is.
        #[derive(Debug)]
        #[expect(clippy::doc_markdown, reason = "the texts are Prometheus' help texts too, which are plain")]
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $text] pub $field: $kind $(<$labels>)?,)+
            $(#[doc = $times_text] pub $times: Times,)+
        }

        impl Metrics {
            fn empty() -> Self {
                let mut registry = Registry::default();
                $(
                    let $field = $kind::new([$($label),+]);
                    registry.register($name, $text, $field.family.clone());
                )+
                $(
                    let $times = Times::new([$of]);
                    registry.register_with_unit($times_name, $times_text, Unit::Seconds, $times.family.clone());
                )+
                Self { registry, $($field,)+ $($times,)+ }
            }
        }
    };
}

// Counters get their `_total` from the encoder, times their `_seconds`.
metrics! {
    Count<2> calls by "tool", "outcome" = "browserfleet_calls":
        "Calls of tools that have ended, on a front end: ok, or the code of their error";
    Count reply_bytes by "kind" = "browserfleet_reply_bytes":
        "Bytes of replies: text (structured forms come on top) or picture, before they are encoded";
    Count replies_cut by "how" = "browserfleet_replies_cut":
        "Replies that were larger than their budget: paged (they go on behind a cursor), or lost (of a task whose session ended with it)";
    Count artifacts by "kind" = "browserfleet_artifacts_kept":
        "What replies left behind for later: text (the rest of one that was cut), or file (pictures, PDFs, downloads)";
    Level sessions by "state" = "browserfleet_sessions":
        "Sessions of all front ends that share a store: open. Ask any one of them, do not add them up";
    Level connections by "state" = "browserfleet_mcp_connections":
        "Connections of legacy clients, of all front ends that share a store: open";
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
    Level leases by "state" = "browserfleet_leases":
        "Leases: bound, or unbound (granted, and not confirmed yet; they lapse soon)";
    Level browser_memory by "of" = "browserfleet_browser_memory_bytes":
        "Resident memory of browsers with their children, shared pages counted in each: all of them, and the largest one";
    Level processes by "state" = "browserfleet_processes":
        "Children of a daemon, by birth or adoption: live, or zombie (ended, and not reaped yet; a few for a moment are well)";
    Level queue by "state" = "browserfleet_queue": "Callers who wait for a browser: waiting";
    Level queue_age by "of" = "browserfleet_queue_age_seconds": "How long callers have been waiting for a browser: oldest";
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
        "Requests that are not let in: no_token, bad_token (a key or token that is not good), in_query, or issuer_away (tokens \
         cannot be checked now)";
    Count audit_entries by "outcome" = "browserfleet_audit_entries":
        "Calls for the audit trail: written, or lost (the file could not be written). Alert at lost";
    Count throttled by "limit" = "browserfleet_throttled_requests":
        "Requests that are let in, but not yet: per_second (more of them than their key or token may), upload or download (more \
         bytes of files in an hour)";
    Count<2> file_reads by "file", "outcome" = "browserfleet_files_read":
        "Times a changed file was read, keys, certificate or authorities (of Redis): ok, or failed (what it held before goes on). Alert at failed";
    Count tokens by "outcome" = "browserfleet_access_tokens":
        "Access tokens looked at: ok, or what is wrong: malformed, algorithm, key (nobody knows it), signature, issuer, audience, \
         expired, early (not valid yet), claims";
    Count issuer_fetches by "outcome" = "browserfleet_issuer_fetches":
        "Times the keys of the issuer of access tokens were read: ok, or failed (those of before hold for a while). Alert at failed";
    Count store_requests by "outcome" = "browserfleet_store_requests":
        "Questions to Redis: ok, late (no answer in time) or failed. Alert when the latter two rise";
    Count store_connections by "outcome" = "browserfleet_store_connections":
        "Connections to Redis: made for questions, bus (made to listen; more than one of either: it was lost), or failed";
    Level kept by "what" = "browserfleet_kept":
        "What is kept in this process or its state directory: sessions (those that have lapsed and can be restored, too), \
         artifacts, checkpoints";
    Count pages_closed by "reason" = "browserfleet_pages_closed": "Pages closed by us, not by their session: too_many";
    @times call_seconds by "tool" = "browserfleet_call_duration": "How long calls of tools took, on a front end";
    @times pool_seconds by "rpc" = "browserfleet_pool_request_duration":
        "How long daemons took to answer a front end: acquire (waiting included), renew, release, status, leases";
    @times grant_seconds by "kind" = "browserfleet_lease_grant_duration":
        "How long callers waited for a lease: process or context";
    @times launch_seconds by "outcome" = "browserfleet_browser_launch_duration": "How long launches of browsers took: ok, failed";
    @times store_seconds by "outcome" = "browserfleet_store_request_duration": "How long Redis took to answer: ok, late, failed";
}

impl Metrics {
    fn new() -> Self {
        let metrics = Self::empty();
        // What deploy/alerts.yml watches for a rise.
        metrics.launches.begin("failed");
        for file in ["keys", "certificate", "authorities"] {
            metrics.file_reads.begin([file, "failed"]);
        }
        metrics.issuer_fetches.begin("failed");
        metrics.audit_entries.begin("lost");
        metrics
    }

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
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_alerts_watch_for_a_rise_is_there_from_the_start() {
        let page = Metrics::new().render();
        let rises = include_str!("../../../../deploy/alerts.yml").split("increase(").skip(1);
        let watched: Vec<&str> = rises.filter_map(|rise| rise.split_once('[')).map(|(series, _)| series).collect();
        let (fixed, others): (Vec<&str>, Vec<&str>) = watched.into_iter().partition(|series| series.contains('{'));
        assert!(fixed.len() >= 5, "{fixed:?} and {others:?}");
        for series in fixed {
            // A series may have more labels than an alert asks for.
            let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
            let is_it = |line: &str| line.starts_with(name) && line.contains(labels) && line.ends_with("} 0");
            assert!(page.lines().any(is_it), "{series}\n{page}");
        }
    }

    #[test]
    fn the_page_shows_what_was_counted() {
        let metrics = Metrics::new();
        metrics.launches.add("ok");
        metrics.launches.add("ok");
        metrics.browsers.set("idle", 2);
        for total in [3, 5, 4] {
            metrics.frames_skipped.reach("malformed", total);
        }
        metrics.calls.add(["browser_click", "ok"]);
        metrics.call_seconds.observe("browser_click", Duration::from_millis(3));
        let page = metrics.render();
        assert!(page.contains("browserfleet_calls_total{tool=\"browser_click\",outcome=\"ok\"} 1"), "{page}");
        let within = "browserfleet_call_duration_seconds_bucket{le=\"0.005\",tool=\"browser_click\"} 1";
        assert!(page.contains(within), "{page}");
        assert!(page.contains("browserfleet_browser_launches_total{outcome=\"ok\"} 2"), "{page}");
        assert!(page.contains("browserfleet_browsers{state=\"idle\"} 2"), "{page}");
        assert!(page.contains("browserfleet_log_lines_total{outcome=\"dropped\"} 0"), "{page}");
        assert_eq!((metrics.launches.get("ok"), metrics.frames_skipped.get("malformed")), (2, 5));
    }
}
