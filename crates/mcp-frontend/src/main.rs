//! The program `mcp-frontend`. Everything is in the library, so that tests call what runs.

use std::process::ExitCode;

fn main() -> ExitCode {
    browserfleet_mcp_frontend::cli::main(std::env::args_os())
}
