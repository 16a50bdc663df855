//! What holds of any sequence of requests.
use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, stream};
use headwater_proto::EventId;
use proptest::prelude::*;

use super::record_actions::action;
use crate::{
    SqliteStore,
    testing::{origin, outbox, running},
};

const TYPES: [&str; 6] =
    ["user.created", "user.logged_in", "user.logged_out", "user.login_failed", "user.password_changed", REFUSED];
const REFUSED: &str = "user.suspended";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Over several streams, one after the other, with ids that repeat as they please.
    #[test]
    fn the_outbox_holds_each_accepted_event_once_and_in_the_order_of_its_user(
        requests in prop::collection::vec((0..60u32, 0..5usize, 0..TYPES.len()), 1..200),
        cut in 1..64usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let running = running(SqliteStore::open().await.unwrap()).await;
            let mut answers = Vec::new();
            for stream in requests.chunks(cut) {
                let sent = stream.iter().map(|&(id, user, kind)| action(id, &format!("user-{user}"), TYPES[kind]));
                let sent: Vec<_> = sent.map(Ok).collect();
                let answered = running.api.record_all(stream::iter(sent), origin()).unwrap();
                answers.extend(answered.map(Result::unwrap).collect::<Vec<_>>().await);
            }
            // what must come of it, by an account that shares nothing with the lanes: of an id's requests one kind is
            // accepted, whichever came first in its lane, and of that the first is written
            let mut winners: BTreeMap<u32, (usize, usize)> = BTreeMap::new();
            let mut accepted: BTreeMap<usize, Vec<EventId>> = BTreeMap::new();
            for (&(id, user, kind), answer) in requests.iter().zip(&answers) {
                if answer.status.is_some() {
                    continue;
                }
                let known = winners.insert(id, (user, kind));
                prop_assert_eq!(known.unwrap_or((user, kind)), (user, kind), "two requests of one id");
                prop_assert_eq!(answer.duplicate, known.is_some());
                if known.is_none() {
                    accepted.entry(user).or_default().push(answer.event_id.parse().unwrap());
                }
            }
            for (id, user, kind) in &requests {
                let winner = winners.get(id).copied();
                let refused = TYPES[*kind] == REFUSED || winner.is_some_and(|winner| winner != (*user, *kind));
                prop_assert!(refused || winner.is_some(), "{} was refused without a reason", id);
            }
            prop_assert!(winners.values().all(|(_, kind)| TYPES[*kind] != REFUSED));
            let events = outbox(&running.store).await;
            let distinct: BTreeSet<_> = events.iter().map(|event| event.id).collect();
            prop_assert_eq!(distinct.len(), events.len(), "an event is there twice");
            let mut seen: BTreeMap<usize, Vec<EventId>> = BTreeMap::new();
            for event in events {
                let user = event.user_id.as_str().trim_start_matches("user-").parse().unwrap();
                seen.entry(user).or_default().push(event.id);
            }
            prop_assert_eq!(seen, accepted);
            Ok(())
        })?;
    }
}
