//! The command line, and the settings it leads to.

use std::{net::SocketAddr, path::PathBuf};

use browserfleet_common::{
    config::{Problems, Reader, Setting},
    probe::{self, Question},
    redis::checks::{self, Need},
    telemetry::{Standing, Telemetry},
};
use browserfleet_mcp_frontend as frontend;
use browserfleet_pool_daemon::{self as daemon, config::Defaults};
use clap::{Parser, Subcommand};

use crate::ctl::Ctl;

/// Browsers for AI agents: an MCP server whose sessions are isolated Chromium processes.
///
/// Every setting is also an environment variable, `BROWSERFLEET_SECTION__KEY`, and a line of a TOML file.
#[derive(Debug, Parser)]
#[command(name = "browserfleet", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Run(Run),
    /// Ask the one that runs here with these settings: does it live (health), would it take new work (ready)?
    Probe {
        question: Question,
        #[command(flatten)]
        door: Door,
        #[command(flatten)]
        common: Common,
    },
    /// What can be set, as Markdown: of each setting what it is for, its default and why, and what it may be
    Settings,
    /// API keys: who may call, and what they may do
    #[command(subcommand)]
    Keys(frontend::keys::command::Command),
    /// Look at a fleet that runs: leases, sessions, daemons; drain, revoke
    Ctl(Ctl),
}

/// What needs the settings of a server.
#[derive(Debug, Subcommand)]
pub(crate) enum Run {
    /// Serve MCP over HTTP
    Serve {
        #[command(flatten)]
        door: Door,
        #[command(flatten)]
        common: Common,
    },
    /// Serve one MCP client over standard input and output
    Stdio {
        #[command(flatten)]
        common: Common,
    },
    /// Check whether this machine and these settings will do: takes what `serve` takes, starts one browser, ends again
    Doctor {
        #[command(flatten)]
        door: Door,
        #[command(flatten)]
        common: Common,
    },
}

/// Where clients come in, and who may.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Door {
    /// Address to serve MCP on [default: 127.0.0.1:8931]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// API keys: who may call, see browserfleet keys
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Redis, so that clients stay known when this program starts again [default: it keeps everything itself]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Where sessions are kept, so that they go on when this program starts again [default: they end with it]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Serve on other addresses than loopback without keys: everybody who reaches them drives your browsers
    #[arg(long)]
    insecure: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Most browsers at a time [default: 5]
    #[arg(long, value_name = "N")]
    max_browsers: Option<usize>,
    /// Chromium's executable [default: chromium-headless-shell, where packages put it]
    #[arg(long, value_name = "FILE")]
    chromium: Option<PathBuf>,
    /// Groups of tools to serve beside core, parted by commas: storage, testing, vision, network, pdf, devtools, config, automation, or all; slim for
    /// the tools that are enough to browse in less than 500 tokens;
    /// a URL can ask for its own: /mcp?caps=storage
    #[arg(long, value_name = "GROUPS")]
    caps: Option<String>,
    /// How much of the page replies show where the call does not say: none, diff, interactive or full [default: full]
    #[arg(long, value_name = "MODE")]
    snapshot_mode: Option<String>,
    /// Settings as TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How clients reach the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Http,
    Stdio,
}

/// Everything the program needs to know.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) transport: Transport,
    pub(crate) frontend: frontend::Config,
    pub(crate) daemon: daemon::config::Config,
    pub(crate) telemetry: Telemetry,
    /// Why the store could not be looked at.
    pub(crate) store_away: Option<String>,
}

impl Run {
    /// Merges flags, environment and file. Everything wrong is reported together; in place of what is wrong the settings
    /// have the defaults.
    pub(crate) fn settings(&self) -> (Settings, Problems) {
        let nowhere = Door::default();
        let (transport, door, common) = match self {
            Self::Serve { door, common } | Self::Doctor { door, common } => (Transport::Http, door, common),
            Self::Stdio { common } => (Transport::Stdio, &nowhere, common),
        };
        let mut reader = reader(door, common);
        let settings = Settings::ask_for(&mut reader, transport);
        let problems = reader.finish(&["frontend"]).err().unwrap_or(Problems(Vec::new()));
        (settings, problems)
    }
}

impl Settings {
    fn ask_for(reader: &mut Reader, transport: Transport) -> Self {
        // Over HTTP the first call should find a browser ready; an editor starts stdio servers it may never call.
        let min_warm = usize::from(transport == Transport::Http);
        let frontend = frontend::Config::read(reader);
        // On loopback it serves a developer, whose own pages are on this machine; with keys or tokens it serves others, perhaps behind
        // a proxy on this machine.
        let alone = transport == Transport::Stdio || (frontend.http.listen.ip().is_loopback() && frontend.is_open());
        let defaults = if alone { Defaults::own(min_warm) } else { Defaults::others(min_warm) };
        let store_away = checks::read(reader, frontend.store.as_ref(), Need::Messages);
        Self {
            transport,
            store_away,
            frontend,
            daemon: daemon::config::Config::read(reader, defaults),
            telemetry: Telemetry::read(reader, "browserfleet", Standing::Edge),
        }
    }

    /// What can be set of a program that serves HTTP.
    pub(crate) fn reference() -> Vec<Setting> {
        let mut reader = Reader::unset();
        Self::ask_for(&mut reader, Transport::Http);
        reader.reference()
    }
}

/// Merges flags, environment and file.
fn reader(door: &Door, common: &Common) -> Reader {
    let flags = [
        ("http.listen", door.listen.as_ref().map(|value| value as _)),
        ("auth.keys_file", door.keys.as_ref().map(|value| value as _)),
        ("store.url", door.store.as_ref().map(|value| value as _)),
        ("store.state_dir", door.state_dir.as_ref().map(|value| value as _)),
        ("unsafe.insecure", door.insecure.then_some(&true as _)),
        ("tools.caps", common.caps.as_ref().map(|value| value as _)),
        ("call.snapshot", common.snapshot_mode.as_ref().map(|value| value as _)),
        ("pool.max_browsers", common.max_browsers.as_ref().map(|value| value as _)),
        ("browser.chromium", common.chromium.as_ref().map(|value| value as _)),
    ];
    Reader::new(common.config.as_deref(), &flags)
}

/// Asks the program that runs with these settings.
///
/// # Errors
/// When it does not answer, or says no.
pub(crate) fn ask(question: Question, door: &Door, common: &Common) -> Result<(), probe::No> {
    frontend::cli::ask(&mut reader(door, common), question)
}
