//! What came of it, as a table or as JSON.
use std::{collections::BTreeMap, fmt::Write as _, io::Write as _, thread, time::Duration};

use serde::Serialize;

use super::{Arguments, Mode, outbox::Look};
use crate::{Answers, cpu::Spent};

/// The relay keeps up where, over the last third of the time, the median age of the oldest row is no more.
const AGE_LIMIT_SECONDS: f64 = 1.0;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    mode: &'static str,
    concurrency: usize,
    window: usize,
    rate: Option<f64>,
    users: u32,
    cores: usize,
    seconds: f64,
    accepted: u64,
    refused: u64,
    per_second: f64,
    latency_millis: Latency,
    outbox: OutboxReport,
    /// CPU per accepted action.
    cpu_micros_per_action: Vec<Cost>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OutboxReport {
    most_rows: f64,
    oldest_age_median_seconds: f64,
    oldest_age_max_seconds: f64,
    /// From the last answer until everything was in the log.
    emptied_after_seconds: f64,
    grew: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cost {
    process: String,
    micros: f64,
    /// Of one core, over the time.
    cores: f64,
    /// The threads or children that matter.
    parts: BTreeMap<String, f64>,
}

impl Report {
    pub(crate) fn new(
        (mode, arguments): (Mode, &Arguments),
        answers: &Answers,
        took: Duration,
        spent: Spent,
        looks: &[Look],
        emptied: Duration,
    ) -> Self {
        let seconds = took.as_secs_f64();
        let per_action = |micros: u64| micros as f64 / answers.accepted.max(1) as f64;
        let cost = |(process, parts): (String, BTreeMap<String, u64>)| {
            let all: u64 = parts.values().sum();
            let micros = per_action(all);
            let parts = parts.into_iter().map(|(part, spent)| (part, round(per_action(spent)))).collect();
            Cost { process, micros: round(micros), cores: round(all as f64 / 1e6 / seconds), parts }
        };
        let millis = |quantile| round(answers.latency.value_at_quantile(quantile) as f64 / 1_000.0);
        let mut last: Vec<f64> = looks[looks.len() * 2 / 3..].iter().map(|look| look.age).collect();
        last.sort_by(f64::total_cmp);
        let median = last[last.len() / 2];
        let most = |value: fn(&Look) -> f64| looks.iter().map(value).fold(0.0, f64::max);
        Self {
            mode: match mode {
                Mode::Streamed => "streamed",
                Mode::Unary => "unary",
            },
            concurrency: arguments.concurrency,
            window: if mode == Mode::Streamed { arguments.window } else { 1 },
            rate: arguments.rate,
            users: arguments.users,
            cores: thread::available_parallelism().map_or(0, usize::from),
            seconds: round(seconds),
            accepted: answers.accepted,
            refused: answers.refused,
            per_second: (answers.accepted as f64 / seconds).round(),
            latency_millis: Latency {
                p50: millis(0.5),
                p90: millis(0.9),
                p99: millis(0.99),
                max: round(answers.latency.max() as f64 / 1_000.0),
            },
            outbox: OutboxReport {
                most_rows: most(|look| look.rows),
                oldest_age_median_seconds: median,
                oldest_age_max_seconds: most(|look| look.age),
                emptied_after_seconds: round(emptied.as_secs_f64()),
                grew: median > AGE_LIMIT_SECONDS,
            },
            cpu_micros_per_action: spent.into_iter().map(cost).collect(),
        }
    }

    /// Everything was accepted, and the relay kept up.
    pub(crate) fn passed(&self) -> bool {
        self.accepted > 0 && self.refused == 0 && !self.outbox.grew
    }

    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        let text = if json { serde_json::to_string(self)? + "\n" } else { self.table()? };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }

    fn table(&self) -> Result<String, std::fmt::Error> {
        let (Latency { p50, p90, p99, max }, outbox) = (&self.latency_millis, &self.outbox);
        let mut text = String::new();
        writeln!(
            text,
            "{}, {} at a time, window {}, {} users, {} cores, {} s",
            self.mode, self.concurrency, self.window, self.users, self.cores, self.seconds
        )?;
        writeln!(text, "  durable per second  {}", self.per_second)?;
        writeln!(text, "  accepted, refused   {}, {}", self.accepted, self.refused)?;
        writeln!(text, "  latency, ms         p50 {p50}, p90 {p90}, p99 {p99}, max {max}")?;
        writeln!(
            text,
            "  outbox              {} rows at most; oldest {} s (median of the last third), {} s (at most); empty {} s \
             after the last answer{}",
            outbox.most_rows,
            outbox.oldest_age_median_seconds,
            outbox.oldest_age_max_seconds,
            outbox.emptied_after_seconds,
            if outbox.grew { ": THE RELAY FELL BEHIND" } else { "" }
        )?;
        writeln!(text, "  CPU                 us per action    cores")?;
        for Cost { process, micros, cores, parts } in &self.cpu_micros_per_action {
            writeln!(text, "    {process:<18}{micros:>14}{cores:>9}")?;
            for (part, micros) in parts.iter().filter(|(_, micros)| **micros >= 0.1) {
                writeln!(text, "      {part:<16}{micros:>14}")?;
            }
        }
        Ok(text)
    }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
