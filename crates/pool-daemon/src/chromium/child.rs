//! What a child does between fork and exec: from a copy of the daemon it becomes a browser that has nothing of it.

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter},
    os::unix::process::CommandExt as _,
    process::Command,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::Signal,
    },
    unistd::{getpid, getppid},
};

use super::{cgroup, namespace::Namespace};

/// The first descriptor that a browser does not have from us: after the standard ones those of its protocol.
const FIRST_FREE: libc::c_uint = 5;

/// What a browser is given.
pub(super) struct Birth {
    /// Becomes its descriptor 3.
    pub(super) commands: PipeReader,
    /// Becomes its descriptor 4.
    pub(super) replies: PipeWriter,
    /// Ways into its control groups.
    pub(super) groups: Vec<File>,
    /// None: the machine's network is its own.
    pub(super) namespace: Option<Namespace>,
}

/// Gives the child all of that, and binds its life to ours.
#[expect(unsafe_code, reason = "std cannot place descriptors in a child or set its parent-death signal")]
pub(super) fn prepare(command: &mut Command, birth: Birth) {
    let Birth { commands, replies, groups, namespace } = birth;
    let parent = getpid();
    let become_browser = move || {
        // While their descriptors are where they were.
        cgroup::enter(&groups)?;
        if let Some(namespace) = &namespace {
            namespace.enter()?;
        }
        // Out of the way first: one may sit on the other's place.
        let commands = fcntl(&commands, FcntlArg::F_DUPFD_CLOEXEC(10))?;
        let replies = fcntl(&replies, FcntlArg::F_DUPFD_CLOEXEC(10))?;
        for (from, to) in [(commands, 3), (replies, 4)] {
            // SAFETY: plain numbers in, checked result out; what 3 and 4 were before is close-on-exec and not ours to
            // use. std's pipe for a failed exec is not there: it was made after ours, so lower numbers were taken.
            Errno::result(unsafe { libc::dup2(from, to) })?;
        }
        // What the daemon itself was started with, by a careless supervisor or shell, would be in every browser: a way from
        // one to the other. Kernels before 5.11 cannot do this; there it stays as it was.
        // SAFETY: plain numbers in; it marks descriptors and touches no memory.
        unsafe { libc::syscall(libc::SYS_close_range, FIRST_FREE, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        // A core of a browser is a copy of its pages.
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        // Set after the changes of user and of rights, which clear it.
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent died before that, and no signal will come.
        if getppid() == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
    };
    // SAFETY: between fork and exec the closure only makes system calls: it takes no lock and allocates nothing.
    unsafe { command.pre_exec(become_browser) };
}
