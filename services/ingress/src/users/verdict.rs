//! What a verdict of the fraud service does to an account: (snapshot, verdicts in log order) -> (writes, outcomes).
//! No tokio, no clock, no metrics, no store.
use std::collections::BTreeSet;

use headwater_proto::{EventId, UserId};

use super::{Keys, Snapshot, Status, Writes};

/// A verdict as the log carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub id: EventId,
    pub user_id: UserId,
    pub status: Status,
    /// The status epoch its author last saw.
    pub epoch: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The status is at least the verdict's now.
    Applied,
    UnknownUser,
    AlreadyApplied,
    /// The account was reinstated after what the verdict rests on.
    StaleEpoch,
}

pub fn keys(verdicts: &[Verdict]) -> Keys {
    Keys {
        users: verdicts.iter().map(|verdict| verdict.user_id.clone()).collect(),
        verdicts: verdicts.iter().map(|verdict| verdict.id).collect(),
        ..Keys::default()
    }
}

/// A verdict only raises a status, and only within its own epoch; one outcome per verdict, in their order.
pub fn decide(mut snapshot: Snapshot, verdicts: &[Verdict]) -> (Writes, Vec<Outcome>) {
    let mut changed = BTreeSet::new();
    let mut applied_verdicts = Vec::new();
    let mut one = |verdict: &Verdict| {
        let Some(user) = snapshot.users.get_mut(&verdict.user_id) else { return Outcome::UnknownUser };
        if snapshot.applied_verdicts.contains(&verdict.id) {
            return Outcome::AlreadyApplied;
        }
        if user.status_epoch != verdict.epoch {
            return Outcome::StaleEpoch;
        }
        if user.status < verdict.status {
            user.status = verdict.status;
            changed.insert(verdict.user_id.clone());
        }
        snapshot.applied_verdicts.insert(verdict.id);
        applied_verdicts.push(verdict.id);
        Outcome::Applied
    };
    let outcomes = verdicts.iter().map(&mut one).collect();
    let changed_users = changed.iter().filter_map(|user_id| snapshot.users.remove(user_id)).collect();
    (Writes { changed_users, applied_verdicts, ..Writes::default() }, outcomes)
}

#[cfg(test)]
mod tests {
    use super::{super::User, Outcome::*, Status::*, *};
    use crate::fields::Email;
    use headwater_proto::Millis;

    fn snapshot(status: Status, status_epoch: i64) -> Snapshot {
        let id = UserId::try_from("ada").unwrap();
        let email = Email::try_from("ada@example.com").unwrap();
        let created_at = Millis::from_millis(0);
        let user = User { id: id.clone(), email, password_hash: "h".into(), status, status_epoch, created_at };
        Snapshot { users: [(id, user)].into(), ..Snapshot::default() }
    }

    fn verdict(id: u8, user_id: &str, status: Status, epoch: i64) -> Verdict {
        Verdict { id: EventId::from_bytes([id; 16]), user_id: UserId::try_from(user_id).unwrap(), status, epoch }
    }

    #[test]
    fn a_verdict_raises_the_status_once_and_only_in_its_own_epoch() {
        let table = [
            ("raises", Active, 0, vec![verdict(1, "ada", Flagged, 0)], vec![Applied], Some(Flagged)),
            ("never lowers", Suspended, 0, vec![verdict(1, "ada", Flagged, 0)], vec![Applied], None),
            ("equal changes nothing", Flagged, 0, vec![verdict(1, "ada", Flagged, 0)], vec![Applied], None),
            ("older epoch", Active, 1, vec![verdict(1, "ada", Suspended, 0)], vec![StaleEpoch], None),
            ("epoch not begun", Active, 0, vec![verdict(1, "ada", Suspended, 1)], vec![StaleEpoch], None),
            ("nobody", Active, 0, vec![verdict(1, "eve", Suspended, 0)], vec![UnknownUser], None),
            (
                "twice in one batch",
                Active,
                0,
                vec![verdict(1, "ada", Flagged, 0), verdict(1, "ada", Flagged, 0), verdict(2, "ada", Suspended, 0)],
                vec![Applied, AlreadyApplied, Applied],
                Some(Suspended),
            ),
        ];
        for (name, status, epoch, verdicts, outcomes, changed) in table {
            let (writes, seen) = decide(snapshot(status, epoch), &verdicts);
            assert_eq!(seen, outcomes, "{name}");
            assert_eq!(writes.changed_users.first().map(|user| user.status), changed, "{name}");
            assert_eq!(writes.applied_verdicts.len(), seen.iter().filter(|o| **o == Applied).count(), "{name}");
        }
    }

    #[test]
    fn an_applied_verdict_is_skipped_after_a_restart_too() {
        let again = verdict(1, "ada", Suspended, 0);
        let known = Snapshot { applied_verdicts: [again.id].into(), ..snapshot(Active, 0) };
        assert_eq!(decide(known, &[again]).1, [AlreadyApplied]);
    }
}
