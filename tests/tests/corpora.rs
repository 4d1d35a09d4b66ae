//! What fuzzing has found worth keeping is read again with every run of the tests, without a fuzzer.

#![cfg(feature = "fuzz")]

use std::fs;

use browserfleet_tests::fuzz::{TARGETS, corpus};

#[test]
fn every_corpus_is_read_without_harm() -> anyhow::Result<()> {
    for (name, target) in TARGETS {
        let entries: Vec<_> = fs::read_dir(corpus(name))?.collect::<Result<_, _>>()?;
        assert!(entries.len() >= 10, "the corpus of {name} has {} entries", entries.len());
        for entry in entries {
            let bytes = fs::read(entry.path())?;
            // The name of the file is what somebody needs who looks into it.
            let read = std::panic::catch_unwind(|| target(&bytes));
            assert!(read.is_ok(), "{name} panics on {}", entry.path().display());
            // Half of it is what a slow client has sent so far.
            target(&bytes[..bytes.len() / 2]);
        }
    }
    Ok(())
}
