//! What a child of ours may do, found out by letting one try.

use std::{io, os::unix::process::CommandExt as _, process::Command};

use nix::{
    errno::Errno,
    sched::{CloneFlags, clone},
    sys::{signal::Signal, wait::waitpid},
    unistd::Uid,
};

/// The namespaces that Chromium's sandbox is made of, in one call as Chromium asks for them.
const SANDBOX: CloneFlags = CloneFlags::CLONE_NEWUSER.union(CloneFlags::CLONE_NEWPID).union(CloneFlags::CLONE_NEWNET);
/// The stack of a process that returns at once.
const STACK: usize = 16 << 10;

/// Runs `attempt` in a child that is `uid`, or the user we are, and is no more afterwards.
///
/// # Errors
/// The attempt's, or that of starting a child.
///
/// # Safety
/// As that of `pre_exec`: `attempt` takes no lock and allocates nothing.
#[expect(unsafe_code, reason = "std cannot run anything in a child")]
pub(super) unsafe fn in_child(
    uid: Option<Uid>,
    mut attempt: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) -> io::Result<()> {
    let mut command = Command::new("/");
    if let Some(uid) = uid {
        command.uid(uid.as_raw()).gid(uid.as_raw());
    }
    let ended = move || {
        attempt()?;
        // Far enough.
        Err(io::Error::from(Errno::ECANCELED))
    };
    // SAFETY: the caller's promise; nothing is added to the attempt but a number.
    unsafe { command.pre_exec(ended) };
    match command.spawn() {
        Err(error) if error.raw_os_error() == Some(Errno::ECANCELED as i32) => Ok(()),
        Err(error) => Err(error),
        // As by a filter of system calls that kills whoever makes the wrong one.
        Ok(mut child) => Err(io::Error::other(format!("a process that tried it ended with {}", child.wait()?))),
    }
}

/// Tries whether a browser that is `uid` could make the namespaces of its sandbox: no setting of the kernel tells, as a filter of
/// system calls can refuse them, and that of most containers does.
///
/// # Errors
/// Why not.
#[expect(unsafe_code, reason = "nothing safe makes a process with namespaces of its own")]
pub(super) fn sandbox(uid: Option<Uid>) -> io::Result<()> {
    let mut stack = vec![0; STACK];
    let attempt = move || {
        // SAFETY: what is cloned returns at once; a closure that holds nothing takes no memory in its box.
        let inside = unsafe { clone(Box::new(|| 0), &mut stack, SANDBOX, Some(Signal::SIGCHLD as i32)) }?;
        waitpid(inside, None)?;
        Ok(())
    };
    // SAFETY: two system calls.
    unsafe { in_child(uid, attempt) }
}
