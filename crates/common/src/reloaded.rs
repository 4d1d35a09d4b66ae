//! What is read from files, and read again when they change: API keys, certificates. Whatever cannot be used changes nothing.

use std::{
    fmt,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::watch;

use crate::{metrics::metrics, secret_file::BadFile};

/// What files hold that belong together.
pub struct Reloaded<T> {
    /// For logs and metrics.
    what: &'static str,
    files: Vec<PathBuf>,
    read: fn(&[PathBuf]) -> Result<T, BadFile>,
    /// A plain lock: it is held for one look, or for one assignment.
    loaded: RwLock<Loaded<T>>,
    /// Told whenever the files have been read again.
    again: watch::Sender<()>,
}

struct Loaded<T> {
    value: Arc<T>,
    /// Of the files before they were last read, whether or not they could be used then.
    stamps: Stamps,
}

/// What changes when a file does.
type Stamps = Vec<Option<[i64; 6]>>;

impl<T> Reloaded<T> {
    /// Reads the files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub fn open(
        what: &'static str,
        files: &[&Path],
        read: fn(&[PathBuf]) -> Result<T, BadFile>,
    ) -> Result<Self, BadFile> {
        let files: Vec<_> = files.iter().map(|&file| file.to_owned()).collect();
        let stamps = stamps(&files);
        let value = Arc::new(read(&files)?);
        Ok(Self { what, files, read, loaded: RwLock::new(Loaded { value, stamps }), again: watch::Sender::new(()) })
    }

    /// As it was last read.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner).value)
    }

    /// Says when the files have been read again.
    pub fn read_again(&self) -> watch::Receiver<()> {
        self.again.subscribe()
    }

    /// Reads the files again if one has changed. It blocks, as file systems do.
    pub fn refresh(&self) {
        // Before they are read: what changes meanwhile is read the next time.
        let stamps = stamps(&self.files);
        if stamps == self.loaded.read().unwrap_or_else(PoisonError::into_inner).stamps {
            return;
        }
        let (read, what) = ((self.read)(&self.files), self.what);
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        loaded.stamps = stamps;
        match read {
            Ok(value) => {
                loaded.value = Arc::new(value);
                self.again.send_replace(());
                tracing::info!(what, "a changed file has been read");
                metrics().file_reads.add([what, "ok"]);
            }
            Err(error) => {
                tracing::error!(what, %error, "a changed file cannot be used; what it held before goes on");
                metrics().file_reads.add([what, "failed"]);
            }
        }
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloaded").field("what", &self.what).field("files", &self.files).finish_non_exhaustive()
    }
}

fn stamps(files: &[PathBuf]) -> Stamps {
    let stamp = |metadata: Metadata| {
        let (inode, length) = (metadata.ino().cast_signed(), metadata.len().cast_signed());
        [inode, length, metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()]
    };
    files.iter().map(|file| fs::metadata(file).ok().map(stamp)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(files: &[PathBuf]) -> Result<u32, BadFile> {
        let text = fs::read_to_string(&files[0]).map_err(|error| BadFile::new(&files[0], error.to_string()))?;
        text.trim().parse().map_err(|_no_number| BadFile::new(&files[0], "no number"))
    }

    #[test]
    fn what_changes_is_read_again_and_what_cannot_be_used_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("number");
        assert!(Reloaded::open("number", &[&file], number).is_err(), "there is none yet");
        fs::write(&file, "1").unwrap();
        let reloaded = Reloaded::open("number", &[&file], number).unwrap();
        let again = reloaded.read_again();
        reloaded.refresh();
        assert!(*reloaded.get() == 1 && !again.has_changed().unwrap(), "nothing has changed");
        fs::write(&file, "one").unwrap();
        reloaded.refresh();
        assert!(*reloaded.get() == 1 && !again.has_changed().unwrap());
        fs::remove_file(&file).unwrap();
        reloaded.refresh();
        fs::write(&file, "22").unwrap();
        reloaded.refresh();
        assert!(*reloaded.get() == 22 && again.has_changed().unwrap());
    }
}
