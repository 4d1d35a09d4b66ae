//! The real launcher: a Chromium process, its pipe, and a page that has proven that it works.

use std::sync::Arc;

use async_trait::async_trait;
use browserfleet_cdp::Connection;
use browserfleet_common::{error_code::ErrorCode, lifecycle::Tasks};
use tokio::time::{Duration, Instant, timeout, timeout_at};

use crate::{
    chromium::{self, Process, Spawner},
    failure::Failure,
    page::Context,
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
    tasks: Tasks,
}

impl ChromiumLauncher {
    /// Prepares the state directory and the launcher thread.
    pub fn start(config: chromium::Config, tasks: &Tasks) -> Result<Self, chromium::StartError> {
        let timeout = config.launch_timeout;
        Ok(Self { spawner: Spawner::start(config, tasks)?, timeout, tasks: tasks.clone() })
    }

    /// Opens the pipe and a page, and lets the page prove that it works.
    async fn ready(&self, child: chromium::Child, deadline: Instant) -> Result<(Connection, Ready, Process), String> {
        let chromium::Child { read, write, process } = child;
        let opened = async {
            let connection = Connection::open(read, write, &self.tasks).map_err(|error| error.to_string())?;
            let context = Context::default_of(&connection, &self.tasks);
            let page = context.open_page(deadline).await.map_err(|failure| failure.message)?;
            // Health means a page that computes, not a browser that tells its version.
            if page.answers(deadline).await {
                Ok((connection, Ready { context, page }))
            } else {
                Err(Failure::hung().message)
            }
        };
        let result = tokio::select! {
            biased;
            exit = process.exited() => Err(chain(&chromium::LaunchError::exited(exit, process.stderr_tail()))),
            result = timeout_at(deadline, opened) => match result {
                Ok(Err(reason)) => Err(Self::why(&process, reason).await),
                Ok(opened) => opened,
                Err(_elapsed) => Err(chain(&chromium::LaunchError::TimedOut {
                    after: self.timeout,
                    stderr: process.stderr_tail(),
                })),
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

    /// Why a page could not be opened. A browser that exits closes its pipe first: its exit says more than the pipe.
    async fn why(process: &Process, reason: String) -> String {
        match timeout(EXIT, process.exited()).await {
            Ok(exit) => chain(&chromium::LaunchError::exited(exit, process.stderr_tail())),
            Err(_still_running) => reason,
        }
    }
}

#[async_trait]
impl Launcher for ChromiumLauncher {
    async fn launch(&self, slot: usize) -> Result<Arc<Browser>, LaunchError> {
        let deadline = Instant::now() + self.timeout;
        let slot = u32::try_from(slot).unwrap_or(u32::MAX);
        let child = self.spawner.launch(slot).await.map_err(|error| LaunchError(chain(&error)))?;
        let (connection, ready, process) = self.ready(child, deadline).await.map_err(LaunchError)?;
        let tree = Arc::new(ChromiumTree { process, connection: connection.clone() });
        Ok(Arc::new(Browser::new(connection, self.tasks.clone(), tree, ready)))
    }
}

/// A Chromium process tree and the pipe to it.
#[derive(Debug)]
struct ChromiumTree {
    process: Process,
    connection: Connection,
}

#[async_trait]
impl ProcessTree for ChromiumTree {
    fn pid(&self) -> u32 {
        self.process.pid()
    }

    async fn died(&self) -> Death {
        // Either may be seen first; a browser without its pipe is as dead as one without its process.
        let reason = tokio::select! {
            exit = self.process.exited() => format!("it ended with {exit}"),
            closed = self.connection.closed() => format!("it closed its pipe ({closed})"),
        };
        Death { code: ErrorCode::BrowserGone, reason }
    }

    fn memory(&self) -> u64 {
        0
    }

    async fn end(&self) -> usize {
        let ended = self.process.end().await;
        tracing::debug!(pid = self.pid(), how = ?ended.how, took = ?ended.took, "browser ended");
        ended.left
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
