//! What the benchmarks feed: batches of 1,000 records of 5,000 users; one event in twenty is late, one in a hundred a
//! duplicate.
use headwater_analytics::SessionEvent;
use headwater_proto::{EventId, EventType, Millis, UserId};
use headwater_stream::{Delivery, Position};

pub(crate) const BATCH: u64 = 1_000;
const USERS: u64 = 5_000;

pub(crate) fn event(number: u64) -> SessionEvent {
    use EventType::*;
    let number = if number % 100 == 99 { number - 7 } else { number };
    let (user, turn) = (number % USERS, number / USERS);
    let late = if number % 20 == 19 { 6 * 3_600_000 } else { 0 };
    SessionEvent {
        id: EventId::from_bytes(u128::from(number).to_be_bytes()),
        user_id: UserId::try_from(format!("user-{user:08}").as_str()).expect("is valid"),
        session_id: Some(format!("session-{user:08}-{}", turn / 10).into()),
        event_type: [UserLoggedIn, UserIpChanged, UserPasswordChanged, UserLoggedOut][(turn % 4) as usize],
        occurred_at: Millis::from_millis(1_768_000_000_000 + number as i64 * 200 - late),
    }
}

pub(crate) fn batch(first: u64) -> Vec<Delivery<SessionEvent>> {
    let delivery = |number| Delivery {
        position: Position { partition: 0, offset: number as i64 },
        trace: None,
        timestamp: None,
        attempt: 1,
        item: event(number),
    };
    (first..first + BATCH).map(delivery).collect()
}
