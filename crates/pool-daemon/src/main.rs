//! The `pool-daemon` program.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use browserfleet_common::{
    config::{EXIT_CONFIG, EXIT_USAGE, FRONT_END, Problems, Reader},
    lifecycle::{Shutdown, Tasks},
    probe::{self, Door, Question},
    redis::{self, checks::Need},
    telemetry::{Installed, Standing, Telemetry},
};
use browserfleet_pool_daemon::{
    app::{App, End},
    chromium,
    config::{Config, Defaults, admin_listen},
    grpc,
    host::{checks, doctor},
    store,
};
use clap::Parser as _;
use tokio::net::TcpListener;

/// Owns Chromium browsers and leases them over gRPC.
#[derive(Debug, clap::Parser)]
#[command(version)]
struct Args {
    /// Settings in TOML
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where gRPC is served
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where /health, /ready and /metrics are served
    #[arg(long)]
    admin_listen: Option<SocketAddr>,
    /// Most browsers
    #[arg(long)]
    max_browsers: Option<usize>,
    /// Redis, where front ends find this daemon and keep their sessions [default: they are told of it, and keep them themselves]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Chromium's executable
    #[arg(long)]
    chromium: Option<PathBuf>,
    /// Serve on other addresses than loopback without a secret: everybody who reaches them drives every browser
    #[arg(long)]
    insecure: bool,
    /// Only check whether this machine and these settings will do, and say what will not
    #[arg(long, conflicts_with = "probe")]
    check: bool,
    /// Only ask the daemon that runs here with these settings: does it live (health), would it take new work (ready)?
    #[arg(long, value_name = "QUESTION")]
    probe: Option<Question>,
}

/// Time for the last tasks once everything has ended: front ends are told through the store.
const LAST_TASKS: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Nothing helps when even the message cannot be printed.
            let _unprintable = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let flags = [
        ("daemon.listen", args.listen.as_ref().map(|value| value as _)),
        ("daemon.admin_listen", args.admin_listen.as_ref().map(|value| value as _)),
        ("pool.max_browsers", args.max_browsers.as_ref().map(|value| value as _)),
        ("store.url", args.store.as_ref().map(|value| value as _)),
        ("browser.chromium", args.chromium.as_ref().map(|value| value as _)),
        ("unsafe.insecure", args.insecure.then_some(&true as _)),
    ];
    let mut reader = Reader::new(args.config.as_deref(), &flags);
    if let Some(question) = args.probe {
        // What is wrong with the settings is the daemon's business: it has told that.
        let door = Door { listen: admin_listen(&mut reader), host: "localhost", tls: false };
        let asked = probe::ask(question, door);
        return probe::exit_code("pool-daemon", asked);
    }
    let config = Config::read(&mut reader, Defaults::daemon());
    let telemetry = Telemetry::read(&mut reader, "pool-daemon", Standing::Inside);
    let away = redis::checks::read(&mut reader, config.store.as_ref(), Need::Memory);
    let mut problems = reader.finish(FRONT_END).err().unwrap_or(Problems(Vec::new()));
    if args.check {
        // The program would wait for it; whoever asks wants to know.
        problems.0.extend(away);
        return code(install(&telemetry).and_then(|_last_words| check(&config, &problems)));
    }
    let checks = checks::at_start(&config);
    problems.0.extend(checks::problems(&checks));
    if !problems.0.is_empty() {
        eprintln!("{problems}");
        return ExitCode::from(EXIT_CONFIG);
    }
    code(install(&telemetry).and_then(|_last_words| {
        checks::log_warnings(&checks);
        run(config).map(|end| end == End::Clean)
    }))
}

fn install(telemetry: &Telemetry) -> anyhow::Result<Installed> {
    telemetry.install().context("traces cannot be sent")
}

/// How a run that has ended well, or not, is told to whoever started the program.
fn code(ended: anyhow::Result<bool>) -> ExitCode {
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        // What was left or found has been said.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Without an output there is nobody to tell.
            let _unwritable = writeln!(io::stderr(), "pool-daemon: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn check(config: &Config, problems: &Problems) -> anyhow::Result<bool> {
    let ports = [("daemon.listen", config.daemon.listen), ("daemon.admin_listen", config.daemon.admin_listen)];
    Ok(doctor::run(config, &ports, &problems.0, &mut io::stdout().lock()).await?)
}

#[tokio::main]
async fn run(mut config: Config) -> anyhow::Result<End> {
    let (tasks, shutdown) = (Tasks::new(), Shutdown::new());
    chromium::become_subreaper().context("cannot become the reaper of browser processes")?;
    shutdown.on_signals(&tasks)?;
    let daemon = config.daemon.clone();
    let listener =
        TcpListener::bind(daemon.listen).await.with_context(|| format!("cannot listen on {}", daemon.listen))?;
    let admin = TcpListener::bind(daemon.admin_listen)
        .await
        .with_context(|| format!("cannot listen on {}", daemon.admin_listen))?;
    tracing::info!(grpc = %listener.local_addr()?, admin = %admin.local_addr()?, "pool daemon listening");
    let reached = listener.local_addr()?;
    config.daemon.address.get_or_insert_with(|| format!("http://{reached}"));
    let checkpoints = config.store.as_ref().map(store::checkpoints);
    let app = App::build(config, checkpoints, &tasks, &shutdown)?;
    app.start_admin(admin);
    // gRPC goes on while leases drain: their front ends still have calls to make and leases to return.
    let ended = tokio_util::sync::CancellationToken::new();
    let serving = app.serve(grpc::incoming(listener), ended.clone().cancelled_owned());
    let ending = async {
        shutdown.soft().cancelled().await;
        let end = app.end().await;
        ended.cancel();
        end
    };
    let (served, end) = tokio::join!(serving, ending);
    shutdown.force();
    let left = tasks.join(LAST_TASKS).await;
    if left > 0 {
        tracing::warn!(left, "tasks did not end in time");
    }
    served?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_tells_how_it_ended() {
        assert_eq!(code(Ok(true)), ExitCode::SUCCESS);
        assert_eq!(code(Ok(false)), ExitCode::FAILURE);
        assert_eq!(code(Err(anyhow::anyhow!("on purpose"))), ExitCode::FAILURE);
    }
}
