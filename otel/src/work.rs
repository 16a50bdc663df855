//! What a handler tells about its work to whoever makes its spans: when it wrote to its store.
use std::{cell::RefCell, future::Future};

use crate::span::{Times, now};

/// One write to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreWrite {
    /// A name of [`crate::names`].
    pub name: &'static str,
    pub times: Times,
}

tokio::task_local! {
    static WRITES: RefCell<Vec<StoreWrite>>;
}

/// Runs the work and tells of the writes in it that [`store_write`] was told of.
pub async fn with_store_writes<T>(work: impl Future<Output = T>) -> (T, Vec<StoreWrite>) {
    WRITES.scope(RefCell::default(), async { (work.await, WRITES.with(RefCell::take)) }).await
}

/// Notes the time of a write, where somebody wants to know it.
pub async fn store_write<T>(name: &'static str, write: impl Future<Output = T>) -> T {
    if WRITES.try_with(|_| ()).is_err() {
        return write.await;
    }
    let start = now();
    let written = write.await;
    let times = Times { start, end: now() };
    WRITES.with(|writes| writes.borrow_mut().push(StoreWrite { name, times }));
    written
}
