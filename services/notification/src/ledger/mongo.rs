//! The ledger of many processes, on a Mongo-protocol server.
//!
//! Who delivers is decided by inserts alone, because only they are atomic on every such server (`headwater_documents`).
//! The claims of one notification are numbered from 1; to claim is to insert the number after the latest, which may be
//! done where the latest has been withdrawn or its lease has ended. So a claim that nobody disputes is one insert, and
//! a mark is another, in a collection of its own. A claim document is changed by its holder only.
//!
//! `notification_claims`: `_id` = notification U+001F n, notification, n, token, until, takenOver, withdrawn.
//! `notification_deliveries`: `_id` = notification = eventId U+001F kind. Neither is ever cut: they may not forget before
//! the log does. Claim 1 stays for as long; of the others only those that nobody delivered under are deleted.
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use headwater_documents::{
    Change, Collection, Documents, Error, Find, Index,
    bson::{DateTime, doc},
    identity,
};
use headwater_proto::Millis;
use headwater_stream::Unavailable;
use serde::{Deserialize, Serialize};
use tracing::debug;
use uuid::Uuid;

use super::{Claim, LEASE, Lease, Ledger};
use crate::decide::Key;

const CLAIMS: &str = "notification_claims";
const DELIVERIES: &str = "notification_deliveries";

/// A handle; clones share connections and what they know of unanswered claims.
#[derive(Debug, Clone)]
pub struct MongoLedger {
    claims: Collection<ClaimDocument>,
    deliveries: Collection<DeliveryDocument>,
    /// The tokens of claims that were asked for and not answered. They may be in the store, and then keep everybody
    /// away although nobody delivers under them; whoever claims next from here takes the token along and knows it.
    unanswered: Arc<Mutex<HashMap<Key, u128>>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClaimDocument {
    #[serde(rename = "_id")]
    id: String,
    notification: String,
    n: i64,
    token: String,
    /// The lease's end, exclusive.
    until: DateTime,
    /// Somebody may have delivered under an earlier claim.
    taken_over: bool,
    /// Nothing was delivered under this one.
    withdrawn: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct DeliveryDocument {
    #[serde(rename = "_id")]
    notification: String,
}

impl MongoLedger {
    /// Makes the index that claims are found by.
    pub async fn open(documents: &Documents) -> Result<Self, Error> {
        documents.ensure_indexes(CLAIMS, [Index(doc! { "notification": 1, "n": -1 })]).await?;
        Ok(Self {
            claims: documents.collection(CLAIMS),
            deliveries: documents.collection(DELIVERIES),
            unanswered: Arc::default(),
        })
    }

    /// How many claims taken over from a holder who may have delivered had their lease until `since` or later: how often
    /// at most somebody was told again, whoever lives to have counted it.
    pub async fn possible_duplicates(&self, since: Millis) -> Result<u64, Error> {
        let since = DateTime::from_millis(since.as_millis());
        self.claims.count(doc! { "takenOver": true, "withdrawn": false, "until": { "$gte": since } }).await
    }

    async fn claim_as(&self, token: u128, key: Key, now: Millis) -> Result<Claim, Error> {
        let notification = name(key);
        let mut claim = ClaimDocument::new(&notification, token, now);
        if self.claims.insert_one_new(claim.clone()).await? {
            return Ok(Claim::Granted(Lease { key, token, taken_over: false }));
        }
        loop {
            if self.is_delivered(&notification).await? {
                return Ok(Claim::Delivered);
            }
            // none: claim 1 was not there to be read yet, and will be
            let Some(latest) = self.latest(&notification).await? else { continue };
            let ours = latest.token == claim.token;
            let until = latest.until();
            if !ours && !latest.withdrawn && now < until {
                return Ok(Claim::Held { until });
            }
            claim.follow(&latest, ours);
            if !self.claims.insert_one_new(claim.clone()).await? {
                continue;
            }
            // a delivery that was marked, or a claim that was overtaken, between the reads and the insert
            let (delivered, newest) = tokio::try_join!(self.is_delivered(&notification), self.latest(&notification))?;
            if delivered {
                self.change(&notification, token, doc! { "withdrawn": true }).await?;
                return Ok(Claim::Delivered);
            }
            if let Some(newest) = newest.filter(|newest| newest.n > claim.n) {
                return Ok(Claim::Held { until: newest.until() });
            }
            if latest.n > 1 && (ours || latest.withdrawn) {
                self.tidy(&latest).await;
            }
            return Ok(Claim::Granted(Lease { key, token, taken_over: claim.taken_over }));
        }
    }

    async fn is_delivered(&self, notification: &str) -> Result<bool, Error> {
        Ok(self.deliveries.get(notification).await?.is_some())
    }

    async fn latest(&self, notification: &str) -> Result<Option<ClaimDocument>, Error> {
        let find = Find {
            filter: doc! { "notification": notification },
            sort: doc! { "n": -1 },
            limit: Some(1),
            ..Find::default()
        };
        Ok(self.claims.find(find).await?.pop())
    }

    /// Of a holder's own claim.
    async fn change(
        &self,
        notification: &str,
        token: u128,
        fields: headwater_documents::bson::Document,
    ) -> Result<(), Error> {
        let own = doc! { "notification": notification, "token": hex(token) };
        self.claims.update(&[Change::new(own, &doc! { "$set": fields })?]).await.map(drop)
    }

    /// A claim that came to nothing and is not the latest: a channel that is away for a day would leave thousands.
    async fn tidy(&self, claim: &ClaimDocument) {
        if let Err(error) = self.claims.delete(doc! { "_id": &claim.id }).await {
            debug!(%error, "a withdrawn claim stays in the ledger");
        }
    }

    /// No operation leaves it half changed.
    fn unanswered(&self) -> MutexGuard<'_, HashMap<Key, u128>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClaimDocument {
    /// The first of its notification.
    fn new(notification: &str, token: u128, now: Millis) -> Self {
        let until = now.plus_millis(LEASE.as_millis() as i64);
        let until = DateTime::from_millis(until.as_millis());
        let (taken_over, withdrawn) = (false, false);
        let (token, notification) = (hex(token), notification.to_owned());
        Self { id: numbered(&notification, 1), notification, n: 1, token, until, taken_over, withdrawn }
    }

    /// The next one after `latest`.
    fn follow(&mut self, latest: &Self, ours: bool) {
        self.n = latest.n + 1;
        self.id = numbered(&self.notification, self.n);
        self.taken_over = latest.taken_over || !(ours || latest.withdrawn);
    }

    fn until(&self) -> Millis {
        Millis::from_millis(self.until.timestamp_millis())
    }
}

fn name(key: Key) -> String {
    identity([&key.event_id.to_string(), key.kind.as_str()])
}

fn numbered(notification: &str, n: i64) -> String {
    identity([notification, &n.to_string()])
}

fn hex(token: u128) -> String {
    format!("{token:032x}")
}

fn unavailable(error: Error) -> Unavailable {
    Unavailable { dependency: "the notification ledger", source: error.into() }
}

impl Ledger for MongoLedger {
    async fn claim(&self, key: Key, now: Millis) -> Result<Claim, Unavailable> {
        let known = self.unanswered().remove(&key);
        let token = known.unwrap_or_else(|| Uuid::new_v4().as_u128());
        self.claim_as(token, key, now).await.map_err(|error| {
            self.unanswered().insert(key, token);
            unavailable(error)
        })
    }

    async fn mark(&self, key: Key) -> Result<(), Unavailable> {
        let delivery = DeliveryDocument { notification: name(key) };
        self.deliveries.insert_one_new(delivery).await.map(drop).map_err(unavailable)
    }

    async fn withdraw(&self, lease: &Lease) -> Result<(), Unavailable> {
        self.change(&name(lease.key), lease.token, doc! { "withdrawn": true }).await.map_err(unavailable)
    }

    async fn expire(&self, lease: &Lease, now: Millis) -> Result<(), Unavailable> {
        let until = DateTime::from_millis(now.as_millis());
        self.change(&name(lease.key), lease.token, doc! { "until": until }).await.map_err(unavailable)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use headwater_documents::testing::TestDatabase;
    use headwater_proto::EventId;

    use super::*;
    use crate::{decide::Kind, ledger::conformance};

    const START: Millis = Millis::from_millis(1_768_473_000_000);

    fn key() -> Key {
        Key { event_id: EventId::from_bytes([1; 16]), kind: Kind::Welcome }
    }

    async fn granted(ledger: &MongoLedger, now: Millis) -> Lease {
        match ledger.claim(key(), now).await.unwrap() {
            Claim::Granted(lease) => lease,
            other => panic!("at {now}: expected a grant, got {other:?}"),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_mongo_ledger_conforms() {
        let databases = Mutex::new(Vec::new());
        conformance::run(|| async {
            let database = TestDatabase::create().await;
            let ledger = MongoLedger::open(&database.documents).await.unwrap();
            databases.lock().unwrap().push(database);
            ledger
        })
        .await;
        for database in databases.into_inner().unwrap() {
            database.wipe().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_claim_that_was_stored_and_never_answered_keeps_nobody_of_this_process_away() {
        let database = TestDatabase::create().await;
        let ledger = MongoLedger::open(&database.documents).await.unwrap();
        // what a server does with a call whose caller has given up
        granted(&ledger, START).await;
        let stranger = MongoLedger::open(&database.documents).await.unwrap();
        let token = ledger.latest(&name(key())).await.unwrap().unwrap().token;
        ledger.unanswered().insert(key(), u128::from_str_radix(&token, 16).unwrap());
        let lease = granted(&ledger, START).await;
        assert!(!lease.taken_over, "nobody has delivered under it");
        assert!(matches!(stranger.claim(key(), START).await.unwrap(), Claim::Held { .. }));
        assert!(ledger.unanswered().is_empty());
        database.wipe().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn take_overs_are_counted_in_the_store_and_withdrawn_claims_leave_one_document() {
        let database = TestDatabase::create().await;
        let ledger = MongoLedger::open(&database.documents).await.unwrap();
        for _ in 0..5 {
            let lease = granted(&ledger, START).await;
            ledger.withdraw(&lease).await.unwrap();
        }
        assert_eq!(ledger.claims.count(doc! {}).await.unwrap(), 2, "the first and the latest");
        assert_eq!(ledger.possible_duplicates(START).await.unwrap(), 0);

        let abandoned = granted(&ledger, START).await;
        assert!(!abandoned.taken_over);
        let later = START.plus_millis(LEASE.as_millis() as i64);
        assert!(granted(&ledger, later).await.taken_over);
        assert_eq!(ledger.possible_duplicates(START).await.unwrap(), 1);
        assert_eq!(ledger.possible_duplicates(later.plus_millis(60_000)).await.unwrap(), 0, "of another run");
        database.wipe().await;
    }
}
