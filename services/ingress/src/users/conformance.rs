//! What every adapter of [`Store`] keeps, as one suite: each adapter's tests call [`suite`].
use std::{collections::BTreeSet, future::Future, sync::Arc};

use bytes::Bytes;
use headwater_proto::{Day, EventId, Millis, UserId};
use uuid::Uuid;

use super::{
    Authentication, Credentials, Keys, NewRequest, Receipt, SeenIp, Snapshot, Status, Store, User, Who, Writes,
};
use crate::{
    fields::{Email, Ip, SessionId},
    outbox::{PackedRow, Reading, SentRow, Waiting},
};

/// `fresh` gives a store that holds nothing.
pub(super) async fn suite<S: Store, Fresh: Future<Output = S>>(fresh: impl Fn() -> Fresh) {
    everything_written_is_read_back_under_its_own_keys(fresh().await).await;
    a_refused_transaction_leaves_nothing_behind(fresh().await).await;
    transactions_see_each_other_whole(fresh().await).await;
    an_account_is_found_by_id_and_by_email(fresh().await).await;
    request_ids_are_forgotten_by_day(fresh().await).await;
    the_digest_key_is_made_once(fresh().await).await;
    outbox_rows_are_read_by_partition_in_order_and_deleted(fresh().await).await;
}

fn user_id(name: &str) -> UserId {
    UserId::try_from(name).unwrap()
}

fn email(name: &str) -> Email {
    Email::try_from(format!("{name}@example.com").as_str()).unwrap()
}

fn at(millis: i64) -> Millis {
    Millis::from_millis(millis)
}

fn id(byte: u8) -> EventId {
    EventId::from_bytes([byte; 16])
}

fn user(name: &str) -> User {
    User {
        id: user_id(name),
        email: email(name),
        password_hash: format!("$hash of {name}").into(),
        status: Status::Active,
        status_epoch: 0,
        created_at: at(1_000),
    }
}

fn request(byte: u8, day: i32) -> NewRequest {
    let receipt = Receipt { user_id: "ada".into(), ip_changed: true, ..Receipt::default() };
    NewRequest { id: id(byte), day: Day::from_epoch_days(day), digest: [byte; 32], receipt }
}

fn row(partition: i32, bytes: &'static [u8]) -> PackedRow {
    PackedRow { partition, records: bytes.len() as u32, bytes: Bytes::from_static(bytes) }
}

async fn write<S: Store>(store: &S, writes: Writes) {
    store.transact(&Keys::default(), |_| (writes.clone(), ())).await.unwrap();
}

async fn read<S: Store>(store: &S, keys: Keys) -> Snapshot {
    store.transact(&keys, |snapshot| (Writes::default(), snapshot)).await.unwrap()
}

/// Keys of one kind each are named in `names` and `ids`.
fn keys(names: &[&str], ids: &[u8]) -> Keys {
    let users: BTreeSet<UserId> = names.iter().map(|name| user_id(name)).collect();
    let events: BTreeSet<EventId> = ids.iter().map(|&byte| id(byte)).collect();
    let emails = names.iter().filter(|name| !name.contains(' ')).map(|name| email(name)).collect();
    Keys { users: users.clone(), states: users, emails, requests: events.clone(), verdicts: events }
}

async fn everything_written_is_read_back_under_its_own_keys<S: Store>(store: S) {
    let odd = "o'neil \"Ω\" 7 %_"; // whatever a user id may contain
    let state = Authentication {
        failures: 2,
        last_ip: Some(SeenIp { ip: Ip::try_from("2001:db8::1").unwrap(), at: at(-5) }),
        last_login_at: Some(at(7)),
        open_sessions: ["s 1", "s\"2"].map(|session| SessionId::try_from(session).unwrap()).to_vec(),
    };
    let ada = User { status: Status::Flagged, status_epoch: i64::MAX, created_at: Millis::MIN, ..user("ada") };
    let eve = User { id: user_id(odd), ..user("eve") };
    let writes = Writes {
        new_users: vec![ada.clone(), eve.clone()],
        states: vec![(user_id("ada"), state.clone()), (user_id(odd), Authentication::default())],
        requests: vec![request(1, 20_000), request(2, 20_001)],
        applied_verdicts: vec![id(3)],
        ..Writes::default()
    };
    write(&store, writes).await;

    let seen = read(&store, keys(&["ada", odd, "nobody"], &[1, 3, 9])).await;
    assert_eq!(seen.users, [(user_id("ada"), ada.clone()), (user_id(odd), eve)].into());
    assert_eq!(seen.states, [(user_id("ada"), state), (user_id(odd), Authentication::default())].into());
    assert_eq!(seen.taken_emails, [email("ada")].into(), "eve's email was not asked for, {odd}'s is not taken");
    assert_eq!(seen.requests.len(), 1);
    assert_eq!(seen.requests[&id(1)].digest, [1; 32]);
    assert_eq!(seen.requests[&id(1)].receipt, request(1, 0).receipt);
    assert_eq!(seen.applied_verdicts, [id(3)].into());

    let changed = User { status: Status::Suspended, password_hash: "$new".into(), status_epoch: 4, ..ada };
    let states = vec![(user_id("ada"), Authentication::default())];
    write(&store, Writes { changed_users: vec![changed.clone()], states, ..Writes::default() }).await;
    let seen = read(&store, keys(&["ada"], &[])).await;
    assert_eq!(seen.users[&user_id("ada")], changed);
    assert_eq!(seen.states[&user_id("ada")], Authentication::default());
}

async fn a_refused_transaction_leaves_nothing_behind<S: Store>(store: S) {
    write(&store, Writes { new_users: vec![user("ada")], requests: vec![request(1, 1)], ..Writes::default() }).await;
    let twice = User { id: user_id("eve"), ..user("ada") };
    let bad = Writes {
        new_users: vec![user("bob"), twice],
        states: vec![(user_id("bob"), Authentication::default())],
        requests: vec![request(2, 1)],
        outbox: vec![row(0, b"x")],
        ..Writes::default()
    };
    // an adapter may refuse it, or decide again as if another writer had been faster: then it sees that there is one
    let refused = store.transact(&keys(&["ada"], &[]), |_| (bad.clone(), ())).await;
    assert!(refused.is_err(), "an email belongs to one account");
    let seen = read(&store, keys(&["bob", "eve"], &[2])).await;
    assert!(seen.users.is_empty() && seen.states.is_empty() && seen.requests.is_empty(), "{seen:?}");
    assert_eq!(store.waiting().await.unwrap(), Waiting::default());
}

/// Many at once add one failure each to the same state: none is lost.
async fn transactions_see_each_other_whole<S: Store>(store: S) {
    let store = Arc::new(store);
    let add = |store: Arc<S>| async move {
        let decide = |snapshot: Snapshot| {
            let mut state = snapshot.states.get(&user_id("ada")).cloned().unwrap_or_default();
            state.failures += 1;
            (Writes { states: vec![(user_id("ada"), state)], ..Writes::default() }, ())
        };
        store.transact(&keys(&["ada"], &[]), decide).await.unwrap();
    };
    let all: Vec<_> = (0..32).map(|_| tokio::spawn(add(store.clone()))).collect();
    for one in all {
        one.await.unwrap();
    }
    assert_eq!(read(&*store, keys(&["ada"], &[])).await.states[&user_id("ada")].failures, 32);
}

async fn an_account_is_found_by_id_and_by_email<S: Store>(store: S) {
    let only_state = vec![(user_id("ghost"), Authentication { failures: 1, ..Authentication::default() })];
    write(&store, Writes { new_users: vec![user("ada")], states: only_state, ..Writes::default() }).await;
    let credentials = Credentials { user_id: user_id("ada"), password_hash: user("ada").password_hash };
    for who in [Who::Id(user_id("ada")), Who::Email(email("ada"))] {
        assert_eq!(store.credentials(&who).await.unwrap(), Some(credentials.clone()), "{who:?}");
    }
    for who in [Who::Id(user_id("ghost")), Who::Email(email("ghost"))] {
        assert_eq!(store.credentials(&who).await.unwrap(), None, "{who:?}");
    }
    let account = store.account(&user_id("ada")).await.unwrap();
    assert_eq!(account, Some((user("ada"), Authentication::default())));
    assert_eq!(store.account(&user_id("ghost")).await.unwrap(), None);
}

async fn request_ids_are_forgotten_by_day<S: Store>(store: S) {
    let requests = vec![request(1, 10), request(2, 11), request(3, 12)];
    write(&store, Writes { requests, ..Writes::default() }).await;
    assert_eq!(store.expire_request_ids(Day::from_epoch_days(12)).await.unwrap(), 2);
    let seen = read(&store, keys(&[], &[1, 2, 3])).await;
    assert_eq!(seen.requests.into_keys().collect::<Vec<_>>(), [id(3)]);
    write(&store, Writes { requests: vec![request(1, 12)], ..Writes::default() }).await; // free again
    assert_eq!(store.expire_request_ids(Day::from_epoch_days(12)).await.unwrap(), 0);
}

async fn the_digest_key_is_made_once<S: Store>(store: S) {
    let key = store.digest_key().await.unwrap();
    assert_ne!(key, [0; 32]);
    assert_eq!(store.digest_key().await.unwrap(), key);
}

async fn outbox_rows_are_read_by_partition_in_order_and_deleted<S: Store>(store: S) {
    assert_eq!(store.occupied().await.unwrap(), [0; 0]);
    write(&store, Writes { at: at(50), outbox: vec![row(3, b"aa"), row(7, b"b")], ..Writes::default() }).await;
    write(&store, Writes { at: at(60), outbox: vec![row(3, b"cccc")], ..Writes::default() }).await;
    write(&store, Writes { at: at(70), outbox: vec![row(3, b"d")], ..Writes::default() }).await;
    let leases = store.lease(Uuid::from_bytes([1; 16])).await.unwrap();
    assert_eq!(leases.iter().map(|lease| lease.partition).collect::<Vec<_>>(), (0..12).collect::<Vec<_>>());
    let lease = leases[3];
    let unsent = async |in_flight: &[i64], limit| store.unsent(&lease, in_flight, limit).await.unwrap();
    let sent = |ids: &[i64]| ids.iter().map(|&id| SentRow { id, lease }).collect::<Vec<_>>();

    let all = unsent(&[], 1_000).await;
    assert_eq!(all.iter().map(|row| &row.bytes[..]).collect::<Vec<_>>(), [&b"aa"[..], b"cccc", b"d"]);
    assert_eq!((all[0].partition, all[0].records), (3, 2));
    let ids: Vec<i64> = all.iter().map(|row| row.id).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    assert_eq!(unsent(&[], 1).await, all[..1], "one row, however big");
    assert_eq!(unsent(&[], 6).await, all[..2]);
    assert_eq!(unsent(&ids[..2], 1_000).await, all[2..]);
    assert_eq!(unsent(&ids[1..], 1_000).await, all[..1], "a lower id is read after a higher one is in flight");
    assert_eq!(store.waiting().await.unwrap(), Waiting { rows: 4, oldest_at: Some(at(50)) });
    let mut occupied = store.occupied().await.unwrap();
    occupied.sort_unstable();
    assert_eq!(occupied, [3, 7]);
    let reading = |partition: usize, in_flight: &[i64], limit_bytes| Reading {
        lease: leases[partition],
        in_flight: in_flight.to_vec(),
        limit_bytes,
    };
    let readings = vec![reading(7, &[], 1_000), reading(5, &[], 1_000), reading(3, &ids[..1], 4)];
    let of_all = store.unsent_of_all(readings).await.unwrap();
    let of_all: BTreeSet<_> = of_all.iter().map(|row| (row.partition, row.bytes.to_vec())).collect();
    assert_eq!(of_all, [(3, b"cccc".to_vec()), (7, b"b".to_vec())].into(), "each with its own limit and lease");
    let of_7 = store.unsent(&leases[7], &[], 1).await.unwrap()[0].id;
    let readings = vec![reading(3, &ids[..2], 1_000), reading(5, &[], 1), reading(7, &[of_7], 1_000)];
    assert_eq!(store.unsent_of_all(readings).await.unwrap(), all[2..], "each without its own that are in flight");

    store.delete(&sent(&[ids[0], ids[1], i64::MAX])).await.unwrap();
    assert_eq!(unsent(&[], 1_000).await, all[2..]);
    store.delete(&sent(&ids)).await.unwrap();
    assert_eq!(store.occupied().await.unwrap(), [7]);
    write(&store, Writes { outbox: vec![row(3, b"e")], ..Writes::default() }).await;
    assert!(unsent(&[], 1_000).await[0].id > ids[2], "an id is never given twice");
}
