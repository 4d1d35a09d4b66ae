//! Browsers without a pool around them: started, watched and ended as the daemon does it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use browserfleet_common::{
    config::{FRONT_END, Reader},
    lifecycle::Tasks,
};
use browserfleet_pool_daemon::{
    chromium,
    config::{Config, Defaults},
    egress::Exits,
    launcher::ChromiumLauncher,
    pool::{Browser, LaunchError, Launcher as _},
};
use tempfile::TempDir;

use crate::processes;

/// A launcher in a directory of its own. Call [`Browsers::end`]: it verifies that nothing is left.
#[derive(Debug)]
pub struct Browsers {
    launcher: ChromiumLauncher,
    tasks: Tasks,
    dir: TempDir,
}

/// The default settings, with a directory of their own. This process becomes the reaper that browsers need.
pub fn settings() -> anyhow::Result<(Config, TempDir)> {
    chromium::become_subreaper()?;
    let dir = tempfile::Builder::new().permissions(Permissions::from_mode(0o711)).tempdir()?;
    let mut reader = Reader::new(None, &[]);
    let mut config = Config::read(&mut reader, Defaults::own(0));
    reader.finish(FRONT_END)?;
    config.chromium.state_dir = dir.path().join("state");
    Ok((config, dir))
}

impl Browsers {
    /// Of real Chromium; `adjust` may change its settings.
    pub fn start(adjust: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        Self::of(None, adjust)
    }

    /// Of a shell script in place of Chromium, which may misbehave in every way.
    pub fn fake(script: &str, adjust: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        Self::of(Some(script), adjust)
    }

    fn of(script: Option<&str>, adjust: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let (mut config, dir) = settings()?;
        if let Some(script) = script {
            config.chromium.executable = dir.path().join("chromium-headless-shell");
            processes::write_program(&config.chromium.executable, script)?;
        }
        adjust(&mut config);
        let tasks = Tasks::new();
        let exits = Exits::new(config.egress, &tasks);
        let launcher = ChromiumLauncher::start(config.chromium, config.health, exits, false, &tasks)?;
        Ok(Self { launcher, tasks, dir })
    }

    /// Starts a browser.
    pub async fn launch(&self) -> Result<Arc<Browser>, LaunchError> {
        self.launcher.launch(0).await
    }

    /// The profile directories there are now.
    pub fn profiles(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut profiles = Vec::new();
        for instance in fs::read_dir(self.dir.path().join("state"))?.flatten().filter(|entry| entry.path().is_dir()) {
            profiles.extend(
                fs::read_dir(instance.path())?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()),
            );
        }
        Ok(profiles)
    }

    /// Verifies that every browser is gone, with its directory, and that no task is left.
    pub async fn end(self) -> anyhow::Result<()> {
        let state = self.dir.path().join("state");
        drop(self.launcher);
        let running = self.tasks.join(Duration::from_secs(20)).await;
        anyhow::ensure!(running == 0, "{running} tasks are still running");
        anyhow::ensure!(self.tasks.panicked() == 0, "tasks have panicked");
        let left: Vec<_> = fs::read_dir(&state)?.flatten().filter(|entry| entry.path().is_dir()).collect();
        anyhow::ensure!(left.is_empty(), "directories are left: {left:?}");
        let processes = processes::mentioning(&state);
        anyhow::ensure!(processes.is_empty(), "processes are left: {processes:?}");
        Ok(())
    }
}
