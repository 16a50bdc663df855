//! One id, one request, one effect.
use headwater_proto::{v1, v1::user_actions_server::UserActions};
use tonic::Request;

use super::accounts::{PASSWORD, change, context, login, registration, with_ada};
use crate::testing::{event_id, reason, story};

fn id(number: u8) -> String {
    event_id(number).to_string()
}

#[tokio::test]
async fn a_repeated_request_is_answered_as_the_first_time_and_another_one_is_refused() {
    let running = with_ada().await;
    let api = &running.api;

    let register = v1::RegisterUserRequest { event_id: id(1), user_id: String::new(), ..registration("bob") };
    let first = api.register_user(Request::new(register.clone())).await.unwrap().into_inner();
    let again = api.register_user(Request::new(register.clone())).await.unwrap().into_inner();
    assert_eq!(first, again, "with the user id that was made the first time");
    let other = v1::RegisterUserRequest { email: "bobby@example.com".into(), ..register };
    assert_eq!(reason(&api.register_user(Request::new(other)).await.unwrap_err()), "REQUEST_ID_REUSED");

    let from = |ip: &str| v1::LoginRequest { event_id: id(2), context: context(ip), ..login("ada", PASSWORD) };
    let first = api.login(Request::new(from("10.9.9.9"))).await.unwrap().into_inner();
    let again = api.login(Request::new(from("10.9.9.9"))).await.unwrap().into_inner();
    assert_eq!(first, again, "with the session that was made the first time");
    assert_eq!(first.event_ids, [event_id(2).derive("user.ip_changed").to_string(), id(2)]);
    assert_eq!(reason(&api.login(Request::new(from("10.9.9.8"))).await.unwrap_err()), "REQUEST_ID_REUSED");

    let report = v1::ReportIpChangeRequest {
        user_id: "ada".into(),
        ip: "10.0.0.3".into(),
        event_id: first.event_ids[0].clone(),
        ..Default::default()
    };
    let refused = api.report_ip_change(Request::new(report)).await.unwrap_err();
    assert_eq!(reason(&refused), "REQUEST_ID_REUSED", "an id that was derived here is an id too");

    let action = v1::RecordActionRequest {
        event_id: id(3).to_uppercase(),
        event_type: "user.logged_in".into(),
        user_id: "eve".into(),
        ..Default::default()
    };
    for duplicate in [false, true, true] {
        let answer = api.record_action(Request::new(action.clone())).await.unwrap().into_inner();
        assert_eq!(answer, v1::RecordActionResponse { event_id: id(3), duplicate });
    }
    let reinstate = v1::ReinstateUserRequest {
        user_id: "ada".into(),
        reason: "fine".into(),
        event_id: id(3),
        ..Default::default()
    };
    assert_eq!(reason(&api.reinstate_user(Request::new(reinstate)).await.unwrap_err()), "REQUEST_ID_REUSED");
    assert_eq!(story(&running.store, "ada").await, ["created", "ip_changed", "logged_in"]);
    assert_eq!(story(&running.store, "eve").await, ["logged_in"]);
}

#[tokio::test]
async fn a_repeated_login_verifies_its_password_again() {
    let running = with_ada().await;
    let attempt = async |password: &str, number| {
        let request = v1::LoginRequest { event_id: id(number), ..login("ada", password) };
        running.api.login(Request::new(request)).await.map(|_| ()).map_err(|status| reason(&status))
    };
    assert_eq!(attempt(PASSWORD, 1).await, Ok(()));
    assert_eq!(attempt("wrong horse", 1).await, Err("INVALID_CREDENTIALS".into()));
    assert_eq!(attempt(PASSWORD, 1).await, Ok(()));

    assert_eq!(attempt("wrong horse", 2).await, Err("INVALID_CREDENTIALS".into()));
    assert_eq!(attempt(PASSWORD, 2).await, Err("INVALID_CREDENTIALS".into()), "nobody guesses uncounted under one id");
    assert_eq!(story(&running.store, "ada").await, ["created", "logged_in", "login_failed"]);
}

#[tokio::test]
async fn a_repeated_change_of_password_is_the_same_if_its_new_password_is_set() {
    let running = with_ada().await;
    let attempt = async |number, old: &str, new: &str| {
        let request = v1::ChangePasswordRequest { event_id: id(number), ..change("ada", old, new) };
        let answer = running.api.change_password(Request::new(request)).await;
        answer.map(|answer| answer.into_inner().event_id).map_err(|status| reason(&status))
    };
    assert_eq!(attempt(1, PASSWORD, "battery staple").await, Ok(id(1)));
    assert_eq!(attempt(1, PASSWORD, "battery staple").await, Ok(id(1)));
    assert_eq!(attempt(1, PASSWORD, "something else").await, Err("REQUEST_ID_REUSED".into()));
    assert_eq!(attempt(2, "battery staple", "battery staple").await, Ok(id(2)), "the same one may be set again");
    assert_eq!(attempt(2, "battery staple", "battery staple").await, Ok(id(2)));
    assert_eq!(story(&running.store, "ada").await, ["created", "password_changed", "password_changed"]);
}

#[tokio::test]
async fn of_many_equal_requests_at_once_one_writes() {
    let running = with_ada().await;
    let calls = (0..16).map(|number| {
        let api = running.api.clone();
        // half of them of a user in another lane: the same id there is another request
        let request = v1::RecordActionRequest {
            event_id: id(1),
            event_type: "user.logged_in".into(),
            user_id: ["ada", "bob"][number % 2].into(),
            ..Default::default()
        };
        tokio::spawn(async move { api.record_action(Request::new(request)).await })
    });
    let (mut written, mut repeated, mut refused) = (0, 0, 0);
    for call in calls.collect::<Vec<_>>() {
        match call.await.unwrap() {
            Ok(answer) if answer.get_ref().duplicate => repeated += 1,
            Ok(_) => written += 1,
            Err(status) => {
                assert_eq!(reason(&status), "REQUEST_ID_REUSED");
                refused += 1;
            }
        }
    }
    assert_eq!((written, repeated, refused), (1, 7, 8));
}

#[tokio::test]
async fn ids_are_forgotten_after_their_days() {
    let running = with_ada().await;
    let logout =
        v1::LogoutRequest { user_id: "ada".into(), session_id: "s1".into(), event_id: id(1), ..Default::default() };
    running.api.logout(Request::new(logout.clone())).await.unwrap();
    let today = crate::testing::now().day();
    assert_eq!(crate::Store::expire_request_ids(&running.store, today).await.unwrap(), 0);
    running.api.logout(Request::new(logout.clone())).await.unwrap();
    assert_eq!(story(&running.store, "ada").await.len(), 2);
    let tomorrow = headwater_proto::Day::from_epoch_days(today.epoch_days() + 1);
    assert_eq!(crate::Store::expire_request_ids(&running.store, tomorrow).await.unwrap(), 1, "day");
    running.api.logout(Request::new(logout)).await.unwrap();
    assert_eq!(story(&running.store, "ada").await.len(), 3);
}
