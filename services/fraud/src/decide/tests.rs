use headwater_proto::EventType::{
    UserCreated, UserIpChanged, UserLoggedIn, UserLoggedOut, UserLoginFailed, UserPasswordChanged,
};
use headwater_stream::Outcome::{Done, Skip};

use super::*;
use crate::{
    rules::{HORIZON, Level::*, MAX_EVENTS},
    testing::{Fold, at, event, id, ip_changed, reinstated},
};

const DAY: i64 = HORIZON / 1_000;

/// Password change, ip change and login in the five minutes from `start`.
fn takeover(first: u64, start: i64) -> [Event; 3] {
    [
        event(first, UserPasswordChanged, at(start)),
        ip_changed(first + 1, at(start + 100), "10.0.0.1"),
        event(first + 2, UserLoggedIn, at(start + 300)),
    ]
}

fn burst(first: u64, start: i64) -> [Event; 5] {
    std::array::from_fn(|n| event(first + n as u64, UserLoginFailed, at(start + 30 * n as i64)))
}

fn churn(first: u64, start: i64) -> [Event; 3] {
    std::array::from_fn(|n| ip_changed(first + n as u64, at(start + n as i64), &format!("10.0.0.{n}")))
}

#[test]
fn a_takeover_scores_50_and_is_announced_twice() {
    let mut ada = Fold::new();
    let log = [
        Event { email: Some("ada@example.com".into()), ..event(1, UserCreated, at(0)) },
        event(2, UserLoggedIn, at(10)),
        event(3, UserLoginFailed, at(20)),
        event(4, UserLoginFailed, at(21)),
        event(5, UserLoginFailed, at(22)),
        event(6, UserPasswordChanged, at(30)),
        ip_changed(7, at(40), "203.0.113.9"),
    ];
    for event in &log {
        let decision = ada.step(event);
        assert_eq!((decision.outcome, decision.evaluation), (Done, None), "{event:?}");
    }
    let login = event(8, UserLoggedIn, at(50));
    let decision = ada.step(&login);
    assert_eq!(ada.profile.score(), 50);

    let evaluation = decision.evaluation.unwrap();
    assert_eq!((evaluation.score, evaluation.level), (50, Some(PasswordResetRequired)));
    assert_eq!((evaluation.event_id, evaluation.announced), (id(8), vec![Flagged, PasswordResetRequired]));

    let [flagged, reset] = &decision.announcements[..] else { panic!("{:?}", decision.announcements) };
    assert_eq!(flagged.report.id, id(8).derive("user.flagged"));
    assert_eq!(reset.report.id, id(8).derive("user.password_reset_required"));
    assert_eq!((reset.report.trigger, reset.report.decided_at), (id(8), at(50)));
    assert_eq!(reset.email.as_deref(), Some("ada@example.com"), "the login has none");
    let evidence: Vec<String> = [6, 7, 8].map(|n| id(n).to_string()).into();
    let verdict = &reset.report.verdict;
    assert_eq!((verdict.score, verdict.status_epoch, &verdict.evidence_event_ids), (50, 0, &evidence));
    assert_eq!(verdict.thresholds, Some(v1::Thresholds { flagged: 30, password_reset_required: 50, suspended: 70 }));
    let [rule] = &verdict.rules[..] else { panic!("{:?}", verdict.rules) };
    assert_eq!((rule.rule.as_str(), rule.points, rule.shadow), ("takeover_sequence", 50, false));
    assert_eq!((rule.matched_at, &rule.evidence_event_ids), (Some(at(50).into()), &evidence));
}

#[test]
fn a_late_event_completes_a_sequence_wherever_it_belongs() {
    for late in 0..3 {
        let mut ada = Fold::new();
        let log = takeover(1, 0);
        for (_, event) in log.iter().enumerate().filter(|(n, _)| *n != late) {
            assert_eq!(ada.found(event), [""; 0]);
        }
        assert_eq!(ada.outcome(&event(9, UserCreated, at(DAY))), Done);
        let decision = ada.step(&log[late]);
        assert_eq!(decision.found[0].matched_at, at(300), "not when it arrived");
        assert_eq!(decision.announcements[0].report.decided_at, log[late].occurred_at);
    }
}

#[test]
fn every_rule_needs_its_whole_window_and_no_more() {
    for (log, found) in [
        (takeover(1, 0).to_vec(), "takeover_sequence"),
        (burst(1, 0).to_vec(), "login_failure_burst"),
        (churn(1, 0).to_vec(), "ip_churn"),
    ] {
        let mut ada = Fold::new();
        let (last, before) = log.split_last().unwrap();
        for event in before {
            assert_eq!(ada.found(event), [""; 0]);
        }
        let too_late = Event { occurred_at: last.occurred_at.plus_millis(600_001), ..last.clone() };
        let mut other = Fold { profile: ada.profile.clone(), rules: ada.rules.clone(), offset: ada.offset };
        assert_eq!(other.found(&too_late), [""; 0]);
        assert_eq!(ada.found(last), [found]);
    }
}

#[test]
fn one_address_in_two_spellings_is_one_ip() {
    for (third, found) in [("::ffff:10.0.0.1", 0), ("2001:DB8::0:1", 1), ("", 0), ("nonsense", 0)] {
        let mut ada = Fold::new();
        ada.step(&ip_changed(1, at(0), "10.0.0.1"));
        ada.step(&ip_changed(2, at(1), "10.0.0.2"));
        assert_eq!(ada.found(&ip_changed(3, at(2), third)).len(), found, "{third}");
    }
}

#[test]
fn a_rule_matches_again_only_after_its_window() {
    let mut ada = Fold::new();
    burst(1, 0).iter().for_each(|event| drop(ada.step(event)));
    assert_eq!(ada.profile.score(), 30, "matched at 120");
    burst(11, 120).iter().for_each(|event| drop(ada.step(event)));
    assert_eq!(ada.profile.score(), 30, "240 is exactly the window after");
    let again = ada.step(&event(21, UserLoginFailed, at(241)));
    assert_eq!(again.found[0].matched_at, at(241));
    let evidence: Vec<Millis> = again.found[0].evidence.iter().map(|kept| kept.occurred_at).collect();
    assert_eq!(evidence, [150, 180, 210, 240, 241].map(at), "every event is later than the last match");
    assert_eq!(ada.profile.score(), 60);
    assert_eq!(again.announcements.iter().map(|a| a.report.level).collect::<Vec<_>>(), [PasswordResetRequired]);
    for (n, seconds) in [250, 260, 300, 361].into_iter().enumerate() {
        assert_eq!(ada.found(&event(30 + n as u64, UserLoginFailed, at(seconds))), [""; 0], "the last match counts");
    }
}

#[test]
fn an_event_before_the_last_match_never_completes_another() {
    let mut ada = Fold::new();
    for event in &takeover(1, 600)[..] {
        ada.step(event);
    }
    let [password, ip, login] = takeover(11, 0);
    for event in [password, ip] {
        assert_eq!(ada.outcome(&event), Done);
    }
    assert_eq!(ada.found(&login), [""; 0], "it is whole, but older than the match at 900");
}

#[test]
fn a_level_is_announced_once_while_the_score_stays_at_it() {
    let mut ada = Fold::new();
    for event in &burst(1, 0)[..4] {
        assert_eq!(ada.announced(event), []);
    }
    assert_eq!(ada.announced(&burst(1, 0)[4]), [Flagged]);
    let churn = churn(11, 130);
    assert_eq!(ada.announced(&churn[0]), []);
    assert_eq!(ada.announced(&churn[1]), []);
    assert_eq!(ada.announced(&churn[2]), [PasswordResetRequired], "30 + 20");
    let decision = ada.step(&event(20, UserPasswordChanged, at(140)));
    assert_eq!(decision.evaluation, None, "nothing changed");
    ada.step(&ip_changed(21, at(141), "10.0.0.1"));
    let decision = ada.step(&event(22, UserLoggedIn, at(142)));
    let [suspended] = &decision.announcements[..] else { panic!("{decision:?}") };
    assert_eq!((suspended.report.level, suspended.report.verdict.score), (Suspended, 100));
    let rules: Vec<&str> = suspended.report.verdict.rules.iter().map(|rule| rule.rule.as_str()).collect();
    assert_eq!(rules, ["login_failure_burst", "ip_churn", "takeover_sequence"]);
    assert_eq!(suspended.report.verdict.evidence_event_ids.len(), 11, "each event once");
}

#[test]
fn points_expire_after_24_hours_and_a_forgotten_level_is_announced_again() {
    let mut ada = Fold::new();
    takeover(1, 0).iter().for_each(|event| drop(ada.step(event)));
    burst(11, 1_000).iter().for_each(|event| drop(ada.step(event)));
    assert_eq!((ada.profile.score(), &ada.profile.announced[..]), (80, &Level::ALL[..]));

    assert_eq!(ada.step(&event(20, UserLoggedOut, at(DAY + 300))).evaluation, None, "24 h old counts");
    let decision = ada.step(&event(21, UserLoggedOut, at(DAY + 301)));
    let evaluation = decision.evaluation.expect("a type that no rule looks at moves the window too");
    assert_eq!((evaluation.score, evaluation.level, evaluation.matches.len()), (30, Some(Flagged), 1));
    assert_eq!((evaluation.announced, decision.announcements), (vec![], vec![]));
    assert_eq!(ada.profile.announced, [Flagged]);

    let [password, ip, login] = takeover(31, DAY + 400);
    assert_eq!(ada.announced(&password), []);
    assert_eq!(ada.announced(&ip), []);
    assert_eq!(ada.announced(&login), [PasswordResetRequired, Suspended]);
}

#[test]
fn an_event_that_drops_one_match_and_completes_another_announces_anew() {
    let mut ada = Fold::new();
    burst(1, 0).iter().for_each(|event| drop(ada.step(event)));
    let next = burst(11, DAY + 1);
    for event in &next[..4] {
        assert_eq!(ada.announced(event), []);
    }
    assert_eq!(ada.profile.score(), 30, "the match at 120 is 23 h 59 min 30 s old");
    assert_eq!(ada.announced(&next[4]), [Flagged], "at this event it is dropped first");
    assert_eq!(ada.profile.matches.len(), 1);
}

#[test]
fn a_known_id_is_skipped_wherever_it_stands() {
    let mut ada = Fold::new();
    let log = takeover(1, 0);
    log.iter().for_each(|event| drop(ada.step(event)));
    let before = ada.profile.clone();
    for event in &log {
        assert_eq!(ada.outcome(event), Skip(DUPLICATE));
        let moved = Event { occurred_at: at(9_000), ..event.clone() };
        assert_eq!(ada.outcome(&moved), Skip(DUPLICATE));
    }
    assert_eq!(ada.profile, before);
}

#[test]
fn what_lies_below_the_profiles_position_is_skipped() {
    let mut ada = Fold::new();
    ada.offset = 5;
    ada.step(&event(1, UserCreated, at(0)));
    for offset in [4, 5] {
        ada.offset = offset;
        assert_eq!(ada.outcome(&event(2, UserLoggedIn, at(1))), Skip(ALREADY_APPLIED));
    }
    assert_eq!(ada.outcome(&event(2, UserLoggedIn, at(1))), Done);
}

#[test]
fn the_window_of_events_is_24_hours_and_includes_both_ends() {
    let mut ada = Fold::new();
    ada.step(&event(1, UserLoginFailed, at(0)));
    ada.step(&event(2, UserLoggedOut, at(DAY)));
    assert_eq!(ada.profile.events.len(), 1);
    assert_eq!(ada.outcome(&event(3, UserLoginFailed, at(0))), Done);
    assert_eq!(ada.outcome(&event(4, UserLoginFailed, at(0).plus_millis(-1))), Skip(TOO_LATE));
    assert_eq!(ada.outcome(&event(5, UserCreated, at(0).plus_millis(-1))), Skip(TOO_LATE), "of any type");
    ada.step(&event(6, UserCreated, at(DAY).plus_millis(1)));
    assert_eq!(ada.profile.events, []);
    assert_eq!(ada.outcome(&event(1, UserLoginFailed, at(0))), Skip(TOO_LATE));
}

#[test]
fn when_full_the_oldest_leaves_and_at_or_below_it_is_too_late() {
    let mut ada = Fold::new();
    let offset = 10_000;
    for n in 0..MAX_EVENTS as u64 {
        ada.step(&event(offset + n, UserLoggedIn, at(n as i64)));
    }
    assert_eq!(ada.outcome(&event(1, UserLoggedIn, at(0))), Skip(TOO_LATE), "it would be the one to leave");
    assert_eq!(ada.outcome(&event(2, UserCreated, at(0))), Done, "what is not kept needs no room");
    assert_eq!(ada.outcome(&event(3, UserLoggedIn, at(1))), Done);
    assert_eq!(ada.profile.events.len(), MAX_EVENTS);
    assert_eq!(ada.outcome(&event(offset, UserLoggedIn, at(0))), Skip(TOO_LATE), "the one that left");
    assert_eq!(ada.outcome(&event(offset + 1, UserLoggedIn, at(1))), Skip(DUPLICATE));

    // the window moves on and there is room again, for what is later than all that left
    ada.step(&event(4, UserCreated, at(DAY + 10)));
    assert_eq!(ada.profile.events.len(), MAX_EVENTS - 10);
    assert_eq!(ada.outcome(&event(offset, UserLoggedIn, at(0))), Skip(TOO_LATE));
    assert_eq!(ada.outcome(&event(5, UserLoggedIn, at(10))), Done);

    // a reinstatement older than all that is kept makes no room; a later one is the barrier to what left
    ada.step(&event(6, UserLoggedIn, at(DAY + 10)));
    for n in 0..9 {
        ada.step(&event(20 + n, UserLoggedIn, at(DAY + 10)));
    }
    ada.step(&reinstated(7, at(5), 1));
    assert_eq!(ada.outcome(&event(8, UserLoggedIn, at(10))), Skip(TOO_LATE));
    ada.step(&reinstated(9, at(10), 2));
    assert_eq!(ada.outcome(&event(10, UserLoggedIn, at(10))), Skip(BEFORE_REINSTATEMENT));
}

#[test]
fn a_reinstatement_clears_what_was_consumed_before_it() {
    let mut ada = Fold::new();
    takeover(1, 0).iter().for_each(|event| drop(ada.step(event)));
    ada.step(&event(4, UserLoggedIn, at(400)));
    let decision = ada.step(&reinstated(9, at(400), 1));
    let evaluation = decision.evaluation.unwrap();
    assert_eq!((decision.outcome, evaluation.score, evaluation.level), (Done, 0, None));
    assert_eq!((ada.profile.matches.len(), ada.profile.announced.len(), ada.profile.events.len()), (0, 0, 0));

    assert_eq!(ada.outcome(&event(10, UserLoggedIn, at(400))), Skip(BEFORE_REINSTATEMENT), "at it is before it");
    assert_eq!(ada.outcome(&event(1, UserPasswordChanged, at(0))), Skip(BEFORE_REINSTATEMENT), "a repeated one too");
    let [password, ip, login] = takeover(11, 401);
    assert_eq!(ada.announced(&password), []);
    assert_eq!(ada.announced(&ip), []);
    let decision = ada.step(&login);
    assert_eq!(decision.announcements.len(), 2, "announced anew, though the rule matched within its window before");
    assert_eq!(decision.announcements[0].report.verdict.status_epoch, 1);
    assert_eq!(ada.step(&reinstated(20, at(800), 2)).evaluation.map(|e| e.matches.len()), Some(0));
    assert_eq!(ada.step(&reinstated(21, at(801), 3)).evaluation, None, "there was nothing to clear");
}

#[test]
fn a_reinstatement_acts_in_log_order_however_old_it_says_it_is() {
    let mut ada = Fold::new();
    ada.step(&event(8, UserCreated, at(2 * DAY)));
    let log = takeover(1, 2 * DAY);
    for event in &log[..2] {
        ada.step(event);
    }
    assert_eq!(ada.outcome(&reinstated(9, at(0), 1)), Done);
    assert_eq!(ada.found(&log[2]), [""; 0], "what came before is no evidence, whenever it happened");
    for event in &log {
        assert_eq!(ada.outcome(event), Skip(DUPLICATE), "and yet it is known again");
    }
    assert_eq!(ada.profile.window().count(), 1);

    // a second one, older still, moves no barrier back
    ada.step(&reinstated(10, at(3 * DAY), 2));
    ada.step(&reinstated(11, at(0), 3));
    assert_eq!(ada.outcome(&event(12, UserLoggedIn, at(3 * DAY))), Skip(BEFORE_REINSTATEMENT));
}

#[test]
fn a_repeated_reinstatement_changes_nothing() {
    let mut ada = Fold::new();
    let (first, second) = (reinstated(1, at(0), 1), reinstated(2, at(10), 2));
    let unnumbered = Event { detail: None, ..reinstated(3, at(20), 0) };
    for event in [&first, &second, &unnumbered] {
        assert_eq!(ada.outcome(event), Done);
    }
    assert_eq!(ada.profile.status_epoch, 2, "who names no epoch begins none");
    let restarted = reinstated(4, at(30), 1);
    assert_eq!(ada.outcome(&restarted), Done);
    assert_eq!(ada.profile.status_epoch, 1, "the one last seen, even from an ingress that counts anew");
    takeover(11, 100).iter().for_each(|event| drop(ada.step(event)));
    let before = ada.profile.clone();
    for event in [&first, &second, &unnumbered, &restarted] {
        assert_eq!(ada.outcome(event), Skip(DUPLICATE));
    }
    assert_eq!(ada.profile, before);
}

#[test]
fn a_shadow_rule_is_seen_and_does_nothing() {
    let shadow = Rules::BUILT_IN.replace("[rules.takeover_sequence]", "[rules.takeover_sequence]\nmode = \"shadow\"");
    let mut ada = Fold::with(Rules::parse(&shadow).unwrap());
    let [password, ip, login] = takeover(1, 0);
    ada.step(&password);
    ada.step(&ip);
    let decision = ada.step(&login);
    let evaluation = decision.evaluation.unwrap();
    assert_eq!((evaluation.score, evaluation.level, decision.announcements.len()), (0, None, 0));
    assert!(evaluation.matches[0].shadow && ada.profile.matches[0].shadow);

    burst(11, 400).iter().for_each(|event| drop(ada.step(event)));
    let [password, ip, login] = takeover(21, 520);
    assert_eq!(ada.announced(&password), []);
    assert_eq!(ada.announced(&ip), []);
    let again = ada.step(&login);
    assert_eq!((again.found.len(), ada.profile.score()), (1, 30), "a shadow match keeps its rule's window too");
    let churned = ada.step(&ip_changed(31, at(821), "10.0.0.2"));
    assert!(churned.found.is_empty());
    let decision = ada.step(&ip_changed(32, at(822), "10.0.0.3"));
    let verdict = &decision.announcements[0].report.verdict;
    let rules: Vec<&str> = verdict.rules.iter().map(|rule| rule.rule.as_str()).collect();
    assert_eq!((verdict.score, rules), (50, vec!["login_failure_burst", "ip_churn"]), "no shadow in a verdict");
}

#[test]
fn a_verdict_carries_the_triggers_email_or_else_the_newest_known() {
    let mail =
        |n, seconds, address: &str| Event { email: Some(address.into()), ..event(n, UserLoggedOut, at(seconds)) };
    for (own, expected) in [(None, "new@example.com"), (Some("own@example.com"), "own@example.com")] {
        let mut ada = Fold::new();
        ada.step(&mail(1, 50, "older@example.com"));
        ada.step(&mail(2, 60, "tie@example.com"));
        ada.step(&mail(3, 60, "new@example.com"));
        ada.step(&mail(4, 40, "late@example.com"));
        let [password, ip, login] = takeover(11, 0);
        ada.step(&password);
        ada.step(&ip);
        let decision = ada.step(&Event { email: own.map(str::to_owned), ..login });
        assert!(decision.announcements.iter().all(|a| a.email.as_deref() == Some(expected)), "{own:?}");
    }
}

#[test]
fn two_rules_can_match_on_one_event() {
    let mut ada = Fold::new();
    ada.step(&ip_changed(1, at(0), "10.0.0.1"));
    ada.step(&ip_changed(2, at(1), "10.0.0.2"));
    ada.step(&event(3, UserPasswordChanged, at(2)));
    ada.step(&event(4, UserLoggedIn, at(10)));
    let decision = ada.step(&ip_changed(5, at(3), "10.0.0.3"));
    assert_eq!(decision.found.len(), 2);
    assert_eq!(ada.profile.score(), 70);
    let announced: Vec<Level> = decision.announcements.iter().map(|a| a.report.level).collect();
    assert_eq!(announced, Level::ALL);
    let matched_at: Vec<Millis> = ada.profile.matches.iter().map(|m| m.matched_at).collect();
    assert_eq!(matched_at, [at(3), at(10)], "matches stand in the order of their moments");
}

#[test]
fn an_unimportant_type_is_not_kept() {
    let mut ada = Fold::new();
    for n in 0..2 {
        assert_eq!(ada.outcome(&event(1, UserCreated, at(n))), Done);
        assert_eq!(ada.outcome(&event(2, UserLoggedOut, at(n))), Done);
    }
    assert_eq!(ada.profile.events, []);
    assert_eq!(ada.profile.newest, Some(at(1)));
    ada.step(&event(3, UserIpChanged, at(0)));
    assert_eq!(ada.profile.events.len(), 1);
}
