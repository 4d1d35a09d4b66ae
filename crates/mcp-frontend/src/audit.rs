//! The audit trail: one line of JSON for each call that has ended, appended to a file. Who, what, where to, how it ended; hashes in
//! place of handles and keys, and nothing of what was typed, sent or read.
//!
//! A thread writes. A call whose line has no room waits for it, in bounded time: then the line is counted as lost, and the call
//! is answered all the same. A file that was moved away (`logrotate`) is begun anew.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime},
};

use browserfleet_common::metrics::metrics;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use url::Url;

/// Lines that may wait for the file.
const WAITING: usize = 4096;
/// How long a call waits for room among them.
const ROOM: Duration = Duration::from_secs(1);
/// How long the last lines may take when the program stops.
const LAST_LINES: Duration = Duration::from_secs(2);

/// A call that has ended.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    /// When it ended, since 1970; written as RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    pub(crate) time: Duration,
    pub(crate) call: String,
    /// A digest, as everywhere.
    pub(crate) principal: String,
    pub(crate) session: Option<String>,
    pub(crate) tool: &'static str,
    /// Where the call was told to go, if it was.
    pub(crate) origin: Option<String>,
    /// `ok`, or the code of the error.
    pub(crate) outcome: &'static str,
    pub(crate) duration_ms: u64,
    /// Of the reply.
    pub(crate) bytes: u64,
    pub(crate) trace: Option<String>,
}

/// The way to the trail. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    lines: mpsc::Sender<Line>,
}

#[derive(Debug)]
enum Line {
    Entry(Box<Entry>),
    /// Answered when everything before it has been written.
    Mark(oneshot::Sender<()>),
}

impl Audit {
    /// Appends to a file, which is made if there is none, for its owner alone.
    ///
    /// # Errors
    /// When it cannot be written, or the system gives no thread.
    pub(crate) fn append_to(path: &Path) -> io::Result<Self> {
        let mut trail = Trail::open(path)?;
        let (lines, mut waiting) = mpsc::channel(WAITING);
        thread::Builder::new().name("audit".to_owned()).spawn(move || {
            while let Some(line) = waiting.blocking_recv() {
                match line {
                    Line::Entry(entry) => trail.write(&entry),
                    // Whoever asked may not wait any more.
                    Line::Mark(written) => drop(written.send(())),
                }
            }
        })?;
        Ok(Self { lines })
    }

    pub(crate) async fn note(&self, entry: Entry) {
        if !matches!(timeout(ROOM, self.lines.send(Line::Entry(Box::new(entry)))).await, Ok(Ok(()))) {
            lost("the file is too slow");
        }
    }

    /// Waits until everything that was noted is in the file, in bounded time.
    pub(crate) async fn written(&self) {
        let (sender, written) = oneshot::channel();
        let marked = async { self.lines.send(Line::Mark(sender)).await.is_ok() && written.await.is_ok() };
        if timeout(LAST_LINES, marked).await != Ok(true) {
            lost("the last lines were not written in time");
        }
    }
}

/// Where a call was told to go: the origin of its `url`, nothing else of it.
pub(crate) fn origin(arguments: &Map<String, Value>) -> Option<String> {
    let url = Url::parse(arguments.get("url")?.as_str()?).ok()?;
    url.origin().is_tuple().then(|| url.origin().ascii_serialization())
}

/// The file, on the thread that writes it.
#[derive(Debug)]
struct Trail {
    path: PathBuf,
    file: File,
}

impl Trail {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { path: path.to_owned(), file })
    }

    fn write(&mut self, entry: &Entry) {
        match self.try_write(entry) {
            Ok(()) => metrics().audit_entries.add("written"),
            Err(error) => lost(&error.to_string()),
        }
    }

    fn try_write(&mut self, entry: &Entry) -> io::Result<()> {
        if self.was_moved()? {
            *self = Self::open(&self.path)?;
        }
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        // In one piece: other front ends may append to the same file.
        self.file.write_all(&line)
    }

    /// Whether the path leads to another file by now, or to none.
    fn was_moved(&self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        let there = self.path.metadata();
        Ok(there.map_or(true, |there| (there.dev(), there.ino()) != (ours.dev(), ours.ino())))
    }
}

/// A call that is not in the trail: operators are to hear of it.
fn lost(why: &str) {
    metrics().audit_entries.add("lost");
    tracing::error!(why, "the audit trail misses a call");
}

fn rfc3339<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + *time))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    fn entry(tool: &'static str) -> Entry {
        Entry {
            time: Duration::ZERO,
            call: "id".to_owned(),
            principal: browserfleet_common::ids::digest("me"),
            session: None,
            tool,
            origin: None,
            outcome: "ok",
            duration_ms: 3,
            bytes: 5,
            trace: None,
        }
    }

    fn tools(path: &Path) -> Vec<String> {
        let text = fs::read_to_string(path).unwrap();
        let tool = |line: &str| serde_json::from_str::<Value>(line).unwrap()["tool"].as_str().unwrap().to_owned();
        text.lines().map(tool).collect()
    }

    #[tokio::test]
    async fn lines_are_appended_and_a_file_that_was_moved_away_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("audit.jsonl"), directory.path().join("audit.jsonl.1"));
        let audit = Audit::append_to(&path).unwrap();
        audit.note(entry("one")).await;
        audit.written().await;
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        fs::rename(&path, &moved).unwrap();
        audit.note(entry("two")).await;
        audit.written().await;
        assert_eq!((tools(&moved), tools(&path)), (vec!["one".to_owned()], vec!["two".to_owned()]));
        let again = Audit::append_to(&path).unwrap();
        again.note(entry("three")).await;
        again.written().await;
        assert_eq!(tools(&path), ["two", "three"]);
        assert!(fs::read_to_string(&path).unwrap().starts_with(r#"{"time":"1970-01-01T00:00:00.000Z","call":"id""#));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_found_at_the_start_and_counted_later() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Audit::append_to(directory.path()).is_err());
        let path = directory.path().join("below/audit.jsonl");
        fs::create_dir(path.parent().unwrap()).unwrap();
        let audit = Audit::append_to(&path).unwrap();
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        let lost = || metrics().audit_entries.get("lost");
        let before = lost();
        audit.note(entry("one")).await;
        audit.written().await;
        assert_eq!(lost(), before + 1);
    }

    #[test]
    fn of_a_url_only_the_origin_is_told() {
        let of = |url: &str| origin(json!({ "url": url }).as_object().unwrap());
        assert_eq!(of("https://me:secret@a.example:8443/x?token=1#y").as_deref(), Some("https://a.example:8443"));
        for none in ["about:blank", "data:text/html,secret", "nonsense"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(origin(&Map::new()), None);
    }
}
