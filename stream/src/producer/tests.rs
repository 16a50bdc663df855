use futures::FutureExt as _;
use headwater_proto::topics::USER_EVENTS;

use super::*;
use crate::{
    EmbeddedKafka, partition_for,
    testing::{embedded, read_topic},
};

/// For things that happen at once unless something is wrong.
const DEADLINE: Duration = Duration::from_secs(20);

fn record<'a>(key: &'a [u8], value: &'a [u8]) -> OutboundRecord<'a> {
    let value = Some(value);
    OutboundRecord { topic: USER_EVENTS.name, key, value, headers: &[], timestamp: None, partition: None }
}

async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: nothing within {DEADLINE:?}"))
}

async fn send(producer: &Producer, records: &[OutboundRecord<'_>]) -> Vec<Result<Position, SendError>> {
    let reports = in_time("enqueue", producer.enqueue(records.iter().copied())).await.unwrap();
    in_time("reports", reports).await
}

#[tokio::test(flavor = "multi_thread")]
async fn records_lie_in_the_order_of_the_calls_and_each_report_says_where() {
    let (_kafka, config) = embedded();
    let producer = Producer::open(&config, Patience::Waiting).unwrap();
    let values: Vec<String> = (0..3_000).map(|n| format!("{n:05}")).collect();
    let headers: &[(&str, Option<&[u8]>)] = &[("ce_type", Some(b"user.logged_in")), ("empty", Some(b""))];
    let mut calls = Vec::new();
    for call in values.chunks(700) {
        let records = call.iter().map(|value| OutboundRecord {
            headers,
            timestamp: Some(1_768_473_000_000),
            ..record(&value.as_bytes()[4..], value.as_bytes())
        });
        calls.push(producer.enqueue(records).await.unwrap());
    }
    let positions: Vec<Position> =
        in_time("reports", futures::future::join_all(calls)).await.into_iter().flatten().map(Result::unwrap).collect();

    let read = read_topic(&config, USER_EVENTS.name).await.unwrap();
    assert_eq!(read.len(), values.len());
    for (value, position) in values.iter().zip(&positions) {
        let record = read.iter().find(|record| record.position == *position).unwrap();
        assert_eq!(record.value.as_deref(), Some(value.as_bytes()));
        assert_eq!(record.key.as_deref(), Some(&value.as_bytes()[4..]));
        assert_eq!(record.timestamp, Some(1_768_473_000_000));
        assert_eq!((record.header("ce_type"), record.header("empty")), (Some(&b"user.logged_in"[..]), Some(&b""[..])));
    }
    for pair in read.windows(2).filter(|pair| pair[0].position.partition == pair[1].position.partition) {
        assert!(pair[0].value < pair[1].value, "{:?} lies before {:?}", pair[0].value, pair[1].value);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_lands_in_the_partition_that_partition_for_names() {
    let (_kafka, config) = embedded();
    let producer = Producer::open(&config, Patience::Waiting).unwrap();
    let mut keys: Vec<String> = ["kafka", "giberish123456789", "1234"].map(str::to_owned).to_vec();
    keys.extend((0..200).map(|n| format!("user-{n}-ä")));
    let records: Vec<OutboundRecord<'_>> = keys.iter().map(|key| record(key.as_bytes(), b"v")).collect();
    for (key, report) in keys.iter().zip(send(&producer, &records).await) {
        assert_eq!(report.unwrap().partition, partition_for(key.as_bytes(), USER_EVENTS.partitions), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_stops_its_call_and_no_other() {
    let (_kafka, config) = embedded();
    let producer = Producer::open(&config, Patience::Waiting).unwrap();
    let huge = vec![b'x'; crate::kafka::LETTER_MAX_BYTES + 1];
    for (refused, reason) in [(record(b"", b"v"), "empty_key"), (record(b"k", &huge), "too_large")] {
        let reports = send(&producer, &[record(b"a", b"1"), refused, record(b"a", b"2")]).await;
        assert!(reports[0].is_ok(), "{reports:?}");
        assert_eq!(reports[1].unwrap_err().reason(), reason);
        assert_eq!(reports[2], Err(SendError::AfterRefused));
    }
    assert!(send(&producer, &[record(b"a", b"3")]).await[0].is_ok());
    assert!(send(&producer, &[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_budget_holds_whoever_can_wait_and_refuses_who_cannot() {
    let (kafka, config) = embedded();
    let producer = Producer::with_budget(&config, Patience::Forever, 10_000).unwrap();
    kafka.go_down();
    let value = vec![b'v'; 4_000];
    let first = producer.enqueue([record(b"a", &value), record(b"a", &value)]).await.unwrap();
    assert_eq!(producer.try_enqueue(&[record(b"a", &value)]).unwrap().unwrap_err(), Full);
    let mut third = Box::pin(producer.enqueue([record(b"a", b"3"), record(b"a", &value)]));
    assert!(third.as_mut().now_or_never().is_none(), "8,256 of 10,000 bytes are taken");
    assert_eq!(producer.try_enqueue(&[record(b"a", b"4")]).unwrap().unwrap_err(), Full, "somebody is before us");

    kafka.come_back();
    let offsets = |reports: Vec<Result<Position, SendError>>| -> Vec<i64> {
        reports.into_iter().map(|report| report.unwrap().offset).collect()
    };
    assert_eq!(offsets(in_time("the first", first).await), [0, 1]);
    let third = in_time("room", third).await.unwrap();
    assert_eq!(offsets(in_time("the third", third).await), [2, 3]);
    let fourth = producer.try_enqueue(&[record(b"a", b"4")]).unwrap().unwrap();
    assert_eq!(offsets(in_time("the fourth", fourth).await), [4]);
    assert_eq!(producer.inner.budget.available_permits(), 10_000, "everything was given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn purging_reports_at_once_and_the_next_record_gets_a_fresh_client() {
    let (kafka, config) = embedded();
    let producer = Producer::with_budget(&config, Patience::Forever, 10_000).unwrap();
    kafka.go_down();
    let value = vec![b'v'; 8_000];
    let sent = producer.enqueue([record(b"a", b"1"), record(b"a", &value)]).await.unwrap();
    let mut waiting = Box::pin(producer.enqueue([record(b"a", b"2"), record(b"a", &value)]));
    assert!(waiting.as_mut().now_or_never().is_none());
    producer.purge();
    assert_eq!(sent.now_or_never().unwrap(), [Err(SendError::Purged); 2]);
    let overtaken = in_time("the waiting call", waiting).await.unwrap();
    assert_eq!(overtaken.now_or_never().unwrap(), [Err(SendError::Purged); 2], "it began before the purge");
    assert_eq!((producer.in_flight(), producer.inner.budget.available_permits()), (0, 10_000));

    kafka.come_back();
    assert!(send(&producer, &[record(b"a", b"again")]).await[0].is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_record_that_failed_nothing_is_written_until_somebody_asks_again() {
    let (kafka, config) = embedded();
    let producer = Producer::open(&config, Patience::Forever).unwrap();
    assert!(send(&producer, &[record(b"a", b"0")]).await[0].is_ok());
    kafka.refuse_next_produce();
    let mut calls = Vec::new();
    for value in [b"1", b"2", b"3"] {
        calls.push(producer.enqueue([record(b"a", value)]).await.unwrap());
    }
    let reports = in_time("reports", futures::future::join_all(calls)).await.concat();
    assert!(reports.iter().all(Result::is_err), "{reports:?}");
    assert!(matches!(producer.enqueue([record(b"a", b"early")]).await, Err(Error::Broken)));
    assert!(matches!(producer.try_enqueue(&[record(b"a", b"early")]), Err(Error::Broken)));
    producer.purge();
    assert!(send(&producer, &[record(b"a", b"4")]).await[0].is_ok(), "a fresh client");
    let values: Vec<_> =
        read_topic(&config, USER_EVENTS.name).await.unwrap().into_iter().map(|r| r.value.unwrap()).collect();
    assert_eq!(values, [b"0", b"4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_delivers_what_is_in_flight_and_says_what_it_could_not() {
    let (kafka, config) = embedded();
    let producer = Producer::open(&config, Patience::Forever).unwrap();
    let other = producer.clone();
    let reports = producer.enqueue([record(b"a", b"1")]).await.unwrap();
    in_time("close", producer.close(DEADLINE)).await.unwrap();
    assert!(reports.now_or_never().unwrap()[0].is_ok());
    assert!(matches!(other.enqueue([record(b"a", b"2")]).await, Err(Error::Closed)));

    let producer = Producer::open(&config, Patience::Forever).unwrap();
    kafka.go_down();
    let reports = producer.enqueue([record(b"a", b"1"), record(b"b", b"2")]).await.unwrap();
    let closed = in_time("close", producer.close(Duration::from_millis(200))).await;
    assert!(matches!(closed, Err(Error::Undelivered { unsent: 2 })), "{closed:?}");
    assert_eq!(reports.now_or_never().unwrap(), [Err(SendError::Purged); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_to_the_embedded_broker_counts_as_backlog_until_it_is_read() {
    let kafka = EmbeddedKafka::start(&[USER_EVENTS]).unwrap();
    let positions = crate::Positions::new();
    kafka.backlog().register(positions.clone());
    let producer = Producer::open(&kafka.config(), Patience::Forever).unwrap();
    let report = send(&producer, &[record(b"a", &[b'v'; 1_000])]).await[0];
    let Position { partition, offset } = report.unwrap();
    assert!((1_000..1_500).contains(&kafka.backlog().outstanding(partition)));
    positions.advance(partition, offset + 1);
    assert_eq!(kafka.backlog().outstanding(partition), 0);
}
