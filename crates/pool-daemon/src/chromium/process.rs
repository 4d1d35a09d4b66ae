//! One browser's processes: who owns them, and how they end.
//!
//! A task drives each: it reaps on SIGCHLD, drains stderr, and ends the tree when told to or when its owner is gone.
//! [`Process`] is the owner's handle.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use browserfleet_common::lifecycle::Tasks;
use nix::{
    sys::{prctl, signal::Signal},
    unistd::{self, Pid},
};
use tokio::{
    net::unix::pipe,
    signal::unix,
    sync::watch,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

pub use super::group::Exit;
use super::{
    cgroup, downloads::DownloadDir, family::Family, group::Group, launch::Spawner, profile::Profile, stderr::Tail,
};

/// How often we look while a group is ending. Helpers that are not our children end without a SIGCHLD to us.
const TICK: Duration = Duration::from_millis(20);
/// How long killed processes get before `/proc` is read again.
const RESCAN: Duration = Duration::from_millis(200);
/// How much stderr is read in one go, so that a flood cannot keep the driver from its other work.
const DRAIN: usize = 256 * 1024;

/// Makes this program the parent of its grandchildren when their parents die. To be called once, before the first launch:
/// otherwise helpers that outlive their browser go to PID 1, which in a container may never reap them.
pub fn become_subreaper() -> io::Result<()> {
    prctl::set_child_subreaper(true).map_err(io::Error::from)
}

/// The owner's handle to a browser's processes and directory. Dropped without [`Process::end`], it has them killed.
pub struct Process {
    shared: Arc<Shared>,
    exit: watch::Receiver<Option<Exit>>,
    ended: watch::Receiver<Option<Ended>>,
}

/// How the end came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The main process had ended before it was told to.
    Exited(Exit),
    /// It ended within the grace after SIGTERM.
    Terminated,
    /// It needed SIGKILL.
    Killed,
}

/// What [`Process::end`] answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub how: End,
    /// From the first request to the verified end.
    pub took: Duration,
    /// Processes still there: 0 unless something is badly wrong. Then the slot (and as root its uid) must not be used
    /// again, and the directory is left to the next start's sweep.
    pub left: usize,
}

impl Process {
    /// The pid of the main process, also the number of its group.
    pub fn pid(&self) -> u32 {
        self.shared.group.leader().as_raw().unsigned_abs()
    }

    /// Where it puts what pages give away.
    pub fn downloads(&self) -> &DownloadDir {
        &self.shared.downloads
    }

    /// Waits until the main process has exited, for whatever reason. Helpers may still be there: call [`Self::end`].
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        let known = exit.wait_for(Option::is_some).await.map(|exit| *exit);
        // Without a driver nobody reaps any more: the runtime is shutting down.
        known.ok().flatten().unwrap_or(Exit::Unknown)
    }

    /// The last 4 KiB of stderr on one line, control characters escaped. Complete once [`Self::exited`] has answered.
    pub fn stderr_tail(&self) -> String {
        lock(&self.shared.tail).text()
    }

    /// Ends all processes of the browser and removes its directory: SIGTERM to the group, after a grace SIGKILL to all,
    /// then waits until they are verified gone. May be called by several tasks and again: all get the same answer. A
    /// caller that stops waiting does not stop the end.
    pub async fn end(&self) -> Ended {
        self.shared.end.cancel();
        let mut ended = self.ended.clone();
        let answer = ended.wait_for(Option::is_some).await.map(|ended| *ended);
        answer.ok().flatten().unwrap_or_else(|| self.end_without_driver())
    }

    /// Starts the driver of a process that has just been spawned.
    pub(super) fn own(parts: Parts, tasks: &Tasks) -> Self {
        let shared = Arc::new(Shared {
            group: Group::new(parts.leader),
            downloads: parts.profile.downloads(),
            tail: Mutex::default(),
            end: CancellationToken::new(),
            abandoned: CancellationToken::new(),
        });
        let (exit_sender, exit) = watch::channel(None);
        let (ended_sender, ended) = watch::channel(None);
        let driver = Driver {
            shared: Arc::clone(&shared),
            family: Family::new(parts.leader, parts.profile.mark()),
            profile: parts.profile,
            bounds: parts.group,
            stderr: Some(parts.stderr),
            children: parts.children,
            grace: parts.grace,
            exit: exit_sender,
            _spawner: parts.spawner,
        };
        tasks.spawn("chromium.process", async move {
            let ended = driver.run().await;
            ended_sender.send_replace(Some(ended));
        });
        Self { shared, exit, ended }
    }

    /// The runtime is shutting down and took the driver with it: what can be done without one.
    fn end_without_driver(&self) -> Ended {
        self.shared.group.signal(Signal::SIGKILL);
        let left = usize::from(!self.shared.group.reap().empty);
        Ended { how: End::Killed, took: Duration::ZERO, left }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.shared.end.is_cancelled() {
            return; // The driver is at it, or has finished.
        }
        tracing::warn!(pid = self.pid(), "browser process dropped without being ended: killing it");
        self.shared.group.signal(Signal::SIGKILL);
        self.shared.abandoned.cancel();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("pid", &self.pid())
            .field("exit", &*self.exit.borrow())
            .field("ended", &*self.ended.borrow())
            .finish_non_exhaustive()
    }
}

/// What the launcher hands over.
pub(super) struct Parts {
    pub(super) leader: Pid,
    pub(super) profile: Profile,
    pub(super) group: Option<cgroup::Group>,
    pub(super) stderr: pipe::Receiver,
    /// Made before the spawn, so that no SIGCHLD is missed.
    pub(super) children: unix::Signal,
    pub(super) grace: Grace,
    pub(super) spawner: Spawner,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Grace {
    pub(super) term: Duration,
    pub(super) kill: Duration,
}

#[derive(Debug)]
struct Shared {
    group: Group,
    downloads: DownloadDir,
    /// Short, never held across an await.
    tail: Mutex<Tail>,
    /// Asked for by [`Process::end`].
    end: CancellationToken,
    /// The owner is gone without asking.
    abandoned: CancellationToken,
}

struct Driver {
    shared: Arc<Shared>,
    family: Family,
    profile: Profile,
    /// Where the kernel bounds it. It goes when everybody in it has.
    bounds: Option<cgroup::Group>,
    /// `None` once every writer has closed it.
    stderr: Option<pipe::Receiver>,
    children: unix::Signal,
    grace: Grace,
    exit: watch::Sender<Option<Exit>>,
    /// The kernel kills a child when the thread that spawned it ends; that thread lives as long as this.
    _spawner: Spawner,
}

impl Driver {
    async fn run(mut self) -> Ended {
        let (end, abandoned) = (self.shared.end.clone(), self.shared.abandoned.clone());
        self.reap();
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                () = abandoned.cancelled() => break,
                () = self.news() => drop(self.reap()),
            }
        }
        let began = Instant::now();
        let how = self.terminate().await;
        let left = self.kill().await;
        let ended = Ended { how, took: began.elapsed(), left };
        self.clean_up(ended).await;
        ended
    }

    /// SIGTERM and its grace, unless the main process is gone already or its owner is.
    async fn terminate(&mut self) -> End {
        if let Some(exit) = self.reap() {
            return End::Exited(exit);
        }
        if self.shared.abandoned.is_cancelled() {
            return End::Killed;
        }
        self.look().await;
        self.shared.group.signal(Signal::SIGTERM);
        let deadline = Instant::now() + self.grace.term;
        loop {
            if self.reap().is_some() {
                return End::Terminated;
            }
            if Instant::now() >= deadline {
                return End::Killed;
            }
            self.tick(deadline).await;
        }
    }

    /// SIGKILL to all until nobody is there. Answers how many are, at the end of the grace. Helpers get no grace of their
    /// own: without the main process they have nothing left to do.
    async fn kill(&mut self) -> usize {
        let deadline = Instant::now() + self.grace.kill;
        loop {
            self.shared.group.signal(Signal::SIGKILL);
            let strays = self.kill_strays().await;
            let rescan = deadline.min(Instant::now() + RESCAN);
            while !self.is_empty() && Instant::now() < rescan {
                self.tick(rescan).await;
            }
            let empty = self.is_empty();
            if empty && strays == 0 {
                return 0;
            }
            if Instant::now() >= deadline {
                // Counted by name only here; that somebody is left we know already.
                return if empty { strays } else { strays + self.family.in_group().max(1) };
            }
            if empty {
                // Only strays are left: they have been killed, give the kernel a moment.
                self.tick(deadline).await;
            }
        }
    }

    async fn clean_up(&self, ended: Ended) {
        let pid = self.shared.group.leader().as_raw();
        let starved = self.bounds.as_ref().map_or(0, cgroup::Group::killed);
        if starved > 0 {
            tracing::warn!(
                pid,
                processes = starved,
                "the kernel ended processes of a browser that wanted far more than browser.memory_limit"
            );
        }
        if ended.left > 0 {
            tracing::error!(pid, left = ended.left, "browser processes survive SIGKILL");
            return;
        }
        let profile = self.profile.clone();
        match spawn_blocking(move || profile.remove()).await {
            Ok(Ok(())) => tracing::debug!(pid, how = ?ended.how, took = ?ended.took, "browser ended"),
            Ok(Err(error)) => {
                tracing::warn!(pid, path = %self.profile.path().display(), %error, "browser profile cannot be removed");
            }
            // The runtime is shutting down; the next start sweeps.
            Err(_) => {}
        }
    }

    /// Reaps, and makes the main process's exit known. By then its last words have been read.
    fn reap(&mut self) -> Option<Exit> {
        let exit = self.shared.group.reap().exit;
        if exit.is_some() && self.exit.borrow().is_none() {
            self.last_words();
            self.exit.send_replace(exit);
        }
        exit
    }

    fn is_empty(&mut self) -> bool {
        self.reap();
        self.shared.group.state().empty
    }

    /// Waits until a child has ended; meanwhile reads stderr, whose pipe would stop the browser if it filled up.
    async fn news(&mut self) {
        loop {
            let readable = async {
                match &self.stderr {
                    Some(stderr) => stderr.readable().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = self.children.recv() => return,
                ready = readable => match ready {
                    Ok(()) => self.drain(),
                    Err(_) => self.stderr = None,
                },
            }
        }
    }

    /// Waits for news, a tick at most.
    async fn tick(&mut self, deadline: Instant) {
        let tick = deadline.min(Instant::now() + TICK);
        // Either way the caller looks again.
        let _elapsed = timeout_at(tick, self.news()).await;
    }

    /// Reads what stderr holds now.
    fn drain(&mut self) {
        let mut chunk = [0; 4096];
        let mut budget = DRAIN;
        while let Some(stderr) = &self.stderr
            && budget > 0
        {
            match stderr.try_read(&mut chunk) {
                Ok(0) => self.stderr = None,
                Ok(length) => {
                    budget = budget.saturating_sub(length);
                    lock(&self.shared.tail).push(&chunk[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.stderr = None,
            }
        }
    }

    /// Reads what is left once the main process has exited. The pipe itself is asked: the runtime may not have heard yet
    /// that there is something to read.
    fn last_words(&self) {
        let Some(stderr) = &self.stderr else { return };
        let mut chunk = [0; 4096];
        let mut budget = DRAIN;
        while budget > 0
            && let Ok(length @ 1..) = unistd::read(stderr, &mut chunk)
        {
            budget = budget.saturating_sub(length);
            lock(&self.shared.tail).push(&chunk[..length]);
        }
    }

    async fn look(&mut self) {
        self.with_family(Family::look).await;
    }

    async fn kill_strays(&mut self) -> usize {
        // If it could not be asked the runtime is shutting down, and nobody waits for the answer.
        self.with_family(Family::kill).await.unwrap_or_default()
    }

    /// `/proc` is read off the runtime: a file there can block on the process it is about.
    async fn with_family<T: Send + 'static>(&mut self, work: fn(&mut Family) -> T) -> Option<T> {
        let mut family = self.family.clone();
        let (family, answer) = spawn_blocking(move || {
            let answer = work(&mut family);
            (family, answer)
        })
        .await
        .ok()?;
        self.family = family;
        Some(answer)
    }
}

fn lock(tail: &Mutex<Tail>) -> MutexGuard<'_, Tail> {
    // A tail cut off by a panic is still a tail.
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}
