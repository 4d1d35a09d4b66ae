//! Memory: of the program alone, and of each session.

use super::{Only, QUIET, of_peer, time_left};
use crate::{
    contestants::{ours, peer, raw::Raw},
    pages::Page,
    processes::{descendants, pss_mib, quiet, rss_mib},
    report::{Row, Target},
    setup::Setup,
    stats::Samples,
};

pub(super) const IDS: &[&str] = &["idle", "memory", "memory-density"];

const PROCESSES: usize = 4;
const CONTEXTS: usize = 20;

/// No warm browser, and as many as there are sessions: what runs belongs to a session.
const NO_WARM: (&str, &str) = ("POOL__MIN_WARM", "0");
const SESSIONS: (&str, &str) = ("SESSION__PER_PRINCIPAL", "40");
const DENSITY: (&str, &str) = ("POOL__CONTEXTS_PER_BROWSER", "20");

const NOTE: &str = "PSS of the browsers' processes; Chromiums of others that run meanwhile share some of it";

pub(super) async fn measure(setup: &Setup, only: &Only) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    if only.wants_any(&["idle", "memory"]) && time_left(setup) {
        eprintln!("-- memory");
        rows.extend(processes(setup).await?);
    }
    if only.wants("memory-density") && time_left(setup) {
        eprintln!("-- memory, contexts of one browser");
        rows.push(contexts(setup).await?);
    }
    Ok(rows)
}

/// The program without browsers, then sessions with a process each.
async fn processes(setup: &Setup) -> anyhow::Result<[Row; 2]> {
    let mut idle = Row::new("idle", "program without browsers, RSS", "MiB").target(Target::AtMost(30.0));
    let mut memory = Row::new("memory", format!("a session of {PROCESSES}, a process each, PSS"), "MiB").note(NOTE);
    let raw = Raw::start(setup)?;
    let mut browsers = Vec::new();
    for _ in 0..PROCESSES {
        let browser = raw.launch().await?;
        browser.open(false).await?.navigate(&setup.pages.url(Page::Simple, 0)).await?;
        browsers.push(browser);
    }
    let trees: Vec<u32> = browsers.iter().flat_map(|browser| with_descendants(browser.pid())).collect();
    memory = memory.measured("raw", &each(pss_mib(&trees), PROCESSES));
    for browser in browsers {
        browser.end().await;
    }

    let server = ours::Server::start(setup, &[NO_WARM]).await?;
    idle = idle.measured("ours", &rss_mib(server.pid()).map_or_else(Samples::default, Samples::one));
    memory = memory.measured("ours", &each(of_ours(setup, &server, PROCESSES).await?, PROCESSES));
    drop(server);

    if let Ok(directory) = &setup.peer
        && let Some(server) = of_peer("start", peer::Server::start(setup, directory)).await
    {
        idle = idle.measured("peer", &rss_mib(server.pid()).map_or_else(Samples::default, Samples::one));
        if let Some(pss) = of_peer("memory", of_theirs(setup, &server)).await {
            memory = memory.measured("peer", &each(pss, PROCESSES));
        }
    }
    Ok([idle, memory])
}

/// Sessions in contexts of one browser.
async fn contexts(setup: &Setup) -> anyhow::Result<Row> {
    let row = Row::new("memory-density", format!("a session of {CONTEXTS}, a context each, PSS"), "MiB");
    let server = match ours::Server::start(setup, &[NO_WARM, SESSIONS, DENSITY]).await {
        Ok(server) => server,
        Err(error) => return Ok(row.note(format!("not measured: the program does not take the setting ({error:#})"))),
    };
    let row = row.measured("ours", &each(of_ours(setup, &server, CONTEXTS).await?, CONTEXTS)).note(NOTE);
    drop(server);
    let raw = Raw::start(setup)?;
    let browser = raw.launch().await?;
    let mut tabs = Vec::new();
    for _ in 0..CONTEXTS {
        let tab = browser.open(true).await?;
        tab.navigate(&setup.pages.url(Page::Simple, 0)).await?;
        tabs.push(tab);
    }
    let pss = pss_mib(&with_descendants(browser.pid()));
    browser.end().await;
    Ok(row.measured("raw", &each(pss, CONTEXTS)))
}

/// The browsers' memory with so many sessions on the simple page.
async fn of_ours(setup: &Setup, server: &ours::Server, count: usize) -> anyhow::Result<Option<f64>> {
    let mut sessions = Vec::new();
    for number in 0..count {
        let mut session = server.session().await?;
        session.navigate(&setup.pages.url(Page::Simple, number)).await?;
        sessions.push(session);
    }
    quiet(server.pid(), QUIET).await;
    let pss = pss_mib(&descendants(server.pid()));
    for session in sessions {
        session.close().await?;
    }
    Ok(pss)
}

async fn of_theirs(setup: &Setup, server: &peer::Server) -> anyhow::Result<Option<f64>> {
    let mut sessions = Vec::new();
    for number in 0..PROCESSES {
        let mut session = server.session().await?;
        session.navigate(&setup.pages.url(Page::Simple, number)).await?;
        sessions.push(session);
    }
    let pss = pss_mib(&descendants(server.pid()));
    for session in sessions {
        session.close().await?;
    }
    Ok(pss)
}

fn with_descendants(pid: u32) -> Vec<u32> {
    let mut pids = descendants(pid);
    pids.push(pid);
    pids
}

fn each(total: Option<f64>, count: usize) -> Samples {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    total.map_or_else(Samples::default, |total| Samples::one(total / f64::from(count)))
}
