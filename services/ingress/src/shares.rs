//! Who is due which shards: (relays that live, shards as they are) -> what one relay holds from now on.
//! No store, no clock. Relays decide one after another, each for itself, and none takes what another holds: shares even
//! out as those with too many let go.
use uuid::Uuid;

/// A shard as the store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) partition: i32,
    pub(crate) owner: Option<Uuid>,
    pub(crate) token: i64,
    /// Its owner has not renewed in time; until somebody takes it, it may.
    pub(crate) expired: bool,
}

/// A shard that the relay holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) partition: i32,
    pub(crate) token: i64,
    /// Another relay is due it.
    pub(crate) surplus: bool,
}

/// `relays` are all that live, this one too.
pub(crate) fn due(relay: Uuid, relays: &[Uuid], shards: &[Shard]) -> Vec<Share> {
    let most = shards.len().div_ceil(relays.len().max(1));
    let held_by = |relay: Uuid| shards.iter().filter(|shard| shard.owner == Some(relay)).count();
    let mut mine: Vec<Share> = Vec::new();
    for shard in shards.iter().filter(|shard| shard.owner == Some(relay)) {
        mine.push(Share { partition: shard.partition, token: shard.token, surplus: false });
    }
    let free = |shard: &&Shard| match shard.owner {
        Some(owner) => owner != relay && shard.expired,
        None => true,
    };
    let room = most.saturating_sub(mine.len());
    for shard in shards.iter().filter(free).take(room) {
        mine.push(Share { partition: shard.partition, token: shard.token + 1, surplus: false });
    }
    // nobody needs one from us but who has two less
    let least = relays.iter().filter(|other| **other != relay).map(|other| held_by(*other)).min();
    let needed = least.is_some_and(|least| mine.len() >= least + 2);
    let surplus = mine.len().saturating_sub(most).max(usize::from(needed));
    for share in mine.iter_mut().rev().take(surplus) {
        share.surplus = true;
    }
    mine
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn relay(number: u8) -> Uuid {
        Uuid::from_bytes([number; 16])
    }

    fn shards(owners: &[Option<u8>]) -> Vec<Shard> {
        let shard = |(partition, owner): (i32, &Option<u8>)| Shard {
            partition,
            owner: owner.map(relay),
            token: 7,
            expired: owner.is_none(),
        };
        (0..).zip(owners).map(shard).collect()
    }

    #[test]
    fn a_relay_alone_takes_everything_under_new_tokens_and_then_keeps_it() {
        let taken = due(relay(1), &[relay(1)], &shards(&[None; 12]));
        assert_eq!(taken.len(), 12);
        assert!(taken.iter().all(|share| share.token == 8 && !share.surplus));
        let kept = due(relay(1), &[relay(1)], &shards(&[Some(1); 12]));
        assert!(kept.len() == 12 && kept.iter().all(|share| share.token == 7 && !share.surplus));
    }

    #[test]
    fn what_expired_is_taken_from_another_and_kept_by_its_own() {
        let mut expired = shards(&[Some(2), Some(1), Some(2)]);
        expired.iter_mut().for_each(|shard| shard.expired = true);
        let held = due(relay(1), &[relay(1)], &expired);
        let mut tokens: Vec<_> = held.iter().map(|share| (share.partition, share.token)).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, [(0, 8), (1, 7), (2, 8)]);
    }

    #[test]
    fn what_lives_is_never_taken() {
        assert_eq!(due(relay(1), &[relay(1), relay(2)], &shards(&[Some(2); 12])), []);
    }

    proptest! {
        /// Whatever the beginning: rounds in any order end in even shares, and a shard never has two owners.
        #[test]
        fn shares_become_even(count in 1..6u8, owners in prop::collection::vec(prop::option::of(1..8u8), 12)) {
            let relays: Vec<Uuid> = (1..=count).map(relay).collect();
            let mut shards = shards(&owners);
            for shard in &mut shards {
                shard.expired = shard.owner.is_none_or(|owner| !relays.contains(&owner));
            }
            for _ in 0..40 {
                for &one in &relays {
                    for share in due(one, &relays, &shards) {
                        let shard = &mut shards[share.partition as usize];
                        let was_free = shard.owner.is_none() || shard.expired;
                        prop_assert!(shard.owner == Some(one) || (was_free && share.token > shard.token));
                        let owner = (!share.surplus).then_some(one); // let go as soon as it may be
                        *shard = Shard { owner, token: share.token, expired: owner.is_none(), ..*shard };
                    }
                }
            }
            let held = |relay: &Uuid| shards.iter().filter(|shard| shard.owner == Some(*relay)).count();
            let counts: Vec<usize> = relays.iter().map(held).collect();
            prop_assert_eq!(counts.iter().sum::<usize>(), 12, "{:?}", counts);
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
        }
    }
}
