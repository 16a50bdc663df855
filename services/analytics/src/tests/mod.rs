//! The service as a whole, on the store in memory.
mod batches;
mod grpc;
mod instance;
mod law;
mod recounts;
mod troubled;

use headwater_stream::{BatchHandler as _, Delivery, Outcome, Position, Unavailable};

use crate::{Config, Handler, MemoryStore, SessionEvent, Store, store::conformance};

#[tokio::test]
async fn the_store_in_memory_keeps_every_promise_of_the_port() {
    conformance::suite(async || MemoryStore::new()).await;
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
