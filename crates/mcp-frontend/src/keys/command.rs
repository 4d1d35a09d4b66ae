//! `keys create | list | rotate | revoke`: what operators do with keys.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use browserfleet_common::{
    clock::{Clock as _, SystemClock},
    config::{DAEMON, FRONT_END, Problems, Reader},
    size::{self, Size},
};
use browserfleet_tools::{Group, Scope};

use super::{
    file,
    record::{self, Moment, Origins, Record},
    secret,
};
use crate::limits::Limits;

/// What can be done with keys.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a key and print it: it is shown this once, and kept as a hash only
    Create {
        #[command(flatten)]
        new: Box<Create>,
        #[command(flatten)]
        file: KeysFile,
    },
    /// Show the keys, without their secrets
    List {
        #[command(flatten)]
        file: KeysFile,
    },
    /// Give a key a new secret and print it: the old one is over, the sessions stay
    Rotate {
        /// Name or id of the key
        key: String,
        #[command(flatten)]
        file: KeysFile,
    },
    /// Remove a key: within a second nobody gets in with it
    Revoke {
        /// Name or id of the key
        key: String,
        #[command(flatten)]
        file: KeysFile,
    },
}

/// Where the keys are.
#[derive(Debug, clap::Args)]
pub struct KeysFile {
    /// The file of keys [default: as the settings say]
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Settings as TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl KeysFile {
    /// As `serve` would find it.
    fn path(&self) -> Result<PathBuf, Problems> {
        let mut reader = Reader::new(self.config.as_deref(), &[("auth.keys_file", self.keys.as_ref().map(|x| x as _))]);
        let path = reader.path("auth.keys_file");
        if path.is_none() {
            reader.problem("auth.keys_file is not set: name the file of keys with --keys FILE");
        }
        // Other settings are none of our business.
        let problems = reader.finish(&[FRONT_END, DAEMON, &["log", "unsafe"]].concat()).err();
        path.ok_or_else(|| problems.unwrap_or(Problems(Vec::new())))
    }
}

/// A key to make.
#[derive(Debug, clap::Args)]
pub struct Create {
    /// What to call it
    #[arg(long)]
    name: String,
    /// What it allows: browser:read, browser:act, browser:evaluate, browser:files, admin
    #[arg(long, value_delimiter = ',', required = true)]
    scopes: Vec<Scope>,
    /// Groups of tools: core, session [default: all]
    #[arg(long, value_delimiter = ',')]
    groups: Option<Vec<Group>>,
    /// Open sessions at a time [default: as the settings say]
    #[arg(long, value_name = "N")]
    max_sessions: Option<usize>,
    /// Calls at a time [default: as the settings say]
    #[arg(long, value_name = "N")]
    max_calls: Option<usize>,
    /// Calls that wait for a browser at a time [default: as the settings say]
    #[arg(long, value_name = "N")]
    max_queue: Option<usize>,
    /// Requests per second, a second's worth at once [default: as the settings say]
    #[arg(long, value_name = "N")]
    max_rate: Option<usize>,
    /// A session ends after this time without a call: 5m [default, and most: as the settings say]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    max_idle: Option<Duration>,
    /// A session ends after this time: 1h [default, and most: as the settings say]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    max_lifetime: Option<Duration>,
    /// Bytes of files that clients bring, an hour: 100MiB [default: as the settings say]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_upload: Option<u64>,
    /// Bytes of files that pages give away, an hour: 100MiB [default: as the settings say]
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    max_download: Option<u64>,
    /// Only there may pages go; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// There pages may not go; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    block_origin: Vec<String>,
    /// How long it is good: 12h, 30d [default: until it is revoked]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
}

/// A key that has just been made, or got a new secret.
#[derive(Debug)]
pub struct Shown {
    pub record: Record,
    /// What clients send; kept nowhere.
    pub text: String,
}

impl Create {
    /// A key with these scopes and nothing else said.
    #[cfg(any(test, feature = "test-util"))]
    pub fn named(name: &str, scopes: &[&str]) -> Self {
        let scopes = scopes.iter().map(|scope| scope.parse().expect("a scope")).collect();
        Self {
            name: name.to_owned(),
            scopes,
            groups: None,
            max_sessions: None,
            max_calls: None,
            max_queue: None,
            max_rate: None,
            max_idle: None,
            max_lifetime: None,
            max_upload: None,
            max_download: None,
            allow_origin: Vec::new(),
            block_origin: Vec::new(),
            expires: None,
        }
    }

    /// The same, good for so long.
    #[cfg(any(test, feature = "test-util"))]
    #[must_use]
    pub fn for_time(self, time: Duration) -> Self {
        Self { expires: Some(time), ..self }
    }

    /// The same, for these groups of tools.
    #[cfg(any(test, feature = "test-util"))]
    #[must_use]
    pub fn for_groups(self, groups: &[Group]) -> Self {
        Self { groups: Some(groups.to_vec()), ..self }
    }

    /// The same, with limits.
    #[cfg(any(test, feature = "test-util"))]
    #[must_use]
    pub fn within(self, limits: Limits) -> Self {
        Self {
            max_sessions: limits.sessions,
            max_calls: limits.calls,
            max_queue: limits.queue,
            max_rate: limits.rate,
            max_idle: limits.session_idle,
            max_lifetime: limits.session_lifetime,
            max_upload: limits.upload_per_hour,
            max_download: limits.download_per_hour,
            ..self
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            sessions: self.max_sessions,
            calls: self.max_calls,
            queue: self.max_queue,
            rate: self.max_rate,
            session_idle: self.max_idle,
            session_lifetime: self.max_lifetime,
            upload_per_hour: self.max_upload,
            download_per_hour: self.max_download,
        }
    }
}

/// A size on the command line.
fn bytes(text: &str) -> Result<u64, &'static str> {
    size::parse(text).ok_or("a size is written with its unit, such as 100MiB")
}

impl Command {
    /// Does it, and says so on `out`; what people should know besides goes to `notes`.
    ///
    /// # Errors
    /// When it cannot be done; the text says why. [`Problems`] if the settings do not say where the keys are.
    pub fn run(&self, out: &mut impl Write, notes: &mut impl Write) -> anyhow::Result<()> {
        match self {
            Self::Create { new, file } => {
                let shown = create(&file.path()?, new, SystemClock.now())?;
                show(&shown, out, notes).context("writing")
            }
            Self::List { file } => list(&file::read(&file.path()?)?, out).context("writing"),
            Self::Rotate { key, file } => show(&rotate(&file.path()?, key)?, out, notes).context("writing"),
            Self::Revoke { key, file } => {
                let record = revoke(&file.path()?, key)?;
                writeln!(notes, "key {} ({}) is revoked", record.name, record.id).context("writing")
            }
        }
    }
}

/// Makes a key at `now` (wall time).
///
/// # Errors
/// When there is one of this name, or the file cannot be changed.
pub fn create(path: &Path, new: &Create, now: Duration) -> anyhow::Result<Shown> {
    anyhow::ensure!(record::is_name(&new.name), "--name: 1 to 64 characters of A-Z a-z 0-9 . _ -, and no id of a key");
    file::change(path, |keys| {
        anyhow::ensure!(
            !keys.iter().any(|key| key.name == new.name),
            "there is a key {} already; revoke it, rotate it, or take another name",
            new.name
        );
        let id = secret::new_id();
        let text = secret::new_text(&id);
        let record = Record {
            hash: secret::to_hex(&secret::hash(&text)),
            id,
            name: new.name.clone(),
            scopes: new.scopes.clone(),
            groups: new.groups.clone(),
            limits: new.limits(),
            origins: Origins { allowed: new.allow_origin.clone(), blocked: new.block_origin.clone() },
            created: Moment::at(now),
            expires: new.expires.map(|time| Moment::at(now + time)),
        };
        keys.push(record.clone());
        Ok(Shown { record, text })
    })
}

/// Gives a key a new secret.
///
/// # Errors
/// When there is none of this name or id, or the file cannot be changed.
pub fn rotate(path: &Path, key: &str) -> anyhow::Result<Shown> {
    existing(path)?;
    file::change(path, |keys| {
        let record = keys.iter_mut().find(|record| is(record, key)).with_context(|| unknown(key))?;
        let text = secret::new_text(&record.id);
        record.hash = secret::to_hex(&secret::hash(&text));
        Ok(Shown { record: record.clone(), text })
    })
}

/// Removes a key.
///
/// # Errors
/// When there is none of this name or id, or the file cannot be changed.
pub fn revoke(path: &Path, key: &str) -> anyhow::Result<Record> {
    existing(path)?;
    file::change(path, |keys| {
        let place = keys.iter().position(|record| is(record, key)).with_context(|| unknown(key))?;
        Ok(keys.remove(place))
    })
}

/// Only `create` makes a file.
fn existing(path: &Path) -> anyhow::Result<()> {
    file::read(path)?;
    Ok(())
}

fn is(record: &Record, key: &str) -> bool {
    record.name == key || record.id == key
}

/// Somebody may have typed the key itself: it is not repeated.
fn unknown(key: &str) -> String {
    if record::is_name(key) || secret::is_id(key) {
        "there is no key of this name or id; see: keys list".to_owned()
    } else {
        "this is neither a name nor an id; see: keys list".to_owned()
    }
}

fn show(Shown { record, text }: &Shown, out: &mut impl Write, notes: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{text}")?;
    let until = record.expires.map_or_else(|| "until it is revoked".to_owned(), |end| format!("until {end}"));
    writeln!(notes, "key {} ({}), good {until}. It is shown only now; clients send it as", record.name, record.id)?;
    writeln!(notes, "Authorization: Bearer <key>")
}

/// What `list` shows.
const COLUMNS: [&str; 15] = [
    "NAME", "ID", "SCOPES", "GROUPS", "SESSIONS", "CALLS", "QUEUE", "RATE", "IDLE", "LIFETIME", "UPLOAD", "DOWNLOAD",
    "ORIGINS", "CREATED", "EXPIRES",
];

fn or_dash(limit: Option<impl ToString>) -> String {
    limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string())
}

fn list(records: &[Record], out: &mut impl Write) -> io::Result<()> {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(records.iter().map(|record| {
        let scopes: Vec<_> = record.scopes.iter().map(|scope| scope.name()).collect();
        let groups = record.groups.as_ref().map(|groups| groups.iter().map(|group| group.name()).collect::<Vec<_>>());
        let Origins { allowed, blocked } = &record.origins;
        let origins = allowed.iter().cloned().chain(blocked.iter().map(|origin| format!("!{origin}")));
        let origins: Vec<_> = origins.collect();
        [
            record.name.clone(),
            record.id.clone(),
            scopes.join(","),
            groups.map_or_else(|| "all".to_owned(), |groups| groups.join(",")),
            or_dash(record.limits.sessions),
            or_dash(record.limits.calls),
            or_dash(record.limits.queue),
            or_dash(record.limits.rate),
            or_dash(record.limits.session_idle.map(humantime::format_duration)),
            or_dash(record.limits.session_lifetime.map(humantime::format_duration)),
            or_dash(record.limits.upload_per_hour.map(Size)),
            or_dash(record.limits.download_per_hour.map(Size)),
            if origins.is_empty() { "all".to_owned() } else { origins.join(",") },
            record.created.to_string(),
            record.expires.map_or_else(|| "never".to_owned(), |end| end.to_string()),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<_> = (0..rows[0].len()).map(width).collect();
    for row in &rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const NOW: Duration = Duration::from_hours(499_656);

    fn text_of(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_key_is_kept_as_a_hash_in_a_file_of_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        let shown = create(&path, &Create::named("ci", &["browser:read", "browser:act"]), NOW).unwrap();
        let kept = fs::read_to_string(&path).unwrap();
        let secret = shown.text.rsplit('_').next().unwrap();
        assert!(!kept.contains(secret) && kept.contains(&shown.record.id), "{kept}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let listed = text_of(|out| list(&file::read(&path).unwrap(), out).unwrap());
        assert!(listed.contains("browser:read,browser:act") && listed.contains("2027-01-01T00:00:00Z"), "{listed}");
        assert!(!listed.contains(secret) && !listed.contains(&shown.record.hash), "{listed}");
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "nothing but the file and its lock: {names:?}");
    }

    #[test]
    fn the_permissions_an_operator_chose_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        create(&path, &Create::named("a", &["admin"]), NOW).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        create(&path, &Create::named("b", &["admin"]), NOW).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(create(&path, &Create::named("c", &["admin"]), NOW).is_err(), "a file for everybody is not used");
    }

    #[test]
    fn what_cannot_be_is_refused_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        assert!(revoke(&path, "ci").unwrap_err().to_string().contains("no such file"));
        let text = create(&path, &Create::named("ci", &["admin"]), NOW).unwrap().text;
        let before = fs::read(&path).unwrap();
        let wrong = |new: Create| create(&path, &new, NOW).unwrap_err().to_string();
        assert!(wrong(Create::named("ci", &["admin"])).contains("already"));
        assert!(wrong(Create::named("a b", &["admin"])).contains("--name"));
        let origins = Create { allow_origin: vec!["example.com/path".to_owned()], ..Create::named("x", &["admin"]) };
        assert!(wrong(origins).contains("https://"));
        let none = Limits { calls: Some(0), ..Limits::default() };
        assert!(wrong(Create::named("x", &["admin"]).within(none)).contains("0 calls"));
        let typed = revoke(&path, &text).unwrap_err().to_string();
        assert!(!typed.contains(&text) && typed.contains("keys list"), "{typed}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    #[test]
    fn two_at_a_time_do_not_undo_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        let told = file::change(&path, |_keys| {
            Ok(create(&path, &Create::named("other", &["admin"]), NOW).unwrap_err().to_string())
        });
        assert!(told.unwrap().contains("try again"));
        assert!(create(&path, &Create::named("other", &["admin"]), NOW).is_ok());
    }
}
