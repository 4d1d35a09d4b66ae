//! A front end and a daemon in one process, joined through memory: the same gRPC as over the network, and the same code.

use std::io;

use hyper_util::rt::TokioIo;
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::transport::{Channel, Endpoint};

/// Bytes under way in each direction before the writer waits.
const BUFFER: usize = 1 << 20;

/// Connections that may wait to be accepted; a front end makes one.
const BACKLOG: usize = 4;

/// A channel, and the server's ends of the connections it makes. The stream never ends by itself.
pub fn pipe() -> (Channel, impl Stream<Item = io::Result<DuplexStream>> + use<>) {
    let (accept, accepted) = mpsc::channel(BACKLOG);
    let connector = tower::service_fn(move |_address| {
        let accept = accept.clone();
        async move {
            let (client, server) = tokio::io::duplex(BUFFER);
            accept.send(server).await.map_err(|_stopped| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok::<_, io::Error>(TokioIo::new(client))
        }
    });
    // The address is never looked up.
    let channel = Endpoint::from_static("http://daemon.invalid").connect_with_connector_lazy(connector);
    (channel, ReceiverStream::new(accepted).map(Ok).chain(tokio_stream::pending()))
}
