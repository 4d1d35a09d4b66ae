//! What comes in from clients, whatever it is: for fuzzing (`fuzz/`), and for its corpus among the tests.

use std::{fmt::Write as _, sync::LazyLock};

use browserfleet_common::{
    ids::{Principal, SessionName},
    keyring::Keyring,
};

use crate::{
    artifacts::{follow, granted, parse_uri, point, uri},
    mcp,
};

/// One secret for all runs: what a corpus holds of it stays good.
static KEYRING: LazyLock<Keyring> = LazyLock::new(|| Keyring::of(["0123456789abcdef0123456789abcdef"]));

/// Reads a message of JSON-RPC, up to the arguments of its tool.
///
/// # Panics
/// When two readers would see two things in it, or what is taken is none of what JSON-RPC has.
pub fn json_rpc(data: &[u8]) {
    mcp::fuzz(data);
}

/// Reads a text as a cursor, a link, the URI of an artifact, and the name of a session.
///
/// # Panics
/// When something is taken that is not, byte by byte, what we wrote.
pub fn pointers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let me = Principal::named("me");
    if let Some(cursor) = follow(&KEYRING, &me, &text) {
        assert_eq!(point(&KEYRING, &me, &cursor), text);
        assert_eq!(follow(&KEYRING, &Principal::named("you"), &text), None);
    }
    let _nobodys = granted(&KEYRING, &text);
    if let Some((session, artifact)) = parse_uri(&text) {
        assert_eq!(uri(&session, artifact), text);
    }
    if let Ok(name) = SessionName::parse(&text) {
        let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        assert!(name.as_str() == text && plain && (1..=64).contains(&text.len()));
        let mut shown = String::new();
        // Writing to a String cannot fail.
        let _infallible = write!(shown, "{name:?}");
        assert!(text.len() < 16 || !shown.contains(&*text), "a handle is a secret");
    }
}
