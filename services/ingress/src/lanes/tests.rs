//! Lanes over a store that fails when it is told to.
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::join_all, stream};
use headwater_proto::{Day, EventId, EventType, UserId, v1, v1::user_actions_server::UserActions};
use headwater_stream::Positions;
use tokio::{
    sync::{Semaphore, mpsc},
    task::unconstrained,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Request;
use uuid::Uuid;

use crate::{
    Config, SqliteStore, Store, StoreError,
    action::{Action, Answer},
    lanes::{Failure, Lanes, Reply},
    outbox::{Lease, Outbox, OutboxRow, SentRow, Waiting},
    testing::{event_id, origin, reason, record, running_with, story},
    users::{Authentication, Credentials, Keys, Snapshot, User, Who, Writes},
};

/// SQLite behind a gate, which breaks commits and refuses the values of one user.
#[derive(Clone)]
struct Gated {
    inner: SqliteStore,
    gate: Arc<Semaphore>,
    down: Arc<AtomicBool>,
    /// The commit happens and its answer is lost.
    unknown: Arc<AtomicBool>,
    groups: Arc<Mutex<Vec<usize>>>,
}

/// Whose values no store likes.
const GUILTY: &str = "guilty";

impl Gated {
    async fn open() -> Self {
        Self {
            inner: SqliteStore::open().await.unwrap(),
            gate: Arc::new(Semaphore::new(0)),
            down: Arc::default(),
            unknown: Arc::default(),
            groups: Arc::default(),
        }
    }

    fn groups(&self) -> Vec<usize> {
        self.groups.lock().unwrap().clone()
    }
}

impl Store for Gated {
    async fn transact<T, F>(&self, keys: &Keys, decide: F) -> Result<T, StoreError>
    where
        T: Send,
        F: Fn(Snapshot) -> (Writes, T) + Send + Sync,
    {
        self.gate.acquire().await.unwrap().forget();
        self.groups.lock().unwrap().push(keys.requests.len());
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("the connection is gone"));
        }
        if keys.states.iter().any(|user_id| user_id.as_str() == GUILTY) {
            return Err(StoreError::data("invalid value"));
        }
        let decided = self.inner.transact(keys, decide).await;
        if self.unknown.load(Ordering::SeqCst) { Err(StoreError::unavailable("the answer is lost")) } else { decided }
    }

    async fn credentials(&self, of: &Who) -> Result<Option<Credentials>, StoreError> {
        self.inner.credentials(of).await
    }

    async fn account(&self, user_id: &UserId) -> Result<Option<(User, Authentication)>, StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::unavailable("the connection is gone"));
        }
        self.inner.account(user_id).await
    }

    async fn expire_request_ids(&self, first_kept: Day) -> Result<u64, StoreError> {
        self.inner.expire_request_ids(first_kept).await
    }

    fn positions(&self) -> Option<Arc<Positions>> {
        None
    }

    async fn digest_key(&self) -> Result<[u8; 32], StoreError> {
        self.inner.digest_key().await
    }
}

impl Outbox for Gated {
    async fn lease(&self, relay: Uuid) -> Result<Vec<Lease>, StoreError> {
        self.inner.lease(relay).await
    }

    async fn release(&self, leases: &[Lease]) -> Result<(), StoreError> {
        self.inner.release(leases).await
    }

    async fn resign(&self, relay: Uuid) -> Result<(), StoreError> {
        self.inner.resign(relay).await
    }

    async fn unsent(&self, lease: &Lease, in_flight: &[i64], limit: usize) -> Result<Vec<OutboxRow>, StoreError> {
        self.inner.unsent(lease, in_flight, limit).await
    }

    async fn delete(&self, sent: &[SentRow]) -> Result<(), StoreError> {
        self.inner.delete(sent).await
    }

    async fn occupied(&self) -> Result<Vec<i32>, StoreError> {
        self.inner.occupied().await
    }

    async fn waiting(&self) -> Result<Waiting, StoreError> {
        self.inner.waiting().await
    }
}

fn one_lane(lane_capacity: usize) -> Config {
    Config { lanes: 1, lane_capacity, ..Config::default() }
}

/// All of them before a lane takes the first.
async fn submit_all(lanes: &Lanes, actions: impl IntoIterator<Item = Action>) -> Vec<Reply> {
    let submitted = join_all(actions.into_iter().map(|action| lanes.submit(action, None)));
    unconstrained(submitted).await.into_iter().map(Result::unwrap).collect()
}

async fn outcome(reply: Reply) -> &'static str {
    match reply.await.unwrap() {
        Ok(Answer::Written(_)) => "written",
        Ok(Answer::Repeated(_)) => "repeated",
        Ok(Answer::Refused(reason)) => reason.as_str(),
        Ok(Answer::PasswordStale) => "stale",
        Err(Failure::Unavailable) => "unavailable",
        Err(Failure::Data) => "data",
    }
}

async fn outcomes(replies: impl IntoIterator<Item = Reply>) -> Vec<&'static str> {
    let mut seen = Vec::new();
    for reply in replies {
        seen.push(outcome(reply).await);
    }
    seen
}

#[tokio::test]
async fn what_waits_commits_together() {
    let store = Gated::open().await;
    let running = running_with(one_lane(8_192), store.clone()).await;
    let lanes = running.api.lanes();
    let first = lanes.submit(record(0, "ada", EventType::UserLoggedIn), None).await.unwrap();
    store.gate.add_permits(1);
    assert_eq!(outcome(first).await, "written");
    let waiting = submit_all(lanes, (1..=200).map(|n| record(n, "ada", EventType::UserLoggedIn))).await;
    store.gate.add_permits(200);
    assert!(outcomes(waiting).await.iter().all(|outcome| *outcome == "written"));
    assert_eq!(store.groups(), [1, 200]);
}

#[tokio::test]
async fn a_guilty_request_fails_alone() {
    let store = Gated::open().await;
    let running = running_with(one_lane(64), store.clone()).await;
    let users = ["ada", "bob", "ada", GUILTY, "ada", "eve", "ada"];
    let actions = (1..).zip(users).map(|(n, name)| record(n, name, EventType::UserLoginFailed));
    let replies = submit_all(running.api.lanes(), actions).await;
    store.gate.add_permits(64);
    let expected = ["written", "written", "written", "data", "written", "written", "written"];
    assert_eq!(outcomes(replies).await, expected);
    assert_eq!(story(&store, "ada").await, ["login_failed"; 4]);
}

#[tokio::test]
async fn a_failed_commit_fails_everything_that_was_queued_before_new_work() {
    let store = Gated::open().await;
    let running = running_with(one_lane(8_192), store.clone()).await;
    let lanes = running.api.lanes();
    store.down.store(true, Ordering::SeqCst);
    let view = lanes.view();
    // more than one group
    let queued = (0..700u32).map(|n| {
        let mut action = record(0, "ada", EventType::UserLoggedIn);
        action.head.id = EventId::from_bytes(u128::from(n).to_be_bytes());
        action
    });
    let queued = submit_all(lanes, queued).await;
    store.gate.add_permits(1);
    assert!(outcomes(queued).await.iter().all(|outcome| *outcome == "unavailable"));
    assert_eq!(store.groups().len(), 1, "the second group never reached the store");

    store.down.store(false, Ordering::SeqCst);
    store.gate.add_permits(64);
    let behind = view.submit(record(1, "ada", EventType::UserLoggedIn)).await;
    assert_eq!(outcome(behind).await, "unavailable", "sent ahead of the answer to what failed");
    let new = lanes.submit(record(2, "ada", EventType::UserLoggedIn), None).await.unwrap();
    let newer = lanes.view().submit(record(3, "ada", EventType::UserLoggedOut)).await;
    assert_eq!(outcomes([new, newer]).await, ["written", "written"]);
    assert_eq!(story(&store, "ada").await, ["logged_in", "logged_out"]);
}

#[tokio::test]
async fn an_unknown_commit_is_repeated_under_its_id_without_a_second_event() {
    let store = Gated::open().await;
    let running = running_with(one_lane(64), store.clone()).await;
    let request = v1::RecordActionRequest {
        event_id: event_id(1).to_string(),
        event_type: "user.logged_in".into(),
        user_id: "ada".into(),
        ..Default::default()
    };
    store.gate.add_permits(64);
    store.unknown.store(true, Ordering::SeqCst);
    let lost = running.api.record_action(Request::new(request.clone())).await.unwrap_err();
    assert_eq!((lost.code(), reason(&lost).as_str()), (tonic::Code::Unavailable, "STORE_UNAVAILABLE"));
    store.unknown.store(false, Ordering::SeqCst);
    let answer = running.api.record_action(Request::new(request)).await.unwrap().into_inner();
    assert_eq!(answer, v1::RecordActionResponse { event_id: event_id(1).to_string(), duplicate: true });
    assert_eq!(story(&store, "ada").await, ["logged_in"]);
}

#[tokio::test]
async fn a_full_lane_and_a_store_that_is_away_are_told() {
    let store = Gated::open().await;
    let running = running_with(one_lane(1), store.clone()).await;
    let action = |event_type: &str| {
        let request =
            v1::RecordActionRequest { event_type: event_type.into(), user_id: "ada".into(), ..Default::default() };
        let api = running.api.clone();
        tokio::spawn(async move { api.record_action(Request::new(request)).await })
    };
    let lanes = running.api.lanes();
    let in_work = lanes.submit(record(1, "ada", EventType::UserLoggedIn), None).await.unwrap();
    let queued = lanes.view().submit(record(2, "ada", EventType::UserLoggedIn)).await; // after the first was taken
    tokio::time::pause(); // nothing but the call's patience goes on
    let refused = action("user.logged_in").await.unwrap().unwrap_err();
    tokio::time::resume();
    assert_eq!((refused.code(), reason(&refused).as_str()), (tonic::Code::ResourceExhausted, "OVERLOADED"));
    let details = tonic_types::StatusExt::get_error_details(&refused);
    assert!(details.retry_info().is_some_and(|retry| retry.retry_delay.is_some()), "{details:?}");
    let patient = action("user.logged_in");
    store.gate.add_permits(3);
    assert_eq!(outcomes([in_work, queued]).await, ["written", "written"]);
    assert!(patient.await.unwrap().is_ok(), "there was room soon");

    store.down.store(true, Ordering::SeqCst);
    let request = v1::GetUserRequest { user_id: "ada".into() };
    let refused = running.api.get_user(Request::new(request)).await.unwrap_err();
    assert_eq!(reason(&refused), "STORE_UNAVAILABLE");
}

#[tokio::test]
async fn a_call_whose_caller_has_gone_keeps_its_place_until_it_is_done() {
    let store = Gated::open().await;
    let running = running_with(Config { calls: 1, ..Config::default() }, store.clone()).await;
    let request =
        v1::RecordActionRequest { event_type: "user.logged_in".into(), user_id: "ada".into(), ..Default::default() };
    assert!(running.api.record_action(Request::new(request)).now_or_never().is_none(), "then it is dropped");
    let account = || running.api.get_user(Request::new(v1::GetUserRequest { user_id: "ada".into() }));
    assert_eq!(reason(&account().await.unwrap_err()), "OVERLOADED");
    store.gate.add_permits(1);
    let done = async {
        while reason(&account().await.unwrap_err()) != "USER_NOT_FOUND" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done).await.expect("room once the action is written");
    assert_eq!(story(&store, "ada").await, ["logged_in"]);
}

#[tokio::test]
async fn a_stream_ends_when_the_store_fails_and_nothing_behind_the_gap_is_accepted() {
    let store = Gated::open().await;
    let running = running_with(one_lane(8_192), store.clone()).await;
    let request = |number: u8| v1::RecordActionRequest {
        event_id: event_id(number).to_string(),
        event_type: "user.login_failed".into(),
        user_id: "ada".into(),
        ..Default::default()
    };
    let (sender, requests) = mpsc::unbounded_channel();
    let mut answers = running.api.record_all(UnboundedReceiverStream::new(requests), origin()).unwrap();
    store.gate.add_permits(1);
    sender.send(Ok(request(0))).unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap().status, None);

    store.down.store(true, Ordering::SeqCst);
    (1..50).for_each(|number| sender.send(Ok(request(number))).unwrap());
    store.gate.add_permits(1);
    let failed = answers.next().await.unwrap().unwrap();
    assert_eq!((failed.index, failed.status.unwrap().code), (1, tonic::Code::Unavailable as i32));
    store.down.store(false, Ordering::SeqCst); // healed, with half of the stream unread
    store.gate.add_permits(64);
    (50..100).for_each(|number| sender.send(Ok(request(number))).unwrap());
    let mut rest: Vec<_> = answers.collect().await;
    assert_eq!(rest.pop().unwrap().unwrap_err().code(), tonic::Code::Unavailable, "the stream ends");
    assert!(rest.iter().all(|answer| answer.as_ref().unwrap().status.is_some()), "{rest:?}");
    assert_eq!(story(&store, "ada").await, ["login_failed"], "accepted is a prefix of what was sent");

    let again = stream::iter((1..100).map(move |number| Ok(request(number))));
    let again: Vec<_> = running.api.record_all(again, origin()).unwrap().collect().await;
    assert!(again.iter().all(|answer| answer.as_ref().unwrap().status.is_none()), "{again:?}");
    assert_eq!(story(&store, "ada").await.len(), 100);
}
