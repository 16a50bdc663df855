//! Stops a consumer that finds too much of its topic dead: more likely the consumer is broken than the topic, and a bad
//! deploy must not drain the log into the dead letters.
//!
//! No Kafka, no clock, no metrics: ended records and the time go in. It opens where the last minute saw 200 records or
//! more, 50 or more of them dead, and those above 20 %. A minute later it lets 20 records through; if they are no
//! better it opens again.
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long the past counts.
const WINDOW: Duration = Duration::from_secs(60);
/// Of records in the window.
const LEAST_RECORDS: u64 = 200;
/// Of dead ones among them.
const LEAST_DEAD: u64 = 50;
/// Above this part of a hundred it opens.
const PERCENT: u64 = 20;
/// How many records decide whether it closes again.
const PROBE: u64 = 20;
/// Records that end within this time are counted together.
const GRAIN: Duration = Duration::from_secs(1);

/// Records that ended, and how many of them dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    pub(crate) dead: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.dead += other.dead;
    }

    fn is_bad(self) -> bool {
        self.dead * 100 > self.records * PERCENT
    }
}

/// What has just happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// With what it saw.
    Opened(Tally),
    Probing,
    Closed,
}

#[derive(Debug)]
enum State {
    /// With what ended since then.
    Closed(VecDeque<(Instant, Tally)>),
    Open {
        until: Instant,
        seen: Tally,
    },
    Probing(Tally),
}

#[derive(Debug)]
pub(crate) struct Breaker {
    state: State,
    /// How long it stays open.
    pause: Duration,
}

impl Breaker {
    pub(crate) fn new(pause: Duration) -> Self {
        Self { state: State::Closed(VecDeque::new()), pause }
    }

    /// Nothing may be handed over.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// What opened it, while it is open.
    pub(crate) fn seen(&self) -> Option<Tally> {
        match self.state {
            State::Open { seen, .. } => Some(seen),
            _ => None,
        }
    }

    /// These records have ended since the last call. Call it with none, too, so that time passes.
    pub(crate) fn note(&mut self, now: Instant, ended: Tally) -> Option<Change> {
        match &mut self.state {
            State::Open { until, .. } if now >= *until => {
                self.state = State::Probing(Tally::default());
                Some(Change::Probing)
            }
            State::Open { .. } => None, // what was on its way when it opened
            State::Probing(seen) => {
                seen.add(ended);
                let seen = *seen;
                if seen.dead * 100 > PROBE * PERCENT || (seen.records >= PROBE && seen.is_bad()) {
                    return Some(self.open(now, seen));
                }
                (seen.records >= PROBE).then(|| {
                    self.state = State::Closed(VecDeque::new());
                    Change::Closed
                })
            }
            State::Closed(window) => {
                if ended != Tally::default() {
                    match window.back_mut() {
                        Some((since, tally)) if now.saturating_duration_since(*since) < GRAIN => tally.add(ended),
                        _ => window.push_back((now, ended)),
                    }
                }
                while window.front().is_some_and(|(since, _)| now.saturating_duration_since(*since) > WINDOW) {
                    window.pop_front();
                }
                let mut seen = Tally::default();
                window.iter().for_each(|(_, tally)| seen.add(*tally));
                let bad = seen.records >= LEAST_RECORDS && seen.dead >= LEAST_DEAD && seen.is_bad();
                bad.then(|| self.open(now, seen))
            }
        }
    }

    fn open(&mut self, now: Instant, seen: Tally) -> Change {
        self.state = State::Open { until: now + self.pause, seen };
        Change::Opened(seen)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAUSE: Duration = Duration::from_secs(60);

    const fn tally(records: u64, dead: u64) -> Tally {
        Tally { records, dead }
    }

    const OPENED: fn(u64, u64) -> Option<Change> = |records, dead| Some(Change::Opened(tally(records, dead)));

    /// second, records, dead
    type Ended = (u64, u64, u64);

    /// The last change.
    fn last(events: &[Ended]) -> Option<Change> {
        let (start, mut breaker) = (Instant::now(), Breaker::new(PAUSE));
        let changes = events
            .iter()
            .map(|&(second, records, dead)| breaker.note(start + Duration::from_secs(second), tally(records, dead)));
        changes.last().flatten()
    }

    #[test]
    fn it_opens_where_many_and_more_than_a_fifth_of_many_records_are_dead() {
        #[rustfmt::skip]
        let table: &[(&[Ended], Option<Change>)] = &[
            (&[(0, 200, 50)], OPENED(200, 50)),
            (&[(0, 199, 199)], None),
            (&[(0, 1_000, 49)], None),
            (&[(0, 250, 50)], None),
            (&[(0, 250, 51)], OPENED(250, 51)),
            (&[(0, 150, 40), (30, 50, 10)], OPENED(200, 50)),
            (&[(0, 150, 40), (60, 50, 10)], OPENED(200, 50)),
            (&[(0, 150, 40), (61, 50, 10)], None),
            (&[(0, 10_000, 0), (62, 200, 200)], OPENED(200, 200)),
        ];
        for (events, expected) in table {
            assert_eq!(last(events), *expected, "{events:?}");
        }
    }

    #[test]
    fn a_minute_later_twenty_records_decide() {
        #[rustfmt::skip]
        let table: &[(&[Ended], Option<Change>)] = &[
            (&[(59, 0, 0)], None),
            (&[(59, 7, 7)], None), // what was on its way
            (&[(60, 0, 0)], Some(Change::Probing)),
            (&[(60, 0, 0), (61, 19, 4)], None),
            (&[(60, 0, 0), (61, 19, 4), (62, 1, 0)], Some(Change::Closed)),
            (&[(60, 0, 0), (61, 5, 5)], OPENED(5, 5)),
            (&[(60, 0, 0), (61, 100, 20)], OPENED(100, 20)),
            (&[(60, 0, 0), (61, 5, 5), (121, 0, 0)], Some(Change::Probing)),
            (&[(60, 0, 0), (61, 20, 0), (62, 199, 199)], None), // the past is forgotten
        ];
        for (events, expected) in table {
            let all: Vec<_> = [(0, 200, 200)].iter().chain(*events).copied().collect();
            assert_eq!(last(&all), *expected, "{events:?}");
        }
    }

    proptest! {
        /// However the records are spread: it never opens with fewer than 50 dead of the minute, and while it is open
        /// nothing counts.
        #[test]
        fn it_never_opens_for_little(events in prop::collection::vec((0u64..20, 0u64..60, 0u64..60), 1..200)) {
            let (start, mut breaker, mut second) = (Instant::now(), Breaker::new(PAUSE), 0);
            let mut was_probing = false;
            for (pause, records, dead) in events {
                second += pause;
                let dead = dead.min(records);
                let open = breaker.is_open();
                let change = breaker.note(start + Duration::from_secs(second), tally(records, dead));
                match change {
                    Some(Change::Opened(seen)) if was_probing => prop_assert!(seen.dead > 0),
                    Some(Change::Opened(seen)) => prop_assert!(seen.records >= 200 && seen.dead >= 50 && seen.is_bad()),
                    Some(Change::Probing) => prop_assert!(open),
                    Some(Change::Closed) | None => {}
                }
                was_probing = matches!(breaker.state, State::Probing(_));
            }
        }
    }
}
