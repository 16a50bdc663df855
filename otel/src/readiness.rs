//! Who is ready, and why not: what `/readyz` and gRPC health answer from.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

/// The components of this process. A component is not ready until it says so.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    components: Arc<Components>,
    /// Looks only at the components of this role; all where `None`.
    role: Option<String>,
}

#[derive(Debug, Default)]
struct Components {
    /// By name: why it is not ready, `None` where it is.
    waiting: Mutex<BTreeMap<String, Option<String>>>,
    changes: watch::Sender<()>,
}

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

    /// The same components, seen by those who only care about "analytics" and "analytics-1".
    pub fn of(&self, role: impl Into<String>) -> Self {
        Self { components: self.components.clone(), role: Some(role.into()) }
    }

    /// Every component that is not ready, with its reason. Empty means ready.
    pub fn waiting(&self) -> Vec<(String, String)> {
        let components = self.components.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = components.iter().filter(|(name, _)| self.sees(name));
        waiting.filter_map(|(name, reason)| Some((name.clone(), reason.clone()?))).collect()
    }

    /// Told of every change after now.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.components.changes.subscribe()
    }

    /// Returns when nothing is waiting.
    pub async fn all_ready(&self) {
        let mut changes = self.changes();
        while !self.waiting().is_empty() {
            // cannot fail: the sender lives in self
            let _ = changes.changed().await;
        }
    }

    fn sees(&self, name: &str) -> bool {
        let Some(role) = &self.role else { return true };
        name.strip_prefix(role.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    fn set(&self, name: &str, reason: Option<String>) {
        let mut components = self.components.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let before = components.insert(name.to_owned(), reason.clone());
        drop(components);
        if before != Some(reason) {
            self.components.changes.send_replace(());
        }
    }
}

impl Component {
    pub fn ready(&self) {
        self.readiness.set(&self.name, None);
    }

    /// Another component that belongs to this one, shown as "<this>-<name>", like "notification-1-ledger".
    pub fn part(&self, name: &str) -> Self {
        self.readiness.component(format!("{}-{name}", self.name))
    }

    pub fn not_ready(&self, reason: impl Into<String>) {
        self.readiness.set(&self.name, Some(reason.into()));
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        let components = &self.readiness.components;
        components.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
        components.changes.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(readiness: &Readiness) -> Vec<String> {
        readiness.waiting().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn only_what_runs_and_is_not_ready_is_waited_for() {
        let readiness = Readiness::default();
        let (one, two) = (readiness.component("fraud-1"), readiness.component("fraudulent"));
        assert_eq!(names(&readiness), ["fraud-1", "fraudulent"]);
        assert_eq!(names(&readiness.of("fraud")), ["fraud-1"]);
        one.ready();
        assert_eq!(names(&readiness), ["fraudulent"]);
        one.not_ready("no broker");
        assert_eq!(readiness.of("fraud").waiting(), [("fraud-1".to_owned(), "no broker".to_owned())]);
        one.ready();
        let part = one.part("rules");
        assert_eq!(readiness.of("fraud").waiting(), [("fraud-1-rules".to_owned(), "starting".to_owned())]);
        drop((one, two, part));
        assert!(readiness.waiting().is_empty());
    }

    #[test]
    fn waiting_ends_when_the_last_component_is_ready() {
        let readiness = Readiness::default();
        let component = readiness.component("ingress-1");
        let mut waiting = tokio_test::task::spawn(readiness.all_ready());
        assert!(waiting.poll().is_pending());
        component.ready();
        assert!(waiting.is_woken() && waiting.poll().is_ready());
    }
}
