//! The one program: each verb in a file of its own, and the platform in one process as a library.

mod config;
mod derived;
mod digest;
mod documents;
mod error;
mod groups;
mod health;
mod live;
mod ports;
mod print;
pub mod replay;
mod roles;
mod scrape;
mod serve;
pub mod settings;
mod signals;
pub mod simulate;
mod target;
mod topics;
mod trace;
pub mod up;
pub mod verify;

pub use derived::Derived;
pub use error::Error;
pub use roles::Role;
pub use scrape::Scrape;
pub use target::{Broker, Target};
pub use up::Platform;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};

use settings::{Flags, Settings, Sources};

/// After the verb has ended: for what a library still runs on a thread of its own.
const RUNTIME_END: Duration = Duration::from_secs(1);
/// For the last spans to reach their collector.
const TRACES_END: Duration = Duration::from_secs(2);

/// A user event stream platform: one immutable, ordered log, and what independent consumers make of it.
#[derive(Debug, Parser)]
#[command(
    name = "headwater",
    version,
    after_help = "Settings are flags, variables or keys of headwater.toml: see --help."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Instead of headwater.toml in the working folder.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run every service in this process, with an embedded part wherever none is configured.
    Up,
    /// Run these services against the configured parts.
    Serve {
        #[arg(required = true, value_name = "ROLE")]
        roles: Vec<Role>,
    },
    /// Drive a running platform with labelled traffic, and write down what was sent and answered.
    Simulate(simulate::Arguments),
    /// Hold a running platform against what must have come of the newest simulation.
    Verify,
    /// Print the effective settings and where each comes from.
    Config,
    /// Ask the process that runs with these settings whether it is ready: exit code 0, 1 (and what it waits for), 3 (nobody).
    Health,
    /// Print the traces that an event is in as trees, as Jaeger has them.
    Trace(trace::Arguments),
    /// Print each consumer group: its members, what each owns, offsets and lag.
    Groups(groups::Options),
    /// Print one number for everything that a service has derived from the log, and one for each of its collections: of
    /// the documents at MONGODB_URI, else of those that a running platform has in memory.
    Digest {
        #[arg(value_name = "SERVICE")]
        of: Derived,
    },
    /// Derive a service's documents from the log once more, beside the live ones, and compare: exit 1 on a difference.
    Replay(replay::Arguments),
    /// Work on the topics of the log.
    Topics {
        #[command(subcommand)]
        verb: topics::Verb,
    },
}

impl Verb {
    /// Variables of a document beside ours.
    fn documented(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Serve { roles } => Role::documented(roles),
            _ => &[],
        }
    }
}

/// The whole program, as every binary of it calls it: what went wrong goes to stderr, how it went is the exit code.
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headwater: {}", error.story());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Does what was asked for, on a runtime of its own.
fn run(cli: Cli) -> Result<(), Error> {
    let resolved = Sources::gather(cli.flags.0, cli.config.as_deref(), cli.verb.documented())?.resolve()?;
    let settings = Settings::parse(&resolved)?;
    if matches!(cli.verb, Verb::Config) {
        return config::print(&resolved);
    }
    headwater_otel::init(&settings.telemetry())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    let done = runtime.block_on(async {
        match cli.verb {
            Verb::Up => up::run(settings).await,
            Verb::Serve { roles } => serve::run(settings, roles).await,
            Verb::Health => health::run(&settings).await,
            Verb::Trace(arguments) => trace::run(arguments, &settings).await,
            Verb::Groups(options) => groups::run(options, &settings).await,
            Verb::Simulate(arguments) => simulate::run(arguments, &settings).await,
            Verb::Verify => verify::run(&settings).await,
            Verb::Digest { of } => digest::run(of, &settings).await,
            Verb::Replay(arguments) => replay::run(arguments, &settings).await,
            Verb::Topics { verb } => topics::run(verb, &settings).await,
            Verb::Config => Ok(()),
        }
    });
    runtime.shutdown_timeout(RUNTIME_END);
    headwater_otel::flush_traces(TRACES_END);
    done
}
