//! The one who commits a lane's groups.
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use headwater_otel::{
    Span, message_of, names,
    span::{Kind, Times, now},
};
use headwater_stream::Clock;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, debug_span, warn};

use super::queue::{Caller, Failure, Lanes, Queue, Queued};
use crate::{
    ROLE, StoreError,
    action::{Action, Answer},
    pack::pack,
    users::{
        Store, Writes,
        decide::{self, Decided},
    },
};

/// Actions in one transaction, at most.
const GROUP: usize = 500;

/// One lane's. Runs until it is told to stop and its queue is empty.
pub(crate) struct Worker<S> {
    queue: Queue,
    store: S,
    clock: Arc<dyn Clock>,
    /// Rung after each commit: the relay listens.
    committed: Arc<Notify>,
}

/// Actions that stand or fall together, with where to answer.
#[derive(Default)]
struct Group {
    actions: Vec<Action>,
    callers: Vec<Caller>,
}

impl<S: Store> Worker<S> {
    /// The entrances, and a worker for each lane.
    pub(crate) fn open(
        lanes: usize,
        capacity: usize,
        store: &S,
        clock: &Arc<dyn Clock>,
        committed: &Arc<Notify>,
    ) -> (Lanes, Vec<Self>) {
        let (entrances, queues) = Lanes::new(lanes, capacity);
        let worker = |queue| Self { queue, store: store.clone(), clock: clock.clone(), committed: committed.clone() };
        (entrances, queues.into_iter().map(worker).collect())
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut waiting = Vec::with_capacity(GROUP);
        loop {
            tokio::select! {
                biased;
                taken = self.queue.queued.recv_many(&mut waiting, GROUP) => if taken == 0 { return },
                () = stop.cancelled() => return,
            }
            let group = self.unbroken(&mut waiting);
            let span = debug_span!(names::SPAN_COMMIT, { names::BATCH_MESSAGE_COUNT } = group.actions.len());
            self.commit(group).instrument(span).await;
        }
    }

    /// What was queued before a break fails; the rest is the next group.
    fn unbroken(&self, waiting: &mut Vec<Queued>) -> Group {
        let breaks = self.queue.breaks.load(Ordering::Acquire);
        let mut group = Group::default();
        for Queued { action, breaks: seen, caller } in waiting.drain(..) {
            if seen == breaks {
                group.actions.push(action);
                group.callers.push(caller);
            } else {
                caller.answer(Err(Failure::Unavailable));
            }
        }
        group
    }

    /// Splits a group that the store refuses, until the guilty action is alone.
    async fn commit(&self, group: Group) {
        let mut rest = VecDeque::from([group]);
        while let Some(mut group) = rest.pop_front() {
            if group.actions.is_empty() {
                continue;
            }
            match self.transact(&group.actions).await {
                Ok(answers) => group.answer(answers),
                Err(StoreError::Data(source)) if group.actions.len() == 1 => {
                    warn!(error = %source, "the store refuses a value of a request");
                    group.fail(Failure::Data);
                }
                Err(StoreError::Data(_)) => {
                    let second = group.split();
                    rest.push_front(second);
                    rest.push_front(group);
                }
                Err(StoreError::Unavailable(source)) => {
                    warn!(error = %source, "a commit failed; everything queued in its lane is refused");
                    self.queue.breaks.fetch_add(1, Ordering::AcqRel);
                    group.fail(Failure::Unavailable);
                    rest.drain(..).for_each(|group| group.fail(Failure::Unavailable));
                }
            }
        }
    }

    async fn transact(&self, actions: &[Action]) -> Result<Vec<Answer>, StoreError> {
        let started = Instant::now();
        let start = now();
        let keys = decide::keys(actions);
        let decided = self.store.transact(&keys, |snapshot| {
            let Decided { writes, events, answers } = decide::decide(snapshot, actions);
            let written = events.len();
            (Writes { at: self.clock.now(), outbox: pack(events), ..writes }, (answers, written))
        });
        let (answers, written) = decided.await?;
        self.committed.notify_one();
        tell(actions, Times { start, end: now() });
        debug!(actions = actions.len(), events = written, "committed a group");
        metrics::histogram!(names::INGRESS_COMMIT_DURATION, names::ROLE => ROLE)
            .record(started.elapsed().as_secs_f64());
        metrics::histogram!(names::INGRESS_GROUP_SIZE, names::ROLE => ROLE).record(actions.len() as f64);
        metrics::counter!(names::INGRESS_EVENTS, names::ROLE => ROLE).increment(written as u64);
        Ok(answers)
    }
}

/// Their share of the transaction, to the traces that are recorded.
fn tell(actions: &[Action], times: Times) {
    for Action { head, .. } in actions {
        let trace = head.origin.trace;
        let Some(span) =
            Span::start(names::SERVICE_INGRESS, names::SPAN_COMMIT, Kind::Client, trace.child(), Some(trace))
        else {
            continue;
        };
        let actions = i64::try_from(actions.len()).unwrap_or(i64::MAX);
        span.with(names::MESSAGE_ID, head.id.to_string()).with(names::BATCH_MESSAGE_COUNT, actions).over(times);
        message_of(trace, head.id);
    }
}

impl Group {
    fn split(&mut self) -> Self {
        let half = self.actions.len() / 2;
        Self { actions: self.actions.split_off(half), callers: self.callers.split_off(half) }
    }

    fn answer(self, answers: Vec<Answer>) {
        for (caller, answer) in self.callers.into_iter().zip(answers) {
            caller.answer(Ok(answer));
        }
    }

    fn fail(self, failure: Failure) {
        for caller in self.callers {
            caller.answer(Err(failure));
        }
    }
}
