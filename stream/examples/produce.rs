//! How fast records go through a `Producer`, report included: to KAFKA_BROKERS, or to the embedded broker without it.
//!
//!     cargo run --release -p headwater-stream --example produce -- [records] [value bytes]
#![allow(clippy::print_stdout)]
use std::{collections::VecDeque, env, time::Instant};

use headwater_proto::topics::USER_EVENTS;
use headwater_stream::{
    EmbeddedKafka, KafkaConfig, OutboundRecord, Patience, Producer, Reports, apply_topics, partition_for,
};

/// Records per call, as the relay has them, and calls that wait for their reports at a time.
const CALL: usize = 500;
const CALLS_IN_FLIGHT: usize = 64;
const USERS: usize = 10_000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = |n, default| env::args().nth(n).map_or(Ok(default), |text| text.parse::<usize>());
    let (records, bytes) = (argument(1, 1_000_000)?, argument(2, 200)?);
    let embedded;
    let kafka = match env::var("KAFKA_BROKERS") {
        Ok(brokers) => KafkaConfig::new(brokers),
        Err(_) => {
            embedded = EmbeddedKafka::start(&[USER_EVENTS])?;
            embedded.config()
        }
    };
    for (topic, applied) in apply_topics(&kafka, &[USER_EVENTS]).await? {
        println!("{}: {applied:?}", topic.name);
    }

    let producer = Producer::open(&kafka, Patience::Forever)?;
    let keys: Vec<String> = (0..USERS).map(|user| format!("user-{user:06}")).collect();
    let value: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
    let headers: [(&str, &[u8]); 10] = [
        ("content-type", b"application/protobuf"),
        ("ce_specversion", b"1.0"),
        ("ce_dataschema", b"urn:protobuf:headwater.v1.EventEnvelope"),
        ("ce_id", b"0190b6c5-6d0e-7c3a-9f0e-1f2d3c4b5a69"),
        ("ce_source", b"/ingress"),
        ("ce_type", b"user.logged_in"),
        ("ce_time", b"2026-01-15T10:30:00.000Z"),
        ("ce_recordedtime", b"2026-01-15T10:30:01.000Z"),
        ("ce_subject", b"user-000000"),
        ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ];
    let headers = headers.map(|(name, value)| (name, Some(value)));
    let began = Instant::now();
    let mut waiting: VecDeque<Reports> = VecDeque::new();
    let mut sent = 0;
    while sent < records {
        let call: Vec<OutboundRecord<'_>> = (sent..records.min(sent + CALL))
            .map(|n| &keys[n % USERS])
            .map(|key| OutboundRecord {
                topic: USER_EVENTS.name,
                key: key.as_bytes(),
                value: Some(&value),
                headers: &headers,
                timestamp: Some(1_768_473_000_000),
                partition: Some(partition_for(key.as_bytes(), USER_EVENTS.partitions)),
            })
            .collect();
        sent += call.len();
        waiting.push_back(producer.enqueue(call).await?);
        if waiting.len() >= CALLS_IN_FLIGHT {
            reported(waiting.pop_front()).await?;
        }
    }
    while !waiting.is_empty() {
        reported(waiting.pop_front()).await?;
    }
    let took = began.elapsed();
    println!("{records} records of {bytes} bytes in {took:.2?}: {:.0} records/s", records as f64 / took.as_secs_f64());
    producer.close(std::time::Duration::from_secs(10)).await?;
    Ok(())
}

async fn reported(reports: Option<Reports>) -> Result<(), headwater_stream::SendError> {
    let Some(reports) = reports else { return Ok(()) };
    reports.await.into_iter().try_for_each(|report| report.map(drop))
}
