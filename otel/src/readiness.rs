//! Who is ready, and why not: what `/readyz` and gRPC health answer from.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The components of this process. A component is not ready until it says so.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<String, Option<String>>>>);

/// One component's say. Removed from the list when dropped: a stopped component holds nobody back.
#[derive(Debug)]
pub struct Component {
    name: String,
    readiness: Readiness,
}

impl Readiness {
    /// `name` is shown, like "analytics-1".
    pub fn component(&self, name: impl Into<String>) -> Component {
        let component = Component { name: name.into(), readiness: self.clone() };
        component.not_ready("starting");
        component
    }

    /// Every component that is not ready, with its reason. Empty means ready.
    pub fn waiting(&self) -> Vec<(String, String)> {
        let components = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        components.iter().filter_map(|(name, reason)| Some((name.clone(), reason.clone()?))).collect()
    }

    fn set(&self, name: &str, reason: Option<String>) {
        let mut components = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        components.insert(name.to_owned(), reason);
    }
}

impl Component {
    pub fn ready(&self) {
        self.readiness.set(&self.name, None);
    }

    pub fn not_ready(&self, reason: impl Into<String>) {
        self.readiness.set(&self.name, Some(reason.into()));
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        self.readiness.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}
