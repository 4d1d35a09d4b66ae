//! What every row needs: where things are, how long it may take, and directories that go at the end.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::Context as _;
use browserfleet_common::lifecycle::Tasks;
use browserfleet_pool_daemon::chromium;
use tempfile::TempDir;
use tokio::{
    process::Command,
    time::{Duration, Instant},
};

use crate::{contestants::peer, pages::Pages, tokens::Tokenizer};

/// Shared by all rows.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) chromium: PathBuf,
    pub(crate) pages: Pages,
    pub(crate) tasks: Tasks,
    /// Where the peer is installed; why not, if it is not.
    pub(crate) peer: Result<PathBuf, String>,
    /// What counts tokens; why not, if nothing does.
    pub(crate) tokenizer: Result<Tokenizer, String>,
    pub(crate) pace: Pace,
    /// Everything of this run.
    directory: TempDir,
    names: AtomicUsize,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Rounds of a row, while its time lasts.
    pub(crate) rounds: usize,
    /// Time of a row.
    pub(crate) row: Duration,
    /// Rounds of rows in which processes are started.
    pub(crate) waves: usize,
    /// The whole run begins no further row after this.
    pub(crate) end: Instant,
}

impl Pace {
    pub(crate) fn full(now: Instant) -> Self {
        Self { rounds: 40, row: Duration::from_secs(25), waves: 3, end: now + Duration::from_mins(10) }
    }

    pub(crate) fn quick(now: Instant) -> Self {
        Self { rounds: 10, row: Duration::from_secs(5), waves: 1, end: now + Duration::from_secs(100) }
    }
}

impl Setup {
    pub(crate) async fn new(pace: Pace, peer_directory: Option<&Path>) -> anyhow::Result<Self> {
        let configured = std::env::var_os("BROWSERFLEET_BROWSER__CHROMIUM").map(PathBuf::from);
        let tasks = Tasks::new();
        let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
        open_to_browsers(directory.path())?;
        let peer = match peer_directory {
            None => Err("not asked for".to_owned()),
            Some(at) => match peer::prepare(at).await {
                Ok(()) => Ok(fs::canonicalize(at)?),
                Err(error) => Err(format!("{error:#}")),
            },
        };
        Ok(Self {
            chromium: chromium::find(configured.as_deref())?,
            pages: Pages::start(&tasks).await?,
            tasks,
            peer,
            tokenizer: Err("not asked for".to_owned()),
            pace,
            directory,
            names: AtomicUsize::new(0),
        })
    }

    /// A new directory.
    pub(crate) fn directory(&self, name: &str) -> anyhow::Result<PathBuf> {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let directory = self.directory.path().join(format!("{number}-{name}"));
        fs::create_dir(&directory)?;
        open_to_browsers(&directory)?;
        Ok(directory)
    }

    /// A new file for what a program says.
    pub(crate) fn log(&self, name: &str) -> anyhow::Result<PathBuf> {
        Ok(self.directory(name)?.join("log"))
    }

    /// One of our programs: they are built beside this one.
    pub(crate) fn program(name: &str) -> anyhow::Result<PathBuf> {
        let program = std::env::current_exe()?.with_file_name(name);
        anyhow::ensure!(program.is_file(), "{} is missing: make build", program.display());
        Ok(program)
    }

    /// Settings of one of our programs, through its environment: those that every row shares, and these.
    pub(crate) fn configure(&self, command: &mut Command, settings: &[(&str, &str)]) -> anyhow::Result<()> {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("BROWSERFLEET_")) {
            command.env_remove(name);
        }
        command.env("BROWSERFLEET_BROWSER__CHROMIUM", &self.chromium);
        command.env("BROWSERFLEET_BROWSER__STATE_DIR", self.directory("state")?);
        for (key, value) in settings {
            command.env(format!("BROWSERFLEET_{key}"), value);
        }
        Ok(())
    }

    /// Ends the tasks and removes the directory.
    pub(crate) async fn end(self) -> anyhow::Result<()> {
        let Self { pages, tasks, directory, .. } = self;
        drop(pages);
        let left = tasks.join(Duration::from_secs(10)).await;
        directory.close().context("the run's directory")?;
        anyhow::ensure!(left == 0, "{left} tasks are still running");
        Ok(())
    }
}

/// Browsers run under users of their own and must find their way.
fn open_to_browsers(directory: &Path) -> std::io::Result<()> {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o711))
}
