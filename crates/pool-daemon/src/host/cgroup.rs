//! The limits of the control groups we run in, version 1 and 2, and of the machine around them.
//!
//! Texts in, numbers out; only [`Limits`] reads files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::memory::kibibytes;

/// What is used of something that is limited, in bytes or in tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub used: u64,
    pub limit: u64,
}

impl Usage {
    /// How much of the limit is used, in percent.
    pub fn percent(&self) -> u64 {
        u64::try_from(u128::from(self.used) * 100 / u128::from(self.limit.max(1))).unwrap_or(u64::MAX)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

/// The directories of a controller: our group's, then each above it, because every one of them may have a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Controller {
    version: Version,
    directories: Vec<PathBuf>,
}

/// Where our limits are.
#[derive(Clone, Debug)]
pub struct Limits {
    memory: Option<Controller>,
    pids: Option<Controller>,
    cpu: Option<Controller>,
}

impl Limits {
    /// Looks up the groups of this process.
    pub fn of_this_process() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (groups, mounts) = (read("/proc/self/cgroup"), read("/proc/self/mountinfo"));
        let find = |name: &str| controller(&groups, &mounts, name);
        Self { memory: find("memory"), pids: find("pids"), cpu: find("cpu") }
    }

    /// The memory that is shortest, of the groups and the machine; `None` when nothing can be read.
    pub fn memory(&self) -> Option<Usage> {
        let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| machine_memory(&text));
        let groups = self.memory.iter().flat_map(|controller| {
            controller.directories.iter().filter_map(|directory| group_memory(controller.version, directory))
        });
        groups.chain(machine).max_by_key(|usage| (usage.percent(), usage.used))
    }

    /// The smallest of all limits of memory, in bytes.
    pub fn memory_limit(&self) -> Option<u64> {
        let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| machine_memory(&text));
        let groups = self.memory.iter().flat_map(|controller| {
            controller.directories.iter().filter_map(|directory| group_memory(controller.version, directory))
        });
        groups.chain(machine).map(|usage| usage.limit).min()
    }

    /// Processes and threads in the group that has the fewest left; `None` without a limit.
    pub fn tasks(&self) -> Option<Usage> {
        let directories = self.pids.iter().flat_map(|controller| &controller.directories);
        let usage = |directory: &PathBuf| {
            let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
            Some(Usage { limit: number(&read("pids.max")?)?, used: number(&read("pids.current")?)? })
        };
        directories.filter_map(usage).min_by_key(|usage| usage.limit.saturating_sub(usage.used))
    }

    /// Percent of the last ten seconds in which some task of ours (or, without groups of version 2, of the machine) had
    /// to wait for a processor.
    pub fn cpu_pressure(&self) -> Option<f64> {
        let group = self.cpu.iter().find(|controller| controller.version == Version::Two);
        let group = group.and_then(|controller| controller.directories.first());
        let read = |path: &Path| fs::read_to_string(path).ok().and_then(|text| some_avg10(&text));
        group.and_then(|directory| read(&directory.join("cpu.pressure"))).or_else(|| {
            read(Path::new("/proc/pressure/cpu")).or_else(|| {
                let load = fs::read_to_string("/proc/loadavg").ok()?;
                let cores = std::thread::available_parallelism().ok()?.get();
                waiting_share(&load, u32::try_from(cores).ok()?)
            })
        })
    }
}

/// The version of a controller, and the directory of our own group.
pub(crate) fn own_group(name: &str) -> Option<(Version, PathBuf)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let controller = controller(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"), name)?;
    Some((controller.version, controller.directories.into_iter().next()?))
}

fn group_memory(version: Version, directory: &Path) -> Option<Usage> {
    let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
    match version {
        Version::One => {
            memory_v1(&read("memory.limit_in_bytes")?, &read("memory.usage_in_bytes")?, &read("memory.stat")?)
        }
        Version::Two => memory_v2(&read("memory.max")?, &read("memory.current")?, &read("memory.stat")?),
    }
}

/// Finds a controller: `groups` is `/proc/self/cgroup`, `mounts` is `/proc/self/mountinfo`.
fn controller(groups: &str, mounts: &str, name: &str) -> Option<Controller> {
    let of_version_1 = groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?);
        names.split(',').any(|candidate| candidate == name).then_some(path)
    });
    let (version, path) = match of_version_1 {
        Some(path) => (Version::One, path),
        None => (Version::Two, groups.lines().find_map(|line| line.strip_prefix("0::"))?),
    };
    let (root, place) = mounts.lines().find_map(|line| mount(line, version, name))?;
    // Inside a container the path may be the host's, with only our part of the tree mounted.
    let below = path.strip_prefix(root.trim_end_matches('/')).unwrap_or_default().trim_start_matches('/');
    let place = Path::new(place);
    let leaf = if below.is_empty() || below.contains("..") { place.to_owned() } else { place.join(below) };
    let directories = leaf.ancestors().take_while(|directory| directory.starts_with(place)).map(Path::to_owned);
    Some(Controller { version, directories: directories.collect() })
}

/// Root and place of the mount, if it is the controller's.
fn mount<'a>(line: &'a str, version: Version, name: &str) -> Option<(&'a str, &'a str)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, place) = (mount.next()?, mount.next()?);
    let mut file_system = file_system.split(' ');
    let (kind, options) = (file_system.next()?, file_system.nth(1)?);
    let ours = match version {
        Version::One => kind == "cgroup" && options.split(',').any(|option| option == name),
        Version::Two => kind == "cgroup2",
    };
    ours.then_some((root, place))
}

/// Version 1 writes "no limit" as a number near 2⁶³.
fn memory_v1(limit: &str, usage: &str, stat: &str) -> Option<Usage> {
    let limit = number(limit).filter(|limit| *limit < 1 << 60)?;
    Some(Usage { limit, used: number(usage)?.saturating_sub(statistic(stat, "total_inactive_file")) })
}

/// Version 2 writes it as `max`, which is no number.
fn memory_v2(limit: &str, current: &str, stat: &str) -> Option<Usage> {
    Some(Usage { limit: number(limit)?, used: number(current)?.saturating_sub(statistic(stat, "inactive_file")) })
}

fn machine_memory(meminfo: &str) -> Option<Usage> {
    let (total, available) = (kibibytes(meminfo, "MemTotal")?, kibibytes(meminfo, "MemAvailable")?);
    Some(Usage { limit: total, used: total.saturating_sub(available) })
}

/// Pages of files that nobody has used lately: the kernel takes them back when memory is short, before it kills.
fn statistic(stat: &str, key: &str) -> u64 {
    let value = stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).and_then(number);
    value.unwrap_or_default()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// From a pressure file: `some avg10=1.36 avg60=…`.
fn some_avg10(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    line.split(' ').find_map(|field| field.strip_prefix("avg10="))?.parse().ok()
}

/// Where the kernel keeps no pressure: the share of the last minute's runnable tasks for which there was no core.
fn waiting_share(loadavg: &str, cores: u32) -> Option<f64> {
    let load: f64 = loadavg.split(' ').next()?.parse().ok()?;
    Some(if load > 0.0 { (1.0 - f64::from(cores) / load).max(0.0) * 100.0 } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn directories(groups: &str, mounts: &str, name: &str) -> Vec<String> {
        let found = controller(groups, mounts, name).unwrap();
        found.directories.iter().map(|directory| directory.display().to_string()).collect()
    }

    #[test]
    fn groups_of_version_1_are_found_with_those_above() {
        let groups = "9:memory:/system.slice/pool.service\n4:cpu,cpuacct:/\n0::/system.slice\n";
        let memory =
            ["/system.slice/pool.service", "/system.slice", ""].map(|path| format!("/sys/fs/cgroup/memory{path}"));
        assert_eq!(directories(groups, HYBRID, "memory"), memory);
        assert_eq!(directories(groups, HYBRID, "cpu"), ["/sys/fs/cgroup/cpu,cpuacct"]);
        // Not mounted as version 1: the unified tree has it, if anybody.
        assert_eq!(controller(groups, HYBRID, "pids").unwrap().version, Version::Two);
    }

    #[test]
    fn groups_of_version_2_are_found() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(
            directories("0::/a/b\n", mounts, "memory"),
            ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup"]
        );
        assert_eq!(directories("0::/\n", mounts, "memory"), ["/sys/fs/cgroup"]);
        assert_eq!(controller("", mounts, "memory"), None);
    }

    #[test]
    fn in_a_container_only_our_part_is_mounted() {
        let mounts = "35 31 0:32 /docker/1f /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        assert_eq!(directories("9:memory:/docker/1f\n", mounts, "memory"), ["/sys/fs/cgroup/memory"]);
        assert_eq!(directories("9:memory:/docker/1f/x\n", mounts, "memory").len(), 2);
        // A namespace of its own shows what is outside of it like this.
        assert_eq!(directories("9:memory:/../2e\n", mounts, "memory"), ["/sys/fs/cgroup/memory"]);
    }

    #[test]
    fn memory_is_usage_without_idle_files_of_the_limit() {
        let one = memory_v1("1000\n", "800\n", "cache 500\ninactive_file 1\ntotal_inactive_file 300\n").unwrap();
        assert_eq!((one, one.percent()), (Usage { used: 500, limit: 1000 }, 50));
        let two = memory_v2("1000\n", "930\n", "anon 5\ninactive_file 30\n").unwrap();
        assert_eq!((two, two.percent()), (Usage { used: 900, limit: 1000 }, 90));
        assert_eq!(memory_v1("9223372036854771712\n", "800\n", ""), None);
        assert_eq!(memory_v2("max\n", "800\n", ""), None);
        assert_eq!(memory_v2("1000\n", "10\n", "inactive_file 30\n"), Some(Usage { used: 0, limit: 1000 }));
        assert_eq!(Usage { used: 1, limit: 0 }.percent(), 100);
    }

    #[test]
    fn a_machine_has_what_is_available_left() {
        let meminfo = "MemTotal:       1000 kB\nMemFree:  100 kB\nMemAvailable:    250 kB\n";
        let memory = machine_memory(meminfo).unwrap();
        assert_eq!((memory.percent(), memory.limit), (75, 1000 * 1024));
        assert_eq!(machine_memory("MemTotal: 1000 kB\n"), None);
    }

    #[test]
    fn cpu_pressure_is_read_or_guessed_from_the_load() {
        let text = "some avg10=91.36 avg60=0.61 avg300=0.91 total=59487103\nfull avg10=0.00 avg60=0.00 total=0\n";
        assert_eq!(some_avg10(text), Some(91.36));
        assert_eq!(some_avg10("full avg10=3.00\n"), None);
        for (load, expected) in [("0.00 0 0", 0.0), ("2.00 1 1 1/9 7", 0.0), ("4.00", 50.0), ("20.00", 90.0)] {
            let share = waiting_share(load, 2).unwrap();
            assert!((share - expected).abs() < 0.01, "{load}: {share}");
        }
        assert_eq!(waiting_share("", 2), None);
    }

    #[test]
    fn this_machine_has_memory() {
        let limits = Limits::of_this_process();
        let memory = limits.memory().unwrap();
        assert!(memory.used > 0 && memory.limit >= limits.memory_limit().unwrap(), "{memory:?}");
        assert!(limits.cpu_pressure().is_some_and(|percent| (0.0..=100.0).contains(&percent)));
    }
}
