//! The digest: a function of the set of events, whatever store they are in.
use headwater_documents::{Digest, testing::TestDatabase};
use headwater_proto::EventType;
use proptest::prelude::*;

use super::law::{Log, any_log, consume};
use crate::{MemoryStore, MongoStore, digest, recount, store::conformance::event};

proptest! {
    // each case has a database of its own
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_same_events_have_the_same_digest_on_a_server_and_in_memory(log in any_log()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let Log { events, batches } = log;
            let database = TestDatabase::create().await;
            let server = MongoStore::open(&database.documents).await.unwrap();
            let memory = MemoryStore::new();
            consume(server.clone(), &batches).await;
            consume(memory.clone(), std::slice::from_ref(&events)).await;
            let expected = digest(&memory).await.unwrap();
            let counts: Vec<u64> = expected.collections.iter().map(|collection| collection.documents).collect();
            prop_assert_eq!(counts[0], events.len() as u64);
            prop_assert!(counts[2..].iter().all(|&documents| documents > 0), "{:?}", counts);
            prop_assert_eq!(digest(&server).await.unwrap(), expected.clone(), "while periods are stale");
            recount::round(&server).await.unwrap();
            prop_assert_eq!(digest(&server).await.unwrap(), expected.clone(), "after a recount");
            // another process, to which nothing is known
            let again = MongoStore::open(&database.documents).await.unwrap();
            consume(again.clone(), &batches).await;
            prop_assert_eq!(digest(&again).await.unwrap(), expected, "after all of it came again");
            database.wipe().await;
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn one_event_more_is_another_digest_in_each_collection_it_touches() {
    let at = "2026-01-15T10:00:00Z";
    let store = MemoryStore::new();
    let take = async |event| {
        consume(store.clone(), &[vec![event]]).await;
        digest(&store).await.unwrap()
    };
    let changed = |before: &Digest, after: &Digest| -> Vec<String> {
        let both = before.collections.iter().zip(&after.collections);
        both.filter(|(before, after)| before != after).map(|(before, _)| before.name.clone()).collect()
    };
    let first = take(event(1, EventType::UserLoggedIn, "ann", "s", at)).await;
    let again = take(event(2, EventType::UserLoggedIn, "ann", "s", at)).await;
    assert_eq!(changed(&first, &again), ["session_events", "sessions"]);
    let of_another = take(event(3, EventType::UserLoggedIn, "bob", "", at)).await;
    assert_eq!(
        changed(&again, &of_another),
        ["session_events", "daily_activity", "monthly_activity", "daily_aggregates", "monthly_aggregates"]
    );
    assert_eq!(digest(&store).await.unwrap(), of_another);
}
