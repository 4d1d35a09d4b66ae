//! What can be measured, and how it is told apart: by one or two labels with few values.

use std::{sync::atomic::Ordering, time::Duration};

use prometheus_client::metrics::{counter::Counter, exemplar::HistogramWithExemplars, family::Family, gauge::Gauge};

use crate::telemetry::trace_id;

/// What things are told apart by: labels and their values.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// Something that only rises.
#[derive(Debug)]
pub struct Count<const N: usize = 1> {
    labels: [&'static str; N],
    pub(super) family: Family<Labels<N>, Counter>,
}

impl<const N: usize> Count<N> {
    pub(super) fn new(labels: [&'static str; N]) -> Self {
        Self { labels, family: Family::default() }
    }

    /// Shows that there has been none so far. Whoever watches for a rise does not see the first event of a count that begins with it.
    pub fn begin(&self, values: impl Values<N>) {
        self.add_many(values, 0);
    }

    /// Counts one more.
    pub fn add(&self, values: impl Values<N>) {
        self.family.get_or_create(&named(self.labels, values)).inc();
    }

    /// Counts so many more.
    pub fn add_many(&self, values: impl Values<N>, many: u64) {
        self.family.get_or_create(&named(self.labels, values)).inc_by(many);
    }

    /// For what somebody else counts: there have been so many by now.
    pub fn reach(&self, values: impl Values<N>, total: u64) {
        self.family.get_or_create(&named(self.labels, values)).inner().fetch_max(total, Ordering::Relaxed);
    }

    /// How many there have been.
    pub fn get(&self, values: impl Values<N>) -> u64 {
        self.family.get_or_create(&named(self.labels, values)).get()
    }
}

/// Something that goes up and down.
#[derive(Debug)]
pub struct Level {
    labels: [&'static str; 1],
    pub(super) family: Family<Labels<1>, Gauge>,
}

impl Level {
    pub(super) fn new(labels: [&'static str; 1]) -> Self {
        Self { labels, family: Family::default() }
    }

    pub fn set(&self, value: &'static str, level: impl TryInto<i64>) {
        self.family.get_or_create(&named(self.labels, value)).set(level.try_into().unwrap_or(i64::MAX));
    }
}

/// How long something took.
#[derive(Debug)]
pub struct Times {
    labels: [&'static str; 1],
    pub(super) family: Family<Labels<1>, Exemplified, fn() -> Exemplified>,
}

/// Times with the trace that the last one in each bucket was measured in, if there was one.
type Exemplified = HistogramWithExemplars<[(&'static str, String); 1]>;

impl Times {
    /// In seconds: fine where a round trip to a neighbour is, and up to the longest that anybody waits for a page.
    const BUCKETS: [f64; 14] =
        [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0, 60.0];

    pub(super) fn new(labels: [&'static str; 1]) -> Self {
        Self { labels, family: Family::new_with_constructor(|| Exemplified::new(Self::BUCKETS.into_iter())) }
    }

    /// Counts one more.
    pub fn observe(&self, value: &'static str, took: Duration) {
        let example = trace_id().map(|id| [("trace_id", id)]);
        self.family.get_or_create(&named(self.labels, value)).observe(took.as_secs_f64(), example, None);
    }
}

/// The values of so many labels: one by itself, or all of them.
pub trait Values<const N: usize> {
    fn values(self) -> [&'static str; N];
}

impl Values<1> for &'static str {
    fn values(self) -> [&'static str; 1] {
        [self]
    }
}

impl<const N: usize> Values<N> for [&'static str; N] {
    fn values(self) -> [&'static str; N] {
        self
    }
}

fn named<const N: usize>(labels: [&'static str; N], values: impl Values<N>) -> Labels<N> {
    let values = values.values();
    std::array::from_fn(|at| (labels[at], values[at]))
}
