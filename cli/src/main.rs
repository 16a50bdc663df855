use std::process::ExitCode;

use clap::Parser as _;
use headwater_cli::{Cli, run};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headwater: {}", error.story());
            ExitCode::from(error.exit_code())
        }
    }
}
