//! The program from its settings to its end: nothing it started is left when it returns.

use std::{io, sync::Arc, time::Duration};

use anyhow::Context as _;
use browserfleet_common::{
    checkpoint::Checkpoints,
    clock::SystemClock,
    config::Problems,
    lifecycle::{Shutdown, Tasks},
    service::ServiceSecret,
    session::inside_name,
};
use browserfleet_mcp_frontend::{App as Frontend, Host, Pools, Stores};
use browserfleet_pool_daemon::{
    app::{App as Daemon, End},
    chromium,
    grpc::Trust,
    host::doctor,
};
use tokio::net::TcpListener;

use crate::args::{Settings, Transport};

/// Time for the last tasks once everything has ended.
const LAST_TASKS: Duration = Duration::from_secs(5);

/// Time for the last checkpoints of sessions that go on when the program starts again.
const SAVING: Duration = Duration::from_secs(3);

/// Runs until a signal or, over stdio, the end of the input.
pub(crate) fn run(settings: Settings) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let result = runtime.block_on(serve(settings));
    // Standard input may be held by a read that never ends.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// Checks the machine and the settings, and prints what was found. Answers whether the program would work.
pub(crate) fn examine(settings: &Settings, problems: &Problems) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let ports = [("http.listen", settings.frontend.http.listen)];
    let mut out = io::stdout().lock();
    Ok(runtime.block_on(doctor::run(&settings.daemon, &ports, &problems.0, &mut out))?)
}

async fn serve(mut settings: Settings) -> anyhow::Result<()> {
    // The halves know each other as they do in a fleet; nobody else has a way to the daemon.
    let secret = Some(ServiceSecret::generate());
    settings.daemon.daemon.trust = Trust { secret: secret.clone(), operators: None };
    let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
    chromium::become_subreaper().context("becoming the reaper of browser processes")?;
    shutdown.on_signals(&tasks).context("installing signal handlers")?;
    // Bound before anything is started: a port in use costs no browser.
    let listener = match settings.transport {
        Transport::Http => {
            let address = settings.frontend.http.listen;
            let listener = TcpListener::bind(address).await;
            Some(listener.with_context(|| format!("listening on {address} (another one running? try --listen)"))?)
        }
        Transport::Stdio => None,
    };
    let door = match &listener {
        Some(listener) => listener.local_addr()?.to_string(),
        None => format!("stdio-{}", std::process::id()),
    };
    let name = inside_name(&settings.daemon.daemon.pool_id, &door);
    settings.daemon.daemon.inside = Some(name.clone());
    let host = Host { tasks: tasks.clone(), shutdown: shutdown.clone(), clock: Arc::new(SystemClock) };
    let stores = Stores::of(&settings.frontend, &host).context("opening store.state_dir")?;
    // Sessions that end with this process have been ended before the daemon drains: nothing is worth waiting for.
    settings.daemon.daemon.drain_grace = if stores.volatile { Duration::ZERO } else { SAVING };
    let checkpoints = Checkpoints::new(Arc::clone(&stores.checkpoints), stores.secrets.clone());
    let daemon = Arc::new(Daemon::build(settings.daemon, Some(checkpoints), &tasks, &shutdown)?);

    let scheme = if settings.frontend.http.tls.is_some() { "https" } else { "http" };
    let pools = Pools::inside(name, daemon.services()).trusting(secret);
    let frontend = Frontend::build_with(settings.frontend, pools, stores, host);
    let served = match listener {
        Some(listener) => {
            let address = listener.local_addr()?;
            eprintln!("browserfleet is ready: {scheme}://{address}/mcp");
            frontend.serve_http(listener).await.context("serving HTTP")
        }
        None => frontend.serve_stdio().await.context("serving stdio"),
    };
    let end = daemon.end().await;
    shutdown.force();
    let left = tasks.join(LAST_TASKS).await;
    if left > 0 {
        tracing::warn!(left, "tasks did not end in time");
    }
    served?;
    anyhow::ensure!(end == End::Clean, "browsers could not be ended");
    Ok(())
}
