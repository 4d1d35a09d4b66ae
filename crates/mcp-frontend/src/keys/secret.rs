//! The text of a key: `bf_<id>_<secret>`.

use browserfleet_common::ids::{hex, random_hex};
use sha2::{Digest as _, Sha256};

/// What every key starts with: people and scanners of repositories know one when they see it.
pub(crate) const PREFIX: &str = "bf_";
/// Characters of an id.
pub(super) const ID_LEN: usize = 12;
/// Longest text that is looked at, in bytes. Ours have 48.
const TEXT_MAX: usize = 128;

/// What is kept of a key's text. The secret in it has 128 random bits: nobody finds it by trying, so a slow hash would
/// cost every request and protect nothing more; a key for the hash would lie beside it.
pub(super) type Hash = [u8; 32];

/// A new id.
pub(super) fn new_id() -> String {
    random_hex()[..ID_LEN].to_owned()
}

/// A new text of a key, to be shown once.
pub(super) fn new_text(id: &str) -> String {
    format!("{PREFIX}{id}_{}", random_hex())
}

/// The id that a text says. Anybody can say one.
pub(super) fn id_of(text: &str) -> Option<&str> {
    text.strip_prefix(PREFIX)?.split_once('_').map(|(id, _)| id).filter(|id| is_id(id) && text.len() <= TEXT_MAX)
}

/// Whether it can be the id of a key.
pub(crate) fn is_id(text: &str) -> bool {
    text.len() == ID_LEN && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn hash(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

pub(super) fn to_hex(hash: &Hash) -> String {
    hex(hash)
}

pub(super) fn from_hex(text: &str) -> Option<Hash> {
    if text.len() != 2 * size_of::<Hash>() || !text.is_ascii() {
        return None;
    }
    let mut hash = Hash::default();
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_says_its_id_and_no_two_are_alike() {
        let id = new_id();
        let (one, two) = (new_text(&id), new_text(&id));
        assert_ne!(one, two);
        assert_eq!((id_of(&one), one.len()), (Some(id.as_str()), 48));
        for none in
            ["", "bf_", "bf_0123456789ab", "bf_0123456789AB_x", "xx_0123456789ab_x", &format!("{one}{one}{one}")]
        {
            assert_eq!(id_of(none), None, "{none}");
        }
    }

    #[test]
    fn hashes_are_kept_as_text() {
        let hash = hash("a key");
        assert_eq!(from_hex(&to_hex(&hash)), Some(hash));
        for none in ["", "00", &"é".repeat(32), &"g".repeat(64)] {
            assert_eq!(from_hex(none), None, "{none}");
        }
    }
}
