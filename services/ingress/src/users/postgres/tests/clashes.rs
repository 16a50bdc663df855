//! Several instances at the same keys.
use std::sync::Arc;

use bytes::Bytes;
use headwater_proto::{Day, EventId, Millis};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::Database;
use crate::{
    Store,
    fields::Email,
    outbox::{Outbox, PackedRow},
    testing::user_id,
    users::{Authentication, Keys, NewRequest, Receipt, Snapshot, Status, User, Writes},
};

fn request(number: u128, day: i32) -> NewRequest {
    let id = EventId::from_bytes(number.to_be_bytes());
    NewRequest { id, day: Day::from_epoch_days(day), digest: [1; 32], receipt: Receipt::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_goes_to_one_of_many_who_ask_for_it_at_once() {
    let database = Database::create().await;
    let stores = Arc::new([database.open().await, database.open().await]);
    let mut tasks = JoinSet::new();
    for number in 0..24 {
        let stores = stores.clone();
        tasks.spawn(async move {
            let email = Email::try_from("ada@example.com").unwrap();
            let id = user_id(&format!("user-{number}"));
            let user = User {
                id: id.clone(),
                email: email.clone(),
                password_hash: "$".into(),
                status: Status::Active,
                status_epoch: 0,
                created_at: Millis::from_millis(0),
            };
            let keys = Keys {
                users: [id.clone()].into(),
                states: [id].into(),
                emails: [email.clone()].into(),
                ..Keys::default()
            };
            let register = |snapshot: Snapshot| {
                let free = !snapshot.taken_emails.contains(&email);
                (Writes { new_users: Vec::from_iter(free.then(|| user.clone())), ..Writes::default() }, free)
            };
            stores[number % 2].transact(&keys, register).await.unwrap()
        });
    }
    let registered = tasks.join_all().await.into_iter().filter(|free| *free).count();
    assert_eq!(registered, 1);
    database.wipe().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_is_taken_once_even_while_the_day_turns() {
    let database = Database::create().await;
    let stores = Arc::new([database.open().await, database.open().await]);
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let stores = stores.clone();
        tasks.spawn(async move {
            let request = request(task / 8, if task % 8 < 4 { 20_000 } else { 20_001 });
            let keys = Keys { requests: [request.id].into(), ..Keys::default() };
            let take = |snapshot: Snapshot| {
                let free = snapshot.requests.is_empty();
                (Writes { requests: Vec::from_iter(free.then(|| request.clone())), ..Writes::default() }, free)
            };
            (task / 8, stores[task as usize % 2].transact(&keys, take).await.unwrap())
        });
    }
    let mut taken: Vec<u128> = tasks.join_all().await.into_iter().filter(|(_, free)| *free).map(|(id, _)| id).collect();
    taken.sort_unstable();
    assert_eq!(taken, (0..8).collect::<Vec<_>>());
    database.wipe().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outbox_ids_follow_the_order_in_which_a_user_was_accepted_over_all_instances() {
    let database = Database::create().await;
    let stores = Arc::new([database.open().await, database.open().await, database.open().await]);
    let mut tasks = JoinSet::new();
    for task in 0..60 {
        let stores = stores.clone();
        tasks.spawn(async move {
            // two users, in either order, from their first event on
            let users = [user_id("ada"), user_id("bob")];
            let keys = Keys { states: users.clone().into(), ..Keys::default() };
            let write = |snapshot: Snapshot| {
                let state = |user| snapshot.states.get(user).cloned().unwrap_or_default();
                let next = |user| Authentication { failures: state(user).failures + 1, ..state(user) };
                let row = |(partition, user)| {
                    let bytes = Bytes::copy_from_slice(&next(user).failures.to_be_bytes());
                    PackedRow { partition, records: 1, bytes }
                };
                let states = users.iter().map(|user| (user.clone(), next(user))).collect();
                let outbox = (0..).zip(&users).map(row).collect();
                (Writes { states, outbox, ..Writes::default() }, ())
            };
            stores[task % 3].transact(&keys, write).await.unwrap();
        });
    }
    tasks.join_all().await;
    for lease in &stores[0].lease(Uuid::new_v4()).await.unwrap()[..2] {
        let rows = stores[0].unsent(lease, &[], usize::MAX).await.unwrap();
        let counts: Vec<i32> = rows.iter().map(|row| i32::from_be_bytes(row.bytes[..].try_into().unwrap())).collect();
        assert_eq!(counts, (1..=60).collect::<Vec<_>>());
    }
    database.wipe().await;
}

/// Nothing of an account is asked for, as with recorded actions: what is decided on may have been seen long ago.
#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_somebody_else_has_written_since_it_was_seen_is_read_anew() {
    let database = Database::create().await;
    let stores = [database.open().await, database.open().await];
    let ada = user_id("ada");
    // a guess is only made where there is a day
    let day = request(1, 20_000);
    let turn = |_| (Writes { requests: vec![day.clone()], ..Writes::default() }, ());
    stores[0].transact(&Keys::default(), turn).await.unwrap();
    let fail = async |store: &super::PostgresStore| {
        let keys = Keys { states: [ada.clone()].into(), ..Keys::default() };
        let decide = |snapshot: Snapshot| {
            let state = snapshot.states.get(&ada).cloned().unwrap_or_default();
            let failures = state.failures + 1;
            let outbox = vec![PackedRow { partition: 0, records: 1, bytes: Bytes::from_static(b"x") }];
            let states = vec![(ada.clone(), Authentication { failures, ..state })];
            (Writes { states, outbox, ..Writes::default() }, failures)
        };
        store.transact(&keys, decide).await.unwrap()
    };
    let mut failures = Vec::new();
    // each after itself, after the other, and after somebody who knows nothing of either
    for store in [0, 0, 1, 0, 1, 1, 0] {
        failures.push(fail(&stores[store]).await);
    }
    database.execute("UPDATE authentication_states SET failures = 70").await;
    failures.push(fail(&stores[0]).await);
    assert_eq!(failures, [1, 2, 3, 4, 5, 6, 7, 71]);
    database.wipe().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_was_taken_on_any_day_is_found_whoever_took_it() {
    let database = Database::create().await;
    let stores = [database.open().await, database.open().await];
    let take = async |store: &super::PostgresStore, id: u128, day: i32| {
        let request = request(id, day);
        let keys = Keys { states: [user_id("ada")].into(), requests: [request.id].into(), ..Keys::default() };
        let decide = |snapshot: Snapshot| {
            let free = snapshot.requests.is_empty();
            (Writes { requests: Vec::from_iter(free.then(|| request.clone())), ..Writes::default() }, free)
        };
        store.transact(&keys, decide).await.unwrap()
    };
    let mut free = Vec::new();
    for (store, id, day) in
        [(0, 1, 20_000), (1, 1, 20_000), (1, 2, 20_001), (0, 1, 20_001), (0, 2, 20_001), (1, 3, 20_000)]
    {
        free.push(take(&stores[store], id, day).await);
    }
    assert_eq!(free, [true, false, true, false, false, true]);
    assert!(!take(&stores[0], 3, 20_001).await, "taken on a day that had passed");
    database.wipe().await;
}
