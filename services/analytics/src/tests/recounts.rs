//! The recounting task, in paused time.
use std::time::Duration;

use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use super::troubled::{Trouble, Troubled};
use crate::{
    Member, MemoryStore, Period, Store, recount,
    store::conformance::{active_users, day, user_id},
};

#[tokio::test(start_paused = true)]
async fn stale_days_are_recounted_once_a_second_and_a_failed_round_is_made_up_for() {
    let (store, stop) = (MemoryStore::new(), CancellationToken::new());
    let period = Period::Day(day("2026-01-15"));
    let join = async |user| store.add_members(&[Member { period, user_id: user_id(user) }]).await.unwrap();
    let recounted_after = async || {
        let (start, mut ticks) = (Instant::now(), interval(Duration::from_millis(50)));
        while !store.stale().await.unwrap().is_empty() {
            assert!(start.elapsed() < Duration::from_secs(10), "still stale: {:?}", store.stale().await);
            ticks.tick().await;
        }
        start.elapsed().as_millis()
    };
    join("ann").await;
    let recounting = tokio::spawn(recount::run(Troubled::new(store.clone(), [Trouble::FailBefore]), stop.clone()));
    assert!((1_000..1_100).contains(&recounted_after().await), "the first round fails, the second is a second later");
    assert_eq!(active_users(&store, &[period]).await, [1]);

    join("bob").await;
    assert!((900..1_100).contains(&recounted_after().await));
    assert_eq!(active_users(&store, &[period]).await, [2]);
    stop.cancel();
    recounting.await.unwrap();
}
