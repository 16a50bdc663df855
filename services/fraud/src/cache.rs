//! Profiles of the partitions this instance owns, as they are in the store.
use std::{collections::HashMap, sync::Arc};

use headwater_proto::UserId;

use crate::profile::Profile;

/// About 60 MB of profiles.
const CAPACITY: usize = 1_000_000;

/// What a profile without events takes, in events.
const PROFILE_WEIGHT: usize = 8;

/// Lives for one assignment: whoever owns a partition alone may answer from it.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    partitions: HashMap<i32, HashMap<UserId, Arc<Profile>>>,
    weight: usize,
}

fn weight(profile: &Profile) -> usize {
    PROFILE_WEIGHT + profile.events.len()
}

impl Cache {
    /// Out of the cache: what happens to it next may fail.
    pub(crate) fn take(&mut self, partition: i32, user: &UserId) -> Option<Arc<Profile>> {
        let profile = self.partitions.get_mut(&partition)?.remove(user)?;
        self.weight -= weight(&profile);
        Some(profile)
    }

    /// `profile` is what the store has. Where there is no room, everything leaves: the users that are active come back
    /// with the next batches, and nothing has to be kept in order of use.
    pub(crate) fn put(&mut self, partition: i32, user: UserId, profile: Arc<Profile>) {
        if self.weight >= CAPACITY {
            *self = Self::default();
        }
        self.weight += weight(&profile);
        if let Some(replaced) = self.partitions.entry(partition).or_default().insert(user, profile) {
            self.weight -= weight(&replaced);
        }
    }

    pub(crate) fn forget(&mut self, partition: i32) {
        let forgotten = self.partitions.remove(&partition).unwrap_or_default();
        self.weight -= forgotten.values().map(|profile| weight(profile)).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_or_forgotten_is_gone_and_weighs_nothing() {
        let mut cache = Cache::default();
        let (ada, bob) = (UserId::try_from("ada").unwrap(), UserId::try_from("bob").unwrap());
        for _ in 0..2 {
            cache.put(0, ada.clone(), Arc::default());
        }
        cache.put(1, bob.clone(), Arc::default());
        assert!(cache.take(1, &ada).is_none());
        assert!(cache.take(0, &ada).is_some() && cache.take(0, &ada).is_none());
        cache.forget(1);
        assert!(cache.take(1, &bob).is_none());
        assert_eq!(cache.weight, 0);
    }

    #[test]
    fn a_full_cache_starts_anew() {
        let mut cache = Cache { weight: CAPACITY, ..Cache::default() };
        cache.put(0, UserId::try_from("ada").unwrap(), Arc::default());
        assert_eq!(cache.weight, PROFILE_WEIGHT);
    }
}
