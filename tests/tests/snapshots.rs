//! Snapshots of the corpus, line for line as Playwright MCP shows the same pages, but for documented differences.

use std::{fs, path::Path};

use anyhow::Context as _;
use browserfleet_tests::{daemon::Daemon, pages::Pages};
use serde_json::json;

/// The page whose recorded differences are ours on purpose: see `corpus/README.md`.
const DIFFERENCES: &str = "differences";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_corpus_reads_as_the_peer_shows_it() -> anyhow::Result<()> {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut names: Vec<_> = fs::read_dir(&corpus)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(".html").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() >= 60, "the corpus is there: {names:?}");
    let mut wrong = Vec::new();
    for name in names {
        // Refs count documents: each page gets a session of its own, as in the recording.
        let lease = daemon.lease(&name).await?;
        let page = lease.ok("browser_navigate", json!({ "url": pages.at(&format!("/corpus/{name}.html")) })).await?;
        let file = if name == DIFFERENCES { "differences.ours.yml".to_owned() } else { format!("{name}.snapshot.yml") };
        let expected = fs::read_to_string(corpus.join(&file)).with_context(|| file.clone())?;
        let (_, snapshot) = page.text.split_once("```yaml\n").context("a snapshot")?;
        let (snapshot, _) = snapshot.rsplit_once("\n```").context("the end of the snapshot")?;
        let differing = expected.trim_end().lines().zip(snapshot.lines()).find(|(theirs, ours)| theirs != ours);
        if let Some((theirs, ours)) = differing {
            wrong.push(format!("{name}:\n  theirs {theirs}\n  ours   {ours}"));
        } else if expected.trim_end().lines().count() != snapshot.lines().count() {
            wrong.push(format!("{name}: {} lines, not {}", snapshot.lines().count(), expected.lines().count()));
        }
        daemon.pool().release(lease.released()).await?;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    daemon.end().await
}
