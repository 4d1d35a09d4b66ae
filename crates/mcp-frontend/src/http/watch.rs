//! A connection with a sense of time. hyper's own header timer also runs while a connection is idle; here each phase has
//! its own limit: between two requests, from the first byte of a request to the last of its headers, and for a client
//! that does not read. The time of a body is measured where it is read. Over HTTP/2 requests are side by side, and bytes
//! need not be of one: there a connection on which none is served is idle, whatever else is said on it.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Instant, Sleep, sleep_until, timeout_at},
};

/// How long each phase may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// None: bytes do not begin a request (HTTP/2).
    pub(super) header: Option<Duration>,
    pub(super) idle: Duration,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing of a request has come yet.
    Idle,
    /// A request has begun.
    Header,
    /// Requests are being served; they have limits of their own.
    Serving,
}

/// What the service tells the connection.
#[derive(Clone, Debug)]
pub(super) struct Phases(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told of each new phase.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    since: Instant,
    /// Requests that are being served.
    serving: usize,
    /// Answers of which there is something that the client has to take first, by number, and since when.
    untaken: BTreeMap<u64, Instant>,
    /// Answers so far.
    answers: u64,
    /// A request has been served, or is.
    asked: bool,
    /// Who waits for bytes without a limit. A new phase brings one.
    waiting: Option<Waker>,
}

impl Phases {
    pub(super) fn new() -> Self {
        let state = State {
            phase: Phase::Idle,
            since: Instant::now(),
            serving: 0,
            untaken: BTreeMap::new(),
            answers: 0,
            asked: false,
            waiting: None,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }))
    }

    /// A request is complete but for its body. The guard ends with the answer's body.
    pub(super) fn serving(&self) -> Serving {
        let mut state = self.state();
        state.asked = true;
        state.serving += 1;
        self.enter(&mut state, Phase::Serving);
        drop(state);
        Serving(self.clone())
    }

    /// Whether the first request is still to come.
    pub(super) fn nothing_asked(&self) -> bool {
        !self.state().asked
    }

    /// Until nothing has been served for so long.
    pub(super) async fn idle_for(&self, limit: Duration) {
        loop {
            let changed = self.0.changed.notified();
            let idle_since = {
                let state = self.state();
                (state.phase != Phase::Serving).then_some(state.since)
            };
            match idle_since {
                None => changed.await,
                Some(since) if timeout_at(since + limit, changed).await.is_err() => return,
                Some(_) => {}
            }
        }
    }

    /// Until the client has taken nothing of some answer for so long; seen late by as much at most. Over HTTP/2 it may refuse
    /// that for one answer (a window of nothing) and be well otherwise.
    pub(super) async fn untaken_for(&self, limit: Duration) {
        loop {
            let oldest = self.state().untaken.values().min().copied();
            let until = oldest.unwrap_or_else(Instant::now) + limit;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    fn enter(&self, state: &mut State, phase: Phase) {
        state.phase = phase;
        state.since = Instant::now();
        if let Some(waiting) = state.waiting.take() {
            waiting.wake();
        }
        self.0.changed.notify_waiters();
    }

    /// Until when bytes must come. Without a limit, `cx` is woken when there is one.
    fn deadline(&self, limits: Limits, cx: &Context<'_>) -> Option<Instant> {
        let mut state = self.state();
        match state.phase {
            Phase::Idle => Some(state.since + limits.idle),
            Phase::Header => limits.header.map(|header| state.since + header),
            Phase::Serving => {
                state.waiting = Some(cx.waker().clone());
                None
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes_came(&self) {
        let mut state = self.state();
        if state.phase == Phase::Idle {
            self.enter(&mut state, Phase::Header);
        }
    }
}

/// A request that is being served.
#[derive(Debug)]
pub(super) struct Serving(Phases);

impl Drop for Serving {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.serving -= 1;
        if state.serving == 0 {
            self.0.enter(&mut state, Phase::Idle);
        }
    }
}

impl Serving {
    /// The body after which the request is over.
    pub(super) fn until_sent(self, body: Body) -> Body {
        let number = {
            let mut state = self.0.state();
            state.answers += 1;
            let number = state.answers;
            state.untaken.insert(number, Instant::now());
            number
        };
        Body::new(Sent { body, number, serving: self })
    }
}

struct Sent {
    body: Body,
    number: u64,
    serving: Serving,
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.serving.0.state().untaken.remove(&self.number);
    }
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Who asks for more has room for it.
        let polled = hyper::body::Body::poll_frame(Pin::new(&mut self.body), cx);
        let mut state = self.serving.0.state();
        if matches!(polled, Poll::Ready(Some(_))) {
            state.untaken.insert(self.number, Instant::now());
        } else {
            state.untaken.remove(&self.number);
        }
        drop(state);
        polled
    }

    fn is_end_stream(&self) -> bool {
        hyper::body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        hyper::body::Body::size_hint(&self.body)
    }
}

/// A connection whose phases have limits. One that is broken ends with [`io::ErrorKind::TimedOut`].
#[derive(Debug)]
pub(super) struct Watched<IO> {
    io: IO,
    phases: Phases,
    limits: Limits,
    reading: Timer,
    writing: Timer,
    /// Since when the client has taken nothing of what we want to write.
    stalled: Option<Instant>,
}

impl<IO> Watched<IO> {
    pub(super) fn new(io: IO, phases: Phases, limits: Limits) -> Self {
        Self { io, phases, limits, reading: Timer::default(), writing: Timer::default(), stalled: None }
    }
}

/// A timer that is set anew only when its deadline moves.
#[derive(Debug, Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<io::Error> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx).map(|()| io::ErrorKind::TimedOut.into())
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Watched<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(result) => {
                if buf.filled().len() > before && self.limits.header.is_some() {
                    self.phases.bytes_came();
                }
                Poll::Ready(result)
            }
            Poll::Pending => match self.phases.deadline(self.limits, cx) {
                Some(deadline) => self.reading.poll(deadline, cx).map(Err),
                None => Poll::Pending,
            },
        }
    }
}

impl<IO: AsyncWrite + Unpin> Watched<IO> {
    fn written<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let deadline = *self.stalled.get_or_insert_with(Instant::now) + self.limits.idle;
        self.writing.poll(deadline, cx).map(Err)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Watched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Over TLS this is where a client that does not read is waited for.
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.written(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_shutdown(cx);
        self.written(cx, result)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const LIMITS: Limits = Limits { header: Some(Duration::from_secs(10)), idle: Duration::from_mins(1) };

    async fn lasts(read: impl Future<Output = io::Result<usize>>) -> u64 {
        let started = Instant::now();
        assert_eq!(read.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        started.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_own_limit() {
        let (io, mut client) = duplex(1024);
        let phases = Phases::new();
        let mut watched = Watched::new(io, phases.clone(), LIMITS);
        let mut buf = [0; 64];
        assert_eq!(lasts(watched.read(&mut buf)).await, 60);

        let serving = phases.serving();
        drop(serving);
        client.write_all(b"POST /").await.unwrap();
        assert_eq!(watched.read(&mut buf).await.unwrap(), 6);
        // A byte now and then does not help.
        tokio::time::sleep(Duration::from_secs(6)).await;
        client.write_all(b"m").await.unwrap();
        assert_eq!(watched.read(&mut buf).await.unwrap(), 1);
        assert_eq!(lasts(watched.read(&mut buf)).await, 4);

        let serving = phases.serving();
        let served = async {
            tokio::time::sleep(Duration::from_hours(1)).await;
            drop(serving);
        };
        // A request that is served has limits of its own; after it, even the read that waits all the while has one.
        let (lasted, ()) = tokio::join!(lasts(watched.read(&mut buf)), served);
        assert_eq!(lasted, 3660);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_let_go() {
        let (io, mut client) = duplex(4);
        let mut watched = Watched::new(io, Phases::new(), LIMITS);
        watched.write_all(b"full").await.unwrap();
        assert_eq!(lasts(watched.write(b"more")).await, 60);
        let mut buf = [0; 4];
        client.read_exact(&mut buf).await.unwrap();
        watched.write_all(b"full").await.unwrap();
        assert_eq!(lasts(watched.write(b"more")).await, 60, "progress starts the time anew");
    }

    #[tokio::test(start_paused = true)]
    async fn side_by_side_a_connection_is_idle_when_the_last_request_is_over() {
        let (io, mut client) = duplex(1024);
        let (phases, limits) = (Phases::new(), Limits { header: None, ..LIMITS });
        let mut watched = Watched::new(io, phases.clone(), limits);
        let (one, other) = (phases.serving(), phases.serving());
        let served = async {
            tokio::time::sleep(Duration::from_secs(100)).await;
            drop(one);
            tokio::time::sleep(Duration::from_secs(100)).await;
            drop(other);
            // What is no request prolongs nothing.
            client.write_all(b"ping").await.unwrap();
        };
        let started = Instant::now();
        let ((), ()) = tokio::join!(phases.idle_for(LIMITS.idle), served);
        assert_eq!(started.elapsed().as_secs(), 260);
        let mut buf = [0; 64];
        assert_eq!(watched.read(&mut buf).await.unwrap(), 4);
        assert_eq!(lasts(watched.read(&mut buf)).await, 0);
    }
}
