//! What a running front end asks about keys. The file is read again when it changes.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use browserfleet_common::{reloaded::Reloaded, secret_file::BadFile};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use super::{
    file,
    record::Record,
    secret::{self, Hash},
};
use crate::access::Access;

/// What a text of no known key is compared with.
const NOBODY: Hash = [0; 32];

/// The keys of a file. Cheap to clone: all clones are the same.
#[derive(Clone, Debug)]
pub struct ApiKeys(Arc<Reloaded<Keys>>);

/// By their ids.
type Keys = HashMap<String, Arc<Known>>;

struct Known {
    hash: Hash,
    record: Record,
    access: Arc<Access>,
}

impl ApiKeys {
    /// Reads a file of keys.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(path: &Path) -> Result<Self, BadFile> {
        let keys = Reloaded::open("keys", &[path], |files| Ok(known(file::read(&files[0])?)))?;
        Ok(Self(Arc::new(keys)))
    }

    /// What the holder of a key may do at `now` (wall time). `None` whether the key is unknown, has been revoked or has
    /// expired, and about as late in each case.
    pub(crate) fn authenticate(&self, text: &str, now: Duration) -> Option<Arc<Access>> {
        let known = secret::id_of(text).and_then(|id| self.find(id));
        let kept = known.as_ref().map_or(NOBODY, |known| known.hash);
        let same = bool::from(secret::hash(text).ct_eq(&kept));
        known.filter(|known| same && known.record.is_good(now)).map(|known| Arc::clone(&known.access))
    }

    /// What a key of this id allows at `now` (wall time), if it is still good: for what goes on after its request was let in.
    pub(crate) fn access(&self, id: &str, now: Duration) -> Option<Arc<Access>> {
        self.find(id).filter(|known| known.record.is_good(now)).map(|known| Arc::clone(&known.access))
    }

    /// Says when the file has been read again.
    pub(crate) fn read_again(&self) -> watch::Receiver<()> {
        self.0.read_again()
    }

    /// Reads the file again if it has changed. One that cannot be used changes nothing: the keys stay as they were.
    pub(crate) fn refresh(&self) {
        self.0.refresh();
    }

    fn find(&self, id: &str) -> Option<Arc<Known>> {
        self.0.get().get(id).cloned()
    }
}

fn known(records: Vec<Record>) -> Keys {
    let known = records.into_iter().map(|record| {
        let hash = secret::from_hex(&record.hash).expect("the file has been checked");
        let access = Arc::new(Access::of_key(&record));
        (record.id.clone(), Arc::new(Known { hash, record, access }))
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::keys::command::{Create, create, revoke, rotate};

    const NOW: Duration = Duration::from_secs(1_000_000);

    fn keys() -> (tempfile::TempDir, PathBuf, String, ApiKeys) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.json");
        let new = Create::named("ci", &["browser:read"]).for_time(Duration::from_secs(100));
        let text = create(&path, &new, NOW).unwrap().text;
        let keys = ApiKeys::open(&path).unwrap();
        (directory, path, text, keys)
    }

    #[test]
    fn only_the_whole_text_in_its_time_is_let_in() {
        let (_directory, _path, text, keys) = keys();
        assert!(keys.authenticate(&text, NOW).is_some());
        assert!(keys.authenticate(&text, NOW + Duration::from_secs(99)).is_some());
        assert!(keys.authenticate(&text, NOW + Duration::from_secs(100)).is_none(), "expired");
        for at in 0..text.len() {
            let mut wrong = text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
            assert!(keys.authenticate(std::str::from_utf8(&wrong).unwrap(), NOW).is_none(), "byte {at}");
            assert!(keys.authenticate(&text[..at], NOW).is_none(), "{at} bytes");
        }
        assert!(keys.authenticate(&format!("{text}0"), NOW).is_none());
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_changes_nothing() {
        let (_directory, path, text, keys) = keys();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, "{ broken").unwrap();
        keys.refresh();
        assert!(keys.authenticate(&text, NOW).is_some(), "the old keys stay");
        fs::write(&path, whole).unwrap();
        let other = create(&path, &Create::named("other", &["admin"]), NOW).unwrap().text;
        assert!(keys.authenticate(&other, NOW).is_none());
        keys.refresh();
        assert!(keys.authenticate(&other, NOW).is_some_and(|access| access.is_admin()));
        revoke(&path, "ci").unwrap();
        keys.refresh();
        assert!(keys.authenticate(&text, NOW).is_none() && keys.authenticate(&other, NOW).is_some());
    }

    #[test]
    fn a_new_secret_is_the_same_principal() {
        let (_directory, path, text, keys) = keys();
        let before = keys.authenticate(&text, NOW).unwrap();
        let new = rotate(&path, "ci").unwrap().text;
        keys.refresh();
        assert!(keys.authenticate(&text, NOW).is_none(), "the old secret is over");
        assert_eq!(keys.authenticate(&new, NOW).unwrap().principal, before.principal);
    }
}
