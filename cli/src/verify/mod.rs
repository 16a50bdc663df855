//! `headwater verify`: the whole platform against what must have come of a journal, by a reference that shares no code
//! with the services.
mod accounting;
mod activity;
mod expected;
mod facts;
#[cfg(test)]
mod laws;
mod letters;
mod log;
mod poison;
mod quiet;
mod risk;
mod stores;
mod table;

use std::{
    collections::{BTreeMap, HashSet},
    io::Write as _,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::SystemTime,
};

use headwater_notification::ledger::MongoLedger;
use headwater_otel::names;
use headwater_proto::{
    Millis,
    v1::{analytics_client::AnalyticsClient, fraud_client::FraudClient, user_actions_client::UserActionsClient},
};
use tonic::{Code, Status};

pub(crate) use facts::Fact;
pub use table::{Row, Table};

use crate::{
    Error, Target, documents,
    scrape::Scrape,
    settings::Settings,
    simulate::{Action, Audience, Outcome, ROOT, Record, Repeat},
};
use expected::{Expected, Rules, expected};
use letters::Letters;
use log::Log;

pub(crate) async fn run(settings: &Settings) -> Result<(), Error> {
    let record = Record::newest(Path::new(ROOT))?;
    let target = Target::find(settings)?;
    Audience::Stderr.tell(format_args!("journal: {}", record.folder.display()));
    let table = verify(&target, &record, Audience::Stderr).await?;
    // whoever reads it may be gone
    let _ = write!(std::io::stdout(), "{table}");
    match table.differences() {
        0 => Ok(()),
        n => Err(Error::Failed(format!("the platform differs from its journal in {n} places"))),
    }
}

/// Waits until every consumer has finished, then compares everything.
pub async fn verify(target: &Target, record: &Record, audience: Audience) -> Result<Table, Error> {
    if !target.built_in_rules {
        let told = "verify knows the built-in fraud rules only: run the platform without HEADWATER_FRAUD_RULES";
        return Err(Error::Usage(told.to_owned()));
    }
    let accepted = accepted(record)?;
    quiet::until_quiet(target, audience).await?;

    let timeout = target.session_timeout_millis;
    let rules = Rules {
        session_timeout: timeout,
        login_warning_threshold: i32::try_from(target.login_warning_threshold).unwrap_or(i32::MAX),
    };
    let expected = Arc::new(expected(&accepted, rules));
    let log = Log::read(target, &expected, &record.poison).await?;
    let (records, first_at) = (log.records(), log.first_at);
    let straight = record.outcomes.iter().filter(|line| line.outcome == Outcome::Straight);
    let straight: HashSet<&str> = straight.map(|line| line.event_id.as_str()).collect();
    let mut rows = log.rows(&expected, &straight);

    rows.extend(stores(target, &expected, timeout).await?);
    let scrape = Scrape::of(&reqwest::Client::new(), &target.admins).await?;
    rows.extend(letters(target, record, &expected, &scrape).await?);
    rows.push(poison::dead_letters(target, &record.poison).await?);
    rows.extend(counted(target, &expected, &scrape, records, first_at));
    Ok(Table(rows))
}

/// Everything the ingress acknowledged, in the order of the plan.
fn accepted(record: &Record) -> Result<Vec<Action>, Error> {
    let mut answers: BTreeMap<&str, bool> = BTreeMap::new();
    for line in record.outcomes.iter().filter(|line| line.outcome != Outcome::Unknown) {
        let acknowledged = line.outcome == Outcome::Acknowledged;
        *answers.entry(&line.event_id).or_default() |= acknowledged;
    }
    let unanswered: Vec<_> = record.actions.iter().filter(|a| !answers.contains_key(a.event_id.as_str())).collect();
    if let Some(first) = unanswered.first() {
        return Err(Error::Failed(format!(
            "the journal in {} has {} actions without an answer, the first {}: nobody knows if they were accepted; \
             simulate anew on a fresh platform",
            record.folder.display(),
            unanswered.len(),
            first.event_id
        )));
    }
    let is_accepted = |action: &&Action| answers[action.event_id.as_str()];
    Ok(record.actions.iter().filter(is_accepted).cloned().collect())
}

/// The events of actions that are to be written a second time past the ingress.
pub(crate) fn repeated_facts(actions: &[Action]) -> Vec<Fact> {
    let straight = actions.iter().filter(|action| action.repeat == Some(Repeat::Straight));
    let straight: HashSet<&str> = straight.map(|action| action.event_id.as_str()).collect();
    let facts = facts::facts(actions).events.into_values().flatten();
    facts.filter(|fact| straight.contains(fact.event_id.as_str())).collect()
}

async fn stores(target: &Target, expected: &Expected, timeout: i64) -> Result<Vec<Row>, Error> {
    let addresses = &target.addresses;
    let of = |who: &'static str, address: SocketAddr| {
        move |status: Status| match status.code() {
            Code::Unavailable | Code::DeadlineExceeded => Error::unreachable(format!("{who} at {address}"), status),
            _ => Error::service(format!("{who} at {address}"), status),
        }
    };
    let analytics = AnalyticsClient::new(Target::channel(addresses.analytics)?);
    let fraud = FraudClient::new(Target::channel(addresses.fraud)?);
    let ingress = UserActionsClient::new(Target::channel(addresses.ingress)?);
    let (of_analytics, of_fraud) = (of("analytics", addresses.analytics), of("fraud", addresses.fraud));
    let mut rows = Vec::new();
    rows.extend(stores::active_users(expected, analytics.clone()).await.map_err(of_analytics)?);
    rows.push(stores::session_stats(expected, analytics.clone(), timeout).await.map_err(of_analytics)?);
    rows.push(stores::sessions(expected, analytics, timeout).await.map_err(of_analytics)?);
    rows.push(stores::profiles(expected, fraud.clone()).await.map_err(of_fraud)?);
    rows.push(stores::reports(expected, fraud).await.map_err(of_fraud)?);
    let accounts = stores::accounts(expected, ingress).await;
    rows.push(accounts.map_err(of("the ingress", addresses.ingress))?);
    Ok(rows)
}

async fn letters(target: &Target, record: &Record, expected: &Expected, scrape: &Scrape) -> Result<Vec<Row>, Error> {
    let Some(folder) = &target.notifications else {
        let note = "not compared: notifications go to a webhook".to_owned();
        return Ok(vec![Row { note, ..Row::new("notifications") }]);
    };
    // of this traffic: since it began, or since its platform did
    let began = millis(record.began_at);
    let since = scrape.starts().filter_map(|(_, start)| start).fold(began, Millis::min);
    let possible = if target.ledger_in_mongodb {
        taken_over(target, since).await?
    } else {
        scrape.sum(names::NOTIFICATION_POSSIBLE_DUPLICATES, &[]).unwrap_or_default() as u64
    };
    Ok(Letters::read(folder, since)?.rows(expected, usize::try_from(possible).unwrap_or(usize::MAX)).into())
}

/// How many letters may have been written twice. The ledger outlives the processes that counted them.
async fn taken_over(target: &Target, since: Millis) -> Result<u64, Error> {
    let Some(uri) = &target.mongodb_uri else {
        let told = "the platform keeps its notification ledger in MongoDB: set MONGODB_URI here as it is set there";
        return Err(Error::Usage(told.to_owned()));
    };
    let refused = documents::refused("notification");
    let ledger = MongoLedger::open(&documents::open(uri).await?).await.map_err(&refused)?;
    ledger.possible_duplicates(since).await.map_err(refused)
}

fn millis(at: SystemTime) -> Millis {
    let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Millis::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}

/// The numbers say something of the log only if they are of all that was read of it: then each process is as old as the
/// log, and each group counts in one of them.
fn counted(target: &Target, expected: &Expected, scrape: &Scrape, records: i64, first_at: Option<i64>) -> Vec<Row> {
    let younger = |start: Option<Millis>| start.zip(first_at).is_none_or(|(start, first)| start.as_millis() > first);
    let restarted = scrape.starts().find(|(_, start)| younger(*start));
    let uncounted = quiet::GROUPS
        .map(|group| quiet::group_id(target, group))
        .into_iter()
        .find(|group| scrape.sum(names::CONSUMER_OUTCOMES, &[(names::GROUP, group)]).is_none());
    let reason = match (restarted, uncounted) {
        (None, None) => return accounting::rows(scrape, target, expected, records),
        (Some((admin, _)), _) => format!("the process at {admin} began after the log and has not counted all of it"),
        (None, Some(group)) => format!("no process in HEADWATER_ADMIN_ADDRESSES counts for {group}"),
    };
    vec![Row { note: format!("not compared: {reason}"), ..Row::new("records ended") }]
}
