//! How many events a second one instance turns into documents on a server, and beside it how many documents a second
//! the bare driver upserts there, in bulks of 1,000 and as many bulks at once as the adapter has updates:
//! `HEADWATER_TEST_MONGODB_URI=... cargo bench -p headwater-analytics --bench documents -- [events]`.
mod traffic;

use std::{
    env,
    io::{self, Write as _},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use headwater_analytics::{Config, Handler, MongoStore, Timeout};
use headwater_documents::testing::TestDatabase;
use headwater_stream::BatchHandler as _;
use mongodb::{
    Client,
    bson::{Bson, DateTime, Document, doc},
};

use traffic::{BATCH, batch, event};

/// What the shared crate lets run at once.
const AT_ONCE: usize = 4;

fn upsert(number: u64) -> Document {
    let event = event(number);
    let fields = doc! {
        "userId": event.user_id.as_str(),
        "sessionId": event.session_id.as_deref(),
        "eventType": event.event_type.as_str(),
        "occurredAt": DateTime::from_millis(event.occurred_at.as_millis()),
    };
    doc! { "q": { "_id": format!("{number:036}") }, "u": { "$setOnInsert": fields }, "upsert": true, "multi": true }
}

async fn adapter(events: u64) -> Duration {
    let database = TestDatabase::create().await;
    let store = MongoStore::open(&database.documents).await.expect("the server makes indexes");
    let timeout = Timeout::new(Config::default().session_timeout).expect("the default is valid");
    let mut handler = Handler::new(store, timeout);
    let mut busy = Duration::ZERO;
    for first in (0..events).step_by(BATCH as usize) {
        let batch = batch(first);
        let start = Instant::now();
        handler.apply(&batch).await.expect("the server answers");
        busy += start.elapsed();
    }
    database.wipe().await;
    busy
}

async fn bare_driver(documents: u64) -> mongodb::error::Result<Duration> {
    let uri = env::var("HEADWATER_TEST_MONGODB_URI").expect("the adapter was measured on it");
    let database = Client::with_uri_str(uri).await?.database(&format!("headwater_bench_{}", std::process::id()));
    let bulks: Vec<Document> = (0..documents)
        .step_by(BATCH as usize)
        .map(|first| {
            let updates: Vec<Bson> = (first..first + BATCH).map(|number| upsert(number).into()).collect();
            doc! { "update": "facts", "updates": updates, "ordered": false, "writeConcern": { "w": "majority", "j": true } }
        })
        .collect();
    database.create_collection("facts").await?;
    let start = Instant::now();
    let bulks = stream::iter(bulks).map(async |bulk| database.run_command(bulk).await.map(drop));
    bulks.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let busy = start.elapsed();
    database.drop().await?;
    Ok(busy)
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let events = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(20_000);
    for (what, busy) in [
        ("events by the adapter", adapter(events).await),
        ("documents by the bare driver", bare_driver(events).await.expect("the server answers")),
    ] {
        let rate = events as f64 / busy.as_secs_f64();
        writeln!(io::stdout(), "{events} {what} in {busy:.2?}: {rate:.0}/s")?;
    }
    Ok(())
}
