//! Numbered records of many keys, each key in its order, until they are in the log.
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use headwater_stream::{Error, OutboundRecord, Patience, Producer};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::Stage;

/// Two or so per partition.
const KEYS: usize = 24;
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Load {
    rounds: Arc<AtomicUsize>,
    stop: CancellationToken,
    run: JoinHandle<()>,
}

impl Load {
    /// About 480 records a second. A round that is not reported as written is written again, before any later one.
    pub(crate) fn start(stage: &Stage) -> Self {
        let producer = Producer::open(&stage.kafka, Patience::Forever).unwrap();
        let (topic, rounds, stop) = (stage.group.topic.name, Arc::<AtomicUsize>::default(), CancellationToken::new());
        let (written, asked) = (rounds.clone(), stop.clone());
        let run = tokio::spawn(async move {
            let mut tick = tokio::time::interval(PAUSE);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !asked.is_cancelled() {
                tick.tick().await;
                let round = written.load(Ordering::Relaxed);
                let values: Vec<_> = (0..KEYS).map(|key| (format!("k{key}"), format!("k{key}-{round}"))).collect();
                let records = values.iter().map(|(key, value)| OutboundRecord {
                    topic,
                    key: key.as_bytes(),
                    value: Some(value.as_bytes()),
                    headers: &[],
                    timestamp: None,
                    partition: None,
                });
                let reports = match producer.enqueue(records.collect::<Vec<_>>()).await {
                    Ok(reports) => reports.await,
                    Err(Error::Broken) => Vec::new(),
                    Err(error) => panic!("the producer does not go on: {error}"),
                };
                if reports.len() == KEYS && reports.iter().all(Result::is_ok) {
                    written.store(round + 1, Ordering::Relaxed);
                } else {
                    producer.purge();
                }
            }
            producer.close(Duration::from_secs(10)).await.unwrap();
        });
        Self { rounds, stop, run }
    }

    /// Records written so far.
    pub(crate) fn written(&self) -> usize {
        self.rounds.load(Ordering::Relaxed) * KEYS
    }

    /// How many records there are in all.
    pub(crate) async fn stop(self) -> usize {
        self.stop.cancel();
        self.run.await.expect("the load ends well");
        self.rounds.load(Ordering::Relaxed) * KEYS
    }
}

/// First occurrences of each key come in order and none is missing.
pub(crate) fn assert_complete_and_in_order(seen: &[String], total: usize) {
    let mut next: BTreeMap<&str, usize> = BTreeMap::new();
    for item in seen {
        let (key, number) = item.split_once('-').expect("key-number");
        let number: usize = number.parse().unwrap();
        let due = next.entry(key).or_default();
        assert!(number <= *due, "{key}: {number} came while {due} was due");
        *due = (*due).max(number + 1);
    }
    assert_eq!(next.len(), KEYS, "keys");
    for (key, count) in next {
        assert_eq!(count, total / KEYS, "{key}: lost records");
    }
}
