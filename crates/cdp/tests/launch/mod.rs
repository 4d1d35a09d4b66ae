//! The least it takes to start Chromium on two pipes. The product's launcher is the pool daemon's.

use std::{
    env, io,
    os::{
        fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::{fs::chown, process::CommandExt as _},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use browserfleet_cdp::Connection;
use browserfleet_common::lifecycle::Tasks;
use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
    sys::signal::{Signal, killpg},
    unistd::{Pid, geteuid},
};
use tempfile::TempDir;

const VARIABLE: &str = "BROWSERFLEET_TEST_CHROMIUM";
const DEFAULT: &str = "/usr/lib/chromium/chromium-headless-shell";
/// Chromium refuses its sandbox to root, so root runs it as nobody.
const NOBODY: u32 = 65534;
/// Above 3 and 4, so that the two `dup2` cannot overwrite each other's source.
const FIRST_FREE_FD: i32 = 10;

/// A Chromium process group with its own profile; both are gone when this is dropped, also by a panic.
pub(crate) struct Browser {
    pub(crate) connection: Connection,
    child: Child,
    _profile: TempDir,
}

impl Browser {
    pub(crate) fn launch(tasks: &Tasks) -> Self {
        let program = program();
        let profile = tempfile::tempdir().unwrap();
        let (from_browser, browser_writes) = std::io::pipe().unwrap();
        let (browser_reads, to_browser) = std::io::pipe().unwrap();
        // The originals close at the end of this function, the copies at exec: the browser holds the only far ends.
        let reads = lift(&browser_reads);
        let writes = lift(&browser_writes);

        let mut command = Command::new(&program);
        command
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-quic", "--no-first-run"])
            .env("HOME", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        if geteuid().is_root() {
            chown(profile.path(), Some(NOBODY), Some(NOBODY)).unwrap();
            command.uid(NOBODY).gid(NOBODY);
        }
        let (reads_fd, writes_fd) = (reads.as_raw_fd(), writes.as_raw_fd());
        #[expect(unsafe_code, reason = "Chromium takes its pipes at fds 3 and 4; std has no safe way to say so")]
        // SAFETY: between fork and exec only dup2 runs, which is async-signal-safe.
        unsafe {
            command.pre_exec(move || match (libc::dup2(reads_fd, 3), libc::dup2(writes_fd, 4)) {
                (3, 4) => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let connection = Connection::open(from_browser.into(), to_browser.into(), tasks).unwrap();
        Self { connection, child, _profile: profile }
    }
    /// The id of the browser process and of its group.
    pub(crate) fn group(&self) -> u32 {
        self.child.id()
    }

    /// How the browser process ended, if it has.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = Pid::from_raw(self.group().cast_signed());
        // The group outlives its leader while any member lives; none left is as good.
        let _none_left = killpg(group, Signal::SIGKILL);
        let _ended = self.child.wait();
    }
}

/// A copy of a descriptor that neither 3 nor 4 is, nor what the standard library reports failures of exec through.
fn lift(pipe: impl AsFd) -> OwnedFd {
    let copy = fcntl(pipe, FcntlArg::F_DUPFD_CLOEXEC(FIRST_FREE_FD)).unwrap();
    #[expect(unsafe_code, reason = "nix gives the new descriptor as a number")]
    // SAFETY: it was just made and nobody else knows it.
    unsafe {
        OwnedFd::from_raw_fd(copy)
    }
}

fn program() -> PathBuf {
    let program = PathBuf::from(env::var_os(VARIABLE).unwrap_or_else(|| DEFAULT.into()));
    assert!(
        program.is_file(),
        "no Chromium at {}: install it (Debian: apt-get install chromium chromium-headless-shell), or set {VARIABLE}",
        program.display()
    );
    program
}
