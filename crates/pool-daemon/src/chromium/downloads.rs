//! Where a browser puts what its pages give away.
//!
//! The directory is the browser's own, and a browser may be in a page's hands: whatever it makes of its directory, nothing is
//! read or removed there but plain files of its own user.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open, openat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, unlinkat},
};

/// What is opened is what is there, not what it leads to, and waits for nobody.
const PLAIN: OFlag = OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_NONBLOCK);

/// The directory of one browser's downloads.
#[derive(Clone, Debug)]
pub struct DownloadDir {
    path: PathBuf,
    /// The user that the browser runs as.
    owner: u32,
}

impl DownloadDir {
    pub(crate) fn new(path: PathBuf, owner: u32) -> Self {
        Self { path, owner }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a file of at most `most` bytes, and removes it whether it could be read or not. Blocks.
    ///
    /// # Errors
    /// When it is not there, is larger, or is nothing that a download makes.
    pub fn take(&self, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let dir = self.dir_of(name)?;
        let read = openat(&dir, name, PLAIN, Mode::empty()).map_err(io::Error::from);
        let read = read.and_then(|file| self.read(&File::from(file), most));
        let _gone_already = unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir);
        read
    }

    /// Removes a file. Blocks.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(self.dir_of(name)?, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// The directory, open, in which a file of this name can be.
    fn dir_of(&self, name: &str) -> io::Result<File> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(io::Error::other("no name of a download"));
        }
        let dir = File::from(open(&self.path, PLAIN | OFlag::O_DIRECTORY, Mode::empty())?);
        self.own(&dir)?;
        Ok(dir)
    }

    fn read(&self, file: &File, most: u64) -> io::Result<Vec<u8>> {
        self.own(file)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.nlink() != 1 {
            return Err(io::Error::other("not a plain file"));
        }
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            return Err(io::Error::other(format!("more than {most} bytes")));
        }
        Ok(bytes)
    }

    fn own(&self, file: &File) -> io::Result<()> {
        if file.metadata()?.uid() != self.owner {
            return Err(io::Error::other("not the browser's own"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    struct Place {
        root: tempfile::TempDir,
        dir: DownloadDir,
    }

    fn place() -> Place {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("downloads");
        fs::create_dir(&path).unwrap();
        let dir = DownloadDir::new(path, nix::unistd::geteuid().as_raw());
        Place { root, dir }
    }

    #[test]
    fn a_file_is_taken_once() {
        let Place { root: _root, dir } = place();
        fs::write(dir.path().join("a-1"), "text").unwrap();
        assert_eq!(dir.take("a-1", 4).unwrap(), b"text");
        assert_eq!(dir.take("a-1", 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_too_large_goes_as_well() {
        let Place { root: _root, dir } = place();
        fs::write(dir.path().join("a"), "text!").unwrap();
        assert!(dir.take("a", 4).is_err());
        assert!(!dir.path().join("a").exists());
    }

    #[test]
    fn nothing_elsewhere_is_read_or_removed() {
        let Place { root, dir } = place();
        let secret = root.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        symlink(&secret, dir.path().join("link")).unwrap();
        fs::hard_link(&secret, dir.path().join("hard")).unwrap();
        fs::create_dir(dir.path().join("dir")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).unwrap();
        for name in ["link", "hard", "dir", "pipe", "../secret", "", "absent"] {
            assert!(dir.take(name, 100).is_err(), "{name}");
        }
        assert_eq!(fs::read(&secret).unwrap(), b"secret");

        // The directory itself leads elsewhere.
        let elsewhere = DownloadDir { path: root.path().join("elsewhere"), owner: dir.owner };
        symlink(root.path(), elsewhere.path()).unwrap();
        assert!(elsewhere.take("secret", 100).is_err() && secret.exists());
        // Another user's file.
        let other = DownloadDir { owner: dir.owner + 1, ..dir };
        fs::write(other.path().join("theirs"), "x").unwrap();
        assert!(other.take("theirs", 100).is_err() && other.path().join("theirs").exists());
    }
}
