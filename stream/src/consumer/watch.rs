//! A client that gets nowhere is replaced; what is known of its records stays.
use std::time::Instant;

use rdkafka::consumer::Consumer as _;
use tracing::{error, info, warn};

use super::{
    leave::end,
    poll_loop::{PollLoop, join},
    work::Work,
};
use crate::{
    Clock as _, Error, SystemClock,
    reach::is_reachable,
    watchdog::{Remedy, Stall},
};

impl<W: Work> PollLoop<'_, W> {
    /// Looks at what the client told of itself, if it did. `Err` means that new clients do not help.
    pub(super) fn watch(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let mut stall = self.failed.is_some_and(|due| now >= due).then_some(Stall::Failed);
        if let Some(statistics) = self.consumer.context().statistics() {
            let snapshot = self.state().observe(&statistics, now, SystemClock.now());
            let observed = self.watchdog.observe(now, snapshot);
            stall = stall.or(observed);
        }
        let Some(stall) = stall else { return Ok(()) };
        let kafka = &self.config.kafka;
        let reachable = is_reachable(&kafka.brokers);
        let (group, instance) = (self.config.group_id(), &self.config.instance);
        match self.watchdog.remedy(now, stall, reachable) {
            Remedy::Wait => self.failed = self.failed.map(|_| now + kafka.watch.statistics),
            Remedy::Rebuild => {
                warn!(group, instance, reachable, "{}: a new client takes over", stall.text());
                self.rebuild(stall)?;
            }
            Remedy::GiveUp => {
                error!(group, instance, "{}: new clients do not help", stall.text());
                let (brokers, rebuilds) = (kafka.brokers.clone(), kafka.watch.rebuilds);
                return Err(Error::Stalled { reason: stall.text(), brokers, rebuilds });
            }
        }
        Ok(())
    }

    /// The old client is as good as gone: what it owned counts as revoked, without a commit that it could not make. It
    /// ends on a thread of its own, which may take as long as its broker.
    fn rebuild(&mut self, stall: Stall) -> Result<(), Error> {
        let context = self.consumer.context().clone();
        let mut state = self.state();
        let owned: Vec<i32> = state.books.ledger.partitions().collect();
        state.withdraw(&owned);
        let left = state.let_go(&owned, Instant::now() + self.config.drain);
        let ledger = &state.books.ledger;
        let frontiers: Vec<(i32, i64)> =
            owned.iter().filter_map(|&partition| Some((partition, ledger.frontier(partition)?))).collect();
        context.store(&self.consumer, &frontiers);
        state.count_uncommitted(&owned);
        state.revoke(&owned);
        state.rejoin();
        state.books.outcomes.rebuilt(stall.reason());
        drop(state);
        context.retire();
        let consumer = join(&self.shared, self.config)?;
        let old = std::mem::replace(&mut self.consumer, consumer);
        (self.failed, self.astray) = (None, None);
        info!(group = self.config.group_id(), partitions = ?owned, in_flight = left, "the old client is let go");
        end(old).map(drop)
    }
}
