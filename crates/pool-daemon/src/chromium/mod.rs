//! The Chromium process tree and its directory, from exec to verified end.
//!
//! One [`Spawner`] a daemon; one [`Process`] a browser. What a browser leaves behind is nobody else's business: its
//! [`Process`] kills and reaps every process of it, also those that left the group, and removes its directory.

mod cgroup;
mod child;
mod demand;
mod downloads;
mod family;
pub mod find;
pub mod flags;
mod group;
mod launch;
mod namespace;
mod process;
mod profile;
mod stderr;
#[cfg(test)]
mod tests;
mod trial;
pub mod version;

use std::{io, path::PathBuf, time::Duration};

use nix::unistd::{Uid, geteuid};

pub use demand::Demand;
pub use downloads::DownloadDir;
pub(crate) use family::Census;
pub use find::{FindError, find, is_headless_shell};
pub(crate) use flags::BYPASS_NOTHING;
pub use flags::FlagError;
pub(crate) use launch::SMALL_SHM;
pub use launch::{Child, LaunchError, Spawner, StartError, WayOut};
pub use process::{End, Ended, Exit, Process, become_subreaper};
pub use profile::{InstanceDir, MIN_FREE_DISK, ProfileError, Swept};

/// How browsers are started and ended.
#[derive(Clone, Debug)]
pub struct Config {
    /// The ELF to execute, from [`find()`].
    pub executable: PathBuf,
    /// Run without Chromium's sandbox. A page that breaks out of its renderer then has the browser's rights.
    pub no_sandbox: bool,
    /// How long a spawn may take; the caller's readiness check has the same limit.
    pub launch_timeout: Duration,
    /// From SIGTERM to SIGKILL.
    pub term_grace: Duration,
    /// From SIGKILL to the group being verified empty.
    pub kill_grace: Duration,
    /// Where the directories of this and other daemons are.
    pub state_dir: PathBuf,
    /// What the operator adds to the command line; see [`flags::ExtraArgs`] for what is refused.
    pub extra_args: Vec<String>,
    /// Used only as root: the browser of slot n runs as user and group `uid_base + n`.
    pub uid_base: u32,
    /// Most bytes of a file that a page gives away; 0 denies them all.
    pub download_bytes: u64,
    /// Whether the kernel bounds each browser, or only we do by looking.
    pub cgroup: Demand,
    /// Whether each browser has a network of its own, in which there is its egress gate and nobody else.
    pub network_namespace: Demand,
    /// Bytes of memory at which a browser is ended; its control group has half as much again.
    pub memory_limit: u64,
    /// Most processes and threads of a browser, in its control group.
    pub max_tasks: u64,
}

impl Config {
    /// Tries whether browsers can have networks of their own.
    ///
    /// # Errors
    /// What is missing.
    pub fn try_network_namespace(&self) -> Result<(), String> {
        namespace::probe(self.first_user())
    }

    /// Tries whether browsers can make the namespaces of their sandbox.
    ///
    /// # Errors
    /// Why not, as the system says it.
    pub fn try_sandbox(&self) -> io::Result<()> {
        trial::sandbox(self.first_user())
    }

    /// Who the first browser is, where it is not the user that we are.
    fn first_user(&self) -> Option<Uid> {
        geteuid().is_root().then(|| Uid::from_raw(self.uid_base))
    }
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
