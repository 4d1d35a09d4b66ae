//! The program `mcp-frontend`: command line, settings, wiring.

use std::{
    ffi::OsString,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use browserfleet_common::{
    clock::SystemClock,
    config::{DAEMON, EXIT_CONFIG, EXIT_USAGE, Problems, Reader, Setting},
    lifecycle::{Shutdown, Tasks},
    probe::{self, Door, Question},
    redis::{
        self,
        checks::{self, Need},
    },
    service::ServiceSecret,
    telemetry::{Standing, Telemetry},
};
use clap::Parser;
use tonic::transport::Endpoint;

use crate::{App, Config, Host, Pools, Wire, http::server::bind};

/// How long tasks may take to end once everything is served.
const LAST_TASKS: Duration = Duration::from_secs(5);

/// Most pool daemons.
const POOLS_MAX: usize = 64;

/// Stateless MCP front end: browsers for AI agents.
#[derive(Debug, Parser)]
#[command(name = "mcp-frontend", version)]
struct Args {
    /// Address to serve MCP on [default: 127.0.0.1:8931]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// A pool daemon; may be given several times
    #[arg(
        long,
        value_name = "URL",
        help = "A pool daemon; may be given several times [default: those in the store, or http://127.0.0.1:50051]"
    )]
    pool: Vec<String>,
    /// Settings as TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// API keys: who may call, see browserfleet keys
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Redis, so that several front ends serve the same sessions [default: this one keeps them itself]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Groups of tools to serve beside core, parted by commas: storage, testing, vision, network, pdf, devtools, config, automation, or all; slim for
    /// the tools that are enough to browse in less than 500 tokens;
    /// a URL can ask for its own: /mcp?caps=storage
    #[arg(long, value_name = "GROUPS")]
    caps: Option<String>,
    /// How much of the page replies show where the call does not say: none, diff, interactive or full [default: full]
    #[arg(long, value_name = "MODE")]
    snapshot_mode: Option<String>,
    /// Serve on other addresses than loopback without keys: everybody who reaches them drives your browsers
    #[arg(long)]
    insecure: bool,
    /// Serve one client over standard input and output instead of HTTP
    #[arg(long)]
    stdio: bool,
    /// Only check whether these settings will do, and say what will not
    #[arg(long, conflicts_with = "probe")]
    check: bool,
    /// Only ask the front end that runs here with these settings: does it live (health), would it take new work (ready)?
    #[arg(long, value_name = "QUESTION")]
    probe: Option<Question>,
}

/// Everything the program needs to know.
#[derive(Debug)]
struct Settings {
    frontend: Config,
    telemetry: Telemetry,
    pools: Vec<Endpoint>,
    secret: Option<ServiceSecret>,
    /// Why the store could not be looked at.
    store_away: Option<String>,
}

/// Runs the program with the given command line, the program's name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // Nothing can be done about an output that does not work.
            let _unwritable = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let mut reader = reader(&args);
    if let Some(question) = args.probe {
        return probe::exit_code("mcp-frontend", ask(&mut reader, question));
    }
    let settings = match read(reader) {
        Ok(settings) => settings,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if args.check {
        return checked(settings.store_away.as_deref());
    }
    let _last_words = match settings.telemetry.install() {
        Ok(installed) => installed,
        Err(error) => {
            eprintln!("mcp-frontend: traces cannot be sent: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(settings, args.stdio) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Asks the front end that runs with these settings. What is wrong with them is its business: it has told that.
///
/// # Errors
/// When it does not answer, or says no.
pub fn ask(reader: &mut Reader, question: Question) -> Result<(), probe::No> {
    let listen = reader.address("http.listen", Config::default().http.listen);
    // It answers to the names it was given and to no others.
    let names = reader.list("http.allowed_hosts", &[]);
    let (host, tls) = (names.first().map_or("localhost", String::as_str), reader.path("http.tls_cert_file").is_some());
    probe::ask(question, Door { listen, host, tls })
}

/// The settings are good. A front end would wait for a store that is away; whoever asks wants to know.
fn checked(store_away: Option<&str>) -> ExitCode {
    match store_away {
        None => ExitCode::SUCCESS,
        Some(away) => {
            eprintln!("{away}");
            ExitCode::FAILURE
        }
    }
}

/// Merges flags, environment and file.
fn reader(args: &Args) -> Reader {
    let listen = args.listen.map(|address| address.to_string());
    let pools = (!args.pool.is_empty()).then_some(&args.pool);
    let flags: [(_, Option<&dyn browserfleet_common::config::FlagValue>); 7] = [
        ("http.listen", listen.as_ref().map(|x| x as _)),
        ("frontend.pools", pools.map(|x| x as _)),
        ("auth.keys_file", args.keys.as_ref().map(|x| x as _)),
        ("store.url", args.store.as_ref().map(|x| x as _)),
        ("tools.caps", args.caps.as_ref().map(|x| x as _)),
        ("call.snapshot", args.snapshot_mode.as_ref().map(|x| x as _)),
        ("unsafe.insecure", args.insecure.then_some(&true as _)),
    ];
    Reader::new(args.config.as_deref(), &flags)
}

fn read(mut reader: Reader) -> Result<Settings, Problems> {
    let settings = ask_for(&mut reader);
    reader.finish(DAEMON)?;
    Ok(settings)
}

fn ask_for(reader: &mut Reader) -> Settings {
    let frontend = Config::read(reader);
    let telemetry = Telemetry::read(reader, "mcp-frontend", Standing::Edge);
    let pools = pools_of(reader, frontend.store.is_some());
    let secret = secret(reader, &pools, frontend.store.as_ref());
    // One that is away is told of, and looked at again, by the program.
    let store_away = checks::read(reader, frontend.store.as_ref(), Need::Messages);
    Settings { frontend, telemetry, pools, secret, store_away }
}

/// What can be set of the program.
pub fn reference() -> Vec<Setting> {
    let mut reader = Reader::unset();
    ask_for(&mut reader);
    reader.reference()
}

/// `frontend.pools`: the daemons' addresses. None: they are found in the store.
fn pools_of(reader: &mut Reader, has_store: bool) -> Vec<Endpoint> {
    let addresses = reader.list("frontend.pools", if has_store { &[] } else { &["http://127.0.0.1:50051"] });
    if addresses.len() > POOLS_MAX || (addresses.is_empty() && !has_store) {
        reader.problem(format!("frontend.pools: {} addresses; 1 to {POOLS_MAX} are allowed", addresses.len()));
    }
    let mut pools: Vec<Endpoint> = Vec::new();
    for address in addresses {
        match Endpoint::from_shared(address.clone()) {
            Ok(pool) if pool.uri().scheme_str() != Some("http") || pool.uri().port().is_none() => {
                reader.problem(not_a_pool(&address));
            }
            // Two names of one daemon would count its browsers twice.
            Ok(pool) if pools.iter().any(|known| known.uri() == pool.uri()) => {
                reader.problem(format!("frontend.pools: {address:?} is there twice"));
            }
            Ok(pool) => pools.push(pool),
            Err(_malformed) => reader.problem(not_a_pool(&address)),
        }
    }
    pools
}

/// `grpc.secret_file`: what the daemons know us by.
fn secret(reader: &mut Reader, pools: &[Endpoint], store: Option<&redis::Settings>) -> Option<ServiceSecret> {
    let Some(path) = reader.path("grpc.secret_file") else {
        let far = pools.iter().find(|pool| !is_near(pool)).map(|pool| format!("frontend.pools: {}", pool.uri()));
        // Daemons that are found in a store are as far away as it is.
        let found = store.filter(|store| pools.is_empty() && !store.address.is_near());
        let far = far.or_else(|| found.map(|store| format!("store.url: {}, where daemons are found,", store.address)));
        if let Some(far) = far.filter(|_| !reader.flag("unsafe.insecure", false)) {
            reader.problem(format!(
                "{far} is not on this machine, so daemons need the secret that both share: set grpc.secret_file"
            ));
        }
        return None;
    };
    ServiceSecret::read(&path).map_err(|error| reader.problem(format!("grpc.secret_file = {error}"))).ok()
}

/// Whether a daemon is on this machine.
fn is_near(pool: &Endpoint) -> bool {
    let host = pool.uri().host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn not_a_pool(address: &str) -> String {
    format!("frontend.pools: {address:?}: not allowed; URLs such as http://127.0.0.1:50051")
}

fn run(settings: Settings, stdio: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let result = runtime.block_on(serve(settings, stdio));
    // Standard input may be held by a read that never ends.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn serve(settings: Settings, stdio: bool) -> anyhow::Result<()> {
    let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
    shutdown.on_signals(&tasks).context("installing signal handlers")?;
    let pools = settings.pools.into_iter().fold(Pools::default(), |pools, pool| pools.at(pool, Wire::default()));
    let pools = pools.trusting(settings.secret);
    let listen = settings.frontend.http.listen;
    let host = Host { tasks: tasks.clone(), shutdown: shutdown.clone(), clock: Arc::new(SystemClock) };
    let app = App::build(settings.frontend, pools, host).context("opening store.state_dir")?;
    let served: io::Result<()> = if stdio {
        app.serve_stdio().await
    } else {
        let listener = bind(listen).await.context("binding http.listen")?;
        app.serve_http(listener).await
    };
    shutdown.force();
    let left = tasks.join(LAST_TASKS).await;
    if left > 0 {
        tracing::warn!(left, "tasks did not end in time");
    }
    served.context("serving")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(args: &[&str]) -> ExitCode {
        main(["mcp-frontend"].iter().chain(args).map(OsString::from))
    }

    #[test]
    fn wrong_command_lines_and_settings_have_their_codes() {
        assert_eq!(code(&["--help"]), ExitCode::SUCCESS);
        assert_eq!(code(&["--nonsense"]), ExitCode::from(EXIT_USAGE));
        assert_eq!(code(&["--listen", "nowhere"]), ExitCode::from(EXIT_USAGE));
        assert_eq!(code(&["--listen", "0.0.0.0:0"]), ExitCode::from(EXIT_CONFIG));
        assert_eq!(code(&["--pool", "localhost"]), ExitCode::from(EXIT_CONFIG));
        assert_eq!(code(&["--pool", "http://localhost"]), ExitCode::from(EXIT_CONFIG));
        assert_eq!(code(&["--pool", "http://a:1", "--pool", "http://a:1"]), ExitCode::from(EXIT_CONFIG));
        assert_eq!(code(&["--store", "localhost"]), ExitCode::from(EXIT_CONFIG));
        assert_eq!(code(&["--config", "/nowhere"]), ExitCode::from(EXIT_CONFIG));
    }

    #[test]
    fn settings_are_checked_without_serving() {
        assert_eq!(code(&["--check", "--listen", "127.0.0.1:0"]), ExitCode::SUCCESS);
        assert_eq!(code(&["--check", "--listen", "0.0.0.0:0"]), ExitCode::from(EXIT_CONFIG));
        // A port that nobody listens on: good settings, a store that is away.
        assert_eq!(code(&["--check", "--store", "redis://127.0.0.1:1"]), ExitCode::FAILURE);
        assert_eq!(code(&["--check", "--probe", "ready"]), ExitCode::from(EXIT_USAGE));
    }

    #[test]
    fn nobody_is_found_where_nobody_listens() {
        assert_eq!(code(&["--probe", "ready", "--listen", "127.0.0.1:1"]), ExitCode::FAILURE);
        assert_eq!(code(&["--probe", "perhaps"]), ExitCode::from(EXIT_USAGE));
    }
}
