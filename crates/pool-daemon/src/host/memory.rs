//! How much memory a browser takes: all processes of its group.

use std::{
    collections::HashMap,
    fs,
    sync::{Mutex, PoisonError},
};

use tokio::time::{Duration, Instant};

use crate::chromium;

/// How long one reading of the process table serves. Every browser is measured every two seconds: one reading for all.
const FRESH: Duration = Duration::from_secs(1);

/// Measures process groups. One for a daemon.
#[derive(Debug, Default)]
pub struct Meter {
    /// Who is in which group. Held while it is read again: whoever comes meanwhile wants the same.
    census: Mutex<Option<Census>>,
}

#[derive(Debug)]
struct Census {
    at: Instant,
    groups: HashMap<u32, Vec<u32>>,
}

impl Meter {
    /// The memory of a process group in bytes; `None` when it has no process that can be read. Blocks for milliseconds.
    pub fn group(&self, leader: u32) -> Option<u64> {
        let pids = {
            let mut census = self.census.lock().unwrap_or_else(PoisonError::into_inner);
            if census.as_ref().is_none_or(|census| census.at.elapsed() >= FRESH) {
                *census = Some(Census { at: Instant::now(), groups: chromium::groups() });
            }
            census.as_ref().and_then(|census| census.groups.get(&leader).cloned())?
        };
        pids.into_iter().filter_map(of_process).reduce(u64::saturating_add)
    }
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

    #[tokio::test(start_paused = true)]
    async fn the_process_table_is_read_once_for_all() {
        let meter = Meter::default();
        assert_eq!(meter.group(u32::MAX), None);
        let read = |meter: &Meter| meter.census.lock().unwrap().as_ref().map(|census| census.at);
        let first = read(&meter);
        tokio::time::advance(FRESH / 2).await;
        meter.group(u32::MAX);
        assert_eq!(read(&meter), first);
        tokio::time::advance(FRESH).await;
        meter.group(u32::MAX);
        assert_ne!(read(&meter), first);
    }
}
