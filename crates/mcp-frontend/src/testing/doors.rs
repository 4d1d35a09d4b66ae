//! How the fake daemon is reached: over pipes in memory, or over TCP.

use std::{io, net::SocketAddr, time::Duration};

use browserfleet_common::pb::{browser_service_server::BrowserServiceServer, pool_service_server::PoolServiceServer};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{DuplexStream, copy_bidirectional, duplex},
    net::TcpListener,
};
use tonic::{
    service::Routes,
    transport::{Channel, Endpoint, Server, Uri, server::TcpIncoming},
};

use super::FakeDaemon;

/// Bytes under way in a pipe.
const PIPE: usize = 1 << 20;

impl FakeDaemon {
    /// A channel to it. Every connection is a pipe in memory.
    pub fn channel(&self) -> Channel {
        let daemon = self.clone();
        Endpoint::from_static("http://fake.daemon").connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
            let daemon = daemon.clone();
            async move { daemon.connect().map(TokioIo::new) }
        }))
    }

    /// Serves on a port of loopback. Connections older than `max_age` are told to go away (GOAWAY).
    ///
    /// # Errors
    /// When there is no port.
    pub async fn listen(&self, max_age: Option<Duration>) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        // As daemons do it: a small message that waits for the one before to be acknowledged takes 40 ms.
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let mut server = Server::builder();
        if let Some(age) = max_age {
            server = server.max_connection_age(age);
        }
        let router = server.add_routes(self.routes());
        self.tasks.spawn("fake daemon", router.serve_with_incoming(incoming));
        Ok(address)
    }

    fn connect(&self) -> io::Result<DuplexStream> {
        let unreachable = self.unreachable();
        if unreachable.is_cancelled() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (client, mut near) = duplex(PIPE);
        let (mut far, server) = duplex(PIPE);
        self.tasks.spawn("fake wire", async move {
            tokio::select! {
                _ended = copy_bidirectional(&mut near, &mut far) => {}
                () = unreachable.cancelled() => {}
            }
        });
        let incoming = tokio_stream::once(Ok::<_, io::Error>(server));
        let router = Server::builder().add_routes(self.routes());
        self.tasks.spawn("fake daemon", router.serve_with_incoming(incoming));
        Ok(client)
    }

    fn routes(&self) -> Routes {
        Routes::new(PoolServiceServer::new(self.clone())).add_service(BrowserServiceServer::new(self.clone()))
    }
}
