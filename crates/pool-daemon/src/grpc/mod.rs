//! The gRPC services: validate, convert, call the pool, map the error. No decisions here.

mod browser;
mod convert;
mod pool;

use std::{future::Future, time::Duration};

use browserfleet_common::{lifecycle::Tasks, pb};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::transport::{Server, server::Connected};

pub use browser::Browsers;
pub use pool::Pools;

use crate::pool::{Counts, Handle};

/// Most streams of one connection: a front end multiplexes all its calls over one.
const MAX_STREAMS: u32 = 256;

/// How often a silent connection is probed, and how long an answer may take.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Why serving ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("gRPC server failed")]
    Transport(#[from] tonic::transport::Error),
    #[error("reflection descriptors are broken")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves every service on a stream of connections until `stop` resolves and the running calls have ended.
pub async fn serve<I, C, E>(
    connections: I,
    pools: Pools,
    browsers: Browsers,
    tasks: &Tasks,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    I: Stream<Item = Result<C, E>>,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    C::ConnectInfo: Clone + Send + Sync + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (health, health_service) = tonic_health::server::health_reporter();
    tasks.spawn("grpc.health", report_health(health, pools.handle().clone()));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(MAX_STREAMS)
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(
            pb::pool_service_server::PoolServiceServer::new(pools).max_decoding_message_size(pb::MESSAGE_BYTES),
        )
        .add_service(
            pb::browser_service_server::BrowserServiceServer::new(browsers)
                .max_decoding_message_size(pb::MESSAGE_BYTES)
                .max_encoding_message_size(pb::MESSAGE_BYTES),
        )
        .serve_with_incoming_shutdown(connections, stop)
        .await?;
    Ok(())
}

/// Serving, until a drain begins.
async fn report_health(health: tonic_health::server::HealthReporter, handle: Handle) {
    health.set_serving::<pb::pool_service_server::PoolServiceServer<Pools>>().await;
    health.set_serving::<pb::browser_service_server::BrowserServiceServer<Browsers>>().await;
    let mut counts = handle.watch();
    // The driver being gone is the end of serving as well.
    let _driver_gone = counts.wait_for(|counts: &Counts| counts.draining).await.map(drop);
    health.set_not_serving::<pb::pool_service_server::PoolServiceServer<Pools>>().await;
    health.set_not_serving::<pb::browser_service_server::BrowserServiceServer<Browsers>>().await;
    health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
}
