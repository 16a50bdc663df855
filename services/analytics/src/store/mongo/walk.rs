//! Every document of a collection, in order: for the digest.
use std::{collections::HashSet, pin::Pin};

use futures::{Stream, StreamExt as _, TryStreamExt as _, future, stream};
use headwater_documents::Collection;
use serde::de::DeserializeOwned;

use super::{
    Collections, Done, Failure, Periods,
    documents::{AggregateDocument, Foreign},
};
use crate::{
    activity::Period,
    canonical::{Document, Kind},
};

type Walk<'a> = Pin<Box<dyn Stream<Item = Done<Document>> + Send + 'a>>;

impl Collections {
    pub(super) fn walk(&self, kind: Kind) -> Walk<'_> {
        match kind {
            Kind::SessionEvents => each(&self.events, Document::Event),
            Kind::Sessions => each(&self.sessions, Document::Session),
            Kind::DailyActivity => each(&self.daily.activity, Document::Member),
            Kind::MonthlyActivity => each(&self.monthly.activity, Document::Member),
            Kind::DailyAggregates => self.aggregates(&self.daily),
            Kind::MonthlyAggregates => self.aggregates(&self.monthly),
        }
    }

    /// The marks are read first: see [`Collections::active_users`].
    fn aggregates<'a>(&'a self, periods: &'a Periods) -> Walk<'a> {
        let walk = async move {
            let stale: HashSet<Period> = self.stale().await?.into_iter().map(|stale| stale.period).collect();
            let aggregates = periods.aggregates.walk().map_err(Failure::from).map_ok(AggregateDocument::read);
            Done::Ok(aggregates.and_then(move |read| {
                let stale = read.as_ref().is_ok_and(|(period, _)| stale.contains(period));
                async move {
                    let (period, stored) = read?;
                    let users = if stale { self.count(period).await? } else { stored };
                    Ok(Document::ActiveUsers { period, users })
                }
            }))
        };
        stream::once(walk).try_flatten().boxed()
    }
}

fn each<'a, D, T>(collection: &'a Collection<D>, document: fn(T) -> Document) -> Walk<'a>
where
    D: DeserializeOwned + Unpin + Send + Sync + 'static,
    T: TryFrom<D, Error = Foreign> + 'a,
{
    let read = move |stored| future::ready(T::try_from(stored).map(document).map_err(Failure::from));
    collection.walk().map_err(Failure::from).and_then(read).boxed()
}
