//! Where a store in memory stands in the log.
use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

/// The next offset each partition still owes to one store. It lives beside the store and outlives its consumers:
/// a store in memory that starts again from the group's commit would skip what it no longer has.
#[derive(Debug, Default)]
pub struct Positions(RwLock<BTreeMap<i32, i64>>);

impl Positions {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The offset to read next; 0 where nothing was read.
    pub fn next(&self, partition: i32) -> i64 {
        let positions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        positions.get(&partition).copied().unwrap_or(0)
    }

    /// Of every partition of which something was read.
    pub fn all(&self) -> BTreeMap<i32, i64> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything below `next` is in the store. Only forward: an older owner that reports late changes nothing.
    pub fn advance(&self, partition: i32, next: i64) {
        let mut positions = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let position = positions.entry(partition).or_insert(0);
        *position = next.max(*position);
    }

    /// For a log that began anew: what was read of the old one says nothing about it.
    pub fn restart(&self, partition: i32, next: i64) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(partition, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_starts_at_0_and_never_goes_back() {
        let positions = Positions::new();
        assert_eq!(positions.next(3), 0);
        positions.advance(3, 7);
        positions.advance(3, 5);
        assert_eq!((positions.next(3), positions.next(4)), (7, 0));
        assert_eq!(positions.all(), [(3, 7)].into());
        positions.restart(3, 2);
        assert_eq!(positions.next(3), 2, "unless the log began anew");
    }
}
