use std::{
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, filter::ParseError};

use crate::{
    describe::{Kind, METRICS},
    logs, names,
    traces::{self, TracesConfig},
};

/// From a commit in memory (1 ms) to a retry that is parked (minutes).
const SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Of batches and bytes.
const AMOUNTS: [f64; 14] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 5e3, 2e4, 1e5, 1e6];
/// Of users: with an edge at every default threshold of a verdict.
const SCORES: [f64; 9] = [0.0, 10.0, 20.0, 30.0, 50.0, 70.0, 100.0, 150.0, 200.0];
/// Histograms keep every sample until they are folded, whether or not somebody scrapes.
const FOLD_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
pub struct TelemetryConfig {
    /// What is logged, in the syntax of `RUST_LOG`.
    pub log: String,
    /// Where spans go; `None`: nowhere.
    pub traces: Option<TracesConfig>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log: "info".to_owned(), traces: None }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{directive:?} is no log filter; write it like info,headwater_stream=debug")]
    LogFilter {
        directive: String,
        #[source]
        source: ParseError,
    },
    #[error("another metrics recorder or log subscriber is already installed in this process")]
    Taken,
    #[error("the metrics recorder cannot be built")]
    Metrics(#[source] BuildError),
}

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics {
    prometheus: PrometheusHandle,
    process: metrics_process::Collector,
}

impl Metrics {
    /// Everything in the Prometheus text format, process metrics as of now.
    pub fn render(&self) -> String {
        self.process.collect();
        self.prometheus.render()
    }
}

/// Logs go to stderr (text on a terminal, JSON otherwise), metrics to the returned handle. Both belong to the whole
/// process: called again, it gives the same handle, and the first call's configuration stays.
pub fn init(config: &TelemetryConfig) -> Result<Metrics, Error> {
    static INSTALLED: Mutex<Option<Metrics>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(metrics) = &*installed {
        return Ok(metrics.clone());
    }
    if !logs::install(log_filter(&config.log)?) {
        return Err(Error::Taken);
    }
    let metrics = install_metrics()?;
    if let Some(exported) = config.traces.clone() {
        traces::install(exported);
    }
    *installed = Some(metrics.clone());
    Ok(metrics)
}

fn install_metrics() -> Result<Metrics, Error> {
    let mut builder = PrometheusBuilder::new().set_buckets(&SECONDS).map_err(Error::Metrics)?;
    for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Histogram { seconds: false }) {
        let buckets = if metric.name == names::FRAUD_SCORE { &SCORES[..] } else { &AMOUNTS };
        let matcher = Matcher::Full(metric.name.to_owned());
        builder = builder.set_buckets_for_metric(matcher, buckets).map_err(Error::Metrics)?;
    }
    let recorder = builder.build_recorder();
    let prometheus = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| Error::Taken)?;
    for metric in METRICS.iter() {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help.clone()),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help.clone()),
            Kind::Histogram { .. } => metrics::describe_histogram!(metric.name, metric.help.clone()),
        }
    }
    let process = metrics_process::Collector::default();
    process.describe();
    let folded = prometheus.clone();
    // a thread, not a task: it outlives the runtime of whoever came first
    thread::spawn(move || {
        loop {
            thread::sleep(FOLD_INTERVAL);
            folded.run_upkeep();
        }
    });
    Ok(Metrics { prometheus, process })
}

/// Whether [`init`] would take this as [`TelemetryConfig::log`].
pub fn check_log_filter(directive: &str) -> Result<(), Error> {
    log_filter(directive).map(drop)
}

fn log_filter(directive: &str) -> Result<EnvFilter, Error> {
    EnvFilter::try_new(directive).map_err(|source| Error::LogFilter { directive: directive.to_owned(), source })
}
