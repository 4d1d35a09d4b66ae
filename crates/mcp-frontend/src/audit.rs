//! The audit trail: one line of JSON for each call that has ended, appended to a file. Who, what, where to, how it ended; hashes in
//! place of handles and keys, and nothing of what was typed, sent or read.
//!
//! A thread writes. A call whose line has no room waits for it, in bounded time: then the line is counted as lost, and the call
//! is answered all the same. A file that was moved away (`logrotate`) is begun anew.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
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

/// Most origins of a line.
const ORIGINS_MAX: usize = 50;
/// Where calls, their steps and their tasks have what they are told.
const URL: &str = "url";
const STEPS: &str = "steps";
const TASKS: &str = "tasks";
const ARGUMENTS: &str = "arguments";

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
    #[serde(flatten)]
    pub(crate) told: Told,
    /// `ok`, or the code of the error.
    pub(crate) outcome: &'static str,
    pub(crate) duration_ms: u64,
    /// Of the reply.
    pub(crate) bytes: u64,
    pub(crate) trace: Option<String>,
}

/// Where a call was told to go: origins, nothing else of URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Told {
    /// By its `url`, if it has one.
    pub(crate) origin: Option<String>,
    /// By the steps of a batch or of tasks, each once, as they come: the first [`ORIGINS_MAX`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) origins: Vec<String>,
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

impl Told {
    /// What a call's arguments say, whether or not they are right.
    pub(crate) fn by(arguments: &Map<String, Value>) -> Self {
        let listed = |name: &str| arguments.get(name).and_then(Value::as_array).into_iter().flatten();
        let of_tasks = listed(TASKS).filter_map(|task| task.get(STEPS)?.as_array()).flatten();
        let mut origins: Vec<String> = Vec::new();
        for step in listed(STEPS).chain(of_tasks) {
            let Some(origin) = step.get(ARGUMENTS).and_then(|arguments| origin(arguments.get(URL)?)) else { continue };
            if origins.len() < ORIGINS_MAX && !origins.contains(&origin) {
                origins.push(origin);
            }
        }
        Self { origin: arguments.get(URL).and_then(origin), origins }
    }
}

fn origin(url: &Value) -> Option<String> {
    let url = Url::parse(url.as_str()?).ok()?;
    url.origin().is_tuple().then(|| url.origin().ascii_serialization())
}

/// The file, on the thread that writes it.
#[derive(Debug)]
struct Trail {
    path: PathBuf,
    file: File,
    /// Its last line is there in part: the next one must not become the rest of it.
    torn: bool,
}

impl Trail {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { path: path.to_owned(), file, torn: is_torn(path) })
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
        append(&mut self.file, &mut self.torn, &serde_json::to_vec(entry)?)
    }

    /// Whether the path leads to another file by now, or to none.
    fn was_moved(&self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        let there = self.path.metadata();
        Ok(there.map_or(true, |there| (there.dev(), there.ino()) != (ours.dev(), ours.ino())))
    }
}

/// Appends a line, in one piece if the file takes it so: other front ends may append to the same one. `torn` says of the line before,
/// and then of this one, whether it is there in part, as on a disk that is full.
fn append(file: &mut impl io::Write, torn: &mut bool, text: &[u8]) -> io::Result<()> {
    let before: &[u8] = if *torn { b"\n" } else { b"" };
    let line = [before, text, b"\n"].concat();
    let mut rest = &line[..];
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                rest = &rest[written..];
                *torn = !rest.is_empty();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether the last line of a file was written in part, by a program before this one.
fn is_torn(path: &Path) -> bool {
    // Only of files: to open a pipe is to wait for its other end.
    if !path.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return false;
    }
    let mut last = [b'\n'];
    let end = File::open(path).and_then(|file| {
        let size = file.metadata()?.len();
        if size > 0 { file.read_exact_at(&mut last, size - 1) } else { Ok(()) }
    });
    end.is_ok() && last != [b'\n']
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
            told: Told::default(),
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

    /// A disk with room for so many bytes, written to in small pieces.
    struct Disk {
        written: Vec<u8>,
        room: usize,
    }

    impl io::Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let most = bytes.len().min(5).min(self.room - self.written.len());
            self.written.extend_from_slice(&bytes[..most]);
            if most > 0 { Ok(most) } else { Err(io::ErrorKind::StorageFull.into()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_written_in_part_spoils_no_other() {
        let (mut disk, mut torn) = (Disk { written: Vec::new(), room: 15 }, false);
        assert!(append(&mut disk, &mut torn, b"the first").is_ok());
        for _ in 0..2 {
            assert!(append(&mut disk, &mut torn, b"the second").is_err());
        }
        disk.room = 100;
        assert!(append(&mut disk, &mut torn, b"the third").is_ok());
        assert!(append(&mut disk, &mut torn, b"the fourth").is_ok());
        assert_eq!(String::from_utf8(disk.written).unwrap(), "the first\nthe s\nthe third\nthe fourth\n");
    }

    #[tokio::test]
    async fn a_line_that_another_program_left_in_part_spoils_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        fs::write(&path, r#"{"time":"19"#).unwrap();
        let audit = Audit::append_to(&path).unwrap();
        audit.note(entry("one")).await;
        audit.written().await;
        let text = fs::read_to_string(&path).unwrap();
        let (torn, whole) = text.split_once('\n').unwrap();
        assert_eq!(torn, r#"{"time":"19"#);
        assert!(serde_json::from_str::<Value>(whole).is_ok(), "{text}");
    }

    #[test]
    fn of_a_url_only_the_origin_is_told() {
        let of = |url: &str| Told::by(json!({ "url": url }).as_object().unwrap()).origin;
        assert_eq!(of("https://me:secret@a.example:8443/x?token=1#y").as_deref(), Some("https://a.example:8443"));
        for none in ["about:blank", "data:text/html,secret", "nonsense"] {
            assert_eq!(of(none), None, "{none}");
        }
        assert_eq!(Told::by(&Map::new()), Told::default());
    }

    #[test]
    fn steps_are_told_by_the_origins_they_go_to_in_bounded_number() {
        let step = |url: &str| json!({ "tool": "browser_navigate", "arguments": { "url": url } });
        let two = json!([step("https://a.example/1"), { "tool": "browser_snapshot" }, step("https://a.example/2")]);
        let batch = json!({ "steps": two });
        let tasks = json!({ "tasks": [{ "steps": two }, { "steps": [step("https://b.example/"), step("nonsense")] }] });
        let told = |arguments: &Value| Told::by(arguments.as_object().unwrap());
        assert_eq!(told(&batch), Told { origin: None, origins: vec!["https://a.example".to_owned()] });
        assert_eq!(told(&tasks).origins, ["https://a.example", "https://b.example"]);
        let many: Vec<Value> = (0..1000).map(|number| step(&format!("https://{number}.example/"))).collect();
        assert_eq!(told(&json!({ "steps": many })).origins.len(), ORIGINS_MAX);
        let line = serde_json::to_value(Entry { told: told(&batch), ..entry("browser_batch") }).unwrap();
        assert_eq!((&line["origin"], &line["origins"]), (&Value::Null, &json!(["https://a.example"])));
    }
}
