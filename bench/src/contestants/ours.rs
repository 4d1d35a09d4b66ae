//! Ours: the real program, called over HTTP by clients of 2026-07-28.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use browserfleet_common::lifecycle::Tasks;
use serde_json::{Value, json};
use tokio::process::Command;

use super::{Contestant, Journeys, Work};
use crate::{
    mcp::{Answer, Client},
    pages::{BUTTON, Page},
    processes::{Program, free_address},
    setup::Setup,
};

/// `browserfleet serve`, running.
#[derive(Debug)]
pub(crate) struct Server {
    program: Program,
    address: SocketAddr,
    tasks: Tasks,
}

impl Server {
    /// Starts the program with defaults but for these settings, such as `("POOL__MIN_WARM", "0")`.
    pub(crate) async fn start(setup: &Setup, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(Setup::program("browserfleet")?);
        command.arg("serve").arg("--listen").arg(address.to_string());
        setup.configure(&mut command, settings)?;
        let mut program = Program::start(&mut command, &setup.log("ours")?)?;
        program.serving(address).await.context("browserfleet")?;
        Ok(Self { program, address, tasks: setup.tasks.clone() })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.pid()
    }

    pub(crate) async fn session(&self) -> anyhow::Result<Session> {
        let mut client = Client::modern(self.address, &self.tasks).await?;
        let opened = client.call("browser_open", json!({})).await?;
        let id = opened.structured["session_id"].as_str().context("a session's id")?.to_owned();
        Ok(Session { client, id, target: String::new() })
    }
}

/// One session of one client.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    id: String,
    /// The button's ref.
    target: String,
}

impl Session {
    async fn call(&mut self, tool: &str, mut arguments: Value) -> anyhow::Result<Answer> {
        arguments["session_id"] = self.id.as_str().into();
        self.client.call(tool, arguments).await
    }

    pub(crate) async fn navigate(&mut self, url: &str) -> anyhow::Result<()> {
        let page = self.call("browser_navigate", json!({ "url": url })).await?;
        self.target = page.ref_of(BUTTON)?;
        Ok(())
    }

    async fn snapshot(&mut self) -> anyhow::Result<()> {
        self.target = self.call("browser_snapshot", json!({})).await?.ref_of(BUTTON)?;
        Ok(())
    }

    async fn click(&mut self) -> anyhow::Result<()> {
        let target = self.target.clone();
        let answer = self.call("browser_click", json!({ "target": target })).await?;
        ensure!(answer.text.contains(BUTTON), "a click answers with a snapshot");
        Ok(())
    }

    /// The client, and the session that it passes along.
    pub(crate) fn into_parts(self) -> (Client, String) {
        (self.client, self.id)
    }

    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.call("session_close", json!({})).await.map(drop)
    }
}

#[async_trait]
impl Contestant for Session {
    fn name(&self) -> &'static str {
        "ours"
    }

    async fn show(&mut self, url: &str, _page: Page) -> anyhow::Result<()> {
        self.navigate(url).await
    }

    async fn perform(&mut self, work: &Work) -> anyhow::Result<()> {
        match work {
            Work::Evaluate(number) => {
                let function = format!("() => {number} + 1");
                let answer = self.call("browser_evaluate", json!({ "function": function })).await?;
                // Between the marks around words of a page.
                let expected = format!(">\n{}\n</untrusted-", number + 1);
                ensure!(answer.text.contains(&expected), "one more: {}", answer.text);
            }
            Work::Click => self.click().await?,
            Work::Snapshot => self.snapshot().await?,
            Work::Navigate(url) => self.navigate(url).await?,
            Work::Screenshot => {
                ensure!(self.call("browser_take_screenshot", json!({})).await?.picture, "a picture");
            }
            Work::OurWalk | Work::NavigateAndWalk(_) => {}
        }
        Ok(())
    }
}

#[async_trait]
impl Journeys for Server {
    fn name(&self) -> &'static str {
        "ours"
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
