//! Replies over their budget: the largest text is kept as an artifact, and the reply has its first page.
//!
//! Pages end where lines do, which in a snapshot is where nodes do. A text within marks (a block of code, words of a page) has
//! the same marks on every page, so that no page of it passes for ours.

use std::{cmp::Reverse, sync::Arc};

use browserfleet_common::{artifact::Artifact, error_code::ErrorCode, metrics::metrics};
use browserfleet_tools::{MAX_BYTES, MAX_BYTES_RANGE, ReadCursor, Tool};
use serde_json::{Map, Value, json};

use super::{
    Call,
    reply::{Link, Reply, Text},
};
use crate::{
    Unavailable,
    artifacts::{Cursor, New},
    core::Core,
    failure::Failure,
    session::{Key, Record},
};

/// A text is not cut to less than this, or than half of what is allowed in all, for the sake of others.
const PAGE_MIN: usize = 4096;
/// Members of the structured form that are smaller are not left out: handles and cursors above all.
const OMITTED_MIN: usize = 512;
/// Where the structured form names what was left out of it.
pub(super) const OMITTED: &str = "omitted";
/// What is said at the end of a page takes about so much.
const TRAILER: usize = 400;
/// What marks a text of a page; see the daemon's `tools::untrusted`.
const UNTRUSTED: &str = "<untrusted-";
const CODE: &str = "```";

/// How much text a reply may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// Of all its texts together, in bytes.
    pub(super) bytes: usize,
    /// Whether what is beyond is kept: not in a session that ends with its call.
    pub(super) keeps: bool,
}

/// Takes out of a call's arguments how much text its reply may have.
///
/// # Errors
/// When that is out of range.
pub(super) fn budget(core: &Core, tool: &Tool, arguments: &mut Map<String, Value>) -> Result<Budget, Failure> {
    let asked = if tool.long { arguments.remove(MAX_BYTES).filter(|asked| !asked.is_null()) } else { None };
    let keeps = true;
    let Some(asked) = asked else { return Ok(Budget { bytes: core.config.call.reply_bytes, keeps }) };
    let bytes = asked.as_u64().filter(|bytes| MAX_BYTES_RANGE.contains(bytes)).ok_or_else(|| {
        let (least, most) = (MAX_BYTES_RANGE.start(), MAX_BYTES_RANGE.end());
        let text = format!(
            "Invalid arguments for tool \"{}\":\n✖ a number from {least} to {most} is expected\n  → at {MAX_BYTES}",
            tool.name
        );
        Failure::new(ErrorCode::InvalidArgument, text)
    })?;
    Ok(Budget { bytes: usize::try_from(bytes).unwrap_or(usize::MAX), keeps })
}

/// Makes a reply fit: as long as its texts are larger than the budget, the largest one is cut, and what it was is kept. What
/// cannot be kept, because the session has ended, stays whole; where nothing is kept the rest is gone, and that is said.
///
/// # Errors
/// When the store cannot answer: what has not been cut by then stays whole.
pub(super) async fn fit(
    core: &Arc<Core>,
    record: &Record,
    reply: &mut Reply,
    Budget { bytes: budget, keeps }: Budget,
) -> Result<(), Unavailable> {
    let mut order: Vec<usize> = (0..reply.texts.len()).collect();
    order.sort_by_key(|&at| Reverse(reply.texts[at].body.len()));
    for at in order {
        let total: usize = reply.texts.iter().map(|text| text.body.len()).sum();
        let whole = reply.texts[at].body.len();
        let page = budget.saturating_sub(total - whole + TRAILER).max(PAGE_MIN.min(budget / 2));
        if total <= budget || whole <= page {
            return Ok(());
        }
        if keeps {
            cut(core, record, reply, at, page).await?;
        } else {
            cut_for_good(&mut reply.texts[at], page);
        }
    }
    Ok(())
}

/// Leaves out of the structured form what makes it larger than the budget, largest first, and says what that was: the text, or
/// what its cursor leads to, has it as well.
pub(super) fn omit(reply: &mut Reply, budget: usize) {
    let Some(Value::Object(members)) = &mut reply.structured else { return };
    let sizes = members.iter().map(|(name, value)| (value.to_string().len() + name.len(), name.clone()));
    let omitted = excess(sizes.collect(), budget);
    for name in &omitted {
        members.remove(name);
    }
    if !omitted.is_empty() {
        reply.tell(OMITTED, json!(omitted));
    }
}

/// Of things with their sizes in bytes those that have to go for the others to fit: the largest ones, and none that is small.
pub(super) fn excess<T: Ord>(mut sizes: Vec<(usize, T)>, budget: usize) -> Vec<T> {
    let mut total: usize = sizes.iter().map(|(size, _)| size).sum();
    sizes.sort_by(|one, other| other.cmp(one));
    let mut gone = Vec::new();
    for (size, thing) in sizes.into_iter().take_while(|(size, _)| *size > OMITTED_MIN) {
        if total <= budget {
            break;
        }
        total -= size;
        gone.push(thing);
    }
    gone
}

async fn cut(core: &Arc<Core>, record: &Record, reply: &mut Reply, at: usize, page: usize) -> Result<(), Unavailable> {
    let Text { title, body } = &reply.texts[at];
    let new = New { name: title, mime_type: "text/plain", bytes: body.as_bytes(), now: core.clock.now() };
    let Some(artifact) = core.artifacts.keep(&record.owner(), new).await? else {
        return Ok(());
    };
    metrics().replies_cut.add("paged");
    metrics().artifacts.add("text");
    let cut = Marked::of(body).page(0, page);
    let next = next(core, record, &artifact, &cut).await?;
    let paged = shown(&cut, body, next.as_deref());
    reply.texts[at].body = paged;
    tell(reply, &artifact, next.as_deref());
    reply.links.push(Link::to(record, &artifact));
    Ok(())
}

/// Cuts a text of which nothing is kept.
fn cut_for_good(text: &mut Text, page: usize) {
    metrics().replies_cut.add("lost");
    let Page { text: first, from, to, lines, .. } = Marked::of(&text.body).page(0, page);
    let (all, whole) = (text.body.lines().count(), text.body.len());
    text.body = format!(
        "{first}\n[cut: bytes {from} to {to} of {whole}, {lines} of {all} lines; the rest is gone with the session of its task: fewer \
         tasks in a call show more of each, concurrent: false keeps all of it]"
    );
}

/// `browser_read_cursor`: the page that a cursor points to.
pub(super) async fn read(core: &Arc<Core>, call: &Call, arguments: ReadCursor) -> Result<Reply, Failure> {
    let principal = &call.caller.principal;
    let cursor = core.artifacts.follow(principal, &arguments.cursor).await?.ok_or_else(expired)?;
    let key = Key { principal: principal.clone(), name: cursor.session.clone() };
    let record = core.sessions.touch(&key).await?.ok_or_else(expired)?;
    let found = core.artifacts.read(&record.owner(), &cursor.artifact).await?;
    let (artifact, bytes) = found.ok_or_else(expired)?;
    let text = std::str::from_utf8(&bytes).map_err(|_picture| expired())?;
    let most = arguments.max_bytes.map_or(core.config.call.reply_bytes, |most| most as usize);
    if !text.is_char_boundary(cursor.offset) {
        return Err(expired());
    }
    let page = Marked::of(text).page(cursor.offset, most);
    let next = next(core, &record, &artifact, &page).await?;
    let mut reply = Reply::text(&artifact.name, shown(&page, text, next.as_deref()));
    tell(&mut reply, &artifact, next.as_deref());
    reply.session = Some(record.name.digest());
    Ok(reply)
}

/// The same whether a cursor is unknown, somebody else's, or of a session that has ended.
fn expired() -> Failure {
    Failure::new(
        ErrorCode::HandleUnknownOrExpired,
        "This cursor is unknown or has expired: what it points to is kept as long as its session, and the latest results \
         only. Call the tool again whose result you want to read.",
    )
}

async fn next(core: &Core, record: &Record, artifact: &Artifact, page: &Page) -> Result<Option<String>, Unavailable> {
    let Some(offset) = page.next else { return Ok(None) };
    let cursor = Cursor { session: record.name.clone(), artifact: artifact.id.clone(), offset };
    Ok(Some(core.artifacts.point(&record.principal, &cursor).await?))
}

fn shown(page: &Page, whole: &str, next: Option<&str>) -> String {
    let Page { text, from, to, lines, .. } = page;
    let (all, whole) = (whole.lines().count(), whole.len());
    match next {
        Some(next) => format!(
            "{text}\n[cut: bytes {from} to {to} of {whole}, {lines} of {all} lines; for the rest call browser_read_cursor with cursor {next}]"
        ),
        None => format!("{text}\n[bytes {from} to {to} of {whole}: the end]"),
    }
}

fn tell(reply: &mut Reply, artifact: &Artifact, next: Option<&str>) {
    reply.tell("next_cursor", json!(next));
    reply.tell("total_bytes", json!(artifact.size));
}

/// A text and the marks around it.
#[derive(Debug)]
struct Marked<'a> {
    text: &'a str,
    /// The line that opens it, with its end.
    open: &'a str,
    /// The line that closes it.
    close: String,
}

/// A part of a text, within its marks.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    text: String,
    /// Of the whole text, in bytes.
    from: usize,
    to: usize,
    /// How many lines of the whole text begin in it.
    lines: usize,
    /// Where the next one begins.
    next: Option<usize>,
}

impl<'a> Marked<'a> {
    fn of(text: &'a str) -> Self {
        let open = text.find('\n').map_or("", |end| &text[..=end]);
        let close = if let Some(name) = open.strip_prefix(UNTRUSTED) {
            let name = name.split([' ', '>']).next().unwrap_or_default();
            format!("</untrusted-{name}>")
        } else {
            CODE.to_owned()
        };
        let marked = open.starts_with(UNTRUSTED) || open.starts_with(CODE);
        Self { text, open: if marked { open } else { "" }, close: if marked { close } else { String::new() } }
    }

    /// At most `most` bytes from `from` on, the marks not counted: those are never cut.
    fn page(&self, from: usize, most: usize) -> Page {
        let to = (from + border(&self.text[from..], most)).max(self.open.len());
        let closed = (self.end() + 1 + self.close.len()).min(self.text.len());
        let to = if !self.close.is_empty() && (self.end()..closed).contains(&to) { closed } else { to };
        let mut text = String::new();
        if self.is_open(from) {
            text.push_str(self.open);
        }
        text.push_str(self.text[from..to].trim_end_matches('\n'));
        if self.is_open(to) {
            text.push('\n');
            text.push_str(&self.close);
        }
        Page { text, from, to, lines: self.text[from..to].lines().count(), next: (to < self.text.len()).then_some(to) }
    }

    /// Whether a place is between the marks.
    fn is_open(&self, at: usize) -> bool {
        !self.close.is_empty() && (self.open.len()..self.end()).contains(&at)
    }

    /// Where the line that closes begins.
    fn end(&self) -> usize {
        self.text.rfind(&format!("\n{}", self.close)).unwrap_or(self.text.len())
    }
}

/// The end of the last line that fits, unless that is less than half of what would; then, of the line that does not, the last
/// character that does.
fn border(text: &str, most: usize) -> usize {
    if text.len() <= most {
        return text.len();
    }
    let most = text.floor_char_boundary(most);
    let line = text[..most].rfind('\n').map(|end| end + 1).filter(|end| *end >= most / 2);
    // A character at least: every page goes on from the last.
    line.unwrap_or(most).max(text.chars().next().map_or(0, char::len_utf8))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(text: &str, most: usize) -> Vec<Page> {
        let marked = Marked::of(text);
        let mut pages = vec![marked.page(0, most)];
        while let Some(next) = pages.last().and_then(|page| page.next) {
            pages.push(marked.page(next, most));
        }
        pages
    }

    #[test]
    fn pages_end_where_lines_do_and_nothing_is_lost() {
        let lines: Vec<String> = (0..100).map(|n| format!("- button \"é{n}\"")).collect();
        let text = lines.join("\n");
        let pages = pages(&text, 200);
        assert!(pages.len() > 5 && pages.iter().all(|page| page.text.len() <= 200));
        assert_eq!(pages.iter().map(|page| page.text.as_str()).collect::<Vec<_>>().join("\n"), text);
    }

    #[test]
    fn every_page_has_the_marks_of_the_whole() {
        for (open, close) in [("```yaml", "```"), ("<untrusted-12ab origin=\"http://h\">", "</untrusted-12ab>")] {
            let body: Vec<String> = (0..50).map(|n| format!("line {n}")).collect();
            let text = format!("{open}\n{}\n{close}\nA word of ours.", body.join("\n"));
            let pages = pages(&text, 100);
            let (last, others) = pages.split_last().unwrap();
            for page in others {
                assert!(page.text.starts_with(open) && page.text.ends_with(close), "{page:?}");
                assert_eq!(page.text.matches(close).count(), if open == "```yaml" { 2 } else { 1 }, "{page:?}");
            }
            assert!(last.text.ends_with(&format!("{close}\nA word of ours.")), "{last:?}");
            let inside = |page: &Page| page.text.lines().filter(|line| line.starts_with("line ")).count();
            assert_eq!(pages.iter().map(inside).sum::<usize>(), 50);
        }
    }

    #[test]
    fn marks_that_stand_alone_on_the_last_page_are_whole() {
        let text = "```yaml\nabcdef\nghijkl\n```";
        for most in 1..text.len() {
            let pages = pages(text, most);
            for page in &pages {
                assert_eq!(page.text.matches("```").count() % 2, 0, "{most}: {pages:?}");
            }
            let shown: String =
                pages.iter().map(|page| page.text.replace("```yaml", "").replace(['\n', '`'], "")).collect();
            assert_eq!(shown, "abcdefghijkl", "{most}: {pages:?}");
        }
    }

    #[test]
    fn a_long_line_after_a_short_one_fills_its_page() {
        let text = format!("<untrusted-1 origin=\"null\">\n{}\n</untrusted-1>", "x".repeat(1000));
        assert!(Marked::of(&text).page(0, 500).to > 450);
    }

    #[test]
    fn what_makes_the_structured_form_too_large_is_left_out_and_named() {
        let structured = json!({ "origin": "http://h", "messages": "x".repeat(3000), "requests": "y".repeat(900), "next_cursor": "z" });
        let mut reply = Reply::text("Result", "").with_structured(structured.clone());
        omit(&mut reply, 10_000);
        assert_eq!(reply.structured, Some(structured));
        omit(&mut reply, 2000);
        let expected =
            json!({ "origin": "http://h", "requests": "y".repeat(900), "next_cursor": "z", "omitted": ["messages"] });
        assert_eq!(reply.structured, Some(expected));
    }

    #[test]
    fn a_line_that_fits_nowhere_is_cut_between_characters() {
        let text = "é".repeat(100);
        let pages = pages(&text, 33);
        assert_eq!(pages.iter().map(|page| page.text.as_str()).collect::<String>(), text);
        assert!(pages.iter().all(|page| page.text.len() <= 32));
        assert_eq!(super::border("é", 1), 2, "at least one character");
    }
}
