//! Instances of services: each can be stopped and started while the stores live on.
use std::{collections::BTreeMap, future::Future, panic::AssertUnwindSafe, pin::Pin, time::Duration};

use futures::FutureExt as _;
use headwater_otel::{Component, Readiness};
use serde::Serialize;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{Error, Role};

/// Work in flight may take 25 s at the end; whoever needs longer is cut.
const END: Duration = Duration::from_secs(28);

pub(crate) type Life = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;
/// Makes one life of an instance: from its component's first word until the token is cancelled.
pub(crate) type Birth = Box<dyn Fn(Component, CancellationToken) -> Life + Send + Sync>;

/// Every instance of this process, by role and number from 1.
pub struct Instances {
    slots: BTreeMap<(Role, u32), Slot>,
    readiness: Readiness,
    failures: mpsc::UnboundedSender<Error>,
}

struct Slot {
    name: String,
    birth: Birth,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: CancellationToken,
    life: JoinHandle<()>,
}

/// What `POST /instances/<role>/<n>/<change>` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Start,
    Stop,
}

/// One instance and whether it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    pub role: Role,
    pub instance: u32,
    pub running: bool,
}

impl Instances {
    pub(crate) fn new(readiness: Readiness) -> (Self, mpsc::UnboundedReceiver<Error>) {
        let (failures, failed) = mpsc::unbounded_channel();
        (Self { slots: BTreeMap::new(), readiness, failures }, failed)
    }

    /// `name` is what readiness and logs show, like "notification-2".
    pub(crate) fn add(&mut self, role: Role, number: u32, name: String, birth: Birth) {
        self.slots.insert((role, number), Slot { name, birth, running: Mutex::new(None) });
    }

    /// `None` where there is no such instance. Starting what runs and stopping what does not changes nothing.
    /// Returns when it is done: a stopped instance has finished its work in flight.
    pub async fn change(&self, role: Role, number: u32, change: Change) -> Option<Listed> {
        let slot = self.slots.get(&(role, number))?;
        let mut running = slot.running.lock().await;
        match change {
            Change::Start if running.as_ref().is_none_or(|running| running.life.is_finished()) => {
                *running = Some(self.begin(slot));
            }
            Change::Stop => {
                if let Some(running) = running.take() {
                    running.end(&slot.name).await;
                }
            }
            Change::Start => {}
        }
        Some(Listed { role, instance: number, running: running.is_some() })
    }

    pub async fn list(&self) -> Vec<Listed> {
        let mut list = Vec::with_capacity(self.slots.len());
        for (&(role, instance), slot) in &self.slots {
            let running = slot.running.lock().await.as_ref().is_some_and(|running| !running.life.is_finished());
            list.push(Listed { role, instance, running });
        }
        list
    }

    pub(crate) async fn change_all(&self, change: Change) {
        let changes = self.slots.keys().map(|&(role, number)| self.change(role, number, change));
        futures::future::join_all(changes).await;
    }

    fn begin(&self, slot: &Slot) -> Running {
        let stop = CancellationToken::new();
        let life = (slot.birth)(self.readiness.component(&slot.name), stop.clone());
        let (stopping, failures, who) = (stop.clone(), self.failures.clone(), slot.name.clone());
        let life = tokio::spawn(async move {
            let error = match AssertUnwindSafe(life).catch_unwind().await {
                Ok(Ok(())) if stopping.is_cancelled() => return,
                Ok(Ok(())) => Error::Ended { who },
                Ok(Err(error)) => error,
                Err(_panic) => Error::Panicked { who },
            };
            if stopping.is_cancelled() {
                tracing::warn!(error = error.story(), "an instance did not end cleanly");
            } else {
                // nobody listens any more where the process is about to end
                let _ = failures.send(error);
            }
        });
        Running { stop, life }
    }
}

impl Running {
    async fn end(self, name: &str) {
        self.stop.cancel();
        let cut = self.life.abort_handle();
        if timeout(END, self.life).await.is_err() {
            tracing::warn!(instance = name, "did not end in time and was cut");
            cut.abort();
        }
    }
}

impl Drop for Instances {
    /// Whoever lets go of a platform that was never stopped still ends its instances.
    fn drop(&mut self) {
        for slot in self.slots.values_mut() {
            if let Some(running) = slot.running.get_mut() {
                running.stop.cancel();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    };

    use super::*;

    fn instances(birth: Birth) -> (Instances, mpsc::UnboundedReceiver<Error>, Readiness) {
        let readiness = Readiness::default();
        let (mut instances, failed) = Instances::new(readiness.clone());
        instances.add(Role::Fraud, 1, "fraud-1".to_owned(), birth);
        (instances, failed, readiness)
    }

    #[tokio::test]
    async fn an_instance_is_stopped_and_started_again_and_holds_nobody_back_meanwhile() {
        let lives = Arc::new(AtomicU32::new(0));
        let counted = lives.clone();
        let (instances, mut failed, readiness) = instances(Box::new(move |component, stop| {
            counted.fetch_add(1, SeqCst);
            Box::pin(async move {
                component.ready();
                stop.cancelled().await;
                Ok(())
            })
        }));
        let change = async |change| instances.change(Role::Fraud, 1, change).await.map(|listed| listed.running);
        assert_eq!(change(Change::Start).await, Some(true));
        assert_eq!(change(Change::Start).await, Some(true), "twice is once");
        readiness.all_ready().await;
        assert_eq!(change(Change::Stop).await, Some(false));
        assert_eq!(change(Change::Stop).await, Some(false));
        assert!(readiness.waiting().is_empty());
        assert_eq!(change(Change::Start).await, Some(true));
        assert_eq!(lives.load(SeqCst), 2);
        assert_eq!(instances.change(Role::Fraud, 2, Change::Start).await, None);
        assert!(failed.try_recv().is_err());
    }

    #[tokio::test]
    async fn an_instance_that_ends_by_itself_is_told() {
        let births: [(Birth, &str); 2] = [
            (Box::new(|_, _| Box::pin(async { Ok(()) })), "fraud-1 ended by itself"),
            (Box::new(|_, _| Box::pin(async { panic!("as asked") })), "fraud-1 panicked; the log says where"),
        ];
        for (birth, told) in births {
            let (instances, mut failed, _) = instances(birth);
            instances.change_all(Change::Start).await;
            assert_eq!(failed.recv().await.unwrap().to_string(), told);
        }
    }
}
