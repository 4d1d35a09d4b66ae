//! Finding lines of the snapshot without sending all of it.

use std::{fmt::Write as _, ops::Range};

use browserfleet_tools::Find;
use regex::{Regex, RegexBuilder};
use serde_json::json;

use super::{Call, Registry, Reply, ToolResult, reply::quoted};
use crate::{
    failure::Failure,
    page::{SnapshotOptions, is_ref},
};

/// Lines shown before and after one that matches, unless the call says how many, and at most.
const AROUND: u32 = 3;
const AROUND_MAX: u32 = 20;

/// Most refs that are listed for programs.
const MAX_REFS: usize = 100;

/// Most bytes of what is shown.
const MAX_BYTES: usize = 32 << 10;

/// Most memory of a compiled pattern, in bytes.
const MAX_PATTERN: usize = 1 << 20;

pub(super) fn register(registry: &mut Registry) {
    registry.add(find);
}

async fn find(call: Call, arguments: Find) -> ToolResult {
    let Find { text, regex, context, filename: _ } = arguments;
    let around = context.unwrap_or(AROUND).min(AROUND_MAX) as usize;
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
    let Found { matches, refs, text } = search(&shot.text, &pattern, around);
    let told = match matches {
        0 => format!("No matches found for {shown}."),
        1 => format!("Found 1 match for {shown}:\n\n{text}"),
        matches => format!("Found {matches} matches for {shown}:\n\n{text}"),
    };
    Ok(Reply::new().result(told).structured(json!({ "matches": matches, "refs": refs })))
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
    /// Lines that match, shown or not.
    matches: usize,
    /// Refs of the first of them.
    refs: Vec<String>,
    text: String,
}

/// The lines that match with those around them, each run of them under its way from the root.
fn search(snapshot: &str, pattern: &Regex, around: usize) -> Found {
    let lines: Vec<&str> = snapshot.lines().collect();
    let matching: Vec<usize> = (0..lines.len()).filter(|&index| pattern.is_match(lines[index])).collect();
    let mut runs: Vec<Range<usize>> = Vec::new();
    for index in &matching {
        let (start, end) = (index.saturating_sub(around), lines.len().min(index + around + 1));
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
    let refs = matching.iter().filter_map(|&index| ref_in(lines[index])).map(str::to_owned).take(MAX_REFS).collect();
    Found { matches: matching.len(), refs, text }
}

/// The ref that a line shows: among the marks behind role and name, where no word of the page stands.
fn ref_in(line: &str) -> Option<&str> {
    let line = line.trim_start().strip_prefix("- ")?;
    let line = line.strip_prefix('\'').unwrap_or(line);
    let (_role, mut rest) = line.split_at(line.find(' ')?);
    if let Some(name) = rest.strip_prefix(" \"") {
        let mut escaped = false;
        let end = name.find(|character| {
            let ends = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            ends
        })?;
        rest = &name[end + 1..];
    }
    while let Some((mark, behind)) = rest.strip_prefix(" [")?.split_once(']') {
        if let Some(found) = mark.strip_prefix("ref=") {
            return Some(found).filter(|found| is_ref(found));
        }
        rest = behind;
    }
    None
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
        let found = search(PAGE, &literal("BETA").unwrap(), 3);
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
        let found = search(deep, &literal("five").unwrap(), 3);
        assert_eq!(
            found.text,
            "- a:\n  - b:\n    - c:\n      - d:\n        - two\n        - three\n        - four\n        - five"
        );
    }

    #[test]
    fn places_that_are_far_apart_are_shown_apart() {
        let page: Vec<_> = (0..20).map(|n| format!("- line {n:02}")).collect();
        let found = search(&page.join("\n"), &javascript("line (02|15)").unwrap(), 3);
        assert_eq!(found.matches, 2);
        let (first, second) = found.text.split_once("\n\n----\n\n").unwrap();
        assert!(first.starts_with("- line 00") && first.ends_with("- line 05"), "{first}");
        assert!(second.starts_with("- line 12") && second.ends_with("- line 18"), "{second}");
    }

    #[test]
    fn as_many_lines_are_shown_around_a_match_as_were_asked_for() {
        let found = search(PAGE, &literal("beta").unwrap(), 0);
        assert_eq!(found.text, "- generic [ref=e1]:\n  - list [ref=e6]:\n    - listitem [ref=e8]: beta");
        assert_eq!(found.refs, ["e8"]);
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let page: Vec<_> =
            (0..3000).map(|n| format!("- button \"Number {n} [ref=e0]\" [ref=e{n}]\n- text: x\n- text: y")).collect();
        let found = search(&page.join("\n"), &literal("number").unwrap(), 0);
        assert_eq!((found.matches, found.refs.len()), (3000, MAX_REFS));
        assert!(
            found.text.len() < MAX_BYTES + 200
                && found.text.ends_with("more places are not shown; look for something rarer")
        );
    }

    #[test]
    fn refs_are_not_those_that_a_page_writes() {
        assert_eq!(ref_in("  - button \"a [ref=e1] \\\" [ref=e2]\" [active] [ref=f3e4]: [ref=e5]"), Some("f3e4"));
        assert_eq!(ref_in("- 'cell \"a: b\" [ref=e7]': x"), Some("e7"));
        assert_eq!(ref_in("- generic [ref=e7] [cursor=pointer]:"), Some("e7"));
        for none in
            ["- text: a [ref=e1]", "- /url: x [ref=e1]", "- option \"a\": b [ref=e1]", "- img", "- row \"a\"", ""]
        {
            assert_eq!(ref_in(none), None, "{none}");
        }
    }

    #[test]
    fn patterns_are_javascripts() {
        assert!(javascript("/go SECOND/i").unwrap().is_match("Go second"));
        assert!(!javascript("alpha|gamma").unwrap().is_match("Alpha"));
        assert!(javascript("(?=x)").unwrap_err().message.contains("Look-around"));
        assert!(javascript("/x/q").is_err() && javascript("([").is_err());
    }
}
