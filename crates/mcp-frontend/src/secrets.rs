//! Secrets by name: values that callers have typed without ever seeing them.
//!
//! Who may use one, and where it may be typed, its file says. A caller names it (`${secret:NAME}`); the value goes to the daemon with
//! the call, and whatever comes back is looked through for it.

use std::{borrow::Cow, collections::BTreeMap, env, fmt, fmt::Write as _, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use browserfleet_common::{
    egress::Origin,
    pb,
    secret_file::{self, BadFile},
};
use browserfleet_tools::secrets::placeholder;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;

use crate::{access::Access, call::reply::Reply};

/// Most secrets of a file, and longest value, in bytes.
const SECRETS_MAX: usize = 100;
const VALUE_MAX: usize = 4096;
/// Least bytes of a value: a shorter one is in texts by chance, and would be found by trying.
const VALUE_MIN: usize = 6;
const NAME_MAX: usize = 64;

/// What a form's encoding and JavaScript's `encodeURIComponent` leave as it is.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_').remove(b' ');
const COMPONENT: &AsciiSet = &FORM.add(b' ').remove(b'!').remove(b'~').remove(b'\'').remove(b'(').remove(b')');
/// As the latter, once it is in a URL.
const COMPONENT_IN_URL: &AsciiSet = &COMPONENT.add(b'\'');
/// What the query of a URL leaves as it is.
const QUERY: &AsciiSet = &percent_encoding::CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'\'');

/// The secrets of a file.
#[derive(Default)]
pub struct Secrets(Vec<Secret>);

struct Secret {
    name: String,
    value: String,
    origins: Vec<String>,
    /// Ids of the keys that may use it; none: everybody.
    keys: Option<Vec<String>>,
    /// The value as texts may have it, the longest first.
    shapes: Vec<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|secret| &secret.name)).finish()
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
        let secret = |(name, entry)| Secret::of(name, entry).map_err(bad);
        entries.into_iter().map(secret).collect::<Result<_, _>>().map(Self)
    }

    fn of<'a>(&'a self, access: &'a Access) -> impl Iterator<Item = &'a Secret> {
        let may = move |secret: &&Secret| match &secret.keys {
            None => true,
            Some(keys) => access.key().is_some_and(|key| keys.iter().any(|known| known == key)),
        };
        self.0.iter().filter(may)
    }

    /// The secrets of these names, for a daemon; `Err` is one that the caller does not have, whether or not there is one.
    pub(crate) fn named<'a>(
        &self,
        access: &Access,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<pb::Secret>, &'a str> {
        let mut found: Vec<pb::Secret> = Vec::new();
        for name in names {
            let Secret { value, origins, .. } = self.of(access).find(|secret| secret.name == name).ok_or(name)?;
            if found.iter().all(|known| known.name != name) {
                found.push(pb::Secret { name: name.to_owned(), value: value.clone(), origins: origins.clone() });
            }
        }
        Ok(found)
    }

    /// Takes the values of a caller's secrets out of a reply. Others' stay: that something was taken out would tell that it is one.
    pub(crate) fn mask(&self, access: &Access, reply: &mut Reply) {
        for secret in self.of(access) {
            secret.mask(reply);
        }
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
        let shapes = shapes(&value);
        Ok(Self { name, value, origins, keys, shapes })
    }

    fn mask(&self, reply: &mut Reply) {
        let Reply { failure, texts, files, downloads, structured, .. } = reply;
        if let Some(failure) = failure {
            self.mask_text(&mut failure.message);
        }
        for text in texts {
            self.mask_text(&mut text.body);
        }
        for file in files.iter_mut().chain(downloads) {
            self.mask_text(&mut file.name);
            if let Ok(text) = std::str::from_utf8(&file.data)
                && let Cow::Owned(masked) = self.masked(text)
            {
                file.data = masked.into_bytes().into();
            }
        }
        if let Some(value) = structured {
            self.mask_value(value);
        }
    }

    fn mask_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.mask_text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask_value(item)),
            Value::Object(members) => {
                let found: Vec<String> =
                    members.keys().filter(|name| matches!(self.masked(name), Cow::Owned(_))).cloned().collect();
                for name in found {
                    if let Some(value) = members.remove(&name) {
                        members.insert(self.masked(&name).into_owned(), value);
                    }
                }
                members.values_mut().for_each(|member| self.mask_value(member));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn mask_text(&self, text: &mut String) {
        if let Cow::Owned(masked) = self.masked(text) {
            *text = masked;
        }
    }

    fn masked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut masked = Cow::Borrowed(text);
        for shape in &self.shapes {
            if masked.contains(shape) {
                masked = Cow::Owned(masked.replace(shape, &placeholder(&self.name)));
            }
        }
        masked
    }
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

    fn read(content: &Value) -> Result<Secrets, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content.to_string()).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
        Secrets::read(file.path()).map_err(|bad| bad.to_string())
    }

    #[test]
    fn whatever_a_reply_is_made_of_its_secrets_are_not_in_it() {
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
            secrets.mask(&Access::open(), &mut reply);
            let left = format!("{reply:?}");
            assert_eq!(
                reply.texts[0].body.trim_matches('"').replace('"', ""),
                "before ${secret:LOGIN} after",
                "{text}"
            );
            assert!(!left.contains("w&rd") && !left.contains("w%26rd") && !left.contains(&written[6]), "{left}");
        }
    }

    #[test]
    fn a_secret_is_for_who_may_use_it() {
        let secrets = read(&json!({
            "MINE": { "value": "for one key", "origins": ["a.example"], "keys": ["k1"] },
            "OURS": { "value": "for everybody", "origins": ["a.example"] },
        }))
        .unwrap();
        let open = Access::open();
        assert_eq!(secrets.named(&open, ["MINE"]), Err("MINE"));
        let found = secrets.named(&open, ["OURS", "OURS"]).unwrap();
        assert_eq!((found.len(), found[0].value.as_str()), (1, "for everybody"));
        let mut reply = Reply::text("Result", "for one key, for everybody");
        secrets.mask(&open, &mut reply);
        assert_eq!(reply.texts[0].body, "for one key, ${secret:OURS}");
        assert_eq!(format!("{secrets:?}"), r#"["MINE", "OURS"]"#);
    }

    #[test]
    fn a_file_that_would_not_guard_its_secrets_is_refused() {
        let entry = |value: &str, origins: Value| json!({ "NAME": { "value": value, "origins": origins } });
        for (content, told) in [
            (entry("short", json!(["a.example"])), "from 6 to"),
            (entry("two\nlines", json!(["a.example"])), "on one line"),
            (entry("long enough", json!([])), "where it may be typed"),
            (entry("long enough", json!(["not an origin"])), "no origin"),
            (json!({ "a b": { "value": "long enough", "origins": ["a.example"] } }), "name"),
            (json!({ "NAME": { "origins": ["a.example"] } }), "either its value or the env"),
            (json!({ "NAME": { "env": "BROWSERFLEET_TEST_UNSET", "origins": ["a.example"] } }), "is not set"),
            (json!({ "NAME": { "value": 7, "origins": [] } }), "not a file of secrets"),
        ] {
            let why = read(&content).unwrap_err();
            assert!(why.contains(told) && !why.contains("long enough"), "{why}");
        }
    }
}
