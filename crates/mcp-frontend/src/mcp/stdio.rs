//! MCP over standard input and output: one client, both eras.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use browserfleet_common::ids::{Principal, random_hex};
use rmcp::{
    service::{ServerInitializeError, serve_server_with_ct},
    transport::async_rw::AsyncRwTransport,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use super::handler::Handler;
use crate::{connection::Key, core::Core};

/// How long running calls may go on after the client has closed its end.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// Serves one client until its input ends or the program is told to stop. Its sessions end with it.
pub(crate) async fn serve<R, W>(core: &Arc<Core>, input: R, output: W) -> io::Result<()>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let key = Key { principal: Principal::anonymous(), id: random_hex() };
    core.stdio_caller(&key).await.map_err(io::Error::other)?;
    let result = talk(core, &key, input, output).await;
    core.end_connection_sessions(&key).await;
    result
}

async fn talk<R, W>(core: &Arc<Core>, key: &Key, input: R, output: W) -> io::Result<()>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let handler = Handler::stdio(Arc::clone(core), key.clone());
    let eof = CancellationToken::new();
    let input = UntilEof { input, eof: eof.clone() };
    let transport = AsyncRwTransport::new_server(input, output).with_max_line_length(core.config.http.max_body);
    let stop = CancellationToken::new();
    let handshake = serve_server_with_ct(handler, transport, stop.clone());
    let service = tokio::select! {
        service = handshake => match service {
            Ok(service) => service,
            // A client that says nothing and goes is no error.
            Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
            Err(error) => return Err(io::Error::other(error)),
        },
        () = core.shutdown.soft().cancelled() => return Ok(()),
    };
    let client = service.peer().clone();
    let mut served = std::pin::pin!(service.waiting());
    tokio::select! {
        ended = &mut served => drop(ended.map_err(io::Error::other)?),
        () = core.shutdown.soft().cancelled() => {
            core.running.drained(core.config.http.drain_timeout).await;
            stop.cancel();
            drop(served.await.map_err(io::Error::other)?);
        }
        () = eof.cancelled() => {
            // Clients that close our input kill us a few seconds later: calls get a moment, browsers have to be ended.
            core.running.drained(LAST_CALLS).await;
            core.hard.cancel();
            drop(served.await.map_err(io::Error::other)?);
        }
        () = core.changes.tell(&client) => {}
    }
    Ok(())
}

/// Tells when the input has ended.
struct UntilEof<R> {
    input: R,
    eof: CancellationToken,
}

impl<R: AsyncRead + Unpin> AsyncRead for UntilEof<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.input).poll_read(cx, buffer);
        if matches!(polled, Poll::Ready(Ok(()))) && buffer.filled().len() == before && buffer.remaining() > 0 {
            self.eof.cancel();
        }
        polled
    }
}
