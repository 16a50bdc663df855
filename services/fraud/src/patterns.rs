//! Finds the one pattern of a rule that an arriving event completes. Pure.
//!
//! Only patterns that contain the arriving event are looked at. Of several, the one with the earliest last event
//! counts, and in it, from the end backwards, the latest events that still include the arriving one. Everything that
//! can be in such a pattern lies within one window before or after the arriving event, and each search reads that
//! stretch a fixed number of times: the work is linear in it.
use std::{cmp::Reverse, collections::HashMap};

use headwater_proto::{EventType, Millis};

use crate::{
    profile::Kept,
    rules::{Pattern, Rule},
};

/// The pattern that `events[arrived]` completes, in order. `events` are in their order. Where the rule matched before,
/// the last event must be more than a window after that match (`matched_at`, the greatest); as a pattern is no longer
/// than the window, all of its events are then later than the match.
pub(crate) fn find(rule: &Rule, events: &[Kept], arrived: usize, matched_at: Option<Millis>) -> Option<Vec<Kept>> {
    if !rule.pattern.takes(events[arrived].event_type) {
        return None;
    }
    let (stretch, arrived) = stretch(rule, events, arrived)?;
    let search = Search { events: &stretch, arrived, window: rule.window, matched_at };
    match &rule.pattern {
        Pattern::Sequence(types) => search.sequence(types),
        Pattern::Count { events, .. } => search.count(*events),
        Pattern::DistinctIps { ips, .. } => search.distinct_ips(*ips),
    }
}

/// What the rule takes within one window before and after the arriving event, and where in it that event is.
fn stretch<'a>(rule: &Rule, events: &'a [Kept], arrived: usize) -> Option<(Vec<&'a Kept>, usize)> {
    let needs_ip = matches!(rule.pattern, Pattern::DistinctIps { .. });
    let fits = |kept: &&Kept| rule.pattern.takes(kept.event_type) && !kept.cleared && (kept.ip.is_some() || !needs_ip);
    let at = events[arrived].occurred_at;
    let (before, after) = events.split_at(arrived);
    let first = before.partition_point(|kept| at.since(kept.occurred_at) > rule.window);
    let end = after.partition_point(|kept| kept.occurred_at.since(at) <= rule.window);
    let mut stretch: Vec<&Kept> = before[first..].iter().filter(fits).collect();
    let arrived = stretch.len();
    stretch.extend(after[..end].iter().filter(fits));
    let taken = stretch.get(arrived).is_some_and(|kept| kept.id == after[0].id); // an event without ip is no evidence
    taken.then_some((stretch, arrived))
}

struct Search<'a> {
    events: &'a [&'a Kept],
    arrived: usize,
    window: i64,
    matched_at: Option<Millis>,
}

impl Search<'_> {
    /// Whether a pattern may end with this event.
    fn may_end(&self, last: usize) -> bool {
        self.matched_at.is_none_or(|matched_at| self.events[last].occurred_at.since(matched_at) > self.window)
    }

    fn in_one_window(&self, first: usize, last: usize) -> bool {
        self.events[last].occurred_at.since(self.events[first].occurred_at) <= self.window
    }

    /// From indices that run backwards.
    fn pattern(&self, backwards: &[usize]) -> Vec<Kept> {
        backwards.iter().rev().map(|&index| *self.events[index]).collect()
    }

    fn sequence(&self, types: &[EventType]) -> Option<Vec<Kept>> {
        let arrived = self.events[self.arrived].event_type;
        let roles = (0..types.len()).filter(|&role| types[role] == arrived);
        let patterns = roles.filter_map(|role| self.sequence_with(types, role));
        let best = patterns.min_by(|a, b| (a[0], Reverse(&a[1..])).cmp(&(b[0], Reverse(&b[1..]))))?;
        Some(self.pattern(&best))
    }

    /// The sequence in which the arriving event is `types[role]`, as indices from the last event to the first.
    fn sequence_with(&self, types: &[EventType], role: usize) -> Option<Vec<usize>> {
        let (before, after) = (&types[..role], &types[role + 1..]);
        let last = self.earliest_end(after)?;
        let mut backwards = Vec::with_capacity(types.len());
        if let Some((_, middle)) = after.split_last() {
            backwards.push(last);
            self.latest_before(last, middle, &mut backwards)?;
        }
        backwards.push(self.arrived);
        self.latest_before(self.arrived, before, &mut backwards)?;
        self.in_one_window(*backwards.last()?, last).then_some(backwards)
    }

    /// Where the earliest chain of these types after the arriving event ends.
    fn earliest_end(&self, types: &[EventType]) -> Option<usize> {
        let Some((last, middle)) = types.split_last() else {
            return self.may_end(self.arrived).then_some(self.arrived);
        };
        let mut next = self.arrived + 1;
        for wanted in middle {
            next += self.events.get(next..)?.iter().position(|kept| kept.event_type == *wanted)? + 1;
        }
        (next..self.events.len()).find(|&index| self.events[index].event_type == *last && self.may_end(index))
    }

    /// Adds the latest chain of these types before `end`, last first.
    fn latest_before(&self, mut end: usize, types: &[EventType], backwards: &mut Vec<usize>) -> Option<()> {
        for wanted in types.iter().rev() {
            end = self.events[..end].iter().rposition(|kept| kept.event_type == *wanted)?;
            backwards.push(end);
        }
        Some(())
    }

    fn count(&self, wanted: usize) -> Option<Vec<Kept>> {
        let mut first = 0;
        for last in self.arrived..self.events.len() {
            while !self.in_one_window(first, last) {
                first += 1;
            }
            if first > self.arrived {
                return None;
            }
            if last - first + 1 >= wanted && self.may_end(last) {
                return self.latest(wanted, first, last, |_, _| true);
            }
        }
        None
    }

    fn distinct_ips(&self, wanted: usize) -> Option<Vec<Kept>> {
        let ip = |index: usize| self.events[index].ip;
        let differ = |a, b| ip(a) != ip(b);
        // as the stretch begins one window before it, all that can precede the arriving event is in it
        if self.may_end(self.arrived)
            && let Some(found) = self.latest(wanted, 0, self.arrived, differ)
        {
            return Some(found);
        }
        if self.arrived + 1 == self.events.len() {
            return None; // spares the usual case, an event in its order, the count of every ip
        }
        let mut ips: HashMap<_, usize> = HashMap::new();
        let mut first = 0;
        for last in 0..self.events.len() {
            *ips.entry(ip(last)).or_default() += 1;
            while !self.in_one_window(first, last) {
                if let Some(events) = ips.get_mut(&ip(first)).filter(|events| **events > 1) {
                    *events -= 1;
                } else {
                    ips.remove(&ip(first));
                }
                first += 1;
            }
            if first > self.arrived {
                return None;
            }
            if last > self.arrived && differ(last, self.arrived) && ips.len() >= wanted && self.may_end(last) {
                return self.latest(wanted, first, last, differ);
            }
        }
        None
    }

    /// The `wanted` latest events between `first` and `last`, both included, among them the last, the arriving one and
    /// no two that do not go together. `None` where there are not so many.
    fn latest(
        &self,
        wanted: usize,
        first: usize,
        last: usize,
        together: impl Fn(usize, usize) -> bool,
    ) -> Option<Vec<Kept>> {
        let mut backwards = vec![last];
        for index in (first..last).rev() {
            let to_come = index >= self.arrived; // then one place is the arriving event's
            let is_arrived = index == self.arrived;
            let room = wanted - backwards.len() > usize::from(to_come && !is_arrived);
            let fits = || is_arrived || !to_come || together(index, self.arrived);
            if room && fits() && backwards.iter().all(|&taken| together(index, taken)) {
                backwards.push(index);
            }
            if backwards.len() == wanted {
                break;
            }
        }
        (backwards.len() == wanted).then(|| self.pattern(&backwards))
    }
}

#[cfg(test)]
mod tests;
