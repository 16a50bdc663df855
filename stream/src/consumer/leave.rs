//! The end of a consumer, and of a client that is replaced. librdkafka waits without a limit for what only a broker can
//! end, such as a commit on its way to a coordinator that is away, so a client ends on a thread of its own; here it is
//! waited for until a deadline.
use std::{
    sync::mpsc::{self, Receiver},
    thread,
    time::Instant,
};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tracing::{info, warn};

use super::{poll_loop::PollLoop, work::Work};
use crate::{
    Error,
    rebalance::{Context, lock},
};

impl<W: Work> PollLoop<'_, W> {
    /// Finishes what is in flight if there is reason to, commits, and leaves the group, which revokes what it has; by
    /// then nothing is waited for but the broker. One that does not answer in time keeps nobody here: what is then not
    /// known to be committed is counted as coming again.
    pub(super) fn leave(self, finish: bool) {
        let Self { shared, consumer, config, .. } = self;
        let context = consumer.context().clone();
        let mut state = lock(&shared);
        let owned: Vec<i32> = state.books.ledger.partitions().collect();
        state.withdraw(&owned);
        if finish {
            let left = state.drain(&owned, Instant::now() + config.last_drain);
            info!(in_flight = left, "consumer stops");
        }
        let deadline = Instant::now() + config.parting;
        state.close(deadline);
        // where this fails it is tried again on leaving, which gets the rest of the time
        context.commit(&consumer, &mut state.books.ledger, &owned, config.parting / 4);
        drop(state);

        let gone = match end(consumer) {
            Ok(gone) => gone.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok(),
            Err(error) => return warn!(%error, "the client ended in place"),
        };
        context.retire();
        if gone {
            return;
        }
        let mut state = lock(&shared);
        let owned: Vec<i32> = state.books.ledger.partitions().collect();
        let left = state.let_go(&owned, Instant::now());
        state.count_uncommitted(&owned);
        state.books.outcomes.abandoned();
        if !owned.is_empty() {
            state.books.outcomes.handed_over("abandoned");
            state.revoke(&owned);
        }
        warn!(
            group = config.group_id(),
            instance = config.instance,
            partitions = ?owned,
            in_flight = left,
            "the broker did not let go of the client in {:?}; it is left to end by itself",
            config.parting
        );
    }
}

/// Ends a client; the receiver hears when it is gone.
pub(super) fn end<W: Work>(client: BaseConsumer<Context<W>>) -> Result<Receiver<()>, Error> {
    let (ended, gone) = mpsc::channel();
    let dropping = move || {
        // closing alone leaves the group only where there is something to hand back; whoever owns nothing would stay a
        // member until its session ends, and the others would wait for it
        client.unsubscribe();
        drop(client);
        let _ = ended.send(()); // whoever waited may have given up
    };
    thread::Builder::new()
        .name("consumer drop".to_owned())
        .spawn(dropping)
        .map_err(|source| Error::Thread { of: "consumer", source })?;
    Ok(gone)
}
