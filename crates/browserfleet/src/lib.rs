//! One process: a front end that calls the gRPC services of a pool daemon, as in a fleet, but without a wire.

mod args;
mod program;

use std::{ffi::OsString, io, process::ExitCode};

use browserfleet_common::config::{EXIT_CONFIG, EXIT_USAGE, Problems};
use browserfleet_mcp_frontend::keys::command::Command;
use browserfleet_pool_daemon::host::checks;
use clap::Parser as _;

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
        args::Command::Keys(command) => return keys(&command),
    };
    let (settings, mut problems) = run.settings();
    if let args::Run::Doctor { .. } = run {
        // The program would wait for it; whoever asks wants to know.
        problems.0.extend(settings.store_away.clone());
        let _last_lines = settings.log.install();
        return code(program::examine(&settings, &problems));
    }
    let checks = checks::at_start(&settings.daemon);
    problems.0.extend(checks::problems(&checks));
    if !problems.0.is_empty() {
        eprintln!("browserfleet: {problems}");
        return ExitCode::from(EXIT_CONFIG);
    }
    let _last_lines = settings.log.install();
    checks::log_warnings(&checks);
    code(program::run(settings).map(|()| true))
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
