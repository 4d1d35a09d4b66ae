//! Settings: defaults, a TOML file, the environment and flags, merged in this order and checked as a whole.
//!
//! Each program asks the [`Reader`] for its settings one by one, with default and allowed range; the reader collects
//! everything that is wrong and reports it at once. A key nobody asked for is wrong too.

mod about;

mod reference;

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{
    Figment, Provider as _,
    providers::{Env, Format as _, Serialized, Toml},
    value::Value,
};

pub use self::reference::Setting;
use crate::size::{self, Size};

/// Exit code of a wrong command line (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;
/// Exit code of wrong settings (`EX_CONFIG`).
pub const EXIT_CONFIG: u8 = 78;

/// Environment variables are `BROWSERFLEET_SECTION__KEY`.
pub const ENV_PREFIX: &str = "BROWSERFLEET_";

/// What belongs to the front end: sections, or single keys of a section that programs share.
pub const FRONT_END: &[&str] =
    &["http", "auth", "oauth", "limits", "audit", "session", "call", "tools", "secrets", "frontend", "store.state_dir"];
/// What belongs to the pool daemon.
pub const DAEMON: &[&str] = &[
    "daemon",
    "pool",
    "lease",
    "tool",
    "browser",
    "checkpoints",
    "egress",
    "host",
    "grpc.operator_token_file",
    "unsafe.no_sandbox",
];

/// What is shown of a setting that nobody has set and that has no default.
const NONE: &str = "none";

/// Everything that is wrong with the settings, one line each.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("wrong settings:\n  {}", .0.join("\n  "))]
pub struct Problems(pub Vec<String>);

/// A setting given on the command line.
pub type Flag<'a> = (&'static str, Option<&'a dyn FlagValue>);

/// A value a flag can carry into the merge.
pub trait FlagValue {
    /// The value as the merge takes it.
    fn to_value(&self) -> Value;
}

impl<T: serde::Serialize> FlagValue for T {
    fn to_value(&self) -> Value {
        Value::serialize(self).unwrap_or_else(|_unserialisable| Value::from(""))
    }
}

/// Hands out settings and collects what is wrong with them.
#[derive(Debug)]
pub struct Reader {
    merged: Figment,
    asked: BTreeMap<&'static str, Setting>,
    problems: Vec<String>,
}

impl Reader {
    /// Merges `file` (when given), the environment and `flags`; the later wins.
    pub fn new(file: Option<&Path>, flags: &[Flag<'_>]) -> Self {
        let mut problems = Vec::new();
        let mut merged = Figment::new();
        if let Some(path) = file {
            if path.is_file() {
                merged = merged.merge(Toml::file_exact(path));
            } else {
                problems.push(format!("config file {}: no such file", path.display()));
            }
        }
        merged = merged.merge(Env::prefixed(ENV_PREFIX).split("__"));
        for (key, value) in flags {
            if let Some(value) = value {
                merged = merged.merge(Serialized::default(key, value.to_value()));
            }
        }
        Self::of(merged, problems)
    }

    /// Of a file's text and nothing else.
    #[cfg(feature = "test-util")]
    pub(crate) fn of_text(text: &str) -> Self {
        Self::of(Figment::new().merge(Toml::string(text)), Vec::new())
    }

    fn of(mut merged: Figment, mut problems: Vec<String>) -> Self {
        if let Err(error) = merged.data() {
            problems.extend(error.into_iter().map(|error| error.to_string()));
            merged = Figment::new();
        }
        Self { merged, asked: BTreeMap::new(), problems }
    }

    /// Nothing is set: for those who want to know what could be.
    pub fn unset() -> Self {
        Self::of(Figment::new(), Vec::new())
    }

    /// A duration such as `"30s"`, `"10m"`, `"8h"`.
    pub fn duration(&mut self, key: &'static str, default: Duration, range: RangeInclusive<Duration>) -> Duration {
        let show = |d: &Duration| humantime::format_duration(*d).to_string();
        let allowed = format!("{} to {}, with its unit", show(range.start()), show(range.end()));
        let parse = |value: &Value| value.as_str().and_then(|text| humantime::parse_duration(text).ok());
        let told = (show(&default), allowed);
        self.take(key, default, told, |value| parse(value).filter(|d| range.contains(d)))
    }

    /// A whole number.
    pub fn count(&mut self, key: &'static str, default: usize, range: RangeInclusive<usize>) -> usize {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.take(key, default, (default.to_string(), allowed), |value| {
            let number = whole(value).or_else(|| value.as_str().and_then(|text| text.parse().ok()))?;
            usize::try_from(number).ok().filter(|n| range.contains(n))
        })
    }

    /// A size in bytes, written such as `"512MiB"` or `"1GiB"`.
    pub fn bytes(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let allowed = format!("{} to {}, such as \"512MiB\"", Size(*range.start()), Size(*range.end()));
        self.take(key, default, (Size(default).to_string(), allowed), |value| {
            value.as_str().and_then(size::parse).filter(|bytes| range.contains(bytes))
        })
    }

    /// Yes or no.
    pub fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.take(key, default, (default.to_string(), "true or false".to_owned()), Value::to_bool)
    }

    /// An address to bind: `127.0.0.1:8931`, `[::1]:0`.
    pub fn address(&mut self, key: &'static str, default: SocketAddr) -> SocketAddr {
        let allowed = "an IP address and a port, such as 127.0.0.1:8931".to_owned();
        self.take(key, default, (default.to_string(), allowed), |value| {
            value.as_str().and_then(|text| text.parse().ok())
        })
    }

    /// A path, when set.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.take(key, None, (NONE.to_owned(), "a path".to_owned()), |value| {
            value.as_str().filter(|text| !text.is_empty()).map(|text| Some(PathBuf::from(text)))
        })
    }

    /// What is in the file that a setting names, when set. Its errors name the file.
    pub fn file<T, E: Display>(&mut self, key: &'static str, read: impl FnOnce(&Path) -> Result<T, E>) -> Option<T> {
        let path = self.path(key)?;
        read(&path).map_err(|bad| self.problem(format!("{key} = {bad}"))).ok()
    }

    /// One of a closed list of words.
    pub fn choice<T: Copy + PartialEq>(&mut self, key: &'static str, default: T, choices: &[(&str, T)]) -> T {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let named = choices.iter().find(|(_, choice)| *choice == default).map_or(NONE, |(word, _)| *word);
        self.take(key, default, (named.to_owned(), format!("one of {}", words.join(", "))), |value| {
            let text = value.as_str()?;
            choices.iter().find(|(word, _)| *word == text).map(|(_, choice)| *choice)
        })
    }

    /// A list of words: a TOML array, or one text with commas.
    pub fn list(&mut self, key: &'static str, default: &[&str]) -> Vec<String> {
        let shown = if default.is_empty() { NONE.to_owned() } else { default.join(", ") };
        let default = default.iter().map(|&word| word.to_owned()).collect();
        self.take(key, default, (shown, "a list of texts".to_owned()), |value| match value {
            Value::Array(_, items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            Value::String(_, text) => Some(text.split(',').map(|word| word.trim().to_owned()).collect()),
            _ => None,
        })
    }

    /// A text.
    pub fn text(&mut self, key: &'static str, default: &str) -> String {
        let shown = if default.is_empty() { NONE } else { default };
        self.take(key, default.to_owned(), (shown.to_owned(), "a text".to_owned()), |value| {
            value.as_str().map(str::to_owned)
        })
    }

    /// Reports a conflict between settings.
    pub fn problem(&mut self, what: impl Display) {
        self.problems.push(what.to_string());
    }

    /// The settings that have been asked for, by their keys.
    pub fn reference(&self) -> Vec<Setting> {
        self.asked.values().cloned().collect()
    }

    /// Every problem, or the certainty that there is none. `others` belongs to our other programs ([`FRONT_END`],
    /// [`DAEMON`]), which one file may serve together: it is not looked at.
    pub fn finish(mut self, others: &[&str]) -> Result<(), Problems> {
        for key in leaves(&self.merged) {
            let section = key.split('.').next().unwrap_or(&key);
            let foreign = others.contains(&section) || others.contains(&key.as_str());
            if !foreign && !self.asked.contains_key(key.as_str()) {
                let near = nearest(&key, &self.asked).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
                self.problems.push(format!("{key}: no such setting{near}"));
            }
        }
        if self.problems.is_empty() { Ok(()) } else { Err(Problems(self.problems)) }
    }

    /// `told`: its default and what it may be, in words.
    fn take<T>(
        &mut self,
        key: &'static str,
        default: T,
        told: (String, String),
        parse: impl Fn(&Value) -> Option<T>,
    ) -> T {
        let (shown, allowed) = told;
        self.asked.insert(key, Setting::new(key, shown, allowed.clone()));
        let Ok(value) = self.merged.find_value(key) else { return default };
        if let Some(parsed) = parse(&value) {
            return parsed;
        }
        let origin = self.merged.find_metadata(key).map(|metadata| format!(" (from {})", metadata.name));
        self.problems.push(format!("{key} = {}{}: not allowed; {allowed}", Shown(&value), origin.unwrap_or_default()));
        default
    }
}

/// A whole number, however it came: TOML's are signed, those of flags and the environment are not.
fn whole(value: &Value) -> Option<i128> {
    value.to_i128().or_else(|| value.to_u128().and_then(|number| i128::try_from(number).ok()))
}

/// A wrong value, as the message shows it: short, whatever it was.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.as_str().map(|text| format!("{text:?}"));
        let text = text.or_else(|| whole(self.0).map(|n| n.to_string()));
        let text = text.or_else(|| self.0.to_bool().map(|b| b.to_string()));
        let text = text.or_else(|| self.0.to_num().and_then(|n| n.to_f64()).map(|x| x.to_string()));
        f.write_str(&text.unwrap_or_else(|| "a list or table".to_owned()).chars().take(80).collect::<String>())
    }
}

/// Every key that has a value: `section.key`.
fn leaves(merged: &Figment) -> Vec<String> {
    let Ok(profiles) = merged.data() else { return Vec::new() };
    let mut keys = Vec::new();
    for dict in profiles.values() {
        for (section, value) in dict {
            match value.as_dict() {
                Some(inner) => keys.extend(inner.keys().map(|key| format!("{section}.{key}"))),
                None => keys.push(section.clone()),
            }
        }
    }
    keys
}

/// The known key that shares the most letters in order with `key`, if any is close.
fn nearest<'a>(key: &str, known: &BTreeMap<&'a str, Setting>) -> Option<&'a str> {
    let best = known.keys().min_by_key(|candidate| distance(key, candidate))?;
    (distance(key, best) <= 1 + key.len() / 4).then_some(best)
}

/// Levenshtein's distance: insertions, deletions and replacements between two keys.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::size::GIB;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn numbers_are_numbers_wherever_they_come_from() {
        let file = file("[pool]\nmax_browsers = 3\n");
        let sources = [
            Figment::new().merge(Toml::file_exact(file.path())),
            Figment::new().merge(Serialized::default("pool.max_browsers", 3_usize)),
            Figment::new().merge(Serialized::default("pool.max_browsers", "3")),
        ];
        for merged in sources {
            let mut reader = Reader { merged, asked: BTreeMap::new(), problems: Vec::new() };
            assert_eq!(reader.count("pool.max_browsers", 5, 1..=10), 3);
            assert_eq!(reader.finish(&[]), Ok(()));
        }
    }

    #[test]
    fn flags_win_over_files() {
        let file = file("[pool]\nmax_browsers = 3\nwait = \"5s\"\n");
        let mut reader = Reader::new(Some(file.path()), &[("pool.max_browsers", Some(&7))]);
        assert_eq!(reader.count("pool.max_browsers", 5, 1..=10), 7);
        assert_eq!(reader.duration("pool.wait", MINUTE, Duration::ZERO..=MINUTE), Duration::from_secs(5));
        assert_eq!(reader.finish(&[]), Ok(()));
    }

    #[test]
    fn all_problems_are_reported_at_once_with_range_and_nearest_key() {
        let file = file("[pool]\nmax_browsers = 0\nwait = 30\nmax_browser = 2\n[http]\nlisten = \"nowhere\"\n");
        let mut reader = Reader::new(Some(file.path()), &[]);
        reader.count("pool.max_browsers", 5, 1..=10);
        reader.duration("pool.wait", MINUTE, Duration::ZERO..=MINUTE);
        reader.address("http.listen", SocketAddr::from(([127, 0, 0, 1], 1)));
        let Problems(problems) = reader.finish(&[]).unwrap_err();
        assert_eq!(problems.len(), 4, "{problems:#?}");
        assert!(problems[0].contains("from 1 to 10"));
        assert!(problems[1].contains("pool.wait = 30") && problems[1].contains("unit"));
        assert!(problems[3].contains("did you mean pool.max_browsers?"));
    }

    #[test]
    fn sections_of_other_programs_are_left_alone() {
        let file = file("[other]\nkey = 1\n[shared]\ntheirs = 1\n[pol]\nkey = 1\n");
        let Problems(problems) = Reader::new(Some(file.path()), &[]).finish(&["other", "shared.theirs"]).unwrap_err();
        assert_eq!(problems, ["pol.key: no such setting"]);
    }

    #[test]
    fn a_size_has_a_unit() {
        let file = file("[browser]\nmemory_limit = \"2GiB\"\ncache = 512\n");
        let mut reader = Reader::new(Some(file.path()), &[]);
        assert_eq!(reader.bytes("browser.memory_limit", GIB, GIB..=4 * GIB), 2 * GIB);
        assert_eq!(reader.bytes("browser.cache", GIB, GIB..=4 * GIB), GIB);
        let Problems(problems) = reader.finish(&[]).unwrap_err();
        assert!(problems[0].contains("browser.cache = 512") && problems[0].contains("1 GiB to 4 GiB"), "{problems:?}");
    }

    #[test]
    fn a_missing_or_broken_file_is_a_problem() {
        let file = file("[pool\n");
        for path in [file.path(), Path::new("/nowhere/browserfleet.toml")] {
            assert_eq!(Reader::new(Some(path), &[]).finish(&[]).unwrap_err().0.len(), 1);
        }
    }
}
