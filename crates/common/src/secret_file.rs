//! Files that hold secrets: read only when nobody else can read them.

use std::{
    fmt,
    fs::{File, Metadata},
    io::{self, Read as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::fcntl::OFlag;

/// Most bytes of such a file.
const BYTES_MAX: u64 = 8 << 20;
/// Permissions of everybody: none may be there.
const OTHERS: u32 = 0o007;

/// Why a file of secrets is not used. The text names the file and says what to do; nothing of its content is in it.
#[derive(Debug, PartialEq, Eq)]
pub struct BadSecretFile {
    path: PathBuf,
    why: String,
}

impl BadSecretFile {
    pub fn new(path: &Path, why: impl Into<String>) -> Self {
        Self { path: path.to_owned(), why: why.into() }
    }
}

impl fmt::Display for BadSecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for BadSecretFile {}

/// A file's text, and what the file was when it was read.
///
/// # Errors
/// When it is not there, cannot be read, is no text, or may be read or written by everybody.
pub fn read(path: &Path) -> Result<(String, Metadata), BadSecretFile> {
    let bad = |why: String| BadSecretFile::new(path, why);
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => bad("no such file".to_owned()),
        io::ErrorKind::InvalidData => bad("not a text".to_owned()),
        _ => bad(format!("cannot be read ({error})")),
    };
    // One opened file is looked at and read: there is no moment in between.
    // A pipe that nobody writes to would be waited for, for ever.
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(bad("not a file".to_owned()));
    }
    if metadata.permissions().mode() & OTHERS != 0 {
        return Err(bad("everybody on this machine can use it; make it yours alone: chmod 600".to_owned()));
    }
    if metadata.len() > BYTES_MAX {
        return Err(bad(format!("larger than {BYTES_MAX} bytes")));
    }
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    Ok((text, metadata))
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    #[test]
    fn a_file_for_everybody_is_refused_and_its_content_is_not_told() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"canary").unwrap();
        assert_eq!(read(file.path()).unwrap().0, "canary", "a temporary file is its owner's");
        for mode in [0o604, 0o602, 0o601] {
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            let told = read(file.path()).unwrap_err().to_string();
            assert!(told.contains("chmod 600") && !told.contains("canary"), "{told}");
        }
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read(file.path()).is_ok(), "a group may be given it");
    }

    #[test]
    fn what_is_no_file_is_said_to_be_none() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read(directory.path()).unwrap_err().to_string().ends_with("not a file"));
        assert!(read(&directory.path().join("x")).unwrap_err().to_string().ends_with("no such file"));
    }
}
