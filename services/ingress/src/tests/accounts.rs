//! What becomes of accounts: registration, logins, lockout, passwords.
use headwater_proto::{Detail, Timestamp, v1, v1::user_actions_server::UserActions};
use headwater_stream::{BatchHandler, Delivery, Outcome, Position};
use tonic::{Code, Request, Status};

use crate::{
    Api, SqliteStore,
    account_status::AccountStatus,
    testing::{Running, event_id, now, outbox, reason, running, story, user_id},
    users::{self, verdict::Verdict},
};

pub(super) const PASSWORD: &str = "correct horse";

pub(super) fn context(ip: &str) -> Option<v1::ActionContext> {
    Some(v1::ActionContext { ip: ip.into(), ..Default::default() })
}

pub(super) fn registration(name: &str) -> v1::RegisterUserRequest {
    v1::RegisterUserRequest {
        email: format!(" {name}@Example.com "),
        password: PASSWORD.into(),
        user_id: name.into(),
        context: context("10.0.0.1"),
        ..Default::default()
    }
}

pub(super) fn login(name: &str, password: &str) -> v1::LoginRequest {
    v1::LoginRequest { email: format!("{name}@example.com"), password: password.into(), ..Default::default() }
}

pub(super) fn change(name: &str, old: &str, new: &str) -> v1::ChangePasswordRequest {
    v1::ChangePasswordRequest {
        user_id: name.into(),
        old_password: old.into(),
        new_password: new.into(),
        ..Default::default()
    }
}

/// On SQLite, with ada registered.
pub(super) async fn with_ada() -> Running<SqliteStore> {
    let running = running(SqliteStore::open().await.unwrap()).await;
    running.api.register_user(Request::new(registration("ada"))).await.unwrap();
    running
}

async fn user(api: &Api<SqliteStore>, name: &str) -> Result<v1::GetUserResponse, Status> {
    api.get_user(Request::new(v1::GetUserRequest { user_id: name.into() })).await.map(|answer| answer.into_inner())
}

async fn log_in(api: &Api<SqliteStore>, request: v1::LoginRequest) -> Result<v1::LoginResponse, Status> {
    api.login(Request::new(request)).await.map(|answer| answer.into_inner())
}

fn told(status: Status) -> (Code, String) {
    (status.code(), reason(&status))
}

/// As if the fraud service had said so on the log.
async fn verdict(running: &Running<SqliteStore>, number: u8, status: users::Status, epoch: i64) -> Outcome {
    let item = Verdict { id: event_id(number), user_id: user_id("ada"), status, epoch };
    let position = Position { partition: 0, offset: 0 };
    let delivery = Delivery { position, trace: None, timestamp: None, attempt: 1, item };
    AccountStatus::new(running.store.clone()).apply(&[delivery]).await.unwrap()[0]
}

#[tokio::test]
async fn a_registered_user_logs_in_and_is_seen() {
    let running = with_ada().await;
    let seen = user(&running.api, "ada").await.unwrap();
    let expected = v1::GetUserResponse {
        user_id: "ada".into(),
        email: "ada@example.com".into(),
        status: v1::AccountStatus::Active.into(),
        created_at: Some(Timestamp::from(now())),
        last_ip: "10.0.0.1".into(),
        ..Default::default()
    };
    assert_eq!(seen, expected);

    running.clock.advance_millis(1_000);
    let first = log_in(&running.api, login("ADA", PASSWORD)).await.unwrap();
    assert_eq!((first.user_id.as_str(), first.event_ids.len()), ("ada", 1));
    assert!(!first.session_id.is_empty(), "a session is made where none is sent");
    let elsewhere = v1::LoginRequest {
        email: String::new(),
        user_id: "ada".into(),
        context: context("::ffff:10.0.0.2"),
        ..login("ada", PASSWORD)
    };
    let second = log_in(&running.api, elsewhere).await.unwrap();
    assert_eq!(second.event_ids.len(), 2);

    let seen = user(&running.api, "ada").await.unwrap();
    assert_eq!(seen.last_login_at, Some(Timestamp::from(now().plus_millis(1_000))));
    assert_eq!(seen.last_ip, "10.0.0.2");
    let events = outbox(&running.store).await;
    let ids: Vec<String> = events[1..].iter().map(|event| event.id.to_string()).collect();
    assert_eq!(ids, [first.event_ids, second.event_ids].concat());
    assert_eq!(story(&running.store, "ada").await, ["created", "logged_in", "ip_changed", "logged_in"]);
    assert!(events.iter().all(|event| event.email.as_deref() == Some("ada@example.com")), "{events:?}");
    assert!(events.iter().all(|event| event.source == "/ingress"), "{events:?}");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_cannot_be_told_apart() {
    let running = with_ada().await;
    let named = v1::LoginRequest { email: String::new(), user_id: "nobody".into(), ..login("", "wrong horse") };
    let requests = [login("ada", "wrong horse"), login("nobody", "wrong horse"), named, login("ada", "x")];
    let mut answers = Vec::new();
    for request in requests {
        let refused = log_in(&running.api, request).await.unwrap_err();
        answers.push((refused.message().to_owned(), told(refused)));
    }
    assert_eq!(answers[0].1, (Code::Unauthenticated, "INVALID_CREDENTIALS".into()));
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let events = outbox(&running.store).await;
    let counts: Vec<_> = events.iter().filter_map(|event| event.detail.clone()).collect();
    let failure = |consecutive_failures| Detail::LoginFailure(v1::LoginFailure { consecutive_failures });
    assert_eq!(counts, [failure(1), failure(2)], "only a known user has failures");
    assert_eq!(user(&running.api, "ada").await.unwrap().failed_attempts, 2);

    // and not by a second use of the id either
    for name in ["ada", "nobody"] {
        let id = event_id(name.len() as u8).to_string();
        let _ = log_in(&running.api, v1::LoginRequest { event_id: id.clone(), ..login(name, "wrong horse") }).await;
        let other = v1::LoginRequest { event_id: id, ..login("third", "wrong horse") };
        assert_eq!(told(log_in(&running.api, other).await.unwrap_err()).1, "REQUEST_ID_REUSED", "{name}");
    }
}

#[tokio::test]
async fn verdicts_close_an_account_and_a_new_password_or_an_operator_opens_it() {
    use users::Status::{Flagged, PasswordResetRequired, Suspended};
    let running = with_ada().await;
    let api = &running.api;
    let right = || log_in(api, login("ada", PASSWORD));
    let status = async || v1::AccountStatus::try_from(user(api, "ada").await.unwrap().status).unwrap();

    assert_eq!(verdict(&running, 1, Flagged, 0).await, Outcome::Done);
    assert!(right().await.is_ok(), "a flagged user may log in");
    assert_eq!(verdict(&running, 2, PasswordResetRequired, 0).await, Outcome::Done);
    let refused = told(right().await.unwrap_err());
    assert_eq!(refused, (Code::FailedPrecondition, "PASSWORD_RESET_REQUIRED".into()));

    api.change_password(Request::new(change("ada", PASSWORD, "battery staple"))).await.unwrap();
    assert_eq!(status().await, v1::AccountStatus::Flagged);
    assert!(log_in(api, login("ada", "battery staple")).await.is_ok());

    assert_eq!(verdict(&running, 3, Suspended, 0).await, Outcome::Done);
    let closed = (Code::PermissionDenied, "ACCOUNT_SUSPENDED".to_owned());
    assert_eq!(told(log_in(api, login("ada", "battery staple")).await.unwrap_err()), closed);
    let refused = api.change_password(Request::new(change("ada", "battery staple", "a third one"))).await.unwrap_err();
    assert_eq!(told(refused), closed);
    let before = story(&running.store, "ada").await.len();
    assert!(log_in(api, login("ada", "battery staple")).await.is_err());
    assert_eq!(story(&running.store, "ada").await.len(), before, "a right password that is refused writes nothing");

    let reinstate =
        v1::ReinstateUserRequest { user_id: "ada".into(), reason: "spoke to her".into(), ..Default::default() };
    api.reinstate_user(Request::new(reinstate)).await.unwrap();
    assert_eq!((status().await, user(api, "ada").await.unwrap().status_epoch), (v1::AccountStatus::Active, 1));
    assert_eq!(verdict(&running, 4, Suspended, 0).await, Outcome::Skip("stale_epoch"));
    assert_eq!(verdict(&running, 3, Suspended, 1).await, Outcome::Skip("already_applied"));
    assert!(log_in(api, login("ada", "battery staple")).await.is_ok(), "an old verdict does not close it again");
}

#[tokio::test]
async fn a_wrong_old_password_counts_and_changes_nothing() {
    let running = with_ada().await;
    let refused = running.api.change_password(Request::new(change("ada", "wrong horse", "battery staple"))).await;
    assert_eq!(told(refused.unwrap_err()), (Code::Unauthenticated, "INVALID_CREDENTIALS".into()));
    assert_eq!(story(&running.store, "ada").await, ["created", "login_failed"]);
    assert!(log_in(&running.api, login("ada", PASSWORD)).await.is_ok());
    assert_eq!(user(&running.api, "ada").await.unwrap().failed_attempts, 0);
}

#[tokio::test]
async fn an_email_and_a_user_id_belong_to_one_account() {
    let running = with_ada().await;
    let register = async |request| told(running.api.register_user(Request::new(request)).await.unwrap_err());
    let same_email = v1::RegisterUserRequest { user_id: "eve".into(), ..registration("ada") };
    assert_eq!(register(same_email).await, (Code::AlreadyExists, "EMAIL_TAKEN".into()));
    let same_id = v1::RegisterUserRequest { email: "eve@example.com".into(), ..registration("ada") };
    assert_eq!(register(same_id).await, (Code::AlreadyExists, "USER_ID_TAKEN".into()));
}

#[tokio::test]
async fn who_is_only_known_by_actions_has_no_account_and_may_still_register() {
    let running = running(SqliteStore::open().await.unwrap()).await;
    let api = &running.api;
    let failed = |name: &str| v1::RecordActionRequest {
        event_type: "user.login_failed".into(),
        user_id: name.into(),
        ..Default::default()
    };
    api.record_action(Request::new(failed("ada"))).await.unwrap();
    assert_eq!(told(user(api, "ada").await.unwrap_err()), (Code::NotFound, "USER_NOT_FOUND".into()));
    let logout = v1::LogoutRequest { user_id: "ada".into(), session_id: "s".into(), ..Default::default() };
    assert_eq!(reason(&api.logout(Request::new(logout)).await.unwrap_err()), "USER_NOT_FOUND");
    let changed = api.change_password(Request::new(change("ada", PASSWORD, "battery staple"))).await;
    assert_eq!(reason(&changed.unwrap_err()), "USER_NOT_FOUND");
    let moved = v1::ReportIpChangeRequest { user_id: "ada".into(), ip: "::1".into(), ..Default::default() };
    assert_eq!(reason(&api.report_ip_change(Request::new(moved)).await.unwrap_err()), "USER_NOT_FOUND");

    api.register_user(Request::new(registration("ada"))).await.unwrap();
    assert_eq!(user(api, "ada").await.unwrap().failed_attempts, 1, "what was known before goes on");
}

#[tokio::test]
async fn a_call_that_is_cancelled_happens_as_a_whole_or_not_at_all() {
    let running = with_ada().await;
    let api = &running.api;
    // each is dropped after another number of steps
    for steps in 0..24 {
        let request = v1::RecordActionRequest {
            event_type: "user.login_failed".into(),
            user_id: "ada".into(),
            ..Default::default()
        };
        let call = api.record_action(Request::new(request));
        let mut call = tokio_test::task::spawn(call);
        for _ in 0..steps {
            if call.poll().is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let last = log_in(api, login("ada", "wrong horse")).await.unwrap_err(); // behind all of them in the lane
    assert_eq!(reason(&last), "INVALID_CREDENTIALS");
    let counts: Vec<i32> = outbox(&running.store)
        .await
        .into_iter()
        .filter_map(|event| match event.detail {
            Some(Detail::LoginFailure(failure)) => Some(failure.consecutive_failures),
            _ => None,
        })
        .collect();
    assert!(counts.len() > 1, "none of the calls came through");
    assert_eq!(counts, (1..=counts.len() as i32).collect::<Vec<_>>());
    assert_eq!(user(api, "ada").await.unwrap().failed_attempts, counts.len() as i32);
}
