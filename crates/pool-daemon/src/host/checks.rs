//! What will not work on this machine, said before the start: each with the way to mend it.
//!
//! Reading the machine and judging what was read are apart: the judgements are plain functions.

use std::{fs, io, path::Path, thread::available_parallelism};

use browserfleet_common::size::{GIB, MIB, Size};
use nix::{
    sys::{
        resource::{Resource, getrlimit},
        statvfs::statvfs,
    },
    unistd::geteuid,
};

use super::cgroup::{Limits, Usage};
use crate::{
    chromium::{self, Demand, InstanceDir, MIN_FREE_DISK, SMALL_SHM, is_headless_shell, version},
    config::Config,
};

/// The oldest Chromium we start. From this one on the old headless mode exists only as the headless shell, which is a
/// program of its own: the two builds take the flags that we give them. Older ones have had no security fixes for long.
pub const MIN_VERSION: u32 = 132;
/// What a browser with an ordinary page takes, of either build: measured with one to four running.
const HEADLESS_SHELL_MEMORY: u64 = 200 * MIB;
const FULL_MEMORY: u64 = 400 * MIB;
/// What the daemon itself takes under load.
const DAEMON_MEMORY: u64 = 64 * MIB;
/// Processes and threads of a browser with an ordinary page, of the larger build.
const BROWSER_TASKS: u64 = 200;
/// Threads of the daemon: a core each, and those for blocking work.
const DAEMON_TASKS: u64 = 64;
/// Descriptors of the daemon: for each browser its pipes and what is read in `/proc`; listeners and connections.
const BROWSER_FILES: u64 = 8;
const DAEMON_FILES: u64 = 128;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// It works, but somebody should know.
    Warning {
        fix: String,
    },
    /// It will not work.
    Problem {
        fix: String,
    },
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    /// What there is, for people.
    pub text: String,
}

impl Check {
    pub fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, text: text.into() }
    }

    pub fn warning(name: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warning { fix: fix.into() }, text: text.into() }
    }

    pub fn problem(name: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Problem { fix: fix.into() }, text: text.into() }
    }
}

/// Looks at everything that takes no more than a moment. Blocks for about a tenth of a second.
pub fn at_start(config: &Config) -> Vec<Check> {
    let (chromium, browsers) = (&config.chromium, config.limits.max_browsers as u64);
    let limits = Limits::of_this_process();
    let mut checks = Vec::new();
    // An executable that was not found is reported with the settings.
    if !chromium.executable.as_os_str().is_empty() {
        checks.push(executable(&chromium.executable, version::ask(&chromium.executable)));
        checks.push(sandbox(&Sandbox::of_this_machine(chromium), chromium.no_sandbox));
    }
    if chromium.network_namespace != Demand::Off {
        checks.push(network(chromium.network_namespace, chromium.try_network_namespace()));
    }
    let each = if is_headless_shell(&chromium.executable) { HEADLESS_SHELL_MEMORY } else { FULL_MEMORY };
    checks.push(shared_memory(statvfs("/dev/shm").ok().map(|shm| shm.blocks().saturating_mul(shm.fragment_size()))));
    checks.push(memory(limits.memory_limit(), browsers, each));
    checks.push(processors(available_parallelism().map_or(1, std::num::NonZero::get) as u64, browsers));
    checks.push(files(getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft), browsers));
    checks.push(tasks(limits.tasks(), browsers));
    checks.push(user_tasks(getrlimit(Resource::RLIMIT_NPROC).map_or(u64::MAX, |(soft, _)| soft), browsers));
    checks.push(state_directory(&chromium.state_dir));
    if geteuid().is_root() {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (status, map, users) = (read("/proc/self/status"), read("/proc/self/uid_map"), read("/etc/passwd"));
        checks.push(users_of_browsers(&status, &map, &users, u64::from(chromium.uid_base), browsers));
    }
    checks
}

/// The lines of a refusal to start: every problem, with its fix.
pub fn problems(checks: &[Check]) -> Vec<String> {
    let line = |check: &Check| match &check.verdict {
        Verdict::Problem { fix } => Some(format!("{}: {}; {fix}", check.name, check.text)),
        _ => None,
    };
    checks.iter().filter_map(line).collect()
}

/// Logs what works, but not well.
pub fn log_warnings(checks: &[Check]) {
    for check in checks {
        if let Verdict::Warning { fix } = &check.verdict {
            tracing::warn!(check = check.name, fix, "{}", check.text);
        }
    }
}

fn executable(path: &Path, version: Result<version::Version, version::VersionError>) -> Check {
    let name = "chromium";
    let path = path.display();
    match version {
        Ok(version) if version.major < MIN_VERSION => Check::problem(
            name,
            format!("{path} is version {}, and {MIN_VERSION} is the oldest that is supported", version.text),
            "update it, or name another executable with --chromium",
        ),
        Ok(version) => Check::ok(name, format!("{path}, version {}", version.text)),
        Err(error) => Check::problem(
            name,
            format!("{path} does not tell its version: {error}"),
            "reinstall it, or name another executable with --chromium",
        ),
    }
}

/// What there is of ways to a sandbox.
#[derive(Clone, Debug)]
struct Sandbox {
    /// What came of trying; the rest tells why it failed.
    tried: Result<(), String>,
    /// `user.max_user_namespaces`.
    namespaces: Option<u64>,
    /// `kernel.unprivileged_userns_clone`, of Debian's kernels.
    clone: Option<u64>,
    /// `kernel.apparmor_restrict_unprivileged_userns`, of Ubuntu's.
    restricted: Option<u64>,
    /// A helper with the set-user-id bit beside the executable does without namespaces.
    helper: bool,
}

impl Sandbox {
    fn of_this_machine(chromium: &chromium::Config) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let read = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok();
        let helper = fs::metadata(chromium.executable.with_file_name("chrome-sandbox"));
        Self {
            tried: chromium.try_sandbox().map_err(|error| error.to_string()),
            namespaces: read("user/max_user_namespaces"),
            clone: read("kernel/unprivileged_userns_clone"),
            restricted: read("kernel/apparmor_restrict_unprivileged_userns"),
            helper: helper.is_ok_and(|file| file.uid() == 0 && file.mode() & 0o4001 == 0o4001),
        }
    }
}

fn sandbox(sandbox: &Sandbox, given_up: bool) -> Check {
    let name = "sandbox";
    if given_up {
        let text = "off (unsafe.no_sandbox): a page that breaks out of its renderer has the browser's rights";
        return Check::warning(name, text, "remove unsafe.no_sandbox");
    }
    if sandbox.helper {
        return Check::ok(name, "possible through the set-user-id helper beside the executable");
    }
    for (value, setting, needed) in [
        (sandbox.namespaces, "user.max_user_namespaces", "15000"),
        (sandbox.clone, "kernel.unprivileged_userns_clone", "1"),
    ] {
        if value == Some(0) {
            return Check::problem(
                name,
                format!("not possible: {setting} is 0, and the sandbox needs user namespaces"),
                format!("run sysctl -w {setting}={needed}, in a container on its host"),
            );
        }
    }
    if sandbox.restricted == Some(1) {
        return Check::warning(
            name,
            "AppArmor may refuse user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)",
            "if browsers do not start, give the executable an AppArmor profile with userns, or set it to 0",
        );
    }
    match &sandbox.tried {
        Ok(()) => Check::ok(name, "user namespaces are allowed"),
        Err(why) => Check::problem(
            name,
            format!("not possible: a process of ours gets no user namespace ({why})"),
            "allow them; in a container with a seccomp profile such as deploy/seccomp/chromium.json",
        ),
    }
}

/// Whether browsers get networks of their own.
fn network(demand: Demand, tried: Result<(), String>) -> Check {
    let name = "network";
    match tried {
        Ok(()) => Check::ok(name, "each browser has one of its own"),
        Err(why) if demand == Demand::Required => Check::problem(
            name,
            format!("browsers cannot have one each: {why}"),
            "allow it to this program, or let them use the machine's where they cannot: browser.network_namespace = \"auto\"",
        ),
        Err(why) => Check::warning(
            name,
            format!("browsers use the machine's: {why}"),
            "allow user namespaces to this program, or accept it: browser.network_namespace = \"off\"",
        ),
    }
}

fn shared_memory(bytes: Option<u64>) -> Check {
    let name = "/dev/shm";
    match bytes {
        Some(bytes) if bytes >= SMALL_SHM => Check::ok(name, Size(bytes).to_string()),
        small => Check::warning(
            name,
            format!(
                "{}: browsers get --disable-dev-shm-usage and use their profile's disk, which is slower",
                small.map_or_else(|| "missing".to_owned(), |bytes| format!("{} only", Size(bytes)))
            ),
            format!("give it {} or more (in a container: --shm-size)", Size(SMALL_SHM)),
        ),
    }
}

fn memory(limit: Option<u64>, browsers: u64, each: u64) -> Check {
    let name = "memory";
    let Some(limit) = limit else { return Check::warning(name, "cannot be read", "mount /proc") };
    let (needed, fit) = (DAEMON_MEMORY + browsers * each, limit.saturating_sub(DAEMON_MEMORY) / each);
    let text = format!("{} for {browsers} browsers of about {} each", Size(limit), Size(each));
    if needed <= limit {
        return Check::ok(name, format!("{text}; {fit} would fit"));
    }
    let fix = match fit {
        0 => "raise the limit: not one browser fits".to_owned(),
        fit => format!("set pool.max_browsers to {fit} at most, or raise the limit"),
    };
    Check::problem(name, text, fix)
}

fn processors(cores: u64, browsers: u64) -> Check {
    let name = "processors";
    let text = format!("{cores} for {browsers} browsers");
    if browsers <= cores * 16 {
        return Check::ok(name, text);
    }
    Check::warning(name, text, format!("expect slow pages above {} browsers that are in use", cores * 16))
}

fn files(limit: u64, browsers: u64) -> Check {
    let needed = DAEMON_FILES + browsers * BROWSER_FILES;
    if limit >= needed {
        return Check::ok("open files", format!("{}, {needed} are needed", shown(limit)));
    }
    let fix = format!("run ulimit -n {needed} (systemd: LimitNOFILE), or lower pool.max_browsers");
    Check::problem("open files", format!("{limit} are allowed, {needed} are needed"), fix)
}

fn tasks(usage: Option<Usage>, browsers: u64) -> Check {
    let name = "tasks";
    let needed = DAEMON_TASKS + browsers * BROWSER_TASKS;
    let Some(Usage { used, limit }) = usage else { return Check::ok(name, "no limit of a control group") };
    let left = limit.saturating_sub(used);
    if left >= needed {
        return Check::ok(name, format!("{left} processes and threads are left, {needed} are needed"));
    }
    let fit = left.saturating_sub(DAEMON_TASKS) / BROWSER_TASKS;
    Check::problem(
        name,
        format!("{left} of {limit} processes and threads are left, {browsers} browsers need {needed}"),
        format!("raise the limit (container: --pids-limit, systemd: TasksMax), or set pool.max_browsers to {fit}"),
    )
}

/// `RLIMIT_NPROC` counts per user. As root every browser has one of its own.
fn user_tasks(limit: u64, browsers: u64) -> Check {
    let name = "user's tasks";
    let needed = if geteuid().is_root() { BROWSER_TASKS } else { DAEMON_TASKS + browsers * BROWSER_TASKS };
    if limit >= needed {
        return Check::ok(name, format!("{}, {needed} are needed", shown(limit)));
    }
    let fix = format!("run ulimit -u {needed} (systemd: LimitNPROC), or lower pool.max_browsers");
    Check::problem(name, format!("{limit} processes and threads are allowed, {needed} are needed"), fix)
}

fn shown(limit: u64) -> String {
    // The kernel's "unlimited" is the largest number there is.
    if limit > GIB { "no limit".to_owned() } else { limit.to_string() }
}

/// Makes a directory as the daemon will, and removes it again.
fn state_directory(path: &Path) -> Check {
    let name = "state directory";
    match InstanceDir::create(path) {
        Ok(instance) => disk(path, instance.free_disk()),
        Err(error) => Check::problem(name, chromium::chain(&error), "choose another one with browser.state_dir"),
    }
}

fn disk(path: &Path, free: io::Result<u64>) -> Check {
    let name = "state directory";
    let path = path.display();
    match free {
        Ok(free) if free < MIN_FREE_DISK => Check::problem(
            name,
            format!("{path} has {} left, browsers start with {} only", Size(free), Size(MIN_FREE_DISK)),
            "free some space, or choose another one with browser.state_dir",
        ),
        Ok(free) => Check::ok(name, format!("{path}, writable, {} left", Size(free))),
        Err(error) => Check::warning(name, format!("free space of {path} cannot be read: {error}"), "check the disk"),
    }
}

/// As root: may we become the browsers' users, are they in our user namespace, and are they nobody else's?
fn users_of_browsers(status: &str, map: &str, passwd: &str, base: u64, browsers: u64) -> Check {
    let name = "browsers' users";
    let last = base + browsers - 1;
    let range = format!("{base} to {last}");
    // CAP_SETGID is bit 6, CAP_SETUID bit 7.
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(u64::MAX);
    if capabilities & 0b1100_0000 != 0b1100_0000 {
        return Check::problem(
            name,
            "running as root without CAP_SETUID and CAP_SETGID: browsers cannot get users of their own",
            "add both capabilities, or run as an unprivileged user",
        );
    }
    let mapped = |id: u64| {
        map.lines().any(|line| {
            let mut fields = line.split_whitespace().map(|field| field.parse::<u64>().unwrap_or_default());
            let (first, _outside, length) = (fields.next(), fields.next(), fields.next());
            first.zip(length).is_some_and(|(first, length)| (first..first.saturating_add(length)).contains(&id))
        })
    };
    let usable = map.is_empty() || mapped(base) && mapped(last);
    if !usable {
        return Check::problem(
            name,
            format!("{range} are not in this user namespace"),
            "choose ids of /proc/self/uid_map with browser.uid_base, or run as an unprivileged user",
        );
    }
    let of_somebody = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (user, id) = (fields.next()?, fields.nth(1)?.parse::<u64>().ok()?);
        (base..=last).contains(&id).then_some(user)
    });
    match of_somebody {
        Some(user) => Check::warning(
            name,
            format!("{range}, of which one belongs to {user}"),
            "choose unused ids with browser.uid_base: pages that break out would have that user's rights",
        ),
        None => Check::ok(name, range),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(check: &Check) -> String {
        match &check.verdict {
            Verdict::Ok => format!("ok: {}", check.text),
            Verdict::Warning { fix } => format!("warning: {} -> {fix}", check.text),
            Verdict::Problem { fix } => format!("problem: {} -> {fix}", check.text),
        }
    }

    fn assert_all(checks: &[(Check, &str, &str)]) {
        for (check, kind, word) in checks {
            let words = words(check);
            assert!(words.starts_with(kind) && words.contains(word), "{kind} with {word:?}: {words}");
        }
    }

    #[test]
    fn versions_below_the_floor_are_refused() {
        let path = Path::new("/opt/chrome");
        let of = |text: &str| executable(path, version::parse(text));
        assert_all(&[
            (of("Chromium 131.9.1.2"), "problem", "/opt/chrome is version 131.9.1.2, and 132 is the oldest"),
            (of("Google Chrome 132.0.0.0 "), "ok", "version 132.0.0.0"),
            (of("Welcome"), "problem", "does not tell its version"),
        ]);
    }

    #[test]
    fn a_missing_sandbox_names_the_setting() {
        let allowed =
            || Sandbox { tried: Ok(()), namespaces: Some(96_365), clone: None, restricted: None, helper: false };
        let refused = || Sandbox { tried: Err("EPERM: Operation not permitted".to_owned()), ..allowed() };
        let none = || Sandbox { namespaces: Some(0), ..refused() };
        assert_all(&[
            (sandbox(&allowed(), false), "ok", "allowed"),
            (sandbox(&allowed(), true), "warning", "unsafe.no_sandbox"),
            (
                sandbox(&refused(), false),
                "problem",
                "(EPERM: Operation not permitted) -> allow them; in a container with a seccomp profile",
            ),
            (sandbox(&none(), false), "problem", "sysctl -w user.max_user_namespaces="),
            (sandbox(&Sandbox { clone: Some(0), ..refused() }, false), "problem", "kernel.unprivileged_userns_clone=1"),
            (sandbox(&Sandbox { restricted: Some(1), ..refused() }, false), "warning", "AppArmor"),
            (sandbox(&Sandbox { helper: true, ..none() }, false), "ok", "helper"),
        ]);
    }

    #[test]
    fn a_machine_where_browsers_cannot_have_a_network_each_is_one_to_know_of() {
        let cannot = || Err("user namespaces are not allowed (EPERM)".to_owned());
        assert_all(&[
            (network(Demand::Auto, Ok(())), "ok", "each browser has one of its own"),
            (network(Demand::Auto, cannot()), "warning", "browser.network_namespace = \"off\""),
            (network(Demand::Required, cannot()), "problem", "user namespaces are not allowed (EPERM) -> allow it"),
        ]);
    }

    #[test]
    fn memory_says_how_many_browsers_fit() {
        assert_all(&[
            (memory(Some(4 * GIB), 5, 200 * MIB), "ok", "20 would fit"),
            (memory(Some(GIB), 5, 200 * MIB), "problem", "set pool.max_browsers to 4 at most"),
            (memory(Some(100 * MIB), 1, 200 * MIB), "problem", "not one browser fits"),
            (memory(Some(64 * MIB + 200 * MIB), 1, 200 * MIB), "ok", "1 would fit"),
            (memory(None, 1, 200 * MIB), "warning", "cannot be read"),
        ]);
    }

    #[test]
    fn limits_are_held_against_the_browsers() {
        let usage = |used, limit| Some(Usage { used, limit });
        assert_all(&[
            (files(1024, 5), "ok", "168 are needed"),
            (files(100, 5), "problem", "ulimit -n 168"),
            (tasks(None, 5), "ok", "no limit"),
            (tasks(usage(10, 5000), 5), "ok", "4990"),
            (tasks(usage(10, 512), 5), "problem", "set pool.max_browsers to 2"),
            (user_tasks(u64::MAX, 5), "ok", "no limit"),
            (user_tasks(100, 5), "problem", "ulimit -u"),
            (processors(2, 32), "ok", "2 for 32"),
            (processors(2, 33), "warning", "slow"),
        ]);
    }

    #[test]
    fn small_shared_memory_is_said_with_its_consequence() {
        assert_all(&[
            (shared_memory(Some(GIB)), "ok", "1 GiB"),
            (shared_memory(Some(64 * MIB)), "warning", "64 MiB only: browsers get --disable-dev-shm-usage"),
            (shared_memory(None), "warning", "missing"),
        ]);
    }

    #[test]
    fn a_full_or_unusable_disk_is_refused() {
        let path = Path::new("/state");
        assert_all(&[
            (disk(path, Ok(MIN_FREE_DISK)), "ok", "512 MiB left"),
            (disk(path, Ok(MIN_FREE_DISK - 1)), "problem", "browsers start with 512 MiB only"),
            (disk(path, Err(io::ErrorKind::NotFound.into())), "warning", "cannot be read"),
            (state_directory(Path::new("/proc/nowhere")), "problem", "/proc/nowhere"),
        ]);
    }

    #[test]
    fn users_must_be_ours_to_become() {
        let capable = "Name:\tx\nCapEff:\t000001ffffffffff\n";
        let whole = "         0          0 4294967295\n";
        let of = |status: &str, map: &str, passwd: &str| users_of_browsers(status, map, passwd, 61_000, 5);
        assert_all(&[
            (of(capable, whole, "root:x:0:0::/root:/bin/sh\n"), "ok", "61000 to 61004"),
            (of("CapEff:\t0000000000000040\n", whole, ""), "problem", "CAP_SETUID"),
            (of(capable, "0 1000 1\n1 100000 61000\n", ""), "problem", "not in this user namespace"),
            (of(capable, "0 1000 1\n1 100000 65536\n", ""), "ok", "61000"),
            (of(capable, whole, "backup:x:61004:61004::/:/bin/sh\n"), "warning", "belongs to backup"),
        ]);
    }

    #[test]
    fn a_refusal_has_every_problem_with_its_fix() {
        let checks = [files(1, 5), files(u64::MAX, 5), memory(Some(1), 5, MIB), shared_memory(None)];
        let problems = problems(&checks);
        assert_eq!(problems.len(), 2);
        assert!(
            problems[0].starts_with("open files: 1 are allowed, 168 are needed; run ulimit -n 168"),
            "{problems:?}"
        );
    }
}
