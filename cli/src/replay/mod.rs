//! `headwater replay <analytics|fraud>`: the documents once more from the log, into collections of their own beside the
//! live ones, up to where the log ends now. Nobody is notified and nothing is written to any topic.
mod comparison;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr, sync::Arc};

use clap::Args;
use headwater_analytics::Timeout;
use headwater_documents::{Digest, Documents};
use headwater_proto::Millis;
use headwater_stream::{
    KafkaConfig, SystemClock,
    replay::{self, Outcomes, Replay, Span, Start},
};
use tokio::time::Instant;

pub use comparison::Comparison;

use crate::{
    Error, Target,
    derived::{self, Derived, Told},
    documents,
    print::print,
    settings::Settings,
    signals,
    simulate::{Audience, Progress},
};

/// What to replay, or what to drop.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    plan: Plan,
    /// Replay nothing: drop the collections that this replay has left, one with --keep or one that did not come to its
    /// end.
    #[arg(long, value_name = "REPLAY", conflicts_with_all = ["from", "until", "keep"])]
    drop: Option<Name>,
}

/// What to replay.
#[derive(Debug, Clone, Args)]
pub struct Plan {
    #[arg(value_name = "SERVICE")]
    pub of: Derived,
    /// 0 for everything, or a time like 2026-01-15T10:30:00Z: what was received since.
    #[arg(long, value_name = "0|TIME", default_value = "0")]
    pub from: From,
    /// Stop where that replay stopped, and compare with what it kept.
    #[arg(long, value_name = "REPLAY")]
    pub until: Option<Name>,
    /// Leave the collections where they are when the digest is taken.
    #[arg(long)]
    pub keep: bool,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct From(pub Start);

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "0" => Ok(Self(Start::Beginning)),
            time => {
                let time = time.parse::<Millis>().map_err(|_| "must be 0 or a time like 2026-01-15T10:30:00Z")?;
                Ok(Self(Start::Time(time)))
            }
        }
    }
}

/// Names a replay, its group and its collections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// One that nobody has.
    pub fn draw() -> Self {
        Self(format!("{:08x}", fastrand::u32(..)))
    }

    /// What the names of its collections end with.
    fn suffix(&self) -> String {
        format!("_replay_{self}")
    }

    fn group_id(&self, of: Derived, target: &Target) -> String {
        format!("{}{}-replay-{self}", of.group().id, target.group_suffix)
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hexadecimal = text.len() == 8 && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        hexadecimal
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| "must be the 8 digits that a replay printed".to_owned())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Replayed {
    pub of: Derived,
    pub name: Name,
    pub outcomes: Outcomes,
    pub seconds: f64,
    pub digest: Digest,
    pub comparison: Comparison,
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { outcomes, seconds, .. } = self;
        let (records, rate) = (outcomes.records(), outcomes.records() as f64 / seconds.max(0.001));
        writeln!(f, "replay {}: {records} records in {seconds:.1} s, {rate:.0}/s", self.name)?;
        write!(f, "done {}", outcomes.done)?;
        for (how, reasons) in [("skipped", &outcomes.skipped), ("dead", &outcomes.dead)] {
            for (reason, count) in reasons {
                write!(f, ", {how} {reason} {count}")?;
            }
        }
        write!(f, "\n{}{}", Told(self.of, &self.digest), self.comparison)
    }
}

pub(crate) async fn run(arguments: Arguments, settings: &Settings) -> Result<(), Error> {
    let target = Target::find(settings)?;
    if let Some(name) = &arguments.drop {
        return discard(name, &target).await;
    }
    let (plan, name) = (arguments.plan, Name::draw());
    let asked = signals::asked_to_stop()?;
    let replayed = replay(name.clone(), &plan, &target, settings, Audience::Stderr);
    let Some(replayed) = asked.run_until_cancelled(replayed).await else {
        let stopped = "stopped before the end".to_owned();
        return Err(Error::Failed(match target.mongodb_uri {
            Some(_) => format!("{stopped}; `headwater replay {} --drop {name}` drops what it has made", plan.of.name()),
            None => stopped,
        }));
    };
    let replayed = replayed?;
    print("the replay", format_args!("{replayed}\n"))?;
    replayed.comparison.checked()
}

/// Drops the collections of a replay that has ended, whichever way.
async fn discard(name: &Name, target: &Target) -> Result<(), Error> {
    let Some(uri) = &target.mongodb_uri else {
        return Err(Error::Usage("--drop: what a replay in memory has made is gone with it".to_owned()));
    };
    let dropped = documents::open(uri).await?.drop_collections(&name.suffix()).await;
    let dropped = dropped.map_err(documents::refused("a replay"))?;
    if dropped.is_empty() {
        return Err(Error::Failed(format!("--drop: no collection is of a replay {name}")));
    }
    print("what was dropped", format_args!("dropped {}\n", dropped.join(", ")))
}

/// With the settings of the platform that `target` is: the session timeout and the fraud rules decide what comes out.
pub async fn replay(
    name: Name,
    plan: &Plan,
    target: &Target,
    settings: &Settings,
    audience: Audience,
) -> Result<Replayed, Error> {
    let (of, start) = (plan.of, plan.from.0);
    if target.kafka.embedded && start != Start::Beginning {
        return Err(Error::Usage("the embedded broker cannot tell offsets by time: replay it --from 0".to_owned()));
    }
    if target.built_in_rules != settings.fraud_rules.is_none() {
        return Err(Error::Usage("HEADWATER_FRAUD_RULES: must be what the platform runs with".to_owned()));
    }
    let (kafka, topic) = (target.kafka(), of.group().topic.name);
    let documents = match &target.mongodb_uri {
        Some(uri) => Some(documents::open(uri).await?),
        None => None,
    };
    let mut spans = replay::spans(&kafka, topic, start, settings.accept_truncation).await?;
    if let Some(until) = &plan.until {
        spans = comparison::until(&kafka, &until.group_id(of, target), topic, spans).await?;
    }
    audience.tell(format_args!("replay {name} of {}", of.name()));
    let run = Run { of, target, settings, kafka: &kafka, group_id: name.group_id(of, target), spans: &spans, audience };
    let began = Instant::now();
    let (outcomes, digest) = match &documents {
        Some(documents) => Box::pin(run.beside(documents, &name.suffix())).await?,
        None => Box::pin(run.in_memory()).await?,
    };
    let seconds = began.elapsed().as_secs_f64();
    let comparison = Comparison::of(plan, target, documents.as_ref(), &spans, &digest);
    let comparison = Box::pin(comparison).await?;
    if let Some(documents) = documents.filter(|_| !plan.keep) {
        documents.drop_collections(&name.suffix()).await.map_err(documents::refused(of.name()))?;
    }
    Ok(Replayed { of, name, outcomes, seconds, digest, comparison })
}

/// One reading of the log.
struct Run<'a> {
    of: Derived,
    target: &'a Target,
    settings: &'a Settings,
    kafka: &'a KafkaConfig,
    group_id: String,
    spans: &'a [Span],
    audience: Audience,
}

impl Run<'_> {
    async fn beside(&self, documents: &Documents, suffix: &str) -> Result<(Outcomes, Digest), Error> {
        match self.of {
            Derived::Analytics => {
                let store = headwater_analytics::MongoStore::open_beside(documents, suffix).await;
                self.analytics(store.map_err(documents::refused(self.of.name()))?).await
            }
            Derived::Fraud => {
                let store = headwater_fraud::MongoStore::open_beside(documents, suffix).await;
                self.fraud(store.map_err(documents::refused(self.of.name()))?).await
            }
        }
    }

    async fn in_memory(&self) -> Result<(Outcomes, Digest), Error> {
        match self.of {
            Derived::Analytics => self.analytics(headwater_analytics::MemoryStore::new()).await,
            Derived::Fraud => self.fraud(headwater_fraud::MemoryStore::new()).await,
        }
    }

    async fn analytics<S: headwater_analytics::Store>(&self, store: S) -> Result<(Outcomes, Digest), Error> {
        let timeout = u64::try_from(self.target.session_timeout_millis).unwrap_or_default();
        let timeout = Timeout::new(std::time::Duration::from_millis(timeout));
        let timeout = timeout.ok_or_else(|| Error::Usage("SESSION_TIMEOUT: must be 1 ms to 365 days".to_owned()))?;
        let outcomes = self.read(headwater_analytics::Handler::new(store.clone(), timeout)).await?;
        headwater_analytics::recount(&store).await.map_err(|error| Error::service("the last recount", error))?;
        Ok((outcomes, derived::taken(headwater_analytics::digest(&store).await)?))
    }

    async fn fraud<S: headwater_fraud::Store>(&self, store: S) -> Result<(Outcomes, Digest), Error> {
        let config = headwater_fraud::Config { rules: self.settings.fraud_rules.clone() };
        let rules = config.rules().map_err(|error| Error::service("fraud", error))?;
        let handler =
            headwater_fraud::Handler::new(store.clone(), headwater_fraud::Silent, Arc::new(SystemClock), rules);
        let outcomes = self.read(handler).await?;
        Ok((outcomes, derived::taken(headwater_fraud::digest(&store).await)?))
    }

    async fn read<H: headwater_stream::BatchHandler>(&self, handler: H) -> Result<Outcomes, Error> {
        let total = self.spans.iter().map(Span::len).sum();
        let mut progress = Progress::new(self.audience, "replayed", total);
        let (kafka, group_id, spans) = (self.kafka, self.group_id.as_str(), self.spans);
        let again = Replay { kafka, group_id, role: self.of.name(), topic: self.of.group().topic.name, spans };
        Ok(replay::replay(again, handler, |read| progress.advance(read)).await?)
    }
}
