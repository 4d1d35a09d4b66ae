//! The real launcher: a Chromium process, its pipe, and a page that has proven that it works.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use browserfleet_cdp::Connection;
use browserfleet_common::{error_code::ErrorCode, lifecycle::Tasks};
use tokio::{
    sync::OnceCell,
    task::spawn_blocking,
    time::{Duration, Instant, timeout, timeout_at},
};

use crate::{
    chromium::{self, Process, Spawner, WayOut, chain},
    egress::{Entrance, Exits, Gate},
    health::{self, Examine, Finding},
    host::memory::{Meter, Scale},
    page::{Context, DownloadPlace},
    pool::{
        Browser, LaunchError, Launcher,
        browser::{Death, ProcessTree, Ready},
    },
};

/// How long the exit of a browser that cannot be talked to is waited for.
const EXIT: Duration = Duration::from_millis(500);

/// Starts Chromium processes.
#[derive(Debug)]
pub struct ChromiumLauncher {
    spawner: Spawner,
    timeout: Duration,
    health: health::Config,
    /// Whether the first page works in a context of its own, because others will share the browser.
    shared: bool,
    /// Most bytes of a download; 0 denies them.
    download_bytes: u64,
    exits: Exits,
    meter: Arc<Meter>,
    tasks: Tasks,
}

impl ChromiumLauncher {
    /// Prepares the state directory and the launcher thread.
    pub fn start(
        config: chromium::Config,
        health: health::Config,
        exits: Exits,
        shared: bool,
        tasks: &Tasks,
    ) -> Result<Self, chromium::StartError> {
        let (timeout, download_bytes) = (config.launch_timeout, config.download_bytes);
        let spawner = Spawner::start(config, tasks)?;
        Ok(Self {
            spawner,
            timeout,
            health,
            shared,
            download_bytes,
            exits,
            meter: Arc::default(),
            tasks: tasks.clone(),
        })
    }

    /// Opens the pipe and a page, and lets the page prove that it works.
    async fn ready(
        &self,
        child: chromium::Child,
        (entrance, gate): (&Entrance, &Gate),
        deadline: Instant,
    ) -> Result<(Connection, Ready, Process), String> {
        let chromium::Child { read, write, process, listener } = child;
        let downloads = self.downloads(&process);
        let opened = async {
            entrance.open(&self.exits, process.pid(), listener).map_err(|error| no_gate(&error))?;
            let connection = Connection::open(read, write, &self.tasks).map_err(|error| error.to_string())?;
            let context = if self.shared {
                let own = open_gate(&self.exits, entrance).await?;
                Context::create(&connection, &self.tasks, Some(own), downloads, deadline)
                    .await
                    .map_err(|failure| failure.message)?
            } else {
                Context::default_of(&connection, &self.tasks, Some(gate.clone()), downloads)
            };
            let page = context.open_page(deadline).await.map_err(|failure| failure.message)?;
            // Health means a page that shows and reads something, not a browser that tells its version.
            page.rehearse(deadline).await.map_err(|failure| failure.message)?;
            Ok((connection, Ready { context, page }))
        };
        let result = tokio::select! {
            biased;
            exit = process.exited() => Err(chain(&chromium::LaunchError::exited(exit, process.stderr_tail()))),
            result = timeout_at(deadline, opened) => match result {
                Ok(Ok(opened)) => Ok(opened),
                // Its commands have the same deadline: whichever is noticed first, the browser was too slow.
                Ok(Err(reason)) if Instant::now() < deadline => Err(Self::why(&process, reason).await),
                _ => Err(chain(&chromium::LaunchError::TimedOut { after: self.timeout, stderr: process.stderr_tail() })),
            },
        };
        match result {
            Ok((connection, ready)) => Ok((connection, ready, process)),
            Err(reason) => {
                process.end().await;
                Err(reason)
            }
        }
    }

    fn downloads(&self, process: &Process) -> Option<DownloadPlace> {
        let dir = process.downloads().clone();
        (self.download_bytes > 0).then_some(DownloadPlace { dir, most: self.download_bytes })
    }

    /// Why a page could not be opened. A browser that exits closes its pipe first: its exit says more than the pipe.
    async fn why(process: &Process, reason: String) -> String {
        match timeout(EXIT, process.exited()).await {
            Ok(exit) => chain(&chromium::LaunchError::exited(exit, process.stderr_tail())),
            Err(_still_running) => chain(&chromium::LaunchError::NotReady { reason, stderr: process.stderr_tail() }),
        }
    }
}

#[async_trait]
impl Launcher for ChromiumLauncher {
    async fn launch(&self, slot: usize) -> Result<Arc<Browser>, LaunchError> {
        let deadline = Instant::now() + self.timeout;
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        // Of a shared browser nothing but its contexts is leased: its own gate stays closed.
        let entrance = if self.spawner.isolates() { Entrance::inside() } else { Entrance::on_the_machine() };
        let gate = open_gate(&self.exits, &entrance).await.map_err(LaunchError)?;
        let way_out = WayOut { proxy_server: gate.server(), inside: entrance.port() };
        let child = self.spawner.launch(slot, Some(way_out)).await.map_err(|error| LaunchError(chain(&error)))?;
        let (connection, ready, process) =
            self.ready(child, (&entrance, &gate), deadline).await.map_err(LaunchError)?;
        let limit = self.health.memory_limit;
        let downloads = self.downloads(&process);
        let scale = Arc::new(Scale::new(Arc::clone(&self.meter), process.pid(), limit));
        let tree = Arc::new(ChromiumTree {
            process,
            downloads,
            connection: connection.clone(),
            exits: self.exits.clone(),
            entrance,
            gate,
            health: self.health,
            scale,
            memory: AtomicU64::new(0),
            death: OnceCell::new(),
        });
        Ok(Arc::new(Browser::new(connection, self.tasks.clone(), tree, ready)))
    }

    fn measure(&self) {
        if !self.meter.is_stale() {
            return;
        }
        let meter = Arc::clone(&self.meter);
        self.tasks.spawn("host.census", async move {
            // It ends early with its runtime only.
            let _runtime_ends = spawn_blocking(move || meter.count()).await;
        });
    }
}

async fn open_gate(exits: &Exits, entrance: &Entrance) -> Result<Gate, String> {
    Gate::open(exits, entrance).await.map_err(|error| no_gate(&error))
}

fn no_gate(error: &std::io::Error) -> String {
    format!("its egress gate cannot be opened: {error}")
}

/// A Chromium process tree, the pipe to it, and the watch over both.
#[derive(Debug)]
struct ChromiumTree {
    process: Process,
    downloads: Option<DownloadPlace>,
    connection: Connection,
    exits: Exits,
    entrance: Entrance,
    /// The browser's only way out; in a shared one, that of nobody.
    gate: Gate,
    health: health::Config,
    scale: Arc<Scale>,
    /// The last measure, in bytes.
    memory: AtomicU64,
    /// Set by the one watch, however many wait for it.
    death: OnceCell<Death>,
}

impl ChromiumTree {
    async fn watch(&self) -> Death {
        // Either of the first two may be seen first; a browser without its pipe is as dead as one without its process.
        let reason = tokio::select! {
            biased;
            exit = self.process.exited() => format!("it ended with {exit}"),
            closed = self.connection.closed() => format!("it closed its pipe ({closed})"),
            death = health::watch(self, &self.health, self.pid()) => return death,
        };
        Death { code: ErrorCode::BrowserGone, reason }
    }
}

#[async_trait]
impl ProcessTree for ChromiumTree {
    fn pid(&self) -> u32 {
        self.process.pid()
    }

    async fn died(&self) -> Death {
        self.death.get_or_init(|| self.watch()).await.clone()
    }

    fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    async fn gate(&self) -> Result<Option<Gate>, String> {
        open_gate(&self.exits, &self.entrance).await.map(Some)
    }

    fn downloads(&self) -> Option<DownloadPlace> {
        self.downloads.clone()
    }

    async fn end(&self) -> usize {
        // First of all: whatever its pages still want to send stays here.
        self.gate.close();
        let ended = self.process.end().await;
        tracing::debug!(pid = self.pid(), how = ?ended.how, took = ?ended.took, "browser ended");
        ended.left
    }
}

#[async_trait]
impl Examine for ChromiumTree {
    async fn pulse(&self, deadline: Instant) -> Finding {
        health::pulse(&self.connection, deadline).await
    }

    async fn open(&self, deadline: Instant) -> Finding {
        health::open(&self.connection, deadline).await
    }

    async fn memory(&self) -> Option<u64> {
        let scale = Arc::clone(&self.scale);
        // `/proc` is read off the runtime: a file there can block on the process it is about.
        let bytes = spawn_blocking(move || scale.weigh()).await.ok().flatten()?;
        self.memory.store(bytes, Ordering::Relaxed);
        Some(bytes)
    }
}
