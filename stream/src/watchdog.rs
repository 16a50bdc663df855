//! Whether a client still gets anywhere, and what to do where it does not. librdkafka has states that it never leaves
//! by itself; a new client does.
//!
//! No Kafka, no clock, no I/O: snapshots of the client's statistics and the time go in, advice comes out. A client that
//! stalls while the broker can be reached is rebuilt, three times; then its run ends, because a process that starts
//! anew may do what rebuilding did not. While the broker cannot be reached nobody here is to blame: that is an outage,
//! the client is rebuilt at most once a minute, and nothing ends.
use std::time::{Duration, Instant};

/// How long a client may get nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// How often librdkafka tells how it is.
    pub statistics: Duration,
    /// No connection to any broker.
    pub disconnected: Duration,
    /// Records queued and none reported.
    pub unreported: Duration,
    /// Records to be had, room for them, and none received.
    pub starved: Duration,
    /// Between two rebuilds in an outage.
    pub outage: Duration,
    /// In a row, without progress and with a broker that can be reached; then the run ends.
    pub rebuilds: u32,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            statistics: Duration::from_secs(5),
            disconnected: Duration::from_secs(30),
            unreported: Duration::from_secs(30),
            starved: Duration::from_secs(60),
            outage: Duration::from_secs(60),
            rebuilds: 3,
        }
    }
}

/// What a client's statistics say. The counts only grow, over all rebuilds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Snapshot {
    /// Some broker is up.
    pub(crate) connected: bool,
    /// Records that wait for their report.
    pub(crate) queued: u64,
    /// Reports so far.
    pub(crate) reported: u64,
    /// There are records to be had and nothing here keeps them from coming.
    pub(crate) hungry: bool,
    /// Records received so far.
    pub(crate) received: u64,
}

/// In which way a client gets nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stall {
    Disconnected,
    Unreported,
    Starved,
    /// It says so itself.
    Failed,
}

impl Stall {
    /// For metrics.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Unreported => "unreported",
            Self::Starved => "starved",
            Self::Failed => "failed",
        }
    }

    /// For people.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Disconnected => "no kafka broker is up",
            Self::Unreported => "the kafka broker reports nothing of what is queued",
            Self::Starved => "nothing comes from kafka, although there are records",
            Self::Failed => "the kafka client failed for good",
        }
    }
}

/// What to do about a stall, once it is known whether a broker can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    Rebuild,
    /// It is an outage, and the last rebuild was not long ago.
    Wait,
    /// End the run.
    GiveUp,
}

#[derive(Debug)]
pub(crate) struct Watchdog {
    watch: Watch,
    /// When each of the three was last well.
    connected: Instant,
    reporting: Instant,
    fed: Instant,
    reported: u64,
    received: u64,
    trouble: Option<Stall>,
    rebuilt: Option<Instant>,
    /// In a row, without progress, with a broker that can be reached.
    rebuilds: u32,
}

impl Watchdog {
    pub(crate) fn new(watch: Watch, now: Instant) -> Self {
        Self {
            watch,
            connected: now,
            reporting: now,
            fed: now,
            reported: 0,
            received: 0,
            trouble: None,
            rebuilt: None,
            rebuilds: 0,
        }
    }

    /// A stall asks for [`Watchdog::remedy`].
    pub(crate) fn observe(&mut self, now: Instant, snapshot: Snapshot) -> Option<Stall> {
        let reported = snapshot.reported != self.reported;
        let received = snapshot.received != self.received;
        (self.reported, self.received) = (snapshot.reported, snapshot.received);
        if snapshot.connected {
            self.connected = now;
        }
        if snapshot.queued == 0 || reported {
            self.reporting = now;
        }
        if !snapshot.hungry || received {
            self.fed = now;
        }
        // what a rebuilt client does before it has anything to do is no progress
        if reported || received || (snapshot.connected && self.trouble == Some(Stall::Disconnected)) {
            self.trouble = None;
            self.rebuilds = 0;
        }
        let since = |then: Instant| now.saturating_duration_since(then);
        let stall = if since(self.connected) >= self.watch.disconnected {
            Stall::Disconnected
        } else if since(self.reporting) >= self.watch.unreported {
            Stall::Unreported
        } else if since(self.fed) >= self.watch.starved {
            Stall::Starved
        } else {
            return None;
        };
        self.trouble = Some(stall);
        Some(stall)
    }

    /// `reachable`: a plain connection to a bootstrap address succeeds.
    pub(crate) fn remedy(&mut self, now: Instant, stall: Stall, reachable: bool) -> Remedy {
        self.trouble = Some(stall);
        if !reachable {
            self.rebuilds = 0;
            if self.rebuilt.is_some_and(|then| now.saturating_duration_since(then) < self.watch.outage) {
                return Remedy::Wait;
            }
        } else if self.rebuilds == self.watch.rebuilds {
            self.rebuilds = 0; // whoever goes on all the same gets as many again
            return Remedy::GiveUp;
        } else {
            self.rebuilds += 1;
        }
        self.rebuilt = Some(now);
        (self.connected, self.reporting, self.fed) = (now, now, now);
        Remedy::Rebuild
    }

    /// The last stall, until there is progress.
    pub(crate) fn trouble(&self) -> Option<Stall> {
        self.trouble
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WELL: Snapshot = Snapshot { connected: true, queued: 0, reported: 0, hungry: false, received: 0 };
    const CUT_OFF: Snapshot = Snapshot { connected: false, ..WELL };
    const QUEUED: Snapshot = Snapshot { queued: 9, ..WELL };
    const HUNGRY: Snapshot = Snapshot { hungry: true, ..WELL };

    struct Bench {
        start: Instant,
        dog: Watchdog,
    }

    impl Bench {
        fn new() -> Self {
            let start = Instant::now();
            Self { start, dog: Watchdog::new(Watch::default(), start) }
        }

        fn at(&self, seconds: u64) -> Instant {
            self.start + Duration::from_secs(seconds)
        }

        /// The same snapshot every 5 s; when it is first called a stall.
        fn stalls(&mut self, from: u64, snapshot: Snapshot) -> Option<(u64, Stall)> {
            let mut ticks = (from..from + 300).step_by(5);
            ticks.find_map(|second| Some((second, self.dog.observe(self.at(second), snapshot)?)))
        }

        fn remedy(&mut self, second: u64, stall: Stall, reachable: bool) -> Remedy {
            self.dog.remedy(self.at(second), stall, reachable)
        }
    }

    #[test]
    fn each_way_to_get_nowhere_has_its_time() {
        let table = [
            (WELL, None),
            (CUT_OFF, Some((30, Stall::Disconnected))),
            (QUEUED, Some((30, Stall::Unreported))),
            (HUNGRY, Some((60, Stall::Starved))),
            (Snapshot { connected: false, queued: 9, hungry: true, ..WELL }, Some((30, Stall::Disconnected))),
        ];
        for (snapshot, expected) in table {
            assert_eq!(Bench::new().stalls(0, snapshot), expected, "{snapshot:?}");
        }
    }

    #[test]
    fn a_report_or_a_record_now_and_then_is_enough() {
        let mut bench = Bench::new();
        for second in (0..600).step_by(5) {
            let beat = second / 25;
            let snapshot = Snapshot { connected: true, queued: 9, reported: beat, hungry: true, received: beat };
            assert_eq!(bench.dog.observe(bench.at(second), snapshot), None, "after {second} s");
        }
    }

    #[test]
    fn three_rebuilds_without_progress_end_the_run_while_the_broker_can_be_reached() {
        for (snapshot, stall, patience) in [(CUT_OFF, Stall::Disconnected, 30), (HUNGRY, Stall::Starved, 60)] {
            let mut bench = Bench::new();
            for nth in 1..=3 {
                let second = nth * patience;
                assert_eq!(bench.stalls(second - patience, snapshot), Some((second, stall)));
                assert_eq!(bench.remedy(second, stall, true), Remedy::Rebuild, "the {nth}.");
                // a new client has nothing yet: no partitions, so no lag, and that is no progress
                if stall == Stall::Starved {
                    assert_eq!(bench.dog.observe(bench.at(second), WELL), None);
                }
            }
            assert_eq!(bench.stalls(3 * patience, snapshot), Some((4 * patience, stall)));
            assert_eq!(bench.remedy(4 * patience, stall, true), Remedy::GiveUp);
        }
    }

    #[test]
    fn progress_forgives_what_was_before_it() {
        let mut bench = Bench::new();
        for round in 0..9 {
            let start = round * 100;
            assert_eq!(bench.stalls(start, CUT_OFF), Some((start + 30, Stall::Disconnected)));
            assert_eq!(bench.remedy(start + 30, Stall::Disconnected, true), Remedy::Rebuild, "round {round}");
            assert_eq!(bench.dog.trouble(), Some(Stall::Disconnected));
            assert_eq!(bench.dog.observe(bench.at(start + 100), WELL), None);
            assert_eq!(bench.dog.trouble(), None);
        }
    }

    #[test]
    fn an_outage_rebuilds_once_a_minute_and_never_ends_the_run() {
        let mut bench = Bench::new();
        let mut rebuilt = Vec::new();
        for second in (0..400).step_by(5) {
            let Some(stall) = bench.dog.observe(bench.at(second), CUT_OFF) else { continue };
            match bench.remedy(second, stall, false) {
                Remedy::Rebuild => rebuilt.push(second),
                Remedy::Wait => {}
                Remedy::GiveUp => panic!("gave up after {second} s"),
            }
        }
        assert_eq!(rebuilt, [30, 90, 150, 210, 270, 330, 390]);
    }

    proptest! {
        /// Whatever happens: it gives up only after so many rebuilds with a broker in reach and no progress since, and
        /// two rebuilds of an outage are a minute apart.
        #[test]
        fn only_rebuilds_in_vain_end_a_run(
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()), 1..400),
        ) {
            let mut bench = Bench::new();
            let (mut in_vain, mut last, mut snapshot) = (0, None, WELL);
            for (tick, (connected, queued, reports, hungry, reachable)) in steps.into_iter().enumerate() {
                let second = tick as u64 * 5;
                snapshot.reported += u64::from(reports && tick % 7 == 0);
                let before = bench.dog.reported;
                snapshot = Snapshot { connected, queued: u64::from(queued), hungry, ..snapshot };
                if snapshot.reported != before || (connected && bench.dog.trouble() == Some(Stall::Disconnected)) {
                    in_vain = 0;
                }
                let Some(stall) = bench.dog.observe(bench.at(second), snapshot) else { continue };
                match bench.remedy(second, stall, reachable) {
                    Remedy::Rebuild if reachable => { in_vain += 1; prop_assert!(in_vain <= 3); last = Some(second) }
                    Remedy::Rebuild => {
                        prop_assert!(last.is_none_or(|last| second >= last + 60));
                        (in_vain, last) = (0, Some(second));
                    }
                    Remedy::Wait => { prop_assert!(!reachable); in_vain = 0 }
                    Remedy::GiveUp => { prop_assert!(reachable && in_vain == 3); in_vain = 0 }
                }
            }
        }
    }
}
