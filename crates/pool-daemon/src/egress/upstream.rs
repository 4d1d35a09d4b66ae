//! The session's own proxy: everything goes through it, or nowhere.
//!
//! Names are resolved there, not here: with it a session goes where that proxy is, and what is private there is its
//! owner's business. Addresses that are written out are checked as always, and so is the proxy's own.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use browserfleet_common::egress::ProxyServer;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::{client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Duration, timeout},
};

use super::{Exits, Refusal, connect::unavailable, policy::Policy, target::Target};

/// Most time for the proxy to connect further.
const TUNNEL: Duration = Duration::from_secs(20);

/// Where a proxy is.
pub(super) fn place(proxy: &ProxyServer) -> Target {
    Target { host: proxy.host.clone(), port: proxy.port }
}

/// What a proxy is shown of its credentials.
pub(super) fn authorization(proxy: &ProxyServer) -> Option<HeaderValue> {
    let (user, password) = proxy.credentials.as_ref()?;
    let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// What an answer of the proxy's own means, if it means that the proxy is not of use.
pub(super) fn judge(status: StatusCode) -> Option<Refusal> {
    (status == StatusCode::PROXY_AUTHENTICATION_REQUIRED)
        .then(|| unavailable("wants another user name and password than it was given"))
}

impl Exits {
    /// A tunnel through the proxy to the target.
    pub(super) async fn tunnel(
        &self,
        policy: &Policy,
        proxy: &ProxyServer,
        target: &Target,
    ) -> Result<TokioIo<Upgraded>, Refusal> {
        policy.admit(target)?;
        let stream = self.reach_upstream(policy, &place(proxy)).await?;
        let opened = timeout(TUNNEL, self.open(stream, proxy, target)).await;
        opened.unwrap_or_else(|_elapsed| Err(unavailable("does not answer")))
    }

    async fn open(&self, io: TcpStream, proxy: &ProxyServer, target: &Target) -> Result<TokioIo<Upgraded>, Refusal> {
        let silent = |_error| unavailable("does not speak HTTP");
        let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(silent)?;
        // It ends with the exchange: the tunnel takes its place, or nobody holds the sender any more.
        self.inner.tasks.spawn("egress.upstream", connection.with_upgrades());
        let authority = target.to_string();
        let mut request = Request::builder().method(Method::CONNECT).uri(&authority).header(header::HOST, &authority);
        if let Some(credentials) = authorization(proxy) {
            request = request.header(header::PROXY_AUTHORIZATION, credentials);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|_error| unavailable("cannot be asked for this"))?;
        let response = sender.send_request(request).await.map_err(silent)?;
        if let Some(refusal) = judge(response.status()) {
            return Err(refusal);
        }
        if !response.status().is_success() {
            return Err(unavailable(&format!("answered {} when asked for {authority}", response.status())));
        }
        Ok(TokioIo::new(hyper::upgrade::on(response).await.map_err(silent)?))
    }
}
