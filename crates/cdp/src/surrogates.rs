//! Text of a page may hold half a surrogate pair (an emoji cut by `slice`). Chromium sends it as an escape that JSON
//! allows and Rust's strings cannot hold, so one such character would make a whole answer unreadable.

use std::ops::Range;

/// The same JSON with every unpaired surrogate escape replaced by U+FFFD, or nothing when there is none.
pub(crate) fn replace_unpaired(json: &str) -> Option<String> {
    let bytes = json.as_bytes();
    let mut fixed = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(step) = json[at..].find('\\') {
        at += step;
        at += match (unit(bytes, at), unit(bytes, at + 6)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => {
                push(&mut fixed, json, copied..at);
                copied = at + 6;
                6
            }
            (Some(_), _) => 6,
            // Any other escape is two characters; the second one is ASCII in valid JSON.
            (None, _) => 2,
        };
    }
    (copied > 0).then(|| fixed + &json[copied..])
}

fn push(fixed: &mut String, json: &str, before: Range<usize>) {
    fixed.push_str(&json[before]);
    fixed.push_str("\\ufffd");
}

/// The UTF-16 unit that is escaped at `at`, if one is.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unpaired_surrogates_change() {
        for (json, expected) in [
            (r#""plain \n A 😀""#, None),
            (r#""pair \ud83d\ude00""#, None),
            (r#""escaped \\ud83d""#, None),
            (r#""high \ud83d""#, Some(r#""high \ufffd""#)),
            (r#""low \ude00 é \n""#, Some(r#""low \ufffd é \n""#)),
            (r#""\ud83d\ud83d\ude00\\\ude00""#, Some(r#""\ufffd\ud83d\ude00\\\ufffd""#)),
        ] {
            assert_eq!(replace_unpaired(json).as_deref(), expected, "{json}");
        }
    }
}
