use super::*;
use crate::{
    fields::Remark,
    testing::{event_id, head, now, record, user_id},
};

const HOUR: i64 = 3_600_000;

fn ip(text: &str) -> Ip {
    Ip::try_from(text).unwrap()
}

fn ada() -> User {
    User {
        id: user_id("ada"),
        email: Email::try_from("ada@example.com").unwrap(),
        password_hash: "current".into(),
        status: Status::Active,
        status_epoch: 3,
        created_at: now(),
    }
}

/// Ada is registered, with two failures behind her and an ip.
fn snapshot(status: Status) -> Snapshot {
    let state = Authentication {
        failures: 2,
        last_ip: Some(SeenIp { ip: ip("10.0.0.1"), at: now() }),
        last_login_at: Some(now()),
        open_sessions: vec![],
    };
    Snapshot {
        users: [(user_id("ada"), User { status, ..ada() })].into(),
        states: [(user_id("ada"), state)].into(),
        taken_emails: [ada().email].into(),
        ..Snapshot::default()
    }
}

fn verified(hash: &str, matches: bool) -> Verified {
    Verified { hash: hash.into(), matches }
}

fn login(number: u8, verified: Verified, from: Option<&str>) -> Action {
    let mut head = head(number);
    head.client.ip = from.map(ip);
    let session_id = SessionId::try_from(format!("s{number}").as_str()).unwrap();
    Action { head, what: What::Login { user: LoginUser::Known { user_id: user_id("ada"), verified }, session_id } }
}

fn change(number: u8, verified: Verified) -> Action {
    let new_hash = verified.matches.then(|| "new".into());
    let what = What::ChangePassword { user_id: user_id("ada"), verified, new_hash, new_matches: false };
    Action { head: head(number), what }
}

fn act(number: u8, what: What) -> Action {
    Action { head: head(number), what }
}

fn logout(number: u8, name: &str) -> Action {
    act(number, What::Logout { user_id: user_id(name), session_id: SessionId::try_from("s1").unwrap() })
}

fn reinstate(number: u8, name: &str) -> Action {
    act(number, What::Reinstate { user_id: user_id(name), remark: Remark::try_from("it was a false alarm").unwrap() })
}

fn register(number: u8, name: &str, email: &str) -> Action {
    let (user_id, email) = (user_id(name), Email::try_from(email).unwrap());
    act(number, What::Register { user_id, email, password_hash: "fresh".into() })
}

fn types(decided: &Decided) -> Vec<&'static str> {
    decided.events.iter().map(|new| new.event.event_type.as_str().trim_start_matches("user.")).collect()
}

fn shown(answer: &Answer) -> &'static str {
    match answer {
        Answer::Written(receipt) if receipt.wrong_password => "WRONG",
        Answer::Written(_) => "written",
        Answer::Repeated(_) => "repeated",
        Answer::Refused(reason) => reason.as_str(),
        Answer::PasswordStale => "stale",
    }
}

#[test]
fn each_action_is_answered_and_written_by_the_status_of_the_account() {
    use Status::*;
    let (right, wrong, stale) = (verified("current", true), verified("current", false), verified("older", true));
    let report = act(1, What::ReportIpChange { user_id: user_id("ada"), ip: ip("10.0.0.1") });
    let table = [
        ("login", Active, login(1, right.clone(), None), "written", vec!["logged_in"]),
        ("login flagged", Flagged, login(1, right.clone(), None), "written", vec!["logged_in"]),
        ("login from the same ip", Active, login(1, right.clone(), Some("10.0.0.1")), "written", vec!["logged_in"]),
        (
            "login from elsewhere",
            Active,
            login(1, right.clone(), Some("::1")),
            "written",
            vec!["ip_changed", "logged_in"],
        ),
        ("wrong password", Active, login(1, wrong.clone(), Some("::1")), "WRONG", vec!["login_failed"]),
        ("wrong password, suspended", Suspended, login(1, wrong.clone(), None), "WRONG", vec!["login_failed"]),
        ("suspended", Suspended, login(1, right.clone(), Some("::1")), "ACCOUNT_SUSPENDED", vec![]),
        ("reset", PasswordResetRequired, login(1, right.clone(), None), "PASSWORD_RESET_REQUIRED", vec![]),
        ("stale login", Active, login(1, stale.clone(), None), "stale", vec![]),
        ("change", Active, change(1, right.clone()), "written", vec!["password_changed"]),
        ("change at reset", PasswordResetRequired, change(1, right.clone()), "written", vec!["password_changed"]),
        ("change suspended", Suspended, change(1, right), "ACCOUNT_SUSPENDED", vec![]),
        ("wrong old password", Active, change(1, wrong), "WRONG", vec!["login_failed"]),
        ("stale change", Active, change(1, stale), "stale", vec![]),
        ("logout", Suspended, logout(1, "ada"), "written", vec!["logged_out"]),
        ("logout of nobody", Active, logout(1, "eve"), "USER_NOT_FOUND", vec![]),
        ("report of the same ip", Active, report, "written", vec!["ip_changed"]),
        ("reinstate", Suspended, reinstate(1, "ada"), "written", vec!["reinstated"]),
        ("reinstate active", Active, reinstate(1, "ada"), "written", vec!["reinstated"]),
        ("reinstate nobody", Active, reinstate(1, "eve"), "USER_NOT_FOUND", vec![]),
        ("register", Active, register(1, "eve", "eve@b"), "written", vec!["created"]),
        ("taken email", Active, register(1, "eve", "ada@example.com"), "EMAIL_TAKEN", vec![]),
        ("taken id", Active, register(1, "ada", "eve@b"), "USER_ID_TAKEN", vec![]),
        ("action of nobody", Active, record(1, "eve", EventType::UserCreated), "written", vec!["created"]),
        ("action of suspended", Suspended, record(1, "ada", EventType::UserLoggedIn), "written", vec!["logged_in"]),
    ];
    for (name, status, action, answer, written) in table {
        let decided = decide(snapshot(status), &[action]);
        assert_eq!(shown(&decided.answers[0]), answer, "{name}");
        assert_eq!(types(&decided), written, "{name}");
        assert_eq!(
            decided.writes.requests.len(),
            written.len(),
            "{name}: every id is kept, and only of what is written"
        );
        assert_eq!(decided.writes.states.is_empty(), written.is_empty(), "{name}: who has an event has a state");
    }
}

#[test]
fn failures_are_counted_in_the_event_until_a_login_or_a_new_password() {
    let (right, wrong) = (verified("current", true), verified("current", false));
    let decided = decide(
        snapshot(Status::Active),
        &[
            login(1, wrong.clone(), None),
            change(2, wrong.clone()),
            record(3, "ada", EventType::UserLoginFailed),
            login(4, right.clone(), None),
            login(5, wrong, None),
            change(6, right),
            record(7, "ada", EventType::UserLoginFailed),
            record(8, "ada", EventType::UserPasswordChanged),
            record(9, "ada", EventType::UserLoginFailed),
        ],
    );
    let counts = decided.events.iter().filter_map(|new| match &new.event.detail {
        Some(Detail::LoginFailure(failure)) => Some(failure.consecutive_failures),
        _ => None,
    });
    assert_eq!(counts.collect::<Vec<_>>(), [3, 4, 5, 1, 1, 1]);
    assert_eq!(decided.writes.states[0].1.failures, 1, "one row per user");
}

#[test]
fn a_new_password_opens_an_account_that_must_be_reset_as_flagged() {
    for (before, after) in [
        (Status::Active, Status::Active),
        (Status::Flagged, Status::Flagged),
        (Status::PasswordResetRequired, Status::Flagged),
    ] {
        let decided = decide(snapshot(before), &[change(1, verified("current", true))]);
        let user = &decided.writes.changed_users[0];
        assert_eq!((user.status, &*user.password_hash), (after, "new"));
    }
}

#[test]
fn a_group_sees_what_its_earlier_actions_did() {
    let right = verified("current", true);
    let decided = decide(
        snapshot(Status::Active),
        &[change(1, right.clone()), login(2, right, None), register(3, "eve", "eve@b"), register(4, "bob", "eve@b")],
    );
    let answers: Vec<_> = decided.answers.iter().map(shown).collect();
    assert_eq!(answers, ["written", "stale", "written", "EMAIL_TAKEN"]);

    let eve = login(6, verified("fresh", true), None);
    let What::Login { session_id, .. } = eve.what else { unreachable!() };
    let user = LoginUser::Known { user_id: user_id("eve"), verified: verified("fresh", true) };
    let eve = act(6, What::Login { user, session_id });
    let decided = decide(snapshot(Status::Active), &[register(5, "eve", "eve@b"), eve, reinstate(7, "eve")]);
    assert_eq!(types(&decided), ["created", "logged_in", "reinstated"]);
    assert_eq!((decided.writes.new_users.len(), decided.writes.changed_users.len()), (1, 0));
    assert_eq!(decided.writes.new_users[0].status_epoch, 1);
}

#[test]
fn a_reinstatement_begins_the_next_epoch_and_says_so() {
    let decided = decide(snapshot(Status::Suspended), &[reinstate(1, "ada")]);
    let user = &decided.writes.changed_users[0];
    assert_eq!((user.status, user.status_epoch), (Status::Active, 4));
    let detail = v1::Reinstatement { status_epoch: 4, reason: "it was a false alarm".into() };
    assert_eq!(decided.events[0].event.detail, Some(Detail::Reinstatement(detail)));
    assert_eq!(decided.events[0].event.email.as_deref(), Some("ada@example.com"));
}

#[test]
fn an_ip_change_of_a_login_has_an_id_of_its_own_and_no_session() {
    let mut action = login(1, verified("current", true), Some("10.0.0.2"));
    action.head.client.session_id = Some(SessionId::try_from("s1").unwrap());
    let decided = decide(snapshot(Status::Active), &[action]);
    let [changed, login] = &decided.events[..] else { panic!("{decided:?}") };
    assert_eq!(changed.event.id, event_id(1).derive("user.ip_changed"));
    assert_eq!((changed.event.session_id.as_deref(), login.event.session_id.as_deref()), (None, Some("s1")));
    let kept: Vec<_> = decided.writes.requests.iter().map(|request| request.id).collect();
    assert_eq!(kept, [changed.event.id, login.event.id]);

    let taken = record(2, "eve", EventType::UserLoggedIn);
    let taken = Action { head: Head { id: event_id(1).derive("user.ip_changed"), ..taken.head }, ..taken };
    let again = super::tests::login(1, verified("current", true), Some("10.0.0.2"));
    let decided = decide(snapshot(Status::Active), &[taken, again]);
    assert_eq!(shown(&decided.answers[1]), "REQUEST_ID_REUSED");
    assert_eq!(types(&decided), ["logged_in"]);
}

#[test]
fn last_ip_and_last_login_only_move_forward_in_the_time_of_events() {
    let at = |number: u8, millis: i64, from: &str, event_type| {
        let mut action = record(number, "ada", event_type);
        action.head.client.ip = Some(ip(from));
        action.head.occurred_at = now().plus_millis(millis);
        action
    };
    let last = |actions: &[Action]| {
        let decided = decide(snapshot(Status::Active), actions);
        let state = &decided.writes.states[0].1;
        (state.last_ip.unwrap().ip.to_string(), state.last_login_at.unwrap().since(now()))
    };
    use EventType::*;
    assert_eq!(last(&[at(1, -HOUR, "10.0.0.9", UserLoggedIn)]), ("10.0.0.1".into(), 0));
    assert_eq!(last(&[at(1, 0, "10.0.0.9", UserLoggedIn)]), ("10.0.0.9".into(), 0));
    assert_eq!(last(&[at(1, HOUR, "10.0.0.9", UserIpChanged)]), ("10.0.0.9".into(), 0));
    assert_eq!(last(&[at(1, HOUR, "10.0.0.9", UserLoggedIn)]), ("10.0.0.9".into(), HOUR));
    assert_eq!(last(&[at(1, HOUR, "10.0.0.9", UserLoginFailed)]), ("10.0.0.1".into(), 0), "perhaps a stranger's");
}

#[test]
fn the_first_ip_ever_seen_is_no_change() {
    let mut unseen = snapshot(Status::Active);
    unseen.states.clear();
    let decided = decide(unseen, &[login(1, verified("current", true), Some("10.0.0.9"))]);
    assert_eq!(types(&decided), ["logged_in"]);
    assert_eq!(decided.writes.states[0].1.last_ip.unwrap().ip, ip("10.0.0.9"));
}

#[test]
fn open_sessions_are_those_begun_and_not_ended_and_at_most_32() {
    let right = verified("current", true);
    let decided = decide(
        snapshot(Status::Active),
        &[login(1, right.clone(), None), login(2, right.clone(), None), logout(3, "ada")],
    );
    let open = |decided: &Decided| -> Vec<String> {
        decided.writes.states[0].1.open_sessions.iter().map(|session| session.as_str().to_owned()).collect()
    };
    assert_eq!(open(&decided), ["s2"]);
    let many: Vec<Action> = (1..=40).map(|number| login(number, right.clone(), None)).collect();
    let decided = decide(snapshot(Status::Active), &many);
    assert_eq!(open(&decided), (9..=40).map(|number| format!("s{number}")).collect::<Vec<_>>());
}

#[test]
fn a_known_id_is_answered_as_the_first_time_and_never_helps_to_guess_a_password() {
    let (right, wrong) = (verified("current", true), verified("current", false));
    let known = |wrong_password| {
        let receipt = Receipt { wrong_password, session_id: "first".into(), ..Receipt::default() };
        let known = KnownRequest { digest: [1; 32], receipt };
        Snapshot { requests: [(event_id(1), known)].into(), ..snapshot(Status::Suspended) }
    };
    let other = |mut action: Action| {
        action.head.digest = [9; 32];
        action
    };
    let changed = |new_matches| {
        let what =
            What::ChangePassword { user_id: user_id("ada"), verified: wrong.clone(), new_hash: None, new_matches };
        act(1, what)
    };
    let nobody = LoginUser::Unknown("eve".into());
    let nobody = act(1, What::Login { user: nobody, session_id: SessionId::try_from("s").unwrap() });
    let table = [
        ("other request", false, other(logout(1, "ada")), "REQUEST_ID_REUSED"),
        ("same request", false, logout(1, "ada"), "repeated"),
        ("login, right again", false, login(1, right.clone(), None), "repeated"),
        ("login, wrong now", false, login(1, wrong.clone(), None), "INVALID_CREDENTIALS"),
        ("login, hash changed", false, login(1, verified("older", true), None), "stale"),
        ("login, wrong then and right now", true, login(1, right, None), "repeated"),
        ("login of nobody", true, nobody.clone(), "repeated"),
        ("login of nobody, somebody's then", false, nobody, "INVALID_CREDENTIALS"),
        ("change, new password set", false, changed(true), "repeated"),
        ("change, another new password", false, changed(false), "REQUEST_ID_REUSED"),
        ("change, wrong then", true, changed(true), "repeated"),
    ];
    for (name, wrong_then, action, answer) in table {
        let decided = decide(known(wrong_then), &[action]);
        assert_eq!(shown(&decided.answers[0]), answer, "{name}");
        assert!(decided.events.is_empty() && decided.writes.requests.is_empty(), "{name}: writes nothing");
    }
}

#[test]
fn keys_name_everything_that_is_looked_at() {
    let actions = [
        login(1, verified("current", true), None),
        record(2, "bob", EventType::UserLoggedIn),
        register(3, "eve", "eve@b"),
    ];
    let keys = keys(&actions);
    assert_eq!(keys.users, [user_id("ada"), user_id("eve")].into());
    assert_eq!(keys.states, [user_id("ada"), user_id("bob"), user_id("eve")].into());
    assert_eq!(keys.emails.len(), 1);
    assert_eq!(keys.requests, [event_id(1), event_id(2), event_id(3), ip_changed_id(event_id(1))].into());
}
