//! Reading a document from the issuer. Over TLS, unless both ends are on this machine.

use std::time::Duration;

use browserfleet_common::{
    authorities::Authorities,
    fetch::{self, Bounds, FetchError},
};
use bytes::Bytes;
use http::{
    HeaderMap, StatusCode,
    header::{ACCEPT, HeaderValue},
};
use url::{Host, Url};

/// Issuers say little, and at once.
pub(super) const BOUNDS: Bounds = Bounds { time: Duration::from_secs(5), body: 256 << 10 };

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoDocument {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("it leads elsewhere, which is not followed: name the last address in oauth.jwks_url")]
    Redirect,
    #[error("it answered {0}")]
    Status(StatusCode),
}

/// Reads documents of an issuer. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Fetcher(fetch::Fetcher);

impl Fetcher {
    /// Only from this machine.
    pub(super) fn near() -> Self {
        Self(fetch::Fetcher::in_clear())
    }

    /// From wherever, trusting the authorities of this machine, and these.
    ///
    /// # Errors
    /// When there are none. The text says what to do.
    pub(super) fn new(authorities: Option<&Authorities>) -> Result<Self, String> {
        fetch::Fetcher::new(authorities).map(Self)
    }

    /// An address that documents may be read from.
    ///
    /// # Errors
    /// When nobody should believe what comes from there.
    pub(super) fn usable(&self, address: &str) -> Result<Url, String> {
        let url = Url::parse(address).map_err(|error| format!("{address:?} is no URL: {error}"))?;
        let known = match url.scheme() {
            "https" => self.0.knows_tls(),
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
    pub(super) async fn get(&self, url: &Url) -> Result<Bytes, NoDocument> {
        let json = HeaderValue::from_static("application/json, application/jwk-set+json");
        let answer = self.0.get(url, HeaderMap::from_iter([(ACCEPT, json)]), BOUNDS).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            status if status.is_redirection() => Err(NoDocument::Redirect),
            status => Err(NoDocument::Status(status)),
        }
    }
}

/// Whether a URL leads to this machine whatever a name server says.
fn is_near(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
