//! One process: a front end that calls the gRPC services of a pool daemon, as in a fleet, but without a wire.

mod args;
mod ctl;
mod program;
mod settings;

use std::{ffi::OsString, io, process::ExitCode};

use anyhow::Context as _;
use browserfleet_common::{
    config::{EXIT_CONFIG, EXIT_USAGE, Problems},
    probe,
    telemetry::Installed,
};
use browserfleet_mcp_frontend::keys::command::Command;
use browserfleet_pool_daemon::host::checks;
use clap::Parser as _;

use self::args::Settings;

/// Runs the program with a command line, the program's name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match args::Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // Nothing can be done about an output that does not work.
            let _unwritable = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let run = match args.command {
        args::Command::Run(run) => run,
        args::Command::Probe { question, door, common } => {
            return probe::exit_code("browserfleet", args::ask(question, &door, &common));
        }
        args::Command::Settings => return code(settings::print(&mut io::stdout().lock()).map(|()| true)),
        args::Command::Keys(command) => return keys(&command),
        args::Command::Ctl(ctl) => return code(ctl.run(&mut io::stdout().lock()).map(|()| true)),
    };
    let (settings, mut problems) = run.settings();
    if let args::Run::Doctor { .. } = run {
        // The program would wait for it; whoever asks wants to know.
        problems.0.extend(settings.store_away.clone());
        return code(telemetry(&settings).and_then(|_last_words| program::examine(&settings, &problems)));
    }
    let checks = checks::at_start(&settings.daemon);
    problems.0.extend(checks::problems(&checks));
    if !problems.0.is_empty() {
        eprintln!("browserfleet: {problems}");
        return ExitCode::from(EXIT_CONFIG);
    }
    code(telemetry(&settings).and_then(|_last_words| {
        checks::log_warnings(&checks);
        program::run(settings).map(|()| true)
    }))
}

fn telemetry(settings: &Settings) -> anyhow::Result<Installed> {
    settings.telemetry.install().context("traces cannot be sent")
}

/// Keys go to standard output, so that scripts can take them; what is for people goes to standard error.
fn keys(command: &Command) -> ExitCode {
    match command.run(&mut io::stdout().lock(), &mut io::stderr().lock()) {
        Err(error) if error.is::<Problems>() => {
            eprintln!("browserfleet: {error}");
            ExitCode::from(EXIT_CONFIG)
        }
        result => code(result.map(|()| true)),
    }
}

/// How a run that has ended well, or not, is told to whoever started the program.
fn code(ended: anyhow::Result<bool>) -> ExitCode {
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        // What was found has been said.
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("browserfleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}
