//! A user's sessions in the order and portions in which they are shown. Pure: no store, no clock.
use headwater_proto::Millis;

use crate::{
    event::SessionKey,
    sessions::{Segment, Session},
};

/// One line of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed<'a> {
    pub(crate) key: &'a SessionKey,
    /// Of the segment, from 1.
    pub(crate) number: usize,
    pub(crate) segment: Segment,
}

/// Start (milliseconds since the Unix epoch), session id and segment number: the order of the list, the last shown
/// line of which a page token carries. A line that comes in before it while somebody turns pages is not shown to them,
/// and none is shown twice.
pub(crate) type Place = (i64, String, usize);

impl Listed<'_> {
    fn order(&self) -> (Millis, &str, usize) {
        (self.segment.started_at, &self.key.session_id, self.number)
    }

    fn place(&self) -> Place {
        let (start, session_id, number) = self.order();
        (start.as_millis(), session_id.to_owned(), number)
    }
}

/// The first `size` lines beyond `after`, and the place to go on from if there are more.
pub(crate) fn page<'a>(
    sessions: &'a [Session],
    after: Option<&Place>,
    size: usize,
) -> (Vec<Listed<'a>>, Option<Place>) {
    let lines = sessions.iter().flat_map(|Session { key, segments, .. }| {
        segments.iter().zip(1..).map(move |(&segment, number)| Listed { key, number, segment })
    });
    let after = after.map(|(start, session_id, number)| (Millis::from_millis(*start), session_id.as_str(), *number));
    let mut lines: Vec<Listed<'_>> = lines.filter(|line| after.is_none_or(|after| line.order() > after)).collect();
    lines.sort_unstable_by(|a, b| a.order().cmp(&b.order()));
    let more = lines.len() > size;
    lines.truncate(size);
    let next = lines.last().filter(|_| more).map(Listed::place);
    (lines, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SessionEvent, Timeout, store::conformance::event};
    use headwater_proto::EventType;
    use std::time::Duration;

    #[test]
    fn pages_of_any_size_show_every_segment_once_by_start_then_session_id() {
        let login = |(id, session, time): (u128, &str, &str)| {
            event(id, EventType::UserLoggedIn, "ann", session, &format!("2026-01-15T{time}Z"))
        };
        let session = |events: &[SessionEvent]| {
            Session::build(events[0].session().unwrap(), events, Timeout::new(Duration::from_secs(60)).unwrap())
        };
        let sessions = [
            session(&[(1, "c", "10:00:00"), (2, "c", "12:00:00")].map(login)),
            session(&[(3, "b", "11:00:00")].map(login)),
            session(&[(4, "a", "10:00:00"), (5, "a", "09:00:00"), (6, "a", "13:00:00")].map(login)),
        ];
        for size in 1..=7 {
            let (mut shown, mut after) = (Vec::new(), None);
            loop {
                let (lines, next) = page(&sessions, after.as_ref(), size);
                assert!(lines.len() == size || next.is_none());
                shown.extend(lines.iter().map(|line| format!("{}{}", line.key.session_id, line.number)));
                after = next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(shown, ["a1", "a2", "c1", "b1", "c2", "a3"], "pages of {size}");
        }
        assert_eq!(page(&[], None, 3), (vec![], None));
    }
}
