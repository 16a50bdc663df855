//! Load on a running ingress, and what it costs: how many actions become durable in a second, how long each waits for
//! its answer, the CPU that every process spends on one of them, and whether the relay keeps up.
mod action;
mod outbox;
mod report;
mod streamed;
mod unary;
mod window;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::Args;
use tokio::time::{Instant, sleep_until};
use tonic::transport::{Channel, Endpoint};

use crate::{
    Answers, Span,
    cpu::{self, Process},
};
use action::{Actions, Ids};
use outbox::Outbox;
use report::Report;

/// Exit code 1: an action was refused, or the relay fell behind.
#[derive(Debug, Clone, Args)]
pub(crate) struct Arguments {
    /// gRPC door of the ingress.
    #[arg(long, default_value = "127.0.0.1:50051")]
    ingress: SocketAddr,
    /// Admin port of the ingress, for the outbox.
    #[arg(long, default_value = "127.0.0.1:9464")]
    admin: SocketAddr,
    /// Measured; a tenth of it runs before, unmeasured.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Streams, or unary calls at a time.
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
    /// HTTP/2 connections that they share.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Actions of one stream that wait for their answer, at most.
    #[arg(long, default_value_t = 500)]
    window: usize,
    /// Actions per second over all streams, evenly; absent: as many as are answered. A latency is then counted from when
    /// its action was due.
    #[arg(long)]
    rate: Option<f64>,
    /// Each action is of one of so many, drawn uniformly.
    #[arg(long, default_value_t = 100_000)]
    users: u32,
    /// Of the event_ids.
    #[arg(long, value_enum, default_value_t = Ids::V7)]
    ids: Ids,
    /// Processes whose CPU is counted, with all their children; this one is.
    #[arg(long = "process", value_name = "NAME=PID")]
    processes: Vec<Process>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// RecordActions.
    Streamed,
    /// RecordAction.
    Unary,
}

/// True where everything was accepted and the relay kept up.
pub(crate) async fn run(mode: Mode, mut arguments: Arguments) -> anyhow::Result<bool> {
    arguments.processes.push(Process::this());
    let actions = Arc::new(Actions::new(arguments.users, arguments.ids));
    let outbox = Outbox::new(arguments.admin)?;
    let before_all = outbox.look().await?;
    let channels = connect(&arguments).await?;

    let begin = Instant::now() + Duration::from_secs(arguments.seconds).div_f64(10.0);
    let span = Span { begin, end: begin + Duration::from_secs(arguments.seconds) };
    let driving: Vec<_> = (0..arguments.concurrency)
        .map(|index| {
            let (channel, actions) = (channels[index % channels.len()].clone(), actions.clone());
            let each = arguments.rate.map(|rate| rate / arguments.concurrency as f64);
            match mode {
                Mode::Streamed => tokio::spawn(streamed::drive(channel, actions, arguments.window, each, span)),
                Mode::Unary => tokio::spawn(unary::drive(channel, actions, each, span)),
            }
        })
        .collect();

    sleep_until(span.begin).await;
    let cpu_before = cpu::of(&arguments.processes)?;
    let watched = outbox.watch(span.end).await?;
    let cpu = cpu::between(&cpu_before, &cpu::of(&arguments.processes)?);
    let took = span.begin.elapsed();

    let mut answers = Answers::none();
    let mut answered_in_all = 0;
    for one in driving {
        let (all, measured) = one.await?.context("a stream or call to the ingress failed")?;
        answered_in_all += all;
        answers.add(&measured);
    }
    let emptied = outbox.until_sent(&before_all, answered_in_all).await?;
    let report = Report::new((mode, &arguments), &answers, took, cpu, &watched, emptied);
    report.print(arguments.json)?;
    Ok(report.passed())
}

async fn connect(arguments: &Arguments) -> anyhow::Result<Vec<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{}", arguments.ingress))?
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .tcp_nodelay(true);
    let mut channels = Vec::new();
    for _ in 0..arguments.connections.clamp(1, arguments.concurrency) {
        let channel = endpoint.connect().await;
        channels.push(channel.with_context(|| format!("no ingress answers at {}", arguments.ingress))?);
    }
    Ok(channels)
}
