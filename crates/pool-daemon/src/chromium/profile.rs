//! Directories: one for this daemon, and in it one for each browser.
//!
//! ```text
//! <state_dir>/.lock                  held while directories of daemons are made or judged
//! <state_dir>/<12 hex>/              0711, one for each run of a daemon
//! <state_dir>/<12 hex>/lock          flock()ed for that daemon's life: whoever can take it may remove the directory
//! <state_dir>/<12 hex>/<slot>-<n>/   0700, one for each browser, owned by its user: data, downloads, home, tmp
//! ```
//!
//! The names are short because Chromium binds a socket far below, and a socket's path ends at 107 bytes.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use browserfleet_common::size::{MIB, Size};
use nix::{
    sys::statvfs::statvfs,
    unistd::{Uid, geteuid},
};
use uuid::Uuid;

use super::DownloadDir;

/// With less than this left on the disk no browser is started. A profile begins with some megabytes and grows with what
/// pages store; a disk that fills up breaks every browser on it, in ways that look like the pages' fault.
pub const MIN_FREE_DISK: u64 = 512 * MIB;

const LOCK: &str = "lock";
const STATE_LOCK: &str = ".lock";
const DOWNLOADS: &str = "downloads";
/// Length of the name of a daemon's directory.
const NAME: usize = 12;
/// The longest path that Chromium makes a socket of, below the daemon's directory.
const DEEPEST: &str = "/9999-99999999/tmp/org.chromium.Chromium.XXXXXX/SingletonSocket";
/// `sun_path` without its final NUL.
const SOCKET_PATH: usize = 107;
/// The state lock is held for a few directory reads: a holder that keeps it for this long is stopped or broken.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// A process that has just been killed may still have made a file while its directory was being removed.
const REMOVE_TRIES: u32 = 10;
const REMOVE_PAUSE: Duration = Duration::from_millis(100);

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("cannot use {} for browser profiles", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is locked by another daemon that does not go on; end that one or choose another state directory", path.display())]
    Busy { path: PathBuf },
    #[error(
        "the state directory {} is {} bytes too long for the sockets Chromium makes in it; choose a shorter one",
        path.display(), excess
    )]
    TooLong { path: PathBuf, excess: usize },
    #[error(
        "only {} are left on the disk of {}, a browser is started with {} or more; free some space or choose another \
         state directory", Size(*free), path.display(), Size(MIN_FREE_DISK)
    )]
    Full { path: PathBuf, free: u64 },
    #[error(
        "browsers run as unprivileged users and cannot pass through {}; chmod o+x it or choose another state directory",
        path.display()
    )]
    NotTraversable { path: PathBuf },
}

impl ProfileError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// The directory of this daemon. Removed when dropped, if the browsers have removed theirs.
#[derive(Debug)]
pub struct InstanceDir {
    path: PathBuf,
    state_dir: PathBuf,
    /// Open, and thereby locked, as long as this value lives.
    _lock: File,
    /// Counts browsers, so that no two directories have the same name.
    next: AtomicU64,
}

/// What a sweep did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swept {
    /// Directories of daemons that are no more, removed.
    pub removed: usize,
    /// Such directories that could not be removed.
    pub failed: usize,
    /// Directories of daemons that live, this one included.
    pub alive: usize,
}

impl InstanceDir {
    /// Makes `state_dir` if need be, and in it a locked directory for this daemon.
    pub fn create(state_dir: &Path) -> Result<Self, ProfileError> {
        if !state_dir.exists() {
            DirBuilder::new().recursive(true).create(state_dir).map_err(ProfileError::io(state_dir))?;
            open_to_pass(state_dir)?;
        }
        let state_dir = state_dir.canonicalize().map_err(ProfileError::io(state_dir))?;
        let path = state_dir.join(&Uuid::new_v4().simple().to_string()[..NAME]);
        let excess = (path.as_os_str().len() + DEEPEST.len()).saturating_sub(SOCKET_PATH);
        if excess > 0 {
            return Err(ProfileError::TooLong { path: state_dir, excess });
        }
        if geteuid().is_root() {
            traversable(&state_dir)?;
        }
        // Between mkdir and lock a sweep would take the new directory for an abandoned one.
        let _state = lock_state(&state_dir)?;
        fs::create_dir(&path).map_err(ProfileError::io(&path))?;
        open_to_pass(&path)?;
        let lock = open_lock(&path.join(LOCK)).map_err(ProfileError::io(&path))?;
        lock.try_lock().map_err(|error| ProfileError::Io { path: path.clone(), source: error.into() })?;
        Ok(Self { path, state_dir, _lock: lock, next: AtomicU64::new(1) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directories of daemons that are no more: those whose lock nobody holds. Anything else in the state
    /// directory is left alone.
    pub fn sweep(&self) -> Result<Swept, ProfileError> {
        let state = lock_state(&self.state_dir)?;
        let (mut abandoned, mut alive) = (Vec::new(), 0);
        for entry in fs::read_dir(&self.state_dir).map_err(ProfileError::io(&self.state_dir))? {
            let entry = entry.map_err(ProfileError::io(&self.state_dir))?;
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if !is_dir || !is_instance_name(entry.file_name().as_bytes()) {
                continue;
            }
            match judge(&entry.path()) {
                Verdict::Alive => alive += 1,
                Verdict::Abandoned(lock) => abandoned.push((entry.path(), lock)),
            }
        }
        // Removing may take long, and the locks taken above already keep other sweeps and daemons away.
        drop(state);
        let mut swept = Swept { removed: 0, failed: 0, alive };
        for (path, _lock) in abandoned {
            match remove_tree(&path) {
                Ok(()) => swept.removed += 1,
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "directory of an ended daemon cannot be removed");
                    swept.failed += 1;
                }
            }
        }
        Ok(swept)
    }

    /// What is left on this directory's disk for us, in bytes.
    pub fn free_disk(&self) -> io::Result<u64> {
        let disk = statvfs(&self.path)?;
        Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }

    /// Whether there is room for another browser.
    fn has_room(&self) -> Result<(), ProfileError> {
        let free = self.free_disk().map_err(ProfileError::io(&self.path))?;
        if free < MIN_FREE_DISK {
            return Err(ProfileError::Full { path: self.state_dir.clone(), free });
        }
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        fs::remove_file(self.path.join(LOCK))?;
        fs::remove_dir(&self.path)
    }
}

impl Drop for InstanceDir {
    fn drop(&mut self) {
        // Two system calls. With profiles still in it the directory stays; without a lock the next sweep takes it.
        if let Err(error) = self.remove() {
            tracing::debug!(path = %self.path.display(), %error, "state directory is left to the next start");
        }
    }
}

enum Verdict {
    Alive,
    /// With the lock that is now ours, if there was a file to lock.
    Abandoned(Option<File>),
}

fn judge(path: &Path) -> Verdict {
    match OpenOptions::new().write(true).open(path.join(LOCK)) {
        Ok(lock) => match lock.try_lock() {
            Ok(()) => Verdict::Abandoned(Some(lock)),
            Err(TryLockError::WouldBlock) => Verdict::Alive,
            Err(TryLockError::Error(error)) => {
                tracing::warn!(path = %path.display(), %error, "directory of another daemon cannot be judged");
                Verdict::Alive
            }
        },
        // We hold the state lock, so nobody is just making it: its removal was cut short.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Verdict::Abandoned(None),
        // Another user's.
        Err(_) => Verdict::Alive,
    }
}

fn is_instance_name(name: &[u8]) -> bool {
    name.len() == NAME && name.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn lock_state(state_dir: &Path) -> Result<File, ProfileError> {
    let path = state_dir.join(STATE_LOCK);
    let lock = open_lock(&path).map_err(ProfileError::io(&path))?;
    for _ in 0..LOCK_TRIES {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(ProfileError::Io { path, source }),
        }
    }
    Err(ProfileError::Busy { path })
}

/// Lets any user pass through `dir` without seeing what is in it, whatever our umask.
fn open_to_pass(dir: &Path) -> Result<(), ProfileError> {
    fs::set_permissions(dir, Permissions::from_mode(0o711)).map_err(ProfileError::io(dir))
}

/// Whether any user can reach what is in `dir`.
fn traversable(dir: &Path) -> Result<(), ProfileError> {
    for ancestor in dir.ancestors() {
        let mode = fs::metadata(ancestor).map_err(ProfileError::io(ancestor))?.mode();
        if mode & 0o001 == 0 {
            return Err(ProfileError::NotTraversable { path: ancestor.to_owned() });
        }
    }
    Ok(())
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The directory of one browser. Not removed when dropped, because that may take long: the owner calls
/// [`Self::remove`], and what a killed daemon leaves is swept by the next.
#[derive(Clone, Debug)]
pub(super) struct Profile {
    path: PathBuf,
    mark: String,
    owner: Uid,
    /// The directory above must stay locked as long as this one is in use.
    _instance: Arc<InstanceDir>,
}

impl Profile {
    /// Makes the directory, readable by `owner` alone (by this process's user if `None`).
    pub(super) fn create(instance: &Arc<InstanceDir>, slot: u32, owner: Option<Uid>) -> Result<Self, ProfileError> {
        instance.has_room()?;
        let name = format!("{slot}-{}", instance.next.fetch_add(1, Ordering::Relaxed));
        let path = instance.path.join(&name);
        let instance_name = instance.path.file_name().unwrap_or_default().to_string_lossy();
        let mark = format!("{instance_name}/{name}");
        let profile = Self { path, mark, owner: owner.unwrap_or_else(geteuid), _instance: Arc::clone(instance) };
        profile.make(owner).inspect_err(|_| drop(remove_tree(&profile.path)))?;
        Ok(profile)
    }

    fn make(&self, owner: Option<Uid>) -> Result<(), ProfileError> {
        for dir in [self.path.clone(), self.data(), self.path.join(DOWNLOADS), self.home(), self.tmp()] {
            DirBuilder::new().mode(0o700).create(&dir).map_err(ProfileError::io(&dir))?;
            if let Some(uid) = owner {
                chown(&dir, Some(uid.as_raw()), Some(uid.as_raw())).map_err(ProfileError::io(&dir))?;
            }
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it puts what pages give away.
    pub(super) fn downloads(&self) -> DownloadDir {
        DownloadDir::new(self.path.join(DOWNLOADS), self.owner.as_raw())
    }

    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    pub(super) fn home(&self) -> PathBuf {
        self.path.join("home")
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.path.join("tmp")
    }

    /// A name no other browser has or had; processes of this browser carry it in their environment.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// Removes the directory with everything in it; again is no error. Blocks.
    pub(super) fn remove(&self) -> io::Result<()> {
        let mut tried = 1;
        loop {
            match remove_tree(&self.path) {
                Err(_) if tried < REMOVE_TRIES => thread::sleep(REMOVE_PAUSE),
                result => return result,
            }
            tried += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state directory that every user can reach.
    fn state() -> tempfile::TempDir {
        tempfile::Builder::new().permissions(Permissions::from_mode(0o711)).tempdir().unwrap()
    }

    /// Sweeps until `expected` comes. A lock lives on for a moment in processes that other tests are just starting.
    fn sweep_until(instance: &InstanceDir, expected: impl Fn(Swept) -> bool) {
        for _ in 0..500 {
            if expected(instance.sweep().unwrap()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("last sweep: {:?}", instance.sweep());
    }

    #[test]
    fn a_daemon_removes_its_own_directory() {
        let state = state();
        let instance = InstanceDir::create(state.path()).unwrap();
        let path = instance.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o711);
        drop(instance);
        assert!(!path.exists());
    }

    #[test]
    fn the_sweep_takes_only_directories_nobody_holds() {
        let state = state();
        let (ours, other) = (InstanceDir::create(state.path()).unwrap(), InstanceDir::create(state.path()).unwrap());
        let dead = state.path().join("0123456789ab");
        fs::create_dir_all(dead.join("3-1/data")).unwrap();
        fs::write(dead.join(LOCK), "").unwrap();
        let half_removed = state.path().join("ba9876543210");
        fs::create_dir(&half_removed).unwrap();
        let foreign = state.path().join("precious");
        fs::create_dir(&foreign).unwrap();

        assert_eq!(ours.sweep().unwrap(), Swept { removed: 2, failed: 0, alive: 2 });
        assert!(!dead.exists() && !half_removed.exists());
        assert!(foreign.exists() && other.path().exists() && ours.path().exists());
    }

    #[test]
    fn a_directory_becomes_removable_when_its_daemon_ends() {
        let state = state();
        let (ours, other) = (InstanceDir::create(state.path()).unwrap(), InstanceDir::create(state.path()).unwrap());
        let path = other.path().to_owned();
        // As after kill -9: the lock is gone, the directory is not.
        fs::create_dir(path.join("0-1")).unwrap();
        drop(other);
        sweep_until(&ours, |swept| swept.alive == 1);
        assert!(!path.exists());
    }

    #[test]
    fn a_profile_is_private_and_goes_with_everything_in_it() {
        let state = state();
        let instance = Arc::new(InstanceDir::create(state.path()).unwrap());
        let (first, second) =
            (Profile::create(&instance, 3, None).unwrap(), Profile::create(&instance, 3, None).unwrap());
        assert_ne!(first.path(), second.path());
        assert_ne!(first.mark(), second.mark());
        assert_eq!(fs::metadata(first.path()).unwrap().mode() & 0o777, 0o700);
        fs::write(first.data().join("file"), "x").unwrap();
        first.remove().unwrap();
        first.remove().unwrap();
        assert!(!first.path().exists() && second.path().exists());
    }

    #[test]
    fn a_path_too_long_for_sockets_is_refused() {
        let state = state();
        let long = state.path().join("x".repeat(60));
        assert!(matches!(InstanceDir::create(&long), Err(ProfileError::TooLong { .. })));
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let error = InstanceDir::create(Path::new("/proc/nowhere")).unwrap_err();
        assert_eq!(error.to_string(), "cannot use /proc/nowhere for browser profiles");
    }

    #[test]
    fn as_root_a_private_ancestor_is_refused() {
        if !geteuid().is_root() {
            return;
        }
        let private = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap();
        let result = InstanceDir::create(&private.path().join("state"));
        assert!(matches!(&result, Err(ProfileError::NotTraversable { path }) if path == private.path()), "{result:?}");
    }
}
