//! Files that pages give away: they come with a reply, bounded, and are nobody else's. Real Chromium.

use std::{fs, path::Path, time::Duration};

use browserfleet_pool_daemon::config::Config;
use browserfleet_tests::{
    daemon::{Answer, Daemon, File, Lease},
    pages::Pages,
};
use serde_json::json;
use tokio::time::Instant;

type Outcome = anyhow::Result<()>;

/// Far beyond what any of these takes: reached only when something hangs.
const PATIENCE: Duration = Duration::from_mins(1);

async fn begin(adjust: impl FnOnce(&mut Config)) -> anyhow::Result<(Daemon, Pages, Lease)> {
    let daemon = Daemon::start(adjust)?;
    let pages = Pages::start().await?;
    let lease = daemon.lease("downloads").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/giving") })).await?;
    Ok((daemon, pages, lease))
}

async fn click(lease: &Lease, text: &str) -> anyhow::Result<Answer> {
    lease.ok("browser_click", json!({ "target": format!("text={text}") })).await
}

/// What came with this answer or, on a slow machine, with one of the next.
async fn files(lease: &Lease, mut answer: Answer) -> anyhow::Result<Vec<File>> {
    let patience = Instant::now() + PATIENCE;
    while answer.files.is_empty() {
        anyhow::ensure!(Instant::now() < patience, "no file: {}", answer.text);
        answer = lease.ok("browser_snapshot", json!({})).await?;
    }
    Ok(answer.files)
}

/// Answers until one says what is wanted; what they all said.
async fn told(lease: &Lease, answer: Answer, wanted: &str) -> anyhow::Result<String> {
    let patience = Instant::now() + PATIENCE;
    let mut told = answer.text;
    while !told.contains(wanted) {
        anyhow::ensure!(Instant::now() < patience, "never told {wanted:?}: {told}");
        told.push_str(&lease.ok("browser_snapshot", json!({})).await?.text);
    }
    Ok(told)
}

/// Files in the directories for downloads of all browsers below `dir`.
fn lying_around(dir: &Path) -> anyhow::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let is_downloads = entry.file_name() == "downloads";
            count += if is_downloads {
                fs::read_dir(entry.path())?.count()
            } else {
                lying_around(&entry.path()).unwrap_or(0)
            };
        }
    }
    Ok(count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_comes_with_the_reply_whichever_way_it_was_given() -> Outcome {
    let (daemon, pages, lease) = begin(|_| {}).await?;
    let pdf = |kib: usize| File {
        name: format!("given-{kib}.pdf"),
        mime_type: "application/pdf".to_owned(),
        bytes: vec![b'x'; kib << 10],
    };
    let clicked = click(&lease, "Report").await?;
    assert_eq!(files(&lease, clicked).await?, [pdf(1)]);
    let clicked = click(&lease, "Elsewhere").await?;
    assert_eq!(files(&lease, clicked).await?, [pdf(2)], "also when the tab is gone with it");
    let clicked = click(&lease, "Made").await?;
    let made = files(&lease, clicked).await?.remove(0);
    assert_eq!((made.mime_type.as_str(), &made.bytes[..]), ("text/plain", &b"made here"[..]));
    assert!(!made.name.contains(['/', '\u{202e}']), "{:?}", made.name);

    let direct = lease.ok("browser_navigate", json!({ "url": pages.at("/given/3") })).await?;
    assert!(direct.text.contains("The URL is a download; the page has not changed."), "{}", direct.text);
    assert_eq!(files(&lease, direct).await?, [pdf(3)]);
    let after = lease.ok("browser_snapshot", json!({})).await?;
    assert!(after.text.contains("Report") && after.files.is_empty(), "each comes once: {}", after.text);
    assert_eq!(lying_around(daemon.state_dir.path())?, 0, "what was given is not kept here");
    daemon.end().await
}

/// Chromium removes what was broken off when it gets round to it.
async fn until_none_is_left(dir: &Path) -> anyhow::Result<()> {
    for _ in 0..200 {
        if lying_around(dir)? == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("files of broken downloads are left")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_or_too_much_is_stopped_and_it_is_said() -> Outcome {
    let (daemon, pages, lease) = begin(|config| config.chromium.download_bytes = 1 << 20).await?;
    let huge = click(&lease, "Huge").await?;
    assert!(huge.files.is_empty());
    told(&lease, huge, "\"given-3000.pdf\" has more than 1 MiB, the most that is kept").await?;
    until_none_is_left(daemon.state_dir.path()).await?;

    let many = click(&lease, "Many").await?;
    told(&lease, many, "was more than 8 at a time").await?;
    // What is said is also so: four of the twelve are broken off, and the others go on.
    tokio::time::timeout(PATIENCE, pages.seen("download-4")).await?;
    told(&lease, Answer::default(), "a later reply: the download \"a.bin\" (").await?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_shared_browser_each_session_gets_its_own() -> Outcome {
    let (daemon, pages, first) = begin(|config| config.limits.contexts_per_browser = 2).await?;
    let second = daemon.lease("another").await?;
    second.ok("browser_navigate", json!({ "url": pages.at("/giving") })).await?;
    let (here, there) = tokio::try_join!(click(&first, "Report"), click(&second, "Elsewhere"))?;
    let (here, there) = (files(&first, here).await?, files(&second, there).await?);
    assert_eq!((here.len(), there.len()), (1, 1));
    assert_eq!((here[0].name.as_str(), there[0].name.as_str()), ("given-1.pdf", "given-2.pdf"));
    for lease in [&first, &second] {
        assert!(lease.ok("browser_snapshot", json!({})).await?.files.is_empty());
    }
    daemon.end().await
}
