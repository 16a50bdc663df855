//! How many events a second one instance turns into documents in memory: `cargo bench -p headwater-analytics`.
//! Batches of 1,000 records of 5,000 users; one event in twenty is late, one in a hundred a duplicate.
use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use headwater_analytics::{Config, Handler, MemoryStore, SessionEvent, Timeout};
use headwater_proto::{EventId, EventType, Millis, UserId};
use headwater_stream::{BatchHandler as _, Delivery, Position};

const EVENTS: u64 = 1_000_000;
const BATCH: u64 = 1_000;
const USERS: u64 = 5_000;

fn event(number: u64) -> SessionEvent {
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

fn batch(first: u64) -> Vec<Delivery<SessionEvent>> {
    let delivery = |number| Delivery {
        position: Position { partition: 0, offset: number as i64 },
        trace: None,
        timestamp: None,
        attempt: 1,
        item: event(number),
    };
    (first..first + BATCH).map(delivery).collect()
}

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let store = MemoryStore::new();
    let timeout = Timeout::new(Config::default().session_timeout).expect("the default is valid");
    let mut handler = Handler::new(store, timeout);
    let mut busy = Duration::ZERO;
    for first in (0..EVENTS).step_by(BATCH as usize) {
        let batch = batch(first);
        let start = Instant::now();
        runtime.block_on(handler.apply(&batch)).expect("memory is always there");
        busy += start.elapsed();
    }
    let rate = EVENTS as f64 / busy.as_secs_f64();
    writeln!(io::stdout(), "{EVENTS} events in {busy:.2?}: {rate:.0} events/s")
}
