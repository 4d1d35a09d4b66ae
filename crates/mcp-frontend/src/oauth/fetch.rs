//! Reading a document from the issuer: one GET, bounded in time and size, without redirects. Over TLS, unless both ends are on this
//! machine.

use std::{fmt, io, sync::Arc, time::Duration};

use browserfleet_common::authorities::Authorities;
use bytes::Bytes;
use futures_util::future::join;
use http::{
    Request, StatusCode,
    header::{ACCEPT, HOST, USER_AGENT},
};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{InvalidDnsNameError, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// For a whole answer, from the look-up of the name to the last byte.
pub(super) const TIME: Duration = Duration::from_secs(5);
/// Most bytes of an answer, and of its headers.
const BODY_MAX: usize = 256 << 10;
const HEADERS_MAX: usize = 32 << 10;

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("it cannot be reached ({0})")]
    Unreachable(io::Error),
    #[error("TLS failed ({0})")]
    Tls(io::Error),
    #[error("its host is no name for TLS")]
    Name(#[from] InvalidDnsNameError),
    #[error("it did not answer within {} s", TIME.as_secs())]
    Slow,
    #[error("the exchange broke ({0})")]
    Broken(#[from] hyper::Error),
    #[error("it leads elsewhere, which is not followed: name the last address in oauth.jwks_url")]
    Redirect,
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("its answer has more than {BODY_MAX} bytes, or broke off")]
    Body,
    #[error("it cannot be asked for ({0})")]
    Request(#[from] http::Error),
}

/// Reads documents. Cheap to clone.
#[derive(Clone)]
pub(super) struct Fetcher {
    /// None: nothing is read over TLS.
    tls: Option<TlsConnector>,
}

impl Fetcher {
    /// Only from this machine.
    pub(super) fn near() -> Self {
        Self { tls: None }
    }

    /// From wherever, trusting the authorities of this machine, and these.
    ///
    /// # Errors
    /// When there are none. The text says what to do.
    pub(super) fn new(authorities: Option<&Authorities>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        // Some of a machine may be of forms that nobody uses any more.
        let (_good, _odd) = roots.add_parsable_certificates(found.certs);
        roots.add_parsable_certificates(authorities.map_or(&[][..], Authorities::certificates).iter().cloned());
        if roots.is_empty() {
            let why = "this machine has no certificates of authorities to know the issuer by: install ca-certificates, or name a \
                       file of them in oauth.ca_file";
            return Err(why.to_owned());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be used: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// An address that documents may be read from.
    ///
    /// # Errors
    /// When nobody should believe what comes from there.
    pub(super) fn usable(&self, address: &str) -> Result<Url, String> {
        let url = Url::parse(address).map_err(|error| format!("{address:?} is no URL: {error}"))?;
        let known = match url.scheme() {
            "https" => self.tls.is_some(),
            "http" => is_near(&url),
            _ => false,
        };
        if known && url.has_host() && url.username().is_empty() && url.password().is_none() {
            return Ok(url);
        }
        Err(format!(
            "{address:?} is not an https URL: over http anybody between could hand in keys, so that is for loopback only"
        ))
    }

    /// Reads a document.
    pub(super) async fn get(&self, url: &Url) -> Result<Bytes, FetchError> {
        timeout(TIME, self.get_in_time(url)).await.unwrap_or(Err(FetchError::Slow))
    }

    async fn get_in_time(&self, url: &Url) -> Result<Bytes, FetchError> {
        let nowhere = || FetchError::Unreachable(io::Error::other("no address"));
        let (host, port) = (url.host().ok_or_else(nowhere)?, url.port_or_known_default().ok_or_else(nowhere)?);
        let stream = match host {
            Host::Domain(name) => TcpStream::connect((name, port)).await,
            Host::Ipv4(address) => TcpStream::connect((address, port)).await,
            Host::Ipv6(address) => TcpStream::connect((address, port)).await,
        };
        let stream = stream.map_err(FetchError::Unreachable)?;
        match &self.tls {
            Some(tls) if url.scheme() == "https" => {
                let name = match host {
                    Host::Domain(name) => ServerName::try_from(name.to_owned())?,
                    Host::Ipv4(address) => ServerName::from(std::net::IpAddr::from(address)),
                    Host::Ipv6(address) => ServerName::from(std::net::IpAddr::from(address)),
                };
                exchange(tls.connect(name, stream).await.map_err(FetchError::Tls)?, url).await
            }
            _ => exchange(stream, url).await,
        }
    }
}

/// Whether a URL leads to this machine whatever a name server says.
pub(super) fn is_near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

async fn exchange<S>(stream: S, url: &Url) -> Result<Bytes, FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let request = Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, "application/json, application/jwk-set+json")
        .header(USER_AGENT, concat!("browserfleet/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())?;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEADERS_MAX).handshake(TokioIo::new(stream)).await?;
    let asked = async move {
        let answer = sender.send_request(request).await?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(FetchError::Redirect),
            status => return Err(FetchError::Status(status)),
        }
        let body = Limited::new(answer.into_body(), BODY_MAX).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|_too_large_or_broken| FetchError::Body)
    };
    // Beside each other: the answer comes by the connection, which ends when nobody asks any more.
    let (answer, _ended) = join(asked, connection).await;
    answer
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("tls", &self.tls.is_some()).finish()
    }
}
