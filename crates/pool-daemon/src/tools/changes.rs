//! What has changed between two snapshots of a document: the lines that came and went, under the lines they are in.

use std::time::Duration;

use similar::{ChangeTag, TextDiff};

/// Most time to look for the smallest difference; after it a larger one will do.
const TIME: Duration = Duration::from_millis(200);

/// The difference of two snapshots.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Lines that begin with `+`, `-` or, where they only say in what the others are, a blank; then a blank.
    pub(super) text: String,
    pub(super) added: usize,
    pub(super) removed: usize,
}

impl Changes {
    /// What has changed from one snapshot to a later one.
    pub(super) fn between(before: &str, now: &str) -> Self {
        let (before, now): (Vec<_>, Vec<_>) = (before.lines().collect(), now.lines().collect());
        let diff = TextDiff::configure().timeout(TIME).diff_slices(&before, &now);
        let lines: Vec<(ChangeTag, &str)> =
            diff.iter_all_changes().map(|change| (change.tag(), change.value())).collect();
        let shown = with_parents(&lines);
        let mut changes = Self::default();
        for ((tag, line), _) in lines.iter().zip(shown).filter(|(_, shown)| *shown) {
            match tag {
                ChangeTag::Insert => changes.added += 1,
                ChangeTag::Delete => changes.removed += 1,
                ChangeTag::Equal => {}
            }
            if !changes.text.is_empty() {
                changes.text.push('\n');
            }
            changes.text.extend([tag.to_string().as_str(), " ", line]);
        }
        changes
    }

    pub(super) fn is_none(&self) -> bool {
        self.added + self.removed == 0
    }
}

/// The way from the root to a line: the indents and places of the lines it is in.
type Way = Vec<(usize, usize)>;

/// Which lines are shown: those that changed, and those they are in, in the tree before or the tree now.
fn with_parents(lines: &[(ChangeTag, &str)]) -> Vec<bool> {
    let mut shown = vec![false; lines.len()];
    // In the tree before, and in the tree now.
    let (mut before, mut now) = (Way::new(), Way::new());
    for (at, (tag, line)) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let trees: &mut [&mut Way] = match tag {
            ChangeTag::Equal => &mut [&mut before, &mut now],
            ChangeTag::Delete => &mut [&mut before],
            ChangeTag::Insert => &mut [&mut now],
        };
        for way in trees {
            let depth = way.iter().rposition(|(outer, _)| *outer < indent).map_or(0, |last| last + 1);
            way.truncate(depth);
            if *tag != ChangeTag::Equal {
                way.iter().for_each(|(_, parent)| shown[*parent] = true);
                shown[at] = true;
            }
            way.push((indent, at));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "- main [ref=e1]:\n  - heading \"Cart\" [ref=e2]\n  - list [ref=e3]:\n    - listitem [ref=e4]: tea\n    \
                          - listitem [ref=e5]: milk\n  - contentinfo [ref=e6]:\n    - link \"Help\" [ref=e7]";

    #[test]
    fn nothing_is_nothing() {
        assert!(Changes::between(BEFORE, BEFORE).is_none());
        assert_eq!(Changes::between("", ""), Changes::default());
    }

    #[test]
    fn a_changed_line_stands_under_its_parents_alone() {
        let now = BEFORE.replace("milk", "oat milk");
        let changes = Changes::between(BEFORE, &now);
        assert_eq!((changes.added, changes.removed), (1, 1));
        assert_eq!(
            changes.text,
            "  - main [ref=e1]:\n    - list [ref=e3]:\n-     - listitem [ref=e5]: milk\n+     - listitem [ref=e5]: oat milk"
        );
    }

    #[test]
    fn a_subtree_that_goes_is_under_what_it_was_in_and_one_that_comes_under_what_it_is_in() {
        let now = "- main [ref=e1]:\n  - heading \"Cart\" [ref=e2]\n  - contentinfo [ref=e6]:\n    - link \"Help\" [ref=e7]\n    \
                   - dialog [ref=e8]:\n      - button \"OK\" [ref=e9]";
        let changes = Changes::between(BEFORE, now);
        assert_eq!(
            changes.text,
            "  - main [ref=e1]:\n-   - list [ref=e3]:\n-     - listitem [ref=e4]: tea\n-     - listitem [ref=e5]: milk\n    \
             - contentinfo [ref=e6]:\n+     - dialog [ref=e8]:\n+       - button \"OK\" [ref=e9]"
        );
        assert_eq!((changes.added, changes.removed), (2, 3));
    }

    #[test]
    fn a_first_snapshot_is_all_new() {
        let changes = Changes::between("", BEFORE);
        assert_eq!((changes.added, changes.removed), (7, 0));
    }

    #[test]
    fn two_large_pages_that_have_nothing_in_common_end_in_time() {
        let page =
            |word: &str| (0..20_000).map(|n| format!("- {word} {}", n * 7919 % 20_011)).collect::<Vec<_>>().join("\n");
        let begun = tokio::time::Instant::now();
        let changes = Changes::between(&page("a"), &page("b"));
        assert_eq!((changes.added, changes.removed), (20_000, 20_000));
        assert!(begun.elapsed() < 20 * TIME, "{:?}", begun.elapsed());
    }
}
