//! `headwater simulate`: labelled traffic through the public API, with a journal of what was sent and answered.
mod drive;
mod journal;
mod pace;
mod plan;
mod progress;
mod straight;

use std::{collections::HashSet, fmt, io::Write as _, path::Path, sync::Arc, time::Duration};

use clap::Args;
use headwater_otel::names;
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};

pub use drive::{call, is_open};
pub use journal::{Journal, Line, Outcome, Poison, Record};
pub use plan::{Action, Call, Parameters, Repeat, Scenario, plan};
pub use progress::Audience;

use crate::{Error, Target, scrape::Scrape, settings::Settings, verify};
use drive::Answer;
use pace::Pace;
pub(crate) use progress::Progress;

/// Journals, one folder per seed; in the working folder.
pub(crate) const ROOT: &str = "var/simulate";
/// Answers on their way to the journal.
const ANSWERS: usize = 4_096;
const SYNC: Duration = Duration::from_secs(1);
/// The gauge is renewed once a second: only what it shows for longer is so.
const OUTBOX_EMPTY_FOR: Duration = Duration::from_secs(3);
/// A process that has just started shows the gauge only then.
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// The broker may be away for minutes.
const OUTBOX_PATIENCE: Duration = Duration::from_secs(300);

/// What to send.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many actions, duplicates not counted.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    events: u32,
    /// The same seed is the same traffic.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    #[arg(long, value_enum, value_delimiter = ',', default_value = "normal,takeover,stuffing,travel")]
    scenario: Vec<Scenario>,
    /// Share of actions that come 1 s to 6 h late, like 5%.
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = share)]
    late: f64,
    /// Share of actions that are sent twice, like 1%; every tenth of them straight to Kafka.
    #[arg(long, value_name = "SHARE", default_value = "1%", value_parser = share)]
    duplicates: f64,
    /// Actions per second; absent means as fast as they are answered.
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
}

fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>().map(|number| number / unit) {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a share like 5% or 0.05".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("must be actions per second, above 0".to_owned()),
    }
}

pub(crate) async fn run(arguments: Arguments, settings: &Settings) -> Result<(), Error> {
    let target = Target::find(settings)?;
    let Arguments { events, seed, scenario, late, duplicates, rate } = arguments;
    let parameters = Parameters { events: events as usize, seed, scenarios: scenario, late, duplicates };
    let summary = simulate(&target, Path::new(ROOT), &parameters, rate, Audience::Stderr).await?;
    // whoever reads it may be gone
    let _ = writeln!(std::io::stdout(), "{summary}");
    summary.checked()
}

/// What came of a run.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Summary {
    pub actions: usize,
    pub acknowledged: usize,
    /// Sent again and answered as duplicates.
    pub repeated: usize,
    /// Written past the ingress.
    pub straight: usize,
    pub rejected: usize,
    /// Acknowledged or rejected only when they were sent again: an earlier answer was lost or put off.
    pub unknown: usize,
    pub first_rejection: Option<String>,
    pub elapsed: Duration,
}

impl Summary {
    pub fn unanswered(&self) -> usize {
        self.actions.saturating_sub(self.acknowledged + self.rejected)
    }

    /// An error where not everything was answered as it had to be.
    pub fn checked(&self) -> Result<(), Error> {
        let unanswered = self.unanswered();
        if self.rejected == 0 && unanswered == 0 {
            return Ok(());
        }
        let first = self.first_rejection.as_ref().map(|first| format!(", the first: {first}")).unwrap_or_default();
        Err(Error::Failed(format!("{} actions were rejected and {unanswered} not answered{first}", self.rejected)))
    }

    fn count(&mut self, event_id: &str, outcome: Outcome, reason: &str) {
        match outcome {
            Outcome::Acknowledged => self.acknowledged += 1,
            Outcome::Repeated => self.repeated += 1,
            Outcome::Straight => self.straight += 1,
            Outcome::Unknown => self.unknown += 1,
            Outcome::Rejected => {
                self.rejected += 1;
                self.first_rejection.get_or_insert_with(|| format!("{event_id}: {reason}"));
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let rate = self.acknowledged as f64 / seconds.max(0.001);
        writeln!(f, "{} of {} actions acknowledged in {seconds:.1} s ({rate:.0}/s)", self.acknowledged, self.actions)?;
        writeln!(f, "{} repeats answered as duplicates, {} written straight to Kafka", self.repeated, self.straight)?;
        write!(
            f,
            "{} rejected, {} not answered, {} answered only later",
            self.rejected,
            self.unanswered(),
            self.unknown
        )
    }
}

/// Sends everything and writes the journal below `root`; the same parameters always send the same.
pub async fn simulate(
    target: &Target,
    root: &Path,
    parameters: &Parameters,
    rate: Option<f64>,
    audience: Audience,
) -> Result<Summary, Error> {
    let actions = Arc::new(plan(parameters));
    // before the first is sent: who cannot be asked whether the outbox is empty need not be driven
    let http = reqwest::Client::new();
    Scrape::of(&http, &target.admins).await?;
    let mut journal = Journal::create(root, parameters, &actions)?;
    audience.tell(format_args!("journal: {}", journal.folder().display()));

    let (answers, mut answered) = mpsc::channel(ANSWERS);
    let start = Instant::now();
    let driving = tokio::spawn(drive::drive(target.addresses.ingress, actions.clone(), Pace::new(rate), answers));
    let mut summary = Summary { actions: actions.len(), ..Summary::default() };
    let mut progress = Progress::new(audience, "actions", actions.len() as u64);
    let mut sync = interval(SYNC);
    sync.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut some = Vec::with_capacity(ANSWERS);
    let mut unknown = HashSet::new();
    loop {
        tokio::select! {
            n = answered.recv_many(&mut some, ANSWERS) => {
                if n == 0 {
                    break;
                }
                let before = summary.acknowledged + summary.rejected;
                for Answer { index, outcome, reason } in some.drain(..) {
                    if outcome == Outcome::Unknown && !unknown.insert(index) {
                        continue;
                    }
                    let event_id = &actions[index].event_id;
                    journal.write(event_id, outcome, &reason)?;
                    summary.count(event_id, outcome, &reason);
                }
                progress.advance((summary.acknowledged + summary.rejected - before) as u64);
            }
            _ = sync.tick() => journal = synced(journal).await?,
        }
    }
    drop(progress);
    summary.elapsed = start.elapsed();
    let driven = driving.await.map_err(|error| Error::service("simulate", error))?;
    journal = synced(journal).await?;
    driven?;

    audience.tell("waiting for the outbox to be empty");
    until_outbox_empty(&http, target).await?;
    let straight = verify::repeated_facts(&actions);
    straight::write(target, &straight.iter().collect::<Vec<_>>()).await?;
    for fact in &straight {
        journal.write(&fact.event_id, Outcome::Straight, "")?;
        summary.count(&fact.event_id, Outcome::Straight, "");
    }
    synced(journal).await?;
    Ok(summary)
}

async fn synced(mut journal: Journal) -> Result<Journal, Error> {
    let synced = spawn_blocking(move || journal.sync().map(|()| journal)).await;
    synced.map_err(|error| Error::service("writing the journal", error))?
}

/// What is written straight afterwards then lies behind everything.
async fn until_outbox_empty(http: &reqwest::Client, target: &Target) -> Result<(), Error> {
    let start = Instant::now();
    let mut empty_since: Option<Instant> = None;
    // since when the process answers without that gauge
    let mut blank_since: Option<Instant> = None;
    let mut ticks = interval(Duration::from_millis(250));
    loop {
        ticks.tick().await;
        let waiting = match Scrape::of(http, &target.admins).await {
            Ok(scrape) => scrape.sum(names::OUTBOX_ROWS, &[]),
            // killed a moment ago, it may be about to come back
            Err(error) if start.elapsed() > OUTBOX_PATIENCE => return Err(error),
            Err(_) => {
                (empty_since, blank_since) = (None, None);
                continue;
            }
        };
        if waiting.is_some() {
            blank_since = None;
        }
        match waiting {
            Some(rows) if rows > 0.0 => empty_since = None,
            Some(_) if empty_since.get_or_insert_with(Instant::now).elapsed() >= OUTBOX_EMPTY_FOR => return Ok(()),
            Some(_) => {}
            None if blank_since.get_or_insert_with(Instant::now).elapsed() < FIRST_LOOK => empty_since = None,
            None => {
                return Err(Error::Failed(format!(
                    "none of the processes at {:?} has {}: HEADWATER_ADMIN_ADDRESSES must name the ingress too",
                    target.admins,
                    names::OUTBOX_ROWS
                )));
            }
        }
        if start.elapsed() > OUTBOX_PATIENCE {
            let rows = waiting.unwrap_or_default();
            return Err(Error::Failed(format!("the outbox still has {rows} rows after {OUTBOX_PATIENCE:?}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_percent_or_a_fraction() {
        for (text, expected) in [("5%", Some(0.05)), ("0.05", Some(0.05)), ("0", Some(0.0)), ("100%", Some(1.0))] {
            assert_eq!(share(text).ok(), expected, "{text}");
        }
        for text in ["", "%", "5", "101%", "-1%", "five"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert!(rate("0").is_err() && rate("inf").is_err() && rate("0.5") == Ok(0.5));
    }

    #[test]
    fn a_rejected_or_unanswered_action_fails_the_run_and_is_named() {
        let mut summary = Summary { actions: 3, ..Summary::default() };
        summary.count("a", Outcome::Acknowledged, "");
        summary.count("b", Outcome::Rejected, "no");
        summary.count("a", Outcome::Repeated, "");
        let told = summary.checked().unwrap_err().to_string();
        assert_eq!(told, "1 actions were rejected and 1 not answered, the first: b: no");
        let whole = Summary { actions: 3, acknowledged: 3, ..Summary::default() };
        assert!(whole.checked().is_ok());
    }
}
