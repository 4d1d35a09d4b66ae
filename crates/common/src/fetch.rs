//! Reading a document over HTTP: one GET, bounded in time and size, in clear or over TLS. Nobody is followed elsewhere.

use std::{fmt, io, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join;
use http::{
    HeaderMap, HeaderValue, Request, StatusCode,
    header::{HOST, USER_AGENT},
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
use url::{Host, Position, Url};

use crate::authorities::Authorities;

/// Most bytes of an answer's headers.
const HEADERS_MAX: usize = 32 << 10;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("it cannot be reached ({0})")]
    Unreachable(io::Error),
    #[error("TLS failed ({0})")]
    Tls(io::Error),
    #[error("its host is no name for TLS")]
    Name(#[from] InvalidDnsNameError),
    #[error("it did not answer within {} s", .0.as_secs())]
    Slow(Duration),
    #[error("the exchange broke ({0})")]
    Broken(#[from] hyper::Error),
    #[error("its answer has more than {0} bytes, or broke off")]
    Body(usize),
    #[error("it cannot be asked for ({0})")]
    Request(#[from] http::Error),
}

/// What an answer may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For all of it, from the look-up of the name to the last byte.
    pub time: Duration,
    /// Most bytes of its body.
    pub body: usize,
}

/// What somebody answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Reads documents. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    /// None: nothing is read over TLS.
    tls: Option<TlsConnector>,
}

impl Fetcher {
    /// In clear only.
    pub fn in_clear() -> Self {
        Self { tls: None }
    }

    /// Over TLS, too: trusting the authorities of this machine, and these.
    ///
    /// # Errors
    /// When there are none. The text says what to do.
    pub fn new(authorities: Option<&Authorities>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        // Some of a machine may be of forms that nobody uses any more.
        let (_good, _odd) = roots.add_parsable_certificates(found.certs);
        roots.add_parsable_certificates(authorities.map_or(&[][..], Authorities::certificates).iter().cloned());
        if roots.is_empty() {
            let why = "this machine has no certificates of authorities to know servers by: install ca-certificates, or name \
                       a file of them in SSL_CERT_FILE";
            return Err(why.to_owned());
        }
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be used: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// Whether `https` can be read.
    pub fn knows_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Reads a document, whatever its status. A URL that is not `https` is read in clear.
    ///
    /// # Errors
    /// When there is no whole answer within the bounds.
    pub async fn get(&self, url: &Url, headers: HeaderMap, bounds: Bounds) -> Result<Answer, FetchError> {
        let asked = self.get_in_time(url, headers, bounds.body);
        timeout(bounds.time, asked).await.unwrap_or(Err(FetchError::Slow(bounds.time)))
    }

    async fn get_in_time(&self, url: &Url, headers: HeaderMap, most: usize) -> Result<Answer, FetchError> {
        let nowhere = || FetchError::Unreachable(io::Error::other("no address"));
        let (host, port) = (url.host().ok_or_else(nowhere)?, url.port_or_known_default().ok_or_else(nowhere)?);
        let stream = match host {
            Host::Domain(name) => TcpStream::connect((name, port)).await,
            Host::Ipv4(address) => TcpStream::connect((address, port)).await,
            Host::Ipv6(address) => TcpStream::connect((address, port)).await,
        };
        let stream = stream.map_err(FetchError::Unreachable)?;
        if url.scheme() != "https" {
            return exchange(stream, url, headers, most).await;
        }
        let no_tls = || FetchError::Tls(io::Error::other("there is none here"));
        let tls = self.tls.as_ref().ok_or_else(no_tls)?;
        let name = match host {
            Host::Domain(name) => ServerName::try_from(name.to_owned())?,
            Host::Ipv4(address) => ServerName::from(IpAddr::from(address)),
            Host::Ipv6(address) => ServerName::from(IpAddr::from(address)),
        };
        exchange(tls.connect(name, stream).await.map_err(FetchError::Tls)?, url, headers, most).await
    }
}

async fn exchange<S>(stream: S, url: &Url, headers: HeaderMap, most: usize) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut request = Request::get(&url[Position::BeforePath..Position::AfterQuery])
        .header(HOST, &url[Position::BeforeHost..Position::AfterPort])
        .body(Empty::<Bytes>::new())?;
    request.headers_mut().extend(headers);
    let ours = HeaderValue::from_static(concat!("browserfleet/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(USER_AGENT, ours);
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEADERS_MAX).handshake(TokioIo::new(stream)).await?;
    let asked = async move {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), most).collect().await;
        let body = body.map_err(|_too_large_or_broken| FetchError::Body(most))?.to_bytes();
        Ok(Answer { status, body })
    };
    // Beside each other: the answer comes by the connection, which ends when nobody asks any more.
    let (answer, _ended) = join(asked, connection).await;
    answer
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetcher").field("tls", &self.knows_tls()).finish()
    }
}
