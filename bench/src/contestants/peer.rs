//! A peer: Playwright MCP over HTTP, with the same Chromium.

use std::{net::SocketAddr, path::Path, process::Stdio};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use browserfleet_common::lifecycle::Tasks;
use serde_json::json;
use tokio::process::Command;

use super::{Contestant, Journeys, Work};
use crate::{
    mcp::Client,
    pages::{BUTTON, Page},
    processes::{Program, free_address},
    setup::Setup,
};

const PACKAGE: &str = "@playwright/mcp";
const VERSION: &str = "0.0.83";

/// What the report calls it.
pub(crate) fn title() -> String {
    format!("peer {PACKAGE} {VERSION} on the same Chromium")
}

/// Installs it into a directory that is kept, if it is not there.
///
/// # Errors
/// Why it cannot be had, for the report: no npm, or no network.
pub(crate) async fn prepare(directory: &Path) -> anyhow::Result<()> {
    if directory.join("node_modules").join(PACKAGE).join("cli.js").is_file() {
        return Ok(());
    }
    std::fs::create_dir_all(directory)?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--silent", "--prefix", "."]).arg(format!("{PACKAGE}@{VERSION}"));
    npm.current_dir(directory).env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1");
    let status = npm.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    let status = status.context("npm cannot be started")?;
    ensure!(status.success(), "npm install ended with {status}");
    Ok(())
}

/// The peer's server, running.
#[derive(Debug)]
pub(crate) struct Server {
    program: Program,
    address: SocketAddr,
    tasks: Tasks,
}

impl Server {
    pub(crate) async fn start(setup: &Setup, directory: &Path) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Command::new("node");
        command.arg(directory.join("node_modules").join(PACKAGE).join("cli.js"));
        // The host check wants a name; ours is a number.
        command.args([
            "--headless",
            "--isolated",
            "--no-sandbox",
            "--allowed-hosts",
            "*",
            "--host",
            "127.0.0.1",
            "--port",
        ]);
        command.arg(address.port().to_string()).arg("--executable-path").arg(&setup.chromium);
        let home = setup.directory("peer")?;
        command.arg("--output-dir").arg(home.join("output"));
        command.current_dir(&home).env("TMPDIR", &home).env("HOME", &home);
        let mut program = Program::start(&mut command, &setup.log("peer")?)?;
        program.serving(address).await.context("the peer")?;
        Ok(Self { program, address, tasks: setup.tasks.clone() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    pub(crate) async fn session(&self) -> anyhow::Result<Session> {
        Ok(Session { client: Client::legacy(self.address, &self.tasks).await?, target: String::new() })
    }
}

/// One connection, which is one browser context of the peer.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    /// The button's ref.
    target: String,
}

impl Session {
    pub(crate) async fn navigate(&mut self, url: &str) -> anyhow::Result<()> {
        self.client.call("browser_navigate", json!({ "url": url })).await.map(drop)
    }

    pub(crate) async fn snapshot(&mut self) -> anyhow::Result<()> {
        self.target = self.client.call("browser_snapshot", json!({})).await?.ref_of(BUTTON)?;
        Ok(())
    }

    async fn click(&mut self) -> anyhow::Result<()> {
        let target = self.target.clone();
        self.client.call("browser_click", json!({ "element": BUTTON, "target": target })).await.map(drop)
    }

    pub(crate) fn into_client(self) -> Client {
        self.client
    }

    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.client.call("browser_close", json!({})).await?;
        self.client.end().await
    }
}

#[async_trait]
impl Contestant for Session {
    fn name(&self) -> &'static str {
        "peer"
    }

    async fn show(&mut self, url: &str, _page: Page) -> anyhow::Result<()> {
        self.navigate(url).await?;
        self.snapshot().await
    }

    async fn perform(&mut self, work: &Work) -> anyhow::Result<()> {
        match work {
            Work::Evaluate(number) => {
                let function = format!("() => {number} + 1");
                let answer = self.client.call("browser_evaluate", json!({ "function": function })).await?;
                ensure!(answer.text.contains(&(number + 1).to_string()), "one more: {}", answer.text);
            }
            Work::Click => self.click().await?,
            Work::Snapshot => self.snapshot().await?,
            Work::Navigate(url) => self.navigate(url).await?,
            Work::Screenshot => {
                self.client.call("browser_take_screenshot", json!({ "type": "png" })).await?;
            }
            Work::OurWalk | Work::NavigateAndWalk(_) => {}
        }
        Ok(())
    }
}

#[async_trait]
impl Journeys for Server {
    fn name(&self) -> &'static str {
        "peer"
    }

    async fn journey(&self, url: &str) -> anyhow::Result<()> {
        let mut session = self.session().await?;
        let travelled = async {
            session.navigate(url).await?;
            session.snapshot().await?;
            session.click().await
        };
        let travelled = travelled.await;
        session.close().await?;
        travelled
    }
}
