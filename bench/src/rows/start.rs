//! From nothing to a browser: a grant from the warm pool, and a client's first snapshot.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, bail};
use browserfleet_common::pb::{self, acquire_response::Event, pool_service_client::PoolServiceClient};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};
use tonic::transport::Channel;

use super::{Only, QUIET, of_peer, time_left};
use crate::{
    contestants::{ours, peer, raw::Raw},
    pages::Page,
    processes::{Program, free_address, quiet},
    report::{Row, Target},
    setup::Setup,
    stats::Samples,
};

pub(super) const IDS: &[&str] = &["grant", "open"];

/// Most time for a pool to have its warm browsers again.
const WARM: Duration = Duration::from_secs(20);

pub(super) async fn measure(setup: &Setup, only: &Only) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    if only.wants("grant") && time_left(setup) {
        eprintln!("-- grant");
        rows.push(grant(setup).await?);
    }
    if only.wants("open") && time_left(setup) {
        eprintln!("-- open and first snapshot");
        rows.push(open(setup).await?);
    }
    Ok(rows)
}

/// The pool daemon as a program, with a gRPC client.
struct Pool {
    client: PoolServiceClient<Channel>,
    // After the client: the connection ends first.
    program: Program,
}

impl Pool {
    async fn start(setup: &Setup) -> anyhow::Result<Self> {
        let (address, admin): (SocketAddr, SocketAddr) = (free_address()?, free_address()?);
        let mut command = Command::new(Setup::program("pool-daemon")?);
        command.arg("--listen").arg(address.to_string()).arg("--admin-listen").arg(admin.to_string());
        setup.configure(&mut command, &[("DAEMON__DRAIN_GRACE", "0s")])?;
        let mut program = Program::start(&mut command, &setup.log("pool-daemon")?)?;
        program.serving(address).await.context("pool-daemon")?;
        let client = PoolServiceClient::connect(format!("http://{address}")).await?;
        Ok(Self { client, program })
    }

    /// Waits until warm browsers are ready and nothing is being started or ended.
    async fn warm(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + WARM;
        while Instant::now() < deadline {
            let pool = self.client.get_pool(pb::GetPoolRequest {}).await?.into_inner();
            if pool.idle > 0 && pool.starting == 0 && pool.killing == 0 {
                quiet(self.program.pid(), QUIET).await;
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
        bail!("the pool did not become warm")
    }

    async fn acquire(&mut self, session: usize) -> anyhow::Result<pb::Granted> {
        let request = pb::AcquireRequest {
            principal: "bench".to_owned(),
            session: session.to_string(),
            birth: "1".to_owned(),
            ttl: None,
            wait: None,
            ..pb::AcquireRequest::default()
        };
        let mut answers = self.client.acquire(request).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            if let Some(Event::Granted(granted)) = answer.event {
                return Ok(granted);
            }
        }
        bail!("no grant")
    }

    async fn release(&mut self, granted: pb::Granted) -> anyhow::Result<()> {
        let lease_id = granted.lease.context("a lease")?.lease_id;
        self.client.release(pb::ReleaseRequest { lease_id, token: granted.token }).await?;
        Ok(())
    }
}

async fn grant(setup: &Setup) -> anyhow::Result<Row> {
    let mut pool = Pool::start(setup).await?;
    let mut samples = Samples::default();
    let until = Instant::now() + setup.pace.row;
    for round in 0..=setup.pace.rounds {
        pool.warm().await?;
        let started = Instant::now();
        let granted = pool.acquire(round).await?;
        let took = started.elapsed();
        // The first one opens streams of the connection.
        if round > 0 {
            samples.add_time(took);
        }
        pool.release(granted).await?;
        if Instant::now() > until && round > 3 {
            break;
        }
    }
    let row = Row::new("grant", "grant from the warm pool", "ms").target(Target::AtMost(5.0));
    Ok(row.measured("ours", &samples).note("gRPC over loopback to the pool-daemon program"))
}

async fn open(setup: &Setup) -> anyhow::Result<Row> {
    let raw = Raw::start(setup)?;
    let browser = raw.launch().await?;
    let server = ours::Server::start(setup, &[]).await?;
    let theirs = match &setup.peer {
        Ok(directory) => of_peer("start", peer::Server::start(setup, directory)).await,
        Err(_) => None,
    };
    let (mut of_raw, mut of_ours, mut of_theirs) = (Samples::default(), Samples::default(), Samples::default());
    let until = Instant::now() + setup.pace.row;
    for round in 0..=setup.pace.rounds {
        let url = setup.pages.url(Page::Simple, round);
        quiet(server.pid(), QUIET).await;
        let started = Instant::now();
        let tab = browser.open(true).await?;
        tab.navigate(&url).await?;
        tab.walk().await?;
        let raw_took = started.elapsed();
        browser.dispose(tab).await?;

        let started = Instant::now();
        let mut session = server.session().await?;
        session.navigate(&url).await?;
        let ours_took = started.elapsed();
        session.close().await?;
        // The first one finds cold caches everywhere.
        if round > 0 {
            of_raw.add_time(raw_took);
            of_ours.add_time(ours_took);
        }
        if let Some(server) = &theirs
            && round < 5
        {
            let started = Instant::now();
            let first = async {
                let mut session = server.session().await?;
                session.navigate(&url).await?;
                session.snapshot().await?;
                let took = started.elapsed();
                session.close().await?;
                Ok(took)
            };
            if let Some(took) = of_peer("open", first).await.filter(|_| round > 0) {
                of_theirs.add_time(took);
            }
        }
        if Instant::now() > until && round > 3 {
            break;
        }
    }
    browser.end().await;
    let row = Row::new("open", "open → first snapshot", "ms").target(Target::AtMost(60.0));
    let row = row.measured("raw", &of_raw).measured("ours", &of_ours).measured("peer", &of_theirs);
    Ok(row.note("raw opens a context in a running browser; ours takes a warm process, with a new TCP connection"))
}
