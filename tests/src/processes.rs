//! What runs on this machine: tests count what they started.

use std::{
    collections::{BTreeSet, HashSet},
    io::Write as _,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Writes a shell script that can be run at once. Not by ourselves: a file that the child of another thread still holds
/// open for writing cannot be executed.
pub fn write_program(path: &Path, script: &str) -> anyhow::Result<()> {
    let mut install =
        Command::new("install").args(["-m", "755", "/dev/stdin"]).arg(path).stdin(Stdio::piped()).spawn()?;
    write!(install.stdin.take().context("a pipe")?, "#!/bin/sh\n{script}\n")?;
    anyhow::ensure!(install.wait()?.success(), "{} was not written", path.display());
    Ok(())
}

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
    of_type(group, "renderer").pop()
}

/// The processes of a browser that have this `--type`, the newest last; the main process has none.
pub fn of_type(group: u32, kind: &str) -> Vec<u32> {
    let flag = format!("--type={kind}");
    let mut found: Vec<u32> = pids()
        .filter(|pid| group_of(*pid) == Some(group) && command_line(*pid).split(['\0', ' ']).any(|word| word == flag))
        .collect();
    found.sort_unstable();
    found
}

/// The arguments of a process, NUL between them, or blanks once it has renamed itself as Chromium's helpers do.
pub fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

/// Processes that name `path` on their command line or in their environment, wherever they went.
pub fn mentioning(path: &Path) -> Vec<u32> {
    let needle = path.display().to_string();
    let mentions = |pid: u32, file: &str| {
        std::fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|text| String::from_utf8_lossy(&text).contains(&needle))
    };
    pids().filter(|pid| mentions(*pid, "cmdline") || mentions(*pid, "environ")).collect()
}

/// Our own children, zombies included.
pub fn children() -> Vec<u32> {
    let me = std::process::id();
    pids().filter(|pid| field(*pid, 1) == Some(me)).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn group_of(pid: u32) -> Option<u32> {
    field(pid, 2)
}

fn field(pid: u32, index: usize) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The fields after the name in parentheses: state, parent, group.
    stat.rsplit_once(')')?.1.split_whitespace().nth(index)?.parse().ok()
}

/// The TCP and UDP sockets on which processes of a browser listen: lines of the kernel's tables, as the browser sees them.
pub fn listening(group: u32) -> Vec<String> {
    let open: HashSet<String> = pids().filter(|pid| group_of(*pid) == Some(group)).flat_map(sockets).collect();
    let mut found = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = std::fs::read_to_string(format!("/proc/{group}/net/{table}")).unwrap_or_default();
        // Of TCP those in the state "listen"; whatever UDP socket is bound gets packets.
        let listens = |state: &str| state == "0A" || table.starts_with("udp");
        found.extend(text.lines().skip(1).filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            (listens(fields.get(3)?) && open.contains(*fields.get(9)?)).then(|| format!("{table} {line}"))
        }));
    }
    found
}

/// The inodes of a process's sockets.
fn sockets(pid: u32) -> Vec<String> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let inode = |link: std::path::PathBuf| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    descriptors.filter_map(|descriptor| inode(std::fs::read_link(descriptor.path()).ok()?)).collect()
}

/// The users that processes of a group run as.
pub fn users(group: u32) -> BTreeSet<u32> {
    let uid = |pid: u32| Some(std::fs::metadata(format!("/proc/{pid}")).ok()?.uid());
    pids().filter(|pid| group_of(*pid) == Some(group)).filter_map(uid).collect()
}

/// What a process could pass something on through: its pipes and sockets, and the files it may write to, shared memory among
/// them, by device and inode.
pub fn channels(pid: u32) -> BTreeSet<(u64, u64)> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let channel = |path: PathBuf| {
        let writable = std::fs::symlink_metadata(&path).ok()?.mode() & 0o200 != 0;
        let open = std::fs::metadata(&path).ok()?;
        let through = open.file_type().is_fifo() || open.file_type().is_socket() || (open.is_file() && writable);
        through.then(|| (open.dev(), open.ino()))
    };
    descriptors.filter_map(|descriptor| channel(descriptor.path())).collect()
}

/// The processes of a group.
pub fn of_group(group: u32) -> Vec<u32> {
    pids().filter(|pid| group_of(*pid) == Some(group)).collect()
}
