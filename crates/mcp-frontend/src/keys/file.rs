//! The file of keys: JSON, its owner's alone, replaced as a whole.

use std::{
    fs::{self, File, Metadata, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use browserfleet_common::{
    ids::random_hex,
    secret_file::{self, BadFile},
};
use serde::{Deserialize, Serialize};

use super::record::{self, Record};

/// The form of the file that we write and read.
const VERSION: u32 = 1;
/// Most keys.
const KEYS_MAX: usize = 10_000;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    version: u32,
    keys: Vec<Record>,
}

/// The keys of a file.
///
/// # Errors
/// When it cannot be used: see [`secret_file::read`]; or it is not of this form.
pub(super) fn read(path: &Path) -> Result<Vec<Record>, BadFile> {
    let text = secret_file::read(path)?;
    let keys: Keys = serde_json::from_str(&text).map_err(|error| {
        // Serde's own text may quote what is in the file.
        let at = format!("line {}, column {}", error.line(), error.column());
        BadFile::new(path, format!("not a file of keys ({at}); they are made by: browserfleet keys create"))
    })?;
    if keys.version != VERSION || keys.keys.len() > KEYS_MAX {
        let why = format!("only version {VERSION} with at most {KEYS_MAX} keys is understood");
        return Err(BadFile::new(path, why));
    }
    record::check(&keys.keys).map_err(|why| BadFile::new(path, why))?;
    Ok(keys.keys)
}

/// Changes the keys of a file, which need not be there yet. Of several who do so at the same time one does, the others are
/// told; readers see the file as before or as after.
///
/// # Errors
/// When the file cannot be used or written, or `change` refuses.
pub(super) fn change<T>(path: &Path, change: impl FnOnce(&mut Vec<Record>) -> anyhow::Result<T>) -> anyhow::Result<T> {
    // The file itself is replaced, not a link to it.
    let path = fs::canonicalize(path).unwrap_or_else(|_absent| path.to_owned());
    let beside = |what: &str| -> PathBuf {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(what);
        path.with_file_name(name)
    };
    // A file of its own: a lock on one that is replaced would be nobody's.
    let lock = private(&beside(".lock")).map_err(|error| BadFile::new(&path, error.to_string()))?;
    if lock.try_lock().is_err() {
        return Err(BadFile::new(&path, "is being changed by another command; try again").into());
    }
    let before = fs::metadata(&path).ok();
    let mut keys = if before.is_some() { read(&path)? } else { Vec::new() };
    let result = change(&mut keys)?;
    record::check(&keys).map_err(|why| BadFile::new(&path, why))?;
    let new = beside(&format!(".{}", random_hex()));
    let written = replace(&path, &new, before.as_ref(), &Keys { version: VERSION, keys });
    if let Err(error) = written {
        // It may not even be there.
        let _absent = fs::remove_file(&new);
        return Err(BadFile::new(&path, format!("cannot be written ({error})")).into());
    }
    Ok(result)
}

fn replace(path: &Path, new: &Path, before: Option<&Metadata>, keys: &Keys) -> io::Result<()> {
    let mut file = private(new)?;
    let mut text = serde_json::to_vec_pretty(keys)?;
    text.push(b'\n');
    file.write_all(&text)?;
    if let Some(before) = before {
        // Whoever could read it still can: the server may be another user than who types.
        let ours = file.metadata()?;
        if (ours.uid(), ours.gid()) != (before.uid(), before.gid()) {
            std::os::unix::fs::fchown(&file, Some(before.uid()), Some(before.gid()))?;
        }
        file.set_permissions(Permissions::from_mode(before.mode() & 0o770))?;
    }
    file.sync_all()?;
    fs::rename(new, path)?;
    // The new name outlives a power cut, too.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// A file to write that nobody else can read.
fn private(path: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).mode(0o600).open(path)
}
