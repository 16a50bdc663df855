//! The collection `sessions`: read by key, written over a version, found by day and by user.
use std::collections::{HashMap, HashSet};

use futures::try_join;
use headwater_documents::{
    Change, Find,
    bson::{self, Document, doc},
};
use headwater_proto::{Day, UserId};

use super::{
    Collections, Done,
    documents::{SegmentDocument, SessionDocument, start_days, whole},
    read_all,
};
use crate::{
    event::SessionKey,
    sessions::{Segment, Session},
    store::SessionWrite,
};

/// A version on its way, with the one before where that is at hand.
struct Update {
    before: Option<Session>,
    write: SessionWrite,
}

impl Collections {
    pub(super) async fn sessions(&self, keys: &[SessionKey]) -> Done<Vec<Session>> {
        let mut sessions: Vec<Option<Session>> = keys.iter().map(|key| self.known.session(key)).collect();
        let absent = sessions.iter_mut().zip(keys).filter(|(known, _)| known.is_none());
        let (absent, asked): (Vec<_>, Vec<_>) = absent.map(|(place, key)| (place, key.id())).unzip();
        for (place, found) in absent.into_iter().zip(self.sessions.get_each(asked).await?) {
            *place = found.map(Session::try_from).transpose()?;
            self.known.stored(place.clone());
        }
        let empty =
            |(stored, key): (Option<Session>, &SessionKey)| stored.unwrap_or_else(|| Session::empty(key.clone()));
        Ok(sessions.into_iter().zip(keys).map(empty).collect())
    }

    pub(super) async fn put_sessions(&self, writes: Vec<SessionWrite>) -> Done<Vec<SessionKey>> {
        let (mut first, mut next) = (Vec::new(), Vec::new());
        for write in writes {
            let before = self.known.take_session(&write.session.key, write.replaces);
            match write.replaces {
                0 => first.push(write.session),
                _ => next.push(Update { before, write }),
            }
        }
        let (mut refused, also) = try_join!(self.insert_sessions(first), self.update_sessions(next))?;
        refused.extend(also);
        Ok(refused)
    }

    async fn insert_sessions(&self, sessions: Vec<Session>) -> Done<Vec<SessionKey>> {
        let documents: Vec<SessionDocument> = sessions.iter().map(Into::into).collect();
        let mut sessions: HashMap<usize, Session> = sessions.into_iter().enumerate().collect();
        let refused = self.sessions.insert_new(&documents).await?;
        let refused = refused.iter().filter_map(|place| sessions.remove(place)).map(|session| session.key).collect();
        self.known.stored(sessions.into_values());
        Ok(refused)
    }

    /// Where it is not certain that a session was written, it counts as refused.
    async fn update_sessions(&self, updates: Vec<Update>) -> Done<Vec<SessionKey>> {
        let changes = updates.iter().map(Update::change).collect::<Result<Vec<_>, _>>()?;
        let missed: HashSet<usize> = self.sessions.update(&changes).await?.into_iter().collect();
        let (missed, written): (Vec<_>, Vec<_>) =
            updates.into_iter().enumerate().partition(|(place, _)| missed.contains(place));
        self.known.stored(written.into_iter().map(|(_, update)| update.write.session));
        Ok(missed.into_iter().map(|(_, update)| update.write.session.key).collect())
    }

    pub(super) async fn segments_started_on(&self, day: Day) -> Done<Vec<Segment>> {
        let filter = doc! { "startDays": day.to_string() };
        let sessions: Vec<Session> = read_all(self.sessions.find(Find { filter, ..Find::default() }).await?)?;
        let segments = sessions.into_iter().flat_map(|session| session.segments);
        Ok(segments.filter(|segment| segment.started_at.day() == day).collect())
    }

    pub(super) async fn sessions_of(&self, user_id: &UserId) -> Done<Option<Vec<Session>>> {
        let filter = doc! { "userId": user_id.as_str() };
        let sessions = self.sessions.find(Find { filter: filter.clone(), ..Find::default() }).await?;
        if sessions.is_empty() {
            let seen = self.events.find(Find { filter, limit: Some(1), ..Find::default() }).await?;
            return Ok((!seen.is_empty()).then(Vec::new));
        }
        read_all(sessions).map(Some)
    }
}

impl Update {
    fn change(&self) -> Result<Change, headwater_documents::Error> {
        let SessionWrite { replaces, session } = &self.write;
        let filter = doc! { "_id": session.key.id(), "n": whole(*replaces) };
        Change::new(filter, &doc! { "$set": self.set() })
    }

    /// The fields that differ. Nearly every version only adds to the last segment or behind it, and a session that
    /// never ends has many; all are written where the version before is not at hand, or had more.
    fn set(&self) -> Document {
        let after = &self.write.session;
        let mut set = doc! { "n": whole(after.n) };
        let before = self.before.as_ref().map(|before| before.segments.as_slice()).unwrap_or_default();
        let grown = !before.is_empty() && before.len() <= after.segments.len();
        let days = start_days(&after.segments);
        if !grown || days != start_days(before) {
            set.insert("startDays", days);
        }
        if grown {
            for (number, segment) in after.segments.iter().enumerate() {
                if before.get(number) != Some(segment) {
                    set.insert(format!("segments.{number}"), document(segment));
                }
            }
        } else {
            set.insert("segments", after.segments.iter().map(document).collect::<Vec<_>>());
        }
        set
    }
}

fn document(segment: &Segment) -> Document {
    bson::serialize_to_document(&SegmentDocument::from(segment)).expect("a segment is a document")
}
