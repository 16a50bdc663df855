//! Memberships, the marks of periods that wait for a recount, and the aggregates.
use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::{StreamExt as _, TryStreamExt as _, stream, try_join};
use headwater_documents::{Change, Collection, Find, bson::doc};
use headwater_proto::Day;

use super::{
    Collections, Done, LOOKUPS, Periods,
    documents::{AggregateDocument, MarkDocument, MemberDocument, whole},
};
use crate::{
    activity::{Member, Period},
    metric::Metric,
    store::Stale,
};

/// Of marks: what every number of BSON and of JSON holds exactly.
const MARK_BITS: u32 = 53;

impl Collections {
    fn of(&self, period: Period) -> &Periods {
        match period {
            Period::Day(_) => &self.daily,
            Period::Month(_) => &self.monthly,
        }
    }

    /// Memberships and aggregates first, marks after them. What this process knows to be stored has had its mark.
    pub(super) async fn add_members(&self, members: &[Member]) -> Done<()> {
        let new = self.known.unknown_members(members.iter().cloned());
        let periods: BTreeSet<Period> = new.iter().map(|member| member.period).collect();
        let uncounted = self.known.unknown_periods(periods.iter().copied());
        let join = async |periods: &Periods, is_of: fn(&Period) -> bool| {
            let members = new.iter().filter(|member| is_of(&member.period)).map(MemberDocument::from);
            let members: Vec<MemberDocument> = members.collect();
            let uncounted = uncounted.iter().copied().filter(is_of).map(AggregateDocument::uncounted);
            let uncounted: Vec<AggregateDocument> = uncounted.collect();
            try_join!(periods.activity.insert_new(&members), periods.aggregates.insert_new(&uncounted))
        };
        try_join!(
            join(&self.daily, |period| matches!(period, Period::Day(_))),
            join(&self.monthly, |period| matches!(period, Period::Month(_))),
        )?;
        let marks = periods.into_iter().map(|period| MarkDocument::new(period, fastrand::u64(..1 << MARK_BITS)));
        self.stale.insert_new(&marks.collect::<Vec<_>>()).await?;
        self.known.joined(new);
        Ok(())
    }

    pub(super) async fn absent_members(&self, members: Vec<Member>) -> Done<Vec<Member>> {
        let unknown = self.known.unknown_members(members);
        let (days, months): (Vec<Member>, Vec<Member>) =
            unknown.into_iter().partition(|member| matches!(member.period, Period::Day(_)));
        let absent = async |activity: &Collection<MemberDocument>, members: Vec<Member>| -> Done<Vec<Member>> {
            let found = activity.get_each(members.iter().map(Member::id)).await?;
            let absent = members.into_iter().zip(found).filter(|(_, found)| found.is_none());
            Ok(absent.map(|(member, _)| member).collect())
        };
        let (mut days, months) = try_join!(absent(&self.daily.activity, days), absent(&self.monthly.activity, months))?;
        days.extend(months);
        Ok(days)
    }

    /// An `_id` sorts as its day does.
    pub(super) async fn newest_day(&self) -> Done<Option<Day>> {
        let newest = Find { sort: doc! { "_id": -1 }, limit: Some(1), ..Find::default() };
        match self.daily.aggregates.find(newest).await?.into_iter().next().map(AggregateDocument::read).transpose()? {
            Some((Period::Day(day), _)) => Ok(Some(day)),
            _ => Ok(None),
        }
    }

    pub(super) async fn stale(&self) -> Done<Vec<Stale>> {
        let mut stale = BTreeMap::<Period, Vec<u64>>::new();
        for mark in self.stale.find(Find::default()).await? {
            let (period, mark) = mark.read()?;
            stale.entry(period).or_default().push(mark);
        }
        Ok(stale.into_iter().map(|(period, marks)| Stale { period, marks }).collect())
    }

    /// The marks were read before the count, so every membership they stand for is in it.
    pub(super) async fn recount(&self, Stale { period, marks }: &Stale) -> Done<()> {
        let counted = self.count(*period).await?;
        let raise = doc! { "$max": { "activeUsers": whole(counted) } };
        self.of(*period).aggregates.update(&[Change::new(doc! { "_id": period.to_string() }, &raise)?]).await?;
        let marks: Vec<String> = marks.iter().map(|&mark| MarkDocument::id(*period, mark)).collect();
        self.stale.delete(doc! { "_id": { "$in": marks } }).await?;
        Ok(())
    }

    pub(super) async fn count(&self, period: Period) -> Done<u64> {
        Ok(self.of(period).activity.count(doc! { "period": period.to_string() }).await?)
    }

    pub(super) async fn figures(&self, metrics: &[Metric]) -> Done<Vec<u64>> {
        let mut figures = HashMap::<Metric, u64>::new();
        let periods = metrics.iter().filter_map(|metric| match metric {
            Metric::ActiveUsers(period) => Some(*period),
            _ => None,
        });
        for (period, count) in self.active_users(periods.collect()).await? {
            figures.insert(Metric::ActiveUsers(period), count);
        }
        let days: BTreeSet<Day> = metrics.iter().filter_map(Metric::segments_of).collect();
        for day in days {
            let segments = self.segments_started_on(day).await?;
            for metric in segments.iter().flat_map(Metric::of_segment) {
                *figures.entry(metric).or_default() += 1;
            }
        }
        Ok(metrics.iter().map(|metric| figures.get(metric).copied().unwrap_or(0)).collect())
    }

    /// Of those that have any. The marks are read first: a period without one then has an aggregate that holds every
    /// membership of before.
    pub(super) async fn active_users(&self, periods: BTreeSet<Period>) -> Done<HashMap<Period, u64>> {
        if periods.is_empty() {
            return Ok(HashMap::new());
        }
        let stale = self.stale().await?;
        let (days, months): (Vec<Period>, Vec<Period>) =
            periods.iter().copied().partition(|period| matches!(period, Period::Day(_)));
        let (days, months) = try_join!(aggregates(&self.daily, days), aggregates(&self.monthly, months))?;
        let mut counts: HashMap<Period, u64> = days.into_iter().chain(months).collect();
        let stale = stale.into_iter().map(|stale| stale.period).filter(|period| periods.contains(period));
        let stale: Vec<Period> = stale.collect();
        let recounted = stream::iter(stale).map(async |period| Done::Ok((period, self.count(period).await?)));
        let recounted: Vec<_> = recounted.buffered(LOOKUPS).try_collect().await?;
        counts.extend(recounted);
        Ok(counts)
    }
}

/// By `$in`: there is one aggregate for each day or month that ever was, and at most a year of days is asked for.
async fn aggregates(periods: &Periods, asked: Vec<Period>) -> Done<Vec<(Period, u64)>> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<String> = asked.iter().map(ToString::to_string).collect();
    let found = periods.aggregates.find(Find { filter: doc! { "_id": { "$in": ids } }, ..Find::default() }).await?;
    Ok(found.into_iter().map(AggregateDocument::read).collect::<Result<_, _>>()?)
}
