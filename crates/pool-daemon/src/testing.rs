//! Browsers without Chromium: for tests of the pool under a virtual clock, and for measuring a pool by itself.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use browserfleet_cdp::fake::Peer;
use browserfleet_common::{error_code::ErrorCode, lifecycle::Tasks};
use tokio::{
    sync::SetOnce,
    time::{Duration, sleep},
};

use crate::{
    egress::Gate,
    page::{Context, DownloadPlace, Page},
    pool::{
        Browser, LaunchError, Launcher,
        browser::{Death, ProcessTree, Ready},
    },
};

/// Starts fake browsers: each launch takes [`LAUNCH`], each end [`END`].
#[derive(Debug)]
pub struct FakeLauncher {
    tasks: Tasks,
    /// The next launches fail with this.
    failing: Mutex<Option<String>>,
    /// Those that were launched, in order.
    pub trees: Mutex<Vec<Arc<FakeTree>>>,
    alive: Arc<AtomicUsize>,
    most_alive: Arc<AtomicUsize>,
    /// The end of a browser leaves so many processes.
    leaving: Arc<AtomicUsize>,
    /// How often it was asked to measure.
    pub measured: AtomicUsize,
}

/// What a launch takes.
pub const LAUNCH: Duration = Duration::from_millis(400);
/// What an end takes.
pub const END: Duration = Duration::from_millis(50);

impl FakeLauncher {
    pub fn new(tasks: &Tasks) -> Arc<Self> {
        Arc::new(Self {
            tasks: tasks.clone(),
            failing: Mutex::default(),
            trees: Mutex::default(),
            alive: Arc::default(),
            most_alive: Arc::default(),
            leaving: Arc::default(),
            measured: AtomicUsize::default(),
        })
    }

    /// Makes launches fail with a reason, or work again.
    pub fn fail(&self, reason: Option<&str>) {
        *self.failing.lock().unwrap_or_else(PoisonError::into_inner) = reason.map(str::to_owned);
    }

    /// Makes ends leave so many processes.
    pub fn leave(&self, processes: usize) {
        self.leaving.store(processes, Ordering::SeqCst);
    }

    /// How many launches have succeeded.
    pub fn launched(&self) -> usize {
        self.trees.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Browsers that live now, and the most that ever did at a time.
    pub fn alive(&self) -> (usize, usize) {
        (self.alive.load(Ordering::SeqCst), self.most_alive.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl Launcher for FakeLauncher {
    async fn launch(&self, _slot: usize) -> Result<Arc<Browser>, LaunchError> {
        sleep(LAUNCH).await;
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(reason) = failing {
            return Err(LaunchError(reason));
        }
        let (peer, connection) = Peer::connect(&self.tasks).map_err(|error| LaunchError(format!("pipes: {error}")))?;
        let alive = self.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_alive.fetch_max(alive, Ordering::SeqCst);
        let tree = Arc::new(FakeTree {
            alive: Arc::clone(&self.alive),
            leaving: Arc::clone(&self.leaving),
            died: SetOnce::new(),
            ended: SetOnce::new(),
            peer: Mutex::new(Some(peer)),
        });
        self.trees.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&tree));
        let context = Context::default_of(&connection, &self.tasks, None, None);
        let ready = Ready { page: Page::detached(&connection), context };
        Ok(Arc::new(Browser::new(connection, self.tasks.clone(), tree, ready)))
    }

    fn measure(&self) {
        self.measured.fetch_add(1, Ordering::SeqCst);
    }
}

/// The processes of a fake browser.
#[derive(Debug)]
pub struct FakeTree {
    alive: Arc<AtomicUsize>,
    leaving: Arc<AtomicUsize>,
    died: SetOnce<Death>,
    ended: SetOnce<()>,
    /// Keeps the pipe open while the browser lives.
    peer: Mutex<Option<Peer>>,
}

impl FakeTree {
    /// The browser dies by itself.
    ///
    /// # Panics
    /// When it is dead already.
    pub fn die(&self, reason: &str) {
        let death = Death { code: ErrorCode::BrowserGone, reason: reason.to_owned() };
        self.died.set(death).expect("a browser dies once");
    }

    /// Whether its end is complete.
    pub fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }
}

#[async_trait]
impl ProcessTree for FakeTree {
    fn pid(&self) -> u32 {
        1
    }

    async fn died(&self) -> Death {
        tokio::select! {
            death = self.died.wait() => death.clone(),
            () = self.ended.wait() => Death { code: ErrorCode::BrowserGone, reason: "it was ended".to_owned() },
        }
    }

    fn memory(&self) -> u64 {
        0
    }

    async fn gate(&self) -> Result<Option<Gate>, String> {
        Ok(None)
    }

    fn downloads(&self) -> Option<DownloadPlace> {
        None
    }

    async fn end(&self) -> usize {
        sleep(END).await;
        drop(self.peer.lock().unwrap_or_else(PoisonError::into_inner).take());
        if self.ended.set(()).is_ok() {
            self.alive.fetch_sub(1, Ordering::SeqCst);
        }
        self.leaving.load(Ordering::SeqCst)
    }
}
