use headwater_proto::{
    EventType::{UserFlagged, UserIpChanged, UserLoggedIn, UserPasswordChanged},
    v1::EventEnvelope,
};
use headwater_stream::{FixedClock, Headers};
use prost::Message;

use super::*;
use crate::{
    MemoryStore,
    decide::ALREADY_APPLIED,
    testing::{Announced, Faults, Faulty, at, delivery, event, id, ip_changed, user},
};

type Tested<S = MemoryStore> = Handler<S, Announced, FixedClock>;

fn handler<S: Store>(store: &S, announced: &Announced) -> Tested<S> {
    Handler::new(store.clone(), announced.clone(), FixedClock::at(at(1_000)), Rules::default())
}

fn takeover() -> Vec<Delivery<Arrival>> {
    let log = [
        event(1, UserPasswordChanged, at(0)),
        ip_changed(2, at(1), "10.0.0.1"),
        event(3, UserLoggedIn, at(2)),
        event(4, UserLoggedIn, at(3)),
    ];
    log.into_iter().enumerate().map(|(offset, event)| delivery(offset as i64, event)).collect()
}

#[test]
fn verdicts_are_told_apart_by_their_source_and_never_folded() {
    let decoded = |event: Event, headers: &[(&str, &[u8])]| {
        let (key, value) = (event.user_id.clone(), EventEnvelope::from(event).encode_to_vec());
        let record = Record {
            topic: "user.events",
            position: Position { partition: 0, offset: 0 },
            timestamp: None,
            key: Some(key.as_bytes()),
            value: Some(&value),
            headers: Headers::Slice(headers),
        };
        Tested::<MemoryStore>::decode(&record).unwrap()
    };
    let flagged = event(1, UserFlagged, at(0));
    let own = Event { source: SOURCE.into(), ..flagged.clone() };
    assert_eq!(decoded(own, &[]), Decoded::Skip(OWN_VERDICT));
    assert_eq!(decoded(flagged, &[]), Decoded::Skip(FOREIGN_VERDICT));

    let login = event(1, UserLoggedIn, at(0));
    let arrival =
        |trace_state: Option<&str>| Arrival { event: login.clone(), trace_state: trace_state.map(Into::into) };
    assert_eq!(decoded(login.clone(), &[]), Decoded::Item(arrival(None)));
    assert_eq!(decoded(login.clone(), &[("tracestate", b"vendor=1")]), Decoded::Item(arrival(Some("vendor=1"))));
    assert_eq!(decoded(login.clone(), &[("tracestate", &[b'x'; 513])]), Decoded::Item(arrival(None)));
}

#[tokio::test]
async fn a_verdict_tells_where_it_comes_from() {
    let announced = Announced::default();
    let mut batch = takeover();
    let trace = TraceContext::root();
    batch[2].trace = Some(trace);
    batch[2].item.trace_state = Some("vendor=1".into());
    let trigger = &mut batch[2].item.event;
    trigger.email = Some("ada@example.com".into());
    trigger.correlation_id = Some("c1".into());
    let outcomes = handler(&MemoryStore::new(), &announced).apply(&batch).await.unwrap();
    assert_eq!(outcomes, [Outcome::Done; 4]);

    let verdicts = announced.verdicts();
    assert_eq!(verdicts.len(), 2);
    for (verdict, kind) in verdicts.iter().zip(["user.flagged", "user.password_reset_required"]) {
        let event = &verdict.event;
        assert_eq!((event.event_type.as_str(), event.id), (kind, id(3).derive(kind)));
        assert_eq!((&event.user_id, event.occurred_at, event.received_at), (&user("ada"), at(2), at(1_000)));
        assert_eq!((event.causation_id, event.source.as_str()), (Some(id(3)), "/fraud"));
        assert_eq!((event.email.as_deref(), event.correlation_id.as_deref()), (Some("ada@example.com"), Some("c1")));
        assert!(matches!(&event.detail, Some(headwater_proto::Detail::Verdict(verdict)) if verdict.score == 50));
        let continued = verdict.trace.unwrap();
        assert_eq!((continued.trace_id, verdict.trace_state.as_deref()), (trace.trace_id, Some("vendor=1")));
        assert_ne!(continued.span_id, trace.span_id);
    }
}

#[tokio::test]
async fn a_verdict_is_never_received_before_its_trigger() {
    let announced = Announced::default();
    let mut batch = takeover();
    batch[2].item.event.received_at = at(2_000);
    handler(&MemoryStore::new(), &announced).apply(&batch).await.unwrap();
    assert_eq!(announced.verdicts()[0].event.received_at, at(2_000), "the clock here is behind the ingress");
}

#[tokio::test]
async fn who_finds_a_profile_moved_on_starts_again_from_it() {
    let (store, announced) = (MemoryStore::new(), Announced::default());
    let (mut zombie, mut owner) = (handler(&store, &announced), handler(&store, &announced));
    let batch = takeover();
    zombie.apply(&batch[..1]).await.unwrap();
    owner.apply(&batch[..3]).await.unwrap();

    let mut other = delivery(9, Event { user_id: user("bob"), ..event(9, UserIpChanged, at(0)) });
    other.position.partition = 1;
    let behind: Vec<_> = [&batch[1], &other, &batch[2], &batch[3]].into_iter().cloned().collect();
    let outcomes = zombie.apply(&behind).await.unwrap();
    let known = Outcome::Skip(ALREADY_APPLIED);
    assert_eq!(outcomes, [known, Outcome::Done, known, Outcome::Done]);
    assert_eq!(store.reports(None, None, 9).await.unwrap().len(), 2);
    let ids: HashSet<_> = announced.verdicts().iter().map(|verdict| verdict.event.id).collect();
    assert_eq!((announced.verdicts().len(), ids.len()), (4, 2), "a zombie repeats verdicts, and invents none");
    let stored = store.profiles(&[user("ada")]).await.unwrap();
    assert_eq!(stored[0].1.position, Some(batch[3].position));
}

#[tokio::test]
async fn a_profile_is_read_once_per_assignment() {
    let faults = Faults::default();
    let store = Faulty::new(MemoryStore::new(), &faults);
    let mut handler = handler(&store, &Announced::default());
    let batch = takeover();
    handler.apply(&batch[..1]).await.unwrap();
    handler.apply(&batch[1..2]).await.unwrap();
    assert_eq!(faults.called("profiles"), 1);
    handler.revoked(&[1]);
    handler.apply(&batch[2..3]).await.unwrap();
    assert_eq!(faults.called("profiles"), 1, "another partition was revoked");
    handler.revoked(&[0]);
    handler.apply(&batch[3..]).await.unwrap();
    assert_eq!(faults.called("profiles"), 2);
}

#[tokio::test]
async fn what_changes_nothing_writes_nothing() {
    let faults = Faults::default();
    let store = Faulty::new(MemoryStore::new(), &faults);
    let mut handler = handler(&store, &Announced::default());
    let batch = takeover();
    handler.apply(&batch).await.unwrap();
    let writes = || faults.called("save") + faults.called("record");
    let before = writes();
    assert_eq!(handler.apply(&batch).await.unwrap(), [Outcome::Skip(ALREADY_APPLIED); 4]);
    assert_eq!(writes(), before);
}
