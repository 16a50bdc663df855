//! What of one shard is on its way to the log, and under which lease. No Kafka, no store, no clock.
use crate::outbox::{Lease, SentRow};

/// The rows that were read and are not yet deleted, in the order in which they were produced.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// `None` where another relay has the shard, or none.
    lease: Option<Lease>,
    rows: Vec<Row>,
    /// A row that nobody can read keeps everything behind it waiting: it is never skipped.
    stopped: bool,
}

#[derive(Debug)]
struct Row {
    id: i64,
    bytes: usize,
    in_log: bool,
}

impl Shard {
    /// The lease as it is now. True where that takes the shard away while rows are in flight: they are to be purged,
    /// since who has it now sends them.
    pub(super) fn leased(&mut self, lease: Option<Lease>) -> bool {
        let lost = self.lease.is_some_and(|held| lease.is_none_or(|lease| lease.token != held.token));
        let in_flight = lost && self.rows.iter().any(|row| !row.in_log);
        if lost {
            self.rows.clear(); // who has the shard now reads them again
            self.stopped = false;
        }
        self.lease = lease;
        in_flight
    }

    pub(super) fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// The lease, while it may be read under.
    pub(super) fn readable(&self) -> Option<Lease> {
        self.lease.filter(|lease| !self.stopped && !lease.surplus)
    }

    /// A lease that is to be given back, once nothing depends on it.
    pub(super) fn releasable(&self) -> Option<Lease> {
        self.lease.filter(|lease| lease.surplus && self.rows.is_empty())
    }

    /// Excluded from the next reading.
    pub(super) fn ids(&self) -> Vec<i64> {
        self.rows.iter().map(|row| row.id).collect()
    }

    /// How many bytes more may be in flight within a window of so many bytes and rows; `None` where it is full.
    pub(super) fn room(&self, bytes: usize, rows: usize) -> Option<usize> {
        let taken = self.rows.iter().map(|row| row.bytes).sum();
        bytes.checked_sub(taken).filter(|&room| room > 0 && self.rows.len() < rows)
    }

    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    pub(super) fn produced(&mut self, id: i64, bytes: usize) {
        self.rows.push(Row { id, bytes, in_log: false });
    }

    /// The broker reported every record of the row.
    pub(super) fn in_log(&mut self, id: i64) {
        if let Some(row) = self.rows.iter_mut().find(|row| row.id == id) {
            row.in_log = true;
        }
    }

    /// The rows that are in the log with everything that was produced before them.
    pub(super) fn deletable(&self) -> impl Iterator<Item = SentRow> {
        let in_log = self.rows.iter().take_while(|row| row.in_log);
        self.lease.into_iter().flat_map(move |lease| in_log.clone().map(move |row| SentRow { id: row.id, lease }))
    }

    /// The deletable rows were deleted.
    pub(super) fn deleted(&mut self) {
        let first_left = self.rows.iter().position(|row| !row.in_log).unwrap_or(self.rows.len());
        self.rows.drain(..first_left);
    }

    /// From the first row that is not in the log on, everything is read and produced again: a later row that is in
    /// the log already would otherwise stand before it for good.
    pub(super) fn give_up(&mut self) {
        let first_failed = self.rows.iter().position(|row| !row.in_log).unwrap_or(self.rows.len());
        self.rows.truncate(first_failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(token: i64) -> Lease {
        Lease { partition: 3, token, surplus: false }
    }

    fn deletable(shard: &Shard) -> Vec<i64> {
        shard.deletable().map(|row| row.id).collect()
    }

    fn shard(rows: &[(i64, bool)]) -> Shard {
        let mut shard = Shard::default();
        shard.leased(Some(lease(1)));
        for &(id, in_log) in rows {
            shard.produced(id, 10);
            if in_log {
                shard.in_log(id);
            }
        }
        shard
    }

    #[test]
    fn only_what_nothing_failed_before_is_deleted() {
        for (rows, expected, left) in [
            (&[][..], &[][..], &[][..]),
            (&[(1, true), (2, true)], &[1, 2], &[]),
            (&[(5, true), (3, true), (7, false), (8, true)], &[5, 3], &[7, 8]),
            (&[(1, false), (2, true)], &[], &[1, 2]),
        ] {
            let mut shard = shard(rows);
            assert_eq!(deletable(&shard), expected);
            shard.deleted();
            assert_eq!((shard.ids(), shard.room(100, 10)), (left.to_vec(), Some(100 - 10 * left.len())));
        }
    }

    #[test]
    fn a_window_is_full_by_bytes_or_by_rows() {
        let shard = shard(&[(1, false), (2, true)]);
        for (bytes, rows, room) in [(30, 3, Some(10)), (20, 3, None), (10, 3, None), (30, 2, None), (30, 1, None)] {
            assert_eq!(shard.room(bytes, rows), room, "{bytes} bytes, {rows} rows");
        }
    }

    #[test]
    fn giving_up_keeps_what_may_be_deleted_and_nothing_else() {
        let mut shard = shard(&[(1, true), (2, false), (3, true)]);
        shard.give_up();
        assert_eq!(shard.ids(), [1], "2 and 3 are read again, in this order");
        shard.in_log(3); // a late report of a row that is no longer in flight
        assert_eq!(deletable(&shard), [1]);
    }

    #[test]
    fn a_lease_that_another_holds_takes_the_rows_along_and_says_whether_any_was_in_flight() {
        for (rows, new, in_flight, left) in [
            (&[(1, true), (2, false)][..], Some(lease(1)), false, vec![1, 2]),
            (&[(1, true), (2, false)], Some(lease(2)), true, vec![]),
            (&[(1, true), (2, false)], None, true, vec![]),
            (&[(1, true)], None, false, vec![]),
        ] {
            let mut shard = shard(rows);
            assert_eq!(shard.leased(new), in_flight);
            assert_eq!((shard.ids(), shard.readable()), (left, new));
        }
    }

    #[test]
    fn a_surplus_shard_is_read_no_more_and_given_back_when_nothing_is_in_flight() {
        let mut shard = shard(&[(1, false)]);
        let surplus = Lease { surplus: true, ..lease(1) };
        assert!(!shard.leased(Some(surplus)));
        assert_eq!((shard.readable(), shard.releasable()), (None, None));
        shard.in_log(1);
        shard.deleted();
        assert_eq!(shard.releasable(), Some(surplus));
    }
}
