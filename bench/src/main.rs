//! `make bench`: ours against raw CDP and against a peer, interleaved in one run, so that the machine's noise hits all
//! alike. Ratios travel to other machines, absolute times do not.
//!
//! [`contestants`] are who is compared, [`rows`] what is measured, [`stats`] and [`report`] what is said of it; [`mcp`],
//! [`pages`], [`processes`], [`redis_server`], [`tokens`] and [`setup`] are the tools.

mod contestants;
mod mcp;
mod pages;
mod processes;
mod redis_server;
mod report;
mod rows;
mod setup;
mod stats;
mod tokens;

use std::{fs, io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use browserfleet_pool_daemon::chromium;
use clap::Parser as _;
use tokio::{process::Command, time::Instant};

use crate::{
    contestants::peer,
    report::{Machine, Report, load},
    rows::Only,
    setup::{Pace, Setup},
    tokens::Tokenizer,
};

/// Ours against raw CDP and a peer, in one run.
#[derive(Debug, clap::Parser)]
struct Args {
    /// Fewer rounds: two minutes at most
    #[arg(long)]
    quick: bool,
    /// Only these rows, by their ids
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    only: Vec<String>,
    /// The report as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Without the peer's column
    #[arg(long)]
    no_peer: bool,
    /// Where the peer is installed
    #[arg(long, value_name = "DIR", default_value = ".cache/bench/peer")]
    peer_dir: PathBuf,
    /// Where the tokenizer is installed
    #[arg(long, value_name = "DIR", default_value = ".cache/bench/tokens")]
    tokens_dir: PathBuf,
    /// Fail when a target was missed
    #[arg(long)]
    strict: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether the run is to be called a success.
#[tokio::main]
async fn run(args: &Args) -> anyhow::Result<bool> {
    let ids: Vec<&str> = rows::IDS.iter().copied().flatten().copied().collect();
    if let Some(unknown) = args.only.iter().find(|id| !ids.contains(&id.as_str())) {
        anyhow::bail!("there is no row {unknown}; rows are {}", ids.join(", "));
    }
    chromium::become_subreaper().context("becoming the reaper of browser processes")?;
    let (started, load_before) = (Instant::now(), load());
    let pace = if args.quick { Pace::quick(started) } else { Pace::full(started) };
    let mut setup = Setup::new(pace, (!args.no_peer).then_some(args.peer_dir.as_path())).await?;
    if Only(args.only.clone()).wants_tokens() {
        setup.tokenizer = Tokenizer::prepare(&args.tokens_dir).await.map_err(|error| format!("{error:#}"));
    }
    let only = Only(args.only.clone());
    let measured = tokio::select! {
        measured = rows::measure(&setup, &only) => measured,
        interrupted = tokio::signal::ctrl_c() => Err(interrupted.err().map_or_else(
            || anyhow::anyhow!("interrupted"),
            anyhow::Error::from,
        )),
    };
    let machine = Machine {
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        load_before,
        load_after: load(),
        chromium: version(&setup).await,
        peer: setup.peer.as_ref().map_or_else(|why| format!("no peer: {why}"), |_| peer::title()),
        seconds: started.elapsed().as_secs(),
    };
    // Also after a failure: nothing stays behind.
    let ended = setup.end().await;
    let left = processes::left();
    let report = Report { machine, rows: measured? };
    std::io::stdout().write_all(report.table().as_bytes())?;
    if let Some(file) = &args.json {
        fs::write(file, serde_json::to_vec_pretty(&report)?).with_context(|| file.display().to_string())?;
    }
    ended?;
    anyhow::ensure!(left.is_empty(), "processes are left: {}", left.join(", "));
    Ok(report.met() || !args.strict)
}

async fn version(setup: &Setup) -> String {
    let output = Command::new(&setup.chromium).arg("--version").output().await;
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { setup.chromium.display().to_string() } else { text }
}
