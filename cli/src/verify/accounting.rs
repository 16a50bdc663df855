//! What the consumers counted, held against the log: no record disappears without a number, none takes effect twice.
use headwater_otel::names;
use headwater_proto::topics;

use super::{expected::Expected, quiet::group_id, table::Row};
use crate::{Target, scrape::Scrape};

/// One group's numbers.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Counted {
    done: i64,
    skipped: i64,
    dead: i64,
    /// Attempts that failed; a store may have done a part of what one asked for.
    retried: i64,
    /// In flight when partitions were handed over.
    possible_duplicates: i64,
    /// Hand-overs after which more may come twice than was in flight.
    unclean: i64,
}

impl Counted {
    fn of(scrape: &Scrape, group: &str) -> Self {
        let sum = |name, labels: &[(&str, &str)]| scrape.sum(name, labels).unwrap_or_default() as i64;
        let outcome = |outcome| sum(names::CONSUMER_OUTCOMES, &[(names::GROUP, group), (names::OUTCOME, outcome)]);
        let hand_overs = |labels: &[(&str, &str)]| sum(names::CONSUMER_HAND_OVERS, labels);
        let all = hand_overs(&[(names::GROUP, group)]);
        let clean = hand_overs(&[(names::GROUP, group), (names::REASON, "clean")]);
        Self {
            done: outcome("done"),
            skipped: outcome("skipped"),
            dead: outcome("dead"),
            retried: sum(names::CONSUMER_RETRIES, &[(names::GROUP, group)]),
            possible_duplicates: sum(names::CONSUMER_POSSIBLE_DUPLICATES, &[(names::GROUP, group)]),
            unclean: all - clean,
        }
    }

    fn ended(self) -> i64 {
        self.done + self.skipped + self.dead
    }

    /// Every record ended once, or more often only where it was handed over.
    fn check_ends(self, what: &'static str, records: i64) -> Row {
        let ended = self.ended();
        let mut row = Row { expected: count(records), found: count(ended), ..Row::new(what) };
        let again = ended - records;
        if again < 0 {
            row.differences.push(format!("{} records ended nowhere", -again));
        } else if again > self.possible_duplicates && self.unclean == 0 {
            let counted = self.possible_duplicates;
            row.differences.push(format!("{again} records ended twice, of which {counted} were counted as possible"));
        } else if again > 0 {
            row.note = format!("equal; {again} came again after a hand-over");
        }
        row
    }

    /// Each effect once. What came again may have been done by somebody who did not live to count it, and what was tried
    /// again by an attempt that failed later: then it is skipped as known.
    fn check_done(self, what: &'static str, effects: usize, records: i64) -> Row {
        let mut row = Row { expected: effects, found: count(self.done), ..Row::new(what) };
        let again = count(self.ended() - records) + count(self.retried);
        if row.found > effects {
            row.differences.push(format!("{} effects more than there can be", row.found - effects));
        } else if row.found + again < effects {
            row.differences.push(format!("{} effects were never counted", effects - row.found));
        } else if row.found < effects {
            row.note = "equal; the rest was done before its record came or was tried again".to_owned();
        }
        row
    }
}

fn count(n: i64) -> usize {
    usize::try_from(n).unwrap_or_default()
}

/// `records`: ever written to user.events. The numbers must be of the whole life of the log.
pub(crate) fn rows(scrape: &Scrape, target: &Target, expected: &Expected, records: i64) -> Vec<Row> {
    let of = |group| Counted::of(scrape, &group_id(target, group));
    let (analytics, notification) = (of(topics::ANALYTICS), of(topics::NOTIFICATION));
    let (fraud, status) = (of(topics::FRAUD), of(topics::ACCOUNT_STATUS));
    let verdicts_of_accounts = expected.reports().filter(|(user, _)| expected.accounts.contains_key(*user)).count();
    vec![
        analytics.check_ends("records ended, analytics", records),
        notification.check_ends("records ended, notification", records),
        fraud.check_ends("records ended, fraud", records),
        status.check_ends("records ended, account status", records),
        analytics.check_done("events counted, analytics", expected.activity.events, records),
        notification.check_done("letters counted, notification", expected.letters.len(), records),
        status.check_done("verdicts counted, account status", verdicts_of_accounts, records),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_ends_once_and_twice_only_where_it_was_handed_over() {
        let counted = Counted { done: 6, skipped: 3, dead: 1, ..Counted::default() };
        let differs = |counted: Counted| !counted.check_ends("x", 10).differences.is_empty();
        assert!(!differs(counted));
        assert!(differs(Counted { skipped: 2, ..counted }), "one is nowhere");
        let twice = Counted { skipped: 4, ..counted };
        assert!(differs(twice));
        assert!(!differs(Counted { possible_duplicates: 1, ..twice }));
        assert!(!differs(Counted { unclean: 1, ..twice }));
    }

    #[test]
    fn an_effect_is_counted_once_or_missed_only_where_its_record_came_or_was_tried_again() {
        let counted = Counted { done: 6, skipped: 4, ..Counted::default() };
        let differs = |counted: Counted| !counted.check_done("x", 6, 10).differences.is_empty();
        assert!(!differs(counted));
        assert!(differs(Counted { done: 7, skipped: 3, ..counted }), "one took effect twice");
        assert!(differs(Counted { done: 5, skipped: 5, ..counted }));
        assert!(!differs(Counted { done: 5, skipped: 6, ..counted }));
        assert!(!differs(Counted { done: 5, skipped: 5, retried: 1, ..counted }));
        assert!(differs(Counted { done: 4, skipped: 6, retried: 1, ..counted }));
    }
}
