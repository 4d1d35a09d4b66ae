//! Fake browsers: shell scripts that misbehave in one way each. [`super::find()`] would refuse them.
//!
//! What they start sleeps for 30 seconds at most, so that nothing stays when a test fails.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use browserfleet_common::lifecycle::Tasks;
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, geteuid},
};
use tokio::time::sleep;

use super::{Child, Config, Demand, End, Exit, LaunchError, Process, Spawner, StartError, WayOut, become_subreaper};

const LIMIT: Duration = Duration::from_secs(30);

/// Where no gate is: these browsers go nowhere.
fn nowhere() -> WayOut {
    WayOut { proxy_server: "http://127.0.0.1:1".to_owned(), inside: None }
}

/// Writes a shell script that can be run at once. Not by ourselves: a file that the child of another test's thread still
/// holds open for writing cannot be executed.
pub(super) fn write_program(path: &Path, script: &str) {
    let mut install = std::process::Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    write!(install.stdin.take().unwrap(), "#!/bin/sh\n{script}\n").unwrap();
    assert!(install.wait().unwrap().success());
}

/// A spawner of one fake browser, with its state directory.
struct Scene {
    dir: tempfile::TempDir,
    spawner: Spawner,
}

impl Scene {
    fn new(script: &str) -> Self {
        let scene = Self::with(|_| {});
        let path = scene.dir.path().join("chromium-headless-shell");
        write_program(&path, script);
        scene
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        become_subreaper().unwrap();
        let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o711)).tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        Self { spawner: Spawner::start(config, &Tasks::new()).unwrap(), dir }
    }

    async fn launch(&self) -> Child {
        self.spawner.launch(0, Some(nowhere())).await.unwrap()
    }

    /// The directories of browsers that are there now.
    fn profiles(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.spawner.instance().path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
    }
}

fn config(dir: &Path) -> Config {
    Config {
        executable: dir.join("chromium-headless-shell"),
        no_sandbox: false,
        launch_timeout: LIMIT,
        term_grace: Duration::from_millis(300),
        kill_grace: LIMIT,
        state_dir: dir.join("state"),
        extra_args: Vec::new(),
        uid_base: 61_000,
        cgroup: Demand::Off,
        network_namespace: Demand::Off,
        memory_limit: 1 << 30,
        max_tasks: 2048,
        download_bytes: 0,
    }
}

#[tokio::test]
async fn a_browser_is_in_its_own_control_group_from_birth() {
    let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o711)).tempdir().unwrap();
    write_program(&dir.path().join("chromium-headless-shell"), "cat /proc/self/cgroup >&2; exec sleep 30");
    let config = Config { cgroup: Demand::Required, ..config(dir.path()) };
    become_subreaper().unwrap();
    let spawner = match Spawner::start(config, &Tasks::new()) {
        Ok(spawner) => spawner,
        // As in most containers.
        Err(StartError::Groups(why)) => return eprintln!("nothing is shown: {why}"),
        Err(error) => panic!("{error}"),
    };
    let child = spawner.launch(0, Some(nowhere())).await.unwrap();
    let ours = format!("browserfleet-{}-", std::process::id());
    eventually("it says where it is", || child.process.stderr_tail().matches(&ours).count() >= 1).await;
    assert_eq!(child.process.end().await.left, 0);
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("never came: {what}");
}

/// As [`eventually`], but nothing else runs on this thread meanwhile.
fn stand_until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("never came: {what}");
}

/// Whether a process has ended, and nobody has reaped it yet.
fn is_dead(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

/// Waits until the script has written `word` as the last of a line, and answers that line.
async fn says(process: &Process, word: &str) -> String {
    eventually(word, || process.stderr_tail().ends_with(word)).await;
    process.stderr_tail()
}

/// The pids a script wrote after "pids", before "ready".
async fn pids(process: &Process) -> Vec<Pid> {
    let text = says(process, "ready").await;
    let words = text.split("pids").last().unwrap().split_whitespace();
    words.filter_map(|word| word.parse().ok()).map(Pid::from_raw).collect()
}

fn exists(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

fn group_exists(process: &Process) -> bool {
    killpg(pid(process), None).is_ok()
}

fn pid(process: &Process) -> Pid {
    Pid::from_raw(process.pid().try_into().unwrap())
}

#[tokio::test]
async fn a_browser_that_exits_at_once_says_why() {
    let scene = Scene::new(r"printf 'no display \033[31m\n' >&2; exit 7");
    let child = scene.launch().await;
    let exit = child.process.exited().await;
    assert_eq!(exit, Exit::Code(7));
    let error = LaunchError::exited(exit, child.process.stderr_tail());
    assert_eq!(error.to_string(), r"the browser ended at once with exit status 7; stderr: no display \u{1b}[31m");
    let ended = child.process.end().await;
    assert_eq!((ended.how, ended.left), (End::Exited(Exit::Code(7)), 0));
    assert_eq!(scene.profiles(), Vec::<PathBuf>::new());
}

/// By then nobody has read a word: this runtime has one thread, and it stands still until the browser is dead.
#[tokio::test]
async fn the_last_words_are_read_before_the_exit_is_told() {
    let scene = Scene::new("echo $$ >\"$HOME/pid\"; echo 'these are they' >&2; exit 7");
    let mut launch = Box::pin(scene.spawner.launch(0, None));
    assert!(futures_util::poll!(&mut launch).is_pending());
    stand_until("the end of the script", || {
        let home = scene.profiles().pop().map(|profile| profile.join("home/pid"));
        home.and_then(|file| fs::read_to_string(file).ok()).is_some_and(|pid| is_dead(pid.trim()))
    });
    let child = launch.await.unwrap();
    assert_eq!(child.process.exited().await, Exit::Code(7));
    assert_eq!(child.process.stderr_tail(), "these are they");
    assert_eq!(child.process.end().await.left, 0);
}

#[test]
fn a_missing_sandbox_is_recognised() {
    let words = "[1121/042537.068917:ERROR:content/browser/zygote_host/zygote_host_impl_linux.cc:130] No usable sandbox! \
                 If this is a Debian system, please install the chromium-sandbox package to solve this problem.";
    let message = LaunchError::exited(Exit::Code(1), words.to_owned()).to_string();
    for hint in ["user namespaces", "seccomp profile", "unsafe.no_sandbox"] {
        assert!(message.contains(hint), "{message}");
    }
}

#[tokio::test]
async fn sigterm_is_enough_for_a_browser_that_listens() {
    let scene = Scene::new("trap 'exit 0' TERM; echo ready >&2; sleep 30 & wait");
    let child = scene.launch().await;
    says(&child.process, "ready").await;
    assert_eq!(scene.profiles().len(), 1);
    let ended = child.process.end().await;
    assert_eq!((ended.how, ended.left), (End::Terminated, 0));
    assert_eq!(child.process.exited().await, Exit::Code(0));
    assert!(!group_exists(&child.process));
    assert_eq!(scene.profiles(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_browser_that_ignores_sigterm_is_killed() {
    let scene = Scene::new("trap '' TERM; echo ready >&2; sleep 30");
    let child = scene.launch().await;
    says(&child.process, "ready").await;
    let ended = child.process.end().await;
    assert_eq!((ended.how, ended.left), (End::Killed, 0));
    assert_eq!(child.process.exited().await, Exit::Signal(Signal::SIGKILL));
    assert!(!group_exists(&child.process));
}

#[tokio::test]
async fn a_stopped_browser_is_killed() {
    let scene = Scene::new("echo ready >&2; sleep 30 & wait");
    let child = scene.launch().await;
    says(&child.process, "ready").await;
    killpg(pid(&child.process), Signal::SIGSTOP).unwrap();
    let ended = child.process.end().await;
    assert_eq!((ended.how, ended.left), (End::Killed, 0));
}

#[tokio::test]
async fn a_flood_of_garbage_is_drained_and_bounded() {
    let scene = Scene::new("head -c 3000000 /dev/urandom >&2; printf '\\ndone\\n' >&2; sleep 30");
    let child = scene.launch().await;
    let tail = says(&child.process, "done").await;
    assert!(!tail.contains(char::is_control));
    assert_eq!(child.process.end().await.left, 0);
}

#[tokio::test]
async fn helpers_in_and_outside_the_group_are_ended() {
    let scene = Scene::new("sleep 30 & a=$!; setsid sleep 30 & echo pids $a $! ready >&2; trap 'exit 0' TERM; wait");
    let child = scene.launch().await;
    let helpers = pids(&child.process).await;
    assert!(helpers.len() == 2 && helpers.iter().all(|helper| exists(*helper)), "{helpers:?}");
    let ended = child.process.end().await;
    assert_eq!((ended.how, ended.left), (End::Terminated, 0));
    assert!(!helpers.iter().any(|helper| exists(*helper)));
}

#[tokio::test]
async fn helpers_are_ended_also_when_their_parents_died_first() {
    // The crash handler of full Chromium: forks twice and is nobody's child from the start.
    let scene = Scene::new("sleep 30 & a=$!; (setsid sh -c 'sleep 30 & echo pids $0 $! ready >&2' $a &); sleep 30");
    let child = scene.launch().await;
    let helpers = pids(&child.process).await;
    kill(pid(&child.process), Signal::SIGKILL).unwrap();
    assert_eq!(child.process.exited().await, Exit::Signal(Signal::SIGKILL));
    assert!(helpers.len() == 2 && helpers.iter().all(|helper| exists(*helper)), "{helpers:?}");
    let ended = child.process.end().await;
    assert_eq!((ended.how, ended.left), (End::Exited(Exit::Signal(Signal::SIGKILL)), 0));
    assert!(!helpers.iter().any(|helper| exists(*helper)) && !group_exists(&child.process));
    assert_eq!(scene.profiles(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn everybody_who_ends_gets_the_same_answer() {
    let scene = Scene::new("trap '' TERM; echo ready >&2; sleep 30");
    let child = scene.launch().await;
    says(&child.process, "ready").await;
    let (first, second) = tokio::join!(child.process.end(), child.process.end());
    assert_eq!((first, second), (child.process.end().await, first));
}

#[tokio::test]
async fn an_end_goes_on_without_those_who_asked_for_it() {
    let scene = Scene::new("trap '' TERM; echo ready >&2; sleep 30");
    let child = scene.launch().await;
    says(&child.process, "ready").await;
    let pid = pid(&child.process);
    tokio::select! {
        biased;
        _ = child.process.end() => panic!("SIGTERM was ignored"),
        () = sleep(Duration::from_millis(20)) => {}
    }
    drop(child);
    eventually("the end", || !exists(pid) && scene.profiles().is_empty()).await;
}

#[tokio::test]
async fn a_dropped_process_is_killed_and_cleaned_up() {
    let scene = Scene::new("trap '' TERM; setsid sleep 30 & echo pids $! ready >&2; sleep 30");
    let child = scene.launch().await;
    let helpers = pids(&child.process).await;
    let main = pid(&child.process);
    drop(child);
    eventually("the end", || !exists(main) && !exists(helpers[0]) && scene.profiles().is_empty()).await;
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_browser() {
    let scene = Scene::new("sleep 30");
    let mut launch = Box::pin(scene.spawner.launch(0, Some(nowhere())));
    // Polled once: the request is in the queue, on a busy machine even answered.
    let _asked = futures_util::poll!(&mut launch);
    drop(launch);
    // The thread takes requests in order: after this launch the dropped one has been dealt with.
    let child = scene.launch().await;
    eventually("one browser only", || scene.profiles().len() == 1).await;
    assert_eq!(child.process.end().await.left, 0);
}

#[tokio::test]
async fn browsers_outlive_the_last_spawner() {
    let scene = Scene::new("echo ready >&2; read line <&3; echo $line >&2; sleep 30");
    let Child { write, process, .. } = scene.launch().await;
    says(&process, "ready").await;
    let Scene { dir: _dir, spawner } = scene;
    let instance = spawner.instance().path().to_owned();
    drop(spawner);
    // Had the thread ended, the kernel would have killed it.
    nix::unistd::write(&write, b"alive\n").unwrap();
    says(&process, "alive").await;
    assert!(instance.exists());
    assert_eq!(process.end().await.left, 0);
    eventually("the directory's end", || !instance.exists()).await;
}

#[tokio::test]
async fn a_browser_gets_its_own_world() {
    let scene =
        Scene::new("env >&2; echo core $(ulimit -c) user $(id -u):$(id -G) cwd $(pwd) >&2; echo ready >&2; sleep 30");
    let child = scene.launch().await;
    let text = says(&child.process, "ready").await;
    let profile = scene.profiles().remove(0);
    for expected in [
        format!("HOME={}/home", profile.display()),
        format!("TMPDIR={}/tmp", profile.display()),
        format!("cwd {}", profile.display()),
        "core 0".to_owned(),
    ] {
        assert!(text.contains(&expected), "{expected} not in {text}");
    }
    assert!(!text.contains("CARGO"), "{text}");
    if geteuid().is_root() {
        assert!(text.contains("user 61000:61000 cwd"), "{text}");
    }
    assert_eq!(child.process.end().await.left, 0);
}

#[tokio::test]
async fn what_cannot_be_executed_is_named() {
    let scene = Scene::with(|config| config.executable = PathBuf::from("/nowhere/chromium"));
    let error = scene.spawner.launch(0, Some(nowhere())).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot execute /nowhere/chromium");
    assert!(matches!(error, LaunchError::Execute { source, .. } if source.kind() == std::io::ErrorKind::NotFound));
    assert_eq!(scene.profiles(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_costs_one_launch() {
    let scene = Scene::new("echo ready >&2; sleep 30");
    let (instance, away) = (scene.spawner.instance().path().to_owned(), scene.dir.path().join("away"));
    fs::rename(&instance, &away).unwrap();
    let error = scene.spawner.launch(0, Some(nowhere())).await.unwrap_err();
    assert!(matches!(error, LaunchError::Profile(_)), "{error}");
    let text = super::chain(&error);
    assert!(text.contains(&instance.display().to_string()) && text.contains("No such file"), "{text}");
    fs::rename(&away, &instance).unwrap();
    let child = scene.launch().await;
    assert_eq!(child.process.end().await.left, 0);
}

#[tokio::test]
async fn a_place_that_is_taken_costs_one_launch() {
    let scene = Scene::new("echo ready >&2; sleep 30");
    let taken = scene.spawner.instance().path().join("0-1");
    fs::write(&taken, "").unwrap();
    let error = scene.spawner.launch(0, None).await.unwrap_err();
    assert!(matches!(error, LaunchError::Profile(_)), "{error}");
    let text = super::chain(&error);
    assert!(text.contains(&taken.display().to_string()) && text.contains("File exists"), "{text}");
    let child = scene.launch().await;
    assert_eq!(child.process.end().await.left, 0);
}

#[tokio::test]
async fn a_slot_without_a_uid_is_refused() {
    if !geteuid().is_root() {
        return;
    }
    let scene = Scene::with(|config| config.uid_base = u32::MAX - 1);
    assert!(matches!(scene.spawner.launch(1, Some(nowhere())).await, Err(LaunchError::NoUid { slot: 1 })));
    assert!(matches!(scene.spawner.launch(2, Some(nowhere())).await, Err(LaunchError::NoUid { slot: 2 })));
}

#[tokio::test]
async fn forbidden_arguments_are_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.extra_args = vec!["--remote-debugging-port=9222".to_owned()];
    assert!(matches!(Spawner::start(config, &Tasks::new()), Err(StartError::Flags(_))));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
