//! Processes of a browser that left its process group.
//!
//! Full Chromium's crash handler does (it forks twice and starts a session of its own), and a hostile page that broke out
//! could. They are found in `/proc` as descendants of the group, or, when their parents are gone, by the mark that the
//! browser's environment carries.

use std::{
    collections::{HashMap, HashSet},
    fs, process,
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, getsid},
};

/// The environment variable that names the browser a process belongs to.
pub(super) const MARK: &str = "BROWSERFLEET_BROWSER";

/// A line of `/proc/<pid>/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: i32,
    zombie: bool,
    parent: i32,
    group: i32,
    session: i32,
    /// In clock ticks since boot: with the pid it names a process for good.
    started: u64,
}

/// What is known of one browser's processes outside its group. Its methods read `/proc` and block for milliseconds.
#[derive(Clone, Debug)]
pub(super) struct Family {
    leader: Pid,
    leader_started: u64,
    mark: String,
    /// Living processes outside the group, as found so far.
    strays: Vec<Stat>,
}

impl Family {
    /// Of the browser whose main process is `leader`, running or not yet reaped.
    pub(super) fn new(leader: Pid, mark: &str) -> Self {
        let leader_started = stat(leader.as_raw()).map_or(0, |stat| stat.started);
        Self { leader, leader_started, mark: format!("{MARK}={mark}"), strays: Vec::new() }
    }

    /// Remembers who is outside the group now. To be called while parents still live: it is by them that processes
    /// without the mark are known.
    pub(super) fn look(&mut self) {
        let all = table();
        for stray in self.outside(&all) {
            if !self.strays.contains(&stray) {
                self.strays.push(stray);
            }
        }
    }

    /// Kills everybody outside the group and reaps who is ours to reap. Answers how many are still there.
    pub(super) fn kill(&mut self) -> usize {
        self.look();
        for stray in &self.strays {
            // Between this look and the signal the pid could only be reused by a wrap-around of all pids.
            if stat(stray.pid).is_some_and(|now| now.started == stray.started && !now.zombie) {
                // It may be gone by now, which is what we want; that it stays is seen below.
                let _gone = kill(Pid::from_raw(stray.pid), Signal::SIGKILL);
            }
        }
        reap_adopted(&table());
        self.strays.retain(|stray| stat(stray.pid).is_some_and(|now| now.started == stray.started));
        self.strays.len()
    }

    /// How many processes, dead ones that nobody reaped included, are in the group.
    pub(super) fn in_group(&self) -> usize {
        table().iter().filter(|stat| stat.group == self.leader.as_raw()).count()
    }

    fn outside(&self, all: &[Stat]) -> Vec<Stat> {
        let leader = self.leader.as_raw();
        let mut family: HashSet<i32> = all.iter().filter(|stat| stat.group == leader).map(|stat| stat.pid).collect();
        family.extend(self.strays.iter().map(|stray| stray.pid));
        family.extend(all.iter().filter(|stat| self.is_marked(stat)).map(|stat| stat.pid));
        loop {
            let before = family.len();
            family.extend(
                all.iter().filter(|stat| family.contains(&stat.parent)).map(|stat| stat.pid).collect::<Vec<_>>(),
            );
            if family.len() == before {
                break;
            }
        }
        all.iter().filter(|stat| family.contains(&stat.pid) && stat.group != leader && !stat.zombie).copied().collect()
    }

    fn is_marked(&self, stat: &Stat) -> bool {
        // Only younger processes can be its children, which spares reading the environment of the whole machine.
        stat.group != self.leader.as_raw()
            && !stat.zombie
            && stat.started >= self.leader_started
            && fs::read(format!("/proc/{}/environ", stat.pid))
                .is_ok_and(|environ| environ.split(|b| *b == 0).any(|entry| entry == self.mark.as_bytes()))
    }
}

/// Reaps zombies that were handed to us because their parents died and that left their group *and* session. The dead have
/// no environment to tell whose they were, but no child that this program starts itself changes its session.
fn reap_adopted(all: &[Stat]) {
    let Ok(session) = getsid(None) else { return };
    let me = process::id();
    for stat in all {
        if stat.zombie && u32::try_from(stat.parent) == Ok(me) && stat.session != session.as_raw() {
            // Another browser's look may have been faster.
            let _reaped = waitpid(Pid::from_raw(stat.pid), Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// The processes of this machine.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// The living ones of every group, by the group's number.
    pub(crate) groups: HashMap<u32, Vec<u32>>,
    /// Children of this program, by birth or by adoption, that live.
    pub(crate) children: usize,
    /// … and that have ended and are not reaped yet.
    pub(crate) zombies: usize,
}

impl Census {
    /// Reads the process table. Blocks for milliseconds.
    pub(crate) fn take() -> Self {
        let (mut census, me) = (Self::default(), process::id());
        for stat in table() {
            let ours = usize::from(stat.parent.unsigned_abs() == me);
            if stat.zombie {
                census.zombies += ours;
            } else {
                census.children += ours;
                census.groups.entry(stat.group.unsigned_abs()).or_default().push(stat.pid.unsigned_abs());
            }
        }
        census
    }
}

/// All processes. Those that come or go meanwhile may be missing.
fn table() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| stat(entry.file_name().to_str()?.parse().ok()?)).collect()
}

fn stat(pid: i32) -> Option<Stat> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(pid: i32, line: &str) -> Option<Stat> {
    // The name in parentheses may hold anything, parentheses included.
    let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
    let zombie = matches!(fields.next()?, "Z" | "X");
    let mut number = || fields.next()?.parse().ok();
    let (parent, group, session) = (number()?, number()?, number()?);
    // proc(5): session is field 6, starttime field 22.
    let started = fields.nth(15)?.parse().ok()?;
    Some(Stat { pid, zombie, parent, group, session, started })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let line = "42 (a) Z 1 (b) S 7 8 9 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 123456 1000 10";
        let expected = Stat { pid: 42, zombie: false, parent: 7, group: 8, session: 9, started: 123_456 };
        assert_eq!(parse(42, line), Some(expected));
    }

    #[test]
    fn this_process_is_in_the_table_and_in_no_family() {
        let me = i32::try_from(process::id()).unwrap();
        assert!(table().iter().any(|stat| stat.pid == me && stat.started > 0 && !stat.zombie));
        let family = Family::new(Pid::from_raw(me), "nobody/0-0");
        let strangers = Family { leader: Pid::from_raw(i32::MAX), ..family };
        assert_eq!(strangers.outside(&table()), []);
    }

    #[test]
    fn descendants_outside_the_group_are_found() {
        let of = |pid, parent, group| Stat { pid, zombie: false, parent, group, session: group, started: 1 };
        let mut family = Family::new(Pid::from_raw(i32::MAX - 7), "nobody/0-0");
        // Far above any pid, so that nobody real is looked at.
        let base = i32::MAX - 7;
        let all =
            [of(base, 1, base), of(base + 1, base, base), of(base + 2, base + 1, base + 2), of(base + 3, base + 2, 5)];
        let pids = |stats: Vec<Stat>| stats.iter().map(|stat| stat.pid - base).collect::<Vec<_>>();
        assert_eq!(pids(family.outside(&all)), [2, 3]);
        // The chain is broken, but who was seen once is remembered.
        family.strays = family.outside(&all);
        assert_eq!(pids(family.outside(&[of(base + 3, 1, 5), of(base + 4, base + 3, 6)])), [3, 4]);
    }
}
