//! How our programs know each other: claims that front ends sign, and tokens of operators.
//!
//! A front end proves who it is by what it signs: no secret of it crosses the wire. A [`Claim`] says for whom a call is,
//! which session and lease it is about and until when that holds; the daemon believes nothing else about a principal.

use std::{fmt, path::Path, time::Duration};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{
    ids::{digest, random_hex},
    secret_file::{self, BadSecretFile},
};

/// The gRPC metadata a claim travels in.
pub const CLAIM_HEADER: &str = "browserfleet-claim";
/// Clocks of two machines may differ by so much.
pub const SKEW: Duration = Duration::from_secs(30);

/// Least bytes of a secret: 32 hexadecimal digits are 128 bits.
const SECRET_MIN: usize = 32;
/// Most secrets in a file: the one that is used, and the one before it while they are exchanged.
const SECRETS_MAX: usize = 2;
/// Longest claim that is looked at, in bytes.
const CLAIM_MAX: usize = 2048;
/// The form of a claim: `v1.<key>.<claim>.<mac>`.
const FORM: &str = "v1";

/// What a claim is good for. One for another RPC is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rpc {
    Acquire,
    Renew,
    Release,
    CallTool,
    GetPool,
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
    #[error("malformed")]
    Malformed,
    #[error("signed with a secret that is not ours")]
    UnknownSecret,
    #[error("not what was signed")]
    Forged,
    #[error("expired, or the clocks of the two machines differ by more than 30 s")]
    Expired,
}

/// The secret that front ends and daemons share, and the one before it while they are exchanged.
#[derive(Clone)]
pub struct ServiceSecret(Vec<Key>);

#[derive(Clone)]
struct Key {
    /// Says which secret signed: a digest of it.
    id: String,
    secret: String,
}

/// Whoever has it may speak for everybody.
impl fmt::Debug for ServiceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| format_args!("#{}", key.id).to_string())).finish()
    }
}

impl ServiceSecret {
    /// A new one, for the parts of one process.
    pub fn generate() -> Self {
        Self(vec![Key::new(&(random_hex() + &random_hex()))])
    }

    /// Reads a file of one or two lines, a secret each: the first signs, both are believed.
    ///
    /// # Errors
    /// When the file cannot be used, or a secret in it is too short.
    pub fn read(path: &Path) -> Result<Self, BadSecretFile> {
        Ok(Self(lines(path)?.iter().map(|line| Key::new(line)).collect()))
    }

    /// Signs a claim: the value of [`CLAIM_HEADER`].
    pub fn sign(&self, claim: &Claim) -> String {
        let key = self.0.first().expect("there is always one");
        let body = BASE64.encode(serde_json::to_vec(claim).expect("texts and numbers are JSON"));
        let signed = format!("{FORM}.{}.{body}", key.id);
        let mac = BASE64.encode(key.mac(&signed).finalize().into_bytes());
        format!("{signed}.{mac}")
    }

    /// The claim that was signed, if it was signed with this secret and holds at `now` (wall time).
    ///
    /// # Errors
    /// When it is not believed.
    pub fn verify(&self, text: &str, now: Duration) -> Result<Claim, BadClaim> {
        if text.len() > CLAIM_MAX {
            return Err(BadClaim::Malformed);
        }
        let (signed, mac) = text.rsplit_once('.').ok_or(BadClaim::Malformed)?;
        let mut parts = signed.split('.');
        let (Some(FORM), Some(id), Some(body), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(BadClaim::Malformed);
        };
        let key = self.0.iter().find(|key| key.id == id).ok_or(BadClaim::UnknownSecret)?;
        let mac = BASE64.decode(mac).map_err(|_malformed| BadClaim::Malformed)?;
        // Takes the same time wherever they differ.
        key.mac(signed).verify_slice(&mac).map_err(|_different| BadClaim::Forged)?;
        let body = BASE64.decode(body).map_err(|_malformed| BadClaim::Malformed)?;
        let claim: Claim = serde_json::from_slice(&body).map_err(|_malformed| BadClaim::Malformed)?;
        if now >= Duration::from_millis(claim.expires_ms) { Err(BadClaim::Expired) } else { Ok(claim) }
    }
}

impl Key {
    fn new(secret: &str) -> Self {
        Self { id: digest(secret), secret: secret.to_owned() }
    }

    fn mac(&self, signed: &str) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("keys of every length are taken");
        mac.chain_update(signed.as_bytes())
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
    pub fn read(path: &Path) -> Result<Self, BadSecretFile> {
        Ok(Self(lines(path)?.iter().map(|line| Sha256::digest(line.as_bytes()).into()).collect()))
    }

    /// Whether a text is one of the tokens. Takes the same time wherever they differ.
    pub fn is(&self, text: &str) -> bool {
        let asked: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        self.0.iter().fold(subtle::Choice::from(0), |found, token| found | token.ct_eq(&asked)).into()
    }
}

/// The secrets of a file, one a line.
fn lines(path: &Path) -> Result<Vec<String>, BadSecretFile> {
    let (text, _) = secret_file::read(path)?;
    let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() || lines.len() > SECRETS_MAX {
        let why = format!("{} secrets; one a line, at most {SECRETS_MAX} (the new one, then the old)", lines.len());
        return Err(BadSecretFile::new(path, why));
    }
    if lines.iter().any(|line| line.len() < SECRET_MIN) {
        let why = format!("a secret with less than {SECRET_MIN} characters; make one: openssl rand -hex 32");
        return Err(BadSecretFile::new(path, why));
    }
    Ok(lines)
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
    fn no_byte_of_it_may_differ() {
        let secret = ServiceSecret::generate();
        let text = secret.sign(&claim());
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(secret.verify(&changed, NOW).is_err(), "byte {at} of {text}");
        }
        for end in 0..text.len() {
            assert!(secret.verify(&text[..end], NOW).is_err(), "{end} bytes of {text}");
        }
        assert_eq!(secret.verify(&format!("{text}.x"), NOW), Err(BadClaim::Malformed));
        assert_eq!(secret.verify(&"x".repeat(CLAIM_MAX + 1), NOW), Err(BadClaim::Malformed));
    }

    #[test]
    fn another_secret_is_not_believed_under_the_name_of_ours() {
        let (ours, theirs) = (ServiceSecret::generate(), ServiceSecret::generate());
        assert_eq!(ours.verify(&theirs.sign(&claim()), NOW), Err(BadClaim::UnknownSecret));
        let mut forger = theirs;
        forger.0[0].id.clone_from(&ours.0[0].id);
        assert_eq!(ours.verify(&forger.sign(&claim()), NOW), Err(BadClaim::Forged));
    }

    #[test]
    fn secrets_are_exchanged_one_program_at_a_time() {
        let (new, old) = ("n".repeat(32), "o".repeat(32));
        let before = ServiceSecret::read(file(&format!("{old}\n")).path()).unwrap();
        let between = ServiceSecret::read(file(&format!("{new}\n{old}\n")).path()).unwrap();
        let after = ServiceSecret::read(file(&new).path()).unwrap();
        assert_eq!(between.verify(&before.sign(&claim()), NOW), Ok(claim()));
        assert_eq!(after.verify(&between.sign(&claim()), NOW), Ok(claim()));
        assert_eq!(after.verify(&before.sign(&claim()), NOW), Err(BadClaim::UnknownSecret));
    }

    #[test]
    fn weak_secrets_are_refused_and_none_is_shown() {
        let canary = "c".repeat(40);
        for text in ["", "\n \n", "short", &format!("{canary}\nshort"), &format!("{canary}\n").repeat(3)] {
            let told = ServiceSecret::read(file(text).path()).unwrap_err().to_string();
            assert!(!told.contains(&canary) && told.contains("secret"), "{told}");
            assert!(OperatorToken::read(file(text).path()).is_err());
        }
        let secret = ServiceSecret::read(file(&canary).path()).unwrap();
        assert!(!format!("{secret:?}").contains(&canary));
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
