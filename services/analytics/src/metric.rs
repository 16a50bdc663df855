//! The figures that analytics keeps, by the day or month of what they count. Pure: no Kafka, no store, no clock.
use headwater_proto::Day;

use crate::{activity::Period, sessions::Segment};

/// A figure that can be asked for, and that a late event can change. None of them depends on the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// Its distinct members.
    ActiveUsers(Period),
    /// Segments that start on the day, with user.logged_in.
    SessionsStarted(Day),
    /// Those of them that end with user.logged_out.
    SessionsEndedByLogout(Day),
}

impl Metric {
    /// The session figures that a segment counts in.
    pub fn of_segment(segment: &Segment) -> impl Iterator<Item = Self> {
        let day = segment.started_at.day();
        let started = segment.logged_in.then_some(Self::SessionsStarted(day));
        let ended = (segment.logged_in && segment.logged_out).then_some(Self::SessionsEndedByLogout(day));
        started.into_iter().chain(ended)
    }

    /// The day whose segments it is counted from; none for what is counted from members.
    pub const fn segments_of(&self) -> Option<Day> {
        match *self {
            Self::ActiveUsers(_) => None,
            Self::SessionsStarted(day) | Self::SessionsEndedByLogout(day) => Some(day),
        }
    }

    /// The other way round from [`Metric::name`] and [`Metric::period`].
    pub fn named(name: &str, period: Period) -> Option<Self> {
        let active = Self::ActiveUsers(period);
        let of_day = match period {
            Period::Day(day) => [active, Self::SessionsStarted(day), Self::SessionsEndedByLogout(day)],
            Period::Month(_) => [active; 3],
        };
        of_day.into_iter().find(|metric| metric.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveUsers(Period::Day(_)) => "daily_active_users",
            Self::ActiveUsers(Period::Month(_)) => "monthly_active_users",
            Self::SessionsStarted(_) => "sessions_started",
            Self::SessionsEndedByLogout(_) => "sessions_ended_by_logout",
        }
    }

    /// What it is counted over; the `day` of its revisions.
    pub const fn period(self) -> Period {
        match self {
            Self::ActiveUsers(period) => period,
            Self::SessionsStarted(day) | Self::SessionsEndedByLogout(day) => Period::Day(day),
        }
    }
}
