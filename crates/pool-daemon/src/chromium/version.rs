//! Which version an executable is, by asking it.

use std::{
    io::Read as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::{Pid, geteuid},
};

/// How long an executable may take to tell, in steps: 5 seconds. It takes 50 ms.
const STEPS: u32 = 250;
const STEP: Duration = Duration::from_millis(20);
/// The longest answer that is read.
const ANSWER: u64 = 1024;
/// As root we execute nothing with our rights that has not been looked at: `nobody` will do.
const NOBODY: u32 = 65_534;

/// A version of Chromium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// What features go by.
    pub major: u32,
    /// All four numbers.
    pub text: String,
}

/// Why there is no version.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    #[error("it cannot be executed ({0})")]
    Execute(#[source] std::io::Error),
    #[error("it did not answer to --version in time")]
    TimedOut,
    #[error("it answered {answer:?} to --version")]
    Unknown { answer: String },
}

/// Runs `path --version`. Blocks until it has answered, 5 seconds at most.
pub fn ask(path: &Path) -> Result<Version, VersionError> {
    let mut command = Command::new(path);
    command.arg("--version").env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = command.spawn().map_err(VersionError::Execute)?;
    let ended = (0..STEPS).any(|_| {
        let ended = !matches!(child.try_wait(), Ok(None));
        if !ended {
            thread::sleep(STEP);
        }
        ended
    });
    end(&mut child);
    if !ended {
        return Err(VersionError::TimedOut);
    }
    let mut answer = Vec::new();
    // What cannot be read is no version, and is shown as such.
    let _unreadable = child.stdout.take().map(|stdout| stdout.take(ANSWER).read_to_end(&mut answer));
    parse(&String::from_utf8_lossy(&answer))
}

/// Kills what does not answer, and what the executable may have started: it would keep our end of the pipe waiting.
fn end(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // Fails when everybody has ended, which is what we want.
        let _ended = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _reaped = child.wait();
}

/// Finds the version in a text such as `Chromium 156.0.8078.79 built on Debian`.
pub fn parse(answer: &str) -> Result<Version, VersionError> {
    let is_version =
        |word: &&str| word.split('.').count() == 4 && word.split('.').all(|part| part.parse::<u32>().is_ok());
    let unknown = || VersionError::Unknown { answer: answer.chars().take(100).collect() };
    let text = answer.split_whitespace().find(is_version).ok_or_else(unknown)?;
    let major = text.split('.').next().and_then(|major| major.parse().ok()).ok_or_else(unknown)?;
    Ok(Version { major, text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::chromium::tests::write_program;

    fn answer_of(script: &str) -> Result<Version, VersionError> {
        let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        let path = dir.path().join("chromium");
        write_program(&path, script);
        ask(&path)
    }

    #[test]
    fn the_version_is_found_in_what_builds_say() {
        for (text, major) in [
            ("Chromium 156.0.8078.79 \n", 156),
            ("Google Chrome for Testing 132.0.6834.0", 132),
            ("HeadlessChrome/140 1 131.0.1.2 built on Debian 12.0", 131),
        ] {
            assert_eq!(parse(text).unwrap().major, major, "{text}");
        }
        for text in ["", "1.2.3", "1.2.3.x", "a.b.c.d", "99999999999.0.0.0"] {
            assert!(matches!(parse(text), Err(VersionError::Unknown { .. })), "{text}");
        }
    }

    #[test]
    fn an_executable_is_asked_with_no_more_rights_than_it_needs() {
        let version = answer_of("[ \"$1\" = --version ] && [ $(id -u) != 0 ] && echo Chromium 1.2.3.4").unwrap();
        assert_eq!(version, Version { major: 1, text: "1.2.3.4".to_owned() });
        assert!(matches!(answer_of("exit 3"), Err(VersionError::Unknown { .. })));
        assert!(matches!(ask(Path::new("/nowhere/chromium")), Err(VersionError::Execute(_))));
    }

    #[test]
    fn what_the_executable_leaves_behind_does_not_hold_us_up() {
        assert_eq!(answer_of("echo Chromium 1.2.3.4; sleep 30 &").unwrap().major, 1);
    }

    #[test]
    fn one_that_does_not_answer_is_killed() {
        assert!(matches!(answer_of("exec sleep 30"), Err(VersionError::TimedOut)));
    }
}
