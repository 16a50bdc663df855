//! What came of it, as a table or as JSON.
use std::{fmt::Write as _, fs, io::Write as _, thread, time::Duration};

use serde::Serialize;

use super::Arguments;
use crate::{Answers, cpu::Spent};

const MEBIBYTE: f64 = 1_048_576.0;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    connections: usize,
    users: u32,
    seconds: u64,
    events: u64,
    cores: usize,
    /// Runnable processes over the last minute, others' included, as the first service starts.
    load_average: String,
    services: Vec<Measured>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    service: String,
    calls: Called,
    consumer: Consumed,
}

/// POST /events/generate, with the consumer at work on what it writes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Called {
    accepted: u64,
    refused: u64,
    per_second: f64,
    p50_millis: f64,
    p99_millis: f64,
    /// Of one core, over the time.
    cores: f64,
    /// Per accepted request, by process: the service is the first, this program the second.
    cpu_micros: Vec<(String, f64)>,
    consumed_after_seconds: f64,
    peak_memory_mebibytes: f64,
}

/// What was written before the service started.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Consumed {
    /// Over the middle nine tenths; `None` where they came too fast to be told.
    per_second: Option<f64>,
    /// From the start of the process until everything was committed.
    seconds: f64,
    /// Per event, since the start of the process.
    cpu_micros: f64,
    peak_memory_mebibytes: f64,
}

impl Called {
    pub(crate) fn new(answers: &Answers, took: Duration, spent: &Spent, consumed: Duration, peak_memory: u64) -> Self {
        let millis = |quantile| round(answers.latency.value_at_quantile(quantile) as f64 / 1_000.0);
        let micros = |parts: &std::collections::BTreeMap<_, u64>| parts.values().sum::<u64>() as f64;
        let per_request = |micros: f64| round(micros / answers.accepted.max(1) as f64);
        Self {
            accepted: answers.accepted,
            refused: answers.refused,
            per_second: (answers.accepted as f64 / took.as_secs_f64()).round(),
            p50_millis: millis(0.5),
            p99_millis: millis(0.99),
            cores: round(spent.first().map_or(0.0, |(_, parts)| micros(parts)) / 1e6 / took.as_secs_f64()),
            cpu_micros: spent.iter().map(|(name, parts)| (name.clone(), per_request(micros(parts)))).collect(),
            consumed_after_seconds: round(consumed.as_secs_f64()),
            peak_memory_mebibytes: round(peak_memory as f64 / MEBIBYTE),
        }
    }

    fn micros(&self) -> f64 {
        self.cpu_micros.first().map_or(f64::NAN, |(_, micros)| *micros)
    }
}

impl Consumed {
    pub(crate) fn new(events: u64, took: Duration, nine_tenths: Option<f64>, spent: &Spent, peak_memory: u64) -> Self {
        let micros: u64 = spent.iter().flat_map(|(_, parts)| parts.values()).sum();
        Self {
            per_second: nine_tenths.map(|seconds| (0.9 * events as f64 / seconds).round()),
            seconds: round(took.as_secs_f64()),
            cpu_micros: round(micros as f64 / events.max(1) as f64),
            peak_memory_mebibytes: round(peak_memory as f64 / MEBIBYTE),
        }
    }
}

/// Which of two figures is the better one.
#[derive(Clone, Copy)]
enum Better {
    More,
    Less,
}

impl Report {
    pub(crate) fn new(arguments: &Arguments) -> Self {
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            connections: arguments.connections,
            users: arguments.users,
            seconds: arguments.seconds,
            events: arguments.events,
            cores: thread::available_parallelism().map_or(0, usize::from),
            load_average: load.split(' ').next().unwrap_or_default().to_owned(),
            services: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, service: &str, calls: Called, consumer: Consumed) {
        self.services.push(Measured { service: service.to_owned(), calls, consumer });
    }

    /// Everything was accepted.
    pub(crate) fn passed(&self) -> bool {
        self.services.iter().all(|Measured { calls, .. }| calls.accepted > 0 && calls.refused == 0)
    }

    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        let text = if json { serde_json::to_string(self)? + "\n" } else { self.table()? };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }

    /// A column for each service; where there are two, how many times better the second is.
    fn table(&self) -> Result<String, std::fmt::Error> {
        use Better::{Less, More};
        let mut text = String::new();
        let Self { connections, users, seconds, events, cores, load_average, services } = self;
        writeln!(text, "{users} users, {cores} cores, load average {load_average}")?;
        self.head(&mut text, &format!("POST /events/generate, {connections} connections, {seconds} s"))?;
        let mut row = |label: &str, better, value: &dyn Fn(&Measured) -> f64| self.row(&mut text, label, better, value);
        row("requests per second", Some(More), &|one| one.calls.per_second)?;
        row("p50, ms", Some(Less), &|one| one.calls.p50_millis)?;
        row("p99, ms", Some(Less), &|one| one.calls.p99_millis)?;
        row("CPU per request, us", Some(Less), &|one| one.calls.micros())?;
        row("cores in use", None, &|one| one.calls.cores)?;
        row("peak memory, MiB", Some(Less), &|one| one.calls.peak_memory_mebibytes)?;
        row("refused", None, &|one| one.calls.refused as f64)?;
        row("all consumed after, s", None, &|one| one.calls.consumed_after_seconds)?;
        let others = services.first().map_or(0, |one| one.calls.cpu_micros.len());
        for index in 1..others {
            let label = format!("CPU of {} per request, us", services[0].calls.cpu_micros[index].0);
            row(&label, None, &|one| one.calls.cpu_micros[index].1)?;
        }
        self.head(&mut text, &format!("consumer, {events} events"))?;
        let mut row = |label: &str, better, value: &dyn Fn(&Measured) -> f64| self.row(&mut text, label, better, value);
        row("events per second", Some(More), &|one| one.consumer.per_second.unwrap_or(f64::NAN))?;
        row("CPU per event, start included, us", Some(Less), &|one| one.consumer.cpu_micros)?;
        row("from start to commit, s", None, &|one| one.consumer.seconds)?;
        row("peak memory, MiB", Some(Less), &|one| one.consumer.peak_memory_mebibytes)?;
        Ok(text)
    }

    fn head(&self, text: &mut String, label: &str) -> std::fmt::Result {
        write!(text, "{label:<48}")?;
        for Measured { service, .. } in &self.services {
            write!(text, "{service:>12}")?;
        }
        writeln!(text, "{}", if self.services.len() == 2 { "  times better" } else { "" })
    }

    fn row(
        &self,
        text: &mut String,
        label: &str,
        better: Option<Better>,
        value: &dyn Fn(&Measured) -> f64,
    ) -> std::fmt::Result {
        let values: Vec<f64> = self.services.iter().map(value).collect();
        write!(text, "  {label:<46}")?;
        for value in &values {
            write!(text, "{value:>12}")?;
        }
        match (better, &values[..]) {
            (Some(Better::More), [first, second]) => writeln!(text, "{:>14.1}", second / first),
            (Some(Better::Less), [first, second]) => writeln!(text, "{:>14.1}", first / second),
            _ => writeln!(text),
        }
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
