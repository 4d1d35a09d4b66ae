//! How our programs know each other: claims that front ends sign, and tokens of operators.
//!
//! A front end proves who it is by what it signs: no secret of it crosses the wire. A [`Claim`] says for whom a call is,
//! which session and lease it is about and until when that holds; the daemon believes nothing else about a principal.

use std::{fmt, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{
    ids::digest,
    keyring::{Keyring, Unusable, lines},
    secret_file::BadFile,
};

/// The gRPC metadata a claim travels in.
pub const CLAIM_HEADER: &str = "browserfleet-claim";
/// Clocks of two machines may differ by so much.
pub const SKEW: Duration = Duration::from_secs(30);

/// Longest claim that is looked at, in bytes.
const CLAIM_MAX: usize = 2048;
/// What the secret's key is for.
const PURPOSE: &str = "claim";

/// What a claim is good for. One for another RPC is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rpc {
    Acquire,
    Renew,
    Release,
    CallTool,
    GetPool,
    ListLeases,
}

/// A session, as leases are keyed by it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionKey {
    pub principal: String,
    pub session: String,
    pub birth: String,
}

/// Handles are secrets: `Debug` shows digests only.
impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey(#{} of #{})", digest(&self.session), digest(&self.principal))
    }
}

/// What a front end says of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub rpc: Rpc,
    /// For whom, and in which session; none for calls that are about no session.
    pub of: Option<SessionKey>,
    /// The lease the call is about, once there is one.
    pub lease: Option<String>,
    /// Wall time in milliseconds since 1970, the allowance for clocks included.
    expires_ms: u64,
}

impl Claim {
    /// A claim that holds until `deadline` (wall time), and a little longer because clocks differ.
    pub fn new(rpc: Rpc, of: Option<SessionKey>, lease: Option<&str>, deadline: Duration) -> Self {
        let expires_ms = u64::try_from((deadline + SKEW).as_millis()).unwrap_or(u64::MAX);
        Self { rpc, of, lease: lease.map(str::to_owned), expires_ms }
    }
}

/// Why a claim is not believed. For the log: whoever sent it learns only that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadClaim {
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("expired, or the clocks of the two machines differ by more than 30 s")]
    Expired,
}

/// The secret that front ends and daemons share, and the one before it while they are exchanged.
#[derive(Clone, Debug)]
pub struct ServiceSecret(Keyring);

impl ServiceSecret {
    /// A new one, for the parts of one process.
    pub fn generate() -> Self {
        Self(Keyring::generate())
    }

    /// Reads a file of one or two lines, a secret each: the first signs, both are believed.
    ///
    /// # Errors
    /// When the file cannot be used, or a secret in it is too short.
    pub fn read(path: &Path) -> Result<Self, BadFile> {
        Keyring::read(path).map(Self)
    }

    /// Signs a claim: the value of [`CLAIM_HEADER`].
    pub fn sign(&self, claim: &Claim) -> String {
        self.0.sign(PURPOSE, &serde_json::to_vec(claim).expect("texts and numbers are JSON"))
    }

    /// The claim that was signed, if it was signed with this secret and holds at `now` (wall time).
    ///
    /// # Errors
    /// When it is not believed.
    pub fn verify(&self, text: &str, now: Duration) -> Result<Claim, BadClaim> {
        if text.len() > CLAIM_MAX {
            return Err(Unusable::Malformed.into());
        }
        let claim: Claim =
            serde_json::from_slice(&self.0.verify(PURPOSE, text)?).map_err(|_malformed| Unusable::Malformed)?;
        if now >= Duration::from_millis(claim.expires_ms) { Err(BadClaim::Expired) } else { Ok(claim) }
    }
}

/// The token by which operators are known to a daemon, and the one before it while they are exchanged. Kept as digests:
/// tokens are random, so that a fast one is enough.
#[derive(Clone)]
pub struct OperatorToken(Vec<[u8; 32]>);

impl fmt::Debug for OperatorToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OperatorToken")
    }
}

impl OperatorToken {
    /// Reads a file of one or two lines, a token each.
    ///
    /// # Errors
    /// When the file cannot be used, or a token in it is too short.
    pub fn read(path: &Path) -> Result<Self, BadFile> {
        Ok(Self(lines(path)?.iter().map(|line| Sha256::digest(line.as_bytes()).into()).collect()))
    }

    /// Whether a text is one of the tokens. Takes the same time wherever they differ.
    pub fn is(&self, text: &str) -> bool {
        let asked: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        self.0.iter().fold(subtle::Choice::from(0), |found, token| found | token.ct_eq(&asked)).into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_000_000);

    fn claim() -> Claim {
        let of = SessionKey { principal: "p".to_owned(), session: "s".to_owned(), birth: "b".to_owned() };
        Claim::new(Rpc::CallTool, Some(of), Some("lease"), NOW + Duration::from_secs(10))
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn what_was_signed_is_believed_until_its_time_is_over() {
        let secret = ServiceSecret::generate();
        let text = secret.sign(&claim());
        assert_eq!(secret.verify(&text, NOW), Ok(claim()));
        let end = NOW + Duration::from_secs(10) + SKEW;
        assert_eq!(secret.verify(&text, end.saturating_sub(Duration::from_millis(1))), Ok(claim()));
        assert_eq!(secret.verify(&text, end), Err(BadClaim::Expired));
    }

    #[test]
    fn what_was_not_signed_for_us_is_not_believed() {
        let (ours, theirs) = (ServiceSecret::generate(), ServiceSecret::generate());
        assert_eq!(ours.verify(&theirs.sign(&claim()), NOW), Err(Unusable::UnknownSecret.into()));
        assert_eq!(ours.verify(&ours.0.sign("another purpose", b"{}"), NOW), Err(Unusable::Forged.into()));
        assert_eq!(ours.verify(&ours.0.sign(PURPOSE, b"no claim"), NOW), Err(Unusable::Malformed.into()));
        assert_eq!(ours.verify(&"x".repeat(CLAIM_MAX + 1), NOW), Err(Unusable::Malformed.into()));
    }

    #[test]
    fn an_operator_is_known_by_the_whole_token() {
        let token = OperatorToken::read(file(&format!("{}\n{}\n", "a".repeat(32), "b".repeat(32))).path()).unwrap();
        assert!(token.is(&"a".repeat(32)) && token.is(&"b".repeat(32)));
        for wrong in ["", &"a".repeat(31), &"a".repeat(33), &"c".repeat(32)] {
            assert!(!token.is(wrong), "{wrong}");
        }
    }
}
