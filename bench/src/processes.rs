//! Programs that are started, and what the kernel says of them.

use std::{
    collections::HashMap,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
};

use anyhow::{Context as _, bail};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Duration, Instant, sleep},
};

/// Most time for a program to answer on its port.
const START: Duration = Duration::from_secs(30);

/// From SIGTERM to SIGKILL.
const GRACE: Duration = Duration::from_secs(10);

/// How often is looked.
const TICK: Duration = Duration::from_millis(20);

/// A program with everything it has started. It is ended when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    pid: u32,
    log: PathBuf,
}

impl Program {
    /// Starts a program; what it says goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let output = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child =
            command.spawn().with_context(|| format!("cannot start {}", command.as_std().get_program().display()))?;
        let pid = child.id().context("a process that has just started has an id")?;
        Ok(Self { child, pid, log: log.to_owned() })
    }

    /// Waits until it takes connections; fails with its last words when it ends instead.
    pub(crate) async fn serving(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        while TcpStream::connect(address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                let words = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("it ended with {status}: {}", words.trim());
            }
            anyhow::ensure!(Instant::now() < deadline, "it does not listen on {address}");
            sleep(TICK).await;
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Program {
    /// Waits until everything is gone: whoever measures next must have the machine for itself.
    fn drop(&mut self) {
        let family = descendants(self.pid);
        signal(self.pid, Signal::SIGTERM);
        let deadline = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                signal(self.pid, Signal::SIGKILL);
            }
            thread::sleep(TICK);
        }
        end_orphans(&family);
    }
}

/// Kills and reaps what has outlived its parents: we are the reaper of all that are below us.
fn end_orphans(family: &[u32]) {
    let deadline = Instant::now() + GRACE;
    loop {
        let below = descendants(std::process::id());
        let left: Vec<u32> = family.iter().copied().filter(|pid| below.contains(pid)).collect();
        if left.is_empty() || Instant::now() > deadline {
            return;
        }
        for pid in left {
            signal(pid, Signal::SIGKILL);
            // Not ours yet while its parent is ending: the next look finds it.
            let _not_ours = waitpid(as_pid(pid), Some(WaitPidFlag::WNOHANG));
        }
        thread::sleep(TICK);
    }
}

/// Reaps helpers that ended long after their parents, and names what is still running. For the end of the run: every
/// other child has been waited for.
pub(crate) fn left() -> Vec<String> {
    while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {}
    let name = |pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    descendants(std::process::id()).into_iter().map(|pid| format!("{pid} {}", name(pid).trim())).collect()
}

fn signal(pid: u32, signal: Signal) {
    // Gone already is as good.
    let _gone = kill(as_pid(pid), signal);
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(pid.cast_signed())
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Every process below this one.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        if let Some(parent) = parent_of(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut next) = (Vec::new(), vec![root]);
    while let Some(pid) = next.pop() {
        let below = children.remove(&pid).unwrap_or_default();
        found.extend(&below);
        next.extend(below);
    }
    found
}

/// The fields of `/proc/PID/stat` after the name: state, parent, …
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

fn parent_of(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Waits until everything below a process has stopped working, so that nothing half-started is measured.
pub(crate) async fn quiet(root: u32, limit: Duration) {
    let deadline = Instant::now() + limit;
    let (mut last, mut since) = (0, Instant::now());
    while Instant::now() < deadline {
        let ticks: u64 = descendants(root).into_iter().filter_map(cpu_ticks).sum();
        if ticks != last {
            (last, since) = (ticks, Instant::now());
        } else if since.elapsed() > Duration::from_millis(150) && ticks > 0 {
            return;
        }
        sleep(TICK).await;
    }
}

fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = stat(pid)?;
    Some(stat.get(11)?.parse::<u64>().ok()? + stat.get(12)?.parse::<u64>().ok()?)
}

/// The processor time a process has used, in ms. The kernel counts it in steps of 10.
pub(crate) fn cpu_ms(pid: u32) -> Option<f64> {
    Some(f64::from(u32::try_from(cpu_ticks(pid)?).ok()?) * 10.0)
}

/// The resident memory of a process, in MiB.
pub(crate) fn rss_mib(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    kib_field(&text, "VmRSS:")
}

/// The proportional memory of these processes together, in MiB; `None` when the kernel does not tell us, which it tells
/// root only about sandboxed processes.
pub(crate) fn pss_mib(pids: &[u32]) -> Option<f64> {
    let mut sum = 0.0;
    for pid in pids {
        match fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) {
            Ok(text) => sum += kib_field(&text, "Pss:").unwrap_or(0.0),
            // Ended meanwhile.
            Err(_) if !Path::new(&format!("/proc/{pid}")).exists() => {}
            Err(_) => return None,
        }
    }
    Some(sum)
}

fn kib_field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(rest.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_mib() {
        assert_eq!(kib_field("Rss:  1\nPss:     2048 kB\nPss_Anon: 5 kB", "Pss:"), Some(2.0));
        assert_eq!(kib_field("", "Pss:"), None);
    }

    #[tokio::test]
    async fn a_dropped_program_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & wait"]);
        let program = Program::start(&mut command, &directory.path().join("log")).unwrap();
        let pid = program.pid();
        while descendants(pid).is_empty() {
            sleep(TICK).await;
        }
        let below = descendants(pid);
        browserfleet_pool_daemon::chromium::become_subreaper().unwrap();
        drop(program);
        for pid in below.into_iter().chain([pid]) {
            assert!(stat(pid).is_none(), "{pid} is still there");
        }
    }

    #[tokio::test]
    async fn a_program_that_ends_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such setting >&2; exit 78"]);
        let mut program = Program::start(&mut command, &directory.path().join("log")).unwrap();
        let error = program.serving(free_address().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("no such setting"), "{error}");
    }
}
