//! The matrix of RELIABILITY.md: what is done to the platform, row by row.
mod broker;
mod history;
mod input;
mod members;
mod network;
mod processes;
mod stores;

use anyhow::Result;
use futures::future::LocalBoxFuture;
use tokio::time::Instant;

use crate::scene::{Length, Scene};

/// Does what a row does, and says when it was healed. The load goes on meanwhile and after it.
pub(crate) type Fault = for<'a> fn(&'a mut Scene) -> LocalBoxFuture<'a, Result<Instant>>;

/// Looks at what is left once everything has been finished and compared, and nothing new comes. Everything is compared
/// again after it.
pub(crate) type Afterwards = for<'a> fn(&'a mut Scene) -> LocalBoxFuture<'a, Result<()>>;

/// One row.
pub(crate) struct Row {
    pub id: &'static str,
    pub fault: &'static str,
    /// How long the load takes: in `make faults`, and in `make test` where it runs there too.
    pub seconds: (u64, Option<u64>),
    /// Processes beside those of every row: name and role.
    pub beside: &'static [(&'static str, &'static str)],
    pub stage: Stage,
    /// Notifications go to a webhook instead of files.
    pub webhook: bool,
    pub inject: Fault,
    pub afterwards: Option<Afterwards>,
}

/// On which parts a row plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Those of all rows.
    Shared,
    /// Its own, each behind a proxy.
    Proxied,
    /// Its own, on a small disk.
    SmallDisk,
}

impl Row {
    const fn new(id: &'static str, fault: &'static str, seconds: (u64, Option<u64>), inject: Fault) -> Self {
        Self { id, fault, seconds, beside: &[], stage: Stage::Shared, webhook: false, inject, afterwards: None }
    }

    const fn beside(self, beside: &'static [(&'static str, &'static str)]) -> Self {
        Self { beside, ..self }
    }

    const fn on(self, stage: Stage) -> Self {
        Self { stage, ..self }
    }

    const fn with_webhook(self) -> Self {
        Self { webhook: true, ..self }
    }

    const fn then(self, afterwards: Afterwards) -> Self {
        Self { afterwards: Some(afterwards), ..self }
    }

    pub(crate) fn seconds(&self, length: Length) -> u64 {
        match (length, self.seconds) {
            (Length::Short, (_, Some(short))) => short,
            (_, (full, _)) => full,
        }
    }

    /// Only where it is asked for by name: it takes as long as many others.
    pub(crate) fn is_marathon(&self) -> bool {
        self.id == "all"
    }
}

macro_rules! fault {
    ($function:path) => {
        |scene| Box::pin($function(scene))
    };
}

/// More members of the groups that may have several.
const MORE_MEMBERS: &[(&str, &str)] =
    &[("analytics-2", "analytics"), ("fraud-2", "fraud"), ("notification-4", "notification")];

/// Every row, in its order.
#[rustfmt::skip]
pub(crate) const MATRIX: &[Row] = &[
    Row::new("1", "kill -9 of the ingress, again and again", (40, Some(12)), fault!(processes::ingress_killed)),
    Row::new("2", "kill -9 between the broker's report and the delete", (20, None), fault!(processes::killed_before_delete)),
    Row::new("3", "kill -9 of each consumer in its work", (30, Some(12)), fault!(processes::consumers_killed)),
    Row::new("3b", "one of three of notification killed for good, a new one added", (50, Some(35)), fault!(members::one_gone_one_new)),
    Row::new("4", "two relays, one frozen past its lease, then killed", (40, None), fault!(processes::relay_frozen))
        .beside(&[("ingress-2", "ingress")]),
    Row::new("5", "Kafka restarted 10 times", (60, None), fault!(broker::restarted)),
    Row::new("6", "Kafka frozen for 15 s", (30, None), fault!(broker::frozen)),
    Row::new("7", "kill -9 of Kafka", (30, Some(10)), fault!(broker::killed)),
    Row::new("7b", "Kafka down for 3 minutes", (200, None), fault!(broker::down_for_long)),
    Row::new("8", "kill -9 of PostgreSQL, then of a backend", (30, Some(12)), fault!(stores::postgres_killed)),
    Row::new("9", "calls with deadlines of 0 to 5 ms", (30, Some(8)), fault!(input::cancelled)),
    Row::new("10", "kill -9 of MongoDB, then frozen for 60 s", (90, None), fault!(stores::mongo_killed_and_frozen)),
    Row::new("11", "black hole for 60 s around every part", (80, None), fault!(network::black_hole)).on(Stage::Proxied),
    Row::new("12", "every connection reset, again and again for 20 s", (40, None), fault!(network::resets)).on(Stage::Proxied),
    Row::new("13", "a slow webhook, then a burst", (40, None), fault!(input::slow_then_burst)).with_webhook(),
    Row::new("14", "members come and go for 30 s", (50, None), fault!(network::rebalances)).beside(MORE_MEMBERS),
    Row::new("15", "the disk of every part is full for 15 s", (40, None), fault!(stores::disk_full)).on(Stage::SmallDisk),
    Row::new("16", "occurredAt at its extremes", (20, None), fault!(input::extremes)),
    Row::new("17", "huge requests and compressed bombs", (20, None), fault!(input::huge)),
    Row::new("18", "poison on the log", (30, Some(10)), fault!(input::poisoned)),
    Row::new("19", "replayed twice under live traffic, a third time killed", (60, None), fault!(history::replayed))
        .then(fault!(history::replayed_at_rest)),
    Row::new("20", "no topic of dead letters", (40, None), fault!(input::letters_away)),
    Row::new("21", "SIGTERM under load, each service", (40, Some(12)), fault!(processes::asked_to_end)),
    Row::new("22", "kill -9 of everything", (30, None), fault!(processes::everything_killed)),
    Row::new("all", "kill -9 of each process and part, 50,000 events", (500, None), fault!(processes::each_killed)),
];
