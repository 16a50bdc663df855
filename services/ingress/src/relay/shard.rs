//! What of one shard is on its way to the log. No Kafka, no store, no clock.

/// The rows that were read and are not yet deleted, in the order in which they were produced.
#[derive(Debug, Default)]
pub(super) struct Shard {
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
    /// Excluded from the next reading.
    pub(super) fn ids(&self) -> Vec<i64> {
        self.rows.iter().map(|row| row.id).collect()
    }

    pub(super) fn bytes(&self) -> usize {
        self.rows.iter().map(|row| row.bytes).sum()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
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
    pub(super) fn deletable(&self) -> impl Iterator<Item = i64> {
        self.rows.iter().take_while(|row| row.in_log).map(|row| row.id)
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

    fn shard(rows: &[(i64, bool)]) -> Shard {
        let mut shard = Shard::default();
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
        for (rows, deletable, left) in [
            (&[][..], &[][..], &[][..]),
            (&[(1, true), (2, true)], &[1, 2], &[]),
            (&[(5, true), (3, true), (7, false), (8, true)], &[5, 3], &[7, 8]),
            (&[(1, false), (2, true)], &[], &[1, 2]),
        ] {
            let mut shard = shard(rows);
            assert_eq!(shard.deletable().collect::<Vec<_>>(), deletable);
            shard.deleted();
            assert_eq!((shard.ids(), shard.bytes()), (left.to_vec(), 10 * left.len()));
        }
    }

    #[test]
    fn giving_up_keeps_what_may_be_deleted_and_nothing_else() {
        let mut shard = shard(&[(1, true), (2, false), (3, true)]);
        shard.give_up();
        assert_eq!(shard.ids(), [1], "2 and 3 are read again, in this order");
        shard.in_log(3); // a late report of a row that is no longer in flight
        assert_eq!(shard.deletable().collect::<Vec<_>>(), [1]);
    }
}
