//! The physical limit: Chromium with our flags, driven over its pipe with as few commands as the work takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use browserfleet_cdp::{Connection, Session, decode};
use browserfleet_common::lifecycle::Tasks;
use browserfleet_pool_daemon::{
    chromium::{self, Demand, Process, Spawner},
    page::in_page_script,
};
use futures_util::future::try_join3;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, time::Instant};

use super::{Contestant, Journeys, Work};
use crate::{pages::Page, setup::Setup};

/// Most time of one command.
const LIMIT: Duration = Duration::from_mins(1);

/// Users of raw browsers, apart from those of the programs that run beside them.
const UID_BASE: u32 = 71_000;

const WALK: &str = include_str!("walk.js");

/// Starts browsers.
#[derive(Debug)]
pub(crate) struct Raw {
    spawner: Spawner,
    tasks: Tasks,
    slots: AtomicU32,
}

/// One browser. One that is dropped is killed, and the run waits for that at its end.
#[derive(Debug)]
pub(crate) struct Browser {
    connection: Connection,
    process: Process,
}

/// One page.
#[derive(Debug)]
pub(crate) struct Tab {
    session: Session,
    /// The context it has for itself.
    context: Option<String>,
}

impl Raw {
    pub(crate) fn start(setup: &Setup) -> anyhow::Result<Self> {
        let config = chromium::Config {
            executable: setup.chromium.clone(),
            no_sandbox: false,
            launch_timeout: Duration::from_secs(20),
            term_grace: Duration::from_secs(1),
            kill_grace: Duration::from_secs(5),
            state_dir: setup.directory("raw")?,
            extra_args: Vec::new(),
            uid_base: UID_BASE,
            cgroup: Demand::Off,
            network_namespace: Demand::Off,
            memory_limit: 1 << 30,
            max_tasks: 2048,
            download_bytes: 0,
        };
        Ok(Self {
            spawner: Spawner::start(config, &setup.tasks)?,
            tasks: setup.tasks.clone(),
            slots: AtomicU32::new(0),
        })
    }

    pub(crate) async fn launch(&self) -> anyhow::Result<Browser> {
        let slot = self.slots.fetch_add(1, Ordering::Relaxed) % 1000;
        let child = self.spawner.launch(slot, None).await?;
        let connection = Connection::open(child.read, child.write, &self.tasks)?;
        Ok(Browser { connection, process: child.process })
    }
}

impl Browser {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Opens a page, in a context of its own if wanted.
    pub(crate) async fn open(&self, own_context: bool) -> anyhow::Result<Tab> {
        let browser = self.connection.browser();
        let mut target = json!({ "url": "about:blank" });
        let mut context = None;
        if own_context {
            let created = call(&browser, "Target.createBrowserContext", json!({})).await?;
            context = created["browserContextId"].as_str().map(str::to_owned);
            target["browserContextId"] = created["browserContextId"].clone();
        }
        let target = call(&browser, "Target.createTarget", target).await?["targetId"].clone();
        let attached = call(&browser, "Target.attachToTarget", json!({ "targetId": target, "flatten": true })).await?;
        let session = self.connection.session(attached["sessionId"].as_str().context("a session")?);
        call(&session, "Page.enable", json!({})).await?;
        Ok(Tab { session, context })
    }

    /// Closes a page's own context, and the page with it.
    pub(crate) async fn dispose(&self, tab: Tab) -> anyhow::Result<()> {
        let context = json!({ "browserContextId": tab.context });
        call(&self.connection.browser(), "Target.disposeBrowserContext", context).await.map(drop)
    }

    /// Ends all its processes, verified.
    pub(crate) async fn end(self) {
        self.process.end().await;
    }
}

impl Tab {
    pub(crate) async fn evaluate(&self, expression: &str) -> anyhow::Result<Value> {
        let params = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = call(&self.session, "Runtime.evaluate", params).await?;
        ensure!(answer.get("exceptionDetails").is_none(), "{answer}");
        Ok(answer["result"]["value"].take())
    }

    pub(crate) async fn navigate(&self, url: &str) -> anyhow::Result<()> {
        let mut loaded = self.session.subscribe(&["Page.loadEventFired"], 8);
        let answer = call(&self.session, "Page.navigate", json!({ "url": url })).await?;
        ensure!(answer.get("errorText").is_none(), "{answer}");
        loaded.recv().await.context("the page ended while it was loading")?;
        Ok(())
    }

    /// One minimal walk.
    pub(crate) async fn walk(&self) -> anyhow::Result<()> {
        let text = self.evaluate(WALK).await?;
        ensure!(text.as_str().is_some_and(|text| text.contains("Press")), "a walk shows the page");
        Ok(())
    }

    /// Finds the button and clicks it; then one walk shows what has become of the page.
    pub(crate) async fn click(&self) -> anyhow::Result<()> {
        let centre = "(({x, y, width, height}) => [x + width / 2, y + height / 2])(press.getBoundingClientRect())";
        let at = self.evaluate(centre).await?;
        let event = |kind: &str, button: &str, clicks: u8| {
            let params = json!({ "type": kind, "x": at[0], "y": at[1], "button": button, "clickCount": clicks });
            call(&self.session, "Input.dispatchMouseEvent", params)
        };
        try_join3(event("mouseMoved", "none", 0), event("mousePressed", "left", 1), event("mouseReleased", "left", 1))
            .await?;
        self.walk().await
    }

    async fn screenshot(&self) -> anyhow::Result<()> {
        let params = json!({ "format": "png", "optimizeForSpeed": true });
        call(&self.session, "Page.captureScreenshot", params).await.map(drop)
    }
}

async fn call(session: &Session, method: &str, params: Value) -> anyhow::Result<Value> {
    let result = session.call_raw(method, &params, Instant::now() + LIMIT).await?;
    Ok(decode(&result)?)
}

/// Drives one page of a browser of its own.
#[derive(Debug)]
pub(crate) struct Single {
    /// Kept: the page ends with it.
    _browser: Browser,
    tab: Tab,
}

impl Single {
    pub(crate) async fn start(raw: &Raw) -> anyhow::Result<Self> {
        let browser = raw.launch().await?;
        let tab = browser.open(false).await?;
        Ok(Self { _browser: browser, tab })
    }
}

#[async_trait]
impl Contestant for Single {
    fn name(&self) -> &'static str {
        "raw"
    }

    async fn show(&mut self, url: &str, _page: Page) -> anyhow::Result<()> {
        self.tab.navigate(url).await?;
        self.tab.evaluate(in_page_script()).await.map(drop)
    }

    async fn perform(&mut self, work: &Work) -> anyhow::Result<()> {
        match work {
            Work::Evaluate(number) => {
                let sum = self.tab.evaluate(&format!("(() => {number} + 1)()")).await?;
                ensure!(sum == number + 1, "one more: {sum}");
            }
            Work::Click => self.tab.click().await?,
            Work::Snapshot => self.tab.walk().await?,
            Work::OurWalk => {
                let shot = self.tab.evaluate("__browserfleet.snapshot()").await?;
                ensure!(shot["text"].as_str().is_some_and(|text| text.contains("Press")), "a snapshot");
            }
            Work::Navigate(url) => self.tab.navigate(url).await?,
            Work::NavigateAndWalk(url) => {
                self.tab.navigate(url).await?;
                self.tab.walk().await?;
            }
            Work::Screenshot => self.tab.screenshot().await?,
        }
        Ok(())
    }
}

/// Journeys with a process each, so many at a time.
#[derive(Debug)]
pub(crate) struct Processes {
    pub(crate) raw: Arc<Raw>,
    pub(crate) at_a_time: Semaphore,
}

#[async_trait]
impl Journeys for Processes {
    fn name(&self) -> &'static str {
        "raw"
    }

    async fn journey(&self, url: &str) -> anyhow::Result<()> {
        let _turn = self.at_a_time.acquire().await?;
        let browser = self.raw.launch().await?;
        let done = async {
            let tab = browser.open(false).await?;
            tab.navigate(url).await?;
            tab.walk().await?;
            tab.click().await
        };
        let done = done.await;
        browser.end().await;
        done
    }
}

/// Journeys in contexts of one browser, all at a time.
#[derive(Debug)]
pub(crate) struct Contexts {
    pub(crate) browser: Browser,
}

#[async_trait]
impl Journeys for Contexts {
    fn name(&self) -> &'static str {
        "raw"
    }

    async fn journey(&self, url: &str) -> anyhow::Result<()> {
        let tab = self.browser.open(true).await?;
        tab.navigate(url).await?;
        tab.walk().await?;
        tab.click().await?;
        self.browser.dispose(tab).await
    }
}
