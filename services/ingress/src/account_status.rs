//! How the ingress learns of verdicts: it reads them off the log, as group ingress-account-status-group.
use headwater_otel::{names, store_write};
use headwater_proto::{Detail, Event, EventType};
use headwater_stream::{BatchHandler, Decoded, Delivery, Outcome, Poison, Record, Unavailable, decode_event};

use crate::users::{
    Status, Store,
    verdict::{self, Verdict},
};

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

    fn decode(record: &Record<'_>) -> Result<Decoded<Verdict>, Poison> {
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
        _ => return Ok(Decoded::Skip("not_a_verdict")),
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

    fn decoded(event_type: EventType, detail: Option<Detail>) -> Result<Decoded<Verdict>, &'static str> {
        let event = Event {
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
        };
        let value = EventEnvelope::from(event).encode_to_vec();
        let record = Record {
            topic: "user.events",
            position: Position { partition: 0, offset: 0 },
            timestamp: None,
            key: Some(b"ada"),
            value: Some(&value),
            headers: Headers::Slice(&[]),
        };
        AccountStatus::<crate::SqliteStore>::decode(&record).map_err(|poison| poison.reason)
    }

    #[test]
    fn only_verdicts_are_taken_and_one_without_its_epoch_is_poison() {
        let detail = || Some(Detail::Verdict(v1::Verdict { status_epoch: 7, ..Default::default() }));
        for event_type in EventType::ALL {
            let expected = match event_type {
                EventType::UserFlagged => Some(Status::Flagged),
                EventType::UserPasswordResetRequired => Some(Status::PasswordResetRequired),
                EventType::UserSuspended => Some(Status::Suspended),
                _ => None,
            };
            let expected = match expected {
                Some(status) => Decoded::Item(Verdict { id: event_id(1), user_id: user_id("ada"), status, epoch: 7 }),
                None => Decoded::Skip("not_a_verdict"),
            };
            assert_eq!(decoded(event_type, detail()), Ok(expected));
        }
        assert_eq!(decoded(EventType::UserSuspended, None), Err("no_verdict"));
    }
}
