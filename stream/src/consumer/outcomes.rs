//! How records end, as numbers. Every record that is taken ends once: done, skipped or dead; an attempt that ended in
//! a retry is counted beside.
use headwater_otel::names;
use metrics::{Counter, Gauge, Label, counter, gauge};

use crate::{Outcome, dead_letter::Disposition};

/// Counters of one consumer. Handles are kept: looking one up costs more than most records.
#[derive(Debug)]
pub(crate) struct Outcomes {
    labels: Vec<Label>,
    instance: String,
    done: Counter,
    skipped: Vec<(&'static str, Counter)>,
    possible_duplicates: Counter,
    partitions: Gauge,
}

impl Outcomes {
    pub(crate) fn new(group_id: &str, role: &'static str, instance: &str) -> Self {
        let labels = vec![Label::new(names::GROUP, group_id.to_owned()), Label::new(names::ROLE, role)];
        let of_instance = with(&labels, [Label::new(names::INSTANCE, instance.to_owned())]);
        Self {
            done: counter!(names::CONSUMER_OUTCOMES, with(&labels, ending("done", ""))),
            skipped: Vec::new(),
            possible_duplicates: counter!(names::CONSUMER_POSSIBLE_DUPLICATES, labels.clone()),
            partitions: gauge!(names::CONSUMER_PARTITIONS, of_instance),
            instance: instance.to_owned(),
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

    /// For whoever reads the client's statistics.
    pub(crate) fn lag(&self) -> Gauge {
        gauge!(names::CONSUMER_LAG, with(&self.labels, [Label::new(names::INSTANCE, self.instance.clone())]))
    }
}

fn ending(outcome: &'static str, reason: &'static str) -> [Label; 2] {
    [Label::new(names::OUTCOME, outcome), Label::new(names::REASON, reason)]
}

fn with<const N: usize>(labels: &[Label], more: [Label; N]) -> Vec<Label> {
    labels.iter().cloned().chain(more).collect()
}
