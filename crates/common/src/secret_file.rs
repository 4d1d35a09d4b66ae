//! Files that settings name: read in bounded time and size, and those that hold secrets only when nobody else can read them.

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

/// Why a file is not used. The text names the file and says what to do; nothing of its content is in it.
#[derive(Debug, PartialEq, Eq)]
pub struct BadFile {
    path: PathBuf,
    why: String,
}

impl BadFile {
    pub fn new(path: &Path, why: impl Into<String>) -> Self {
        Self { path: path.to_owned(), why: why.into() }
    }
}

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.why)
    }
}

impl std::error::Error for BadFile {}

/// The text of a file with secrets.
///
/// # Errors
/// When it is not there, cannot be read, is no text, is larger than 8 MiB, or may be read or written by everybody.
pub fn read(path: &Path) -> Result<String, BadFile> {
    // One opened file is looked at and read: there is no moment in between.
    let (file, metadata) = open(path)?;
    if metadata.permissions().mode() & OTHERS != 0 {
        return Err(BadFile::new(path, "everybody on this machine can use it; make it yours alone: chmod 600"));
    }
    text(path, file)
}

/// The text of a file without secrets.
///
/// # Errors
/// As [`read`], but for who may read it.
pub fn read_public(path: &Path) -> Result<String, BadFile> {
    text(path, open(path)?.0)
}

fn open(path: &Path) -> Result<(File, Metadata), BadFile> {
    // A pipe that nobody writes to would be waited for, for ever.
    let opened = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = opened.map_err(|error| unreadable(path, &error))?;
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(BadFile::new(path, "not a file"));
    }
    if metadata.len() > BYTES_MAX {
        return Err(BadFile::new(path, format!("larger than {BYTES_MAX} bytes")));
    }
    Ok((file, metadata))
}

fn text(path: &Path, file: File) -> Result<String, BadFile> {
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(|error| unreadable(path, &error))?;
    Ok(text)
}

fn unreadable(path: &Path, error: &io::Error) -> BadFile {
    let why = match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::InvalidData => "not a text".to_owned(),
        _ => format!("cannot be read ({error})"),
    };
    BadFile::new(path, why)
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    #[test]
    fn a_file_for_everybody_is_refused_and_its_content_is_not_told() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"canary").unwrap();
        assert_eq!(read(file.path()).unwrap(), "canary", "a temporary file is its owner's");
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
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(
            read_public(&pipe).unwrap_err().to_string().ends_with("not a file"),
            "nobody waits for who may write to it"
        );
        assert!(read(&directory.path().join("x")).unwrap_err().to_string().ends_with("no such file"));
    }
}
