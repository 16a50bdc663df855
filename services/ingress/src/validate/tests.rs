use proptest::prelude::*;
use tonic::Code;

use super::*;
use crate::{
    action::LoginUser,
    testing::{bad_fields, now, origin, reason},
};

fn digests() -> Digests {
    Digests::new(&[7; 32])
}

fn arrival(digests: &Digests) -> Arrival<'_> {
    Arrival { now: now(), origin: origin(), digests }
}

fn context(ip: &str, user_agent: &str, session_id: &str) -> Option<v1::ActionContext> {
    Some(v1::ActionContext { ip: ip.into(), user_agent: user_agent.into(), session_id: session_id.into() })
}

fn action(event_type: &str) -> v1::RecordActionRequest {
    v1::RecordActionRequest { event_type: event_type.into(), user_id: "ada".into(), ..Default::default() }
}

fn told<T>(result: Result<T, Status>) -> (String, Vec<String>) {
    let Err(status) = result else { return ("ok".into(), vec![]) };
    assert_eq!(status.code(), Code::InvalidArgument);
    (reason(&status), bad_fields(&status))
}

fn expected(reason: &str, fields: &[&str]) -> (String, Vec<String>) {
    (reason.to_owned(), fields.iter().map(|field| (*field).to_owned()).collect())
}

#[test]
fn every_bad_field_of_every_request_is_named_at_once() {
    let digests = digests();
    let arrival = || arrival(&digests);
    let far = Some(Timestamp { seconds: i64::MAX, nanos: 0 });
    let bad_context = || context("10.0.0", &"a".repeat(1_025), &"s".repeat(129));

    let register = v1::RegisterUserRequest {
        email: "ada".into(),
        password: "short".into(),
        user_id: "a\nb".into(),
        event_id: "7".into(),
        occurred_at: far,
        context: bad_context(),
    };
    let context_fields = ["context.ip", "context.user_agent", "context.session_id"];
    let fields = [&["email", "password", "user_id", "event_id", "occurred_at"][..], &context_fields].concat();
    assert_eq!(told(super::register(register, arrival())), expected("INVALID_FIELD", &fields));

    let empty = super::register(v1::RegisterUserRequest::default(), arrival());
    assert_eq!(told(empty), expected("INVALID_FIELD", &["email", "password"]));
    let empty = super::login(v1::LoginRequest::default(), arrival());
    assert_eq!(told(empty), expected("INVALID_FIELD", &["email", "password"]));
    let empty = super::logout(v1::LogoutRequest::default(), arrival());
    assert_eq!(told(empty), expected("INVALID_FIELD", &["user_id", "session_id"]));
    let empty = super::change_password(v1::ChangePasswordRequest::default(), arrival());
    assert_eq!(told(empty), expected("INVALID_FIELD", &["user_id", "old_password", "new_password"]));
    let empty = super::report_ip_change(v1::ReportIpChangeRequest::default(), arrival());
    assert_eq!(told(empty), expected("INVALID_FIELD", &["user_id", "ip"]));
    let empty = super::reinstate_user(v1::ReinstateUserRequest::default(), arrival());
    assert_eq!(told(empty), expected("INVALID_FIELD", &["user_id", "reason"]));
    let empty = super::record_action(v1::RecordActionRequest::default(), arrival());
    assert_eq!(told(empty), expected("INVALID_FIELD", &["event_type", "user_id"]));
    let empty = super::get_user(&v1::GetUserRequest::default());
    assert_eq!(told(empty), expected("INVALID_FIELD", &["user_id"]));

    let both =
        v1::LoginRequest { email: "ada@b".into(), user_id: "ada".into(), password: "p".into(), ..Default::default() };
    assert_eq!(told(super::login(both, arrival())), expected("INVALID_FIELD", &["user_id"]));
    let payload =
        v1::Payload { email: "a@b@c".into(), ip: "x".into(), user_agent: "a\u{7f}".into(), session_id: "\u{1}".into() };
    let bad = v1::RecordActionRequest { payload: Some(payload), occurred_at: far, ..action("user.logged_in") };
    let fields = ["occurred_at", "payload.email", "payload.ip", "payload.user_agent", "payload.session_id"];
    assert_eq!(told(super::record_action(bad, arrival())), expected("INVALID_FIELD", &fields));
}

#[test]
fn one_violation_is_told_by_its_own_reason() {
    let digests = digests();
    let ahead = |millis| v1::RecordActionRequest {
        occurred_at: Some(now().plus_millis(millis).into()),
        ..action("user.logged_in")
    };
    let table = [
        (ahead(MAX_CLOCK_AHEAD), expected("ok", &[])),
        (ahead(MAX_CLOCK_AHEAD + 1), expected("EVENT_TIME_IN_FUTURE", &["occurred_at"])),
        (ahead(-1_000_000_000_000), expected("ok", &[])),
        (action("user.suspended"), expected("EVENT_TYPE_NOT_ACCEPTED", &["event_type"])),
        (action("user.reinstated"), expected("EVENT_TYPE_NOT_ACCEPTED", &["event_type"])),
        (action("user.teleported"), expected("EVENT_TYPE_NOT_ACCEPTED", &["event_type"])),
        (action("user.ip_changed"), expected("INVALID_FIELD", &["payload.ip"])),
    ];
    for (request, expected) in table {
        assert_eq!(told(record_action(request.clone(), arrival(&digests))), expected, "{request:?}");
    }
    let accepted = EventType::ALL.into_iter().filter(|known| record_action_takes(*known)).count();
    assert_eq!(accepted, 6);
}

fn record_action_takes(event_type: EventType) -> bool {
    let payload = v1::Payload { ip: "::1".into(), ..Default::default() };
    let request = v1::RecordActionRequest { payload: Some(payload), ..action(event_type.as_str()) };
    record_action(request, arrival(&digests())).is_ok()
}

#[test]
fn what_is_absent_is_made_here_or_now() {
    let digests = digests();
    let request = v1::LoginRequest { email: " Ada@B ".into(), password: "x".into(), ..Default::default() };
    let first = login(request.clone(), arrival(&digests)).unwrap();
    let second = login(request, arrival(&digests)).unwrap();
    assert_eq!(first.who, Who::Email(Email::try_from("ada@b").unwrap()));
    assert_eq!((first.head.occurred_at, first.head.received_at), (now(), now()));
    assert_ne!((first.head.id, &first.session_id), (second.head.id, &second.session_id));
    assert_eq!(first.head.digest, second.head.digest, "the request as sent is the same");

    let unknown = Action {
        head: first.head,
        what: What::Login { user: LoginUser::Unknown("ada@b".into()), session_id: first.session_id },
    };
    assert_eq!(unknown.key(), "ada@b");
}

#[test]
fn a_request_is_the_same_whatever_its_id_and_its_secrets() {
    let digests = digests();
    let digest = |old: &str, new: &str, id: &str, user: &str| {
        let request = v1::ChangePasswordRequest {
            user_id: user.into(),
            old_password: old.into(),
            new_password: new.into(),
            event_id: id.into(),
            ..Default::default()
        };
        change_password(request, arrival(&digests)).unwrap().head.digest
    };
    let first = digest("correct horse", "battery staple", "", "ada");
    assert_eq!(first, digest("other horse", "other staple", "0190b6c5-6d0e-7c3a-9f0e-1f2d3c4b5a69", "ada"));
    assert_ne!(first, digest("correct horse", "battery staple", "", "eve"));
}

proptest! {
    /// Whatever is sent, the answer is an action or a list of fields; never a panic, and never the value itself.
    #[test]
    fn no_request_makes_validation_panic_or_repeat_what_it_refuses(
        texts in prop::collection::vec(".{0,40}", 8),
        seconds: i64,
        nanos: i32,
    ) {
        let secret = format!("s3cret-{}\u{0}", texts[0]);
        let occurred_at = Some(Timestamp { seconds, nanos });
        let request = v1::RegisterUserRequest {
            email: texts[1].clone(),
            password: secret.clone(),
            user_id: texts[2].clone(),
            event_id: texts[3].clone(),
            occurred_at,
            context: context(&texts[4], &texts[5], &texts[6]),
        };
        let Err(status) = register(request, arrival(&digests())) else { panic!("a password with a control character") };
        prop_assert!(!status.message().contains("s3cret"));
        let payload = v1::Payload { email: texts[1].clone(), ip: texts[4].clone(), user_agent: texts[5].clone(), session_id: texts[6].clone() };
        let action = v1::RecordActionRequest {
            event_id: texts[3].clone(),
            event_type: texts[7].clone(),
            user_id: texts[2].clone(),
            occurred_at,
            payload: Some(payload),
        };
        prop_assert!(record_action(action, arrival(&digests())).is_err());
    }
}
