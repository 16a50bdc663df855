//! How many events a second one instance decides on, with its profiles in memory and on a server:
//! `HEADWATER_TEST_MONGODB_URI=... cargo bench -p headwater-fraud --bench rates -- [events into the server]`.
//! Batches are of 1,000 records of 5,000 users, half a minute between two of a user; one user in twenty is taken over.
use std::{
    env,
    io::{self, Write as _},
    sync::Arc,
    time::{Duration, Instant},
};

use headwater_documents::testing::TestDatabase;
use headwater_fraud::{Arrival, Handler, MemoryStore, MongoStore, Rules, Silent, Store};
use headwater_proto::{Event, EventId, EventType, Millis, UserId};
use headwater_stream::{BatchHandler as _, Delivery, Position, SystemClock};

const BATCH: u64 = 1_000;
const USERS: u64 = 5_000;
const INTO_MEMORY: u64 = 1_000_000;

fn event(number: u64) -> Event {
    use EventType::*;
    let (user, turn) = (number % USERS, number / USERS);
    let turns = if user % 20 == 0 {
        [UserPasswordChanged, UserIpChanged, UserLoggedIn, UserLoggedOut]
    } else {
        [UserLoggedIn, UserLoginFailed, UserIpChanged, UserLoggedOut]
    };
    let event_type = turns[(turn % 4) as usize];
    let at = Millis::from_millis(1_768_000_000_000 + turn as i64 * 30_000 + user as i64);
    Event {
        id: EventId::from_bytes(u128::from(number).to_be_bytes()),
        event_type,
        user_id: UserId::try_from(format!("user-{user:08}").as_str()).expect("is valid"),
        occurred_at: at,
        received_at: at,
        email: Some(format!("user-{user:08}@example.com")),
        ip: (event_type == UserIpChanged).then(|| format!("198.51.100.{}", turn % 8 / 4)),
        user_agent: None,
        session_id: None,
        causation_id: None,
        correlation_id: None,
        source: "/ingress".into(),
        detail: None,
    }
}

fn batch(first: u64) -> Vec<Delivery<Arrival>> {
    let delivery = |number| Delivery {
        position: Position { partition: 0, offset: number as i64 },
        trace: None,
        timestamp: None,
        attempt: 1,
        item: Arrival { event: event(number), trace_state: None },
    };
    (first..first + BATCH).map(delivery).collect()
}

async fn decided<S: Store>(events: u64, store: S) -> Duration {
    let mut handler = Handler::new(store, Silent, Arc::new(SystemClock), Rules::default());
    let mut busy = Duration::ZERO;
    for first in (0..events).step_by(BATCH as usize) {
        let batch = batch(first);
        let start = Instant::now();
        handler.apply(&batch).await.expect("the store answers");
        busy += start.elapsed();
    }
    busy
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let into_server = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(20_000);
    let database = TestDatabase::create().await;
    let server = MongoStore::open(&database.documents).await.expect("the server makes indexes");
    for (events, where_to, busy) in [
        (INTO_MEMORY, "in memory", decided(INTO_MEMORY, MemoryStore::new()).await),
        (into_server, "on the server", decided(into_server, server).await),
    ] {
        let rate = events as f64 / busy.as_secs_f64();
        writeln!(io::stdout(), "{events} events {where_to} in {busy:.2?}: {rate:.0}/s")?;
    }
    database.wipe().await;
    Ok(())
}
