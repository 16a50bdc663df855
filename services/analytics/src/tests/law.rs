//! The law: the documents are a function of the set of events. Any order, duplication and batch split, any failure in
//! between, two instances at once: always what a plain reading of the specification gives.
use std::collections::{BTreeMap, BTreeSet};

use headwater_proto::{EventId, EventType, Millis};
use headwater_stream::Outcome;
use proptest::{collection::vec, prelude::*, sample::Index};

use super::{
    apply, handler,
    troubled::{Trouble, Troubled},
};
use crate::{
    Member, MemoryStore, Period, SessionEvent, SessionKey, Store, recount,
    store::conformance::{active_users, user_id},
};

const MINUTE: i64 = 60_000;
/// 23:00 of the last day of a month, so that a few hours cross a day, a month and a year.
const START: &str = "2025-12-31T23:00:00Z";
const TIMEOUT: i64 = 30 * MINUTE;

/// Everything the collections say, as text, revisions and processing state aside.
type Documents = BTreeMap<String, String>;

#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) events: Vec<SessionEvent>,
    /// As delivered: order, duplicates and batches.
    pub(super) batches: Vec<Vec<SessionEvent>>,
}

fn any_event() -> impl Strategy<Value = SessionEvent> {
    use EventType::*;
    let kind = prop_oneof![Just(UserLoggedIn), Just(UserLoggedOut), Just(UserIpChanged), Just(UserPasswordChanged)];
    // steps of ten minutes meet the timeout exactly; one millisecond more just misses it; few values make ties
    let at = (0..20_i64, 0..2_i64).prop_map(|(steps, more)| steps * 10 * MINUTE + more);
    (kind, 0..2_u8, 0..3_u8, at).prop_map(|(event_type, user, session, at)| SessionEvent {
        id: EventId::from_bytes([0; 16]),
        user_id: user_id(["ann", "bob"][usize::from(user)]),
        session_id: (session > 0).then(|| format!("session-{session}").into()),
        event_type,
        occurred_at: START.parse::<Millis>().unwrap().plus_millis(at),
    })
}

pub(super) fn any_log() -> impl Strategy<Value = Log> {
    vec(any_event(), 1..30)
        .prop_flat_map(|events| {
            let ids: Vec<u128> = (1..=events.len() as u128).collect();
            (Just(events), Just(ids).prop_shuffle(), vec(any::<Index>(), 0..15), vec(any::<Index>(), 0..6))
        })
        .prop_flat_map(|(mut events, ids, duplicates, cuts)| {
            for (event, id) in events.iter_mut().zip(ids) {
                event.id = EventId::from_bytes(id.to_be_bytes());
            }
            let again = duplicates.iter().map(|index| index.get(&events).clone());
            let delivered: Vec<SessionEvent> = events.iter().cloned().chain(again).collect();
            (Just(events), Just(delivered).prop_shuffle(), Just(cuts))
        })
        .prop_map(|(events, delivered, cuts)| {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(delivered.len())).collect();
            cuts.extend([0, delivered.len()]);
            cuts.sort_unstable();
            let batches = cuts.windows(2).map(|cut| delivered[cut[0]..cut[1]].to_vec()).collect();
            Log { events, batches }
        })
}

fn any_script() -> impl Strategy<Value = Vec<Trouble>> {
    use Trouble::*;
    vec(prop_oneof![4 => Just(Pass), 4 => Just(Wait), 1 => Just(FailBefore), 1 => Just(FailAfter)], 0..60)
}

/// The specification, read plainly: group, sort, cut.
fn expected(events: &[SessionEvent]) -> Documents {
    let mut documents = Documents::new();
    let mut members = BTreeMap::<Period, BTreeSet<&str>>::new();
    let mut sessions = BTreeMap::<SessionKey, Vec<&SessionEvent>>::new();
    for event in events {
        documents.insert(format!("event {}", event.id), format!("{event:?}"));
        let day = event.occurred_at.day();
        for period in [Period::Day(day), Period::Month(day.month())] {
            members.entry(period).or_default().insert(event.user_id.as_str());
        }
        if let Some(key) = event.session() {
            sessions.entry(key).or_default().push(event);
        }
    }
    for (period, users) in members {
        documents.insert(format!("active {period}"), users.len().to_string());
        documents.extend(users.iter().map(|user| (format!("member {user} {period}"), String::new())));
    }
    for (key, mut events) in sessions {
        events.sort_by(|a, b| {
            let out = |event: &SessionEvent| event.event_type == EventType::UserLoggedOut;
            a.occurred_at.cmp(&b.occurred_at).then(out(a).cmp(&out(b))).then(a.id.cmp(&b.id))
        });
        let cut = |a: &&SessionEvent, b: &&SessionEvent| {
            a.event_type != EventType::UserLoggedOut && b.occurred_at.since(a.occurred_at) <= TIMEOUT
        };
        let segments: Vec<String> = events.chunk_by(cut).map(|s| segment(s[0], s[s.len() - 1], s.len())).collect();
        documents.insert(format!("session {}", key.id()), format!("{} {segments:?}", events.len()));
    }
    documents
}

fn segment(first: &SessionEvent, last: &SessionEvent, events: usize) -> String {
    let logged_in = first.event_type == EventType::UserLoggedIn;
    let logged_out = last.event_type == EventType::UserLoggedOut;
    format!("{} {} {events} {logged_in} {logged_out}", first.occurred_at, last.occurred_at)
}

/// What the store says about everything that `events` could have caused.
async fn stored(store: &MemoryStore, events: &[SessionEvent]) -> Documents {
    let mut documents = Documents::new();
    for event in store.insert_events(events).await.unwrap() {
        let event = event.expect("every event is stored");
        documents.insert(format!("event {}", event.id), format!("{event:?}"));
    }
    let periods: BTreeSet<Period> = events.iter().flat_map(Member::of).map(|member| member.period).collect();
    let periods: Vec<Period> = periods.into_iter().collect();
    for (period, count) in periods.iter().zip(active_users(store, &periods).await) {
        documents.insert(format!("active {period}"), count.to_string());
        let all: Vec<_> = ["ann", "bob"].map(|user| Member { user_id: user_id(user), period: *period }).into();
        let absent = store.absent_members(all.clone()).await.unwrap();
        let present = all.iter().filter(|member| !absent.contains(member));
        documents.extend(present.map(|m| (format!("member {} {period}", m.user_id), String::new())));
    }
    for user in ["ann", "bob"] {
        for session in store.sessions_of(&user_id(user)).await.unwrap().unwrap_or_default() {
            let segments: Vec<String> = session
                .segments
                .iter()
                .map(|s| {
                    format!("{} {} {} {} {}", s.started_at, s.last_activity_at, s.events, s.logged_in, s.logged_out)
                })
                .collect();
            documents.insert(format!("session {}", session.key.id()), format!("{} {segments:?}", session.n));
        }
    }
    documents
}

/// As a consumer that dies where a batch fails: the next process is given the batch again, in one with the next.
pub(super) async fn consume<S: Store>(store: S, batches: &[Vec<SessionEvent>]) -> Vec<Outcome> {
    let (mut outcomes, mut batch) = (Vec::new(), Vec::new());
    let mut rest = batches.iter();
    while let Some(more) = rest.next().or((!batch.is_empty()).then_some(&Vec::new())) {
        batch.extend_from_slice(more);
        if let Ok(done) = apply(&mut handler(store.clone()), &batch).await {
            outcomes.extend(done);
            batch.clear();
        }
    }
    outcomes
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_same_events_make_the_same_documents_in_any_order_duplication_and_batches(log in any_log()) {
        block_on(async {
            let store = MemoryStore::new();
            let outcomes = consume(store.clone(), &log.batches).await;
            let done = outcomes.iter().filter(|outcome| **outcome == Outcome::Done).count();
            prop_assert_eq!(done, log.events.len(), "each event is done once, its duplicates are skipped");
            prop_assert_eq!(stored(&store, &log.events).await, expected(&log.events));
            recount::round(&store).await.unwrap();
            prop_assert_eq!(stored(&store, &log.events).await, expected(&log.events), "after a recount");
            Ok(())
        })?;
    }

    #[test]
    fn two_instances_that_fail_and_overtake_each_other_still_make_the_same_documents(
        log in any_log(),
        scripts in (any_script(), any_script()),
        owners in vec(1..4_u8, 8),
    ) {
        block_on(async {
            let store = MemoryStore::new();
            // each batch goes to the first, the second or both, as after a rebalance that one has not noticed
            let of = |instance: u8| -> Vec<_> {
                let owned = log.batches.iter().zip(owners.iter().cycle()).filter(|(_, owner)| **owner & instance != 0);
                owned.map(|(batch, _)| batch.clone()).collect()
            };
            let (first, second) = (of(1), of(2));
            tokio::join!(
                consume(Troubled::new(store.clone(), scripts.0), &first),
                consume(Troubled::new(store.clone(), scripts.1), &second),
            );
            prop_assert_eq!(stored(&store, &log.events).await, expected(&log.events));
            Ok(())
        })?;
    }
}
