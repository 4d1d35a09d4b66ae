//! The front end as a whole: how it is built, starts, serves and ends.

use std::{io, sync::Arc};

use browserfleet_common::redis::Directory;
use rmcp::ServerHandler;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};

use crate::{
    Config, Stores,
    changes::Changes,
    core::{Core, Host},
    fleet::{Pools, Wire},
    http::{router::router, server},
    mcp::{self, handler::Handler},
    sqlite::BadStateDir,
};

/// A front end. Cheap to clone: all clones are the same one.
#[derive(Clone, Debug)]
pub struct App {
    core: Arc<Core>,
}

impl App {
    /// A front end that keeps everything where its settings say, and finds daemons there too if it is told of none. Neither
    /// that nor the daemons need be reachable yet.
    ///
    /// # Errors
    /// When its directory cannot be used.
    pub fn build(config: Config, pools: Pools, host: Host) -> Result<Self, BadStateDir> {
        let stores = Stores::of(&config, &host)?;
        let pools = match &stores.redis {
            Some(redis) if pools.is_empty() => pools.found_in(Directory::new(redis.clone()), Wire::default()),
            _ => pools,
        };
        Ok(Self::build_with(config, pools, stores, host))
    }

    /// A front end with given stores.
    pub fn build_with(config: Config, pools: Pools, stores: Stores, host: Host) -> Self {
        Self { core: Arc::new(Core::new(config, pools, stores, host)) }
    }

    /// Lets `fault` act before each tool call, for example panic.
    #[cfg(any(test, feature = "test-util"))]
    #[must_use]
    pub fn with_fault(config: Config, pools: Pools, stores: Stores, host: Host, fault: crate::Fault) -> Self {
        Self { core: Arc::new(Core::new(config, pools, stores, host).with_fault(fault)) }
    }

    /// Serves HTTP until the program is told to stop. Then: no new connections, running calls finish, event streams end,
    /// and if nobody else knows of the sessions, they end. Every step has its limit.
    ///
    /// # Errors
    /// When the listener is not usable.
    pub async fn serve_http(&self, listener: TcpListener) -> io::Result<()> {
        self.serve_http_with(listener, Handler::new(Arc::clone(&self.core))).await
    }

    /// Serves HTTP as [`Self::serve_http`] does, with another one who answers MCP: so the protocol layer is tested with what
    /// MCP has and the product does not offer.
    ///
    /// # Errors
    /// When the listener is not usable.
    pub async fn serve_http_with<H>(&self, listener: TcpListener, handler: H) -> io::Result<()>
    where
        H: ServerHandler + Clone,
    {
        tracing::info!(address = %listener.local_addr()?, "serving MCP at /mcp");
        self.core.start();
        server::serve(&self.core, listener, router(&self.core, handler)).await;
        self.core.end_volatile_sessions().await;
        self.core.last_words().await;
        Ok(())
    }

    /// Tells clients that lists have changed.
    pub fn changes(&self) -> Changes {
        self.core.changes.clone()
    }

    /// Serves one client over standard input and output, until its input ends or the program is told to stop.
    ///
    /// # Errors
    /// When the client does not speak MCP.
    pub async fn serve_stdio(&self) -> io::Result<()> {
        let (input, output) = rmcp::transport::stdio_pipes();
        self.serve_stdio_on(input, output).await
    }

    /// Serves one client over a pair of streams, as [`Self::serve_stdio`] does.
    ///
    /// # Errors
    /// When the client does not speak MCP.
    pub async fn serve_stdio_on<R, W>(&self, input: R, output: W) -> io::Result<()>
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        self.core.start();
        let result = mcp::stdio::serve(&self.core, input, output).await;
        self.core.end_volatile_sessions().await;
        self.core.last_words().await;
        result
    }
}
