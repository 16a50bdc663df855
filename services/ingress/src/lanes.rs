//! Where actions become durable: a few lanes, each a queue and one transaction at a time.
//!
//! A user's actions are all in one lane, so they are decided in the order they came. Whatever waits in a lane commits
//! together, so the cost of a commit is shared. A failed or unknown commit breaks the lane: everything that was queued
//! before the break fails, so that each user's accepted events stay a prefix of what was sent.
mod queue;
mod worker;

pub(crate) use queue::{Failure, Lanes, Reply};
pub(crate) use worker::Worker;

#[cfg(test)]
mod tests;
