//! What it costs that sessions outlive their browsers: calls with checkpoints and without, bytes, and the first call that
//! restores one.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use browserfleet_common::{
    checkpoint::{Checkpoints, Store},
    config::{FRONT_END, Reader},
    keyring::Keyring,
    lifecycle::{Shutdown, Tasks},
    pb::{
        self, acquire_response::Event as Acquired, browser_service_client::BrowserServiceClient,
        call_tool_response::Event, pool_service_client::PoolServiceClient,
    },
    secrets::Secrets,
    session::Owner,
    unavailable::Unavailable,
};
use browserfleet_pool_daemon::{
    app::App,
    config::{Config, Defaults},
    grpc,
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};
use tonic::transport::Channel;

use super::{Only, time_left};
use crate::{
    pages::Page,
    report::{Row, Target},
    setup::Setup,
    stats::Samples,
};

pub(super) const IDS: &[&str] = &["checkpoint", "checkpoint-bytes", "restore"];

/// Calls of a journey after the page is there.
const CALLS: usize = 10;
/// What an agent takes at least from an answer to its next call. Checkpoints are read then.
const THINKING: Duration = Duration::from_millis(100);
/// A journey is mostly thinking, and its time varies by more than checkpoints may cost: this row takes the time of so many.
const ROWS: u32 = 4;
/// Most time for a daemon to end, and for its pool to become empty.
const END: Duration = Duration::from_secs(20);

/// What a site with a login keeps: three cookies, 20 items of half a KiB, one of the tab.
const LOGIN: &str = "() => { for (const n of [1, 2, 3]) document.cookie = `c${n}=${'v'.repeat(200)}; max-age=3600`; \
                     for (let n = 0; n < 20; n++) localStorage.setItem('item' + n, String(n).repeat(500).slice(0, 500)); \
                     sessionStorage.step = 'one'; return 0 }";

/// Checkpoints in memory, and how large the last one is.
#[derive(Debug, Default)]
struct Memory(Mutex<Option<Vec<u8>>>);

impl Memory {
    fn last(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Store for Memory {
    async fn save_checkpoint(&self, _of: &Owner, _lease_id: &str, sealed: Vec<u8>) -> Result<bool, Unavailable> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sealed);
        Ok(true)
    }

    async fn load_checkpoint(&self, _of: &Owner) -> Result<Option<Vec<u8>>, Unavailable> {
        Ok(self.last())
    }

    async fn drop_checkpoint(&self, _of: &Owner) -> Result<(), Unavailable> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }
}

pub(super) async fn measure(setup: &Setup, only: &Only) -> anyhow::Result<Vec<Row>> {
    if !only.wants_any(IDS) || !time_left(setup) {
        return Ok(Vec::new());
    }
    eprintln!("-- checkpoints");
    let store = Arc::new(Memory::default());
    let checkpoints = Checkpoints::new(Arc::clone(&store) as Arc<dyn Store>, Secrets::Known(Keyring::generate()));
    let (without, with) = (Daemon::start(setup, None).await?, Daemon::start(setup, Some(checkpoints)).await?);
    let measured = compare(setup, &without, &with, &store).await;
    without.end().await?;
    with.end().await?;
    measured
}

async fn compare(setup: &Setup, without: &Daemon, with: &Daemon, store: &Memory) -> anyhow::Result<Vec<Row>> {
    let (mut raw, mut ours, mut restores) = (Samples::default(), Samples::default(), Samples::default());
    let mut bytes = Samples::default();
    let started = Instant::now();
    for round in 0..setup.pace.rounds {
        let url = setup.pages.url(Page::Simple, round);
        let session = round.to_string();
        *store.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
        for turn in [round, round + 1] {
            // That of the one before is ended: that is nobody's cost here. None is kept warm.
            without.empty().await?;
            with.empty().await?;
            let (daemon, samples) = if turn % 2 == 0 { (without, &mut raw) } else { (with, &mut ours) };
            let mut lease = daemon.lease(&session).await?;
            samples.add_time(lease.journey(&url).await?);
            lease.release().await?;
        }
        bytes.add(f64::from(u32::try_from(store.last().context("a checkpoint was kept")?.len())?) / 1024.0);
        with.empty().await?;
        let mut lease = with.lease(&session).await?;
        let begun = Instant::now();
        lease.call("browser_snapshot", json!({})).await?;
        restores.add_time(begun.elapsed());
        lease.release().await?;
        if started.elapsed() > ROWS * setup.pace.row {
            break;
        }
    }
    let what = format!("{} calls of a session with a login; raw keeps no checkpoints", CALLS + 2);
    Ok(vec![
        Row::new("checkpoint", what, "ms").target(Target::TimesRaw(1.05)).measured("raw", &raw).measured("ours", &ours),
        Row::new("checkpoint-bytes", "… what is kept of it, sealed", "KiB").measured("ours", &bytes),
        Row::new("restore", "… its first call in another browser, a snapshot", "ms").measured("ours", &restores),
    ])
}

/// A daemon in this process.
struct Daemon {
    app: Arc<App>,
    channel: Channel,
    tasks: Tasks,
    shutdown: Shutdown,
}

impl Daemon {
    async fn start(setup: &Setup, checkpoints: Option<Checkpoints>) -> anyhow::Result<Self> {
        let mut reader = Reader::new(None, &[]);
        let mut config = Config::read(&mut reader, Defaults::own(0));
        reader.finish(FRONT_END)?;
        config.chromium.executable.clone_from(&setup.chromium);
        config.chromium.state_dir = setup.directory("state")?;
        config.limits.max_browsers = 2;
        config.daemon.drain_grace = Duration::ZERO;
        let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
        let app = Arc::new(App::build(config, checkpoints, &tasks, &shutdown)?);
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let address = listener.local_addr()?;
        let connections = grpc::incoming(listener);
        let (serving, stop) = (Arc::clone(&app), shutdown.hard().clone());
        let served = async move { serving.serve(connections, stop.cancelled_owned()).await };
        tasks.spawn("bench.grpc", served);
        let channel = Channel::from_shared(format!("http://{address}"))?.connect().await?;
        Ok(Self { app, channel, tasks, shutdown })
    }

    /// Waits until no browser is there.
    async fn empty(&self) -> anyhow::Result<()> {
        let mut counts = self.app.handle().watch();
        let empty = counts.wait_for(|counts| counts.idle + counts.leased + counts.retiring + counts.killing == 0);
        timeout(END, empty).await.context("a pool did not become empty")??;
        Ok(())
    }

    async fn lease(&self, session: &str) -> anyhow::Result<Lease> {
        let request = pb::AcquireRequest {
            principal: "bench".to_owned(),
            session: session.to_owned(),
            birth: "1".to_owned(),
            ..pb::AcquireRequest::default()
        };
        let mut answers = PoolServiceClient::new(self.channel.clone()).acquire(request).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            if let Some(Acquired::Granted(granted)) = answer.event {
                let lease_id = granted.lease.context("a lease")?.lease_id;
                return Ok(Lease { id: lease_id, token: granted.token, channel: self.channel.clone() });
            }
        }
        bail!("no grant")
    }

    async fn end(self) -> anyhow::Result<()> {
        self.shutdown.begin();
        self.app.end().await;
        self.shutdown.force();
        drop((self.app, self.channel));
        let left = self.tasks.join(END).await;
        ensure!(left == 0, "{left} tasks of a daemon are still running");
        Ok(())
    }
}

struct Lease {
    id: String,
    token: String,
    channel: Channel,
}

impl Lease {
    /// The time of the calls of a journey, without what its agent takes between them.
    async fn journey(&mut self, url: &str) -> anyhow::Result<Duration> {
        let mut took = self.call("browser_navigate", json!({ "url": url })).await?;
        took += self.call("browser_evaluate", json!({ "function": LOGIN })).await?;
        for _ in 0..CALLS {
            sleep(THINKING).await;
            took += self.call("browser_hover", json!({ "target": "button" })).await?;
        }
        Ok(took)
    }

    /// Calls a tool that must succeed; answers how long it took.
    async fn call(&mut self, tool: &str, arguments: Value) -> anyhow::Result<Duration> {
        let request = pb::CallToolRequest {
            lease_id: self.id.clone(),
            token: self.token.clone(),
            tool: tool.to_owned(),
            arguments: arguments.to_string().into_bytes(),
            ..pb::CallToolRequest::default()
        };
        let begun = Instant::now();
        let mut answers = BrowserServiceClient::new(self.channel.clone()).call_tool(request).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            if let Some(Event::End(pb::End { error })) = answer.event {
                ensure!(error.is_none(), "{tool}: {error:?}");
                return Ok(begun.elapsed());
            }
        }
        bail!("{tool} did not end")
    }

    async fn release(self) -> anyhow::Result<()> {
        let request = pb::ReleaseRequest { lease_id: self.id, token: self.token };
        PoolServiceClient::new(self.channel).release(request).await?;
        Ok(())
    }
}
