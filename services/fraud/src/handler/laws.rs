//! Whatever happens to the deliveries, a log ends in the same documents and the same verdicts.
use std::collections::BTreeMap;

use headwater_documents::testing::TestDatabase;
use headwater_proto::{
    EventId,
    EventType::{self, UserCreated, UserIpChanged, UserLoggedIn, UserLoggedOut, UserLoginFailed, UserPasswordChanged},
    Millis,
};
use headwater_stream::FixedClock;
use proptest::prelude::*;

use super::*;
use crate::{
    Evaluation, Kept, MemoryStore, MongoStore, Report, Silent, digest,
    testing::{Announced, Faults, Faulty, at, delivery, event, id, reinstated, user},
};

const USERS: [&str; 3] = ["ada", "bob", "eve"];
/// Per user.
const EVENTS: u64 = 60;
/// The first id of a reinstatement.
const REINSTATEMENTS: u64 = EVENTS * USERS.len() as u64;

/// Few ids and few moments, so that duplicates, ties, late events and matches abound; now and then a day passes.
fn any_log() -> impl Strategy<Value = Vec<Delivery<Arrival>>> {
    let kinds = vec![UserCreated, UserIpChanged, UserLoggedIn, UserLoggedOut, UserLoginFailed, UserPasswordChanged];
    let kind = prop_oneof![
        2 => Just(UserLoginFailed),
        2 => Just(UserIpChanged),
        6 => prop::sample::select(kinds),
        1 => Just(EventType::UserReinstated)
    ];
    let record = (kind, 0..USERS.len(), 0..EVENTS, 0..200_i64, 0..40_i64, 0..5_u8);
    prop::collection::vec(record, 1..80).prop_map(|records| {
        let mut epochs = [0; USERS.len()];
        let delivered = records.into_iter().enumerate().map(|(offset, (kind, who, n, seconds, day, ip))| {
            let moment = at(seconds + if day == 0 { 86_400 } else { 0 });
            let event = match kind {
                EventType::UserReinstated => {
                    epochs[who] += 1;
                    reinstated(REINSTATEMENTS + offset as u64, moment, epochs[who])
                }
                _ => event(n + EVENTS * who as u64, kind, moment), // an id names one event of one user
            };
            let ip = Some(format!("10.0.0.{ip}"));
            let email = (n % 7 == 0).then(|| format!("{n}@example.com"));
            let mut delivery = delivery(offset as i64, Event { user_id: user(USERS[who]), ip, email, ..event });
            delivery.position.partition = (who % 2) as i32;
            delivery
        });
        delivered.collect()
    })
}

/// Everything there is of a log.
#[derive(Debug, PartialEq)]
struct Documents {
    profiles: BTreeMap<UserId, Arc<Profile>>,
    evaluations: Vec<Arc<Evaluation>>,
    reports: Vec<Arc<Report>>,
    traces: Vec<Kept>,
    verdicts: BTreeMap<EventId, Event>,
}

async fn documents(store: &impl Store, announced: &Announced) -> Documents {
    let users = USERS.map(user);
    let ids: Vec<EventId> = (0..REINSTATEMENTS).map(id).collect();
    let (mut evaluations, mut traces) = (Vec::new(), Vec::new());
    for user in &users {
        evaluations.extend(store.evaluations(user, None, usize::MAX).await.unwrap());
        traces.extend(store.traces(user, &ids).await.unwrap());
    }
    let told =
        announced.verdicts().into_iter().map(|verdict| Event { received_at: Millis::default(), ..verdict.event });
    Documents {
        profiles: store.profiles(&users).await.unwrap().into_iter().collect(),
        evaluations,
        reports: store.reports(None, None, usize::MAX).await.unwrap(),
        traces,
        verdicts: told.map(|event| (event.id, event)).collect(),
    }
}

fn handler<S: Store>(store: &S, announced: &Announced) -> Handler<S, Announced, FixedClock> {
    Handler::new(store.clone(), announced.clone(), FixedClock::at(at(0)), Rules::default())
}

/// In batches of these sizes, repeated as often as needed.
fn split<'a>(log: &'a [Delivery<Arrival>], sizes: &[usize]) -> Vec<&'a [Delivery<Arrival>]> {
    let mut rest = log;
    let mut batches = Vec::new();
    for &size in sizes.iter().cycle() {
        let (batch, later) = rest.split_at(size.min(rest.len()));
        batches.push(batch);
        rest = later;
        if rest.is_empty() {
            return batches;
        }
    }
    batches
}

async fn one_by_one(log: &[Delivery<Arrival>]) -> (MemoryStore, Announced, Documents, Vec<Outcome>) {
    let (store, announced) = (MemoryStore::new(), Announced::default());
    let mut handler = handler(&store, &announced);
    let mut outcomes = Vec::new();
    for batch in log.chunks(1) {
        outcomes.extend(handler.apply(batch).await.unwrap());
    }
    let documents = documents(&store, &announced).await;
    (store, announced, documents, outcomes)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #[test]
    fn any_split_into_batches_ends_in_the_same_documents_and_verdicts(
        log in any_log(),
        sizes in prop::collection::vec(1..20_usize, 1..5),
    ) {
        run(async {
            let (_, once, expected, expected_outcomes) = one_by_one(&log).await;
            let (store, announced) = (MemoryStore::new(), Announced::default());
            let mut handler = handler(&store, &announced);
            let mut outcomes = Vec::new();
            for batch in split(&log, &sizes) {
                outcomes.extend(handler.apply(batch).await.unwrap());
            }
            prop_assert_eq!(documents(&store, &announced).await, expected);
            prop_assert_eq!(announced.verdicts().len(), once.verdicts().len());
            prop_assert_eq!(outcomes, expected_outcomes);
            Ok(())
        })?;
    }

    #[test]
    fn a_redelivered_suffix_changes_nothing(log in any_log(), from in any::<prop::sample::Index>()) {
        run(async {
            let (store, announced, expected, _) = one_by_one(&log).await;
            let told = announced.verdicts().len();
            let mut next_owner = handler(&store, &announced);
            let outcomes = next_owner.apply(&log[from.index(log.len())..]).await.unwrap();
            prop_assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Skip(_))), "{:?}", outcomes);
            prop_assert_eq!(announced.verdicts().len(), told);
            prop_assert_eq!(documents(&store, &announced).await, expected);
            Ok(())
        })?;
    }

    #[test]
    fn a_failure_before_or_after_any_step_changes_nothing_in_the_end(
        log in any_log(),
        sizes in prop::collection::vec(1..20_usize, 1..5),
        failing in prop::collection::btree_set(0..60_usize, 1..8),
        done_before_failing: bool,
    ) {
        run(async {
            let (_, _, expected, _) = one_by_one(&log).await;
            let faults = Faults::at(failing, done_before_failing);
            let store = Faulty::new(MemoryStore::new(), &faults);
            let announced = Announced::failing(&faults);
            let mut handler = handler(&store, &announced);
            for batch in split(&log, &sizes) {
                while handler.apply(batch).await.is_err() {}
            }
            faults.stop();
            prop_assert_eq!(documents(&store, &announced).await, expected);
            Ok(())
        })?;
    }

    #[test]
    fn two_owners_who_do_not_know_of_each_other_end_in_what_one_would(
        log in any_log(),
        steps in prop::collection::vec((0..2_usize, 1..20_usize), 1..30),
    ) {
        run(async {
            let (_, _, expected, _) = one_by_one(&log).await;
            let (store, announced) = (MemoryStore::new(), Announced::default());
            let mut owners = [handler(&store, &announced), handler(&store, &announced)];
            let mut read = [0; 2];
            let to_the_end = [(0, log.len()), (1, log.len())];
            for (who, records) in steps.into_iter().chain(to_the_end) {
                let end = log.len().min(read[who] + records);
                owners[who].apply(&log[read[who]..end]).await.unwrap();
                read[who] = end;
            }
            prop_assert_eq!(documents(&store, &announced).await, expected);
            Ok(())
        })?;
    }
}

proptest! {
    // each case has a database of its own
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_silent_replay_into_a_server_has_the_digest_of_the_log_in_memory(log in any_log(), sizes in prop::collection::vec(1..30_usize, 1..5)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let (memory, ..) = one_by_one(&log).await;
            let expected = digest(&memory).await.unwrap();
            prop_assert!(expected.collections[0].documents > 0, "{:?}", expected);
            let database = TestDatabase::create().await;
            let server = MongoStore::open_beside(&database.documents, "_replay").await.unwrap();
            let rules = Rules::default();
            let mut handler = Handler::new(server.clone(), Silent, FixedClock::at(at(0)), rules);
            for batch in split(&log, &sizes) {
                handler.apply(batch).await.unwrap();
            }
            prop_assert_eq!(digest(&server).await.unwrap(), expected);
            database.wipe().await;
            Ok(())
        })?;
    }
}
