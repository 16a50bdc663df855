//! Two makers, one rule: on any log the reference and the services must come to the same. Where they do not, SPEC.md
//! says who is right.
use std::time::Duration;

use headwater_analytics::{Session as Document, SessionEvent, Timeout};
use headwater_fraud::{Profile, Rules, decide::decide};
use headwater_proto::{Event, EventType, Millis, UserId};
use headwater_stream::Position;
use proptest::prelude::*;

use super::{
    activity::{Session, activity},
    facts::Fact,
    risk::risk,
};

const START: i64 = 1_767_571_200_000;
const TIMEOUT: i64 = 1_800_000;

/// One user's log: steps of time that make patterns likely, some backwards, some by a day.
fn log() -> impl Strategy<Value = Vec<Fact>> {
    const TYPES: [EventType; 6] = [
        EventType::UserCreated,
        EventType::UserLoggedIn,
        EventType::UserLoggedOut,
        EventType::UserLoginFailed,
        EventType::UserPasswordChanged,
        EventType::UserIpChanged,
    ];
    let step = prop_oneof![
        6 => 0..60_000_i64,
        3 => prop_oneof![Just(0), Just(120_000), Just(300_000), Just(600_000), Just(TIMEOUT), Just(TIMEOUT + 1)],
        2 => -400_000..0_i64,
        1 => 80_000_000..90_000_000_i64,
        1 => -90_000_000..-80_000_000_i64,
    ];
    let event = (prop::sample::select(&TYPES[..]), step, 0..4_u8, 0..3_u8);
    prop::collection::vec(event, 0..40).prop_map(|events| {
        let mut now = START;
        let facts = events.into_iter().enumerate().map(|(n, (event_type, step, ip, session))| {
            now += step;
            Fact {
                event_id: uuid::Uuid::from_u128(n as u128 + 1).to_string(),
                event_type: event_type.to_string(),
                user_id: "ada".into(),
                occurred_at: now,
                email: String::new(),
                ip: format!("10.0.0.{ip}"),
                session_id: if session == 0 { String::new() } else { format!("s{session}") },
                failures: 0,
            }
        });
        facts.collect()
    })
}

fn event(fact: &Fact) -> Event {
    let at = Millis::from_millis(fact.occurred_at);
    Event {
        id: fact.event_id.parse().unwrap(),
        event_type: EventType::parse(&fact.event_type).unwrap(),
        user_id: UserId::try_from(fact.user_id.as_str()).unwrap(),
        occurred_at: at,
        received_at: at,
        email: None,
        ip: Some(fact.ip.clone()),
        user_agent: None,
        session_id: Some(fact.session_id.clone()).filter(|id| !id.is_empty()),
        causation_id: None,
        correlation_id: None,
        source: "/ingress".into(),
        detail: None,
    }
}

/// Of a session: start, last activity, number of the segment, events, whether it was logged out, whether it counts.
type Told = (i64, i64, i32, i32, bool, bool);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn fraud_and_the_reference_decide_the_same(log in log()) {
        let (mut profile, rules) = (Profile::default(), Rules::default());
        let mut announced = Vec::new();
        for (fact, offset) in log.iter().zip(0..) {
            let decision = decide(&mut profile, &event(fact), Position { partition: 0, offset }, &rules);
            announced.extend(decision.announcements.into_iter().map(|a| (a.report.id.to_string(), a.report.verdict)));
        }
        let risk = risk(&log);
        let mut found: Vec<_> = profile.matches.iter().map(|m| {
            let evidence: Vec<String> = m.evidence.iter().map(|kept| kept.id.to_string()).collect();
            (m.matched_at.as_millis(), m.rule.to_string(), m.points, evidence)
        }).collect();
        let mut wanted: Vec<_> = risk.matches.iter().map(|m| {
            let evidence: Vec<String> = m.evidence.iter().map(|(.., id)| id.clone()).collect();
            (m.matched_at, m.rule.to_owned(), m.points, evidence)
        }).collect();
        found.sort();
        wanted.sort();
        prop_assert_eq!(found, wanted);
        let wanted: Vec<_> = risk.reports.iter().map(|r| (r.report_id.clone(), r.score, r.evidence.clone())).collect();
        let found: Vec<_> = announced.into_iter().map(|(id, v)| (id, v.score, v.evidence_event_ids)).collect();
        prop_assert_eq!(found, wanted);
    }

    #[test]
    fn analytics_and_the_reference_see_the_same_sessions(log in log()) {
        let wanted = activity(&[("ada".to_owned(), log.clone())].into(), TIMEOUT);
        let events: Vec<SessionEvent> = log.iter().filter_map(|fact| SessionEvent::of(event(fact)).ok()).collect();
        prop_assert_eq!(events.len(), wanted.events);
        let timeout = Timeout::new(Duration::from_millis(TIMEOUT as u64)).unwrap();
        for session in ["s1", "s2"] {
            let of_session = events.iter().filter(|event| event.session_id.as_deref() == Some(session));
            let of_session: Vec<SessionEvent> = of_session.cloned().collect();
            let Some(key) = of_session.first().and_then(SessionEvent::session) else { continue };
            let found: Vec<Told> = Document::build(key, &of_session, timeout).segments.iter().zip(1..).map(|(s, n)| {
                let (start, last) = (s.started_at.as_millis(), s.last_activity_at.as_millis());
                (start, last, n, s.events as i32, s.logged_out, s.logged_in)
            }).collect();
            let told = |s: &Session| (s.started_at, s.last_activity_at, s.segment, s.events, s.logged_out, s.counted);
            let wanted = wanted.sessions["ada"].iter().filter(|s| s.session_id == session);
            prop_assert_eq!(found, wanted.map(told).collect::<Vec<Told>>());
        }
    }
}
