//! Who vouches for the servers that we connect to over TLS, where the machine's own authorities do not.

use std::{path::Path, sync::Arc};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::{
    reloaded::Reloaded,
    secret_file::{self, BadFile},
};

/// Certificates of authorities, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    pem: Arc<str>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Authorities {
    /// Reads a file (PEM).
    ///
    /// # Errors
    /// When it cannot be read, or TLS cannot use a certificate in it, or there is none.
    pub fn read(path: &Path) -> Result<Self, BadFile> {
        Self::parse(&secret_file::read_public(path)?).map_err(|why| BadFile::new(path, why))
    }

    /// Reads a file that is read again when it changes.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn reloaded(path: &Path) -> Result<Reloaded<Self>, BadFile> {
        Reloaded::open("authorities", &[path], |files| Self::read(&files[0]))
    }

    /// Reads a text (PEM).
    ///
    /// # Errors
    /// As [`Self::read`]; the text says why.
    pub fn parse(pem: &str) -> Result<Self, String> {
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| error.to_string())?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|error| error.to_string())?;
        }
        if roots.is_empty() {
            return Err("there is no certificate in it (PEM)".to_owned());
        }
        Ok(Self { pem: pem.into(), certificates })
    }

    /// As they were read.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_and_whatever_is_none_is_told() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let both = format!("{0}{0}", made.cert.pem());
        assert_eq!(Authorities::parse(&both).unwrap().certificates().len(), 2);
        for (pem, why) in [
            ("", "no certificate"),
            (made.signing_key.serialize_pem().as_str(), "no certificate"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n", ""),
        ] {
            assert!(Authorities::parse(pem).unwrap_err().contains(why), "{pem}");
        }
    }
}
