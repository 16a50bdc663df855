//! How records end, as numbers. Every record that is taken ends once: done, skipped or dead; an attempt that ended in
//! a retry is counted beside.
use std::collections::BTreeMap;

use headwater_otel::names;
use metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};

use crate::{Outcome, dead_letter::Disposition};

/// Counters of one consumer. Handles are kept: looking one up costs more than most records.
#[derive(Debug)]
pub(crate) struct Outcomes {
    labels: Vec<Label>,
    done: Counter,
    skipped: Vec<(&'static str, Counter)>,
    possible_duplicates: Counter,
    partitions: Gauge,
    breaker: Gauge,
    end_to_end: Histogram,
    /// Records and seconds, by partition.
    lags: BTreeMap<i32, (Gauge, Gauge)>,
}

impl Outcomes {
    pub(crate) fn new(group_id: &str, role: &'static str, instance: &str) -> Self {
        let labels = vec![Label::new(names::GROUP, group_id.to_owned()), Label::new(names::ROLE, role)];
        let of_instance = with(&labels, [Label::new(names::INSTANCE, instance.to_owned())]);
        Self {
            done: counter!(names::CONSUMER_OUTCOMES, with(&labels, ending("done", ""))),
            skipped: Vec::new(),
            possible_duplicates: counter!(names::CONSUMER_POSSIBLE_DUPLICATES, labels.clone()),
            partitions: gauge!(names::CONSUMER_PARTITIONS, of_instance.clone()),
            breaker: gauge!(names::CONSUMER_BREAKER_OPEN, of_instance),
            end_to_end: histogram!(names::CONSUMER_END_TO_END_DURATION, labels.clone()),
            lags: BTreeMap::new(),
            labels,
        }
    }

    pub(crate) fn ended(&mut self, outcome: Outcome) {
        let Outcome::Skip(reason) = outcome else { return self.done.increment(1) };
        if let Some((_, known)) = self.skipped.iter().find(|(known, _)| *known == reason) {
            return known.increment(1);
        }
        let skipped = counter!(names::CONSUMER_OUTCOMES, with(&self.labels, ending("skipped", reason)));
        skipped.increment(1);
        self.skipped.push((reason, skipped));
    }

    pub(crate) fn dead(&self, disposition: Disposition, reason: &'static str) {
        counter!(names::CONSUMER_OUTCOMES, with(&self.labels, ending("dead", reason))).increment(1);
        let labels = [Label::new(names::DISPOSITION, disposition.as_str()), Label::new(names::REASON, reason)];
        counter!(names::CONSUMER_DEAD_LETTERS, with(&self.labels, labels)).increment(1);
    }

    pub(crate) fn retried(&self, reason: &'static str, attempts: usize) {
        counter!(names::CONSUMER_RETRIES, with(&self.labels, [Label::new(names::REASON, reason)]))
            .increment(attempts as u64);
    }

    pub(crate) fn handed_over(&self, how: &'static str) {
        counter!(names::CONSUMER_HAND_OVERS, with(&self.labels, [Label::new(names::REASON, how)])).increment(1);
    }

    pub(crate) fn error(&self, reason: String) {
        counter!(names::CONSUMER_ERRORS, with(&self.labels, [Label::new(names::REASON, reason)])).increment(1);
    }

    pub(crate) fn possible_duplicates(&self, records: usize) {
        self.possible_duplicates.increment(records as u64);
    }

    pub(crate) fn partitions(&self, owned: usize) {
        self.partitions.set(owned as f64);
    }

    /// From the record's timestamp to its end.
    pub(crate) fn took(&self, millis: i64) {
        self.end_to_end.record(millis.max(0) as f64 / 1_000.0);
    }

    pub(crate) fn lag(&mut self, partition: i32, records: i64, seconds: f64) {
        let (count, age) = self.lags.entry(partition).or_insert_with(|| {
            let labels = with(&self.labels, [Label::new(names::PARTITION, partition.to_string())]);
            (gauge!(names::CONSUMER_LAG, labels.clone()), gauge!(names::CONSUMER_LAG_AGE, labels))
        });
        count.set(records as f64);
        age.set(seconds);
    }

    /// They are somebody else's lag from now on.
    pub(crate) fn no_lag(&mut self, partitions: &[i32]) {
        for (count, age) in partitions.iter().filter_map(|partition| self.lags.remove(partition)) {
            count.set(0.0);
            age.set(0.0);
        }
    }

    pub(crate) fn breaker(&self, open: bool) {
        self.breaker.set(f64::from(u8::from(open)));
        if open {
            counter!(names::CONSUMER_BREAKER_TRIPS, self.labels.clone()).increment(1);
        }
    }

    pub(crate) fn truncated(&self, reason: &'static str, records: i64) {
        let labels = with(&self.labels, [Label::new(names::REASON, reason)]);
        counter!(names::LOG_TRUNCATED_RECORDS, labels).increment(records.unsigned_abs());
    }

    pub(crate) fn abandoned(&self) {
        let labels = [Label::new(names::CLIENT, "consumer")];
        counter!(names::CLIENT_ABANDONED, with(&self.labels, labels)).increment(1);
    }

    pub(crate) fn rebuilt(&self, reason: &'static str) {
        let labels = [Label::new(names::CLIENT, "consumer"), Label::new(names::REASON, reason)];
        counter!(names::CLIENT_REBUILDS, with(&self.labels, labels)).increment(1);
    }
}

fn ending(outcome: &'static str, reason: &'static str) -> [Label; 2] {
    [Label::new(names::OUTCOME, outcome), Label::new(names::REASON, reason)]
}

fn with<const N: usize>(labels: &[Label], more: [Label; N]) -> Vec<Label> {
    labels.iter().cloned().chain(more).collect()
}
