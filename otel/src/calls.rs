//! Which message came of a call: known in the depth of a service, shown on the span of the call, which the door ends.
use std::{
    collections::HashMap,
    fmt::Display,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
};

use crate::TraceContext;

/// By span id: the calls that are recorded and not over.
static OPEN: LazyLock<Mutex<HashMap<u64, Option<String>>>> = LazyLock::new(Mutex::default);

fn open() -> MutexGuard<'static, HashMap<u64, Option<String>>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that is recorded, until it is dropped.
#[derive(Debug)]
pub struct OpenCall(u64);

impl OpenCall {
    pub fn new(context: TraceContext) -> Self {
        open().insert(context.span_id, None);
        Self(context.span_id)
    }

    /// What [`message_of`] said.
    pub fn message(&self) -> Option<String> {
        open().get(&self.0).cloned().flatten()
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        open().remove(&self.0);
    }
}

/// This message came of the call with that context, if it is one and is not over.
pub fn message_of(context: TraceContext, message_id: impl Display) {
    if let Some(message) = open().get_mut(&context.span_id) {
        *message = Some(message_id.to_string());
    }
}
