//! How much memory a browser takes: all processes of its group.
//!
//! Shares of shared pages (PSS) are what counts, and what costs: the kernel walks every page for them. So [`Scale`] asks for
//! them when they can matter, and in between counts by how much each process has grown, which is read from a number.

use std::{
    collections::HashMap,
    fs,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use browserfleet_common::metrics::metrics;
use nix::unistd::{SysconfVar, sysconf};
use tokio::time::{Duration, Instant};

use crate::chromium::Census;

/// How long one reading of the process table serves. Every browser is measured every two seconds: one reading for all.
const FRESH: Duration = Duration::from_secs(1);

/// After this who there is is counted even if no browser is measured. A thread for blocking work that is needed more often than
/// every ten seconds would never end.
const STALE: Duration = Duration::from_secs(15);

/// For how long growth is counted before the shares are read again: they also change by what other processes do.
const COUNTED: Duration = Duration::from_secs(30);

/// Measures one process group again and again.
#[derive(Debug)]
pub struct Scale {
    meter: Arc<Meter>,
    leader: u32,
    /// From this many bytes on every measure is exact.
    exact_from: u64,
    last: Mutex<Option<Weighed>>,
}

/// An exact measure, and what the processes had resident then.
#[derive(Debug)]
struct Weighed {
    at: Instant,
    bytes: u64,
    resident: HashMap<u32, u64>,
}

impl Scale {
    /// For the group of `leader`, with the limit that it has to hold to: from half of that on every measure is exact.
    pub fn new(meter: Arc<Meter>, leader: u32, limit: u64) -> Self {
        Self { meter, leader, exact_from: limit / 2, last: Mutex::default() }
    }

    /// The memory of the group in bytes, by its own doing never less than it is: exact, or the last exact measure and all
    /// growth since. `None` when the group has no process that can be read. Blocks for milliseconds.
    pub fn weigh(&self) -> Option<u64> {
        let pids = self.meter.members(self.leader)?;
        let resident: HashMap<u32, u64> = pids.iter().filter_map(|pid| Some((*pid, resident(*pid)?))).collect();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = last.as_ref().filter(|last| last.at.elapsed() < COUNTED).map(|last| last.grown_to(&resident));
        if let Some(bytes) = counted.filter(|bytes| *bytes < self.exact_from) {
            return Some(bytes);
        }
        let bytes = exact(&pids)?;
        *last = Some(Weighed { at: Instant::now(), bytes, resident });
        Some(bytes)
    }
}

impl Weighed {
    /// What it is at most, with what is resident now: a process has at least its own share resident, so none has grown by
    /// more than that, and what others have given up is not counted against it.
    fn grown_to(&self, resident: &HashMap<u32, u64>) -> u64 {
        let grown = |(pid, now): (&u32, &u64)| now.saturating_sub(self.resident.get(pid).copied().unwrap_or_default());
        resident.iter().map(grown).fold(self.bytes, u64::saturating_add)
    }
}

/// Measures process groups. One for a daemon.
#[derive(Debug, Default)]
pub struct Meter {
    /// Who is in which group. Held while it is read again: whoever comes meanwhile wants the same.
    census: Mutex<Option<(Instant, Census)>>,
}

impl Meter {
    /// The memory of a process group in bytes; `None` when it has no process that can be read. Blocks for milliseconds.
    pub fn group(&self, leader: u32) -> Option<u64> {
        exact(&self.members(leader)?)
    }

    /// Whether nobody has counted for a while. Does not block.
    pub fn is_stale(&self) -> bool {
        // Where it is held somebody counts just now.
        let census = self.census.try_lock();
        census.is_ok_and(|census| census.as_ref().is_none_or(|(at, _)| at.elapsed() >= STALE))
    }

    /// Counts who there is, and shows it in metrics. Blocks for milliseconds.
    pub fn count(&self) {
        self.with_census(|_| ());
    }

    fn members(&self, leader: u32) -> Option<Vec<u32>> {
        self.with_census(|census| census.groups.get(&leader).cloned())
    }

    fn with_census<T>(&self, read: impl FnOnce(&Census) -> T) -> T {
        let mut census = self.census.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = census.take().filter(|(at, _)| at.elapsed() < FRESH);
        let (_, now) = census.insert(kept.unwrap_or_else(|| {
            let now = Census::take();
            metrics().processes.set("live", now.children);
            metrics().processes.set("zombie", now.zombies);
            (Instant::now(), now)
        }));
        read(now)
    }
}

fn exact(pids: &[u32]) -> Option<u64> {
    pids.iter().filter_map(|pid| of_process(*pid)).reduce(u64::saturating_add)
}

/// What a process has in memory, shared or not.
fn resident(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages = text.split_whitespace().nth(1)?.parse::<u64>().ok()?;
    pages.checked_mul(page_size())
}

fn page_size() -> u64 {
    static SIZE: LazyLock<u64> = LazyLock::new(|| {
        let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        size.and_then(|size| u64::try_from(size).ok()).expect("every Linux says how large a page is")
    });
    *SIZE
}

/// A process's share: memory that n processes use together counts 1/n. Where the kernel does not show that to us (it
/// protects other users' processes and sandboxed ones), what the process has for itself.
fn of_process(pid: u32) -> Option<u64> {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    let share = read("smaps_rollup").and_then(|text| kibibytes(&text, "Pss"));
    share.or_else(|| read("status").and_then(|text| kibibytes(&text, "RssAnon")))
}

/// The bytes of a line such as `Pss:   1234 kB`.
pub(super) fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_tables_are_read() {
        let rollup = "5581a000-7ffe [rollup]\nRss:      100 kB\nPss:       64 kB\nPss_Anon:   10 kB\n";
        assert_eq!(kibibytes(rollup, "Pss"), Some(64 * 1024));
        let status = "Name:\tchrome\nVmRSS:\t  900 kB\nRssAnon:\t     500 kB\nRssFile:\t 400 kB\n";
        assert_eq!(kibibytes(status, "RssAnon"), Some(500 * 1024));
        for (text, key) in [("", "Pss"), ("Pss: many kB", "Pss"), ("Pss: 1", "Pss"), ("Threads:\t1\n", "RssAnon")] {
            assert_eq!(kibibytes(text, key), None, "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_group_takes_what_its_processes_take() {
        let group = u32::try_from(nix::unistd::getpgrp().as_raw()).unwrap();
        let before = Meter::default().group(group).unwrap();
        let ballast = vec![1_u8; 64 << 20];
        let after = Meter::default().group(group).unwrap();
        assert!(after > before + (40 << 20), "{before} {after}");
        assert_eq!(ballast.iter().step_by(4096).map(|byte| usize::from(*byte)).sum::<usize>(), (64 << 20) / 4096);
        assert_eq!(Meter::default().group(u32::MAX), None);
    }

    fn weighed(bytes: u64, resident: &[(u32, u64)]) -> Weighed {
        Weighed { at: Instant::now(), bytes, resident: resident.iter().copied().collect() }
    }

    #[tokio::test]
    async fn growth_is_counted_and_what_was_given_up_is_not_set_against_it() {
        let last = weighed(100, &[(1, 80), (2, 90)]);
        let grown = |resident: &[(u32, u64)]| last.grown_to(&resident.iter().copied().collect());
        assert_eq!(grown(&[(1, 80), (2, 90)]), 100);
        assert_eq!(
            grown(&[(1, 95), (2, 10)]),
            115,
            "most of what the second one had may have been the first one's, too"
        );
        assert_eq!(grown(&[(1, 80), (3, 70)]), 170, "a new process is new altogether");
    }

    #[tokio::test(start_paused = true)]
    async fn the_shares_are_read_when_they_can_matter_or_are_old() {
        let group = u32::try_from(nix::unistd::getpgrp().as_raw()).unwrap();
        let scale = |limit| Scale::new(Arc::default(), group, limit);
        let exact_at = |scale: &Scale| scale.last.lock().unwrap().as_ref().map(|last| last.at);
        let (far, near) = (scale(u64::MAX), scale(1));
        let bytes = far.weigh().unwrap();
        near.weigh().unwrap();
        let (first, first_near) = (exact_at(&far), exact_at(&near));
        tokio::time::advance(COUNTED / 2).await;
        let ballast = vec![1_u8; 64 << 20];
        assert!(far.weigh().unwrap() > bytes + (40 << 20), "growth is seen at once");
        assert_eq!(ballast.iter().step_by(4096).map(|byte| usize::from(*byte)).sum::<usize>(), (64 << 20) / 4096);
        near.weigh().unwrap();
        assert!(exact_at(&far) == first && exact_at(&near) > first_near);
        tokio::time::advance(COUNTED / 2).await;
        far.weigh().unwrap();
        assert!(exact_at(&far) > first);
        assert_eq!(Scale::new(Arc::default(), u32::MAX, 1).weigh(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_process_table_is_read_once_for_all() {
        let meter = Meter::default();
        assert_eq!(meter.group(u32::MAX), None);
        let read = |meter: &Meter| meter.census.lock().unwrap().as_ref().map(|(at, _)| *at);
        let first = read(&meter);
        assert!(!meter.is_stale() && Meter::default().is_stale());
        tokio::time::advance(FRESH / 2).await;
        meter.group(u32::MAX);
        assert_eq!(read(&meter), first);
        tokio::time::advance(FRESH).await;
        meter.group(u32::MAX);
        assert_ne!(read(&meter), first);
        tokio::time::advance(STALE).await;
        assert!(meter.is_stale(), "no browser is measured any more");
        meter.count();
        assert!(!meter.is_stale());
    }
}
