//! Starting a browser.
//!
//! All spawns happen on one thread that lives as long as any browser: the kernel's parent-death signal, which ends
//! Chromium when the daemon is killed, is bound to the *thread* that spawned it.

use std::{
    env,
    ffi::OsString,
    io::{self, PipeReader, PipeWriter},
    net::TcpListener,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use browserfleet_common::{
    lifecycle::{Tasks, panic_text},
    size::MIB,
};
use nix::{
    errno::Errno,
    sys::statvfs::statvfs,
    unistd::{Pid, Uid, geteuid},
};
use tokio::{
    net::unix::pipe,
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::timeout,
};

use super::{
    Config,
    cgroup::{Bounds, Group, Groups},
    child::{self, Birth},
    family::MARK,
    find::is_headless_shell,
    flags::{self, ExtraArgs, FlagError},
    namespace::{self, Listening, Namespace},
    process::{Exit, Grace, Parts, Process},
    profile::{InstanceDir, Profile, ProfileError},
};

/// Launches waiting for the thread. A spawn takes milliseconds; more than this means something is stuck.
const QUEUE: usize = 64;
/// With less shared memory than this Chromium's renderers crash on larger pages.
pub(crate) const SMALL_SHM: u64 = 256 * MIB;
/// What of the daemon's environment a browser gets. The rest may hold secrets.
const ENVIRONMENT: &[&str] = &["PATH", "LANG", "LANGUAGE", "TZ"];
const ENVIRONMENT_PREFIXES: &[&str] = &["LC_", "FONTCONFIG_"];
/// Chromium's words when it has no way to a sandbox; the second as user 0 of a user namespace.
const NO_SANDBOX: &[&str] = &["No usable sandbox", "Running as root without --no-sandbox"];

/// Why browsers cannot be started at all.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("extra arguments for the browser")]
    Flags(#[from] FlagError),
    #[error("state directory")]
    State(#[from] ProfileError),
    #[error(
        "browser.cgroup = \"required\": {0}; run it where groups are delegated (systemd: Delegate=yes), or let them be watched: auto"
    )]
    Groups(String),
    #[error(
        "browser.network_namespace = \"required\": {0}; allow them to this program, or let browsers have the machine's network where \
         there are none: auto"
    )]
    Namespaces(String),
    #[error("cannot start the launcher thread")]
    Thread(#[source] io::Error),
}

/// Why a browser did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("too many launches are waiting")]
    Busy,
    #[error("slot {slot} has no user id: uid_base is too large")]
    NoUid { slot: u32 },
    #[error("profile directory")]
    Profile(#[source] ProfileError),
    #[error("cannot prepare pipes and signals for a browser")]
    Prepare(#[source] io::Error),
    #[error(
        "cannot become user {uid} to run the browser; the daemon as root needs CAP_SETUID, CAP_SETGID and that id in its \
         user namespace, or run the daemon itself as an unprivileged user"
    )]
    Privileges { uid: u32, source: io::Error },
    #[error("the browser cannot have a network of its own: {why}")]
    NoNetwork { why: String },
    #[error("cannot execute {}", path.display())]
    Execute { path: PathBuf, source: io::Error },
    #[error("the browser did not start within {after:?}; stderr: {stderr}")]
    TimedOut { after: Duration, stderr: String },
    #[error("the browser does not get ready: {reason}; stderr: {stderr}")]
    NotReady { reason: String, stderr: String },
    #[error("the browser ended at once with {exit}; stderr: {stderr}")]
    Exited { exit: Exit, stderr: String },
    #[error(
        "the browser has no usable sandbox: allow unprivileged user namespaces (in a container: a seccomp profile that \
         permits clone, unshare and setns; on Ubuntu: an AppArmor profile), or give up the sandbox with \
         unsafe.no_sandbox; stderr: {stderr}"
    )]
    NoSandbox { stderr: String },
    #[error("the launcher thread failed: {what}")]
    Internal { what: String },
}

impl LaunchError {
    /// What to say when a browser ended before it was ready.
    pub fn exited(exit: Exit, stderr: String) -> Self {
        if NO_SANDBOX.iter().any(|words| stderr.contains(words)) {
            Self::NoSandbox { stderr }
        } else {
            Self::Exited { exit, stderr }
        }
    }
}

/// A browser that has just been spawned; whether it gets ready is for the caller to see.
#[derive(Debug)]
pub struct Child {
    /// Chromium's replies and events: the read end of its descriptor 4.
    pub read: OwnedFd,
    /// Commands to Chromium: the write end of its descriptor 3.
    pub write: OwnedFd,
    pub process: Process,
    /// Where what it sends to its proxy arrives, if it has a network of its own.
    pub listener: Option<TcpListener>,
}

/// A browser's only way out.
#[derive(Clone, Debug)]
pub struct WayOut {
    /// Its egress gate, as Chromium is told, such as `http://127.0.0.1:1`.
    pub proxy_server: String,
    /// The port at which that is in a network of the browser's own. None: it is on loopback of the machine.
    pub inside: Option<u16>,
}

/// Starts browsers. Cheap to clone; the thread behind it ends after the last clone and the last browser.
#[derive(Clone, Debug)]
pub struct Spawner {
    queue: mpsc::Sender<Request>,
    shop: Arc<Shop>,
}

/// What every launch needs.
#[derive(Debug)]
struct Shop {
    config: Config,
    extra: ExtraArgs,
    environment: Vec<(OsString, OsString)>,
    small_shm: bool,
    instance: Arc<InstanceDir>,
    /// None: browsers are watched and no more.
    groups: Option<Arc<Groups>>,
    /// Whether a browser can have a network of its own.
    isolates: bool,
    tasks: Tasks,
}

#[derive(Debug)]
struct Request {
    slot: u32,
    way_out: Option<WayOut>,
    /// Goes into the [`Process`] and keeps this thread alive as long as it.
    spawner: Spawner,
    reply: oneshot::Sender<Result<Child, LaunchError>>,
}

impl Spawner {
    /// Checks the configuration, takes a state directory, sweeps abandoned ones, and starts the thread. To be called on
    /// the runtime that will drive the browsers.
    pub fn start(config: Config, tasks: &Tasks) -> Result<Self, StartError> {
        let extra = ExtraArgs::parse(&config.extra_args)?;
        let instance = Arc::new(InstanceDir::create(&config.state_dir)?);
        let swept = instance.sweep()?;
        if swept.removed > 0 {
            tracing::info!(removed = swept.removed, "removed directories of ended daemons");
        }
        if config.no_sandbox {
            tracing::warn!("browsers run without Chromium's sandbox (unsafe.no_sandbox)");
        }
        let small_shm = shm_is_small(Path::new("/dev/shm"));
        if small_shm {
            tracing::info!("/dev/shm is smaller than 256 MiB: browsers use their temporary directory instead");
        }
        let groups = claim_groups(&config)?;
        let isolates = claim_namespaces(&config)?;
        let (queue, requests) = mpsc::channel(QUEUE);
        let runtime = Handle::current();
        thread::Builder::new()
            .name("chromium-spawn".to_owned())
            .spawn(move || serve(requests, &runtime))
            .map_err(StartError::Thread)?;
        let environment = env::vars_os().filter(|(name, _)| is_passed_on(&name.to_string_lossy())).collect();
        let shop =
            Arc::new(Shop { config, extra, environment, small_shm, instance, groups, isolates, tasks: tasks.clone() });
        Ok(Self { queue, shop })
    }

    /// Spawns the browser of `slot` and answers at once. As root, two browsers of one slot share a user: end the first
    /// before the second is launched. Without a way out it goes wherever the machine does, for measurements only.
    pub async fn launch(&self, slot: u32, way_out: Option<WayOut>) -> Result<Child, LaunchError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { slot, way_out, spawner: self.clone(), reply };
        self.queue.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => LaunchError::Busy,
            TrySendError::Closed(_) => LaunchError::Internal { what: "it has ended".to_owned() },
        })?;
        let after = self.shop.config.launch_timeout;
        // If we stop waiting, the thread's reply comes back to it and is dropped, which kills the browser.
        match timeout(after, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(LaunchError::Internal { what: "no reply".to_owned() }),
            Err(_) => Err(LaunchError::TimedOut { after, stderr: String::new() }),
        }
    }

    /// Whether a browser can have a network of its own.
    pub fn isolates(&self) -> bool {
        self.shop.isolates
    }

    /// The directory of this daemon.
    pub fn instance(&self) -> &InstanceDir {
        &self.shop.instance
    }

    /// Runs on the launcher thread.
    fn spawn(&self, slot: u32, way_out: Option<&WayOut>) -> Result<Child, LaunchError> {
        let shop = &self.shop;
        let uid = shop.uid(slot)?;
        let children = signal(SignalKind::child()).map_err(LaunchError::Prepare)?;
        let pipes = Pipes::new().map_err(LaunchError::Prepare)?;
        let stderr = pipe::Receiver::from_owned_fd(pipes.stderr.0.into()).map_err(LaunchError::Prepare)?;
        let group = shop.groups.as_ref().map(Groups::make).transpose().map_err(LaunchError::Prepare)?;
        let entries = group.as_ref().map(Group::entries).transpose().map_err(LaunchError::Prepare)?.unwrap_or_default();
        let inside = way_out.and_then(|way_out| way_out.inside);
        let namespace = inside.map(|port| Namespace::plan(uid, port)).transpose().map_err(LaunchError::Prepare)?;
        let (namespace, listening) = namespace.unzip();
        let profile = Profile::create(&shop.instance, slot, uid).map_err(LaunchError::Profile)?;

        let mut command = shop.command(&profile, uid, way_out);
        command.stderr(pipes.stderr.1);
        let birth = Birth { commands: pipes.commands.0, replies: pipes.replies.1, groups: entries, namespace };
        child::prepare(&mut command, birth);
        let spawned = spawn(&mut command);
        // It holds Chromium's ends of the pipes: while they are open here, their closing there goes unnoticed.
        drop(command);
        let leader = spawned.map_err(|error| {
            if let Err(error) = profile.remove() {
                tracing::warn!(path = %profile.path().display(), %error, "profile of a failed launch cannot be removed");
            }
            shop.spawn_error(error, uid, inside.is_some())
        })?;
        let grace = Grace { term: shop.config.term_grace, kill: shop.config.kill_grace };
        let parts = Parts { leader, profile, group, stderr, children, grace, spawner: self.clone() };
        let process = Process::own(parts, &shop.tasks);
        let listener = listening.map(Listening::take).transpose().map_err(LaunchError::Prepare)?;
        Ok(Child { read: pipes.replies.0.into(), write: pipes.commands.1.into(), process, listener })
    }
}

impl Shop {
    /// The user a browser runs as: as root one for each slot, otherwise ours.
    fn uid(&self, slot: u32) -> Result<Option<Uid>, LaunchError> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        // The last one, u32::MAX, means "unchanged" to the kernel; 0 would be root again.
        let uid = self.config.uid_base.checked_add(slot).filter(|uid| *uid != 0 && *uid != u32::MAX);
        uid.map(|uid| Some(Uid::from_raw(uid))).ok_or(LaunchError::NoUid { slot })
    }

    fn command(&self, profile: &Profile, uid: Option<Uid>, way_out: Option<&WayOut>) -> Command {
        let config = &self.config;
        let (data, home, tmp) = (profile.data(), profile.home(), profile.tmp());
        let mut command = Command::new(&config.executable);
        command
            .args(flags::command_line(&flags::Options {
                headless_shell: is_headless_shell(&config.executable),
                no_sandbox: config.no_sandbox,
                small_shm: self.small_shm,
                user_data_dir: &data,
                way_out,
                extra: &self.extra,
            }))
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("HOME", &home)
            .env("TMPDIR", &tmp)
            .env("XDG_RUNTIME_DIR", &tmp)
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .env("XDG_CACHE_HOME", home.join(".cache"))
            .env("XDG_DATA_HOME", home.join(".local/share"))
            .env(MARK, profile.mark())
            .current_dir(profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0);
        if let Some(uid) = uid {
            // std also drops the supplementary groups when root sets a uid.
            command.uid(uid.as_raw()).gid(uid.as_raw());
        }
        command
    }

    fn spawn_error(&self, source: io::Error, uid: Option<Uid>, isolated: bool) -> LaunchError {
        let errno = source.raw_os_error().map(Errno::from_raw);
        match (errno, uid) {
            // That there can be one was tried at the start; what may change is how many there are.
            (Some(errno @ (Errno::ENOSPC | Errno::EUSERS)), _) if isolated => {
                LaunchError::NoNetwork { why: namespace::why(errno) }
            }
            (Some(Errno::EPERM | Errno::EINVAL), Some(uid)) => LaunchError::Privileges { uid: uid.as_raw(), source },
            _ => LaunchError::Execute { path: self.config.executable.clone(), source },
        }
    }
}

/// Groups for browsers, if they are wanted and there can be any.
fn claim_groups(config: &Config) -> Result<Option<Arc<Groups>>, StartError> {
    // Whoever looks, and can say why a browser is ended, comes first; this is for one that is faster.
    let bounds = Bounds { memory: config.memory_limit / 2 * 3, tasks: config.max_tasks };
    let without = "browsers have no control groups of their own: they are watched";
    config.cgroup.meet(without, || Groups::claim(bounds)).map_err(StartError::Groups)
}

/// Whether browsers get networks of their own.
fn claim_namespaces(config: &Config) -> Result<bool, StartError> {
    let without = "browsers have the machine's network: their egress gates are on its loopback";
    let met = config.network_namespace.meet(without, || config.try_network_namespace());
    met.map(|met| met.is_some()).map_err(StartError::Namespaces)
}

/// All pipes to a browser, close-on-exec, each (read, write).
struct Pipes {
    commands: (PipeReader, PipeWriter),
    replies: (PipeReader, PipeWriter),
    stderr: (PipeReader, PipeWriter),
}

impl Pipes {
    fn new() -> io::Result<Self> {
        Ok(Self { commands: io::pipe()?, replies: io::pipe()?, stderr: io::pipe()? })
    }
}

/// The launcher thread.
fn serve(mut requests: mpsc::Receiver<Request>, runtime: &Handle) {
    // Pipes and tasks of a browser belong to the runtime.
    let _context = runtime.enter();
    while let Some(Request { slot, way_out, spawner, reply }) = requests.blocking_recv() {
        // A caller that went away while it waited starts no browser.
        if reply.is_closed() {
            continue;
        }
        // The end of this thread would be the end of all browsers.
        let result =
            catch_unwind(AssertUnwindSafe(|| spawner.spawn(slot, way_out.as_ref()))).unwrap_or_else(|payload| {
                let what = panic_text(payload.as_ref()).to_owned();
                tracing::error!(what, "launcher panicked");
                Err(LaunchError::Internal { what })
            });
        // Nobody waits any more: dropping the child kills it.
        drop(reply.send(result));
    }
}

/// std's handle is given up: the driver reaps the child together with its group.
fn spawn(command: &mut Command) -> io::Result<Pid> {
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    Ok(Pid::from_raw(pid))
}

/// A missing or unreadable `/dev/shm` is a small one.
fn shm_is_small(path: &Path) -> bool {
    statvfs(path).map_or(true, |shm| shm.blocks().saturating_mul(shm.fragment_size()) < SMALL_SHM)
}

fn is_passed_on(name: &str) -> bool {
    ENVIRONMENT.contains(&name) || ENVIRONMENT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
