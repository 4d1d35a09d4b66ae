//! The daemon's settings: one table, with defaults and ranges.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use browserfleet_common::{
    config::{Reader, Setting},
    redis,
    service::{OperatorToken, ServiceSecret},
    session::daemon_name,
    size::{GIB, MIB},
    telemetry::{Standing, Telemetry},
};
use url::Url;

use crate::{
    checkpoint,
    chromium::{self, Demand},
    egress::{self, Network, Opened, resolve::System},
    grpc::Trust,
    health,
    host::pressure,
    pool::{Launching, Limits, PerPrincipal, Retirement},
    tools::Times,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// Front ends take no larger reply.
const DOWNLOAD_BYTES_MAX: u64 = 16 * MIB;

/// Everything the daemon can be told.
#[derive(Clone, Debug)]
pub struct Config {
    pub daemon: DaemonConfig,
    pub limits: Limits,
    pub leases: LeaseConfig,
    pub times: Times,
    /// Most time of one call.
    pub max_call: Duration,
    pub chromium: chromium::Config,
    /// How far browsers may go.
    pub egress: egress::Config,
    /// What outlives a browser of its session.
    pub checkpoints: checkpoint::Config,
    /// When a browser is not sound any more.
    pub health: health::Config,
    /// When the machine is too short for another browser.
    pub pressure: pressure::Config,
    /// `[store]`: where front ends keep sessions. None: they keep them to themselves, and an idle lease ends by itself.
    pub store: Option<redis::Settings>,
}

/// Defaults that depend on who is served.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// `pool.min_warm`.
    pub min_warm: usize,
    /// `egress.network`.
    pub network: Network,
    /// `browser.download_bytes`.
    pub download_bytes: u64,
}

impl Defaults {
    /// For a program that serves the developer in front of it.
    pub fn own(min_warm: usize) -> Self {
        Self { min_warm, network: Network::Local, download_bytes: DOWNLOAD_BYTES_MAX }
    }

    /// For a daemon: several front ends ask it.
    pub fn daemon() -> Self {
        Self::others(2)
    }

    /// For one that serves others.
    pub fn others(min_warm: usize) -> Self {
        Self { min_warm, network: Network::Public, download_bytes: 0 }
    }
}

/// `[daemon]`: the program itself.
#[derive(Clone, Debug)]
pub struct DaemonConfig {
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Where front ends reach that, as a URL: the daemon's name in leases and in the store's directory.
    pub address: Option<String>,
    /// Its name in leases where only the front end in this process reaches it: then it is in no directory.
    pub inside: Option<String>,
    /// Where health is served over HTTP.
    pub admin_listen: SocketAddr,
    /// The daemon's stable name, part of its fencing tokens.
    pub pool_id: String,
    /// How long a drain leaves running leases alone.
    pub drain_grace: Duration,
    /// How long a gRPC connection takes new calls.
    pub max_connection_age: Duration,
    /// `[grpc]`: what front ends and operators are known by.
    pub trust: Trust,
}

/// `[lease]`.
#[derive(Clone, Copy, Debug)]
pub struct LeaseConfig {
    /// Without a renewal or a call a lease lives this long, unless its caller says otherwise.
    pub ttl: Duration,
    pub min_ttl: Duration,
    pub max_ttl: Duration,
    /// How long a caller waits for a browser, unless it says otherwise.
    pub wait: Duration,
    pub max_wait: Duration,
}

impl LeaseConfig {
    pub fn ttl_range(&self) -> std::ops::RangeInclusive<Duration> {
        self.min_ttl..=self.max_ttl
    }
}

impl Config {
    /// Reads the settings.
    pub fn read(reader: &mut Reader, defaults: Defaults) -> Self {
        let health = read_health(reader);
        let store = redis::Settings::read(reader);
        let limits = read_limits(reader, defaults.min_warm, &health, store.is_some());
        let daemon = read_daemon(reader);
        Self {
            leases: read_leases(reader),
            times: Times {
                action: reader.duration("tool.action_timeout", 5 * SECOND, SECOND / 10..=2 * MINUTE),
                navigation: reader.duration("tool.navigation_timeout", 30 * SECOND, SECOND / 10..=2 * MINUTE),
                script: reader.duration("tool.script_timeout", 30 * SECOND, SECOND / 10..=2 * MINUTE),
            },
            max_call: reader.duration("tool.max_call", 2 * MINUTE, SECOND..=10 * MINUTE),
            egress: read_egress(reader, defaults.network),
            checkpoints: checkpoint::Config {
                enabled: reader.flag("checkpoints.enabled", true),
                interval: reader.duration("checkpoints.interval", SECOND, SECOND / 10..=HOUR),
            },
            chromium: read_chromium(reader, limits.max_browsers, defaults.download_bytes, health.memory_limit),
            health,
            pressure: read_pressure(reader),
            store: announced(reader, store, &daemon),
            limits,
            daemon,
        }
    }
}

/// What can be set of the program of this crate.
pub fn reference() -> Vec<Setting> {
    let mut reader = Reader::unset();
    Config::read(&mut reader, Defaults::daemon());
    Telemetry::read(&mut reader, "pool-daemon", Standing::Inside);
    reader.reference()
}

fn read_daemon(reader: &mut Reader) -> DaemonConfig {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let pool_id = reader.text("daemon.pool_id", name.as_deref().unwrap_or("pool"));
    if pool_id.is_empty() || pool_id.len() > 64 || pool_id.contains('/') {
        reader.problem("daemon.pool_id: 1 to 64 bytes without a slash");
    }
    let trust = read_trust(reader);
    let config = DaemonConfig {
        listen: reader.address("daemon.listen", SocketAddr::from(([127, 0, 0, 1], 50051))),
        admin_listen: admin_listen(reader),
        address: Some(daemon_name(&reader.text("daemon.address", ""))).filter(|address| !address.is_empty()),
        inside: None,
        pool_id,
        drain_grace: reader.duration("daemon.drain_grace", 20 * SECOND, Duration::ZERO..=HOUR),
        max_connection_age: reader.duration("daemon.max_connection_age", 30 * MINUTE, SECOND..=24 * HOUR),
        trust,
    };
    if let Some(address) = &config.address
        && !is_daemons(address)
    {
        reader.problem(format!("daemon.address = {address}: not where a daemon is; allowed is http://host:port"));
    }
    let insecure = reader.flag("unsafe.insecure", false);
    let is_open = |address: SocketAddr| !insecure && !address.ip().is_loopback();
    if is_open(config.listen) && config.trust.secret.is_none() {
        reader.problem(format!(
            "daemon.listen = {}: not a loopback address, so front ends need a secret: set grpc.secret_file here and there; or \
             serve everybody who can reach it: unsafe.insecure = true (--insecure)",
            config.listen
        ));
    }
    if is_open(config.admin_listen) && config.trust.operators.is_none() {
        reader.problem(format!(
            "daemon.admin_listen = {}: not a loopback address, so whoever looks at the daemon needs a token: set \
             grpc.operator_token_file; or show it to everybody who can reach it: unsafe.insecure = true (--insecure)",
            config.admin_listen
        ));
    }
    config
}

/// `daemon.admin_listen`: where health and metrics are served over HTTP.
pub fn admin_listen(reader: &mut Reader) -> SocketAddr {
    reader.address("daemon.admin_listen", SocketAddr::from(([127, 0, 0, 1], 50052)))
}

/// The store, if front ends can be told through it where the daemon is.
fn announced(reader: &mut Reader, store: Option<redis::Settings>, daemon: &DaemonConfig) -> Option<redis::Settings> {
    if store.is_some() && daemon.address.is_none() && daemon.listen.ip().is_unspecified() {
        reader.problem(format!(
            "daemon.listen = {}: front ends find this daemon through store.url, and that is no place to go to: set daemon.address \
             to where they reach it, such as http://10.0.0.7:50051",
            daemon.listen
        ));
    }
    store
}

/// Whether a front end could reach a daemon there.
fn is_daemons(address: &str) -> bool {
    let parsed = Url::parse(address);
    parsed.is_ok_and(|url| url.scheme() == "http" && url.host().is_some() && url.port().is_some() && url.path() == "/")
}

/// `[grpc]`: files that only we can read.
fn read_trust(reader: &mut Reader) -> Trust {
    let secret = reader.file("grpc.secret_file", ServiceSecret::read);
    let operators = reader.file("grpc.operator_token_file", OperatorToken::read);
    if operators.is_some() && reader.path("grpc.secret_file").is_none() {
        reader.problem("grpc.operator_token_file is of use only with grpc.secret_file: without it nobody is asked");
    }
    Trust { secret, operators }
}

fn read_limits(reader: &mut Reader, min_warm: usize, health: &health::Config, sessions_are_watched: bool) -> Limits {
    let max_browsers = reader.count("pool.max_browsers", 5, 1..=1000);
    let min_warm = reader.count("pool.min_warm", min_warm.min(max_browsers), 0..=1000);
    if min_warm > max_browsers {
        reader.problem(format!("pool.min_warm = {min_warm} is more than pool.max_browsers = {max_browsers}"));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let max_queue = reader.count("pool.max_queue", 64, 0..=100_000);
    Limits {
        max_browsers,
        contexts_per_browser: reader.count("pool.contexts_per_browser", 1, 1..=500),
        min_warm,
        max_starting: reader.count("pool.max_starting", cores, 1..=100),
        ahead_delay: reader.duration("pool.ahead_delay", SECOND / 2, Duration::ZERO..=MINUTE),
        max_queue,
        per_principal: PerPrincipal {
            max_leases: reader.count("pool.leases_per_principal", 1_000_000, 1..=1_000_000),
            max_waiting: reader.count("pool.queue_per_principal", max_queue, 0..=100_000),
        },
        warm_ttl: reader.duration("pool.warm_ttl", 5 * MINUTE, SECOND..=24 * HOUR),
        retirement: Retirement {
            max_age: reader.duration("pool.max_age", HOUR, MINUTE..=24 * 7 * HOUR),
            max_uses: u32::try_from(reader.count("pool.max_uses", 100, 1..=1_000_000)).unwrap_or(u32::MAX),
            max_memory: reader.bytes("pool.max_memory", health.memory_limit / 4 * 3, 64 * MIB..=1024 * GIB),
        },
        unbound_ttl: reader.duration("lease.unbound_ttl", 10 * SECOND, SECOND..=MINUTE),
        max_lifetime: reader.duration("lease.max_lifetime", 8 * HOUR, MINUTE..=24 * 7 * HOUR),
        sessions_are_watched,
        launching: Launching {
            backoff: SECOND / 5,
            max_backoff: 10 * SECOND,
            breaker_failures: 5,
            breaker_window: MINUTE,
        },
    }
}

fn read_leases(reader: &mut Reader) -> LeaseConfig {
    let (min_ttl, max_ttl) = (SECOND, 24 * HOUR);
    LeaseConfig {
        ttl: reader.duration("lease.ttl", 10 * MINUTE, min_ttl..=max_ttl),
        min_ttl,
        max_ttl,
        wait: reader.duration("lease.wait", 30 * SECOND, Duration::ZERO..=10 * MINUTE),
        max_wait: 10 * MINUTE,
    }
}

fn read_chromium(reader: &mut Reader, max_browsers: usize, download_bytes: u64, memory_limit: u64) -> chromium::Config {
    let configured = reader.path("browser.chromium");
    let executable = chromium::find(configured.as_deref()).unwrap_or_else(|error| {
        reader.problem(format!("browser.chromium: {error}"));
        PathBuf::new()
    });
    let extra_args = reader.list("browser.args", &[]);
    if let Err(error) = chromium::flags::ExtraArgs::parse(&extra_args) {
        reader.problem(format!("browser.args: {error}"));
    }
    let default_state = std::env::temp_dir().join(format!("browserfleet-{}", nix::unistd::geteuid()));
    let uid_base = reader.count("browser.uid_base", 61_000, 1..=4_000_000_000);
    chromium::Config {
        executable,
        no_sandbox: reader.flag("unsafe.no_sandbox", false),
        launch_timeout: reader.duration("browser.launch_timeout", 20 * SECOND, SECOND..=5 * MINUTE),
        term_grace: reader.duration("browser.term_grace", SECOND, Duration::ZERO..=MINUTE),
        kill_grace: reader.duration("browser.kill_grace", 5 * SECOND, SECOND..=MINUTE),
        state_dir: reader.path("browser.state_dir").unwrap_or(default_state),
        extra_args,
        uid_base: u32::try_from(uid_base.min(u32::MAX as usize - max_browsers)).unwrap_or(61_000),
        download_bytes: reader.bytes("browser.download_bytes", download_bytes, 0..=DOWNLOAD_BYTES_MAX),
        cgroup: reader.choice("browser.cgroup", Demand::Auto, &Demand::NAMES),
        network_namespace: reader.choice("browser.network_namespace", Demand::Auto, &Demand::NAMES),
        memory_limit,
        max_tasks: reader.count("browser.max_tasks", 2048, 128..=1_000_000) as u64,
    }
}

fn read_egress(reader: &mut Reader, network: Network) -> egress::Config {
    let choices = [("local", Network::Local), ("public", Network::Public)];
    let network = reader.choice("egress.network", network, &choices);
    let mut allow = Vec::new();
    for text in reader.list("egress.allow", &[]) {
        match Opened::parse(&text) {
            Ok(opened) => allow.push(opened),
            Err(what) => reader.problem(format!("egress.allow: {what}")),
        }
    }
    egress::Config { network, allow, resolver: Arc::new(System::default()) }
}

fn read_health(reader: &mut Reader) -> health::Config {
    // A page takes 15 to 30 MiB beside its browser's 170; in a shared browser each session may have a few.
    let sessions = reader.count("pool.contexts_per_browser", 1, 1..=500) as u64;
    let memory = GIB + (sessions - 1) * 64 * MIB;
    health::Config {
        memory_limit: reader.bytes("browser.memory_limit", memory, 128 * MIB..=1024 * GIB),
        probe_interval: reader.duration("browser.probe_interval", 30 * SECOND, SECOND..=HOUR),
    }
}

fn read_pressure(reader: &mut Reader) -> pressure::Config {
    // Percent; 100 turns it off. So are processors by default: on a small machine that does anything else some task
    // waits nearly all the time, and browsers that start a little later are better than none.
    pressure::Config {
        max_memory: reader.count("host.max_memory", 90, 10..=100) as u64,
        max_cpu: reader.count("host.max_cpu_pressure", 100, 10..=100) as u64,
    }
}
