//! The program `mcp-frontend`: command line, settings, wiring.

use std::{ffi::OsString, io, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use browserfleet_common::{
    clock::SystemClock,
    config::{DAEMON, EXIT_CONFIG, EXIT_USAGE, Problems, Reader},
    lifecycle::{Shutdown, Tasks},
    telemetry::LogConfig,
};
use clap::Parser;
use tonic::transport::{Channel, Endpoint};

use crate::{App, Config, http::server::bind};

/// How long tasks may take to end once everything is served.
const LAST_TASKS: Duration = Duration::from_secs(5);

/// Stateless MCP front end: browsers for AI agents.
#[derive(Debug, Parser)]
#[command(name = "mcp-frontend", version)]
struct Args {
    /// Address to serve MCP on [default: 127.0.0.1:8931]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The pool daemon
    #[arg(long, value_name = "URL", help = "The pool daemon [default: http://127.0.0.1:50051]")]
    pool: Option<String>,
    /// Settings as TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve one client over standard input and output instead of HTTP
    #[arg(long)]
    stdio: bool,
}

/// Everything the program needs to know.
#[derive(Debug)]
struct Settings {
    frontend: Config,
    log: LogConfig,
    pool: Endpoint,
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
    let settings = match read(&args) {
        Ok(settings) => settings,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    settings.log.install();
    match run(settings, args.stdio) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read(args: &Args) -> Result<Settings, Problems> {
    let listen = args.listen.map(|address| address.to_string());
    let flags: [(_, Option<&dyn browserfleet_common::config::FlagValue>); 2] =
        [("http.listen", listen.as_ref().map(|x| x as _)), ("frontend.pool", args.pool.as_ref().map(|x| x as _))];
    let mut reader = Reader::new(args.config.as_deref(), &flags);
    let (frontend, log) = (Config::read(&mut reader), LogConfig::read(&mut reader));
    let address = reader.text("frontend.pool", "http://127.0.0.1:50051");
    let pool = match Channel::from_shared(address.clone()) {
        Ok(pool) if pool.uri().scheme_str() == Some("http") && pool.uri().port().is_some() => pool,
        _ => {
            reader.problem(format!("frontend.pool = {address:?}: not allowed; a URL such as http://127.0.0.1:50051"));
            Endpoint::from_static("http://127.0.0.1:50051")
        }
    };
    reader.finish(DAEMON)?;
    Ok(Settings { frontend, log, pool: pool_settings(pool) })
}

/// The connection to a daemon notices within seconds when the other end is gone.
fn pool_settings(pool: Endpoint) -> Endpoint {
    let ten = Duration::from_secs(10);
    pool.connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(ten)
        .keep_alive_timeout(ten)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
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
    let (pool, listen) = (settings.pool.connect_lazy(), settings.frontend.http.listen);
    let clock = Arc::new(SystemClock);
    let app = App::build(settings.frontend, pool, tasks.clone(), shutdown.clone(), clock);
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
        assert_eq!(code(&["--config", "/nowhere"]), ExitCode::from(EXIT_CONFIG));
    }
}
