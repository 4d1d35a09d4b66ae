//! Which Chromium to run.
//!
//! The ELF itself, never a wrapper: Debian's `/usr/bin/chromium-headless-shell` is a shell script without `exec`, so that
//! signals and the parent-death signal hit the shell and the browser lives on.

use std::{
    env,
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

/// Where distributions put the ELF of chromium-headless-shell.
const HEADLESS_SHELL: &[&str] = &[
    "/usr/lib/chromium/chromium-headless-shell",        // Debian
    "/usr/lib64/chromium-browser/headless_shell",       // Fedora, EPEL: chromium-headless
    "/usr/lib/chromium/headless_shell",                 // Alpine
    "/usr/lib/chromium/chrome-headless-shell",          // Alpine, newer
    "/opt/chrome-headless-shell/chrome-headless-shell", // unpacked "Chrome for Testing"
    "/headless-shell/headless-shell",                   // chromedp/headless-shell image
];
/// Where distributions put the ELF of full Chromium or Chrome.
const FULL: &[&str] = &[
    "/usr/lib/chromium/chromium",                   // Debian, Alpine, Arch
    "/usr/lib64/chromium-browser/chromium-browser", // Fedora, EPEL
    "/usr/lib/chromium/chrome",
    "/usr/lib/chromium-browser/chromium-browser",
    "/opt/google/chrome/chrome",
];
const HEADLESS_SHELL_NAMES: &[&str] =
    &["chromium-headless-shell", "chrome-headless-shell", "headless_shell", "headless-shell"];
const FULL_NAMES: &[&str] = &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

/// A script longer than this wraps nothing we could guess.
const SCRIPT_READ: u64 = 64 * 1024;

/// Why there is no Chromium to run. Each message names the path and the fix.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error(
        "no Chromium found in the usual places or in PATH; install one (Debian: apt-get install \
         chromium-headless-shell) or name the executable with --chromium"
    )]
    NotFound,
    #[error(
        "{} does not exist; install it (Debian: apt-get install chromium-headless-shell) or name another executable \
         with --chromium", path.display()
    )]
    Missing { path: PathBuf },
    #[error("cannot read {}; name another executable with --chromium", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} is not a file; name the executable itself with --chromium", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} is not executable; chmod a+x it or name another executable with --chromium", path.display())]
    NotExecutable { path: PathBuf },
    #[error(
        "{} is a wrapper, and a browser started through one outlives its owner; name the ELF it starts with --chromium{}",
        path.display(), hint(wraps.as_deref())
    )]
    Wrapper { path: PathBuf, wraps: Option<PathBuf> },
    #[error("{} is not an ELF executable; name one with --chromium", path.display())]
    NotElf { path: PathBuf },
    #[error(
        "{} is built for another architecture than this machine's {}; install the package for it or name another \
         executable with --chromium", path.display(), env::consts::ARCH
    )]
    OtherArchitecture { path: PathBuf },
}

/// Finds and checks the executable: the configured one, or else chromium-headless-shell before full Chromium, in the
/// usual places before `PATH`. A configured name without a slash is looked up in `PATH`.
pub fn find(configured: Option<&Path>) -> Result<PathBuf, FindError> {
    let path_var = env::var_os("PATH");
    match configured {
        Some(path) => check(&from_path(path, path_var.as_deref())),
        None => search(&[(HEADLESS_SHELL, HEADLESS_SHELL_NAMES), (FULL, FULL_NAMES)], path_var.as_deref()),
    }
}

/// Whether `path` is a headless shell, which takes other flags than full Chromium. The builds are told apart by their
/// names: both answer to the same switches, some silently ignored.
pub fn is_headless_shell(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().to_ascii_lowercase().contains("headless"))
}

/// The first usable executable: of each kind first the known places, then the names in `path_var`.
fn search(kinds: &[(&[&str], &[&str])], path_var: Option<&OsStr>) -> Result<PathBuf, FindError> {
    let in_path = |name: &&str| path_dirs(path_var).map(move |dir| dir.join(name)).collect::<Vec<_>>();
    kinds
        .iter()
        .flat_map(|(places, names)| places.iter().map(PathBuf::from).chain(names.iter().flat_map(in_path)))
        .find_map(|candidate| match check(&candidate) {
            Ok(path) => Some(path),
            // Here we look for any Chromium: the one behind the wrapper will do.
            Err(FindError::Wrapper { wraps, .. }) => wraps,
            Err(_) => None,
        })
        .ok_or(FindError::NotFound)
}

fn path_dirs(path_var: Option<&OsStr>) -> impl Iterator<Item = PathBuf> {
    // Relative entries would make the answer depend on where the daemon was started.
    env::split_paths(path_var.unwrap_or_default()).filter(|dir| dir.is_absolute())
}

/// `path` itself, or for a bare name what `path_var` says it is.
fn from_path(path: &Path, path_var: Option<&OsStr>) -> PathBuf {
    if path.components().count() > 1 || path.is_absolute() {
        return path.to_owned();
    }
    path_dirs(path_var).map(|dir| dir.join(path)).find(|file| file.is_file()).unwrap_or_else(|| path.to_owned())
}

/// Answers the real path of an executable that we may start.
fn check(path: &Path) -> Result<PathBuf, FindError> {
    let owned = || path.to_owned();
    let real = path.canonicalize().map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => FindError::Missing { path: owned() },
        _ => FindError::Unreadable { path: owned(), source },
    })?;
    if !real.is_file() {
        return Err(FindError::NotAFile { path: owned() });
    }
    if access(&real, AccessFlags::X_OK).is_err() {
        return Err(FindError::NotExecutable { path: owned() });
    }
    let head = head(&real).map_err(|source| FindError::Unreadable { path: owned(), source })?;
    if head.starts_with(b"#!") {
        return Err(FindError::Wrapper { path: owned(), wraps: wrapped(&real, &head) });
    }
    if !head.starts_with(b"\x7fELF") {
        return Err(FindError::NotElf { path: owned() });
    }
    // Ubuntu's /snap/bin/chromium links to the snap launcher, an ELF that is as bad as a script.
    if real.file_name() == Some(OsStr::new("snap")) {
        return Err(FindError::Wrapper { path: owned(), wraps: None });
    }
    if !for_this_machine(&head) {
        return Err(FindError::OtherArchitecture { path: owned() });
    }
    Ok(real)
}

/// The start of an executable: all of a script, enough of an ELF.
fn head(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?.take(64);
    let mut head = Vec::new();
    file.read_to_end(&mut head)?;
    if head.starts_with(b"#!") {
        file.set_limit(SCRIPT_READ);
        file.read_to_end(&mut head)?;
    }
    Ok(head)
}

/// The Chromium that `wrapper` probably starts: an absolute path in its text that is one.
fn wrapped(wrapper: &Path, script: &[u8]) -> Option<PathBuf> {
    let text = String::from_utf8_lossy(script);
    let mentioned = text
        .split(|c: char| c.is_whitespace() || "\"'`=;:(){}$".contains(c))
        .filter(|word| word.starts_with('/') && (word.contains("chrom") || word.contains("headless")))
        .find_map(|word| check(Path::new(word)).ok());
    // Debian's wrapper of full Chromium puts the path together from variables, but is called like what it wraps.
    let same_name = |place: &&&str| Path::new(place).file_name() == wrapper.file_name();
    mentioned
        .or_else(|| HEADLESS_SHELL.iter().chain(FULL).filter(same_name).find_map(|place| check(Path::new(place)).ok()))
}

fn hint(wraps: Option<&Path>) -> String {
    wraps.map(|path| format!(", probably {}", path.display())).unwrap_or_default()
}

/// Compares `e_machine` with the architecture this program is built for. An unknown one passes: exec will tell.
fn for_this_machine(elf: &[u8]) -> bool {
    let ours: u16 = match env::consts::ARCH {
        "x86_64" => 62,
        "aarch64" => 183,
        _ => return true,
    };
    elf.get(18..20) == Some(&ours.to_le_bytes()[..])
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    /// A file with `content` and `mode` in a directory of its own.
    fn file(name: &str, content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    /// An ELF of this machine: the test itself.
    fn elf() -> Vec<u8> {
        head(&env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn an_elf_is_taken_by_path_and_by_bare_name() {
        let (dir, path) = file("chrome-headless-shell", &elf(), 0o755);
        assert_eq!(find(Some(&path)).unwrap(), path.canonicalize().unwrap());
        let by_name = from_path(Path::new("chrome-headless-shell"), Some(dir.path().as_os_str()));
        assert_eq!(by_name, path);
    }

    #[test]
    fn a_missing_path_names_path_and_fix() {
        let message = find(Some(Path::new("/nowhere/chromium"))).unwrap_err().to_string();
        assert!(message.contains("/nowhere/chromium does not exist"), "{message}");
        assert!(message.contains("apt-get install chromium-headless-shell"), "{message}");
        assert!(message.contains("--chromium"), "{message}");
    }

    #[test]
    fn a_file_without_the_executable_bit_is_refused() {
        let (_dir, path) = file("chromium", &elf(), 0o644);
        assert!(matches!(find(Some(&path)), Err(FindError::NotExecutable { .. })));
    }

    #[test]
    fn a_directory_and_a_text_are_refused() {
        let (dir, path) = file("chromium", b"not a program", 0o755);
        assert!(matches!(find(Some(&path)), Err(FindError::NotElf { .. })));
        assert!(matches!(find(Some(dir.path())), Err(FindError::NotAFile { .. })));
    }

    #[test]
    fn another_architecture_is_refused() {
        let mut foreign = elf();
        foreign[18..20].copy_from_slice(&8_u16.to_le_bytes());
        let (_dir, path) = file("chromium", &foreign, 0o755);
        assert!(matches!(find(Some(&path)), Err(FindError::OtherArchitecture { .. })));
    }

    #[test]
    fn a_wrapper_is_refused_and_names_the_elf_behind_it() {
        let (_dir, inner) = file("chromium-headless-shell", &elf(), 0o755);
        let inner = inner.canonicalize().unwrap();
        let script = format!("#!/bin/sh -e\n\n{} \"$@\"\n", inner.display());
        let (_dir2, wrapper) = file("wrapper", script.as_bytes(), 0o755);
        let error = find(Some(&wrapper)).unwrap_err();
        assert!(error.to_string().contains(&format!("probably {}", inner.display())), "{error}");
        assert!(matches!(error, FindError::Wrapper { wraps: Some(path), .. } if path == inner));
    }

    #[test]
    fn a_wrapper_of_nothing_known_is_refused_without_a_guess() {
        let (_dir, wrapper) = file("wrapper", b"#!/bin/sh\nexec /bin/true\n", 0o755);
        assert!(matches!(find(Some(&wrapper)), Err(FindError::Wrapper { wraps: None, .. })));
    }

    #[test]
    fn the_search_prefers_the_first_kind_and_looks_behind_wrappers() {
        let (shell_dir, shell) = file("headless_shell", &elf(), 0o755);
        let (_full_dir, full) = file("chromium", &elf(), 0o755);
        let script = format!("#!/bin/sh\n{} \"$@\"\n", shell.display());
        let (wrapper_dir, _) = file("headless_shell", script.as_bytes(), 0o755);
        let full = full.to_string_lossy();
        let search_in = |dir: &Path| search(&[(&[], &["headless_shell"]), (&[&full], &[])], Some(dir.as_os_str()));
        assert_eq!(search_in(shell_dir.path()).unwrap(), shell.canonicalize().unwrap());
        assert_eq!(search_in(wrapper_dir.path()).unwrap(), shell.canonicalize().unwrap());
        assert_eq!(search_in(Path::new("/nowhere")).unwrap(), Path::new(&*full).canonicalize().unwrap());
        assert!(matches!(search(&[(&[], &["headless_shell"])], None), Err(FindError::NotFound)));
    }

    #[test]
    fn the_kind_is_told_by_the_name() {
        assert!(is_headless_shell(Path::new("/usr/lib/chromium/chromium-headless-shell")));
        assert!(is_headless_shell(Path::new("/usr/lib64/chromium-browser/headless_shell")));
        assert!(!is_headless_shell(Path::new("/usr/lib/chromium/chromium")));
    }
}
