//! Load on running services, and what it costs them.
mod activity;
mod cpu;
mod ingress;

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use hdrhistogram::Histogram;
use tokio::time::Instant;

/// Load on a running service for a fixed time. Exit codes: 0 all well, 1 something was refused or not kept up with, 3 a
/// part did not answer.
#[derive(Debug, Parser)]
enum Load {
    /// RecordActions of an ingress: bidirectional streams.
    Streamed(ingress::Arguments),
    /// RecordAction of an ingress: one call for each action.
    Unary(ingress::Arguments),
    /// Activity services side by side, each started here: POST /events/generate, then the consumer.
    Activity(activity::Arguments),
}

/// What one stream or caller saw within the measured time.
struct Answers {
    accepted: u64,
    refused: u64,
    /// Microseconds.
    latency: Histogram<u64>,
}

impl Answers {
    fn none() -> Self {
        // three digits, to a minute
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order");
        Self { accepted: 0, refused: 0, latency }
    }

    fn count(&mut self, accepted: bool, latency: Duration) {
        if accepted {
            self.accepted += 1;
        } else {
            self.refused += 1;
        }
        self.latency.saturating_record(latency.as_micros() as u64);
    }

    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.latency += &other.latency;
    }
}

/// When to send and when to count.
#[derive(Debug, Clone, Copy)]
struct Span {
    begin: Instant,
    end: Instant,
}

impl Span {
    fn holds(&self, at: Instant) -> bool {
        (self.begin..self.end).contains(&at)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let passed = match Load::parse() {
        Load::Streamed(arguments) => ingress::run(ingress::Mode::Streamed, arguments).await,
        Load::Unary(arguments) => ingress::run(ingress::Mode::Unary, arguments).await,
        Load::Activity(arguments) => activity::run(arguments).await,
    };
    match passed {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::from(3)
        }
    }
}
