//! What is said of a series of measurements.

use serde::Serialize;
use tokio::time::Duration;

/// Measurements of one row and contestant, in the row's unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Samples(Vec<f64>);

/// A series in five numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) n: usize,
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub p95: f64,
    pub(crate) max: f64,
}

impl Samples {
    pub(crate) fn one(value: f64) -> Self {
        Self(vec![value])
    }

    pub(crate) fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds a duration in milliseconds.
    pub(crate) fn add_time(&mut self, took: Duration) {
        self.add(took.as_secs_f64() * 1e3);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds another series.
    pub(crate) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The value that this share of the series does not exceed; `None` without any measurement.
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        let sorted = self.sorted();
        (!sorted.is_empty()).then(|| quantile(&sorted, q))
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    /// `None` without any measurement.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let sorted = self.sorted();
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        Some(Summary { n: sorted.len(), min, median: quantile(&sorted, 0.5), p95: quantile(&sorted, 0.95), max })
    }
}

/// A quantile of a sorted, non-empty series, interpolated between its neighbours.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "places in a series of thousands at most"
)]
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_measured_says_nothing() {
        assert_eq!(Samples::default().summary(), None);
    }

    #[test]
    fn one_measurement_is_all_there_is() {
        let summary = Samples::one(3.0).summary().unwrap();
        assert_eq!(summary, Summary { n: 1, min: 3.0, median: 3.0, p95: 3.0, max: 3.0 });
    }

    #[test]
    fn quantiles_do_not_depend_on_the_order_and_lie_between_neighbours() {
        let mut samples = Samples::default();
        for value in [40.0, 10.0, 30.0, 20.0] {
            samples.add(value);
        }
        let summary = samples.summary().unwrap();
        assert!((summary.median - 25.0).abs() < 1e-9);
        assert!((summary.p95 - 38.5).abs() < 1e-9);
        assert!(summary.min < 11.0 && summary.max > 39.0);
        assert_eq!((samples.quantile(1.0), Samples::default().quantile(0.5)), (Some(40.0), None));
    }

    #[test]
    fn times_are_milliseconds() {
        let mut samples = Samples::default();
        samples.add_time(Duration::from_micros(1500));
        assert!((samples.summary().unwrap().median - 1.5).abs() < 1e-9);
    }
}
