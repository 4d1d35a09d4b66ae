//! Many clients at once, each with the whole journey: throughput and failures.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{Only, QUIET, of_peer, time_left};
use crate::{
    contestants::{
        Journeys, ours, peer,
        raw::{Contexts, Processes, Raw},
    },
    pages::Page,
    processes::quiet,
    report::{Row, Target},
    setup::Setup,
    stats::Samples,
};

pub(super) const IDS: &[&str] = &["clients", "clients-density"];

const CLIENTS: usize = 20;

/// Browsers at a time with a process each, ours and raw: the default.
const BROWSERS: usize = 5;

/// Most time of one journey; one that takes longer has failed.
const JOURNEY: Duration = Duration::from_secs(90);

/// Settings so that each client may have a session.
const SESSIONS: (&str, &str) = ("SESSION__PER_PRINCIPAL", "40");
const DENSITY: (&str, &str) = ("POOL__CONTEXTS_PER_BROWSER", "20");

pub(super) async fn measure(setup: &Setup, only: &Only) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    if only.wants("clients") && time_left(setup) {
        eprintln!("-- {CLIENTS} clients, a process each");
        let raw = Arc::new(Raw::start(setup)?);
        let server = ours::Server::start(setup, &[SESSIONS]).await?;
        quiet(server.pid(), QUIET).await;
        let mut runners: Vec<Arc<dyn Journeys>> =
            vec![Arc::new(Processes { raw, at_a_time: Semaphore::new(BROWSERS) }), Arc::new(server)];
        if let Ok(directory) = &setup.peer
            && let Some(server) = of_peer("start", peer::Server::start(setup, directory)).await
        {
            runners.push(Arc::new(server));
        }
        rows.extend(race(setup, "clients", "a process each", &runners).await?);
    }
    if only.wants("clients-density") && time_left(setup) {
        eprintln!("-- {CLIENTS} clients, contexts of one browser");
        match ours::Server::start(setup, &[SESSIONS, DENSITY]).await {
            Ok(server) => {
                quiet(server.pid(), QUIET).await;
                let browser = Raw::start(setup)?.launch().await?;
                let runners: Vec<Arc<dyn Journeys>> = vec![Arc::new(Contexts { browser }), Arc::new(server)];
                rows.extend(race(setup, "clients-density", "a context each", &runners).await?);
            }
            Err(error) => {
                let row = Row::new("clients-density", format!("{CLIENTS} clients, a context each"), "/s");
                rows.push(row.note(format!("not measured: the program does not take the setting ({error:#})")));
            }
        }
    }
    Ok(rows)
}

/// All clients of one contestant, then all of the next, in rounds.
async fn race(setup: &Setup, id: &'static str, how: &str, runners: &[Arc<dyn Journeys>]) -> anyhow::Result<[Row; 2]> {
    let mut throughput = Row::new(id, format!("{CLIENTS} clients, {how}"), "/s").target(Target::AtLeastTimesRaw(0.8));
    let mut failures =
        Row::new(id, format!("… failures of {}", CLIENTS * setup.pace.waves), "").target(Target::AtMost(0.0));
    let mut all: Vec<(Samples, usize)> = runners.iter().map(|_| (Samples::default(), 0)).collect();
    for round in 0..setup.pace.waves {
        for at in 0..runners.len() {
            let which = (round + at) % runners.len();
            let wave = wave(setup, &runners[which]).await?;
            all[which].0.add(wave.per_second);
            all[which].1 += wave.failed;
        }
    }
    for (runner, (samples, failed)) in runners.iter().zip(all) {
        throughput = throughput.measured(runner.name(), &samples);
        let failed = u32::try_from(failed).unwrap_or(u32::MAX);
        failures = failures.measured(runner.name(), &Samples::one(f64::from(failed)));
    }
    Ok([throughput, failures])
}

struct Wave {
    per_second: f64,
    failed: usize,
}

/// One journey of each client, all begun at once. What failed does not count as throughput.
async fn wave(setup: &Setup, runner: &Arc<dyn Journeys>) -> anyhow::Result<Wave> {
    let started = Instant::now();
    let clients: Vec<JoinHandle<_>> = (0..CLIENTS)
        .map(|client| {
            let (runner, url) = (Arc::clone(runner), setup.pages.url(Page::Simple, client));
            setup.tasks.spawn("bench.client", async move { timeout(JOURNEY, runner.journey(&url)).await })
        })
        .collect();
    let (mut done, mut failed) = (0_u32, 0);
    for client in clients {
        match client.await?.context("a client panicked")? {
            Ok(Ok(())) => done += 1,
            Ok(Err(error)) => {
                failed += 1;
                eprintln!("   {}: {error:#}", runner.name());
            }
            Err(_elapsed) => {
                failed += 1;
                eprintln!("   {}: a journey did not end", runner.name());
            }
        }
    }
    Ok(Wave { per_second: f64::from(done) / started.elapsed().as_secs_f64(), failed })
}
