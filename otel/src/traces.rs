//! Spans on their way to a collector, by OTLP over gRPC. Whoever ends a span never waits: the queue is bounded, and what
//! finds it full, or no collector, is counted and gone.
use std::{
    collections::HashMap,
    sync::{OnceLock, mpsc as std_mpsc},
    thread,
    time::Duration,
};

use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanExporter as _},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::{Sampler, TraceContext, names};

/// About 16 MB of spans.
const QUEUE: usize = 16_384;
/// What one request to the collector holds at most.
const BATCH: usize = 512;
/// How long a span waits for others.
const LINGER: Duration = Duration::from_millis(500);
/// For one request; meanwhile the queue fills.
const PATIENCE: Duration = Duration::from_secs(5);
/// After a failure nobody is asked for so long: a collector that is away must not make the queue wait.
const PAUSE: Duration = Duration::from_secs(1);
/// Between two complaints about the collector.
const COMPLAINT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct TracesConfig {
    /// http:// URL of an OTLP collector's gRPC port.
    pub endpoint: String,
    pub sampler: Sampler,
    /// `service.instance.id` of every span.
    pub instance: String,
}

struct Traces {
    sampler: Sampler,
    queue: mpsc::Sender<Entry>,
}

enum Entry {
    Span {
        service: &'static str,
        data: Box<SpanData>,
    },
    /// Answered when what came before is with the collector, or lost.
    Flush(std_mpsc::Sender<()>),
}

static TRACES: OnceLock<Traces> = OnceLock::new();

/// Whether any span would go anywhere.
pub fn traces_are_on() -> bool {
    TRACES.get().is_some()
}

/// Whether a span of this context would go anywhere. Costs two loads.
pub fn is_recorded(context: TraceContext) -> bool {
    context.sampled && TRACES.get().is_some()
}

/// The context of work that begins here, under its caller's if there is one; the sampler decides. `None`: traces are off.
pub fn begin(parent: Option<TraceContext>) -> Option<TraceContext> {
    Some(TRACES.get()?.sampler.begin(parent))
}

/// Waits until everything that ended before is with the collector, or the time is over.
pub fn flush_traces(longest: Duration) {
    let Some(traces) = TRACES.get() else { return };
    let (done, answer) = std_mpsc::channel();
    if traces.queue.try_send(Entry::Flush(done)).is_ok() {
        let _ = answer.recv_timeout(longest);
    }
}

pub(crate) fn install(config: TracesConfig) {
    let (queue, entries) = mpsc::channel(QUEUE);
    if TRACES.set(Traces { sampler: config.sampler, queue }).is_err() {
        return;
    }
    // a thread with a runtime of its own: it outlives the runtime of whoever came first
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(
                Exporting { config, exporters: HashMap::new(), complained: None, away_until: None }.run(entries),
            ),
            Err(error) => tracing::error!(%error, "no thread for traces; every span is dropped"),
        }
    });
}

pub(crate) fn export(service: &'static str, data: SpanData) {
    let Some(traces) = TRACES.get() else { return };
    if traces.queue.try_send(Entry::Span { service, data: Box::new(data) }).is_err() {
        dropped("queue_full", 1);
    }
}

fn dropped(reason: &'static str, spans: usize) {
    metrics::counter!(names::TRACES_DROPPED_SPANS, names::REASON => reason).increment(spans as u64);
}

struct Exporting {
    config: TracesConfig,
    /// One per `service.name`: in `up` the services share a process.
    exporters: HashMap<&'static str, SpanExporter>,
    complained: Option<Instant>,
    /// Until then everything is dropped.
    away_until: Option<Instant>,
}

impl Exporting {
    async fn run(mut self, mut entries: mpsc::Receiver<Entry>) {
        let mut waiting: HashMap<&'static str, Vec<SpanData>> = HashMap::new();
        while let Some(entry) = entries.recv().await {
            let due = Instant::now() + LINGER;
            let (mut count, mut next, mut flushed) = (0, Some(entry), None);
            while let Some(entry) = next.take() {
                match entry {
                    Entry::Span { service, data } => waiting.entry(service).or_default().push(*data),
                    Entry::Flush(done) => {
                        flushed = Some(done);
                        break;
                    }
                }
                count += 1;
                if count < BATCH {
                    next = tokio::time::timeout_at(due, entries.recv()).await.ok().flatten();
                }
            }
            for (service, spans) in waiting.drain() {
                self.send(service, spans).await;
            }
            drop(flushed);
        }
    }

    async fn send(&mut self, service: &'static str, spans: Vec<SpanData>) {
        let count = spans.len();
        if self.away_until.is_some_and(|until| Instant::now() < until) {
            return dropped("not_exported", count);
        }
        let sent = match self.exporter(service) {
            Ok(exporter) => match timeout(PATIENCE, exporter.export(spans)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
            },
            Err(error) => error.to_string(),
        };
        dropped("not_exported", count);
        self.away_until = Some(Instant::now() + PAUSE);
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAINT) {
            self.complained = Some(Instant::now());
            tracing::warn!(endpoint = self.config.endpoint, cause = sent, "the trace collector takes no spans");
        }
    }

    fn exporter(&mut self, service: &'static str) -> Result<&SpanExporter, opentelemetry_otlp::ExporterBuildError> {
        if !self.exporters.contains_key(service) {
            let tonic = SpanExporter::builder().with_tonic().with_endpoint(&self.config.endpoint);
            let mut exporter = tonic.with_timeout(PATIENCE).build()?;
            let resource = Resource::builder_empty().with_service_name(service).with_attributes([
                opentelemetry::KeyValue::new(names::SERVICE_NAMESPACE, "headwater"),
                opentelemetry::KeyValue::new(names::SERVICE_INSTANCE, self.config.instance.clone()),
            ]);
            exporter.set_resource(&resource.build());
            self.exporters.insert(service, exporter);
        }
        Ok(&self.exporters[service])
    }
}
