//! The collections in the memory of this process: exact, fast, and gone at exit.
use std::{
    collections::{BTreeMap, HashMap, HashSet, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use headwater_proto::{Day, EventId, UserId};
use headwater_stream::Positions;

use super::{Answer, SessionWrite, Stale, Store};
use crate::{
    activity::{Member, Period},
    event::{SessionEvent, SessionKey},
    metric::Metric,
    revisions::Revision,
    sessions::{Segment, Session},
};

/// Outlives the consumers that fill it, and keeps beside the documents how far into the log they reach.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore {
    collections: Arc<Mutex<Collections>>,
    positions: Arc<Positions>,
}

#[derive(Debug, Default)]
struct Collections {
    events: HashMap<EventId, SessionEvent>,
    /// Everyone seen, with what happened under each of their session ids.
    users: HashMap<UserId, HashMap<Arc<str>, Stay>>,
    /// Index: the sessions with a segment that starts on the day.
    starts: HashMap<Day, HashSet<SessionKey>>,
    /// Of sessions only; active users are counted from their members.
    figures: HashMap<Metric, u64>,
    activity: HashMap<Period, Activity>,
    newest_day: Option<Day>,
    revisions: BTreeMap<String, Revision>,
    marks: u64,
}

#[derive(Debug, Default)]
struct Stay {
    /// Index: the events of the session.
    events: Vec<EventId>,
    n: u64,
    segments: Vec<Segment>,
}

#[derive(Debug, Default)]
struct Activity {
    members: HashSet<UserId>,
    counted: u64,
    stale: Option<u64>,
}

impl MemoryStore {
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Collections> {
        self.collections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collections {
    fn stay(&self, key: &SessionKey) -> Option<&Stay> {
        self.users.get(&key.user_id)?.get(&key.session_id)
    }

    fn insert_event(&mut self, event: &SessionEvent) -> Option<SessionEvent> {
        match self.events.entry(event.id) {
            Entry::Occupied(stored) => return Some(stored.get().clone()),
            Entry::Vacant(free) => free.insert(event.clone()),
        };
        let stays = self.users.entry(event.user_id.clone()).or_default();
        if let Some(session_id) = &event.session_id {
            stays.entry(session_id.clone()).or_default().events.push(event.id);
        }
        None
    }

    fn add_member(&mut self, member: &Member) {
        self.marks += 1;
        let activity = self.activity.entry(member.period).or_default();
        activity.members.insert(member.user_id.clone());
        activity.stale = Some(self.marks);
        if let Period::Day(day) = member.period {
            self.newest_day = self.newest_day.max(Some(day));
        }
    }

    /// `Err` where another version has come in between.
    fn put_session(&mut self, SessionWrite { replaces, session }: SessionWrite) -> Result<(), SessionKey> {
        let Session { key, n, segments } = session;
        let stay = self.users.entry(key.user_id.clone()).or_default().entry(key.session_id.clone()).or_default();
        if stay.n != replaces {
            return Err(key);
        }
        for segment in &stay.segments {
            if let Some(sessions) = self.starts.get_mut(&segment.started_at.day()) {
                sessions.remove(&key);
            }
            for metric in Metric::of_segment(segment) {
                self.figures.entry(metric).and_modify(|figure| *figure -= 1);
            }
        }
        for segment in &segments {
            self.starts.entry(segment.started_at.day()).or_default().insert(key.clone());
            for metric in Metric::of_segment(segment) {
                *self.figures.entry(metric).or_default() += 1;
            }
        }
        (stay.n, stay.segments) = (n, segments);
        Ok(())
    }

    fn figure(&self, metric: &Metric) -> u64 {
        let Metric::ActiveUsers(period) = metric else { return self.figures.get(metric).copied().unwrap_or(0) };
        self.activity.get(period).map_or(0, |activity| match activity.stale {
            Some(_) => activity.members.len() as u64,
            None => activity.counted,
        })
    }
}

impl Store for MemoryStore {
    fn positions(&self) -> Option<Arc<Positions>> {
        Some(self.positions.clone())
    }

    async fn insert_events(&self, events: &[SessionEvent]) -> Answer<Vec<Option<SessionEvent>>> {
        let mut collections = self.lock();
        Ok(events.iter().map(|event| collections.insert_event(event)).collect())
    }

    async fn add_members(&self, members: &[Member]) -> Answer<()> {
        let mut collections = self.lock();
        members.iter().for_each(|member| collections.add_member(member));
        Ok(())
    }

    async fn absent_members(&self, mut members: Vec<Member>) -> Answer<Vec<Member>> {
        let collections = self.lock();
        members.retain(|member| {
            collections.activity.get(&member.period).is_none_or(|a| !a.members.contains(&member.user_id))
        });
        Ok(members)
    }

    async fn newest_day(&self) -> Answer<Option<Day>> {
        Ok(self.lock().newest_day)
    }

    async fn sessions(&self, keys: &[SessionKey]) -> Answer<Vec<Session>> {
        let collections = self.lock();
        let session = |key: &SessionKey| match collections.stay(key) {
            Some(stay) => Session { key: key.clone(), n: stay.n, segments: stay.segments.clone() },
            None => Session::empty(key.clone()),
        };
        Ok(keys.iter().map(session).collect())
    }

    async fn session_events(&self, keys: &[SessionKey]) -> Answer<Vec<Vec<SessionEvent>>> {
        let collections = self.lock();
        let events = |key| {
            let ids = collections.stay(key).into_iter().flat_map(|stay| &stay.events);
            ids.filter_map(|id| collections.events.get(id)).cloned().collect()
        };
        Ok(keys.iter().map(events).collect())
    }

    async fn put_sessions(&self, writes: Vec<SessionWrite>) -> Answer<Vec<SessionKey>> {
        let mut collections = self.lock();
        Ok(writes.into_iter().filter_map(|write| collections.put_session(write).err()).collect())
    }

    async fn insert_revisions(&self, revisions: Vec<Revision>) -> Answer<()> {
        let mut collections = self.lock();
        for revision in revisions {
            collections.revisions.entry(revision.id()).or_insert(revision);
        }
        Ok(())
    }

    async fn stale(&self) -> Answer<Vec<Stale>> {
        let collections = self.lock();
        let stale = |(&period, activity): (_, &Activity)| Some(Stale { period, marks: vec![activity.stale?] });
        Ok(collections.activity.iter().filter_map(stale).collect())
    }

    async fn recount(&self, stale: Stale) -> Answer<()> {
        if let Some(activity) = self.lock().activity.get_mut(&stale.period) {
            activity.counted = activity.counted.max(activity.members.len() as u64);
            activity.stale.take_if(|mark| stale.marks.contains(mark));
        }
        Ok(())
    }

    async fn figures(&self, metrics: &[Metric]) -> Answer<Vec<u64>> {
        let collections = self.lock();
        Ok(metrics.iter().map(|metric| collections.figure(metric)).collect())
    }

    async fn segments_started_on(&self, day: Day) -> Answer<Vec<Segment>> {
        let collections = self.lock();
        let sessions = collections.starts.get(&day).into_iter().flatten();
        let segments = sessions.filter_map(|key| collections.stay(key)).flat_map(|stay| &stay.segments);
        Ok(segments.filter(|segment| segment.started_at.day() == day).copied().collect())
    }

    async fn sessions_of(&self, user_id: &UserId) -> Answer<Option<Vec<Session>>> {
        let collections = self.lock();
        let Some(stays) = collections.users.get(user_id) else { return Ok(None) };
        let session = |(session_id, stay): (&Arc<str>, &Stay)| {
            let key = SessionKey { user_id: user_id.clone(), session_id: session_id.clone() };
            (stay.n > 0).then(|| Session { key, n: stay.n, segments: stay.segments.clone() })
        };
        Ok(Some(stays.iter().filter_map(session).collect()))
    }

    async fn revisions_of(&self, period: Period) -> Answer<Vec<Revision>> {
        let collections = self.lock();
        Ok(collections.revisions.values().filter(|r| r.metric.period() == period).cloned().collect())
    }
}
