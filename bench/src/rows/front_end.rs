//! What one front end carries: the program itself, over a daemon that has no browsers. This program makes the load, on the
//! same processors.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, ensure};
use browserfleet_common::lifecycle::Tasks;
use browserfleet_mcp_frontend::testing::FakeDaemon;
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use serde_json::json;
use tokio::{
    process::Command,
    runtime::{Builder, Runtime},
    time::Instant,
};

use super::{Only, time_left};
use crate::{
    mcp::{Client, Prepared},
    processes::{Program, cpu_ms, free_address, rss_mib},
    redis_server::RedisServer,
    report::{Row, Target},
    setup::Setup,
    stats::Samples,
};

pub(super) const IDS: &[&str] = &["front-end", "front-end-sessions"];

/// Callers who call as fast as they are answered.
const CALLERS: usize = 32;
/// Calls before anything is measured, of each caller.
const WARM_UP: usize = 500;
/// Sessions that live, of which one in a hundred is used.
const SESSIONS: usize = 10_000;
const ACTIVE: usize = SESSIONS / 100;
/// Calls of each active session before and after the others are there: the program's own caches are filled by then.
const ROUNDS: usize = 200;

/// As many sessions of one principal as the rows need.
const SETTINGS: &[(&str, &str)] = &[("SESSION__PER_PRINCIPAL", "10000"), ("SESSION__MAX_TOTAL", "20000")];

pub(super) async fn measure(setup: &Setup, only: &Only) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    if only.wants("front-end") && time_left(setup) {
        eprintln!("-- calls through a front end");
        rows.extend(calls(setup).await?);
    }
    if only.wants("front-end-sessions") && time_left(setup) {
        eprintln!("-- a front end with {SESSIONS} sessions");
        rows.push(sessions(setup).await?);
    }
    Ok(rows)
}

/// A front end and what it needs. Everything ends with this value.
struct Scene {
    front_end: Program,
    address: SocketAddr,
    _daemon: Daemon,
    _redis: Option<RedisServer>,
}

impl Scene {
    async fn start(setup: &Setup, redis: Option<RedisServer>) -> anyhow::Result<Self> {
        let (daemon, pool) = Daemon::start().await?;
        let address = free_address()?;
        let mut command = Command::new(Setup::program("mcp-frontend")?);
        command.arg("--listen").arg(address.to_string()).arg("--pool").arg(format!("http://{pool}"));
        if let Some(redis) = &redis {
            command.arg("--store").arg(redis.url());
        }
        setup.configure(&mut command, SETTINGS)?;
        let mut front_end = Program::start(&mut command, &setup.log("front-end")?)?;
        front_end.serving(address).await.context("mcp-frontend")?;
        Ok(Self { front_end, address, _daemon: daemon, _redis: redis })
    }

    async fn callers(&self, setup: &Setup, count: usize) -> anyhow::Result<Vec<Caller>> {
        let opening = stream::iter(0..count).map(|_| Caller::open(self.address, &setup.tasks));
        opening.buffered(CALLERS).try_collect().await
    }

    fn cpu_ms(&self) -> anyhow::Result<f64> {
        cpu_ms(self.front_end.pid()).context("the processor time of the front end")
    }

    fn rss_mib(&self) -> anyhow::Result<f64> {
        rss_mib(self.front_end.pid()).context("the memory of the front end")
    }
}

/// The daemon without browsers, on a thread of its own.
struct Daemon(Option<Runtime>);

impl Daemon {
    async fn start() -> anyhow::Result<(Self, SocketAddr)> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listening = runtime.spawn(async { FakeDaemon::new(&Tasks::new()).listen(None).await });
        let home = Self(Some(runtime));
        Ok((home, listening.await??))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A client with a connection and a session of its own.
struct Caller {
    client: Client,
    call: Prepared,
}

impl Caller {
    async fn open(address: SocketAddr, tasks: &Tasks) -> anyhow::Result<Self> {
        let mut client = Client::modern(address, tasks).await?;
        let opened = client.call("browser_open", json!({})).await?;
        let session = opened.structured["session_id"].as_str().context("a session's id")?;
        let call = client.prepare("browser_snapshot", &json!({ "session_id": session }))?;
        Ok(Self { client, call })
    }

    /// The daemon repeats what it was asked.
    async fn call(&mut self) -> anyhow::Result<()> {
        self.client.repeat(&self.call, b"browser_snapshot").await
    }

    async fn calls(&mut self, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            self.call().await?;
        }
        Ok(())
    }

    /// Calls until `end`; answers how long each call took.
    async fn calls_until(&mut self, end: Instant) -> anyhow::Result<Samples> {
        let mut took = Samples::default();
        while Instant::now() < end {
            let begun = Instant::now();
            self.call().await?;
            took.add_time(begun.elapsed());
        }
        Ok(took)
    }
}

/// What came of load on one front end.
#[derive(Default)]
struct Load {
    per_second: Samples,
    took: Samples,
    /// Processor time of the front end for one call, in ms: that says what a busy machine would allow.
    cpu: Samples,
}

impl Load {
    async fn add(&mut self, scene: &Scene, callers: &mut [Caller], time: Duration) -> anyhow::Result<()> {
        let (begun, before) = (Instant::now(), scene.cpu_ms()?);
        let series = try_join_all(callers.iter_mut().map(|caller| caller.calls_until(begun + time))).await?;
        let calls: usize = series.iter().map(Samples::len).sum();
        let calls = f64::from(u32::try_from(calls)?);
        self.per_second.add(calls / begun.elapsed().as_secs_f64());
        self.cpu.add((scene.cpu_ms()? - before) / calls);
        for took in series {
            self.took.extend(took);
        }
        Ok(())
    }
}

/// The same load with Redis and without, in turns.
async fn calls(setup: &Setup) -> anyhow::Result<[Row; 4]> {
    let alone = Scene::start(setup, None).await?;
    let shared = Scene::start(setup, Some(RedisServer::start(setup).await?)).await?;
    let mut callers = [alone.callers(setup, CALLERS).await?, shared.callers(setup, CALLERS).await?];
    for caller in callers.iter_mut().flatten() {
        caller.calls(WARM_UP / CALLERS).await?;
    }
    let mut loads = [Load::default(), Load::default()];
    for _ in 0..=setup.pace.waves {
        for ((load, scene), callers) in loads.iter_mut().zip([&alone, &shared]).zip(&mut callers) {
            load.add(scene, callers, setup.pace.row / 8).await?;
        }
    }
    let [without, with] = loads;
    let p99 = |load: &Load| load.took.quantile(0.99).map_or_else(Samples::default, Samples::one);
    let what = format!("{CALLERS} callers through a front end, without browsers; raw is without Redis");
    Ok([
        Row::new("front-end", what, "/s")
            .target(Target::AtLeast(4000.0))
            .measured("raw", &without.per_second)
            .measured("ours", &with.per_second),
        Row::new("front-end", "… the slowest of a hundred calls", "ms")
            .target(Target::AtMost(30.0))
            .measured("raw", &p99(&without))
            .measured("ours", &p99(&with)),
        Row::new("front-end", "… processor time of the front end for a call", "ms")
            .measured("raw", &without.cpu)
            .measured("ours", &with.cpu),
        Row::new("front-end", "… its RSS", "MiB")
            .target(Target::AtMost(40.0))
            .measured("raw", &Samples::one(alone.rss_mib()?))
            .measured("ours", &Samples::one(shared.rss_mib()?)),
    ])
}

/// What sessions that nobody uses cost a front end through which they were opened.
async fn sessions(setup: &Setup) -> anyhow::Result<Row> {
    let scene = Scene::start(setup, Some(RedisServer::start(setup).await?)).await?;
    let mut active = scene.callers(setup, ACTIVE).await?;
    try_join_all(active.iter_mut().map(|caller| caller.calls(ROUNDS))).await?;
    let before = scene.rss_mib()?;
    // Their clients go away: what is left is the session.
    let opening = stream::iter(ACTIVE..SESSIONS).map(|_| Caller::open(scene.address, &setup.tasks));
    let idle = opening.buffer_unordered(CALLERS).try_fold(0_usize, async |count, _left| Ok(count + 1)).await?;
    ensure!(idle + ACTIVE == SESSIONS, "{SESSIONS} sessions are there");
    try_join_all(active.iter_mut().map(|caller| caller.calls(ROUNDS))).await?;
    let grown = scene.rss_mib()? - before;
    let what = format!("{SESSIONS} sessions, {ACTIVE} of them in use: what the others add to the front end's RSS");
    let row = Row::new("front-end-sessions", what, "MiB").target(Target::AtMost(5.0));
    Ok(row.measured("ours", &Samples::one(grown)).note(format!("{before:.1} MiB before them")))
}
