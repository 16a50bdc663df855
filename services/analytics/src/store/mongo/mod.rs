//! The collections on a server that speaks MongoDB's protocol.
//!
//! What must happen once is an insert, atomic by `_id` on every server: events, memberships, marks, revisions, the first
//! version of a session. Only two kinds of document change: a session, over the version it was made from, and an
//! aggregate, upwards. What is asked for by `_id` is asked for one by one, many at a time: equality is what every server
//! answers from an index (FerretDB 1.24 answers `$in` by reading the whole collection).
//!
//! Round trips of a batch of 1,000 events, in the order in which they wait for each other:
//! 1. insert the events, in [`INSERTS`] commands at once, beside the newest day (1 find); then 1 find for each event
//!    that was stored before, [`LOOKUPS`] at once;
//! 2. 1 find for each session that this process has not at hand (see [`known`]): a new one, or any after a start;
//! 3. sessions in up to [`UPDATES`] updates and as many inserts as there are commands in 1; beside them the new
//!    memberships, in up to twice as many inserts, and then 1 insert of marks.
//!
//! So 4 that wait for each other, and the finds; the plan of late events adds its questions between 2 and 3.
mod activity;
mod documents;
mod known;
mod sessions;

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream, try_join};
use headwater_documents::{
    Collection, Documents, Find, Index,
    bson::{Document, doc},
};
use headwater_proto::{Day, UserId};
use serde::{Serialize, de::DeserializeOwned};

use self::{
    documents::{
        AggregateDocument, EventDocument, Foreign, MarkDocument, MemberDocument, RevisionDocument, SessionDocument,
    },
    known::Known,
};
use super::{Answer, SessionWrite, Stale, Store};
use crate::{
    StoreError,
    activity::{Member, Period},
    event::{SessionEvent, SessionKey},
    metric::Metric,
    revisions::Revision,
    sessions::{Segment, Session},
};

const SESSION_EVENTS: &str = "session_events";
const SESSIONS: &str = "sessions";
const DAILY_ACTIVITY: &str = "daily_activity";
const MONTHLY_ACTIVITY: &str = "monthly_activity";
const DAILY_AGGREGATES: &str = "daily_aggregates";
const MONTHLY_AGGREGATES: &str = "monthly_aggregates";
const METRIC_REVISIONS: &str = "metric_revisions";
/// Beside those of SPEC.md: which periods wait for a recount.
const STALE_PERIODS: &str = "stale_periods";

/// Finds by `_id` at once. Below the connections of the pool, of which the API needs some.
const LOOKUPS: usize = 32;
/// Commands into which a bulk of inserts is cut, and below how many documents it is not worth it.
const INSERTS: usize = 4;
const MIN_INSERT: usize = 100;
/// Commands into which a bulk of updates is cut; each works its documents off one after the other.
const UPDATES: usize = 8;
const MIN_UPDATE: usize = 10;

/// A handle on the collections. Keeps no positions: the group's commits are true of it.
#[derive(Debug, Clone)]
pub struct MongoStore(Arc<Collections>);

#[derive(Debug)]
struct Collections {
    events: Collection<EventDocument>,
    sessions: Collection<SessionDocument>,
    daily: Periods,
    monthly: Periods,
    stale: Collection<MarkDocument>,
    revisions: Collection<RevisionDocument>,
    known: Known,
}

/// Memberships and aggregates of days or of months.
#[derive(Debug)]
struct Periods {
    activity: Collection<MemberDocument>,
    aggregates: Collection<AggregateDocument>,
}

impl MongoStore {
    /// Makes the indexes that are missing.
    pub async fn open(documents: &Documents) -> Result<Self, headwater_documents::Error> {
        Self::open_beside(documents, "").await
    }

    /// Collections whose names end with `suffix`, beside the live ones.
    pub async fn open_beside(documents: &Documents, suffix: &str) -> Result<Self, headwater_documents::Error> {
        let name = |name| format!("{name}{suffix}");
        let index = async |collection, indexes: Vec<Index>| documents.ensure_indexes(&name(collection), indexes).await;
        let of_period = || vec![Index(doc! { "period": 1 })];
        try_join!(
            index(SESSION_EVENTS, vec![Index(doc! { "userId": 1, "sessionId": 1 })]),
            index(SESSIONS, vec![Index(doc! { "userId": 1 }), Index(doc! { "startDays": 1 })]),
            index(DAILY_ACTIVITY, of_period()),
            index(MONTHLY_ACTIVITY, of_period()),
            index(METRIC_REVISIONS, vec![Index(doc! { "day": 1 })]),
        )?;
        let periods = |activity, aggregates| Periods {
            activity: documents.collection(&name(activity)),
            aggregates: documents.collection(&name(aggregates)),
        };
        Ok(Self(Arc::new(Collections {
            events: documents.collection(&name(SESSION_EVENTS)),
            sessions: documents.collection(&name(SESSIONS)),
            daily: periods(DAILY_ACTIVITY, DAILY_AGGREGATES),
            monthly: periods(MONTHLY_ACTIVITY, MONTHLY_AGGREGATES),
            stale: documents.collection(&name(STALE_PERIODS)),
            revisions: documents.collection(&name(METRIC_REVISIONS)),
            known: Known::default(),
        })))
    }
}

/// What goes wrong below an operation of the port.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Documents(#[from] headwater_documents::Error),
    #[error(transparent)]
    Foreign(#[from] Foreign),
    #[error("the document {id} of {collection} was there and is gone")]
    Gone { collection: &'static str, id: String },
}

type Done<T> = Result<T, Failure>;

/// Named as the port's operation.
fn answer<T>(operation: &'static str, done: Done<T>) -> Answer<T> {
    done.map_err(|failure| StoreError { operation, source: failure.into() })
}

/// Inserts what is not there yet; the places of the others, in no order.
async fn insert_new<T>(collection: &Collection<T>, documents: &[T]) -> Done<Vec<usize>>
where
    T: Serialize + Send + Sync,
{
    let size = documents.len().div_ceil(INSERTS).max(MIN_INSERT);
    let inserts = documents.chunks(size).enumerate().map(async |(number, chunk)| {
        let refused = collection.insert_new(chunk).await?;
        Ok::<_, Failure>(refused.into_iter().map(move |place| number * size + place))
    });
    Ok(try_join_all(inserts).await?.into_iter().flatten().collect())
}

/// The document of each of these `_id`s, in their order.
async fn get_each<T>(collection: &Collection<T>, ids: Vec<String>) -> Done<Vec<Option<T>>>
where
    T: DeserializeOwned + Send + Sync,
{
    let finds = stream::iter(ids).map(async |id| Ok(collection.get(id).await?));
    finds.buffered(LOOKUPS).try_collect().await
}

fn read_all<D, T>(documents: Vec<D>) -> Done<Vec<T>>
where
    T: TryFrom<D, Error = Foreign>,
{
    Ok(documents.into_iter().map(T::try_from).collect::<Result<_, _>>()?)
}

impl Collections {
    async fn insert_events(&self, events: &[SessionEvent]) -> Done<Vec<Option<SessionEvent>>> {
        let documents: Vec<EventDocument> = events.iter().map(Into::into).collect();
        let refused = insert_new(&self.events, &documents).await?;
        let mut stored = vec![None; events.len()];
        let ids = refused.iter().map(|&place| events[place].id.to_string()).collect();
        let found = get_each(&self.events, ids).await?;
        for (place, found) in refused.into_iter().zip(found) {
            let gone = || Failure::Gone { collection: SESSION_EVENTS, id: events[place].id.to_string() };
            stored[place] = Some(found.ok_or_else(gone)?.try_into()?);
        }
        Ok(stored)
    }

    async fn session_events(&self, keys: &[SessionKey]) -> Done<Vec<Vec<SessionEvent>>> {
        let filters = keys.iter().map(|key| doc! { "userId": key.user_id.as_str(), "sessionId": &*key.session_id });
        let filters: Vec<Document> = filters.collect();
        let finds = stream::iter(filters)
            .map(async |filter| read_all(self.events.find(Find { filter, ..Find::default() }).await?));
        finds.buffered(LOOKUPS).try_collect().await
    }

    async fn revisions_of(&self, period: Period) -> Done<Vec<Revision>> {
        let filter = doc! { "day": period.to_string() };
        read_all(self.revisions.find(Find { filter, ..Find::default() }).await?)
    }

    async fn insert_revisions(&self, revisions: &[Revision]) -> Done<()> {
        let documents: Vec<RevisionDocument> = revisions.iter().map(Into::into).collect();
        insert_new(&self.revisions, &documents).await.map(drop)
    }
}

impl Store for MongoStore {
    async fn insert_events(&self, events: &[SessionEvent]) -> Answer<Vec<Option<SessionEvent>>> {
        answer("insert_events", self.0.insert_events(events).await)
    }

    async fn add_members(&self, members: &[Member]) -> Answer<()> {
        answer("add_members", self.0.add_members(members).await)
    }

    async fn absent_members(&self, members: Vec<Member>) -> Answer<Vec<Member>> {
        answer("absent_members", self.0.absent_members(members).await)
    }

    async fn newest_day(&self) -> Answer<Option<Day>> {
        answer("newest_day", self.0.newest_day().await)
    }

    async fn sessions(&self, keys: &[SessionKey]) -> Answer<Vec<Session>> {
        answer("sessions", self.0.sessions(keys).await)
    }

    async fn session_events(&self, keys: &[SessionKey]) -> Answer<Vec<Vec<SessionEvent>>> {
        answer("session_events", self.0.session_events(keys).await)
    }

    async fn put_sessions(&self, writes: Vec<SessionWrite>) -> Answer<Vec<SessionKey>> {
        answer("put_sessions", self.0.put_sessions(writes).await)
    }

    async fn insert_revisions(&self, revisions: Vec<Revision>) -> Answer<()> {
        answer("insert_revisions", self.0.insert_revisions(&revisions).await)
    }

    async fn stale(&self) -> Answer<Vec<Stale>> {
        answer("stale", self.0.stale().await)
    }

    async fn recount(&self, stale: Stale) -> Answer<()> {
        answer("recount", self.0.recount(&stale).await)
    }

    async fn figures(&self, metrics: &[Metric]) -> Answer<Vec<u64>> {
        answer("figures", self.0.figures(metrics).await)
    }

    async fn segments_started_on(&self, day: Day) -> Answer<Vec<Segment>> {
        answer("segments_started_on", self.0.segments_started_on(day).await)
    }

    async fn sessions_of(&self, user_id: &UserId) -> Answer<Option<Vec<Session>>> {
        answer("sessions_of", self.0.sessions_of(user_id).await)
    }

    async fn revisions_of(&self, period: Period) -> Answer<Vec<Revision>> {
        answer("revisions_of", self.0.revisions_of(period).await)
    }
}
