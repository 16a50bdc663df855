//! From the topic into the store.
use std::sync::Arc;

use headwater_otel::log_together;
use headwater_stream::{BatchHandler, Decoded, Delivery, Outcome, Poison, Record, Unavailable};
use tracing::info;

use crate::{event::ActivityEvent, store::Store};

/// Its eventId is in the store already.
const DUPLICATE: &str = "duplicate";

pub(crate) struct Handler(pub(crate) Store);

impl BatchHandler for Handler {
    type Item = Arc<ActivityEvent>;

    fn decode(record: &Record<'_>) -> Result<Decoded<Arc<ActivityEvent>>, Poison> {
        ActivityEvent::decode(record).map(Arc::new).map(Decoded::Item)
    }

    async fn apply(&mut self, batch: &[Delivery<Arc<ActivityEvent>>]) -> Result<Vec<Outcome>, Unavailable> {
        log_together(|| {
            for Delivery { item, .. } in batch {
                let ActivityEvent { id, user_id, event_type, .. } = &**item;
                info!(eventId = &*id.text(), userId = &**user_id, eventType = event_type, "consumed");
            }
        });
        let new = self.0.add(batch.iter().map(|delivery| delivery.item.clone()));
        Ok(new.into_iter().map(|new| if new { Outcome::Done } else { Outcome::Skip(DUPLICATE) }).collect())
    }
}
