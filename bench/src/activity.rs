//! Activity services side by side: each is started on topics of its own, answers POST /events/generate for a while, and in
//! a new process reads what was written while it was off. What counts is the CPU of the service's process.
//!
//! In the first part the service consumes what it produces, as it does in life. The second part counts from the start of
//! the process, and its topic keeps records uncompressed, whoever wrote them: KafkaJS reads no lz4.
mod backlog;
mod calls;
mod contract;
mod report;
mod service;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use headwater_proto::topics::Topic;
use headwater_stream::{KafkaConfig, apply_topics, groups};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{Instant, interval, sleep_until},
};

use crate::{
    Answers, Span,
    cpu::{self, Process},
};
use calls::Requests;
use report::{Called, Consumed, Report};
use service::{Contestant, Service};

const PARTITIONS: i32 = 6;
/// Between two looks at how far a group is.
const LOOKS: Duration = Duration::from_millis(100);
/// For a group to finish what there is.
const PATIENCE: Duration = Duration::from_secs(600);

/// Exit code 1: a request was refused.
#[derive(Debug, Clone, Args)]
pub(crate) struct Arguments {
    /// A service and the command that starts it, in the order of the table. Its environment says where it finds and
    /// offers what: KAFKA_BROKERS, KAFKA_TOPIC, KAFKA_CONSUMER_GROUP, PORT, ACTIVITY_GRPC_PORT, ADMIN_PORT.
    #[arg(long = "service", value_name = "NAME=COMMAND", required = true)]
    services: Vec<Contestant>,
    /// Bootstrap addresses.
    #[arg(long)]
    kafka: String,
    /// Of the requests; measured.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Before them, unmeasured.
    #[arg(long, default_value_t = 5)]
    warm_up: u64,
    /// Each with one request at a time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Each event is of one of so many, drawn uniformly.
    #[arg(long, default_value_t = 10_000)]
    users: u32,
    /// Written while the service is off, for its consumer.
    #[arg(long, default_value_t = 200_000)]
    events: u64,
    /// Other processes whose CPU is counted; the service and this one are.
    #[arg(long = "process", value_name = "NAME=PID")]
    processes: Vec<Process>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// True where every request was accepted. Interrupted, it ends the service that it has started.
pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let report = tokio::select! {
        report = compare(&arguments) => report?,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    };
    report.print(arguments.json)?;
    Ok(report.passed())
}

async fn compare(arguments: &Arguments) -> anyhow::Result<Report> {
    let kafka = KafkaConfig::new(&arguments.kafka);
    let mut report = Report::new(arguments);
    for contestant in &arguments.services {
        let failed = || format!("{}: the requests", contestant.name);
        let called = calls(arguments, &kafka, contestant).await.with_context(failed)?;
        let failed = || format!("{}: the consumer", contestant.name);
        let consumed = consumer(arguments, &kafka, contestant).await.with_context(failed)?;
        report.add(&contestant.name, called, consumed);
    }
    Ok(report)
}

async fn calls(arguments: &Arguments, kafka: &KafkaConfig, contestant: &Contestant) -> anyhow::Result<Called> {
    let topic = new_topic(kafka, &contestant.name, "calls", &[]).await?;
    let mut service = Service::start(contestant, kafka, topic.name)?;
    service.until_healthy().await?;
    let mut events = contract::check(service.http).await?;

    let requests = Arc::new(Requests::new(service.http, arguments.users));
    let begin = Instant::now() + Duration::from_secs(arguments.warm_up);
    let span = Span { begin, end: begin + Duration::from_secs(arguments.seconds) };
    let mut callers = JoinSet::new();
    for _ in 0..arguments.connections {
        callers.spawn(calls::drive(requests.clone(), span));
    }
    let processes = [&[service.process(), Process::this()], &arguments.processes[..]].concat();
    sleep_until(span.begin).await;
    let before = cpu::of(&processes)?;
    sleep_until(span.end).await;
    let spent = cpu::between(&before, &cpu::of(&processes)?);
    let took = span.begin.elapsed();

    let mut answers = Answers::none();
    while let Some(caller) = callers.join_next().await {
        let (accepted, measured) = caller?.with_context(|| service.last_words())?;
        events += accepted;
        answers.add(&measured);
    }
    let finished = Instant::now();
    let written = until_consumed(kafka, &mut service, topic.name).await?;
    ensure!(written >= events, "{events} events were accepted, and {written} are in the log");
    let consumed_after = finished.elapsed();
    let peak_memory = service.peak_memory()?;
    service.stop().await?;
    Ok(Called::new(&answers, took, &spent, consumed_after, peak_memory))
}

async fn consumer(arguments: &Arguments, kafka: &KafkaConfig, contestant: &Contestant) -> anyhow::Result<Consumed> {
    let uncompressed = &[("compression.type", "uncompressed")];
    let topic = new_topic(kafka, &contestant.name, "consumer", uncompressed).await?;
    backlog::write(kafka, topic.name, arguments.events, arguments.users).await?;

    let started = Instant::now();
    let mut service = Service::start(contestant, kafka, topic.name)?;
    let mut grown = backlog::Grown::default();
    let log = service.log();
    tokio::select! {
        error = grown.watch(&log) => return Err(error),
        consumed = until_consumed(kafka, &mut service, topic.name) => consumed?,
    };
    let took = started.elapsed();
    let spent = cpu::of(&[service.process()])?;
    let peak_memory = service.peak_memory()?;
    service.stop().await?;
    let (events, logged) = (arguments.events, backlog::logged(&log)?);
    ensure!(logged >= events, "of {events} events {logged} are in its log; is it told to be quiet?");
    Ok(Consumed::new(events, took, grown.seconds_of_nine_tenths(), &spent, peak_memory))
}

/// One that nobody has used.
async fn new_topic(
    kafka: &KafkaConfig,
    service: &str,
    part: &str,
    config: &'static [(&'static str, &'static str)],
) -> anyhow::Result<Topic> {
    let name = format!("bench-activity-{service}-{part}-{:08x}", fastrand::u32(..));
    // the platform's topics are named in its program; these few are kept to the end of this one
    let topic = Topic { name: name.leak(), partitions: PARTITIONS, fixed: true, config };
    apply_topics(kafka, &[topic]).await?;
    Ok(topic)
}

/// Waits until the service's group has committed all there is; how much that is.
async fn until_consumed(kafka: &KafkaConfig, service: &mut Service, topic: &str) -> anyhow::Result<u64> {
    let start = Instant::now();
    let mut between = interval(LOOKS);
    let group = Service::group_of(topic);
    loop {
        between.tick().await;
        service.must_run()?;
        let lag = groups::lag(kafka, &group, topic).await?;
        let behind: i64 = lag.iter().map(groups::PartitionLag::records).sum();
        if behind == 0 {
            return Ok(lag.iter().map(|partition| (partition.end - partition.start).unsigned_abs()).sum());
        }
        ensure!(
            start.elapsed() < PATIENCE,
            "{behind} events are not consumed after {PATIENCE:?}; {}",
            service.last_words()
        );
    }
}
