//! The consumer: records off the log, decoded on its thread, handed to a handler, finished or set aside, committed.
//!
//! [`poll_loop`] is the thread, with [`watch`] and [`mend`] for bad days and [`leave`] for the end; [`state`] what it knows, [`work`] what the two kinds of handler do differently
//! ([`batch_work`], [`event_work`]), [`books`] how records end, [`spans`] what a trace shows of it.
mod batch_work;
mod books;
mod config;
mod event_work;
mod leave;
mod mend;
mod outcomes;
mod poll_loop;
mod state;
#[cfg(test)]
mod tests;
mod watch;
mod work;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use headwater_otel::Component;
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

pub use self::config::ConsumerConfig;
use self::{
    batch_work::Batches,
    books::{Books, Burying},
    event_work::Events,
    outcomes::Outcomes,
    poll_loop::PollLoop,
    work::{Desk, Message},
};
pub(crate) use self::{state::State, work::Work};
use crate::{
    BatchHandler, Error, EventHandler, Producer,
    dead_letter::{self, Buried},
};

/// Runs a batch handler as a member of its group until shutdown. `Ok` means that what was in flight is finished (or
/// had its time), what is finished is committed and the group is left; `Err` that it stopped in the middle and will
/// see some records again when it is started anew. `dead_letters` stays open.
pub async fn run_batches<H: BatchHandler>(
    config: ConsumerConfig,
    handler: H,
    dead_letters: Producer,
    readiness: Component,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let work =
        |config: &ConsumerConfig, runtime: &Handle, desk: &Desk<_>| Batches::start(handler, config, runtime, desk);
    run(config, work, dead_letters, readiness, shutdown).await
}

/// Runs an event handler; otherwise as [`run_batches`].
pub async fn run_events<H: EventHandler>(
    config: ConsumerConfig,
    handler: Arc<H>,
    dead_letters: Producer,
    readiness: Component,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let work =
        |config: &ConsumerConfig, runtime: &Handle, desk: &Desk<_>| Events::start(handler, config, runtime, desk);
    run(config, work, dead_letters, readiness, shutdown).await
}

async fn run<W: Work>(
    config: ConsumerConfig,
    work: impl FnOnce(&ConsumerConfig, &Handle, &Desk<W::Report>) -> W + Send + 'static,
    dead_letters: Producer,
    readiness: Component,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    if let (Some(backlog), Some(positions)) = (config.kafka.backlog(), &config.positions) {
        backlog.register(positions.clone());
    }
    // where this future is dropped the thread stops too, by itself
    let stop = shutdown.child_token();
    let _stop = stop.clone().drop_guard();
    let runtime = Handle::current();
    let thread = thread::Builder::new().name(format!("{}-{}", config.role, config.instance));
    let (ended, end) = oneshot::channel();
    let consume = move || {
        let (desk, messages) = Desk::of_this_thread();
        let burying = config.group.dead_letters.map(|topic| {
            let (letters, orders) = mpsc::unbounded_channel();
            let reporting = desk.clone();
            let report = move |burial| reporting.say(Message::Burial(burial));
            let from = Buried { topic: config.group.topic, group_id: config.group_id(), dead_letters: topic };
            let burying = dead_letter::bury(orders, dead_letters, from, report);
            Burying { letters, _task: desk.spawn(&runtime, "dead letter task", burying) }
        });
        let outcomes = Outcomes::new(&config.group_id(), config.role, &config.instance);
        let books = Books::new(outcomes, burying);
        let work = work(&config, &runtime, &desk);
        drop(desk); // so that the end of all tasks shows
        let state = State::new(books, work, messages, &config);
        PollLoop::open(state, &config, &readiness)?.run(&stop)
    };
    thread
        .spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(consume));
            let _ = ended.send(result.unwrap_or(Err(Error::Panicked { what: "consumer thread" })));
        })
        .map_err(|source| Error::Thread { of: "consumer", source })?;
    end.await.unwrap_or(Err(Error::Panicked { what: "consumer thread" }))
}
