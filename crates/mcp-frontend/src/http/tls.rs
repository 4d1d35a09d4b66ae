//! HTTPS: what this server is known by. Its files are read again when they change; connections that are open go on.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use browserfleet_common::{
    reloaded::Reloaded,
    secret_file::{self, BadFile},
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_rustls::TlsAcceptor;

/// What the protocol is called that a client and this server agree upon (RFC 7301).
pub(super) const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// A certificate, the key it is for, and how they are used. Cheap to clone: all clones are the same.
#[derive(Clone)]
pub struct Tls {
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
}

/// The certificate that new connections are shown.
#[derive(Debug)]
struct Shown(Reloaded<CertifiedKey>);

impl Tls {
    /// Reads a certificate with its chain, and its private key (PEM both).
    ///
    /// # Errors
    /// When one of them cannot be used, or they do not belong together.
    pub fn open(chain: &Path, key: &Path) -> Result<Self, BadFile> {
        let shown = Arc::new(Shown(Reloaded::open("certificate", &[chain, key], certified)?));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| BadFile::new(chain, format!("TLS cannot be used: {error}")))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1.to_vec()];
        Ok(Self { shown, config: Arc::new(config) })
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Reads the files again if they have changed.
    pub(crate) fn refresh(&self) {
        self.shown.0.refresh();
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.shown).finish()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _whatever_name: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.get())
    }
}

fn certified(files: &[PathBuf]) -> Result<CertifiedKey, BadFile> {
    let (chain_file, key_file) = (&files[0], &files[1]);
    let pem = secret_file::read_public(chain_file)?;
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| BadFile::new(chain_file, error.to_string()))?;
    if chain.is_empty() {
        return Err(BadFile::new(chain_file, "there is no certificate in it (PEM)"));
    }
    let pem = secret_file::read(key_file)?;
    // The error does not quote the file.
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes());
    let key = key.map_err(|error| BadFile::new(key_file, format!("there is no private key in it (PEM): {error}")))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| {
        let why = format!("cannot be used with the key of {}: {error}", key_file.display());
        BadFile::new(chain_file, why)
    })
}
