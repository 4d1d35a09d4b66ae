//! The daemon as one value: built from its settings, run on connections it is given, ended with everything it started.

use std::{future::Future, sync::Arc, time::Duration};

use browserfleet_common::{
    checkpoint::Checkpoints,
    lifecycle::{Shutdown, Tasks},
    redis::Fitness,
    service::OperatorToken,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    time::timeout,
};
use tokio_stream::Stream;
use tonic::{service::Routes, transport::server::Connected};

use crate::{
    admin,
    checkpoint::{self, Keeper},
    chromium::{self, is_headless_shell},
    config::{Config, DaemonConfig},
    egress::Exits,
    grpc::{self, Authenticator, Browsers, Pools, ServeError},
    host::pressure,
    launcher::ChromiumLauncher,
    pool::{self, Handle},
    store,
    tools::Abilities,
};

/// After the drain's grace, the time for browsers to be ended and counted.
const END: Duration = Duration::from_secs(15);

/// The daemon.
#[derive(Debug)]
pub struct App {
    handle: Handle,
    /// Whether the store will do, if there is one.
    store: Option<Fitness>,
    pools: Pools,
    browsers: Browsers,
    authenticator: Authenticator,
    operators: Option<OperatorToken>,
    drain_grace: Duration,
    max_connection_age: Duration,
    tasks: Tasks,
    shutdown: Shutdown,
}

/// How the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every browser is gone.
    Clean,
    /// Some could not be ended, or not in time.
    Left,
}

impl App {
    /// Prepares the launcher and starts the pool; warm browsers start at once. With `checkpoints` sessions outlive their
    /// browsers.
    pub fn build(
        config: Config,
        checkpoints: Option<Checkpoints>,
        tasks: &Tasks,
        shutdown: &Shutdown,
    ) -> Result<Self, chromium::StartError> {
        let headed = !is_headless_shell(&config.chromium.executable) && std::env::var_os("DISPLAY").is_some();
        let shared = config.limits.contexts_per_browser > 1;
        let exits = Exits::new(config.egress, tasks);
        let launcher = Arc::new(ChromiumLauncher::start(config.chromium, config.health, exits, shared, tasks)?);
        let pressure = pressure::watch(config.pressure, tasks);
        let handle = pool::driver::start(config.limits, config.daemon.pool_id, launcher, pressure, tasks);
        let DaemonConfig { address, inside, .. } = config.daemon;
        let name = inside.map(store::Name::Inside).or(address.map(store::Name::Address));
        let store = config.store.zip(name);
        let store = store.map(|(settings, name)| store::start(settings, name, &handle, tasks, shutdown));
        let (grace, max_connection_age) = (config.daemon.drain_grace, config.daemon.max_connection_age);
        let pools = Pools::new(handle.clone(), config.leases, grace, tasks.clone());
        let abilities = Abilities { headed, shared };
        let keeper = checkpoints
            .filter(|_| config.checkpoints.enabled)
            .map(|checkpoints| Keeper::new(checkpoints, config.checkpoints, tasks.clone()));
        if let Some(keeper) = &keeper {
            tasks.spawn("checkpoint.move", checkpoint::move_when_draining(keeper.clone(), handle.clone()));
        }
        let browsers = Browsers::new(handle.clone(), config.times, abilities, config.max_call, tasks.clone());
        let browsers = browsers.keeping(keeper);
        let operators = config.daemon.trust.operators.clone();
        let authenticator = Authenticator::new(config.daemon.trust);
        let (tasks, shutdown) = (tasks.clone(), shutdown.clone());
        let drain_grace = grace;
        Ok(Self {
            handle,
            store,
            pools,
            browsers,
            authenticator,
            operators,
            drain_grace,
            max_connection_age,
            tasks,
            shutdown,
        })
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The services a front end in this process needs.
    pub fn services(&self) -> Routes {
        grpc::services((self.pools.clone(), self.browsers.clone()), &self.authenticator)
    }

    /// Serves gRPC on connections that somebody else accepts, until `stop`.
    pub fn serve<I, C, E>(
        &self,
        connections: I,
        stop: impl Future<Output = ()>,
    ) -> impl Future<Output = Result<(), ServeError>>
    where
        I: Stream<Item = Result<C, E>>,
        C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        C::ConnectInfo: Clone + Send + Sync + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let services = (self.pools.clone(), self.browsers.clone());
        grpc::serve(connections, services, self.authenticator.clone(), self.max_connection_age, &self.tasks, stop)
    }

    /// Starts serving health and metrics over HTTP.
    pub fn start_admin(&self, listener: TcpListener) {
        let daemon =
            admin::Daemon { handle: self.handle.clone(), store: self.store.clone(), operators: self.operators.clone() };
        let serving = admin::serve(listener, daemon, self.tasks.clone(), self.shutdown.soft().clone());
        self.tasks.spawn("admin", serving);
    }

    /// Ends the pool: no new leases, running ones within the grace, then every browser, verified. A hard shutdown skips
    /// the grace.
    pub async fn end(&self) -> End {
        end(&self.handle, self.drain_grace, &self.shutdown).await
    }
}

async fn end(handle: &Handle, drain_grace: Duration, shutdown: &Shutdown) -> End {
    let grace = if shutdown.hard().is_cancelled() { Duration::ZERO } else { drain_grace };
    // A pool that has stopped already has nothing to drain.
    let _stopped = handle.drain(grace).await;
    let hard = async {
        shutdown.hard().cancelled().await;
        let _stopped = handle.drain(Duration::ZERO).await;
        std::future::pending::<()>().await;
    };
    let mut counts = handle.watch();
    let drained = async {
        // The driver ends, and with it this watch, when nothing is left that it could end.
        while counts.changed().await.is_ok() {}
    };
    let ended = timeout(grace + END, async {
        tokio::select! {
            () = drained => {}
            () = hard => {}
        }
    });
    let in_time = ended.await.is_ok();
    let counts = handle.counts();
    if in_time && counts.left == 0 {
        return End::Clean;
    }
    tracing::error!(in_time, ?counts, "browsers could not be ended");
    End::Left
}

#[cfg(test)]
mod tests {
    use browserfleet_common::egress::EgressRules;
    use tokio::{sync::watch, time::Instant};

    use super::*;
    use crate::{
        pool::{Key, Pressure, driver, test_limits},
        testing::{self, FakeLauncher},
    };

    const GRACE: Duration = Duration::from_secs(20);

    /// How a pool with one lease ends whose browser leaves so many processes, and how long that took after the grace.
    async fn ended(leaving: usize) -> (End, Duration) {
        let tasks = Tasks::new();
        let launcher = FakeLauncher::new(&tasks);
        launcher.leave(leaving);
        let (_calm, pressure) = watch::channel(Pressure::default());
        let handle = driver::start(test_limits(1, 0), "pool".to_owned(), launcher, pressure, &tasks);
        let key = Key { principal: "p".to_owned(), session: "s".to_owned(), birth: "1".to_owned() };
        let deadline = Instant::now() + GRACE;
        let asked = handle.acquire(key, EgressRules::default(), 2 * GRACE, deadline).await.unwrap();
        let leased = asked.outcome().await.unwrap();
        let _running = leased.enter().unwrap();
        let began = Instant::now();
        let end = end(&handle, GRACE, &Shutdown::new()).await;
        (end, began.elapsed().saturating_sub(GRACE))
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_ended_is_in_how_the_daemon_ended() {
        let moment = Duration::from_millis(10);
        for (leaving, told) in [(0, End::Clean), (1, End::Left)] {
            let (end, took) = ended(leaving).await;
            assert_eq!(end, told);
            assert!(took <= testing::END + moment, "it is known as soon as it is certain: {took:?}");
        }
    }
}
