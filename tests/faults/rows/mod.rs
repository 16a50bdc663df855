//! The matrix of RELIABILITY.md: what is done to the platform, row by row.
mod broker;
mod processes;
mod stores;

use anyhow::Result;
use futures::future::LocalBoxFuture;
use tokio::time::Instant;

use crate::scene::{Length, Scene};

/// Does what a row does, and says when it was healed. The load goes on meanwhile and after it.
pub(crate) type Fault = for<'a> fn(&'a mut Scene) -> LocalBoxFuture<'a, Result<Instant>>;

/// One row.
pub(crate) struct Row {
    pub id: &'static str,
    pub fault: &'static str,
    /// How long the load takes: in `make faults`, and in `make test` where it runs there too.
    pub seconds: (u64, Option<u64>),
    pub two_ingresses: bool,
    pub inject: Inject,
}

pub(crate) enum Inject {
    Fault(Fault),
    /// Why it cannot be run.
    Not(&'static str),
}

impl Row {
    const fn new(id: &'static str, fault: &'static str, seconds: (u64, Option<u64>), inject: Fault) -> Self {
        Self { id, fault, seconds, two_ingresses: false, inject: Inject::Fault(inject) }
    }

    const fn with_two_ingresses(self) -> Self {
        Self { two_ingresses: true, ..self }
    }

    const fn not_run(id: &'static str, fault: &'static str, why: &'static str) -> Self {
        Self { id, fault, seconds: (0, None), two_ingresses: false, inject: Inject::Not(why) }
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

/// Every row, in its order.
pub(crate) const MATRIX: &[Row] = &[
    Row::new("1", "kill -9 of the ingress, 20 times", (40, Some(12)), fault!(processes::ingress_killed)),
    Row::new(
        "2",
        "kill -9 between the broker's report and the delete",
        (20, None),
        fault!(processes::killed_before_delete),
    ),
    Row::new("3", "kill -9 of each consumer in its work", (30, Some(12)), fault!(processes::consumers_killed)),
    Row::new("4", "two relays, one frozen past its lease, then killed", (40, None), fault!(processes::relay_frozen))
        .with_two_ingresses(),
    Row::new("5", "Kafka restarted 10 times", (60, None), fault!(broker::restarted)),
    Row::new("6", "Kafka frozen for 15 s", (30, None), fault!(broker::frozen)),
    Row::new("7", "kill -9 of Kafka", (30, Some(10)), fault!(broker::killed)),
    Row::new("7b", "Kafka down for 3 minutes", (200, None), fault!(broker::down_for_long)),
    Row::new("8", "PostgreSQL ended at once, then a backend of it", (30, Some(12)), fault!(stores::postgres_killed)),
    Row::not_run("19", "replayed twice under live traffic", "waits for `headwater replay`"),
    Row::new("21", "SIGTERM under load, each service", (40, Some(12)), fault!(processes::asked_to_end)),
    Row::new("22", "kill -9 of everything", (30, None), fault!(processes::everything_killed)),
];
