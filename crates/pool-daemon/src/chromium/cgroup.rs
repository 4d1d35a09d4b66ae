//! A control group for each browser, where the system has delegated groups to us: the kernel itself then bounds its memory and
//! how many processes and threads it has, whatever it does between two looks of ours.
//!
//! Delegated is what we may write to: a service of systemd with `Delegate=yes`, root outside a container. Elsewhere browsers are
//! watched, as they are here, too.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use browserfleet_common::ids::random_hex;

use crate::host::cgroup::{Version, own_group};

/// What our directories begin with; the number of the process that made them follows.
const PREFIX: &str = "browserfleet-";
/// Where the daemon itself goes, in version 2.
const BELOW: &str = "browserfleet-daemon";

/// What a browser may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes.
    pub(super) memory: u64,
    /// Processes and threads.
    pub(super) tasks: u64,
}

/// Where groups are made.
#[derive(Debug)]
pub(super) struct Groups {
    version: Version,
    /// One for both controllers (version 2), or one for each.
    parents: Vec<PathBuf>,
    bounds: Bounds,
    /// Groups that somebody was still in when they should have gone.
    left: Mutex<Vec<PathBuf>>,
}

impl Groups {
    /// Takes what is delegated to this process, and removes what ended daemons have left there.
    ///
    /// # Errors
    /// When there is nothing that we may use: the text says what is missing.
    pub(super) fn claim(bounds: Bounds) -> Result<Arc<Self>, String> {
        let own = |controller| {
            own_group(controller).ok_or_else(|| format!("no control group has the {controller} controller"))
        };
        let ((version, memory), (of_pids, pids)) = (own("memory")?, own("pids")?);
        let parents = match (version, of_pids) {
            (Version::Two, Version::Two) => {
                let parent = delegated(&memory);
                vec![parent.map_err(|error| format!("{} is not delegated to us ({error})", memory.display()))?]
            }
            (Version::One, Version::One) => vec![memory, pids],
            _ => return Err("memory and pids are controllers of different versions".to_owned()),
        };
        let groups = Arc::new(Self { version, parents, bounds, left: Mutex::default() });
        groups.sweep();
        // Rights differ from system to system: it is tried.
        groups.make().map_err(|error| format!("no group can be made in {} ({error})", groups.parents[0].display()))?;
        Ok(groups)
    }

    /// A group for one browser.
    pub(super) fn make(self: &Arc<Self>) -> io::Result<Group> {
        self.lock().retain(|directory| fs::remove_dir(directory).is_err());
        let name = format!("{PREFIX}{}-{}", process::id(), &random_hex()[..12]);
        let mut group = Group { groups: Arc::clone(self), directories: Vec::new(), entries: Vec::new() };
        for parent in &self.parents {
            let directory = parent.join(&name);
            fs::create_dir(&directory)?;
            group.directories.push(directory);
        }
        let Bounds { memory, tasks } = self.bounds;
        group.bound(if self.version == Version::Two { "memory.max" } else { "memory.limit_in_bytes" }, memory)?;
        group.bound("pids.max", tasks)?;
        if self.version == Version::Two {
            // What goes to disk is not bounded by memory. Kernels without swap have no such file.
            let _absent = fs::write(group.directories[0].join("memory.swap.max"), "0");
        }
        for directory in &group.directories {
            group.entries.push(File::options().write(true).open(directory.join("cgroup.procs"))?);
        }
        Ok(group)
    }

    fn sweep(&self) {
        for parent in &self.parents {
            for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
                let name = entry.file_name();
                let maker = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
                if maker.is_some_and(|maker| !Path::new("/proc").join(maker).exists()) {
                    // One that still has processes is another's in spite of its name.
                    let _busy = fs::remove_dir(entry.path());
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The group of one browser, of which nothing is left when this goes: the browser has been ended before.
#[derive(Debug)]
pub(super) struct Group {
    groups: Arc<Groups>,
    directories: Vec<PathBuf>,
    /// Whoever writes `0` here enters.
    entries: Vec<File>,
}

impl Group {
    fn bound(&self, file: &str, most: u64) -> io::Result<()> {
        let files = self.directories.iter().map(|directory| directory.join(file));
        let file = files.into_iter().find(|file| file.exists()).ok_or(io::ErrorKind::NotFound)?;
        fs::write(file, most.to_string())
    }

    /// Ways in, for a process that is about to become the browser.
    pub(super) fn entries(&self) -> io::Result<Vec<File>> {
        self.entries.iter().map(File::try_clone).collect()
    }

    /// How many of its processes the kernel has ended because there was no more memory for them.
    pub(super) fn killed(&self) -> u64 {
        let file = if self.groups.version == Version::Two { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.directories[0].join(file)).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or_default()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let left = self.directories.drain(..).filter(|directory| fs::remove_dir(directory).is_err());
        self.groups.lock().extend(left);
    }
}

/// Lets a process enter, before it becomes something else. It takes no lock and allocates nothing.
///
/// # Errors
/// When the group is full or gone.
pub(super) fn enter(entries: &[File]) -> io::Result<()> {
    entries.iter().try_for_each(|mut entry| entry.write_all(b"0"))
}

/// Version 2: has our group bound those below it, and answers it. No process may be in such a group, so we go below ourselves.
fn delegated(own: &Path) -> io::Result<PathBuf> {
    // Where we have gone before.
    if own.ends_with(BELOW)
        && let Some(above) = own.parent()
    {
        return Ok(above.to_owned());
    }
    let control = own.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&control)?;
    if ["memory", "pids"].iter().all(|controller| enabled.split_whitespace().any(|enabled| enabled == *controller)) {
        return Ok(own.to_owned());
    }
    let below = own.join(BELOW);
    if let Err(error) = fs::create_dir(&below)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    fs::write(below.join("cgroup.procs"), "0")?;
    // Somebody else may be in it still.
    let bound = fs::write(&control, "+memory +pids").inspect_err(|_refused| {
        let _back = fs::write(own.join("cgroup.procs"), "0");
        let _gone = fs::remove_dir(&below);
    });
    bound.map(|()| own.to_owned())
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread, time::Duration};

    use super::*;

    const BOUNDS: Bounds = Bounds { memory: 64 << 20, tasks: 32 };

    /// Groups of this machine, for those who may make some.
    fn claimed() -> Option<Arc<Groups>> {
        Groups::claim(BOUNDS).inspect_err(|why| eprintln!("nothing is shown: {why}")).ok()
    }

    /// Runs a script in the group.
    fn run(group: &Group, script: &str) -> process::Output {
        let join = |directory: &PathBuf| format!("echo $$ >{}/cgroup.procs;", directory.display());
        let entering: String = group.directories.iter().map(join).collect();
        Command::new("sh").arg("-c").arg(format!("{entering} {script}")).output().unwrap()
    }

    #[test]
    fn a_group_bounds_memory_and_tasks_and_leaves_nothing() {
        let Some(groups) = claimed() else { return };
        let group = groups.make().unwrap();
        let directories = group.directories.clone();
        assert!(run(&group, "true").status.success());
        let grown = run(&group, "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}");
        assert!(!grown.status.success() && group.killed() > 0, "{grown:?}");
        let forked = run(&group, "for i in $(seq 100); do sleep 1 & done; echo $(jobs -p | wc -l); wait");
        let many: u64 = String::from_utf8_lossy(&forked.stdout).trim().parse().unwrap_or_default();
        assert!(many < BOUNDS.tasks, "{forked:?}");
        drop(group);
        // Its last processes may still be ending; whoever makes the next one looks again.
        let gone = || {
            thread::sleep(Duration::from_millis(20));
            drop(groups.make().unwrap());
            !directories.iter().any(|directory| directory.exists())
        };
        assert!((0..1500).any(|_try| gone()), "{directories:?}");
    }

    #[test]
    fn who_claims_again_gets_the_same() {
        let Some(groups) = claimed() else { return };
        assert_eq!(claimed().unwrap().parents, groups.parents);
    }

    #[test]
    fn what_ended_daemons_have_left_is_removed() {
        let Some(groups) = claimed() else { return };
        // The number of no process.
        let left = groups.parents[0].join(format!("{PREFIX}{}-7", i32::MAX));
        fs::create_dir(&left).unwrap();
        groups.sweep();
        assert!(!left.exists());
    }
}
