//! One connection, from its handshake to its end: HTTP/1.1 in clear; over TLS that or HTTP/2, as the client likes.

use std::{convert::Infallible, error::Error, pin::pin};

use axum::{Router, body::Body};
use browserfleet_common::lifecycle::Tasks;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulConnection, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{sleep, timeout},
};
use tower::ServiceExt as _;

use super::{
    server::{FIRST_WORDS, LAST_WORDS},
    tls::{HTTP_2, Tls},
    watch::{Limits, Phases, Watched},
};
use crate::core::Core;

/// Most bytes of a request's headers.
const HEADERS_BYTES_MAX: u32 = 16 << 10;
/// Most headers of a request of HTTP/1.1.
const HEADERS_MAX: usize = 64;
/// Requests of one connection at a time, over HTTP/2. What they may do is bounded by key and token.
const STREAMS_MAX: u32 = 128;
/// Bytes of bodies that a connection may send before somebody reads them, and of answers that are kept for a client that does not.
const WINDOW: u32 = 256 << 10;

type BoxError = Box<dyn Error + Send + Sync>;

/// Serves a connection to its end. The server waits until the last one has let go of its watcher.
pub(super) async fn converse(core: &Core, stream: TcpStream, router: Router, watcher: Watcher) -> Result<(), BoxError> {
    // Answers are small and somebody waits for each.
    stream.set_nodelay(true)?;
    let ended = match &core.config.http.tls {
        None => http_1(core, stream, router).await,
        Some(tls) => Box::pin(over_tls(core, tls, stream, router)).await,
    };
    drop(watcher);
    ended
}

async fn over_tls(core: &Core, tls: &Tls, stream: TcpStream, router: Router) -> Result<(), BoxError> {
    let stream = timeout(core.config.http.header_timeout, tls.acceptor().accept(stream)).await??;
    if stream.get_ref().1.alpn_protocol() == Some(HTTP_2) {
        http_2(core, stream, router).await
    } else {
        http_1(core, stream, router).await
    }
}

async fn http_1<S>(core: &Core, stream: S, router: Router) -> Result<(), BoxError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (settings, phases) = (&core.config.http, Phases::new());
    let limits = Limits { header: Some(settings.header_timeout), idle: settings.idle_timeout };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEADERS_BYTES_MAX as usize)
        .serve_connection(TokioIo::new(Watched::new(stream, phases.clone(), limits)), service(router, phases.clone()));
    to_its_end(connection, stopping(core, &phases)).await
}

async fn http_2<S>(core: &Core, stream: S, router: Router) -> Result<(), BoxError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (idle, phases) = (core.config.http.idle_timeout, Phases::new());
    // An idle client is told so first (GOAWAY), and then has this time to confirm it.
    let limits = Limits { header: None, idle: idle + LAST_WORDS };
    let connection = http2::Builder::new(Streams(core.tasks.clone()))
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(WINDOW as usize)
        .serve_connection(TokioIo::new(Watched::new(stream, phases.clone(), limits)), service(router, phases.clone()));
    let stop = async {
        tokio::select! {
            () = stopping(core, &phases) => {}
            () = phases.idle_for(idle) => {}
        }
    };
    tokio::select! {
        ended = to_its_end(connection, stop) => ended,
        () = phases.untaken_for(idle) => Err("a client takes nothing of an answer".into()),
    }
}

/// Answers requests, and says while one is being served.
fn service(
    router: Router,
    phases: Phases,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send + 'static> {
    service_fn(move |request: Request<Incoming>| {
        let (serving, router) = (phases.serving(), router.clone());
        async move {
            let response = router.oneshot(request.map(Body::new)).await?;
            Ok(response.map(|body| serving.until_sent(body)))
        }
    })
}

/// Serves a connection; from `stop` on it takes no new requests.
async fn to_its_end<C>(connection: C, stop: impl Future<Output = ()>) -> Result<(), BoxError>
where
    C: GracefulConnection<Error: Into<BoxError>>,
{
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    ended.map_err(Into::into)
}

/// Until the program stops. hyper closes a connection at once on which nothing has been said yet; a new one gets the time
/// to say it.
async fn stopping(core: &Core, phases: &Phases) {
    core.shutdown.soft().cancelled().await;
    if phases.nothing_asked() {
        sleep(FIRST_WORDS).await;
    }
}

/// Runs the requests of HTTP/2, each a task of ours.
#[derive(Clone)]
struct Streams(Tasks);

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.spawn("http stream", stream);
    }
}
