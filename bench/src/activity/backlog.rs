//! Events as the document has them, written into the log while no service runs, and how a service gets through them:
//! it must log each, so its log shows how far it is without asking it.
use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use headwater_stream::{Clock as _, KafkaConfig, OutboundRecord, Patience, Producer, SystemClock};
use serde::Serialize;
use tokio::time::{Instant, interval};
use uuid::Uuid;

const TYPES: [&str; 3] = ["LOGIN", "LOGOUT", "PRODUCT_VIEW"];
/// Begins every user's id, and nothing else in a service's log.
const USER: &str = "load-user-";
/// Written and reported together.
const TOGETHER: u64 = 10_000;
const CLOSE: Duration = Duration::from_secs(15);
/// Between two looks at a log's size.
const LOOKS: Duration = Duration::from_millis(5);

/// An event that nobody has accepted yet.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Draft {
    user_id: String,
    event_type: &'static str,
    payload: Details,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    product_id: String,
    category: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    event_id: Uuid,
    user_id: &'a str,
    event_type: &'static str,
    timestamp: &'a str,
    payload: &'a Details,
}

impl Draft {
    pub(crate) fn draw(users: u32) -> Self {
        Self {
            user_id: format!("{USER}{:07}", fastrand::u32(..users.max(1))),
            event_type: TYPES[fastrand::usize(..TYPES.len())],
            payload: Details { product_id: format!("sku-{:04}", fastrand::u32(..10_000)), category: "electronics" },
        }
    }

    /// What a client sends.
    pub(crate) fn request(&self) -> Bytes {
        Bytes::from(json(self))
    }

    fn event(&self, timestamp: &str) -> Vec<u8> {
        let Self { user_id, event_type, payload } = self;
        json(&Event { event_id: Uuid::new_v4(), user_id, event_type, timestamp, payload })
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default() // texts have no reason to fail
}

pub(crate) async fn write(kafka: &KafkaConfig, topic: &str, events: u64, users: u32) -> anyhow::Result<()> {
    let producer = Producer::open(kafka, Patience::Waiting)?;
    let mut left = events;
    while left > 0 {
        let timestamp = SystemClock.now().to_string();
        let drafts: Vec<Draft> = (0..left.min(TOGETHER)).map(|_| Draft::draw(users)).collect();
        let values: Vec<Vec<u8>> = drafts.iter().map(|draft| draft.event(&timestamp)).collect();
        let headers: Vec<_> = drafts
            .iter()
            .map(|draft| [("eventType", Some(draft.event_type.as_bytes())), ("timestamp", Some(timestamp.as_bytes()))])
            .collect();
        let records = drafts.iter().zip(&values).zip(&headers).map(|((draft, value), headers)| OutboundRecord {
            topic,
            key: draft.user_id.as_bytes(),
            value: Some(value),
            headers,
            timestamp: None,
            partition: None,
        });
        for report in producer.enqueue(records).await?.await {
            report.context("the events for the consumer cannot be written")?;
        }
        left -= drafts.len() as u64;
    }
    Ok(producer.close(CLOSE).await?)
}

/// How many of the events a log names, a line each.
pub(crate) fn logged(log: &Path) -> anyhow::Result<u64> {
    let mut lines = BufReader::new(File::open(log)?).lines();
    lines.try_fold(0, |found, line| Ok(found + u64::from(line?.contains(USER))))
}

/// How a service's log has grown: when, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Grown(Vec<(Instant, u64)>);

impl Grown {
    /// Looks until it is dropped.
    pub(crate) async fn watch(&mut self, log: &Path) -> anyhow::Error {
        let mut between = interval(LOOKS);
        loop {
            let now = between.tick().await;
            match fs::metadata(log) {
                Ok(metadata) => self.0.push((now, metadata.len())),
                Err(error) => return error.into(),
            }
        }
    }

    /// From the twentieth part of it to the last but one, so that neither the service's start nor its rest counts. `None`
    /// where it has come at once.
    pub(crate) fn seconds_of_nine_tenths(&self) -> Option<f64> {
        let (_, all) = self.0.last()?;
        let reached =
            |twentieths: u64| self.0.iter().find(|(_, bytes)| bytes * 20 >= all * twentieths).map(|(at, _)| *at);
        let seconds = (reached(19)? - reached(1)?).as_secs_f64();
        (seconds > 0.0).then_some(seconds)
    }
}

#[cfg(test)]
mod tests {
    use headwater_proto::Millis;
    use serde_json::Value;

    use super::*;

    #[test]
    fn an_event_is_its_request_with_an_id_and_a_time() {
        let draft = Draft::draw(10);
        let at = Millis::from_millis(1_771_322_400_000).to_string();
        let mut event: Value = serde_json::from_slice(&draft.event(&at)).unwrap();
        let fields = event.as_object_mut().unwrap();
        let id = fields.remove("eventId").unwrap();
        assert!(Uuid::try_parse(id.as_str().unwrap()).is_ok(), "{id}");
        assert_eq!(fields.remove("timestamp"), Some("2026-02-17T10:00:00.000Z".into()));
        assert_eq!(event, serde_json::from_slice::<Value>(&draft.request()).unwrap());
    }

    #[test]
    fn the_time_of_nine_tenths_leaves_out_the_start_and_the_rest() {
        let start = Instant::now();
        let grown = |looks: &[(u64, u64)]| {
            let looks = looks.iter().map(|&(seconds, bytes)| (start + Duration::from_secs(seconds), bytes));
            Grown(looks.collect()).seconds_of_nine_tenths()
        };
        assert_eq!(grown(&[(0, 0), (1, 2), (3, 5), (4, 50), (7, 95), (8, 98), (20, 100), (60, 100)]), Some(4.0));
        for at_once in [&[][..], &[(0, 0)], &[(0, 0), (5, 100)]] {
            assert_eq!(grown(at_once), None);
        }
    }
}
