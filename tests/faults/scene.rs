//! What a row plays on: the real parts with nothing in them, every service as a process, the load, and what is seen.
use std::{
    collections::{BTreeSet, HashSet},
    fs, mem,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};
use headwater_cli::{
    Target,
    simulate::{Audience, Poison, Record},
    verify::{Table, verify},
};
use headwater_proto::topics;
use headwater_stream::{
    KafkaConfig, apply_topics,
    testing::{delete_topics, read_topic},
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};
use tokio::time::Instant;

use crate::{
    apart::Apart,
    load::{Load, RATE},
    proxy::Proxy,
    recovery::recovered,
    rows::{Afterwards, Row, Stage},
    services::{self, Parts},
    stack::Stack,
    supervisor::{Launch, Past, Process},
    wait::until,
    webhook::Webhook,
};

/// Of a broker that has just been told to forget its topics.
const TOPICS: Duration = Duration::from_secs(30);
/// I8.
const MEMORY: u64 = 512;

/// How much time a row takes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// In `make test`.
    Short,
    /// In `make faults`.
    Full,
}

pub(crate) struct Scene {
    pub stack: Stack,
    pub kafka: KafkaConfig,
    pub parts: Parts,
    /// Journals, notifications and what each process has said.
    pub folder: PathBuf,
    pub target: Target,
    pub length: Length,
    pub load: Load,
    /// Journals beside that of the load.
    pub records: Vec<Record>,
    /// What was spoilt on purpose.
    pub poison: BTreeSet<Poison>,
    /// What must not be, told at the end.
    pub complaints: Vec<String>,
    /// What is worth telling.
    pub notes: Vec<String>,
    pub seed: u64,
    /// The highest of any process that has ended, in MiB.
    peak: u64,
    processes: Vec<Process>,
    proxies: Vec<Proxy>,
    webhook: Option<Webhook>,
    // the last: nothing above outlives the parts
    _apart: Option<Apart>,
}

/// What is left of a scene.
pub(crate) struct End {
    pub record: Record,
    pub table: Table,
    pub recovery: Duration,
    pub peak: u64,
    pub complaints: Vec<String>,
    pub notes: Vec<String>,
}

/// Journals, notifications and what each process has said.
pub(crate) fn folder(row: &Row, run: &str) -> PathBuf {
    std::env::temp_dir().join(format!("headwater-{run}-{}", row.id).replace('_', "-"))
}

impl Scene {
    /// Everything is up, ready and empty, and the load has begun. `run` is a word that no other run has.
    pub(crate) async fn open(row: &Row, stack: Stack, length: Length, seed: u64, run: &str) -> Result<Self> {
        let name = format!("{run}_{}", row.id);
        let folder = folder(row, run);
        fs::create_dir_all(&folder)?;
        let apart = Apart::of(row, &stack).await?;
        let stack = apart.as_ref().map_or(stack, |apart| apart.stack.clone());
        stack.run(&["up", "kafka", "postgres", "mongo"]).await?;
        let mut parts = Parts::of(&stack, &name).await?;
        let proxies = if row.stage == Stage::Proxied { parts.behind_proxies(&stack).await? } else { Vec::new() };
        let kafka = KafkaConfig::new(&parts.brokers);
        delete_topics(&kafka, topics::ALL).await;
        until("the topics are there anew", TOPICS, async || {
            apply_topics(&kafka, topics::ALL).await.map(drop).map_err(|error| error.to_string())
        })
        .await?;
        administer(&parts, format!("CREATE DATABASE {name}")).await?;

        let letters = folder.join("notifications");
        let webhook = if row.webhook { Some(Webhook::open(&letters).await?) } else { None };
        let url = webhook.as_ref().map(Webhook::url);
        let launches = services::launches(row, &parts, &folder, url.as_deref());
        let settings = services::settings(&launches, &kafka, &parts, &letters);
        let target = Target::in_parts(&settings).context("the settings name a broker")?;
        let processes = launches.into_iter().map(Process::start).collect::<Result<Vec<_>>>()?;
        for process in &processes {
            process.until_ready().await?;
        }
        let events = (row.seconds(length) as f64 * RATE) as usize;
        let load = Load::start(&target, folder.join("journals"), events, seed);
        let (records, poison, complaints, notes) = Default::default();
        Ok(Self {
            stack,
            kafka,
            parts,
            folder,
            target,
            length,
            load,
            records,
            poison,
            complaints,
            notes,
            seed,
            peak: 0,
            processes,
            proxies,
            webhook,
            _apart: apart,
        })
    }

    /// One of two, by the length of the row.
    pub(crate) fn choose<T>(&self, full: T, short: T) -> T {
        if self.length == Length::Full { full } else { short }
    }

    pub(crate) fn process(&self, name: &str) -> Result<&Process> {
        self.processes.iter().find(|process| process.name() == name).with_context(|| format!("no process {name}"))
    }

    /// kill -9 of a process that nobody starts again; what it was.
    pub(crate) async fn lose(&mut self, name: &str) -> Result<Launch> {
        let found = self.processes.iter().position(|process| process.name() == name);
        let index = found.with_context(|| format!("no process {name}"))?;
        let (launch, past) = self.processes.remove(index).kill_for_good().await?;
        self.judge(name, past);
        Ok(launch)
    }

    /// I8, and what the supervisor has seen.
    fn judge(&mut self, name: &str, Past { peak, complaints }: Past) {
        self.peak = self.peak.max(peak);
        self.complaints.extend(complaints);
        self.demand(peak <= MEMORY, format!("{name} held {peak} MiB, more than {MEMORY}"));
    }

    /// One more.
    pub(crate) async fn add(&mut self, launch: Launch) -> Result<()> {
        let process = Process::start(launch)?;
        process.until_ready().await?;
        self.processes.push(process);
        Ok(())
    }

    pub(crate) fn processes(&self) -> &[Process] {
        &self.processes
    }

    pub(crate) fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    pub(crate) fn webhook(&self) -> Option<&Webhook> {
        self.webhook.as_ref()
    }

    pub(crate) async fn stack(&self, verb: &str, part: &str) -> Result<()> {
        self.stack.run(&[verb, part]).await.map(drop)
    }

    /// Records of user.events, and how many of them are there once more and not on purpose.
    pub(crate) async fn on_the_log(&self) -> Result<(usize, usize)> {
        let on_purpose = self.load.written_twice()?;
        let records = read_topic(&self.kafka, topics::USER_EVENTS.name).await?;
        let mut seen = HashSet::new();
        let ids = records.iter().filter_map(|record| Some(str::from_utf8(record.header("ce_id")?).ok()?.to_owned()));
        let again = ids.filter(|id| !on_purpose.contains(id) && !seen.insert(id.clone())).count();
        Ok((records.len(), again))
    }

    pub(crate) fn demand(&mut self, holds: bool, otherwise: impl Into<String>) {
        if !holds {
            self.complaints.push(otherwise.into());
        }
    }

    /// Lets the load end, waits until nothing is left of the fault, compares everything and takes the scene down.
    pub(crate) async fn close(mut self, healed: Instant, afterwards: Option<Afterwards>) -> Result<End> {
        let recovery = recovered(&self.kafka, &self.parts.suffix, &self.parts.database, healed).await?;
        let mut record = self.load.finish().await?;
        for beside in mem::take(&mut self.records) {
            record.actions.extend(beside.actions);
            record.outcomes.extend(beside.outcomes);
        }
        if !self.poison.is_empty() {
            record.add_poison(mem::take(&mut self.poison))?;
        }
        let mut table = verify(&self.target, &record, Audience::Nobody).await?;
        if let Some(afterwards) = afterwards {
            afterwards(&mut self).await?;
            table = verify(&self.target, &record, Audience::Nobody).await?;
        }
        for process in mem::take(&mut self.processes) {
            let name = process.name().to_owned();
            let past = process.stop().await?;
            self.judge(&name, past);
        }
        administer(&self.parts, format!("DROP DATABASE {} WITH (FORCE)", self.parts.name)).await?;
        Ok(End { record, table, recovery, peak: self.peak, complaints: self.complaints, notes: self.notes })
    }
}

async fn administer(parts: &Parts, statement: String) -> Result<()> {
    let mut connection = PgConnection::connect(&parts.administration).await?;
    raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    Ok(())
}
