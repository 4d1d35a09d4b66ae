//! Replies over their budget: the largest text is kept as an artifact, and the reply has its first page.
//!
//! Pages end where lines do, which in a snapshot is where nodes do. A text within marks (a block of code, words of a page) has
//! the same marks on every page, so that no page of it passes for ours.

use std::{cmp::Reverse, sync::Arc};

use browserfleet_common::{artifact::Artifact, error_code::ErrorCode};
use browserfleet_tools::ReadCursor;
use serde_json::json;

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

/// A text is not cut to less than this for the sake of others.
const PAGE_MIN: usize = 4096;
/// What is said at the end of a page takes about so much.
const TRAILER: usize = 400;
/// What marks a text of a page; see the daemon's `tools::untrusted`.
const UNTRUSTED: &str = "<untrusted-";
const CODE: &str = "```";

/// Makes a reply fit: as long as its texts are larger than the budget, the largest one is cut, and what it was is kept. What
/// cannot be kept, because the session has ended, stays whole.
///
/// # Errors
/// When the store cannot answer: what has not been cut by then stays whole.
pub(super) async fn fit(core: &Arc<Core>, record: &Record, reply: &mut Reply) -> Result<(), Unavailable> {
    let budget = core.config.call.reply_bytes;
    let mut order: Vec<usize> = (0..reply.texts.len()).collect();
    order.sort_by_key(|&at| Reverse(reply.texts[at].body.len()));
    for at in order {
        let total: usize = reply.texts.iter().map(|text| text.body.len()).sum();
        let whole = reply.texts[at].body.len();
        let page = budget.saturating_sub(total - whole + TRAILER).max(PAGE_MIN);
        if total <= budget || whole <= page {
            return Ok(());
        }
        cut(core, record, reply, at, page).await?;
    }
    Ok(())
}

async fn cut(core: &Arc<Core>, record: &Record, reply: &mut Reply, at: usize, page: usize) -> Result<(), Unavailable> {
    let Text { title, body } = &reply.texts[at];
    let new = New { name: title, mime_type: "text/plain", bytes: body.as_bytes(), now: core.clock.now() };
    let Some(artifact) = core.artifacts.keep(&record.owner(), new).await? else {
        return Ok(());
    };
    let cut = Marked::of(body).page(0, page);
    let next = next(core, record, &artifact, &cut).await?;
    let paged = shown(&cut, body.len(), next.as_deref());
    reply.texts[at].body = paged;
    tell(reply, &artifact, next.as_deref());
    reply.links.push(Link::to(record, &artifact));
    Ok(())
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
    let mut reply = Reply::text(&artifact.name, shown(&page, text.len(), next.as_deref()));
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

fn shown(page: &Page, whole: usize, next: Option<&str>) -> String {
    let Page { text, from, to, .. } = page;
    match next {
        Some(next) => format!(
            "{text}\n[cut: bytes {from} to {to} of {whole}; for the rest call browser_read_cursor with cursor {next}]"
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
        Page { text, from, to, next: (to < self.text.len()).then_some(to) }
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
    fn a_line_that_fits_nowhere_is_cut_between_characters() {
        let text = "é".repeat(100);
        let pages = pages(&text, 33);
        assert_eq!(pages.iter().map(|page| page.text.as_str()).collect::<String>(), text);
        assert!(pages.iter().all(|page| page.text.len() <= 32));
        assert_eq!(super::border("é", 1), 2, "at least one character");
    }
}
