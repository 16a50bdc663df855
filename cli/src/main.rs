use std::process::ExitCode;

use clap::Parser as _;
use headwater_cli::{Cli, run};

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let exit_code = error.exit_code();
            eprintln!("headwater: {:#}", anyhow::Error::new(error));
            ExitCode::from(exit_code)
        }
    }
}
