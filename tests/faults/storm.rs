//! Calls that are given up on their way: each with a deadline of 0 to 5 ms, again and again, then once without. Its
//! journal is that of any other traffic, so the whole platform must come out exact.
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use futures::{StreamExt as _, stream};
use headwater_cli::simulate::{Action, Call, Journal, Outcome, Parameters, Record, Scenario, call, is_open, plan};
use headwater_proto::v1::user_actions_client::UserActionsClient;
use tokio::sync::mpsc;
use tonic::transport::Channel;

use crate::wait::until;

/// Users at once.
const AT_ONCE: usize = 64;
/// Microseconds.
const LONGEST: u64 = 5_000;
/// With a deadline, of each action. What was answered in time must be answered so again.
const TRIES: usize = 4;
/// For the call without a deadline: what was given up may still work, and too many passwords are put off.
const PATIENCE: Duration = Duration::from_secs(120);

/// What came of it.
pub(crate) struct Storm {
    pub record: Record,
    /// Calls that were made with a deadline.
    pub calls: usize,
    /// Of these, given up by the deadline.
    pub given_up: usize,
}

#[derive(Default)]
struct Counts {
    calls: AtomicUsize,
    given_up: AtomicUsize,
}

/// So many `calls` with a deadline, by users of this seed, each user's one after the other.
pub(crate) async fn storm(ingress: Channel, root: &Path, calls: usize, seed: u64) -> Result<Storm> {
    let scenarios = vec![Scenario::Normal];
    let parameters = Parameters { events: calls / TRIES, seed, scenarios, late: 0.0, duplicates: 0.0 };
    let actions = plan(&parameters);
    let mut journal = Journal::create(root, &parameters, &actions)?;
    let mut users: BTreeMap<&str, Vec<&Action>> = BTreeMap::new();
    for action in &actions {
        users.entry(&action.user_id).or_default().push(action);
    }
    let counts = Arc::new(Counts::default());
    let (told, mut outcomes) = mpsc::unbounded_channel();
    let client = UserActionsClient::new(ingress);
    let driven = stream::iter(users.into_values().zip(seed..)).map(|(actions, seed)| {
        let (client, counts, told) = (client.clone(), counts.clone(), told.clone());
        let mut rng = Rng::with_seed(seed);
        async move {
            let mut changes = 0;
            for action in actions {
                let outcome = one(&client, action, changes, &mut rng, &counts).await?;
                changes += usize::from(action.call == Call::ChangePassword);
                told.send((action.event_id.clone(), outcome)).context("the journal is open")?;
            }
            Ok::<_, anyhow::Error>(())
        }
    });
    let driven: Vec<Result<()>> = driven.buffer_unordered(AT_ONCE).collect().await;
    drop(told);
    driven.into_iter().collect::<Result<()>>()?;
    while let Some((event_id, rejected)) = outcomes.recv().await {
        journal.write(&event_id, Outcome::Unknown, "")?;
        let outcome = if rejected.is_empty() { Outcome::Acknowledged } else { Outcome::Rejected };
        journal.write(&event_id, outcome, &rejected)?;
    }
    journal.sync()?;
    Ok(Storm {
        record: Record::read(journal.folder().to_owned())?,
        calls: counts.calls.load(Ordering::Relaxed),
        given_up: counts.given_up.load(Ordering::Relaxed),
    })
}

/// Why it was rejected; empty where it was accepted.
async fn one(
    client: &UserActionsClient<Channel>,
    action: &Action,
    changes: usize,
    rng: &mut Rng,
    counts: &Counts,
) -> Result<String> {
    let mut client = client.clone();
    for _ in 0..TRIES {
        counts.calls.fetch_add(1, Ordering::Relaxed);
        match call(&mut client, action, changes, Some(Duration::from_micros(rng.u64(0..LONGEST)))).await {
            Ok(()) => {}
            Err(status) if is_open(&status) => {
                counts.given_up.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => return Ok(status.to_string()),
        }
    }
    until(format_args!("{} is answered", action.event_id), PATIENCE, async || {
        match call(&mut client, action, changes, None).await {
            Ok(()) => Ok(String::new()),
            Err(status) if is_open(&status) => Err(status.to_string()),
            Err(status) => Ok(status.to_string()),
        }
    })
    .await
}
