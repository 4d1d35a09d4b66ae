//! One process: a front end and a pool daemon joined through memory, by the same gRPC as in a fleet.

mod args;
mod program;

use std::{ffi::OsString, process::ExitCode};

use browserfleet_common::config::{EXIT_CONFIG, EXIT_USAGE};
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
    let settings = match args.command.settings() {
        Ok(settings) => settings,
        Err(problems) => {
            eprintln!("browserfleet: {problems}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    settings.log.install();
    match program::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("browserfleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}
