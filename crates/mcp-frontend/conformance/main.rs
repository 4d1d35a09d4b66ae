//! A server for MCP's conformance suite: answers of its own, over the very protocol layer of the product.
//!
//! The suite wants tools, resources and prompts of certain names, and a server that asks its client for things; the product
//! has none of them. So [`server`] answers here instead of the product's handler: what the layer does with a request until
//! then, and with the answer after it, is what the product's clients get.
//! [`catalogue`] is what it lists, [`tools`] what its tools do, [`client`] asks the client in the legacy era, [`rounds`]
//! in the modern one.

mod server;

mod catalogue;

mod tools;

mod client;

mod rounds;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use browserfleet_common::{
    clock::SystemClock,
    lifecycle::{Shutdown, Tasks},
    redis::{Address, Settings},
};
use browserfleet_mcp_frontend::{App, Config, Host, Pools, testing::FakeDaemon};
use clap::Parser;
use tokio::net::TcpListener;

use crate::server::Fixture;

/// How long tasks may take to end.
const LAST_TASKS: Duration = Duration::from_secs(1);

#[derive(Parser)]
struct Arguments {
    /// Where to serve
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// What several of them share: redis://host:port [default: everything in this process]
    #[arg(long, value_name = "URL")]
    store: Option<Address>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
    shutdown.on_signals(&tasks)?;
    let daemon = FakeDaemon::new(&tasks);
    let config = Config { store: arguments.store.map(Settings::at), ..Config::default() };
    let pools = Pools::inside("local", daemon.channel());
    let host = Host { tasks: tasks.clone(), shutdown: shutdown.clone(), clock: Arc::new(SystemClock) };
    let app = App::build(config, pools, host)?;
    let fixture = Fixture::new(app.changes());
    app.serve_http_with(TcpListener::bind(arguments.listen).await?, fixture).await?;
    shutdown.force();
    tasks.join(LAST_TASKS).await;
    Ok(())
}
