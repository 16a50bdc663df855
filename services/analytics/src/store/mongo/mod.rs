//! The collections on a server that speaks MongoDB's protocol.
//!
//! What must happen once is an insert, atomic by `_id` on every server: events, memberships, marks, revisions, the first
//! version of a session. Only two kinds of document change: a session, over the version it was made from, and an
//! aggregate, upwards.
//!
//! Round trips of a batch of 1,000 events, in the order in which they wait for each other:
//! 1. insert the events, in 4 commands at once, beside the newest day (1 find); then 1 find for each event that was
//!    stored before, many at once;
//! 2. 1 find for each session that this process has not at hand (see [`known`]): a new one, or any after a start;
//! 3. sessions in up to 8 updates and as many inserts as there are commands in 1; beside them the new memberships, in up
//!    to twice as many inserts, and then 1 insert of marks.
//!
//! So 4 that wait for each other, and the finds; the plan of late events adds its questions between 2 and 3.
mod activity;
mod documents;
mod known;
mod sessions;
mod walk;

use std::sync::Arc;

use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use headwater_documents::{
    Collection, Documents, Find, Index,
    bson::{self, doc},
};
use headwater_proto::{Day, UserId};

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
    canonical::{Document, Kind},
    event::{SessionEvent, SessionKey},
    metric::Metric,
    revisions::Revision,
    sessions::{Segment, Session},
};

/// Beside [`Kind::ALL`]: the journal, and which periods wait for a recount.
const METRIC_REVISIONS: &str = "metric_revisions";
const STALE_PERIODS: &str = "stale_periods";

/// Questions that have a document each as their answer, at once. Below the connections of the pool, of which the API
/// needs some.
const LOOKUPS: usize = 32;

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
        let of_period = || vec![Index(doc! { "period": 1 })];
        for (collection, indexes) in [
            (Kind::SessionEvents.name(), vec![Index(doc! { "userId": 1, "sessionId": 1 })]),
            (Kind::Sessions.name(), vec![Index(doc! { "userId": 1 }), Index(doc! { "startDays": 1 })]),
            (Kind::DailyActivity.name(), of_period()),
            (Kind::MonthlyActivity.name(), of_period()),
            (METRIC_REVISIONS, vec![Index(doc! { "day": 1 })]),
        ] {
            documents.ensure_indexes(&name(collection), indexes).await?;
        }
        let periods = |activity, aggregates| Periods {
            activity: documents.collection(&name(activity)),
            aggregates: documents.collection(&name(aggregates)),
        };
        Ok(Self(Arc::new(Collections {
            events: documents.collection(&name(Kind::SessionEvents.name())),
            sessions: documents.collection(&name(Kind::Sessions.name())),
            daily: periods(Kind::DailyActivity.name(), Kind::DailyAggregates.name()),
            monthly: periods(Kind::MonthlyActivity.name(), Kind::MonthlyAggregates.name()),
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

fn read_all<D, T>(documents: Vec<D>) -> Done<Vec<T>>
where
    T: TryFrom<D, Error = Foreign>,
{
    Ok(documents.into_iter().map(T::try_from).collect::<Result<_, _>>()?)
}

impl Collections {
    async fn insert_events(&self, events: &[SessionEvent]) -> Done<Vec<Option<SessionEvent>>> {
        let documents: Vec<EventDocument> = events.iter().map(Into::into).collect();
        let refused = self.events.insert_new(&documents).await?;
        let mut stored = vec![None; events.len()];
        let ids = refused.iter().map(|&place| events[place].id.to_string());
        let found = self.events.get_each(ids).await?;
        for (place, found) in refused.into_iter().zip(found) {
            let gone = || Failure::Gone { collection: Kind::SessionEvents.name(), id: events[place].id.to_string() };
            stored[place] = Some(found.ok_or_else(gone)?.try_into()?);
        }
        Ok(stored)
    }

    async fn session_events(&self, keys: &[SessionKey]) -> Done<Vec<Vec<SessionEvent>>> {
        let filters = keys.iter().map(|key| doc! { "userId": key.user_id.as_str(), "sessionId": &*key.session_id });
        let filters: Vec<bson::Document> = filters.collect();
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
        Ok(self.revisions.insert_new(&documents).await.map(drop)?)
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

    fn documents(&self, kind: Kind) -> impl Stream<Item = Answer<Document>> + Send {
        self.0.walk(kind).map(|document| answer("documents", document))
    }
}
