//! What came out: rows, the verdict on each target, a table for people, JSON for machines.

use std::{fmt::Write as _, fs};

use serde::Serialize;

use crate::stats::{Samples, Summary};

/// What ours must reach. Times are milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// At most this much.
    AtMost(f64),
    /// At least this much.
    AtLeast(f64),
    /// At most raw and this much more.
    RawPlus(f64),
    /// At most this many times raw.
    TimesRaw(f64),
    /// At least this many times raw.
    AtLeastTimesRaw(f64),
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// What `--only` selects it by.
    pub(crate) id: &'static str,
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) raw: Option<Summary>,
    pub(crate) ours: Option<Summary>,
    pub(crate) peer: Option<Summary>,
    /// Ours as a multiple of raw, by medians.
    pub(crate) ratio: Option<f64>,
    #[serde(skip)]
    target: Option<Target>,
    pub(crate) verdict: Option<Verdict>,
    /// What a reader must know.
    pub(crate) note: Option<String>,
}

/// Whether a target was reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) target: String,
    pub(crate) met: bool,
}

impl Row {
    pub(crate) fn new(id: &'static str, what: impl Into<String>, unit: &'static str) -> Self {
        Self {
            id,
            what: what.into(),
            unit,
            raw: None,
            ours: None,
            peer: None,
            ratio: None,
            target: None,
            verdict: None,
            note: None,
        }
    }

    pub(crate) fn target(mut self, target: impl Into<Option<Target>>) -> Self {
        self.target = target.into();
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Fills in what was measured of a contestant, by its name.
    pub(crate) fn measured(mut self, contestant: &str, samples: &Samples) -> Self {
        let cell = match contestant {
            "raw" => &mut self.raw,
            "ours" => &mut self.ours,
            _ => &mut self.peer,
        };
        *cell = samples.summary();
        self.judged()
    }

    fn judged(mut self) -> Self {
        let (raw, ours) = (self.raw.map(|raw| raw.median), self.ours.map(|ours| ours.median));
        self.ratio = raw.zip(ours).filter(|(raw, _)| *raw > 0.0).map(|(raw, ours)| ours / raw);
        self.verdict = self.target.zip(ours).and_then(|(target, ours)| target.judge(ours, raw, self.unit));
        self
    }
}

impl Target {
    /// `None` when it cannot be judged because raw is missing.
    fn judge(self, ours: f64, raw: Option<f64>, unit: &str) -> Option<Verdict> {
        let (target, met) = match self {
            Self::AtMost(most) => (format!("≤ {most} {unit}"), ours <= most),
            Self::AtLeast(least) => (format!("≥ {least}{unit}"), ours >= least),
            Self::RawPlus(more) => (format!("≤ raw + {more} {unit}"), ours <= raw? + more),
            Self::TimesRaw(times) => (format!("≤ {times} × raw"), ours <= raw? * times),
            Self::AtLeastTimesRaw(times) => (format!("≥ {times} × raw"), ours >= raw? * times),
        };
        Some(Verdict { target, met })
    }
}

/// The machine during the run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    pub(crate) chromium: String,
    pub(crate) peer: String,
    pub(crate) seconds: u64,
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
}

/// The load averages, as the kernel says them.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

impl Report {
    /// Whether every judged target was reached.
    pub(crate) fn met(&self) -> bool {
        self.rows.iter().filter_map(|row| row.verdict.as_ref()).all(|verdict| verdict.met)
    }

    /// The table, the verdicts and the machine.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let headings = ["", "unit", "raw p50/p95", "ours p50/p95", "peer p50/p95", "ours/raw", "target", ""];
        let mut lines = vec![headings.map(str::to_owned)];
        lines.extend(self.rows.iter().map(cells));
        let widths: Vec<usize> = (0..headings.len())
            .map(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0))
            .collect();
        for line in &lines {
            let padded: Vec<String> =
                line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
            // Writing to a String cannot fail.
            let _infallible = writeln!(text, "{}", padded.join("  ").trim_end());
        }
        for row in &self.rows {
            if let Some(note) = &row.note {
                let _infallible = writeln!(text, "{}: {note}", row.id);
            }
        }
        let Machine { cores, load_before, load_after, chromium, peer, seconds } = &self.machine;
        let _infallible = writeln!(
            text,
            "{cores} cores, load {load_before} before and {load_after} after, {seconds} s; {chromium}; {peer}"
        );
        text
    }
}

fn cells(row: &Row) -> [String; 8] {
    let verdict = row.verdict.as_ref();
    [
        row.what.clone(),
        row.unit.to_owned(),
        cell(row.raw),
        cell(row.ours),
        cell(row.peer),
        row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}")),
        verdict.map_or_else(String::new, |verdict| verdict.target.clone()),
        verdict.map_or_else(String::new, |verdict| if verdict.met { "met" } else { "MISSED" }.to_owned()),
    ]
}

fn cell(summary: Option<Summary>) -> String {
    match summary {
        None => "–".to_owned(),
        Some(Summary { n: 1, median, .. }) => number(median),
        Some(Summary { median, p95, .. }) => format!("{} / {}", number(median), number(p95)),
    }
}

/// Three digits or so: more would be noise.
fn number(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(target: Target, raw: Option<f64>, ours: f64) -> Option<bool> {
        target.judge(ours, raw, "ms").map(|verdict| verdict.met)
    }

    #[test]
    fn targets_are_judged_at_their_border() {
        assert_eq!(met(Target::AtMost(5.0), None, 5.0), Some(true));
        assert_eq!(met(Target::AtMost(5.0), None, 5.1), Some(false));
        assert_eq!(met(Target::AtLeast(4000.0), None, 4000.0), Some(true));
        assert_eq!(met(Target::AtLeast(4000.0), None, 3999.0), Some(false));
        assert_eq!(met(Target::RawPlus(0.5), Some(1.0), 1.5), Some(true));
        assert_eq!(met(Target::RawPlus(0.5), Some(1.0), 1.6), Some(false));
        assert_eq!(met(Target::TimesRaw(1.5), Some(2.0), 3.0), Some(true));
        assert_eq!(met(Target::TimesRaw(1.5), Some(2.0), 3.1), Some(false));
        assert_eq!(met(Target::AtLeastTimesRaw(0.5), Some(4.0), 2.0), Some(true));
        assert_eq!(met(Target::AtLeastTimesRaw(0.5), Some(4.0), 1.9), Some(false));
    }

    #[test]
    fn a_ratio_without_raw_is_no_verdict() {
        assert_eq!(met(Target::TimesRaw(1.5), None, 3.0), None);
        let row = Row::new("x", "x", "ms").target(Target::TimesRaw(1.5)).measured("ours", &Samples::one(3.0));
        assert_eq!((row.verdict, row.ratio), (None, None));
    }

    #[test]
    fn a_row_is_judged_by_its_medians_in_whatever_order_they_come() {
        let row = Row::new("x", "x", "ms").target(Target::TimesRaw(1.5));
        let row = row.measured("ours", &Samples::one(4.0)).measured("raw", &Samples::one(2.0));
        assert_eq!(row.ratio, Some(2.0));
        assert!(!row.verdict.unwrap().met);
    }

    #[test]
    fn the_table_says_what_was_missed() {
        let row = Row::new("x", "evaluate", "ms").target(Target::AtMost(1.0)).measured("ours", &Samples::one(2.0));
        let machine = Machine {
            cores: 2,
            load_before: "0 0 0".to_owned(),
            load_after: "1 0 0".to_owned(),
            chromium: "Chromium".to_owned(),
            peer: "none".to_owned(),
            seconds: 1,
        };
        let report = Report { machine, rows: vec![row] };
        assert!(!report.met());
        assert!(report.table().contains("MISSED"), "{}", report.table());
    }
}
