//! Records that are set aside: the same key, bytes and headers in the group's dead-letter topic, with headers that say
//! from where and why. A record counts as dead only when the broker has reported its letter; until then the offset
//! stays, however long the dead-letter topic is away.
use std::{collections::VecDeque, time::Duration};

use headwater_proto::{Millis, topics::Topic};
use tokio::{sync::mpsc, time};
use tracing::warn;

use crate::{OutboundRecord, Position, Producer, Record, SendError, ledger::Epoch, retry::RetryPolicy};

/// The headers of a dead letter. Each hop replaces them, none is ever appended.
pub mod header {
    /// Where the record lay.
    pub const TOPIC: &str = "__dlq.errors.topic";
    pub const PARTITION: &str = "__dlq.errors.partition";
    pub const OFFSET: &str = "__dlq.errors.offset";
    /// Which group gave it up.
    pub const GROUP: &str = "__dlq.errors.group";
    /// Attempts of that group; 0 where the record could not even be read.
    pub const DELIVERY_COUNT: &str = "__dlq.errors.delivery.count";
    /// What is wrong, without the record's data.
    pub const MESSAGE: &str = "__dlq.errors.message";
    /// A word of a closed set.
    pub const ERROR_TYPE: &str = "x-error-type";
    /// POISON, EXHAUSTED or REJECTED.
    pub const DISPOSITION: &str = "x-disposition";
    /// RFC 3339, UTC; survives a redrive.
    pub const FIRST_FAILED_AT: &str = "x-first-failed-at";
    /// How often it was sent back to its topic; survives a redrive.
    pub const REDRIVE_COUNT: &str = "x-redrive-count";

    pub(super) const ALL: [&str; 10] = [
        TOPIC,
        PARTITION,
        OFFSET,
        GROUP,
        DELIVERY_COUNT,
        MESSAGE,
        ERROR_TYPE,
        DISPOSITION,
        FIRST_FAILED_AT,
        REDRIVE_COUNT,
    ];
}

/// A redrive count above this one is a lie.
const MOST_REDRIVES: u32 = 1_000_000;
/// Longer messages are cut.
const MESSAGE_BYTES: usize = 1_024;
/// How many letters are sent at a time.
const BULK: usize = 500;
/// What a letter takes in memory beside its bytes.
const LETTER_OVERHEAD: usize = 512;

/// Why a record is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// No version of this consumer can use it.
    Poison,
    /// Every attempt failed.
    Exhausted,
    /// The handler refused it for good.
    Rejected,
}

impl Disposition {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "POISON",
            Self::Exhausted => "EXHAUSTED",
            Self::Rejected => "REJECTED",
        }
    }
}

type Bytes = Box<[u8]>;

/// A record's key, bytes and headers, kept beyond the client's buffer.
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    key: Box<[u8]>,
    value: Option<Bytes>,
    headers: Vec<(Box<str>, Option<Bytes>)>,
}

impl From<&Record<'_>> for Raw {
    fn from(record: &Record<'_>) -> Self {
        let headers = record.headers.iter().map(|(name, value)| (name.into(), value.map(Into::into)));
        Self {
            key: record.key.unwrap_or_default().into(),
            value: record.value.map(Into::into),
            headers: headers.collect(),
        }
    }
}

/// How a record failed.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) disposition: Disposition,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) attempts: u32,
    pub(crate) first_failed_at: Millis,
}

/// A record on its way to the dead-letter topic.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) position: Position,
    pub(crate) epoch: Epoch,
    pub(crate) raw: Raw,
    pub(crate) failure: Failure,
}

impl Letter {
    /// What it counts for in the bound on letters that wait.
    pub(crate) fn bytes(&self) -> usize {
        let size = |value: &Option<Bytes>| value.as_ref().map_or(0, |value| value.len());
        let headers = self.raw.headers.iter().map(|(name, value)| name.len() + size(value)).sum::<usize>();
        LETTER_OVERHEAD + self.raw.key.len() + size(&self.raw.value) + headers
    }

    /// The headers it goes out with. What the record brought under our names is not trusted: only the two that
    /// survive a redrive are read, and replaced where they make no sense.
    fn headers(&self, from: &Buried) -> Vec<(&str, Option<Vec<u8>>)> {
        let Failure { disposition, reason, message, attempts, first_failed_at } = &self.failure;
        let brought = |name: &str| {
            let value = self.raw.headers.iter().find(|(header, _)| **header == *name);
            value.and_then(|(_, value)| value.as_deref()).and_then(|value| std::str::from_utf8(value).ok())
        };
        let first_failed_at = brought(header::FIRST_FAILED_AT)
            .and_then(|text| text.parse::<Millis>().ok())
            .map_or(*first_failed_at, |brought| brought.min(*first_failed_at));
        let redrives = brought(header::REDRIVE_COUNT)
            .and_then(|text| text.parse::<u32>().ok())
            .filter(|count| *count <= MOST_REDRIVES)
            .unwrap_or(0);
        let own = [
            (header::TOPIC, from.topic.name.to_owned()),
            (header::PARTITION, self.position.partition.to_string()),
            (header::OFFSET, self.position.offset.to_string()),
            (header::GROUP, from.group_id.clone()),
            (header::DELIVERY_COUNT, attempts.to_string()),
            (header::MESSAGE, message[..message.floor_char_boundary(MESSAGE_BYTES)].to_owned()),
            (header::ERROR_TYPE, (*reason).to_owned()),
            (header::DISPOSITION, disposition.as_str().to_owned()),
            (header::FIRST_FAILED_AT, first_failed_at.to_string()),
            (header::REDRIVE_COUNT, redrives.to_string()),
        ];
        let kept = self.raw.headers.iter().filter(|(name, _)| !header::ALL.contains(&&**name));
        let kept = kept.map(|(name, value)| (&**name, value.as_deref().map(<[u8]>::to_vec)));
        kept.chain(own.into_iter().map(|(name, value)| (name, Some(value.into_bytes())))).collect()
    }

    /// Without a key the place of a letter is that of its record.
    fn partition(&self, dead_letters: &Topic) -> Option<i32> {
        self.raw.key.is_empty().then(|| self.position.partition.rem_euclid(dead_letters.partitions))
    }
}

/// To the task that sends the letters.
#[derive(Debug)]
pub(crate) enum Order {
    Bury(Letter),
    /// These partitions belong to somebody else now, who will meet the same records.
    Withdraw(Vec<i32>),
}

/// What that task has to say.
#[derive(Debug)]
pub(crate) enum Burial {
    /// The letter is in the log.
    Done {
        position: Position,
        epoch: Epoch,
        bytes: usize,
        disposition: Disposition,
        reason: &'static str,
    },
    /// The dead-letter topic takes nothing.
    Down,
    Up,
}

/// Whose letters they are, and where they go.
pub(crate) struct Buried {
    pub(crate) topic: Topic,
    pub(crate) group_id: String,
    pub(crate) dead_letters: Topic,
}

/// Sends letters until the orders end; a letter is tried until it is reported or withdrawn.
pub(crate) async fn bury(
    mut orders: mpsc::UnboundedReceiver<Order>,
    producer: Producer,
    from: Buried,
    report: impl Fn(Burial) + Send,
) {
    let mut waiting: VecDeque<Letter> = VecDeque::new();
    let mut incoming = Vec::new();
    let mut failures = 0;
    loop {
        if waiting.is_empty() && orders.recv_many(&mut incoming, BULK).await == 0 {
            return;
        }
        while let Ok(order) = orders.try_recv() {
            incoming.push(order);
        }
        obey(&mut waiting, &mut incoming);
        let bulk: Vec<Letter> = waiting.drain(..waiting.len().min(BULK)).collect();
        let outcomes = send(&bulk, &producer, &from).await;
        let Some(problem) = sort(bulk, outcomes, &mut waiting, &report) else {
            if std::mem::take(&mut failures) > 0 {
                report(Burial::Up);
            }
            continue;
        };
        if failures == 0 {
            warn!(topic = from.dead_letters.name, problem, waiting = waiting.len(), "dead letters wait");
            report(Burial::Down);
        }
        failures += 1;
        let pause = RetryPolicy::until_up(failures, fastrand::f64());
        if !listen(&mut orders, &mut waiting, &mut incoming, pause).await {
            return;
        }
    }
}

/// Takes orders for that long; `false` when there will be no more.
async fn listen(
    orders: &mut mpsc::UnboundedReceiver<Order>,
    waiting: &mut VecDeque<Letter>,
    incoming: &mut Vec<Order>,
    pause: Duration,
) -> bool {
    let over = time::sleep(pause);
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => return true,
            count = orders.recv_many(incoming, BULK) => {
                if count == 0 {
                    return false;
                }
                obey(waiting, incoming);
            }
        }
    }
}

fn obey(waiting: &mut VecDeque<Letter>, incoming: &mut Vec<Order>) {
    for order in incoming.drain(..) {
        match order {
            Order::Bury(letter) => waiting.push_back(letter),
            Order::Withdraw(partitions) => waiting.retain(|letter| !partitions.contains(&letter.position.partition)),
        }
    }
}

/// What the broker says to each letter; nothing where the producer is closed.
async fn send(letters: &[Letter], producer: &Producer, from: &Buried) -> Vec<Result<Position, SendError>> {
    let headers: Vec<_> = letters.iter().map(|letter| letter.headers(from)).collect();
    let headers = headers.iter().map(|own| own.iter().map(|(name, value)| (*name, value.as_deref())));
    let headers: Vec<Vec<_>> = headers.map(Iterator::collect).collect();
    let records = letters.iter().zip(&headers).map(|(letter, headers)| OutboundRecord {
        topic: from.dead_letters.name,
        key: &letter.raw.key,
        value: letter.raw.value.as_deref(),
        headers,
        timestamp: None,
        partition: letter.partition(&from.dead_letters),
    });
    match producer.enqueue(records.collect::<Vec<_>>()).await {
        Ok(reports) => reports.await,
        Err(_) => Vec::new(),
    }
}

/// Reports what is in the log. What is not goes back to be sent first, except what the broker refused: that goes to
/// the end, so that the others do not wait for it. Why something is left, if something is.
fn sort(
    letters: Vec<Letter>,
    outcomes: Vec<Result<Position, SendError>>,
    waiting: &mut VecDeque<Letter>,
    report: &impl Fn(Burial),
) -> Option<&'static str> {
    let mut problem: Option<SendError> = None;
    let mut again = Vec::new();
    let outcomes = outcomes.into_iter().chain(std::iter::repeat(Err(SendError::Purged)));
    for (letter, outcome) in letters.into_iter().zip(outcomes) {
        match outcome {
            Ok(_) => report(Burial::Done {
                position: letter.position,
                epoch: letter.epoch,
                bytes: letter.bytes(),
                disposition: letter.failure.disposition,
                reason: letter.failure.reason,
            }),
            Err(SendError::AfterRefused) => {
                problem.get_or_insert(SendError::AfterRefused);
                again.push(letter);
            }
            Err(error) => {
                problem = Some(error);
                waiting.push_back(letter);
            }
        }
    }
    for letter in again.into_iter().rev() {
        waiting.push_front(letter);
    }
    problem.map(SendError::reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headwater_proto::topics;

    fn letter(headers: &[(&str, &[u8])], message: String) -> Letter {
        let position = Position { partition: 7, offset: 42 };
        let record = Record {
            topic: "user.events",
            position,
            timestamp: None,
            key: Some(b"ann"),
            value: Some(&[0xff, 0x00]),
            headers: crate::Headers::Slice(headers),
        };
        let failure = Failure {
            disposition: Disposition::Exhausted,
            reason: "channel_down",
            message,
            attempts: 4,
            first_failed_at: Millis::from_millis(1_768_473_000_000),
        };
        Letter { position, epoch: Epoch::default(), raw: Raw::from(&record), failure }
    }

    fn shown(letter: &Letter) -> Vec<(String, String)> {
        let headers = letter.headers(&Buried {
            topic: topics::USER_EVENTS,
            group_id: "analytics-consumer-group-blue".to_owned(),
            dead_letters: topics::ANALYTICS_DLQ,
        });
        headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()))
            .collect()
    }

    #[test]
    fn a_letter_says_from_where_and_why_beside_what_the_record_brought() {
        let letter = letter(&[("traceparent", b"00-ab"), ("traceparent", b"00-cd")], "gave up".to_owned());
        let expected = [
            ("traceparent", "00-ab"),
            ("traceparent", "00-cd"),
            ("__dlq.errors.topic", "user.events"),
            ("__dlq.errors.partition", "7"),
            ("__dlq.errors.offset", "42"),
            ("__dlq.errors.group", "analytics-consumer-group-blue"),
            ("__dlq.errors.delivery.count", "4"),
            ("__dlq.errors.message", "gave up"),
            ("x-error-type", "channel_down"),
            ("x-disposition", "EXHAUSTED"),
            ("x-first-failed-at", "2026-01-15T10:30:00.000Z"),
            ("x-redrive-count", "0"),
        ];
        assert_eq!(shown(&letter), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_second_hop_replaces_the_headers_of_the_first_and_believes_only_what_makes_sense() {
        let lies: &[(&[u8], &[u8], &str, &str)] = &[
            (b"3", b"2026-01-14T00:00:00.000Z", "3", "2026-01-14T00:00:00.000Z"),
            (b"-1", b"yesterday", "0", "2026-01-15T10:30:00.000Z"),
            (b"99999999999", b"2999-01-01T00:00:00.000Z", "0", "2026-01-15T10:30:00.000Z"),
            (b"\xff\xfe", b"\xff", "0", "2026-01-15T10:30:00.000Z"),
        ];
        for &(redrives, first, expected_redrives, expected_first) in lies {
            let brought: &[(&str, &[u8])] = &[
                ("x-redrive-count", redrives),
                ("x-first-failed-at", first),
                ("__dlq.errors.topic", b"elsewhere"),
                ("x-disposition", b"POISON"),
            ];
            let headers = shown(&letter(brought, String::new()));
            let values = |wanted: &str| -> Vec<&str> {
                headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str()).collect()
            };
            assert_eq!(values("x-redrive-count"), [expected_redrives]);
            assert_eq!(values("x-first-failed-at"), [expected_first]);
            assert_eq!(values("__dlq.errors.topic"), ["user.events"]);
            assert_eq!(values("x-disposition"), ["EXHAUSTED"]);
        }
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let headers = shown(&letter(&[], "ü".repeat(1_000)));
        let message = headers.iter().find(|(name, _)| name == header::MESSAGE).map(|(_, value)| value.len());
        assert_eq!(message, Some(1_024));
    }

    #[test]
    fn what_the_broker_refuses_does_not_hold_back_the_others() {
        let letters: Vec<Letter> = ["refused", "behind"].map(|text| letter(&[], text.to_owned())).into();
        let mut waiting = VecDeque::from([letter(&[], "new".to_owned())]);
        let refusal = SendError::Refused(rdkafka::types::RDKafkaErrorCode::MessageSizeTooLarge);
        let problem = sort(letters, vec![Err(refusal), Err(SendError::AfterRefused)], &mut waiting, &|_| ());
        assert_eq!(problem, Some("too_large"));
        let order: Vec<&str> = waiting.iter().map(|letter| letter.failure.message.as_str()).collect();
        assert_eq!(order, ["behind", "new", "refused"]);
    }
}
