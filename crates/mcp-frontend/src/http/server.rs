//! The accept loop. `axum::serve` has no limits in time or number; this one does.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, sleep, timeout, timeout_at},
};
use tower::ServiceExt as _;

use super::{
    newcomers,
    watch::{Limits, Phases, Watched},
};
use crate::core::Core;

/// Most bytes of a request's headers.
const HEADERS_BYTES_MAX: usize = 16 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// After a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// For the kernel to finish the handshakes that had begun when we stopped: more than a round trip to any proxy.
const HANDSHAKES: Duration = Duration::from_millis(200);
/// For a client that connected just before we stopped: its request may still be on its way, and who is as busy as a proxy before
/// many front ends may take seconds to send it. Nobody else waits for this: calls go on meanwhile.
const FIRST_WORDS: Duration = Duration::from_secs(5);
/// For answers that are on their way when everything has to stop.
const LAST_WORDS: Duration = Duration::from_secs(1);
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
        // As well as possible: it may not even read.
        let _unread = stream.try_write(TURNED_AWAY);
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

async fn converse(core: &Core, stream: TcpStream, router: Router, watcher: Watcher) -> Result<(), BoxError> {
    // Answers are small and somebody waits for each.
    stream.set_nodelay(true)?;
    let settings = &core.config.http;
    let limits = Limits { header: settings.header_timeout, idle: settings.idle_timeout };
    let phases = Phases::new();
    let io = Watched::new(stream, phases.clone(), limits);
    let progress = phases.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (serving, router) = (phases.serving(), router.clone());
        async move {
            let response = router.oneshot(request.map(Body::new)).await?;
            Ok::<_, Infallible>(response.map(|body| serving.until_sent(body)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEADERS_BYTES_MAX)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stopping(core, &progress) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // The server waits until the last connection has let go of this.
    drop(watcher);
    Ok(ended?)
}

/// Until the program stops. hyper closes a connection at once on which nothing has been said yet; a new one gets the time
/// to say it.
async fn stopping(core: &Core, progress: &Phases) {
    core.shutdown.soft().cancelled().await;
    if progress.nothing_asked() {
        sleep(FIRST_WORDS).await;
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Binds an address; the error says which.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) async fn bind(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}
