//! The accept loop. `axum::serve` has no limits in time or number; this one does.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{conversation::converse, newcomers};
use crate::core::Core;

/// After a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// For the kernel to finish the handshakes that had begun when we stopped: more than a round trip to any proxy.
const HANDSHAKES: Duration = Duration::from_millis(200);
/// For a client that connected just before we stopped: its request may still be on its way, and who is as busy as a proxy before
/// many front ends may take seconds to send it. Nobody else waits for this: calls go on meanwhile.
pub(super) const FIRST_WORDS: Duration = Duration::from_secs(5);
/// For answers that are on their way when everything has to stop.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);
/// What a client hears that is one too many.
const TURNED_AWAY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Serves until the program is told to stop and everything that was running has ended, in bounded time.
pub(crate) async fn serve(core: &Arc<Core>, listener: TcpListener, router: Router) {
    let graceful = GracefulShutdown::new();
    accept(core, &listener, &router, &graceful).await;
    if let Err(error) = accept_last(core, listener, &router, &graceful).await {
        tracing::warn!(%error, "connections that waited to be accepted are lost");
    }
    // Idle connections close at once, others after their answer. A legacy call may run on without its connection.
    let limit = core.config.http.drain_timeout + 2 * LAST_WORDS;
    if timeout(limit, async { tokio::join!(graceful.shutdown(), wind_up(core)) }).await.is_err() {
        tracing::warn!("clients did not take their last answers in time");
        core.hard.cancel();
        core.streams.cancel();
    }
}

/// Lets running calls finish and stops what is left; then event streams end.
async fn wind_up(core: &Arc<Core>) {
    let left = core.running.drained(core.config.http.drain_timeout).await;
    if left > 0 {
        tracing::warn!(left, "calls did not finish in time and are stopped");
        core.hard.cancel();
        core.running.drained(LAST_WORDS).await;
    }
    core.streams.cancel();
}

async fn accept(core: &Arc<Core>, listener: &TcpListener, router: &Router, graceful: &GracefulShutdown) {
    let places = Arc::clone(&core.places);
    loop {
        let accepted = tokio::select! {
            // Whoever comes together with the signal comes too late.
            biased;
            () = core.shutdown.soft().cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => admit(core, stream, &places, router.clone(), graceful.watcher()),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Admits whom the kernel has let in already, once it lets in nobody else: closing the listener would reset them, and nobody
/// could know whether their requests ran.
async fn accept_last(
    core: &Arc<Core>,
    listener: TcpListener,
    router: &Router,
    graceful: &GracefulShutdown,
) -> io::Result<()> {
    if let Err(error) = newcomers::shut_out(&listener) {
        tracing::warn!(%error, "who connects in the very moment of the end may be reset");
    }
    let admit = |stream| admit(core, stream, &core.places, router.clone(), graceful.watcher());
    let finished = Instant::now() + HANDSHAKES;
    while let Ok(accepted) = timeout_at(finished, listener.accept()).await {
        match accepted {
            Ok((stream, _)) => admit(stream),
            // One that cannot be let in keeps no other out.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Asked directly: the runtime may not have heard of them yet.
    let listener = listener.into_std()?;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                admit(TcpStream::from_std(stream)?);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn admit(core: &Arc<Core>, stream: TcpStream, places: &Arc<Semaphore>, router: Router, watcher: Watcher) {
    let Ok(place) = Arc::clone(places).try_acquire_owned() else {
        tracing::warn!(max = core.config.http.max_connections, "too many connections");
        // As well as possible: it may not even read. Over TLS there is nothing to say before a handshake.
        if core.config.http.tls.is_none() {
            let _unread = stream.try_write(TURNED_AWAY);
        }
        return;
    };
    let for_connection = Arc::clone(core);
    core.tasks.spawn("http connection", async move {
        let hard = for_connection.hard.clone();
        let stopped = async {
            hard.cancelled().await;
            sleep(LAST_WORDS).await;
        };
        tokio::select! {
            result = converse(&for_connection, stream, router, watcher) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "connection ended");
                }
            }
            () = stopped => {}
        }
        drop(place);
    });
}

/// Binds an address; the error says which.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) async fn bind(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}
