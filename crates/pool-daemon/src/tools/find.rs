//! Finding lines of the snapshot without sending all of it.

use std::{fmt::Write as _, ops::Range};

use browserfleet_tools::Find;
use regex::{Regex, RegexBuilder};

use super::{Call, Registry, Reply, ToolResult, reply::quoted};
use crate::{failure::Failure, page::SnapshotOptions};

/// Lines shown before and after one that matches.
const AROUND: usize = 3;

/// Most bytes of what is shown.
const MAX_BYTES: usize = 32 << 10;

/// Most memory of a compiled pattern, in bytes.
const MAX_PATTERN: usize = 1 << 20;

pub(super) fn register(registry: &mut Registry) {
    registry.add(find);
}

async fn find(call: Call, arguments: Find) -> ToolResult {
    let Find { text, regex, filename: _ } = arguments;
    let given = |pattern: Option<String>| pattern.filter(|pattern| !pattern.is_empty());
    let (shown, pattern) = match (given(text), given(regex)) {
        (Some(_), Some(_)) => return Err(Failure::invalid("Provide only one of \"text\" or \"regex\", not both.")),
        (None, None) => return Err(Failure::invalid("Provide either \"text\" or \"regex\" to search for.")),
        (Some(text), None) => (format!("\"{text}\""), literal(&text)?),
        (None, Some(regex)) => {
            let shown = if regex.starts_with('/') { regex.clone() } else { format!("/{regex}/") };
            (shown, javascript(&regex)?)
        }
    };
    if !call.page.arrived(call.within(call.times.action)).await {
        return Ok(Reply::new().still_loading(&call.page.document()));
    }
    let shot = call.page.snapshot(&SnapshotOptions::default(), call.within(call.times.action)).await?;
    let found = search(&shot.text, &pattern);
    Ok(Reply::new().result(match found.matches {
        0 => format!("No matches found for {shown}."),
        1 => format!("Found 1 match for {shown}:\n\n{}", found.text),
        matches => format!("Found {matches} matches for {shown}:\n\n{}", found.text),
    }))
}

fn literal(text: &str) -> Result<Regex, Failure> {
    compile(RegexBuilder::new(&regex::escape(text)).case_insensitive(true))
}

/// A regular expression as an agent writes it: bare, or `/between slashes/` with flags.
pub(super) fn javascript(text: &str) -> Result<Regex, Failure> {
    let (pattern, flags) = match text.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) {
        Some((pattern, flags)) => (pattern, flags),
        None => (text, ""),
    };
    let mut builder = RegexBuilder::new(pattern);
    for flag in flags.chars() {
        match flag {
            'i' => builder.case_insensitive(true),
            'm' => builder.multi_line(true),
            's' => builder.dot_matches_new_line(true),
            // They change nothing when the question is whether a line matches.
            'g' | 'u' | 'v' | 'y' | 'd' => &mut builder,
            other => {
                return Err(Failure::invalid(format!(
                    "{} is no flag of a regular expression",
                    quoted(&other.to_string())
                )));
            }
        };
    }
    compile(&builder)
}

fn compile(builder: &RegexBuilder) -> Result<Regex, Failure> {
    builder.clone().size_limit(MAX_PATTERN).build().map_err(|error| {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Failure::invalid(format!(
            "the regular expression is not understood: {why}. Look-around and back-references are not supported"
        ))
    })
}

struct Found {
    matches: usize,
    text: String,
}

/// The lines that match with those around them, each run of them under its way from the root.
fn search(snapshot: &str, pattern: &Regex) -> Found {
    let lines: Vec<&str> = snapshot.lines().collect();
    let matching: Vec<usize> = (0..lines.len()).filter(|&index| pattern.is_match(lines[index])).collect();
    let mut runs: Vec<Range<usize>> = Vec::new();
    for index in &matching {
        let (start, end) = (index.saturating_sub(AROUND), lines.len().min(index + AROUND + 1));
        match runs.last_mut().filter(|run| start <= run.end) {
            Some(run) => run.end = end,
            None => runs.push(start..end),
        }
    }
    let (mut text, mut left) = (String::new(), 0);
    for run in runs {
        let shown: Vec<&str> = parents(&lines, run.start).into_iter().chain(lines[run].iter().copied()).collect();
        let snippet = shown.join("\n");
        if text.len() + snippet.len() > MAX_BYTES {
            left += 1;
            continue;
        }
        if !text.is_empty() {
            text.push_str("\n\n----\n\n");
        }
        text.push_str(&snippet);
    }
    if left > 0 {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "\n\n{left} more places are not shown; look for something rarer");
    }
    Found { matches: matching.len(), text }
}

/// The lines a line is in, from the root.
fn parents<'a>(lines: &[&'a str], of: usize) -> Vec<&'a str> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let (mut found, mut depth) = (Vec::new(), indent(lines[of]));
    for line in lines[..of].iter().rev() {
        if indent(line) < depth {
            depth = indent(line);
            found.push(*line);
        }
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "- generic [ref=e1]:\n  - heading \"Home\" [ref=e2]\n  - paragraph [ref=e3]: Welcome\n  - link \"Go\" [ref=e4]:\n    \
                        - /url: /go\n  - button \"Plain\" [ref=e5]\n  - list [ref=e6]:\n    - listitem [ref=e7]: alpha\n    \
                        - listitem [ref=e8]: beta\n    - listitem [ref=e9]: gamma\n  - link \"More\" [ref=e10]:\n    - /url: /more\n  - img \"pic\"";

    #[test]
    fn a_match_is_shown_with_its_surroundings_and_its_parents() {
        let found = search(PAGE, &literal("BETA").unwrap());
        assert_eq!(found.matches, 1);
        assert_eq!(
            found.text,
            "- generic [ref=e1]:\n  - button \"Plain\" [ref=e5]\n  - list [ref=e6]:\n    - listitem [ref=e7]: alpha\n    \
             - listitem [ref=e8]: beta\n    - listitem [ref=e9]: gamma\n  - link \"More\" [ref=e10]:\n    - /url: /more"
        );
    }

    #[test]
    fn a_line_deep_inside_is_shown_with_every_parent() {
        let deep = "- a:\n  - x\n  - b:\n    - c:\n      - d:\n        - one\n        - two\n        - three\n        - four\n        - five";
        let found = search(deep, &literal("five").unwrap());
        assert_eq!(
            found.text,
            "- a:\n  - b:\n    - c:\n      - d:\n        - two\n        - three\n        - four\n        - five"
        );
    }

    #[test]
    fn places_that_are_far_apart_are_shown_apart() {
        let page: Vec<_> = (0..20).map(|n| format!("- line {n:02}")).collect();
        let found = search(&page.join("\n"), &javascript("line (02|15)").unwrap());
        assert_eq!(found.matches, 2);
        let (first, second) = found.text.split_once("\n\n----\n\n").unwrap();
        assert!(first.starts_with("- line 00") && first.ends_with("- line 05"), "{first}");
        assert!(second.starts_with("- line 12") && second.ends_with("- line 18"), "{second}");
    }

    #[test]
    fn patterns_are_javascripts() {
        assert!(javascript("/go SECOND/i").unwrap().is_match("Go second"));
        assert!(!javascript("alpha|gamma").unwrap().is_match("Alpha"));
        assert!(javascript("(?=x)").unwrap_err().message.contains("Look-around"));
        assert!(javascript("/x/q").is_err() && javascript("([").is_err());
    }
}
