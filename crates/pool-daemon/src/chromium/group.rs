//! Signals to and reaping of one process group, in one place so that no signal ever reaches a stranger.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    errno::Errno,
    sys::{
        signal::{Signal, kill, killpg},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// How a main process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(Signal),
    /// It is gone, but somebody else reaped it or the kernel's answer was not understood.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "signal {} ({signal})", *signal as i32),
            Self::Unknown => f.write_str("an unknown status"),
        }
    }
}

/// A process group that we started. Dropped before it is empty, it is killed.
#[derive(Debug)]
pub(super) struct Group {
    leader: Pid,
    /// Held while signalling and while reaping: once the last process is reaped the kernel may give the number to a
    /// stranger, so `empty` must be set before anybody can signal again.
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    /// Set once the main process is reaped.
    pub(super) exit: Option<Exit>,
    /// Set once no process, not even a zombie, is in the group. Final.
    pub(super) empty: bool,
}

impl Group {
    /// The group of `leader`, our child, who leads it since before its exec.
    pub(super) fn new(leader: Pid) -> Self {
        Self { leader, state: Mutex::default() }
    }

    pub(super) fn leader(&self) -> Pid {
        self.leader
    }

    pub(super) fn state(&self) -> State {
        *self.lock()
    }

    /// Signals every process of the group; nobody, once it is empty.
    pub(super) fn signal(&self, signal: Signal) {
        let state = self.lock();
        if state.empty {
            return;
        }
        match killpg(self.leader, signal) {
            // Empty but not yet found to be: the next reap says so.
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => {
                tracing::error!(pid = self.leader.as_raw(), %signal, %error, "process group cannot be signalled");
            }
        }
    }

    /// Reaps whoever of the group has ended and is our child, by birth or by adoption. Nobody else's children.
    pub(super) fn reap(&self) -> State {
        let mut state = self.lock();
        if state.empty {
            return *state;
        }
        loop {
            match waitpid(Pid::from_raw(-self.leader.as_raw()), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.leader => state.exit = Some(Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.leader => {
                    state.exit = Some(Exit::Signal(signal));
                }
                // None of our children has ended, or we have none in the group.
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
                // A helper; or a real-time signal that nix cannot name (EINVAL): reaped all the same.
                Ok(_) | Err(Errno::EINTR | Errno::EINVAL) => {}
                Err(error) => {
                    tracing::error!(pid = self.leader.as_raw(), %error, "process group cannot be waited for");
                    break;
                }
            }
        }
        if state.exit.is_none() && kill(self.leader, None) == Err(Errno::ESRCH) {
            state.exit = Some(Exit::Unknown);
        }
        state.empty = state.exit.is_some() && killpg(self.leader, None) == Err(Errno::ESRCH);
        *state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is two plain values, valid at any moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}
