//! The `browserfleet` program. Everything is in the library, so that tests call what runs.

use std::process::ExitCode;

fn main() -> ExitCode {
    browserfleet::main(std::env::args_os())
}
