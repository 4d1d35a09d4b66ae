//! Identifiers: how handles are made, checked and shown.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Minted session handles start with this; no caller can choose such a name.
pub const HANDLE_PREFIX: &str = "bs_";

/// Longest session name and handle, in bytes.
pub const SESSION_NAME_MAX: usize = 64;

/// Who calls. Every look-up of a session, connection or cursor is scoped by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Principal(String);

impl Principal {
    /// Everybody, when authentication is off.
    pub fn anonymous() -> Self {
        Self("anonymous".to_owned())
    }

    /// The principal of an authenticated name.
    pub fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The principal of an API key: 128 bits of a digest of the key's id. A key that gets a new secret keeps its id, and
    /// so its sessions.
    pub fn of_key(id: &str) -> Self {
        let digest = Sha256::new().chain_update("browserfleet API key ").chain_update(id).finalize();
        Self(format!("key-{}", hex(&digest[..16])))
    }

    /// The principal of an access token: 128 bits of a digest of its issuer and its subject. Each comes with its length, so that
    /// no other pair reads the same.
    pub fn of_token(issuer: &str, subject: &str) -> Self {
        let length = |text: &str| u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes();
        let digest = Sha256::new()
            .chain_update("browserfleet token subject ")
            .chain_update(length(issuer))
            .chain_update(issuer)
            .chain_update(length(subject))
            .chain_update(subject)
            .finalize();
        Self(format!("sub-{}", hex(&digest[..16])))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What may be logged and listed in its place.
    pub fn digest(&self) -> String {
        digest(&self.0)
    }
}

/// A session's name within its principal: a minted handle (`bs_…`) or a name the caller chose.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionName(String);

/// Why a text is not a session name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session name has 1 to {SESSION_NAME_MAX} characters of A-Z a-z 0-9 . _ -")]
pub struct BadSessionName;

impl SessionName {
    /// A new handle with 128 random bits.
    pub fn mint() -> Self {
        Self(format!("{HANDLE_PREFIX}{}", random_hex()))
    }

    /// Checks a name that came from outside.
    pub fn parse(text: &str) -> Result<Self, BadSessionName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > SESSION_NAME_MAX || !text.bytes().all(allowed) {
            return Err(BadSessionName);
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether we minted it: such a handle is never created by use.
    pub fn is_handle(&self) -> bool {
        self.0.starts_with(HANDLE_PREFIX)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What may be logged and listed in its place.
    pub fn digest(&self) -> String {
        digest(&self.0)
    }
}

/// A handle is a secret while nobody is authenticated: `Debug` shows its digest only.
impl fmt::Debug for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionName(#{})", self.digest())
    }
}

/// 128 random bits from the operating system, as 32 hexadecimal digits.
pub fn random_hex() -> String {
    hex(&random_bytes::<16>())
}

/// Random bytes from the operating system.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    getrandom::fill(&mut bytes).expect("the operating system always has randomness after boot");
    bytes
}

/// The first 48 bits of a SHA-256 digest: enough to correlate log lines, useless as a credential.
pub fn digest(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes())[..6])
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minted_handles_are_valid_unique_names() {
        let (one, two) = (SessionName::mint(), SessionName::mint());
        assert!(one.is_handle() && one != two);
        assert_eq!(SessionName::parse(one.as_str()), Ok(one));
    }

    #[test]
    fn principals_of_tokens_are_pairs() {
        let one = Principal::of_token("https://a.example", "me");
        assert_eq!(Principal::of_token("https://a.example", "me"), one);
        for other in [
            Principal::of_token("https://b.example", "me"),
            Principal::of_token("https://a.example", "you"),
            Principal::of_token("https://a.examplem", "e"),
            Principal::of_token("", "https://a.exampleme"),
            Principal::of_key("me"),
        ] {
            assert_ne!(other, one);
        }
    }

    #[test]
    fn names_with_other_characters_are_refused() {
        for bad in ["", "a b", "a/b", "ü", "a\n", "*", &"x".repeat(65)] {
            assert_eq!(SessionName::parse(bad), Err(BadSessionName), "{bad:?}");
        }
        assert!(SessionName::parse(&"x".repeat(64)).is_ok());
    }

    #[test]
    fn debug_does_not_show_a_handle() {
        let name = SessionName::mint();
        assert!(!format!("{name:?}").contains(name.as_str()));
    }
}
