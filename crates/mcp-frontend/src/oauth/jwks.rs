//! The keys of an issuer (JWKS, RFC 7517), as far as they can have signed a token.

use std::fmt;

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// Most keys that are looked at.
const KEYS_MAX: usize = 100;

/// The keys of an issuer.
#[derive(Default)]
pub(super) struct KeySet(Vec<Key>);

struct Key {
    id: String,
    /// What it can have signed by.
    algorithms: Vec<Algorithm>,
    public: DecodingKey,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads the keys. Those that no token of ours can be signed with are left out: an issuer has keys for others, too.
    ///
    /// # Errors
    /// When it is no set of keys, or has none for us. The text may be logged.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let Keys { keys } = serde_json::from_slice(text).map_err(|error| format!("this is no set of keys: {error}"))?;
        let keys: Vec<Key> = keys.into_iter().take(KEYS_MAX).filter_map(Key::of).collect();
        if keys.is_empty() {
            return Err("no key in it has a kid and is for signatures by RS256, PS256, ES256 or EdDSA".to_owned());
        }
        Ok(Self(keys))
    }

    /// The key of this id, if it can have signed by this algorithm.
    pub(super) fn find(&self, id: &str, algorithm: Algorithm) -> Option<&DecodingKey> {
        self.0.iter().find(|key| key.id == id && key.algorithms.contains(&algorithm)).map(|key| &key.public)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Key {
    fn of(key: Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(key).ok()?;
        let common = &jwk.common;
        let for_signatures = common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|they| they.contains(&KeyOperations::Verify));
        let can = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => vec![Algorithm::RS256, Algorithm::PS256],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => vec![Algorithm::ES256],
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => vec![Algorithm::EdDSA],
            _ => return None,
        };
        // One that says its algorithm signs by no other.
        let said = |by: &Algorithm| common.key_algorithm.is_none_or(|said| Algorithm::try_from(said).ok() == Some(*by));
        let algorithms: Vec<_> = can.into_iter().filter(said).collect();
        let public = DecodingKey::from_jwk(&jwk).ok()?;
        (for_signatures && !algorithms.is_empty()).then_some(Self { id: jwk.common.key_id?, algorithms, public })
    }
}

/// Public keys, and many digits.
impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_for_other_uses_are_left_out() {
        let point = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
        let ec = |id: &str| json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": point, "y": point });
        let with = |id: &str, member: &str, value: Value| {
            let mut key = ec(id);
            key[member] = value;
            key
        };
        let secret = json!({ "kty": "oct", "kid": "secret", "alg": "HS256", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMko" });
        let mut nameless = ec("");
        nameless.as_object_mut().unwrap().remove("kid");
        let keys = json!({ "keys": [
            ec("plain"),
            with("for signatures", "use", json!("sig")),
            with("for secrets", "use", json!("enc")),
            with("to sign", "key_ops", json!(["sign"])),
            with("of another algorithm", "alg", json!("ES384")),
            with("of another curve", "crv", json!("P-384")),
            with("of an unknown kind", "kty", json!("AKP")),
            with("broken", "x", json!(7)),
            secret,
            nameless,
            { "kty": "RSA", "kid": "rsa", "n": point, "e": "AQAB", "alg": "PS256" },
            { "kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": point },
        ] });
        let keys = KeySet::parse(keys.to_string().as_bytes()).unwrap();
        assert_eq!(format!("{keys:?}"), r#"["plain", "for signatures", "rsa", "ed"]"#);
        assert!(keys.find("plain", Algorithm::ES256).is_some() && keys.find("plain", Algorithm::RS256).is_none());
        assert!(keys.find("rsa", Algorithm::PS256).is_some() && keys.find("rsa", Algorithm::RS256).is_none());
        assert!(keys.find("rsa", Algorithm::HS256).is_none() && keys.find("ed", Algorithm::EdDSA).is_some());
    }

    #[test]
    fn a_set_without_a_key_for_us_is_none() {
        for none in ["", "[]", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","kid":"a","k":"AA"}]}"#] {
            assert!(KeySet::parse(none.as_bytes()).is_err(), "{none}");
        }
    }
}
