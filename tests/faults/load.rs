//! The traffic of a row, driven by `simulate` while the fault is on.
use std::{collections::HashSet, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use headwater_cli::{
    Target,
    simulate::{Audience, Parameters, Record, Repeat, Scenario, simulate},
};
use tokio_util::task::AbortOnDropHandle;

use crate::wait::until;

/// Actions a second: what the slowest store of the stack can follow with room to catch up (RELIABILITY.md).
pub(crate) const RATE: f64 = 100.0;
/// For the next share of it, whatever is down meanwhile.
const PATIENCE: Duration = Duration::from_secs(300);

/// Simulated traffic on its way; it ends with this.
pub(crate) struct Load {
    run: AbortOnDropHandle<Result<(), headwater_cli::Error>>,
    root: PathBuf,
    journal: PathBuf,
    actions: usize,
}

impl Load {
    /// Every kind of traffic, some of it late and some of it twice.
    pub(crate) fn start(target: &Target, root: PathBuf, events: usize, seed: u64) -> Self {
        Self::begin(target, root, events, seed, Some(RATE))
    }

    /// The same, as fast as it is answered.
    pub(crate) fn burst(target: &Target, root: PathBuf, events: usize, seed: u64) -> Self {
        Self::begin(target, root, events, seed, None)
    }

    fn begin(target: &Target, root: PathBuf, events: usize, seed: u64, rate: Option<f64>) -> Self {
        let scenarios = vec![Scenario::Normal, Scenario::Takeover, Scenario::Stuffing, Scenario::Travel];
        let parameters = Parameters { events, seed, scenarios, late: 0.05, duplicates: 0.02 };
        let journal = root.join(seed.to_string());
        let (target, into) = (target.clone(), root.clone());
        let run = tokio::spawn(async move {
            let summary = simulate(&target, &into, &parameters, rate, Audience::Nobody).await?;
            summary.checked()
        });
        Self { run: AbortOnDropHandle::new(run), root, journal, actions: events }
    }

    /// Where journals are kept.
    pub(crate) fn root(&self) -> &PathBuf {
        &self.root
    }

    /// Waits until this share of it has been answered.
    pub(crate) async fn reached(&self, share: f64) -> Result<()> {
        let wanted = (self.actions as f64 * share) as usize;
        until(format_args!("{wanted} actions are acknowledged"), PATIENCE, async || {
            let answered = self.answered();
            if answered >= wanted {
                return Ok(());
            }
            if self.is_over() {
                return Ok(()); // why it ended so early is told at the end
            }
            Err(format!("{answered} are"))
        })
        .await
    }

    fn answered(&self) -> usize {
        self.outcomes("\"outcome\":\"acknowledged\"")
    }

    /// Whether nothing more comes of it.
    pub(crate) fn is_over(&self) -> bool {
        self.run.is_finished()
    }

    /// Actions whose answer was lost or put off so far.
    pub(crate) fn unknown(&self) -> usize {
        self.outcomes("\"outcome\":\"unknown\"")
    }

    /// As far as the journal says: it is written once a second, and is not there before the load begins.
    fn outcomes(&self, outcome: &str) -> usize {
        let text = fs::read_to_string(self.journal.join("outcomes.jsonl")).unwrap_or_default();
        text.lines().filter(|line| line.contains(outcome)).count()
    }

    /// Events that it writes to the log once more itself, at its end.
    pub(crate) fn written_twice(&self) -> Result<HashSet<String>> {
        let actions = Record::read(self.journal.clone())?.actions.into_iter();
        let straight = actions.filter(|action| action.repeat == Some(Repeat::Straight));
        Ok(straight.map(|action| action.event_id).collect())
    }

    /// All of it, once everything is acknowledged and the outbox is empty.
    pub(crate) async fn finish(&mut self) -> Result<Record> {
        (&mut self.run).await?.context("the load")?;
        let record = Record::read(self.journal.clone())?;
        ensure!(!record.actions.is_empty(), "the load sent nothing");
        Ok(record)
    }
}
