//! The service as a whole, on the store in memory.
mod batches;
mod digest;
mod grpc;
mod instance;
mod late;
mod law;
mod recounts;
mod troubled;

use std::sync::atomic::{AtomicU32, Ordering};

use headwater_documents::testing::TestDatabase;
use headwater_stream::{BatchHandler as _, Delivery, Outcome, Position, Unavailable};

use crate::{Config, Handler, MemoryStore, MongoStore, SessionEvent, Store, store::conformance};

#[tokio::test]
async fn the_store_in_memory_keeps_every_promise_of_the_port() {
    conformance::suite(async || MemoryStore::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_on_a_server_keeps_every_promise_of_the_port() {
    let database = TestDatabase::create().await;
    let number = AtomicU32::new(0);
    conformance::suite(async || {
        let suffix = format!("_{}", number.fetch_add(1, Ordering::Relaxed));
        MongoStore::open_beside(&database.documents, &suffix).await.expect("the server makes indexes")
    })
    .await;
    database.wipe().await;
}

fn handler<S: Store>(store: S) -> Handler<S> {
    Handler::new(store, Config::default().timeout().unwrap())
}

fn deliveries(events: &[SessionEvent]) -> Vec<Delivery<SessionEvent>> {
    let delivery = |(offset, item): (i64, &SessionEvent)| Delivery {
        position: Position { partition: 0, offset },
        trace: None,
        timestamp: None,
        attempt: 1,
        item: item.clone(),
    };
    (0..).zip(events).map(delivery).collect()
}

async fn apply<S: Store>(handler: &mut Handler<S>, events: &[SessionEvent]) -> Result<Vec<Outcome>, Unavailable> {
    handler.apply(&deliveries(events)).await
}
