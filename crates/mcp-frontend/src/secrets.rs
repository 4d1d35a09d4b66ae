//! Secrets by name: values that callers have typed without ever seeing them.
//!
//! Who may use one, and where it may be typed, its file says. A caller names it (`${secret:NAME}`); the value goes to the daemon with
//! the call, and whatever comes back is looked through for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fmt,
    fmt::Write as _,
    mem::take,
    ops::Range,
    path::Path,
    sync::Arc,
};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use browserfleet_common::{
    egress::Origin,
    error_code::ErrorCode,
    pb,
    secret_file::{self, BadFile},
};
use browserfleet_tools::secrets::placeholder;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use tokio::task::spawn_blocking;

use crate::{access::Access, call::reply::Reply, failure::Failure, keys::is_key_id};

/// Most secrets of a file, and longest value, in bytes.
const SECRETS_MAX: usize = 100;
const VALUE_MAX: usize = 4096;
/// Least bytes of a value: a shorter one is in texts by chance, and would be found by trying.
const VALUE_MIN: usize = 6;
const NAME_MAX: usize = 64;
/// Most memory of everything that looks for values, in bytes: a value of common length takes some kilobytes of it.
const MASKS_BYTES_MAX: usize = 512 << 20;
/// Replies of more bytes are looked through beside the threads that serve everybody.
const BESIDE: usize = 100 << 10;

/// What a form's encoding and JavaScript's `encodeURIComponent` leave as it is.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_').remove(b' ');
const COMPONENT: &AsciiSet = &FORM.add(b' ').remove(b'!').remove(b'~').remove(b'\'').remove(b'(').remove(b')');
/// As the latter, once it is in a URL.
const COMPONENT_IN_URL: &AsciiSet = &COMPONENT.add(b'\'');
/// What the query of a URL leaves as it is.
const QUERY: &AsciiSet = &percent_encoding::CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'\'');

/// The secrets of a file.
#[derive(Default)]
pub struct Secrets {
    all: Vec<Secret>,
    /// What takes those out of texts that everybody may use; `None`: there are none.
    of_all: Option<Arc<Mask>>,
    /// And those that a key may use, by its id, where some are for that key.
    of_keys: BTreeMap<String, Arc<Mask>>,
}

struct Secret {
    name: String,
    value: String,
    origins: Vec<String>,
    /// Ids of the keys that may use it; none: everybody.
    keys: Option<Vec<String>>,
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mask").field("longest", &self.longest).finish_non_exhaustive()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|secret| &secret.name)).finish()
    }
}

/// As a file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    value: Option<String>,
    /// The environment variable that has the value.
    #[serde(default)]
    env: Option<String>,
    origins: Vec<String>,
    #[serde(default)]
    keys: Option<Vec<String>>,
}

impl Secrets {
    /// The secrets of a file: JSON, by name.
    ///
    /// # Errors
    /// When it cannot be used: see [`secret_file::read`]; or it is not of this form. No value is in the text.
    pub fn read(path: &Path) -> Result<Self, BadFile> {
        let bad = |why: String| BadFile::new(path, why);
        let text = secret_file::read(path)?;
        let entries: BTreeMap<String, Entry> = serde_json::from_str(&text).map_err(|error| {
            // Serde's own text may quote what is in the file.
            let at = format!("line {}, column {}", error.line(), error.column());
            bad(format!(r#"not a file of secrets ({at}), such as {{"NAME": {{"value": "…", "origins": ["https://example.com"]}}}}"#))
        })?;
        if entries.len() > SECRETS_MAX {
            return Err(bad(format!("{} secrets; {SECRETS_MAX} are allowed", entries.len())));
        }
        let secrets = entries.into_iter().map(|(name, entry)| Secret::of(name, entry));
        Self::new(secrets.collect::<Result<_, _>>().map_err(bad)?).map_err(bad)
    }

    fn new(all: Vec<Secret>) -> Result<Self, String> {
        let keys: BTreeSet<&String> = all.iter().filter_map(|secret| secret.keys.as_ref()).flatten().collect();
        // Keys that may use the same ones share what looks for them.
        let (mut masks, mut room) = (BTreeMap::new(), MASKS_BYTES_MAX);
        let mut mask = |key: Option<&String>| {
            let these: Vec<usize> = (0..all.len()).filter(|&at| all[at].is_for(key.map(String::as_str))).collect();
            if let Some(made) = masks.get(&these) {
                return Ok(Arc::clone(made));
            }
            let made = Arc::new(Mask::of(these.iter().map(|&at| (&*all[at].name, &*all[at].value)), &mut room)?);
            masks.insert(these, Arc::clone(&made));
            Ok::<_, String>(made)
        };
        let of_keys = keys.into_iter().map(|key| Ok((key.clone(), mask(Some(key))?))).collect::<Result<_, String>>()?;
        let of_all = all.iter().any(|secret| secret.keys.is_none()).then(|| mask(None)).transpose()?;
        Ok(Self { all, of_all, of_keys })
    }

    /// The secrets of these names, for a daemon; `Err` is one that the caller does not have, whether or not there is one.
    pub(crate) fn named<'a>(
        &self,
        access: &Access,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<pb::Secret>, &'a str> {
        let mut found: Vec<pb::Secret> = Vec::new();
        for name in names {
            let Secret { value, origins, .. } = self.find(access, name).ok_or(name)?;
            if found.iter().all(|known| known.name != name) {
                found.push(pb::Secret { name: name.to_owned(), value: value.clone(), origins: origins.clone() });
            }
        }
        Ok(found)
    }

    fn find(&self, access: &Access, name: &str) -> Option<&Secret> {
        self.all.iter().find(|secret| secret.name == name && secret.is_for(access.key()))
    }

    /// What takes a caller's secrets out of texts, if it may use any.
    pub(crate) fn mask_of(&self, access: &Access) -> Option<&Arc<Mask>> {
        access.key().and_then(|key| self.of_keys.get(key)).or(self.of_all.as_ref())
    }

    /// Takes the values of a caller's secrets out of a reply. Others' stay: that something was taken out would tell that it is one.
    pub(crate) async fn mask(&self, access: &Access, reply: &mut Reply) {
        let Some(mask) = self.mask_of(access) else { return };
        let structured = reply.structured.as_ref().map_or(0, bytes_of);
        if reply.bytes().saturating_add(structured as u64) <= BESIDE as u64 {
            mask.reply(reply);
            return;
        }
        let (mask, mut whole) = (Arc::clone(mask), take(reply));
        let masked = spawn_blocking(move || {
            mask.reply(&mut whole);
            whole
        });
        *reply = masked.await.unwrap_or_else(|_panicked| {
            let text = "The tool has run, but its result cannot be shown: looking through it for secrets has failed.";
            Failure::new(ErrorCode::Internal, text).into()
        });
    }
}

/// Bytes of the texts in a value.
fn bytes_of(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(bytes_of).sum(),
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + bytes_of(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

impl Secret {
    fn of(name: String, entry: Entry) -> Result<Self, String> {
        let Entry { value, env: variable, origins, keys } = entry;
        let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > NAME_MAX || !name.bytes().all(named) {
            return Err(format!("a secret's name has from 1 to {NAME_MAX} letters, digits, -, _ or ."));
        }
        let value = match (value, variable) {
            (Some(value), None) => value,
            (None, Some(variable)) => env::var(&variable)
                .map_err(|_unset| format!("{name}: the environment variable {variable} is not set"))?,
            _ => return Err(format!("{name}: give either its value or the env that has it")),
        };
        if !(VALUE_MIN..=VALUE_MAX).contains(&value.len()) || value.contains(char::is_control) {
            return Err(format!("{name}: a value has from {VALUE_MIN} to {VALUE_MAX} bytes, on one line"));
        }
        if origins.is_empty() {
            return Err(format!("{name}: say in origins where it may be typed"));
        }
        if let Some(why) = origins.iter().find_map(|origin| Origin::parse(origin).err()) {
            return Err(format!("{name}: {why}"));
        }
        if let Some(keys) = &keys {
            // A key that there cannot be would lock out whom it was meant for, and nobody would say so.
            if keys.is_empty() {
                return Err(format!("{name}: keys names nobody; leave it out if everybody may use the secret"));
            }
            if let Some(bad) = keys.iter().find(|key| !is_key_id(key)) {
                return Err(format!(
                    "{name}: {bad:?} is no id of a key: those have 12 hexadecimal digits, as browserfleet keys list shows them"
                ));
            }
        }
        Ok(Self { name, value, origins, keys })
    }

    fn is_for(&self, key: Option<&str>) -> bool {
        self.keys.as_ref().is_none_or(|keys| key.is_some_and(|key| keys.iter().any(|known| known == key)))
    }
}

/// Takes the values of some secrets out of whatever has them, in one pass.
pub(crate) struct Mask {
    /// Everything to look for.
    shapes: AhoCorasick,
    /// By the number of a shape what stands in its place.
    placeholders: Vec<String>,
    /// Bytes of the longest shape.
    longest: usize,
}

impl Mask {
    /// Of one secret at least, by name and value. Takes what it needs of the room, in bytes.
    pub(crate) fn of<'a>(
        secrets: impl IntoIterator<Item = (&'a str, &'a str)>,
        room: &mut usize,
    ) -> Result<Self, String> {
        let too_large =
            |_| "too many long values to look for in replies: name fewer secrets, or shorter ones".to_owned();
        let (placeholders, patterns): (Vec<_>, Vec<_>) = secrets
            .into_iter()
            .flat_map(|(name, value)| shapes(value).into_iter().map(|shape| (placeholder(name), shape)))
            .unzip();
        let longest = patterns.iter().map(String::len).max().unwrap_or(1);
        let shapes = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            // The others take hundreds of bytes for each byte of a value.
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(patterns)
            .map_err(|error| too_large(Some(error)))?;
        *room = room.checked_sub(shapes.memory_usage()).ok_or(None).map_err(too_large)?;
        Ok(Self { shapes, placeholders, longest })
    }

    /// Where values are, in order, and the number of the longest shape there. Where several overlap they are one: what is left of
    /// one of them would be a part of it.
    fn places(&self, text: &[u8]) -> Vec<(Range<usize>, usize)> {
        let mut places: Vec<(Range<usize>, usize, usize)> = Vec::new();
        for found in self.shapes.find_overlapping_iter(text) {
            let (mut range, mut number, mut longest) = (found.range(), found.pattern().as_usize(), found.len());
            // They come by their ends.
            while let Some((before, its_number, its_longest)) = places.pop_if(|(before, ..)| before.end > range.start) {
                range.start = range.start.min(before.start);
                if its_longest >= longest {
                    (number, longest) = (its_number, its_longest);
                }
            }
            places.push((range, number, longest));
        }
        places.into_iter().map(|(range, number, _)| (range, number)).collect()
    }

    /// Where a text that was cut may end: before whatever may be the beginning of a value, and within none.
    pub(crate) fn safe_end(&self, text: &[u8]) -> usize {
        let mut end = text.len().saturating_sub(self.longest - 1);
        loop {
            let from = end.saturating_sub(self.longest);
            let around = &text[from..text.len().min(end + self.longest)];
            let at = end - from;
            match self.places(around).iter().find(|(place, _)| place.start < at && at < place.end) {
                Some((place, _)) => end = from + place.start,
                None => return end,
            }
        }
    }

    /// A text, or a file, without them; `None` when there are none.
    fn masked(&self, text: &[u8]) -> Option<Vec<u8>> {
        let places = self.places(text);
        if places.is_empty() {
            return None;
        }
        let (mut masked, mut from) = (Vec::with_capacity(text.len()), 0);
        for (range, number) in places {
            masked.extend_from_slice(&text[from..range.start]);
            masked.extend_from_slice(self.placeholders[number].as_bytes());
            from = range.end;
        }
        masked.extend_from_slice(&text[from..]);
        Some(masked)
    }

    fn text(&self, text: &mut String) {
        if let Some(masked) = self.masked(text.as_bytes()) {
            // What is found in a text are whole characters, as what is left of it is.
            *text = String::from_utf8_lossy(&masked).into_owned();
        }
    }

    fn reply(&self, reply: &mut Reply) {
        let Reply { failure, texts, files, downloads, structured, .. } = reply;
        if let Some(failure) = failure {
            self.text(&mut failure.message);
        }
        for text in texts {
            self.text(&mut text.body);
        }
        for file in files.iter_mut().chain(downloads) {
            self.text(&mut file.name);
            if !is_drawn(&file.data)
                && let Some(masked) = self.masked(&file.data)
            {
                file.data = masked.into();
            }
        }
        if let Some(value) = structured {
            self.value(value);
        }
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(members) => {
                if members.keys().any(|name| !self.places(name.as_bytes()).is_empty()) {
                    let renamed = take(members).into_iter().map(|(mut name, value)| {
                        self.text(&mut name);
                        (name, value)
                    });
                    *members = renamed.collect();
                }
                members.values_mut().for_each(|member| self.value(member));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// Whether a file is a picture or a PDF, by how it begins: it shows what the page shows, and a change would break it.
fn is_drawn(data: &[u8]) -> bool {
    let begins: [&[u8]; 5] = [b"\x89PNG\r\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"%PDF-"];
    let is_webp = data.starts_with(b"RIFF") && data.get(8..12) == Some(b"WEBP");
    is_webp || begins.iter().any(|first| data.starts_with(first))
}

/// A value as it is, and as URLs, forms, JSON, JavaScript, HTML and headers write it; the longest first.
fn shapes(value: &str) -> Vec<String> {
    let json = |text: &str| {
        let written = Value::from(text).to_string();
        written[1..written.len() - 1].to_owned()
    };
    let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut shapes = vec![
        value.to_owned(),
        json(value),
        // Pages log and send what they have written already.
        json(&json(value)),
        value.replace('\\', r"\\").replace('\'', r"\'"),
        html.replace('"', "&quot;"),
        html,
        BASE64_STANDARD.encode(value),
    ];
    for set in [FORM, COMPONENT, COMPONENT_IN_URL, QUERY] {
        let encoded = utf8_percent_encode(value, set).to_string();
        let lower = lowered(&encoded);
        shapes.extend([encoded.replace(' ', "+"), lower.replace(' ', "+"), encoded, lower]);
    }
    shapes.sort_by_key(|shape| (std::cmp::Reverse(shape.len()), shape.clone()));
    shapes.dedup();
    shapes
}

/// With the digits of `%2F` in small letters.
fn lowered(encoded: &str) -> String {
    let mut text = String::with_capacity(encoded.len());
    let mut parts = encoded.split('%');
    text.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (digits, rest) = part.split_at(part.floor_char_boundary(2));
        let _infallible = write!(text, "%{}{rest}", digits.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::call::reply::File;

    const VALUE: &str = "Pa\"ss'w&rd 1/ü";

    const KEY: &str = "0123456789ab";

    fn read(content: &Value) -> Result<Secrets, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content.to_string()).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        Secrets::read(file.path()).map_err(|bad| bad.to_string())
    }

    #[tokio::test]
    async fn whatever_a_reply_is_made_of_its_secrets_are_not_in_it() {
        let secrets = read(&json!({ "LOGIN": { "value": VALUE, "origins": ["https://a.example"] } })).unwrap();
        let written = [
            VALUE.to_owned(),
            json!(VALUE).to_string(),
            "Pa%22ss%27w%26rd+1%2F%C3%BC".to_owned(),
            "Pa%22ss'w%26rd%201%2F%C3%BC".to_owned(),
            "Pa%22ss%27w%26rd%201%2f%c3%bc".to_owned(),
            "Pa&quot;ss'w&amp;rd 1/ü".to_owned(),
            BASE64_STANDARD.encode(VALUE),
        ];
        for text in &written {
            let mut reply = Reply::text("Result", format!("before {text} after"));
            reply.failure =
                Some(crate::failure::Failure::new(browserfleet_common::error_code::ErrorCode::ScriptError, text));
            reply.structured = Some(json!({ "a": [text], (text.as_str()): 1 }));
            let file =
                |name: &str| File { name: name.to_owned(), mime_type: String::new(), data: Bytes::from(text.clone()) };
            (reply.files, reply.downloads) = (vec![file("f")], vec![file(text)]);
            secrets.mask(&Access::open(), &mut reply).await;
            let left = format!("{reply:?}");
            assert_eq!(
                reply.texts[0].body.trim_matches('"').replace('"', ""),
                "before ${secret:LOGIN} after",
                "{text}"
            );
            assert!(!left.contains("w&rd") && !left.contains("w%26rd") && !left.contains(&written[6]), "{left}");
        }
    }

    #[tokio::test]
    async fn a_secret_is_for_who_may_use_it() {
        let secrets = read(&json!({
            "MINE": { "value": "for one key", "origins": ["a.example"], "keys": [KEY] },
            "OURS": { "value": "for everybody", "origins": ["a.example"] },
        }))
        .unwrap();
        let open = Access::open();
        assert_eq!(secrets.named(&open, ["MINE"]), Err("MINE"));
        let found = secrets.named(&open, ["OURS", "OURS"]).unwrap();
        assert_eq!((found.len(), found[0].value.as_str()), (1, "for everybody"));
        let mut reply = Reply::text("Result", "for one key, for everybody");
        secrets.mask(&open, &mut reply).await;
        assert_eq!(reply.texts[0].body, "for one key, ${secret:OURS}");
        secrets.of_keys[KEY].reply(&mut reply);
        assert_eq!(reply.texts[0].body, "${secret:MINE}, ${secret:OURS}");
        assert_eq!(format!("{secrets:?}"), r#"["MINE", "OURS"]"#);
    }

    #[tokio::test]
    async fn of_a_secret_in_another_one_no_rest_is_shown() {
        let entry = |value: &str| json!({ "value": value, "origins": ["a.example"] });
        let secrets = read(&json!({
            "DB_PASSWORD": entry("pass-word"),
            "DB_URL": entry("postgres://me:pass-word@db/x"),
            "OVERLAPS": entry("@db/x?a=1"),
        }))
        .unwrap();
        for (text, expected) in [
            ("<postgres://me:pass-word@db/x> pass-word", "<${secret:DB_URL}> ${secret:DB_PASSWORD}"),
            ("postgres://me:pass-word@db/x?a=1 x", "${secret:DB_URL} x"),
            ("pass-wordpass-word@db/", "${secret:DB_PASSWORD}${secret:DB_PASSWORD}@db/"),
        ] {
            let mut reply = Reply::text("Result", text);
            secrets.mask(&Access::open(), &mut reply).await;
            assert_eq!(reply.texts[0].body, expected);
        }
    }

    #[test]
    fn what_is_cut_ends_before_the_beginning_of_a_value_and_within_none() {
        let mask = Mask::of([("A", "abcdef"), ("B", "efghijkl")], &mut (1 << 20)).unwrap();
        let head = mask.longest - 1;
        for (text, left) in [
            ("x".repeat(50), 50 - head),
            (format!("{}abcdef{}", "x".repeat(20), "y".repeat(head - 3)), 20),
            // Both are there, and each begins in the other.
            (format!("{}abcdefghijkl{}", "x".repeat(20), "y".repeat(head - 3)), 20),
            (format!("{}abcdef{}", "x".repeat(20), "y".repeat(head)), 26),
            ("short".to_owned(), 0),
        ] {
            assert_eq!(mask.safe_end(text.as_bytes()), left, "{text}");
        }
    }

    #[tokio::test]
    async fn files_are_looked_through_whatever_bytes_they_have_but_for_pictures() {
        let secrets = read(&json!({ "LOGIN": { "value": VALUE, "origins": ["a.example"] } })).unwrap();
        let file = |begin: &[u8]| {
            let data = [begin, VALUE.as_bytes(), b"; caf\xe9\n"].concat();
            File { name: "f".to_owned(), mime_type: "image/png".to_owned(), data: data.into() }
        };
        let begins: [&[u8]; 4] = [b"", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n", b"%PDF-1.4\n"];
        let mut reply = Reply { downloads: begins.into_iter().map(file).collect(), ..Reply::default() };
        secrets.mask(&Access::open(), &mut reply).await;
        let data: Vec<&[u8]> = reply.downloads.iter().map(|file| &file.data[..]).collect();
        assert_eq!(data[0], b"${secret:LOGIN}; caf\xe9\n");
        assert_eq!(data[1], b"PK\x03\x04${secret:LOGIN}; caf\xe9\n");
        for drawn in &data[2..] {
            assert!(drawn.windows(VALUE.len()).any(|found| found == VALUE.as_bytes()), "it would not open any more");
        }
    }

    #[tokio::test]
    async fn a_large_reply_is_looked_through_as_a_small_one() {
        let secrets = read(&json!({ "LOGIN": { "value": VALUE, "origins": ["a.example"] } })).unwrap();
        let mut reply = Reply::text("Result", format!("{}{VALUE}", "x".repeat(BESIDE)));
        reply.structured = Some(json!({ "a": VALUE }));
        secrets.mask(&Access::open(), &mut reply).await;
        assert!(reply.texts[0].body.ends_with("x${secret:LOGIN}"));
        assert_eq!(reply.structured, Some(json!({ "a": "${secret:LOGIN}" })));
    }

    #[test]
    fn a_file_that_would_not_guard_its_secrets_is_refused() {
        let entry = |value: &str, origins: Value| json!({ "NAME": { "value": value, "origins": origins } });
        let keys = |keys: Value| json!({ "NAME": { "value": "long enough", "origins": ["a.example"], "keys": keys } });
        for (content, told) in [
            (entry("short", json!(["a.example"])), "from 6 to"),
            (entry("two\nlines", json!(["a.example"])), "on one line"),
            (entry("long enough", json!([])), "where it may be typed"),
            (entry("long enough", json!(["not an origin"])), "no origin"),
            (json!({ "a b": { "value": "long enough", "origins": ["a.example"] } }), "name"),
            (json!({ "NAME": { "origins": ["a.example"] } }), "either its value or the env"),
            (json!({ "NAME": { "env": "BROWSERFLEET_TEST_UNSET", "origins": ["a.example"] } }), "is not set"),
            (json!({ "NAME": { "value": 7, "origins": [] } }), "not a file of secrets"),
            (keys(json!([])), "names nobody"),
            (keys(json!([KEY, "key_1f0c"])), "\"key_1f0c\" is no id of a key"),
            (keys(json!(["0123456789AB"])), "no id of a key"),
        ] {
            let why = read(&content).unwrap_err();
            assert!(why.contains(told) && !why.contains("long enough"), "{why}");
        }
    }
}
