//! Reading a tool's answer from the daemon's stream.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use browserfleet_common::{
    error_code::ErrorCode,
    pb::{CallToolResponse, Section, SectionKind, call_tool_response::Event},
};
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::time::timeout;
use tonic::Streaming;

use super::{
    keeping::KEPT,
    progress::Progress,
    reply::{File, Image, Reply, Text},
};
use crate::{
    failure::{DaemonError, Failure},
    secrets::Mask,
};

/// Most bytes of all texts of a reply. What is beyond is cut, and said so.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Most bytes of all pictures and files, and of the structured form.
const OTHER_BYTES_MAX: usize = 16 << 20;
/// Most bytes of what pages have given away: a daemon sends no more.
const DOWNLOAD_BYTES_MAX: usize = 16 << 20;
/// How long the end of a stream may take after its last message.
const LAST_WORD: Duration = Duration::from_millis(100);

/// How a tool's run ended.
#[derive(Debug)]
pub(super) enum Ran {
    /// It came to its end, well or not.
    Ended(Reply),
    /// Nothing has touched the page, unless the error is [`DaemonError::Broken`]: then nobody knows.
    NotStarted(DaemonError),
    /// The daemon says so, during the run.
    Refused(Failure, Reply),
    /// The stream broke during the run: nobody knows how far it came.
    Broken(Reply),
}

/// Reads the stream to its end. The mask says where what is cut on the way may end: only whole values are found in it later.
pub(super) async fn collect(
    mut events: Streaming<CallToolResponse>,
    progress: &Progress,
    mask: Option<Arc<Mask>>,
) -> Ran {
    let mut started = false;
    let mut parts = Parts { mask, ..Parts::default() };
    loop {
        let event = match events.message().await {
            Ok(Some(response)) => response.event,
            Ok(None) if started => return Ran::Broken(parts.finish()),
            // The daemon has ended the stream itself, in order: it would have said that it started.
            Ok(None) => return Ran::NotStarted(DaemonError::Unreachable),
            Err(status) => {
                return match DaemonError::from(status) {
                    error if !started => Ran::NotStarted(error),
                    DaemonError::Refused(failure) => Ran::Refused(failure, parts.finish()),
                    DaemonError::Unreachable | DaemonError::Broken => Ran::Broken(parts.finish()),
                };
            }
        };
        match event {
            Some(Event::Queued(queued)) => {
                progress.say(format!("Waiting for {} earlier calls of the session", queued.ahead)).await;
            }
            Some(Event::Started(_)) => started = true,
            Some(Event::Progress(said)) => progress.say(said.message).await,
            Some(Event::Section(section)) => parts.add(section),
            Some(Event::End(end)) => {
                // To its end: a stream that is dropped looks like a caller that has gone away.
                let _late = timeout(LAST_WORD, events.message()).await;
                let mut reply = parts.finish();
                if let Some(failure) = end.error {
                    reply.failure = Some(failure.into());
                }
                return Ran::Ended(reply);
            }
            // Something a newer daemon says.
            None => {}
        }
    }
}

/// The sections that have arrived. Memory is bounded whatever the daemon sends.
#[derive(Debug, Default)]
struct Parts {
    reply: Reply,
    open: Option<Open>,
    text_bytes: usize,
    other_bytes: usize,
    download_bytes: usize,
    mask: Option<Arc<Mask>>,
}

/// The section whose pieces are arriving.
#[derive(Debug)]
struct Open {
    kind: SectionKind,
    title: String,
    mime_type: String,
    data: BytesMut,
    /// Bytes that had no room.
    cut: usize,
}

impl Parts {
    fn add(&mut self, piece: Section) {
        let kind = piece.kind();
        let open = self.open.get_or_insert_with(|| Open {
            kind,
            title: piece.title,
            mime_type: piece.mime_type,
            data: BytesMut::new(),
            cut: 0,
        });
        let (used, max) = match open.kind {
            SectionKind::Text | SectionKind::Unspecified => (&mut self.text_bytes, TEXT_BYTES_MAX),
            SectionKind::Download => (&mut self.download_bytes, DOWNLOAD_BYTES_MAX),
            SectionKind::Image | SectionKind::File | SectionKind::Structured => {
                (&mut self.other_bytes, OTHER_BYTES_MAX)
            }
        };
        let room = piece.data.len().min(max - *used);
        *used += room;
        open.data.extend_from_slice(&piece.data[..room]);
        open.cut += piece.data.len() - room;
        if piece.last {
            self.close();
        }
    }

    fn close(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        if open.cut > 0
            && let Some(mask) = &self.mask
        {
            open.cut += open.end_for(mask);
        }
        match open.kind {
            SectionKind::Text | SectionKind::Unspecified => self.reply.texts.push(open.into_text()),
            // What the call did has succeeded all the same.
            SectionKind::Download if open.cut > 0 => {
                let lost = format!("- {} is too large to be kept; it is lost", open.title);
                self.reply.add_text(KEPT, &lost);
            }
            _ if open.cut > 0 => self.too_large(&open),
            SectionKind::Image => {
                self.reply.images.push(Image { mime_type: open.mime_type, data: open.data.freeze() });
            }
            SectionKind::File => self.reply.files.push(open.into_file()),
            SectionKind::Download => self.reply.downloads.push(open.into_file()),
            SectionKind::Structured => self.reply.structure(structured(&open.data.freeze())),
        }
    }

    fn too_large(&mut self, open: &Open) {
        let size = open.data.len() + open.cut;
        let message = format!("A part of the result has {size} bytes and was left out; {OTHER_BYTES_MAX} are allowed.");
        self.reply.failure.get_or_insert_with(|| Failure::new(ErrorCode::ResultTooLarge, message));
    }

    fn finish(mut self) -> Reply {
        // A section without its last piece still says something.
        if let (Some(open), Some(mask)) = (&mut self.open, &self.mask)
            && open.cut == 0
        {
            open.end_for(mask);
        }
        self.close();
        self.reply
    }
}

impl Open {
    /// Leaves out the last bytes of what breaks off, and answers how many those are.
    fn end_for(&mut self, mask: &Mask) -> usize {
        let whole = self.data.len();
        self.data.truncate(mask.safe_end(&self.data));
        whole - self.data.len()
    }

    fn into_file(self) -> File {
        File { name: self.title, mime_type: self.mime_type, data: self.data.freeze() }
    }

    fn into_text(self) -> Text {
        // A cut may fall inside a character: what is left of it goes.
        let complete = match std::str::from_utf8(&self.data) {
            Err(error) if error.error_len().is_none() => &self.data[..error.valid_up_to()],
            _ => &self.data[..],
        };
        let mut body = String::from_utf8_lossy(complete).into_owned();
        if self.cut > 0 {
            // Writing to a String cannot fail.
            let _infallible = write!(body, "\n[cut here: {} more bytes]", self.cut);
        }
        Text { title: self.title, body }
    }
}

fn structured(data: &Bytes) -> Option<Value> {
    serde_json::from_slice(data)
        .inspect_err(|error| tracing::warn!(%error, "the daemon sent a structured section that is no JSON"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(kind: SectionKind, title: &str, data: &[u8], last: bool) -> Section {
        let (title, mime_type) = (title.to_owned(), "image/png".to_owned());
        Section { kind: kind.into(), title, data: data.to_vec(), mime_type, last }
    }

    #[test]
    fn pieces_are_joined_even_inside_characters() {
        let mut parts = Parts::default();
        let text = "Seite: é".as_bytes();
        parts.add(piece(SectionKind::Text, "Page", &text[..8], false));
        parts.add(piece(SectionKind::Text, "", &text[8..], true));
        parts.add(piece(SectionKind::Image, "", b"\x89PNG", true));
        parts.add(piece(SectionKind::Structured, "", b"{\"a\":1}", true));
        let reply = parts.finish();
        assert_eq!(reply.texts, [Text { title: "Page".to_owned(), body: "Seite: é".to_owned() }]);
        assert_eq!(&reply.images[0].data[..], b"\x89PNG");
        assert_eq!(reply.structured, Some(serde_json::json!({ "a": 1 })));
    }

    #[test]
    fn memory_is_bounded_and_a_cut_is_said() {
        let mut parts = Parts::default();
        let text = "é".repeat(TEXT_BYTES_MAX / 2 + 10);
        parts.add(piece(SectionKind::Text, "Snapshot", b"x", true));
        parts.add(piece(SectionKind::Text, "Page", text.as_bytes(), true));
        parts.add(piece(SectionKind::Text, "More", b"abc", true));
        for _ in 0..3 {
            parts.add(piece(SectionKind::Image, "", &vec![0; OTHER_BYTES_MAX / 2], true));
        }
        let reply = parts.finish();
        assert_eq!(reply.texts[0].body, "x");
        assert!(reply.texts[1].body.ends_with("é\n[cut here: 21 more bytes]"), "{:?}", &reply.texts[1].body[1 << 20..]);
        assert_eq!(reply.texts[2].body, "\n[cut here: 3 more bytes]");
        assert_eq!((reply.images.len(), reply.failure.unwrap().code), (2, ErrorCode::ResultTooLarge));
    }

    #[test]
    fn what_is_cut_ends_before_what_may_be_the_beginning_of_a_secret() {
        let value = "hunter2-and-more";
        let mask = Some(Arc::new(Mask::of([("LOGIN", value)], &mut (1 << 20)).unwrap()));
        let parts = || Parts { mask: mask.clone(), ..Parts::default() };
        let before = "x".repeat(TEXT_BYTES_MAX - 7);
        let mut parts_of_page = parts();
        parts_of_page.add(piece(SectionKind::Text, "Page", format!("{before}{value} and more").as_bytes(), true));
        let body = &parts_of_page.finish().texts[0].body;
        assert!(body.ends_with("x\n[cut here: 41 more bytes]"), "{}", &body[1_048_500..]);
        for kind in [SectionKind::Text, SectionKind::Download] {
            let mut parts = parts();
            parts.add(piece(kind, "Page", b"half, and then hunter2-and-more, half of hunter2-an", false));
            let reply = parts.finish();
            let shown = reply.texts.first().map(|text| text.body.as_bytes());
            assert_eq!(
                shown.or(reply.downloads.first().map(|file| &file.data[..])),
                Some(&b"half, and then "[..]),
                "nor is a whole one broken"
            );
        }
    }

    #[test]
    fn what_arrived_before_a_break_is_kept() {
        let mut parts = Parts::default();
        parts.add(piece(SectionKind::Text, "Page", b"half", false));
        assert_eq!(parts.finish().texts[0].body, "half");
    }
}
