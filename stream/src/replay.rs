//! A part of the log once more, through a batch handler, up to an end that is fixed before the first record.
//!
//! Its group has no members: it carries, once all is done, where the replay stopped, so that the documents that were
//! made and the offsets they stand for can be found together. Nothing is written to any topic: what is poison was
//! buried when it was first read, and is only counted here.
use std::{
    collections::{BTreeMap, HashMap},
    mem,
};

use headwater_otel::{
    span::{Times, now},
    with_store_writes,
};
use headwater_proto::Millis;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
};
use tokio::{sync::mpsc, time::sleep, try_join};
use tracing::warn;

use crate::{
    BatchHandler, Decoded, Delivery, Error, KafkaConfig, Outcome, Record, RetryPolicy, headers,
    reader::{Reader, TIMEOUT, off_the_runtime},
    spans::{Spans, Traced},
};

/// Items per batch, as a consumer has them.
const BATCH: usize = 1_000;
/// Records read per batch, items or not: how far one step of the progress can be.
const STEP: u64 = 5_000;
/// Batches that are decoded ahead.
const AHEAD: usize = 2;

/// Where a replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first record that ever was.
    Beginning,
    /// With the first whose timestamp is not before this one: when the event was received.
    Time(Millis),
}

/// What is read of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// The one behind the last.
    pub end: i64,
}

impl Span {
    /// How many offsets it has.
    pub fn len(&self) -> u64 {
        u64::try_from(self.end - self.from).unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How the records ended, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes {
    pub done: u64,
    pub skipped: BTreeMap<&'static str, u64>,
    /// Poison.
    pub dead: BTreeMap<&'static str, u64>,
}

/// Every partition of the topic from `start` to what is its end now. A log that no longer has its beginning makes no
/// whole state: [`Error::Truncated`], unless that is accepted.
pub async fn spans(
    kafka: &KafkaConfig,
    topic: &str,
    start: Start,
    accept_truncation: bool,
) -> Result<Vec<Span>, Error> {
    let (kafka, topic) = (kafka.clone(), topic.to_owned());
    off_the_runtime(move || {
        let reader = Reader::open(&kafka, "headwater-reader")?;
        let partitions = reader.partitions(&topic)?;
        let since = match start {
            Start::Beginning => BTreeMap::new(),
            Start::Time(time) => first_since(&reader, &topic, &partitions, time)?,
        };
        let spans = partitions.into_iter().map(|partition| {
            let (first, end) = reader.watermarks(&topic, partition)?;
            if start == Start::Beginning && first > 0 && !accept_truncation {
                return Err(Error::Truncated { topic: topic.clone(), partition, first });
            }
            // a time after the last record stands for the end
            let from = since.get(&partition).copied().unwrap_or(if since.is_empty() { first } else { end });
            Ok(Span { partition, from: from.min(end), end })
        });
        spans.collect()
    })
    .await
}

fn first_since(reader: &Reader, topic: &str, partitions: &[i32], time: Millis) -> Result<BTreeMap<i32, i64>, Error> {
    let failed = |source| Error::Read { topic: topic.to_owned(), source };
    let mut asked = TopicPartitionList::with_capacity(partitions.len());
    for &partition in partitions {
        asked.add_partition_offset(topic, partition, Offset::Offset(time.as_millis())).map_err(failed)?;
    }
    let found = reader.client().offsets_for_times(asked, TIMEOUT).map_err(failed)?;
    let offsets = found.elements().into_iter().map(|element| match element.offset() {
        Offset::Offset(offset) => (element.partition(), offset),
        _ => (element.partition(), i64::MAX),
    });
    Ok(offsets.collect())
}

/// Who reads again, and what.
#[derive(Debug, Clone, Copy)]
pub struct Replay<'a> {
    pub kafka: &'a KafkaConfig,
    pub group_id: &'a str,
    /// Whose work it is otherwise: its spans are those of this service.
    pub role: &'static str,
    pub topic: &'static str,
    pub spans: &'a [Span],
}

/// Puts every record of the spans through the handler, those of a partition in their order, and then leaves their ends
/// as the commits of the group. `read` hears how many records a step has read. While the handler's store is away the
/// step is tried again, for ever.
pub async fn replay<H: BatchHandler>(
    Replay { kafka, group_id, role, topic, spans }: Replay<'_>,
    mut handler: H,
    mut read: impl FnMut(u64),
) -> Result<Outcomes, Error> {
    let (steps, mut decoded) = mpsc::channel::<Step<H::Item>>(AHEAD);
    let ranges = spans.iter().map(|span| (span.partition, (span.from, span.end))).collect();
    let (client, group) = (kafka.clone(), group_id.to_owned());
    let traces = Spans::of_replay(role, group_id, topic);
    let of_skipped = traces.clone();
    let reading = off_the_runtime(move || {
        let mut step = Step::default();
        Reader::open(&client, &group)?.read(topic, ranges, |record| {
            step.take::<H>(record, &of_skipped);
            // who waits for the steps may have given up: then nothing more is wanted of any partition
            !step.is_full() || steps.blocking_send(mem::take(&mut step)).is_ok()
        })?;
        let _ = steps.blocking_send(step);
        Ok(())
    });
    let applying = async {
        let mut outcomes = Outcomes::default();
        while let Some(step) = decoded.recv().await {
            let work = Box::pin(until_up(&mut handler, &step.items));
            let applied = traced(&traces, &step, work).await?;
            outcomes.count(&step, &applied);
            read(step.read);
        }
        Ok::<_, Error>(outcomes)
    };
    let ((), outcomes) = try_join!(reading, applying)?;
    commit(kafka, group_id, topic, spans).await?;
    Ok(outcomes)
}

/// What was read since the last step.
struct Step<T> {
    items: Vec<Delivery<T>>,
    /// Of the items.
    traced: Vec<Traced>,
    skipped: BTreeMap<&'static str, u64>,
    dead: BTreeMap<&'static str, u64>,
    read: u64,
}

impl<T> Default for Step<T> {
    fn default() -> Self {
        Self { items: Vec::new(), traced: Vec::new(), skipped: BTreeMap::new(), dead: BTreeMap::new(), read: 0 }
    }
}

impl<T> Step<T> {
    fn take<H: BatchHandler<Item = T>>(&mut self, record: &Record<'_>, spans: &Spans) {
        self.read += 1;
        match H::decode(record) {
            Ok(Decoded::Item(item)) => {
                let traced = Traced::anew(record, headers::trace_context(record));
                let trace = traced.as_ref().map(Traced::context);
                let (position, timestamp) = (record.position, record.timestamp);
                self.items.push(Delivery { position, trace, timestamp, attempt: 1, item });
                self.traced.extend(traced);
            }
            Ok(Decoded::Skip(reason)) => {
                spans.passed_over(record, reason);
                *self.skipped.entry(reason).or_default() += 1;
            }
            Err(poison) => *self.dead.entry(poison.reason).or_default() += 1,
        }
    }

    fn is_full(&self) -> bool {
        self.items.len() >= BATCH || self.read >= STEP
    }
}

impl Outcomes {
    /// All records that were read.
    pub fn records(&self) -> u64 {
        self.done + self.skipped.values().sum::<u64>() + self.dead.values().sum::<u64>()
    }

    fn count<T>(&mut self, step: &Step<T>, applied: &[Outcome]) {
        for outcome in applied {
            match *outcome {
                Outcome::Done => self.done += 1,
                Outcome::Skip(reason) => *self.skipped.entry(reason).or_default() += 1,
            }
        }
        for (into, from) in [(&mut self.skipped, &step.skipped), (&mut self.dead, &step.dead)] {
            for (&reason, count) in from {
                *into.entry(reason).or_default() += count;
            }
        }
    }
}

/// The work on a step, with its spans once it has succeeded.
async fn traced<T>(
    spans: &Spans,
    step: &Step<T>,
    work: impl Future<Output = Result<Vec<Outcome>, Error>>,
) -> Result<Vec<Outcome>, Error> {
    if step.traced.is_empty() {
        return work.await;
    }
    let start = now();
    let (applied, writes) = with_store_writes(work).await;
    let (times, applied) = (Times { start, end: now() }, applied?);
    let ends: HashMap<_, _> = step.items.iter().map(|item| item.position).zip(applied.iter().copied()).collect();
    spans.applied(step.items.len(), &step.traced, times, &writes, |position| ends.get(&position).copied());
    Ok(applied)
}

async fn until_up<H: BatchHandler>(handler: &mut H, items: &[Delivery<H::Item>]) -> Result<Vec<Outcome>, Error> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let mut attempt = 0;
    loop {
        match handler.apply(items).await {
            Ok(outcomes) if outcomes.len() == items.len() => return Ok(outcomes),
            Ok(outcomes) => return Err(Error::Outcomes { expected: items.len(), found: outcomes.len() }),
            Err(unavailable) => {
                attempt += 1;
                let pause = RetryPolicy::until_up(attempt, fastrand::f64());
                let error = &unavailable as &dyn std::error::Error;
                warn!(error, dependency = unavailable.dependency, ?pause, "the replay waits");
                sleep(pause).await;
            }
        }
    }
}

async fn commit(kafka: &KafkaConfig, group_id: &str, topic: &str, spans: &[Span]) -> Result<(), Error> {
    let (kafka, group, topic, spans) = (kafka.clone(), group_id.to_owned(), topic.to_owned(), spans.to_vec());
    off_the_runtime(move || {
        let failed = |source| Error::Group { group: group.clone(), source };
        let mut ends = TopicPartitionList::with_capacity(spans.len());
        for span in spans {
            ends.add_partition_offset(&topic, span.partition, Offset::Offset(span.end)).map_err(failed)?;
        }
        Reader::open(&kafka, &group)?.client().commit(&ends, CommitMode::Sync).map_err(failed)
    })
    .await
}

#[cfg(test)]
mod tests {
    use headwater_proto::topics::{ANALYTICS_DLQ, USER_EVENTS};

    use super::*;
    use crate::{
        Poison, Unavailable, groups,
        testing::{RawWriter, embedded},
    };

    /// Keeps what it is given; its store is away once.
    #[derive(Clone, Default)]
    struct Keep {
        kept: std::sync::Arc<std::sync::Mutex<Vec<(i32, i64, String)>>>,
        away: bool,
    }

    impl BatchHandler for Keep {
        type Item = String;

        fn decode(record: &Record<'_>) -> Result<Decoded<String>, Poison> {
            match std::str::from_utf8(record.value.unwrap_or_default()) {
                Ok("skip") => Ok(Decoded::Skip("asked")),
                Ok(text) => Ok(Decoded::Item(text.to_owned())),
                Err(_) => Err(Poison { reason: "no_text", message: "the value is no text".to_owned() }),
            }
        }

        async fn apply(&mut self, batch: &[Delivery<String>]) -> Result<Vec<Outcome>, Unavailable> {
            if mem::take(&mut self.away) {
                return Err(Unavailable { dependency: "a list", source: "away".into() });
            }
            let kept = batch.iter().map(|d| (d.position.partition, d.position.offset, d.item.clone()));
            self.kept.lock().unwrap().extend(kept);
            Ok(vec![Outcome::Done; batch.len()])
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_replay_stops_at_the_ends_taken_at_its_start_and_leaves_them_as_commits() {
        let (_broker, kafka) = embedded();
        let log = RawWriter::open(&kafka);
        let write = async |partition, value: &[u8]| {
            log.write(USER_EVENTS.name, Some(partition), Some(b"ann"), Some(value), &[]).await;
        };
        for number in 0..2_500 {
            write(0, number.to_string().as_bytes()).await;
        }
        for value in [&b"a"[..], b"skip", b"\xff", b"b"] {
            write(7, value).await;
        }
        let spans = spans(&kafka, USER_EVENTS.name, Start::Beginning, false).await.unwrap();
        write(7, b"too late").await;

        let handler = Keep { away: true, ..Keep::default() };
        let (mut steps, group) = (0, "a-replay");
        let again =
            Replay { kafka: &kafka, group_id: group, role: "analytics", topic: USER_EVENTS.name, spans: &spans };
        let outcomes = replay(again, handler.clone(), |read| steps += read).await.unwrap();
        assert_eq!((outcomes.done, outcomes.records(), steps), (2_502, 2_504, 2_504));
        assert_eq!((outcomes.skipped, outcomes.dead), ([("asked", 1)].into(), [("no_text", 1)].into()));
        let mut kept = mem::take(&mut *handler.kept.lock().unwrap());
        let in_order = kept.iter().filter(|(partition, ..)| *partition == 0).map(|(_, offset, _)| *offset);
        assert!(in_order.eq(0..2_500));
        kept.retain(|(partition, ..)| *partition != 0);
        assert_eq!(kept, [(7, 0, "a".to_owned()), (7, 3, "b".to_owned())]);

        let lag = groups::lag(&kafka, group, USER_EVENTS.name).await.unwrap();
        let committed: Vec<_> = lag.iter().map(|partition| partition.committed).collect();
        assert_eq!(committed.len(), 12);
        assert_eq!((committed[0], committed[1], committed[7]), (Some(2_500), Some(0), Some(4)));
        let dead = crate::reader::read_topic(&kafka, ANALYTICS_DLQ.name).await.unwrap();
        assert_eq!(dead, [], "what is dead has been buried already");
    }
}
