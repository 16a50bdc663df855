use headwater_proto::EventType::{self, UserIpChanged, UserLoggedIn, UserLoginFailed, UserPasswordChanged};
use proptest::prelude::*;

use super::*;
use crate::testing::{at, id};

/// Straight from the specification: try every set of kept events.
fn brute_force(rule: &Rule, events: &[Kept], arrived: usize, matched_at: Option<Millis>) -> Option<Vec<Kept>> {
    let candidates = (0..1_u32 << events.len()).filter_map(|set| {
        let chosen: Vec<usize> = (0..events.len()).filter(|&index| set & 1 << index != 0).collect();
        let pattern: Vec<&Kept> = chosen.iter().map(|&index| &events[index]).collect();
        let (first, last) = (pattern.first()?, pattern.last()?);
        let matches = match &rule.pattern {
            Pattern::Sequence(types) => pattern.iter().map(|k| k.event_type).eq(types.iter().copied()),
            Pattern::Count { of, events } => pattern.len() == *events && pattern.iter().all(|k| k.event_type == *of),
            Pattern::DistinctIps { of, ips } => {
                let distinct: std::collections::HashSet<_> = pattern.iter().filter_map(|k| k.ip).collect();
                pattern.len() == *ips && distinct.len() == *ips && pattern.iter().all(|k| k.event_type == *of)
            }
        };
        let again = matched_at.is_none_or(|matched_at| {
            pattern.iter().all(|k| k.occurred_at > matched_at) && last.occurred_at.since(matched_at) > rule.window
        });
        let valid = matches
            && again
            && chosen.contains(&arrived)
            && last.occurred_at.since(first.occurred_at) <= rule.window
            && pattern.iter().all(|k| !k.cleared);
        valid.then_some(chosen)
    });
    // earliest last event; then, from the end backwards, the latest
    let backwards = |chosen: &Vec<usize>| chosen.iter().rev().copied().collect::<Vec<_>>();
    let best = candidates.map(|chosen| backwards(&chosen)).min_by_key(|backwards| {
        let (last, rest) = backwards.split_first().expect("a pattern has events");
        (*last, Reverse(rest.to_vec()))
    })?;
    Some(best.iter().rev().map(|&index| events[index]).collect())
}

fn rule(pattern: Pattern, window_seconds: i64) -> Rule {
    Rule { name: "r".into(), pattern, window: window_seconds * 1_000, points: 1, shadow: false }
}

fn kept(offset: i64, event_type: EventType, seconds: i64, ip: Option<u8>) -> Kept {
    let ip = ip.map(|last| [10, 0, 0, last].into());
    Kept { id: id(offset as u64), event_type, occurred_at: at(seconds), offset, ip, cleared: false }
}

/// (type, second, ip) in event order; the ids are 0, 1, 2, ...
fn log(events: &[(EventType, i64, u8)]) -> Vec<Kept> {
    events.iter().enumerate().map(|(n, &(kind, seconds, ip))| kept(n as i64, kind, seconds, Some(ip))).collect()
}

fn found(rule: &Rule, events: &[Kept], arrived: usize, matched_at: Option<i64>) -> Option<Vec<i64>> {
    let found = find(rule, events, arrived, matched_at.map(at));
    assert_eq!(found, brute_force(rule, events, arrived, matched_at.map(at)), "arrived {arrived}, {matched_at:?}");
    found.map(|pattern| pattern.iter().map(|k| k.offset).collect())
}

const PWD: EventType = UserPasswordChanged;
const IP: EventType = UserIpChanged;
const IN: EventType = UserLoggedIn;
const FAIL: EventType = UserLoginFailed;

fn takeover() -> Rule {
    rule(Pattern::Sequence(vec![PWD, IP, IN]), 300)
}

#[test]
fn a_window_includes_both_ends() {
    let exactly = log(&[(PWD, 0, 1), (IP, 100, 1), (IN, 300, 1)]);
    assert_eq!(found(&takeover(), &exactly, 2, None), Some(vec![0, 1, 2]));
    let over = log(&[(PWD, -1, 1), (IP, 100, 1), (IN, 300, 1)]);
    assert_eq!(found(&takeover(), &over, 2, None), None);

    let five = rule(Pattern::Count { of: FAIL, events: 5 }, 120);
    let burst = |first| log(&[(FAIL, first, 1), (FAIL, 30, 1), (FAIL, 60, 1), (FAIL, 90, 1), (FAIL, 120, 1)]);
    assert_eq!(found(&five, &burst(0), 4, None), Some(vec![0, 1, 2, 3, 4]));
    assert_eq!(found(&five, &burst(-1), 4, None), None);

    let churn = rule(Pattern::DistinctIps { of: IP, ips: 3 }, 600);
    assert_eq!(found(&churn, &log(&[(IP, 0, 1), (IP, 1, 2), (IP, 600, 3)]), 2, None), Some(vec![0, 1, 2]));
    assert_eq!(found(&churn, &log(&[(IP, -1, 1), (IP, 1, 2), (IP, 600, 3)]), 2, None), None);
}

#[test]
fn a_sequence_takes_the_latest_events_before_its_earliest_end() {
    let events = log(&[(PWD, 0, 1), (PWD, 10, 1), (IP, 20, 1), (IP, 30, 1), (PWD, 40, 1), (IN, 50, 1), (IN, 60, 1)]);
    assert_eq!(found(&takeover(), &events, 5, None), Some(vec![1, 3, 5]), "the last event arrives");
    assert_eq!(found(&takeover(), &events, 2, None), Some(vec![1, 2, 5]), "a middle event arrives late");
    assert_eq!(found(&takeover(), &events, 0, None), Some(vec![0, 3, 5]), "the first event arrives last");
    assert_eq!(found(&takeover(), &events, 4, None), None, "nothing follows the last password change");
}

#[test]
fn events_at_the_same_moment_are_ordered_as_they_lie_in_the_log() {
    let events = log(&[(PWD, 0, 1), (IP, 0, 1), (IN, 0, 1)]);
    assert_eq!(found(&takeover(), &events, 2, None), Some(vec![0, 1, 2]));
    let events = log(&[(PWD, 0, 1), (IN, 0, 1), (IP, 0, 1)]);
    assert_eq!(found(&takeover(), &events, 2, None), None);
}

#[test]
fn a_type_can_stand_twice_in_a_sequence() {
    let twice = rule(Pattern::Sequence(vec![IN, FAIL, IN]), 100);
    let events = log(&[(IN, 0, 1), (FAIL, 10, 1), (IN, 20, 1), (FAIL, 30, 1), (IN, 40, 1)]);
    assert_eq!(found(&twice, &events, 2, None), Some(vec![0, 1, 2]), "as the end it ends earlier than as the start");
    assert_eq!(found(&twice, &events, 0, None), Some(vec![0, 1, 2]));
    assert_eq!(found(&twice, &events, 4, None), Some(vec![2, 3, 4]));
}

#[test]
fn a_late_failure_counts_in_the_earliest_window_that_it_fills() {
    let three = rule(Pattern::Count { of: FAIL, events: 3 }, 100);
    let events = log(&[(FAIL, 0, 1), (FAIL, 50, 1), (FAIL, 90, 1), (FAIL, 120, 1), (FAIL, 130, 1)]);
    assert_eq!(found(&three, &events, 1, None), Some(vec![0, 1, 2]));
    assert_eq!(found(&three, &events, 2, None), Some(vec![0, 1, 2]));
    assert_eq!(found(&three, &events, 3, None), Some(vec![1, 2, 3]));
}

#[test]
fn a_pattern_of_distinct_ips_never_holds_one_twice() {
    let churn = rule(Pattern::DistinctIps { of: IP, ips: 3 }, 600);
    let repeated = log(&[(IP, 0, 1), (IP, 1, 2), (IP, 2, 1), (IP, 3, 2)]);
    assert_eq!(found(&churn, &repeated, 3, None), None);
    let latest = log(&[(IP, 0, 3), (IP, 1, 1), (IP, 2, 2), (IP, 3, 1), (IP, 4, 2)]);
    assert_eq!(found(&churn, &latest, 4, None), Some(vec![0, 3, 4]));
    assert_eq!(found(&churn, &latest, 2, None), Some(vec![0, 1, 2]));
    let mut silent = latest.clone();
    silent[4].ip = None;
    assert_eq!(found(&churn, &silent, 4, None), None, "an event without an ip is no evidence");
}

#[test]
fn a_rule_matches_again_only_more_than_a_window_after_its_last_match() {
    let three = rule(Pattern::Count { of: FAIL, events: 3 }, 100);
    let events = log(&[(FAIL, 100, 1), (FAIL, 101, 1), (FAIL, 102, 1), (FAIL, 103, 1), (FAIL, 120, 1)]);
    assert_eq!(found(&three, &events, 2, Some(1)), Some(vec![0, 1, 2]));
    assert_eq!(found(&three, &events, 2, Some(2)), Some(vec![1, 2, 3]), "exactly the window after is too early");
    assert_eq!(found(&three, &events, 0, Some(2)), Some(vec![0, 2, 3]), "the arriving event keeps its place");
    assert_eq!(found(&three, &events, 0, Some(20)), None);
    assert_eq!(found(&three, &events, 1, Some(19)), Some(vec![1, 3, 4]));
}

#[test]
fn a_cleared_event_is_no_evidence() {
    let mut events = log(&[(PWD, 0, 1), (IP, 100, 1), (IN, 200, 1)]);
    events[0].cleared = true;
    assert_eq!(found(&takeover(), &events, 2, None), None);
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let kind = || prop::sample::select(vec![PWD, IP, IN]);
    let pattern = prop_oneof![
        prop::collection::vec(kind(), 2..4).prop_map(Pattern::Sequence),
        (kind(), 2..5_usize).prop_map(|(of, events)| Pattern::Count { of, events }),
        (kind(), 2..4_usize).prop_map(|(of, ips)| Pattern::DistinctIps { of, ips }),
    ];
    (pattern, 1..12_i64).prop_map(|(pattern, window)| rule(pattern, window))
}

fn any_log() -> impl Strategy<Value = Vec<Kept>> {
    let event = (prop::sample::select(vec![PWD, IP, IN]), 0..20_i64, prop::option::weighted(0.9, 0..4_u8), any::<u8>());
    prop::collection::vec(event, 1..12).prop_map(|events| {
        let events = events.into_iter().enumerate().map(|(offset, (kind, seconds, ip, dice))| Kept {
            cleared: dice < 16,
            ..kept(offset as i64, kind, seconds, ip)
        });
        let mut events: Vec<Kept> = events.collect();
        events.sort_by_key(Kept::order);
        events
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_search_agrees_with_trying_every_set_of_events(
        rule in any_rule(),
        events in any_log(),
        matched_at in prop::option::of(-10..20_i64),
    ) {
        for arrived in (0..events.len()).filter(|&index| !events[index].cleared) {
            let matched_at = matched_at.map(at);
            let (found, expected) = (find(&rule, &events, arrived, matched_at), brute_force(&rule, &events, arrived, matched_at));
            prop_assert_eq!(found, expected, "arrived {}", arrived);
        }
    }
}
