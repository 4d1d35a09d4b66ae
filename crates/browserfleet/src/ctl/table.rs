//! Rows for people.

use std::{borrow::Cow, fmt};

use serde_json::Value;

/// What parts columns.
const GAP: usize = 2;
/// A column that holds a time in seconds ends so. People read it with a unit.
const SECONDS: &str = "_seconds";

/// Rows under a heading, in columns as wide as they must be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The members of objects that are named, in that order; `a.b` is a member of a member.
    pub(super) fn of(columns: &[&str], objects: &[Value]) -> Self {
        let heading = |column: &&str| column.trim_end_matches(SECONDS).replace(['.', '_'], " ").to_uppercase();
        let row = |object: &Value| columns.iter().map(|column| cell(object, column)).collect();
        let rows = std::iter::once(columns.iter().map(heading).collect()).chain(objects.iter().map(row)).collect();
        Self { rows }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = width + GAP));
            writeln!(f, "{}", cells.collect::<String>().trim_end())?;
        }
        Ok(())
    }
}

fn cell(object: &Value, column: &str) -> String {
    let value = column.split('.').fold(object, |value, member| &value[member]);
    let text: Cow<'_, str> = match value {
        Value::Number(number) if column.ends_with(SECONDS) => short(number.as_f64().unwrap_or_default()).into(),
        Value::Null => "-".into(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => text.into(),
        Value::Array(items) if items.is_empty() => "-".into(),
        Value::Array(items) => {
            items.iter().map(|item| item.as_str().unwrap_or("?")).collect::<Vec<_>>().join(",").into()
        }
        other => other.to_string().into(),
    };
    // What clients say of themselves is shown on a terminal.
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A time in one unit: people compare, they do not compute.
fn short(seconds: f64) -> String {
    match seconds {
        ..120.0 => format!("{seconds:.0}s"),
        ..7200.0 => format!("{:.0}m", seconds / 60.0),
        _ => format!("{:.1}h", seconds / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [
            json!({ "lease": "l-1", "client": { "name": "a\u{1b}[31m" }, "age_seconds": 7200, "running": ["x", "y"] }),
            json!({ "lease": "lease-22", "client": null, "age_seconds": 3.4, "running": [] }),
        ];
        let table = Table::of(&["lease", "client.name", "age_seconds", "running"], &rows).to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "LEASE     CLIENT NAME  AGE   RUNNING",
                "l-1       a?[31m       2.0h  x,y",
                "lease-22  -            3s    -",
            ]
        );
    }

    #[test]
    fn without_rows_there_is_a_heading() {
        assert_eq!(Table::of(&["lease"], &[]).to_string(), "LEASE\n");
    }
}
