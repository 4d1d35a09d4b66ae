//! Secrets that several programs share, and what is done with them: signing, and sealing what is kept.
//!
//! Every use has a *purpose*, and a key of its own made from the secret: what was signed or sealed for one purpose means nothing
//! for another.

use std::{
    fmt,
    io::{Read as _, Write as _},
    path::Path,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use chacha20poly1305::{AeadInOut as _, KeyInit as _, XChaCha20Poly1305, XNonce};
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::{
    ids::{digest, random_bytes, random_hex},
    secret_file::{self, BadFile},
};

/// Least bytes of a secret: 32 hexadecimal digits are 128 bits.
const SECRET_MIN: usize = 32;
/// Most secrets in a file: the one that is used, and the one before it while they are exchanged.
const SECRETS_MAX: usize = 2;
/// The form of what is signed: `v1.<key>.<body>.<mac>`.
const FORM: &str = "v1";
/// The form of what is sealed: this byte, the key's id, the nonce, and what is encrypted: compressed, then the tag.
const SEALED: u8 = 1;
const NONCE_BYTES: usize = 24;
const ID_BYTES: usize = 12;

/// The secret in use, and the one before it while they are exchanged.
#[derive(Clone)]
pub struct Keyring(Vec<Key>);

#[derive(Clone)]
struct Key {
    /// Says which secret it is: a digest of it.
    id: String,
    secret: String,
}

/// Whoever has them may forge what they sign.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| format_args!("#{}", key.id).to_string())).finish()
    }
}

/// Why something signed or sealed is not used. For the log: whoever sent it learns only that it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("malformed")]
    Malformed,
    #[error("made with a secret that is not ours")]
    UnknownSecret,
    #[error("not what was made")]
    Forged,
}

impl Keyring {
    /// A new secret, for the parts of one process.
    pub fn generate() -> Self {
        Self::of([random_secret().as_str()])
    }

    /// Of secrets that are known otherwise, the one in use first.
    ///
    /// # Panics
    /// When there is none.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let keys: Vec<Key> = secrets.into_iter().map(Key::new).collect();
        assert!(!keys.is_empty(), "a keyring has a key");
        Self(keys)
    }

    /// Reads a file of one or two lines, a secret each: the first is used, both are believed.
    ///
    /// # Errors
    /// When the file cannot be used, or a secret in it is too short.
    pub fn read(path: &Path) -> Result<Self, BadFile> {
        Ok(Self::of(lines(path)?.iter().map(String::as_str)))
    }

    /// Signs a text that anybody may read.
    pub fn sign(&self, purpose: &str, body: &[u8]) -> String {
        let key = self.first();
        let signed = format!("{FORM}.{}.{}", key.id, BASE64.encode(body));
        let mac = BASE64.encode(key.mac(purpose, signed.as_bytes()).finalize().into_bytes());
        format!("{signed}.{mac}")
    }

    /// What was signed, if it was for this purpose and with one of these secrets.
    ///
    /// # Errors
    /// When it is not to be believed.
    pub fn verify(&self, purpose: &str, text: &str) -> Result<Vec<u8>, Unusable> {
        let (signed, mac) = text.rsplit_once('.').ok_or(Unusable::Malformed)?;
        let mut parts = signed.split('.');
        let (Some(FORM), Some(id), Some(body), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(Unusable::Malformed);
        };
        let key = self.key(id)?;
        let mac = BASE64.decode(mac).map_err(|_malformed| Unusable::Malformed)?;
        // Takes the same time wherever they differ.
        key.mac(purpose, signed.as_bytes()).verify_slice(&mac).map_err(|_different| Unusable::Forged)?;
        BASE64.decode(body).map_err(|_malformed| Unusable::Malformed)
    }

    /// Compresses and encrypts. `owner` is whose it is: nobody else's opens it.
    pub fn seal(&self, purpose: &str, owner: &[u8], plain: &[u8]) -> Vec<u8> {
        let key = self.first();
        let mut deflate = DeflateEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
        let compressed = deflate.write_all(plain).and_then(|()| deflate.finish());
        let mut body = compressed.expect("writing to a vector cannot fail");
        let nonce = XNonce::from(random_bytes::<NONCE_BYTES>());
        let sealed = key.cipher(purpose).encrypt_in_place(&nonce, owner, &mut body);
        sealed.expect("less than 256 GiB");
        [&[SEALED][..], key.id.as_bytes(), &nonce, &body].concat()
    }

    /// What was sealed for `owner`, if it is at most `max` bytes.
    ///
    /// # Errors
    /// When it is not what was sealed, or larger.
    pub fn open(&self, purpose: &str, owner: &[u8], sealed: &[u8], max: usize) -> Result<Vec<u8>, Unusable> {
        let rest = sealed.strip_prefix(&[SEALED]).ok_or(Unusable::Malformed)?;
        let (id, rest) = rest.split_at_checked(ID_BYTES).ok_or(Unusable::Malformed)?;
        let (nonce, body) = rest.split_at_checked(NONCE_BYTES).ok_or(Unusable::Malformed)?;
        let key = self.key(std::str::from_utf8(id).map_err(|_malformed| Unusable::Malformed)?)?;
        let nonce = XNonce::try_from(nonce).map_err(|_malformed| Unusable::Malformed)?;
        let mut body = body.to_vec();
        key.cipher(purpose).decrypt_in_place(&nonce, owner, &mut body).map_err(|_different| Unusable::Forged)?;
        let mut plain = Vec::new();
        // One more byte tells whether there is more.
        let most = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        let read = DeflateDecoder::new(&body[..]).take(most).read_to_end(&mut plain);
        if read.is_err() || plain.len() > max { Err(Unusable::Malformed) } else { Ok(plain) }
    }

    fn first(&self) -> &Key {
        self.0.first().expect("there is always one")
    }

    fn key(&self, id: &str) -> Result<&Key, Unusable> {
        self.0.iter().find(|key| key.id == id).ok_or(Unusable::UnknownSecret)
    }
}

impl Key {
    fn new(secret: &str) -> Self {
        Self { id: digest(secret), secret: secret.to_owned() }
    }

    fn mac(&self, purpose: &str, signed: &[u8]) -> Hmac<Sha256> {
        hmac(&self.derived(purpose)).chain_update(signed)
    }

    fn cipher(&self, purpose: &str) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.derived(purpose).into())
    }

    /// A key for one purpose, which tells nothing of the secret or of the key for another.
    fn derived(&self, purpose: &str) -> [u8; 32] {
        hmac(self.secret.as_bytes()).chain_update("browserfleet ").chain_update(purpose).finalize().into_bytes().into()
    }
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("keys of every length are taken")
}

/// A secret that nobody can guess.
pub fn random_secret() -> String {
    random_hex() + &random_hex()
}

/// The secrets of a file, one a line.
///
/// # Errors
/// When the file cannot be used, or a secret in it is too short.
pub(crate) fn lines(path: &Path) -> Result<Vec<String>, BadFile> {
    let text = secret_file::read(path)?;
    let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() || lines.len() > SECRETS_MAX {
        let why = format!("{} secrets; one a line, at most {SECRETS_MAX} (the new one, then the old)", lines.len());
        return Err(BadFile::new(path, why));
    }
    if lines.iter().any(|line| line.len() < SECRET_MIN) {
        let why = format!("a secret with less than {SECRET_MIN} characters; make one: openssl rand -hex 32");
        return Err(BadFile::new(path, why));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn no_byte_of_what_is_signed_may_differ() {
        let keys = Keyring::generate();
        let text = keys.sign("a", b"something");
        assert_eq!(keys.verify("a", &text), Ok(b"something".to_vec()));
        assert_eq!(keys.verify("b", &text), Err(Unusable::Forged), "for another purpose");
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(keys.verify("a", &changed).is_err(), "byte {at} of {text}");
        }
        for end in 0..text.len() {
            assert!(keys.verify("a", &text[..end]).is_err(), "{end} bytes of {text}");
        }
        assert_eq!(keys.verify("a", &format!("{text}.x")), Err(Unusable::Malformed));
    }

    #[test]
    fn no_byte_of_what_is_sealed_may_differ() {
        let keys = Keyring::generate();
        let plain = b"cookies ".repeat(1000);
        let sealed = keys.seal("a", b"me", &plain);
        assert!(sealed.len() < plain.len() / 10, "it is compressed: {}", sealed.len());
        assert_eq!(keys.open("a", b"me", &sealed, plain.len()), Ok(plain.clone()));
        assert_eq!(keys.open("a", b"me", &sealed, plain.len() - 1), Err(Unusable::Malformed), "larger than allowed");
        assert_eq!(keys.open("a", b"you", &sealed, plain.len()), Err(Unusable::Forged), "somebody else's");
        assert_eq!(keys.open("b", b"me", &sealed, plain.len()), Err(Unusable::Forged), "for another purpose");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(keys.open("a", b"me", &changed, plain.len()).is_err(), "byte {at}");
            assert!(keys.open("a", b"me", &sealed[..at], plain.len()).is_err(), "{at} bytes");
        }
        assert!(!sealed.windows(7).any(|window| window == b"cookies"));
        assert_ne!(keys.seal("a", b"me", &plain), sealed, "no nonce is used twice");
    }

    #[test]
    fn another_secret_is_not_believed_under_the_name_of_ours() {
        let (ours, theirs) = (Keyring::generate(), Keyring::generate());
        assert_eq!(ours.verify("a", &theirs.sign("a", b"x")), Err(Unusable::UnknownSecret));
        assert_eq!(ours.open("a", b"", &theirs.seal("a", b"", b"x"), 9), Err(Unusable::UnknownSecret));
        let mut forger = theirs;
        forger.0[0].id.clone_from(&ours.0[0].id);
        assert_eq!(ours.verify("a", &forger.sign("a", b"x")), Err(Unusable::Forged));
        assert_eq!(ours.open("a", b"", &forger.seal("a", b"", b"x"), 9), Err(Unusable::Forged));
    }

    #[test]
    fn secrets_are_exchanged_one_program_at_a_time() {
        let (new, old) = ("n".repeat(32), "o".repeat(32));
        let before = Keyring::read(file(&format!("{old}\n")).path()).unwrap();
        let between = Keyring::read(file(&format!("{new}\n{old}\n")).path()).unwrap();
        let after = Keyring::read(file(&new).path()).unwrap();
        let sealed = before.seal("a", b"", b"x");
        assert_eq!(between.verify("a", &before.sign("a", b"x")), Ok(b"x".to_vec()));
        assert_eq!(between.open("a", b"", &sealed, 9), Ok(b"x".to_vec()));
        assert_eq!(after.verify("a", &between.sign("a", b"x")), Ok(b"x".to_vec()));
        assert_eq!(after.verify("a", &before.sign("a", b"x")), Err(Unusable::UnknownSecret));
        assert_eq!(after.open("a", b"", &sealed, 9), Err(Unusable::UnknownSecret));
    }

    #[test]
    fn weak_secrets_are_refused_and_none_is_shown() {
        let canary = "c".repeat(40);
        for text in ["", "\n \n", "short", &format!("{canary}\nshort"), &format!("{canary}\n").repeat(3)] {
            let told = Keyring::read(file(text).path()).unwrap_err().to_string();
            assert!(!told.contains(&canary) && told.contains("secret"), "{told}");
        }
        let keys = Keyring::read(file(&canary).path()).unwrap();
        assert!(!format!("{keys:?}").contains(&canary));
    }
}
