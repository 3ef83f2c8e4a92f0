//! The command line of gabor.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
