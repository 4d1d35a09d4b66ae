//! What tools tell one principal is not about another's browser, and the browsers have nothing in common by which it could
//! be. Real Chromium. What scripts could find is in `isolation`; docs/isolation.md says which test shows what.

use std::{
    collections::BTreeSet,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use browserfleet_tests::{
    daemon::{Daemon, Lease},
    pages::Pages,
    processes,
};
use serde_json::json;
use tokio::time::Instant;

type Outcome = anyhow::Result<()>;

/// Far beyond what any of these takes.
const PATIENCE: Duration = Duration::from_secs(40);

/// A tool that could tell what another principal does.
struct Tell {
    name: &'static str,
    /// What one principal's page does: a function.
    act: &'static str,
    /// The call that tells what has come of it.
    tool: &'static str,
    arguments: &'static str,
    /// What it then tells the one who did it, and not before.
    told: Told,
}

enum Told {
    Words(&'static str),
    /// Another picture than before.
    Picture,
    /// Not even whoever did it is told.
    Nothing,
}

const TELLS: &[Tell] = &[
    Tell {
        name: "console messages",
        act: "() => console.error('planted')",
        tool: "browser_console_messages",
        arguments: "{}",
        told: Told::Words("[ERROR] planted"),
    },
    Tell {
        name: "network requests",
        act: "() => fetch('/echo?planted')",
        tool: "browser_network_requests",
        arguments: "{}",
        told: Told::Words("/echo?planted"),
    },
    Tell {
        name: "tabs",
        act: "() => new Promise(done => { window.open('/visited').onload = done })",
        tool: "browser_tabs",
        arguments: "{ \"action\": \"list\" }",
        told: Told::Words("[Visited]"),
    },
    Tell {
        name: "downloads",
        // Later, or it were told in the reply to this.
        act: "() => { setTimeout(() => { location.href = '/download' }, 300) }",
        tool: "browser_snapshot",
        arguments: "{}",
        told: Told::Words("a later reply: the download \"a.bin\" ("),
    },
    Tell {
        name: "history",
        act: "() => { for (const state of [1, 2, 3, 4, 5, 6, 7]) history.pushState(state, '') }",
        tool: "browser_evaluate",
        arguments: "{ \"function\": \"() => history.length > 7 ? 'long' : 'short'\" }",
        told: Told::Words("\"long\""),
    },
    Tell {
        // Chromium's headless shell remembers no visited links, not even for whoever has followed one.
        name: "visited links",
        act: "() => new Promise(done => {
            link.target = 'visit';
            link.click();
            const tab = window.open('', 'visit');
            const wait = setInterval(() => {
                if (tab.location.pathname !== '/visited' || tab.document.readyState !== 'complete') return;
                clearInterval(wait);
                tab.close();
                done();
            }, 20);
        })",
        tool: "browser_take_screenshot",
        arguments: "{}",
        told: Told::Nothing,
    },
    Tell {
        name: "screenshots",
        act: "() => { document.body.style.background = 'green' }",
        tool: "browser_take_screenshot",
        arguments: "{}",
        told: Told::Picture,
    },
];

/// A principal's browser, at a page: a lease that nobody uses ends soon, and another one's launch may take as long.
async fn browser(daemon: &Daemon, principal: &str, page: &str) -> anyhow::Result<Lease> {
    let lease = daemon.lease_as(principal, "isolated").await?;
    lease.ok("browser_navigate", json!({ "url": page })).await?;
    Ok(lease)
}

/// What a principal is told: words, and the bytes of pictures.
type Words = (String, Vec<Vec<u8>>);

impl Tell {
    async fn ask(&self, lease: &Lease) -> anyhow::Result<Words> {
        let answer = lease.ok(self.tool, serde_json::from_str(self.arguments)?).await?;
        Ok((answer.text, answer.images.into_iter().map(|(_type, bytes)| bytes).collect()))
    }

    /// Whether the one who has done something was told before, and now, what is to be told.
    fn heard(&self, before: &Words, now: &Words) -> bool {
        match self.told {
            Told::Words(words) => !before.0.contains(words) && now.0.contains(words),
            Told::Picture => before.1 != now.1,
            Told::Nothing => before == now,
        }
    }

    async fn check(&self, actor: &Lease, other: &Lease, page: &str) -> Outcome {
        for lease in [actor, other] {
            lease.ok("browser_navigate", json!({ "url": page })).await?;
        }
        let (before, others) = (self.ask(actor).await?, self.ask(other).await?);
        actor.ok("browser_evaluate", json!({ "function": self.act })).await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.ask(actor).await?;
            if self.heard(&before, &now) {
                break;
            }
            anyhow::ensure!(Instant::now() < deadline, "who did it was told: {}", now.0);
        }
        let now = self.ask(other).await?;
        anyhow::ensure!(now == others, "the other was told: {}", now.0);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_tell_nothing_of_what_another_principal_does() -> Outcome {
    let (pages, daemon) = (Pages::start().await?, Daemon::start(|_| {})?);
    let page = pages.at("/to-visit");
    let (actor, other) = tokio::try_join!(browser(&daemon, "a", &page), browser(&daemon, "b", &page))?;
    for tell in TELLS {
        tell.check(&actor, &other, &page).await.context(tell.name)?;
    }
    daemon.end().await
}

/// Where a browser keeps what it writes: said on the command line of its main process.
fn profile(lease: &Lease) -> anyhow::Result<PathBuf> {
    let line = processes::command_line(lease.lease.browser_pid);
    let data = line.split('\0').find_map(|word| word.strip_prefix("--user-data-dir="));
    Ok(Path::new(data.context(line.clone())?).parent().context("a directory above it")?.to_owned())
}

fn channels(processes: &[u32]) -> BTreeSet<(u64, u64)> {
    processes.iter().flat_map(|pid| processes::channels(*pid)).collect()
}

/// HSTS, names, TLS sessions and connections are kept by the network service, in the main process and its profile; a page
/// is a renderer's. What has no process, channel, user or file in common has none of these.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn browsers_of_two_principals_have_nothing_in_common() -> Outcome {
    // Whoever starts the daemon may leave it something that is open, as careless supervisors do.
    let _left_open = nix::unistd::pipe()?;
    let (pages, daemon) = (Pages::start().await?, Daemon::start(|_| {})?);
    let page = pages.at("/isolation");
    let (one, other) = tokio::try_join!(browser(&daemon, "a", &page), browser(&daemon, "b", &page))?;
    let mut browsers = Vec::new();
    for lease in [&one, &other] {
        let main = lease.lease.browser_pid;
        assert!(processes::renderer_of(main).is_some(), "its pages have a process of their own");
        assert_eq!(processes::listening(main), [] as [String; 0], "nobody can connect to it");
        browsers.push((processes::of_group(main), processes::users(main), profile(lease)?));
    }
    assert!(!processes::listening(nix::unistd::getpgrp().as_raw().unsigned_abs()).is_empty(), "we listen: it is seen");

    let [(ones, users, place), (others, other_users, other_place)] = browsers.as_slice() else {
        anyhow::bail!("two browsers")
    };
    let ours = channels(&[std::process::id()]);
    assert!(
        [ones, others].iter().all(|group| !channels(group).is_disjoint(&ours)),
        "we have pipes to both: they are seen"
    );
    let shared: Vec<_> = channels(ones).intersection(&channels(others)).copied().collect();
    assert_eq!(shared, [], "pipes, sockets, files or memory of both");
    assert!(ones.iter().all(|pid| !others.contains(pid)));
    assert_ne!(place, other_place);
    for (place, users) in [(place, users), (other_place, other_users)] {
        let directory = std::fs::metadata(place)?;
        assert_eq!(directory.mode() & 0o777, 0o700, "nobody else reads {}", place.display());
        assert!(users.contains(&directory.uid()), "{users:?}");
    }
    if nix::unistd::geteuid().is_root() {
        assert!(users.is_disjoint(other_users), "{users:?} {other_users:?}");
    }
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_is_gone_when_its_lease_has_ended() -> Outcome {
    let (pages, daemon) = (Pages::start().await?, Daemon::start(|_| {})?);
    let page = pages.at("/isolation");
    let (one, other) = tokio::try_join!(browser(&daemon, "a", &page), browser(&daemon, "b", &page))?;
    let (place, other_place) = (profile(&one)?, profile(&other)?);
    assert!(place.join("data").is_dir() && !processes::mentioning(&place).is_empty(), "it is there");
    daemon.pool().release(one.released()).await?;
    let deadline = Instant::now() + PATIENCE;
    while place.exists() {
        anyhow::ensure!(Instant::now() < deadline, "{} is still there", place.display());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(processes::mentioning(&place), [] as [u32; 0]);
    assert!(other_place.join("data").is_dir());
    other.ok("browser_snapshot", json!({})).await?;
    daemon.end().await
}
