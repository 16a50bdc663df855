//! A group's transaction, in up to three ways, the cheap one first: on a guess, with locks, alone among writers.
use std::collections::HashMap;

use headwater_proto::UserId;
use sqlx::Error;

use super::{
    super::{Authentication, Keys, Snapshot, Writes},
    PostgresStore, is_deadlock, read,
    recent::Seen,
    session::{Lock, Session},
    write::{self, Known, Landed},
};
use crate::StoreError;

/// Loaded, undecided.
struct Open {
    session: Session,
    snapshot: Snapshot,
    known: Known,
}

impl PostgresStore {
    pub(super) async fn transact_in_turn<T, F>(&self, keys: &Keys, decide: F) -> Result<T, StoreError>
    where
        T: Send,
        F: Fn(Snapshot) -> (Writes, T) + Send + Sync,
    {
        if may_be_guessed(keys) && self.recent.may_guess() {
            let guessed = self.guess(keys, &decide).await;
            match guessed {
                Ok(Some((decided, states, version))) => {
                    self.recent.right(states, version);
                    return Ok(decided);
                }
                Ok(None) => self.recent.wrong(),
                Err(error) => {
                    self.recent.wrong();
                    return Err(error);
                }
            }
        }
        for lock in [Lock::Shared, Lock::Exclusive] {
            let Some(Open { session, snapshot, known }) = self.load(keys, lock).await? else { continue };
            let (writes, decided) = decide(snapshot);
            if let Landed::All(_) = self.land(session, writes, known).await?.1 {
                return Ok(decided);
            }
        }
        Err(StoreError::data("a key that must be new is there already, though nobody else is writing"))
    }

    /// On states as they were last seen and as if every request id of the newest day were new. `None` where that was
    /// wrong.
    async fn guess<T, F>(
        &self,
        keys: &Keys,
        decide: &F,
    ) -> Result<Option<(T, Vec<(UserId, Authentication)>, i32)>, StoreError>
    where
        F: Fn(Snapshot) -> (Writes, T) + Send + Sync,
    {
        let mut seen = self.recent.take(&keys.states);
        let unseen: Vec<UserId> = keys.states.iter().filter(|user| !seen.contains_key(*user)).cloned().collect();
        let (pool, ids) = (self.pool.clone(), read::uuids(&keys.requests));
        let loaded = self.unit(async move {
            let (mut session, newest_day) = Session::begin_on_a_day(&pool).await?;
            let Some(day) = newest_day else {
                return session.roll_back().await.map(|()| None);
            };
            if !unseen.is_empty() {
                seen.extend(read::seen(&mut session, &unseen).await?);
            }
            let requests = read::older_requests(&mut session, ids, day).await?;
            Ok(Some((session, seen, requests)))
        });
        let Some((session, seen, requests)) = loaded.await? else { return Ok(None) };
        let versions: HashMap<UserId, i32> = seen.iter().map(|(user, seen)| (user.clone(), seen.version)).collect();
        let states = seen.into_iter().map(|(user, Seen { state, .. })| (user, state)).collect();
        let snapshot = Snapshot { states, requests: requests.into_iter().collect(), ..Snapshot::default() };
        let (writes, decided) = decide(snapshot);
        Ok(match self.land(session, writes, Known::Seen(versions)).await? {
            (states, Landed::All(Some(version))) => Some((decided, states, version)),
            // nothing but repetitions: nothing is new of anybody
            (_, Landed::All(None)) => Some((decided, Vec::new(), 0)),
            (_, Landed::Clash) => None,
        })
    }

    /// Locks what `keys` name and loads it. `None` where that ended a circle of waiting.
    async fn load(&self, keys: &Keys, lock: Lock) -> Result<Option<Open>, StoreError> {
        let (pool, keys) = (self.pool.clone(), keys.clone());
        self.unit(async move {
            let mut session = Session::begin(&pool, lock).await?;
            let snapshot = match read::snapshot(&mut session, &keys).await {
                Ok(snapshot) => snapshot,
                Err(error) if is_deadlock(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            let known = match lock {
                Lock::Exclusive => Known::Alone,
                _ => Known::Locked(snapshot.states.keys().cloned().collect()),
            };
            Ok(Some(Open { session, snapshot, known }))
        })
        .await
    }

    /// Writes what was decided and commits, or undoes all of it; returns the states that were to be written.
    async fn land(
        &self,
        mut session: Session,
        writes: Writes,
        known: Known,
    ) -> Result<(Vec<(UserId, Authentication)>, Landed), StoreError> {
        self.unit(async move {
            let landed = match write::all(&mut session, &writes, &known).await {
                Ok(landed @ Landed::All(_)) => session.commit().await.map(|()| landed),
                Ok(Landed::Clash) => session.roll_back().await.map(|()| Landed::Clash),
                Err(error) if is_deadlock(&error) => Ok(Landed::Clash),
                Err(error) => Err::<_, Error>(error),
            };
            landed.map(|landed| (writes.states, landed))
        })
        .await
    }
}

/// Only where nothing but states and request ids is asked for: a guess locks states last, where accounts are locked
/// they come first, and two orders would make transactions wait for each other in circles.
fn may_be_guessed(keys: &Keys) -> bool {
    !keys.states.is_empty() && keys.users.is_empty() && keys.emails.is_empty() && keys.verdicts.is_empty()
}
