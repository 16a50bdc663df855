//! The collections on a Mongo-protocol server. A batch costs one read of the profiles that are not cached, one bulk
//! insert into each of the three collections of findings (only where there is something to write down), and for
//! profiles one bulk of inserts and one of updates.
pub(super) mod documents;

use std::{collections::HashMap, sync::Arc};

use futures::{Stream, StreamExt as _, TryStreamExt as _, future, stream::BoxStream};
use headwater_documents::{
    Change, Collection, Documents, Error, Find, Index,
    bson::{Bson, DateTime, Document, doc},
    identity,
};
use headwater_proto::{EventId, UserId};
use headwater_stream::Position;
use serde::de::DeserializeOwned;

use super::{Answer, ProfileWrite, Store};
use crate::{
    StoreError,
    canonical::{self, Kind},
    findings::{Evaluation, EvaluationPlace, Findings, Report, ReportPlace},
    profile::{Kept, Profile},
};
use documents::{EvaluationDocument, ProfileDocument, ReportDocument, TraceDocument, gravity};

/// A handle; clones share the connections.
#[derive(Debug, Clone)]
pub struct MongoStore {
    profiles: Collection<ProfileDocument>,
    evaluations: Collection<EvaluationDocument>,
    reports: Collection<ReportDocument>,
    traces: Collection<TraceDocument>,
}

impl MongoStore {
    /// Makes the indexes that are missing.
    pub async fn open(documents: &Documents) -> Result<Self, Error> {
        Self::open_beside(documents, "").await
    }

    /// Collections whose names end with `suffix`, beside the live ones.
    pub async fn open_beside(documents: &Documents, suffix: &str) -> Result<Self, Error> {
        let name = |kind: Kind| format!("{}{suffix}", kind.name());
        let newest_first = [
            Index(doc! { "decidedAt": -1, "gravity": -1, "_id": -1 }),
            Index(doc! { "userId": 1, "decidedAt": -1, "gravity": -1, "_id": -1 }),
            Index(doc! { "eventId": 1, "gravity": -1 }),
        ];
        documents.ensure_indexes(&name(Kind::Reports), newest_first).await?;
        let of_user = Index(doc! { "userId": 1, "occurredAt": -1, "offset": -1 });
        documents.ensure_indexes(&name(Kind::Evaluations), [of_user]).await?;
        documents.ensure_indexes(&name(Kind::Traces), [Index(doc! { "userId": 1 })]).await?;
        Ok(Self {
            profiles: documents.collection(&name(Kind::Profiles)),
            evaluations: documents.collection(&name(Kind::Evaluations)),
            reports: documents.collection(&name(Kind::Reports)),
            traces: documents.collection(&name(Kind::Traces)),
        })
    }

    async fn read_profiles(&self, users: &[UserId]) -> Result<Vec<(UserId, Arc<Profile>)>, Error> {
        let found = self.profiles.get_each(users.iter().map(ToString::to_string)).await?;
        found.iter().flatten().map(ProfileDocument::read).collect()
    }

    async fn write_findings(&self, findings: Findings) -> Result<(), Error> {
        let evaluations: Vec<_> = findings.evaluations.iter().map(EvaluationDocument::of).collect();
        let reports = findings.reports.iter().map(ReportDocument::of).collect::<Result<Vec<_>, _>>()?;
        let traces: Vec<_> = findings.traces.iter().map(TraceDocument::of).collect();
        tokio::try_join!(
            self.evaluations.insert_new(&evaluations),
            self.reports.insert_new(&reports),
            self.traces.insert_new(&traces),
        )?;
        Ok(())
    }

    /// The users whose profile is another than what was to be written over it.
    async fn save_profiles(&self, writes: Vec<ProfileWrite>) -> Result<Vec<UserId>, Error> {
        let (mut new, mut moved, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        for write in writes {
            match write.read {
                None => new.push(write),
                Some(read) => {
                    changes.push(replacement(read, &write)?);
                    moved.push(write);
                }
            }
        }
        let documents: Vec<_> = new.iter().map(|write| ProfileDocument::of(&write.user_id, &write.profile)).collect();
        let (taken, missed) = tokio::try_join!(self.profiles.insert_new(&documents), self.profiles.update(&changes))?;
        let missed: Vec<&ProfileWrite> = missed.into_iter().map(|place| &moved[place]).collect();
        let mut refused = self.not_as_written(&missed).await?;
        refused.extend(taken.into_iter().map(|place| new[place].user_id.clone()));
        Ok(refused)
    }

    /// Of those that may have met another than they were to be written over.
    async fn not_as_written(&self, writes: &[&ProfileWrite]) -> Result<Vec<UserId>, Error> {
        let users: Vec<UserId> = writes.iter().map(|write| write.user_id.clone()).collect();
        let stored: HashMap<UserId, Arc<Profile>> = self.read_profiles(&users).await?.into_iter().collect();
        let differs = |write: &&&ProfileWrite| stored.get(&write.user_id).is_none_or(|stored| *stored != write.profile);
        Ok(writes.iter().filter(differs).map(|write| write.user_id.clone()).collect())
    }

    async fn read_decision(&self, event_id: EventId) -> Result<Option<Arc<Report>>, Error> {
        let id = event_id.to_string();
        let found = match self.reports.get(id.as_str()).await? {
            Some(announced) => Some(announced),
            None => {
                let gravest = Find {
                    filter: doc! { "eventId": id },
                    sort: doc! { "gravity": -1 },
                    limit: Some(1),
                    ..Find::default()
                };
                self.reports.find(gravest).await?.pop()
            }
        };
        found.as_ref().map(ReportDocument::read).transpose().map(|report| report.map(Arc::new))
    }

    async fn read_traces(&self, user: &UserId, events: &[EventId]) -> Result<Vec<Kept>, Error> {
        let ids: Vec<String> = events.iter().map(|event| identity([user.as_str(), &event.to_string()])).collect();
        // the user is named too: a server that cannot look up many ids at once then looks through the user's only
        let filter = doc! { "userId": user.as_str(), "_id": { "$in": ids } };
        let found = self.traces.find(Find { filter, ..Find::default() }).await?;
        let mut traces = found.iter().map(TraceDocument::read).collect::<Result<Vec<Kept>, _>>()?;
        traces.sort_by_key(Kept::order);
        Ok(traces)
    }
}

/// Where the position is still the one that was read.
fn replacement(read: Position, write: &ProfileWrite) -> Result<Change, Error> {
    let filter = doc! { "_id": write.user_id.as_str(), "partition": read.partition, "offset": read.offset };
    Change::set(filter, &ProfileDocument::of(&write.user_id, &write.profile))
}

/// What stands before `place` in the descending order of these fields.
fn before<const N: usize>(place: [(&str, Bson); N]) -> Document {
    let alternatives = (0..N).map(|last| {
        let mut alternative: Document =
            place[..last].iter().map(|(field, value)| ((*field).to_owned(), value.clone())).collect();
        let (field, value) = &place[last];
        alternative.insert(*field, doc! { "$lt": value.clone() });
        Bson::from(alternative)
    });
    doc! { "$or": alternatives.collect::<Vec<_>>() }
}

fn newest_first<const N: usize>(fields: [&str; N], filter: Document, limit: usize) -> Find {
    let sort = fields.into_iter().map(|field| (field.to_owned(), Bson::Int32(-1))).collect();
    Find { filter, sort, limit: Some(limit), ..Find::default() }
}

fn each<T>(
    collection: &Collection<T>,
    read: fn(&T) -> Result<canonical::Document, Error>,
) -> BoxStream<'static, Result<canonical::Document, Error>>
where
    T: DeserializeOwned + Unpin + Send + Sync + 'static,
{
    collection.walk().and_then(move |found| future::ready(read(&found))).boxed()
}

fn failed(operation: &'static str) -> impl Fn(Error) -> StoreError {
    move |error| StoreError { operation, source: error.into() }
}

impl Store for MongoStore {
    async fn profiles(&self, users: &[UserId]) -> Answer<Vec<(UserId, Arc<Profile>)>> {
        self.read_profiles(users).await.map_err(failed("profiles"))
    }

    async fn record(&self, findings: Findings) -> Answer<()> {
        self.write_findings(findings).await.map_err(failed("record"))
    }

    async fn save(&self, writes: Vec<ProfileWrite>) -> Answer<Vec<UserId>> {
        self.save_profiles(writes).await.map_err(failed("save"))
    }

    async fn reports(
        &self,
        user: Option<&UserId>,
        place: Option<ReportPlace>,
        limit: usize,
    ) -> Answer<Vec<Arc<Report>>> {
        let mut filter = place.map_or_else(Document::new, |(decided_at, level, id)| {
            let decided_at = DateTime::from_millis(decided_at.as_millis());
            before([
                ("decidedAt", decided_at.into()),
                ("gravity", gravity(level).into()),
                ("_id", id.to_string().into()),
            ])
        });
        if let Some(user) = user {
            filter.insert("userId", user.as_str());
        }
        let find = newest_first(["decidedAt", "gravity", "_id"], filter, limit);
        let found = self.reports.find(find).await.map_err(failed("reports"))?;
        found.iter().map(|report| report.read().map(Arc::new).map_err(failed("reports"))).collect()
    }

    async fn evaluations(
        &self,
        user: &UserId,
        place: Option<EvaluationPlace>,
        limit: usize,
    ) -> Answer<Vec<Arc<Evaluation>>> {
        let mut filter = place.map_or_else(Document::new, |(occurred_at, offset)| {
            before([("occurredAt", DateTime::from_millis(occurred_at.as_millis()).into()), ("offset", offset.into())])
        });
        filter.insert("userId", user.as_str());
        let find = newest_first(["occurredAt", "offset"], filter, limit);
        let found = self.evaluations.find(find).await.map_err(failed("evaluations"))?;
        found.iter().map(|evaluation| evaluation.read().map(Arc::new).map_err(failed("evaluations"))).collect()
    }

    async fn decision(&self, event_id: EventId) -> Answer<Option<Arc<Report>>> {
        self.read_decision(event_id).await.map_err(failed("decision"))
    }

    async fn traces(&self, user: &UserId, events: &[EventId]) -> Answer<Vec<Kept>> {
        self.read_traces(user, events).await.map_err(failed("traces"))
    }

    fn documents(&self, kind: Kind) -> impl Stream<Item = Answer<canonical::Document>> + Send {
        use canonical::Document::{Evaluation, Profile, Report, Trace};
        let walk = match kind {
            Kind::Profiles => each(&self.profiles, |found| found.read().map(|(user, profile)| Profile(user, profile))),
            Kind::Evaluations => each(&self.evaluations, |found| found.read().map(Arc::new).map(Evaluation)),
            Kind::Reports => each(&self.reports, |found| found.read().map(Arc::new).map(Report)),
            Kind::Traces => each(&self.traces, |found| found.read_trace().map(Trace)),
        };
        walk.map_err(failed("documents"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use headwater_documents::testing::TestDatabase;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_mongo_store_keeps_what_every_store_promises() {
        let databases = Mutex::new(Vec::new());
        crate::store::conformance::suite(|| async {
            let database = TestDatabase::create().await;
            let store = MongoStore::open(&database.documents).await.expect("opens");
            databases.lock().expect("no test has panicked").push(database);
            store
        })
        .await;
        for database in databases.into_inner().expect("no test has panicked") {
            database.wipe().await;
        }
    }
}
