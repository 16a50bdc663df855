//! Who was active when: memberships and the periods they count for. Pure: no Kafka, no store, no clock.
use std::{fmt, str::FromStr};

use headwater_documents::identity;
use headwater_proto::{Day, InvalidTimestamp, Month, UserId};

use crate::event::SessionEvent;

/// What active users are counted over, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    Day(Day),
    Month(Month),
}

impl fmt::Display for Period {
    /// The `_id` of the period's aggregate: `2026-01-15` or `2026-01`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day(day) => day.fmt(f),
            Self::Month(month) => month.fmt(f),
        }
    }
}

impl FromStr for Period {
    type Err = InvalidTimestamp;

    /// Reads what is shown.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Day).or_else(|_| text.parse().map(Self::Month))
    }
}

/// A user was active in a period: one document of `daily_activity` or `monthly_activity`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    pub period: Period,
    pub user_id: UserId,
}

impl Member {
    /// The day's and the month's membership that an event proves.
    pub fn of(event: &SessionEvent) -> [Self; 2] {
        let day = event.occurred_at.day();
        [Period::Day(day), Period::Month(day.month())].map(|period| Self { period, user_id: event.user_id.clone() })
    }

    /// The document's `_id`.
    pub fn id(&self) -> String {
        identity([self.user_id.as_str(), &self.period.to_string()])
    }
}
