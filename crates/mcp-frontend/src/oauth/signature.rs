//! Signatures of tokens, checked by ring: jsonwebtoken leaves the cryptography to whoever uses it.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
    signature::{Error as Mismatch, Verifier},
};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

/// The algorithms there are, by their names: signatures that only the issuer can make. Neither `none` nor HMAC, whose keys
/// would have to be ours, is one of them.
pub(super) const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("RS256", Algorithm::RS256),
    ("PS256", Algorithm::PS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(ErrorKind::UnsupportedAlgorithm.into()),
    verifier_factory: verifier,
    // Of keys only: we read theirs, and make none.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Has jsonwebtoken use it, in this process.
pub(super) fn install() {
    // The first one counts, and there is no other.
    let _installed_before = PROVIDER.install_default();
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "so jsonwebtoken calls it")]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    // A key of one kind of algorithm proves nothing with another.
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(ByRing { algorithm: *algorithm, key: key.clone() }))
}

struct ByRing {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for ByRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for ByRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Mismatch> {
        let checked = match self.algorithm {
            Algorithm::RS256 => self.rsa(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Algorithm::PS256 => self.rsa(&RSA_PSS_2048_8192_SHA256, message, signature),
            Algorithm::ES256 => self.raw(&ECDSA_P256_SHA256_FIXED, message, signature),
            Algorithm::EdDSA => self.raw(&ED25519, message, signature),
            _ => None,
        };
        checked.ok_or_else(Mismatch::new)
    }
}

impl ByRing {
    fn rsa(&self, parameters: &RsaParameters, message: &[u8], signature: &[u8]) -> Option<()> {
        let DecodingKeyKind::RsaModulusExponent { n, e } = self.key.kind() else { return None };
        RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).ok()
    }

    fn raw(&self, algorithm: &'static dyn VerificationAlgorithm, message: &[u8], signature: &[u8]) -> Option<()> {
        let key = self.key.try_get_as_bytes().ok()?;
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).ok()
    }
}
