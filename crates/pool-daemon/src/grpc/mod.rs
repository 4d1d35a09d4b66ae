//! The gRPC services: validate, convert, call the pool, map the error. No decisions here.

mod auth;
mod browser;
mod convert;
mod pool;

use std::{future::Future, time::Duration};

use browserfleet_common::{
    lifecycle::Tasks,
    pb::{self, browser_service_server::BrowserServiceServer, pool_service_server::PoolServiceServer},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_stream::Stream;
use tonic::{
    server::NamedService as _,
    service::{Routes, interceptor::InterceptedService},
    transport::{
        Server,
        server::{Connected, TcpIncoming},
    },
};
use tonic_health::ServingStatus;

pub(crate) use auth::is_operator;
pub use auth::{Authenticator, Peer, Trust};
pub use browser::Browsers;
pub use pool::Pools;

use self::auth::OperatorsOnly;
use crate::pool::Handle;

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

/// What front ends call, behind the authenticator.
type Guarded<S> = InterceptedService<S, Authenticator>;

fn guarded(
    (pools, browsers): (Pools, Browsers),
    authenticator: &Authenticator,
) -> (Guarded<PoolServiceServer<Pools>>, Guarded<BrowserServiceServer<Browsers>>) {
    let pools = PoolServiceServer::new(pools).max_decoding_message_size(pb::MESSAGE_BYTES);
    let browsers = BrowserServiceServer::new(browsers)
        .max_decoding_message_size(pb::MESSAGE_BYTES)
        .max_encoding_message_size(pb::MESSAGE_BYTES);
    (InterceptedService::new(pools, authenticator.clone()), InterceptedService::new(browsers, authenticator.clone()))
}

/// The services a front end needs, to be called without a wire.
pub fn services(services: (Pools, Browsers), authenticator: &Authenticator) -> Routes {
    let (pools, browsers) = guarded(services, authenticator);
    Routes::new(pools).add_service(browsers)
}

/// The connections of a listener. Small messages go out at once: a reply is several, and the second would wait for the
/// first to be acknowledged, which takes the other side 40 ms.
pub fn incoming(listener: TcpListener) -> TcpIncoming {
    TcpIncoming::from(listener).with_nodelay(Some(true))
}

/// Serves every service, behind the authenticator, on a stream of connections until `stop` resolves and the running calls have
/// ended. A connection older than `max_age` takes no new calls, so that front ends spread over daemons that have moved;
/// its running ones end.
pub async fn serve<I, C, E>(
    connections: I,
    services: (Pools, Browsers),
    authenticator: Authenticator,
    max_age: Duration,
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
    tasks.spawn("grpc.health", report_health(health, services.0.handle().clone()));
    let (pools, browsers) = guarded(services, &authenticator);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .max_concurrent_streams(MAX_STREAMS)
        // Without tonic's grace: with it there is no GOAWAY, only a hard end. Every call has its own deadline.
        .max_connection_age(max_age)
        .add_service(health_service)
        .add_service(InterceptedService::new(reflection().build_v1()?, OperatorsOnly(authenticator.clone())))
        .add_service(InterceptedService::new(reflection().build_v1alpha()?, OperatorsOnly(authenticator)))
        .add_service(pools)
        .add_service(browsers)
        .serve_with_incoming_shutdown(connections, stop)
        .await?;
    Ok(())
}

/// Serving, as long as a newcomer can have a browser.
async fn report_health(health: tonic_health::server::HealthReporter, handle: Handle) {
    let mut counts = handle.watch();
    let mut told = None;
    loop {
        let serving = counts.borrow_and_update().unavailable().is_none();
        if told.replace(serving) != Some(serving) {
            report(&health, serving).await;
        }
        if counts.changed().await.is_err() {
            // The driver is gone: nothing is granted any more.
            return report(&health, false).await;
        }
    }
}

async fn report(health: &tonic_health::server::HealthReporter, serving: bool) {
    let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", PoolServiceServer::<Pools>::NAME, BrowserServiceServer::<Browsers>::NAME] {
        health.set_service_status(service, status).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn small_messages_do_not_wait_for_each_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let accepted = incoming(listener).next().await.unwrap().unwrap();
        assert!(accepted.nodelay().unwrap());
    }
}
