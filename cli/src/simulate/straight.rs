//! Repeats that do not pass the ingress: the same event once more on user.events, under the same key.
use headwater_proto::{Detail, Event, EventType, Millis, UserId, topics, v1};
use headwater_stream::{Clock, OutboundRecord, Patience, Producer, SystemClock, headers};
use prost::Message as _;
use std::time::Duration;

use crate::{Error, Target, verify::Fact};

const LAST_WORDS: Duration = Duration::from_secs(20);

/// Returns when each is in the log.
pub(crate) async fn write(target: &Target, facts: &[&Fact]) -> Result<(), Error> {
    let events: Vec<Event> = facts.iter().map(|fact| event(fact)).collect::<Result<_, _>>()?;
    let told: Vec<_> = events.iter().map(|event| headers::cloud_event(event, None, None)).collect();
    let told: Vec<Vec<_>> =
        told.iter().map(|headers| headers.iter().map(|(name, value)| (name, Some(value))).collect()).collect();
    let values: Vec<Vec<u8>> =
        events.iter().map(|event| v1::EventEnvelope::from(event.clone()).encode_to_vec()).collect();
    let records = events.iter().zip(&told).zip(&values).map(|((event, headers), value)| OutboundRecord {
        topic: topics::USER_EVENTS.name,
        key: event.user_id.as_bytes(),
        value: Some(value),
        headers,
        timestamp: Some(event.received_at.as_millis()),
        partition: None,
    });
    let producer = Producer::open(&target.kafka(), Patience::Waiting)?;
    let records: Vec<_> = records.collect();
    let reports = producer.enqueue(records).await?.await;
    producer.close(LAST_WORDS).await?;
    match reports.into_iter().find_map(Result::err) {
        Some(error) => Err(Error::unreachable("a repeat could not be written to user.events", error)),
        None => Ok(()),
    }
}

fn event(fact: &Fact) -> Result<Event, Error> {
    let invalid = |what: &str| Error::Failed(format!("the journal's event {} has no valid {what}", fact.event_id));
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let failure = v1::LoginFailure { consecutive_failures: fact.failures };
    Ok(Event {
        id: fact.event_id.parse().map_err(|_| invalid("id"))?,
        event_type: EventType::parse(&fact.event_type).ok_or_else(|| invalid("type"))?,
        user_id: UserId::try_from(fact.user_id.as_str()).map_err(|_| invalid("user id"))?,
        occurred_at: Millis::from_millis(fact.occurred_at),
        received_at: SystemClock.now(),
        email: some(&fact.email),
        ip: some(&fact.ip),
        user_agent: None,
        session_id: some(&fact.session_id),
        causation_id: None,
        correlation_id: None,
        source: "/ingress".to_owned(),
        detail: (fact.failures > 0).then_some(Detail::LoginFailure(failure)),
    })
}
