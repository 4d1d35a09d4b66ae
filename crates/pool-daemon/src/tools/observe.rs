//! Looking at the page: what the replies of all tools show of it, and as much of it as was asked for.

use browserfleet_tools::{Snapshot, SnapshotMode};

use super::{Call, Registry, Reply, ToolResult, changes::Changes};
use crate::{
    failure::Failure,
    page::{Shot, Shown, SnapshotOptions},
};

pub(super) fn register(registry: &mut Registry) {
    registry.add(snapshot);
}

async fn snapshot(call: Call, arguments: Snapshot) -> ToolResult {
    let Snapshot { target, depth, boxes, filename: _ } = arguments;
    // Whoever asks for a snapshot wants one, whatever other replies show.
    let mode = call.shows.asked.unwrap_or_default();
    let options = SnapshotOptions { target, depth, boxes: boxes.unwrap_or(false), interactive: false };
    if mode == SnapshotMode::Diff && options.is_part() {
        let message =
            "the diff is that of the whole page: leave out target, depth and boxes, or ask for another snapshot";
        return Err(Failure::invalid(message));
    }
    describe(&call, Reply::new(), mode, options).await
}

/// Ends a reply with where the page is and as much of what it shows as the caller wants.
pub(super) async fn page(call: &Call, reply: Reply) -> ToolResult {
    if call.brief {
        return Ok(reply);
    }
    let mode = call.shows.asked.unwrap_or(call.shows.otherwise);
    describe(call, reply, mode, SnapshotOptions::default()).await
}

/// As [`page`], after an action that shows nothing by itself: if the call asks for it.
pub(super) async fn page_if_asked(call: &Call, reply: Reply) -> ToolResult {
    if call.shows.asked.is_some() { page(call, reply).await } else { Ok(reply) }
}

async fn describe(call: &Call, reply: Reply, mode: SnapshotMode, mut options: SnapshotOptions) -> ToolResult {
    // Neither document is hung while the next one is awaited: there is just nothing to see yet.
    if !call.page.arrived(call.within(call.times.action)).await {
        return Ok(reply.still_loading(&call.page.document()));
    }
    let deadline = call.within(call.times.action);
    if mode == SnapshotMode::None {
        let shot = call.page.place(deadline).await?;
        return Ok(reply.place(&call.page.document(), &shot));
    }
    options.interactive = mode == SnapshotMode::Interactive;
    let shot = call.page.snapshot(&options, deadline).await?;
    // What is shown in part is nothing to compare a whole page with.
    let before = if options.is_part() { Shown::Never } else { call.page.shown(&shot.text) };
    let body = match mode {
        SnapshotMode::Diff => since(&before, &shot),
        SnapshotMode::Interactive => whole(&shot, "Only what can be acted on is shown, and where it is."),
        SnapshotMode::Full | SnapshotMode::None => whole(&shot, ""),
    };
    Ok(reply.place(&call.page.document(), &shot).snapshot(body))
}

/// A snapshot, and a word about it.
fn whole(shot: &Shot, word: &str) -> String {
    let mut body = format!("```yaml\n{}\n```", shot.text);
    for word in [word, of_bounds(shot)].into_iter().filter(|word| !word.is_empty()) {
        body.extend(["\n", word]);
    }
    body
}

fn of_bounds(shot: &Shot) -> &'static str {
    if shot.truncated {
        "The page is larger than one snapshot shows; ask for a part of it with target or depth."
    } else {
        ""
    }
}

/// What has changed since the page was shown. The whole page, and why, where that says less or nothing.
fn since(before: &Shown, shot: &Shot) -> String {
    let before = match before {
        Shown::Never => return whole(shot, "This is the whole page: there is no earlier snapshot to compare with."),
        Shown::Elsewhere => {
            return whole(shot, "This is the whole page: it is another document than in the last snapshot.");
        }
        Shown::As(text) => text,
    };
    let changes = Changes::between(before, &shot.text);
    if changes.is_none() {
        return "Nothing has changed since the last snapshot.".to_owned();
    }
    if changes.text.len() >= shot.text.len() {
        return whole(shot, "This is the whole page: what has changed since the last snapshot is more than that.");
    }
    let Changes { text, added, removed } = changes;
    let said = format!(
        "```diff\n{text}\n```\n{added} lines came (+) and {removed} went (-) since the last snapshot; the others only say where."
    );
    if shot.truncated { format!("{said}\n{}", of_bounds(shot)) } else { said }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shot(text: &str) -> Shot {
        Shot { url: String::new(), title: String::new(), text: text.to_owned(), truncated: false }
    }

    fn shown(text: &str) -> Shown {
        Shown::As(text.into())
    }

    #[test]
    fn a_diff_is_shown_where_it_says_more_than_the_page() {
        let before: Vec<_> = (0..20).map(|n| format!("- button \"Number {n}\" [ref=e{n}]")).collect();
        let mut now = before.clone();
        now[7].push_str(": pressed");
        let (before, now) = (before.join("\n"), now.join("\n"));
        let body = since(&shown(&before), &shot(&now));
        assert_eq!(
            body,
            "```diff\n- - button \"Number 7\" [ref=e7]\n+ - button \"Number 7\" [ref=e7]: pressed\n```\n\
             1 lines came (+) and 1 went (-) since the last snapshot; the others only say where."
        );
        assert_eq!(since(&shown(&now), &shot(&now)), "Nothing has changed since the last snapshot.");
    }

    #[test]
    fn otherwise_the_page_is_shown_and_why() {
        let now = shot("- text: a");
        for (before, why) in [
            (Shown::Never, "no earlier snapshot"),
            (Shown::Elsewhere, "another document"),
            (shown("- text: b"), "more than that"),
        ] {
            let body = since(&before, &now);
            assert!(
                body.starts_with("```yaml\n- text: a\n```\nThis is the whole page") && body.contains(why),
                "{body}"
            );
        }
    }
}
