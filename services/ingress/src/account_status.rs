//! How the ingress learns of verdicts: it reads them off the log, as group ingress-account-status-group.
use headwater_otel::{names, store_write};
use headwater_proto::{Detail, Event, EventType};
use headwater_stream::{BatchHandler, Decoded, Delivery, Outcome, Poison, Record, Unavailable, decode_event, headers};

use crate::users::{
    Status, Store,
    verdict::{self, Verdict},
};

const NOT_A_VERDICT: Decoded<Verdict> = Decoded::Skip("not_a_verdict");

/// Applies the verdicts of the fraud service to accounts, each at most once.
pub(crate) struct AccountStatus<S> {
    store: S,
}

impl<S: Store> AccountStatus<S> {
    pub(crate) fn new(store: S) -> Self {
        Self { store }
    }
}

impl<S: Store> BatchHandler for AccountStatus<S> {
    type Item = Verdict;

    /// Nearly every record says in a header that it is no verdict; then its value is not looked at. What it may have
    /// wrong is for the consumers that use it to find.
    fn decode(record: &Record<'_>) -> Result<Decoded<Verdict>, Poison> {
        let said = record.headers.get(headers::CE_TYPE).and_then(|said| str::from_utf8(said).ok());
        if said.and_then(EventType::parse).is_some_and(|said| !said.is_verdict()) {
            return Ok(NOT_A_VERDICT);
        }
        match decode_event(record)? {
            Decoded::Item(event) => verdict_of(event),
            Decoded::Skip(reason) => Ok(Decoded::Skip(reason)),
        }
    }

    async fn apply(&mut self, batch: &[Delivery<Verdict>]) -> Result<Vec<Outcome>, Unavailable> {
        let verdicts: Vec<Verdict> = batch.iter().map(|delivery| delivery.item.clone()).collect();
        let decide = |snapshot| verdict::decide(snapshot, &verdicts);
        let keys = verdict::keys(&verdicts);
        let outcomes = store_write(names::SPAN_WRITE_STATUS, self.store.transact(&keys, decide)).await;
        let outcomes = outcomes.map_err(|error| Unavailable { dependency: "users", source: error.into() })?;
        Ok(outcomes.into_iter().map(shown).collect())
    }
}

fn verdict_of(event: Event) -> Result<Decoded<Verdict>, Poison> {
    let status = match event.event_type {
        EventType::UserFlagged => Status::Flagged,
        EventType::UserPasswordResetRequired => Status::PasswordResetRequired,
        EventType::UserSuspended => Status::Suspended,
        _ => return Ok(NOT_A_VERDICT),
    };
    let Some(Detail::Verdict(detail)) = event.detail else {
        let message = format!("{} carries no verdict; without its status epoch it cannot be applied", event.event_type);
        return Err(Poison { reason: "no_verdict", message });
    };
    Ok(Decoded::Item(Verdict { id: event.id, user_id: event.user_id, status, epoch: detail.status_epoch }))
}

fn shown(outcome: verdict::Outcome) -> Outcome {
    match outcome {
        verdict::Outcome::Applied => Outcome::Done,
        verdict::Outcome::UnknownUser => Outcome::Skip("unknown_user"),
        verdict::Outcome::AlreadyApplied => Outcome::Skip("already_applied"),
        verdict::Outcome::StaleEpoch => Outcome::Skip("stale_epoch"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{event_id, now, user_id};
    use headwater_proto::v1::{self, EventEnvelope};
    use headwater_stream::{Headers, Position};
    use prost::Message;

    fn read(value: &[u8], said: Option<&str>) -> Result<Decoded<Verdict>, &'static str> {
        let headers: Vec<(&str, &[u8])> = said.iter().map(|said| (headers::CE_TYPE, said.as_bytes())).collect();
        let record = Record {
            topic: "user.events",
            position: Position { partition: 0, offset: 0 },
            timestamp: None,
            key: Some(b"ada"),
            value: Some(value),
            headers: Headers::Slice(&headers),
        };
        AccountStatus::<crate::SqliteStore>::decode(&record).map_err(|poison| poison.reason)
    }

    fn event(event_type: EventType, detail: Option<Detail>) -> EventEnvelope {
        EventEnvelope::from(Event {
            id: event_id(1),
            event_type,
            user_id: user_id("ada"),
            occurred_at: now(),
            received_at: now(),
            email: None,
            ip: None,
            user_agent: None,
            session_id: None,
            causation_id: None,
            correlation_id: None,
            source: "/fraud".into(),
            detail,
        })
    }

    fn detail() -> Option<Detail> {
        Some(Detail::Verdict(v1::Verdict { status_epoch: 7, ..Default::default() }))
    }

    fn taken(event_type: EventType) -> Decoded<Verdict> {
        let status = match event_type {
            EventType::UserFlagged => Status::Flagged,
            EventType::UserPasswordResetRequired => Status::PasswordResetRequired,
            EventType::UserSuspended => Status::Suspended,
            _ => return NOT_A_VERDICT,
        };
        Decoded::Item(Verdict { id: event_id(1), user_id: user_id("ada"), status, epoch: 7 })
    }

    #[test]
    fn only_verdicts_are_taken_with_or_without_headers_in_protobuf_or_json() {
        for event_type in EventType::ALL {
            let event = event(event_type, detail());
            let json = serde_json::to_vec(&event).unwrap();
            for value in [event.encode_to_vec(), json] {
                for said in [None, Some(event_type.as_str()), Some("user.of_tomorrow")] {
                    assert_eq!(read(&value, said), Ok(taken(event_type)), "{event_type} {said:?}");
                }
            }
        }
    }

    #[test]
    fn a_verdict_without_its_epoch_is_poison_and_what_says_that_it_is_none_is_not_looked_at() {
        let without = event(EventType::UserSuspended, None).encode_to_vec();
        for said in [None, Some("user.suspended"), Some("\u{fffd}")] {
            assert_eq!(read(&without, said), Err("no_verdict"));
            assert_eq!(read(b"\xff", said), Err("undecodable"));
        }
        assert_eq!(read(b"\xff", Some("user.logged_in")), Ok(NOT_A_VERDICT));
    }
}
