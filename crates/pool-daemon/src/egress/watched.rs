//! A connection to the outside whose bytes are counted, and which ends when nothing moves.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use browserfleet_common::metrics::metrics;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Duration, Instant, sleep_until},
};

/// A connection over which nothing has come or gone for this long is closed.
const IDLE: Duration = Duration::from_mins(5);

/// Bytes that went through a gate.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

/// When something last moved.
#[derive(Debug)]
pub(super) struct Pulse {
    started: Instant,
    /// Milliseconds since then.
    last: AtomicU64,
}

impl Pulse {
    fn beat(&self) {
        self.last.store(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Resolves once nothing has moved for too long.
    pub(super) async fn stopped(&self) {
        loop {
            let end = self.started + Duration::from_millis(self.last.load(Ordering::Relaxed)) + IDLE;
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// The connection.
#[derive(Debug)]
pub(super) struct Watched<S> {
    io: S,
    traffic: Arc<Traffic>,
    pulse: Arc<Pulse>,
}

impl<S> Watched<S> {
    pub(super) fn new(io: S, traffic: &Arc<Traffic>) -> (Self, Arc<Pulse>) {
        let pulse = Arc::new(Pulse { started: Instant::now(), last: AtomicU64::new(0) });
        (Self { io, traffic: Arc::clone(traffic), pulse: Arc::clone(&pulse) }, pulse)
    }

    fn count(&self, total: &AtomicU64, direction: &'static str, bytes: usize) {
        if bytes > 0 {
            total.fetch_add(bytes as u64, Ordering::Relaxed);
            metrics().egress_bytes.add_many(direction, bytes as u64);
            self.pulse.beat();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.count(&self.traffic.received, "received", buffer.filled().len() - before);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.count(&self.traffic.sent, "sent", written);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
