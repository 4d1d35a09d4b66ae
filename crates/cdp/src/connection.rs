//! The pipe: one task reads it, one writes it, everybody else holds a cheap handle.

use std::{
    fmt, io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use browserfleet_common::lifecycle::Tasks;
use nix::fcntl::{FcntlArg, fcntl};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::pipe,
    sync::{SetOnce, mpsc},
};

use crate::{
    CloseReason, Closed, FRAME_LIMIT, Session, Stats,
    frame::{Frame, Splitter},
    registry::Registry,
    wire,
};

/// Commands that may wait for the browser to read. When it does not, callers wait here within their own deadlines.
const QUEUE_LENGTH: usize = 64;

/// Linux gives a pipe 64 KiB; a screenshot then takes hundreds of wake-ups. 1 MiB is the most an ordinary user may ask for.
/// Only the reading side: commands are small, and what one user's pipes may hold together is limited too.
const PIPE_SIZE: nix::libc::c_int = 1 << 20;

/// A handle to one browser. Cheap to clone. When the last handle is dropped, sessions included, the connection closes and
/// Chromium exits by itself; event streams do not count.
#[derive(Clone)]
pub struct Connection {
    pub(crate) shared: Arc<Shared>,
    /// Only handles hold the sending end, so that the writer ends with the last of them.
    pub(crate) queue: mpsc::Sender<Outgoing>,
}

/// A command on its way to the browser.
pub(crate) struct Outgoing {
    pub(crate) id: u64,
    pub(crate) frame: Vec<u8>,
}

/// What the handles and the two tasks share.
pub(crate) struct Shared {
    /// A std mutex: held to move one message or one entry, never across an await.
    registry: Mutex<Registry>,
    ended: SetOnce<Closed>,
    /// Bytes read from the browser.
    received: AtomicU64,
}

impl Connection {
    /// Takes over both pipes. `read` is where Chromium's messages arrive (it writes them to its fd 4); `write` leads to its
    /// fd 3. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the descriptors are not the right ends of pipes.
    pub fn open(read: OwnedFd, write: OwnedFd, tasks: &Tasks) -> io::Result<Self> {
        Self::open_with_limit(read, write, tasks, FRAME_LIMIT)
    }

    pub(crate) fn open_with_limit(read: OwnedFd, write: OwnedFd, tasks: &Tasks, limit: usize) -> io::Result<Self> {
        enlarge(&read);
        // These also set O_NONBLOCK.
        let read = pipe::Receiver::from_owned_fd(read)?;
        let write = pipe::Sender::from_owned_fd(write)?;
        let (queue, commands) = mpsc::channel(QUEUE_LENGTH);
        let shared =
            Arc::new(Shared { registry: Mutex::default(), ended: SetOnce::new(), received: AtomicU64::new(0) });
        tasks.spawn("cdp.read", read_messages(Arc::clone(&shared), read, Splitter::new(limit)));
        tasks.spawn("cdp.write", write_commands(Arc::clone(&shared), write, commands));
        Ok(Self { shared, queue })
    }

    /// Bytes received so far. A browser that sends is alive, even when it has so much to say that an answer is far behind.
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// The browser's own level: commands and events without a session.
    pub fn browser(&self) -> Session {
        Session::new(self.clone(), None)
    }

    /// A flat session, after `Target.attachToTarget` or `Target.attachedToTarget`. All handles of one id share its state.
    pub fn session(&self, id: &str) -> Session {
        let id = self.shared.registry().session(id);
        Session::new(self.clone(), Some(id))
    }

    /// Waits until the connection has ended and says why. By then every pending command has failed.
    pub async fn closed(&self) -> Closed {
        self.shared.ended.wait().await.clone()
    }

    pub fn is_closed(&self) -> bool {
        self.shared.ended.initialized()
    }

    /// Ends the connection now, without asking the browser; Chromium exits when it sees its pipe closed.
    pub fn close(&self) {
        self.shared.end(CloseReason::Local);
    }

    pub fn stats(&self) -> Stats {
        self.shared.registry().stats()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("ended", &self.shared.ended.get())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, reason: CloseReason) {
        let closed = Closed { reason };
        self.registry().close(&closed);
        // Already set: an earlier reason counts.
        if self.ended.set(closed).is_ok() {
            tracing::debug!(?reason, "connection to the browser ended");
        }
    }
}

/// Ends the connection when a task that serves it ends in whatever way: a panic or a stopped runtime must not leave callers
/// waiting for their deadlines. Where the task knows a better reason, it has said it before.
struct EndsWith(Arc<Shared>);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.end(CloseReason::Local);
    }
}

async fn read_messages(shared: Arc<Shared>, mut pipe: pipe::Receiver, mut splitter: Splitter) {
    let _end = EndsWith(Arc::clone(&shared));
    let reason = tokio::select! {
        _ = shared.ended.wait() => return,
        reason = read_until_end(&shared, &mut pipe, &mut splitter) => reason,
    };
    shared.end(reason);
}

async fn read_until_end(shared: &Shared, pipe: &mut pipe::Receiver, splitter: &mut Splitter) -> CloseReason {
    loop {
        let read = pipe.read_buf(&mut splitter.room()).await;
        match read {
            Ok(0) => return CloseReason::EndOfStream,
            Ok(bytes) => {
                shared.received.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(error) => return CloseReason::Read(error.kind()),
        }
        while let Some(frame) = splitter.next() {
            match frame {
                Frame::Whole(frame) => {
                    // Parsed before the lock is taken: a message may be large.
                    let message = wire::parse(&frame);
                    shared.registry().on_message(message);
                }
                Frame::Skipped(skimmed) => shared.registry().on_skipped(&skimmed),
            }
        }
    }
}

async fn write_commands(shared: Arc<Shared>, mut pipe: pipe::Sender, mut commands: mpsc::Receiver<Outgoing>) {
    // Also when the last handle is dropped and no command can come any more.
    let _end = EndsWith(Arc::clone(&shared));
    let writing = async {
        while let Some(Outgoing { id, frame }) = commands.recv().await {
            // A command whose caller gave up, or whose page crashed, while it waited here must not run late.
            if shared.registry().is_pending(id) {
                pipe.write_all(&frame).await?;
            }
        }
        Ok::<(), io::Error>(())
    };
    let outcome = tokio::select! {
        // The browser may have stopped reading: the end must not wait for it.
        _ = shared.ended.wait() => return,
        outcome = writing => outcome,
    };
    if let Err(error) = outcome {
        shared.end(CloseReason::Write(error.kind()));
    }
}

/// A larger pipe is faster, not needed: the system may refuse when the user holds many.
fn enlarge(pipe: impl AsFd) {
    if let Err(error) = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE)) {
        tracing::debug!(%error, "pipe keeps its default size");
    }
}
