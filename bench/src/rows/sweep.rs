//! What it costs a daemon to find out whose sessions are over: it reads the records of all its leases every second.

use std::{sync::Arc, thread};

use anyhow::{Context as _, ensure};
use browserfleet_common::{
    egress::{Egress, EgressRules},
    ids::{Principal, SessionName},
    lifecycle::{Shutdown, Tasks},
    redis::{Redis, Sessions, Settings, sessions::NewSession},
    session::{Client, Created, Key, LeaseRef, LeaseState, Limits as Most},
};
use browserfleet_pool_daemon::{
    pool::{self, Handle, Launching, Leased, Limits, PerPrincipal, Pressure, Retirement},
    store,
    testing::FakeLauncher,
};
use futures_util::future::try_join_all;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use tokio::{
    sync::{oneshot, watch},
    time::{Duration, Instant, sleep},
};

use super::{Only, time_left};
use crate::{
    redis_server::RedisServer,
    report::{Row, Target},
    setup::Setup,
    stats::Samples,
};

pub(super) const IDS: &[&str] = &["sweep"];

const LEASES: usize = 500;
/// Where front ends would find the daemon.
const ADDRESS: &str = "http://127.0.0.1:50051";
/// Most time for all leases to be granted, and for all browsers to be ended.
const LIMIT: Duration = Duration::from_secs(30);
/// Over so many sweeps the cost is taken together.
const SWEEPS: u32 = 5;
const HOUR: Duration = Duration::from_hours(1);

pub(super) async fn measure(setup: &Setup, only: &Only) -> anyhow::Result<Vec<Row>> {
    if !only.wants_any(IDS) || !time_left(setup) {
        return Ok(Vec::new());
    }
    eprintln!("-- a daemon's sweep of {LEASES} leases");
    let redis = RedisServer::start(setup).await?;
    let (settings, rounds) = (redis.settings()?, setup.pace.waves);
    let (done, measured) = oneshot::channel();
    // The pool and everything of it on one thread: the time of that thread is what it costs.
    let daemon = thread::Builder::new().name("sweep".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let result = runtime.map_err(anyhow::Error::from).and_then(|it| it.block_on(on_this_thread(&settings, rounds)));
        // Whoever asked may have been interrupted.
        let _gone = done.send(result);
    })?;
    let samples = measured.await.context("the thread of the daemon has ended")??;
    ensure!(daemon.join().is_ok(), "the thread of the daemon panicked");
    let what = format!("processor time of a daemon's pool and its sweep of {LEASES} leases, in a second");
    Ok(vec![Row::new("sweep", what, "ms").target(Target::AtMost(5.0)).measured("ours", &samples)])
}

/// A pool with leases whose sessions are in Redis, left alone; what that takes of this thread each second.
async fn on_this_thread(settings: &Settings, rounds: usize) -> anyhow::Result<Samples> {
    let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
    let (_pressure, receiver) = watch::channel(Pressure::default());
    let launcher = FakeLauncher::new(&tasks);
    let handle = pool::driver::start(limits(), "bench".to_owned(), Arc::clone(&launcher) as _, receiver, &tasks);
    store::start(settings.clone(), store::Name::Address(ADDRESS.to_owned()), &handle, &tasks, &shutdown);
    let sessions = Sessions::new(Redis::new(settings.clone()));
    let _leases = try_join_all((0..LEASES).map(|_| lease(&sessions, &handle))).await?;
    // The first sweeps are over.
    sleep(Duration::from_secs(2)).await;
    let mut samples = Samples::default();
    for _ in 0..rounds {
        let (begun, before) = (Instant::now(), thread_time()?);
        sleep(Duration::from_secs(1) * SWEEPS).await;
        samples.add((thread_time()? - before) / begun.elapsed().as_secs_f64());
    }
    ensure!(handle.counts().leased == LEASES, "every lease lives on: {:?}", handle.counts());
    let _leases = handle.drain(Duration::ZERO).await;
    let mut counts = handle.watch();
    tokio::time::timeout(LIMIT, async { while counts.changed().await.is_ok() {} })
        .await
        .context("browsers are left")?;
    shutdown.force();
    ensure!(tasks.join(LIMIT).await == 0, "tasks of the pool are left");
    Ok(samples)
}

/// Makes a session with a lease, as front ends do.
async fn lease(sessions: &Sessions, handle: &Handle) -> anyhow::Result<Arc<Leased>> {
    let key = Key { principal: Principal::of_key("bench"), name: SessionName::mint() };
    let (birth, client, egress) = ("1", Client::default(), Egress::default());
    let new = NewSession {
        key: &key,
        birth,
        connection: None,
        client: &client,
        egress: &egress,
        idle_ttl: HOUR,
        max_lifetime: HOUR,
        lease: &LeaseState::default(),
        limits: Most { per_principal: LEASES, total: LEASES },
    };
    ensure!(matches!(sessions.create(new).await?, Created::Fresh(_)), "a new session");
    let wanted = pool::Key {
        principal: key.principal.as_str().to_owned(),
        session: key.name.as_str().to_owned(),
        birth: birth.to_owned(),
    };
    let acquired = handle.acquire(wanted, EgressRules::default(), HOUR, Instant::now() + LIMIT).await;
    let refused = |refusal| anyhow::anyhow!("no lease: {refusal:?}");
    let leased = acquired.map_err(refused)?.outcome().await.map_err(refused)?;
    let held = LeaseRef { lease_id: leased.lease_id.clone(), token: leased.token.clone(), daemon: ADDRESS.to_owned() };
    sessions.swap_lease(&key, birth, None, &LeaseState::held(held)).await?;
    handle.renew(&leased, None).await.map_err(|refusal| anyhow::anyhow!("not confirmed: {refusal:?}"))?;
    Ok(leased)
}

/// What this thread has used of a processor, in ms.
fn thread_time() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?).as_secs_f64() * 1e3)
}

fn limits() -> Limits {
    Limits {
        max_browsers: LEASES,
        contexts_per_browser: 1,
        min_warm: 0,
        max_starting: LEASES,
        ahead_delay: Duration::ZERO,
        max_queue: LEASES,
        per_principal: PerPrincipal { max_leases: LEASES, max_waiting: LEASES },
        warm_ttl: HOUR,
        retirement: Retirement { max_age: 2 * HOUR, max_uses: 100, max_memory: u64::MAX },
        unbound_ttl: LIMIT,
        max_lifetime: 2 * HOUR,
        sessions_are_watched: true,
        launching: Launching {
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(8),
            breaker_failures: 5,
            breaker_window: Duration::from_mins(1),
        },
    }
}
