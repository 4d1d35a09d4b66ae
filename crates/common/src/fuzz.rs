//! Settings and what is written in them, whatever it is: for fuzzing (`fuzz/`), and for its corpus among the tests.

use std::time::Duration;

use crate::{
    config::Reader,
    egress::{Origin, ProxyServer},
    redis::Address,
    size,
};

/// Reads a file of settings, and the text itself as each thing that settings hold.
///
/// # Panics
/// When something is taken that is out of its range, or a message shows a password.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut reader = Reader::of_text(text);
    let range = Duration::from_secs(1)..=Duration::from_mins(1);
    assert!(range.contains(&reader.duration("a.duration", Duration::from_secs(1), range.clone())));
    assert!((1..=10).contains(&reader.count("a.count", 1, 1..=10)));
    assert!((1024..=4096).contains(&reader.bytes("a.bytes", 1024, 1024..=4096)));
    reader.flag("a.flag", false);
    reader.address("a.address", ([127, 0, 0, 1], 1).into());
    reader.path("a.path");
    assert!(matches!(reader.choice("a.choice", 1, &[("one", 1), ("two", 2)]), 1 | 2));
    reader.list("a.list", &[]);
    reader.text("a.text", "");
    if let Err(problems) = reader.finish(&["b"]) {
        assert!(!problems.0.is_empty());
    }
    size::parse(text);
    if let Ok(origin) = Origin::parse(text) {
        origin.matches("example.com", 443);
    }
    if let Ok(proxy) = ProxyServer::parse(text) {
        // What is shown is the same without them: nothing of them is in it.
        let bare = ProxyServer { credentials: None, ..proxy.clone() };
        assert_eq!(format!("{proxy:?}"), format!("{bare:?}"));
    }
    if let Ok(address) = text.parse::<Address>() {
        address.is_near();
    }
}
