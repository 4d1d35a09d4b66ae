//! What runs on this machine: tests count what they started.

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How many processes, zombies included, are in a process group.
pub fn in_group(group: u32) -> usize {
    pids().filter(|pid| group_of(*pid) == Some(group)).count()
}

/// Sends a signal to a process that the test started.
pub fn signal(pid: u32, signal: Signal) -> Result<(), Errno> {
    kill(Pid::from_raw(i32::try_from(pid).map_err(|_| Errno::EINVAL)?), signal)
}

/// The newest renderer process of a browser.
pub fn renderer_of(group: u32) -> Option<u32> {
    let mut renderers: Vec<u32> = pids()
        .filter(|pid| {
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains("--type=renderer") && group_of(*pid) == Some(group)
        })
        .collect();
    renderers.sort_unstable();
    renderers.pop()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn group_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The fields after the name in parentheses: state, parent, group.
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}
