//! Several instances share the relay.
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use headwater_proto::topics::USER_EVENTS;
use headwater_stream::{
    KafkaConfig, SystemClock,
    testing::{embedded, read_topic},
};
use tokio::{runtime::Runtime, sync::oneshot, task::JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    CONNECTIONS, Database,
    faults::{failure, insist},
    until,
};
use crate::{
    Api, Config, Ingress, PostgresStore,
    outbox::{Lease, Outbox, SentRow},
    relay,
};

/// Lanes and relay of one instance on threads of their own, which can die in the middle of anything.
struct Instance {
    runtime: Runtime,
    api: Api<PostgresStore>,
    shutdown: CancellationToken,
    ended: oneshot::Receiver<()>,
}

impl Instance {
    async fn start(database: &Database, kafka: KafkaConfig) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (url, shutdown, (done, ended)) = (database.url.clone(), CancellationToken::new(), oneshot::channel());
        let stop = shutdown.clone();
        let starting = runtime.spawn(async move {
            let store = PostgresStore::open_with(&url, CONNECTIONS).await.unwrap();
            let ingress = Ingress::open(Config::default(), store.clone(), Arc::new(SystemClock)).await.unwrap();
            let (api, committed) = (ingress.api(), ingress.committed.clone());
            for lane in ingress.workers {
                tokio::spawn(lane.run(CancellationToken::new()));
            }
            tokio::spawn(async move {
                Box::pin(relay::run(store, kafka, SystemClock, committed, stop)).await.unwrap();
                let _ = done.send(());
            });
            api
        });
        let api = starting.await.unwrap();
        Self { runtime, api, shutdown, ended }
    }

    /// Nothing is finished, given back or said.
    fn kill(self) {
        self.runtime.shutdown_background();
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.ended.await.unwrap();
        self.runtime.shutdown_background();
    }
}

/// How many shards each owner has, at this moment.
async fn shares(database: &Database) -> Vec<i64> {
    const SHARES: &str = "SELECT count(*) FROM outbox_shards WHERE owner IS NOT NULL AND expires_at > now() \
        GROUP BY owner ORDER BY 1";
    database.column(SHARES).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shards_of_a_killed_instance_move_and_the_log_has_what_was_accepted_in_order() {
    const USERS: u32 = 24;
    const EVENTS: u32 = 120;
    let database = Database::create().await;
    let (_broker, kafka) = embedded();
    let one = Instance::start(&database, kafka.clone()).await;
    let two = Instance::start(&database, kafka.clone()).await;
    let (database, kafka) = (&database, &kafka);
    until("shared evenly", || async {
        let shares = shares(database).await;
        if shares == [6, 6] { Ok(()) } else { Err(format!("{shares:?}")) }
    })
    .await;

    // every user sends to one and, where that is gone, to the other
    let mut users = JoinSet::new();
    for user in 0..USERS {
        let (one, two) = (one.api.clone(), two.api.clone());
        users.spawn(async move {
            for number in 0..EVENTS {
                let order = if (user + number) % 2 == 0 { [&one, &two] } else { [&two, &one] };
                insist(&order, failure(user, number)).await;
            }
        });
    }
    until("a third of the load in", || async {
        let accepted = database.column("SELECT count(*) FROM request_ids").await[0];
        if accepted >= i64::from(USERS * EVENTS / 3) { Ok(()) } else { Err(format!("{accepted} accepted")) }
    })
    .await;
    one.kill();
    users.join_all().await;
    until("empty and owned by the one that lives", || async {
        let rows = database.column("SELECT count(*) FROM outbox").await[0];
        let shares = shares(database).await;
        if rows == 0 && shares == [12] { Ok(()) } else { Err(format!("{rows} rows, shares {shares:?}")) }
    })
    .await;

    let mut log = BTreeMap::<String, Vec<Vec<u8>>>::new();
    let mut seen = HashSet::new();
    for record in read_topic(kafka, USER_EVENTS.name).await.unwrap() {
        let id = record.header("ce_id").unwrap().to_vec();
        if seen.insert(id.clone()) {
            log.entry(record.key_text()).or_default().push(id);
        }
    }
    assert_eq!(log.len() as u32, USERS);
    for user in 0..USERS {
        let sent: Vec<_> = (0..EVENTS).map(|number| failure(user, number).event_id.into_bytes()).collect();
        assert!(log[&format!("user-{user}")] == sent, "user-{user}: {} events", log[&format!("user-{user}")].len());
    }

    two.stop().await;
    assert_eq!(shares(database).await, [0; 0], "given back at the end");
    database.wipe().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ran_out_and_that_nobody_took_stops_nothing_and_repeats_nothing() {
    const EVENTS: u32 = 40;
    let database = Database::create().await;
    let (_broker, kafka) = embedded();
    let one = Instance::start(&database, kafka.clone()).await;
    let held = |expected: &'static [i64]| {
        let database = &database;
        move || async move {
            let shares = shares(database).await;
            if shares == expected { Ok(()) } else { Err(format!("{shares:?}")) }
        }
    };
    until("owned", held(&[12])).await;
    database.execute("ALTER TABLE outbox_relays RENAME TO elsewhere").await; // so that every round fails
    until("expired", held(&[])).await;
    for number in 0..EVENTS {
        insist(&[&one.api], failure(number, 0)).await;
    }
    until("empty", || async {
        let rows = database.column("SELECT count(*) FROM outbox").await[0];
        if rows == 0 { Ok(()) } else { Err(format!("{rows} rows")) }
    })
    .await;
    database.execute("ALTER TABLE elsewhere RENAME TO outbox_relays").await;
    until("renewed", held(&[12])).await;
    one.stop().await;
    assert_eq!(read_topic(&kafka, USER_EVENTS.name).await.unwrap().len(), EVENTS as usize);
    database.wipe().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_lost_a_shard_neither_reads_nor_deletes_it() {
    let database = Database::create().await;
    let store = database.open().await;
    let (old, new) = (Uuid::new_v4(), Uuid::new_v4());
    let before: Lease = store.lease(old).await.unwrap()[3];
    database.execute("INSERT INTO outbox (partition, records, committed_at, bytes) VALUES (3, 1, 0, 'x')").await;
    let rows = store.unsent(&before, &[], 1_000).await.unwrap();
    assert_eq!(rows.len(), 1);

    assert_eq!(store.lease(new).await.unwrap(), [], "what lives is not taken");
    database.execute("UPDATE outbox_shards SET expires_at = now()").await;
    database.execute("UPDATE outbox_relays SET alive_until = now()").await;
    let after = store.lease(new).await.unwrap();
    assert_eq!(after.iter().map(|lease| lease.partition).collect::<BTreeSet<_>>(), (0..12).collect());
    assert!(after[3].token > before.token);

    assert_eq!(store.unsent(&before, &[], 1_000).await.unwrap(), []);
    store.delete(&[SentRow { id: rows[0].id, lease: before }]).await.unwrap();
    store.release(&[before]).await.unwrap();
    assert_eq!(store.unsent(&after[3], &[], 1_000).await.unwrap(), rows, "neither deleted nor let go");
    store.delete(&[SentRow { id: rows[0].id, lease: after[3] }]).await.unwrap();
    assert_eq!(store.unsent(&after[3], &[], 1_000).await.unwrap(), []);
    database.wipe().await;
}
