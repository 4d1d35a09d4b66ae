//! A Redis of this run's own, as a program: what it costs is measured, too.

use anyhow::Context as _;
use browserfleet_common::redis::Settings;
use std::net::SocketAddr;
use tokio::process::Command;

use crate::{
    processes::{Program, free_address},
    setup::Setup,
};

/// A server that keeps everything in memory. It ends with this value.
#[derive(Debug)]
pub(crate) struct RedisServer {
    _program: Program,
    address: SocketAddr,
}

impl RedisServer {
    /// Starts a server on a free port.
    ///
    /// # Errors
    /// When there is none to start.
    pub(crate) async fn start(setup: &Setup) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Command::new("redis-server");
        let port = address.port().to_string();
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--port", &port])
            .arg("--dir")
            .arg(setup.directory("redis")?);
        let mut program =
            Program::start(&mut command, &setup.log("redis")?).context("scripts/setup-redis.sh installs it")?;
        program.serving(address).await.context("redis-server")?;
        Ok(Self { _program: program, address })
    }

    /// Where it is, as programs are told.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Where it is, for a connection of our own.
    ///
    /// # Errors
    /// Never: it is a URL.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        Ok(Settings::at(self.url().parse()?))
    }
}
