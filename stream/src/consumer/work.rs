//! What the consumer's thread and the tasks beside it say to each other, and what the two kinds of handler do
//! differently.
use std::{
    panic::AssertUnwindSafe,
    sync::mpsc,
    thread::{self, Thread},
    time::Instant,
};

use futures::FutureExt as _;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::books::Books;
use crate::{Decoded, Delivery, Error, Poison, Record, dead_letter::Burial, ledger::Epoch};

/// One kind of work: where decoded records wait, and how they reach the handler and come back. All of it on the
/// consumer's thread; only the handler's effect runs elsewhere.
pub(crate) trait Work: Send + 'static {
    type Item: Send + 'static;
    /// What comes back from the handler.
    type Report: Send + 'static;

    fn decode(&self, record: &Record<'_>) -> Result<Decoded<Self::Item>, Poison>;

    /// Takes in a decoded record.
    fn accept(&mut self, delivery: Delivery<Self::Item>, record: &Record<'_>, now: Instant);

    /// Hands over what may go. `drained`: nothing more is there to wait for.
    fn feed(&mut self, now: Instant, drained: bool, epoch: Epoch);

    /// Takes in what the handler says. An error ends the run.
    fn settle(&mut self, report: Self::Report, now: Instant, books: &mut Books) -> Result<(), Error>;

    /// No room for more records.
    fn is_full(&self) -> bool;

    /// Room enough to go on after having been full.
    fn has_room_again(&self) -> bool;

    /// This partition alone has too much waiting. `paused`: it is paused already, and stays so until half is gone.
    fn overflows(&self, partition: i32, paused: bool) -> bool;

    /// Drops what waits of these partitions and was not handed over.
    fn withdraw(&mut self, partitions: &[i32]);

    /// How many records of these partitions the handler has.
    fn in_flight(&self, partitions: &[i32]) -> usize;

    /// What the handler cannot go on without.
    fn waits_for(&self) -> Option<&'static str>;

    /// These partitions are somebody else's now: tells the handler, after what it has in hand.
    fn revoked(&mut self, partitions: &[i32]);

    /// When there is something to do even if nothing comes in.
    fn due(&self) -> Option<Instant>;
}

/// What reaches the consumer's thread.
#[derive(Debug)]
pub(crate) enum Message<R> {
    Work(R),
    Burial(Burial),
    /// A task beside the thread is gone; the run is over.
    Failed(Error),
}

/// A task's way to the consumer's thread.
#[derive(Debug)]
pub(crate) struct Desk<R> {
    messages: mpsc::Sender<Message<R>>,
    thread: Thread,
}

impl<R> Clone for Desk<R> {
    fn clone(&self) -> Self {
        Self { messages: self.messages.clone(), thread: self.thread.clone() }
    }
}

impl<R: Send + 'static> Desk<R> {
    /// For tasks that report to the calling thread.
    pub(crate) fn of_this_thread() -> (Self, mpsc::Receiver<Message<R>>) {
        let (messages, received) = mpsc::channel();
        (Self { messages, thread: thread::current() }, received)
    }

    /// The thread may be gone: then nobody is left who wants to know.
    pub(crate) fn say(&self, message: Message<R>) {
        let _ = self.messages.send(message);
        self.thread.unpark();
    }

    /// Runs a task that ends with the returned handle. A panic in it ends the run: what it was doing is not done, and
    /// is replayed from the last commit.
    pub(crate) fn spawn(
        &self,
        runtime: &Handle,
        what: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> AbortOnDropHandle<()> {
        let desk = self.clone();
        AbortOnDropHandle::new(runtime.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                desk.say(Message::Failed(Error::Panicked { what }));
            }
        }))
    }
}
