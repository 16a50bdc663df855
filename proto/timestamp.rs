//! Time as the platform keeps it: milliseconds since the Unix epoch, UTC; days and months of the same calendar.
use crate::Text;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};
use time::{Date, OffsetDateTime, format_description::well_known::Rfc3339};

/// `google.protobuf.Timestamp` with our JSON form: UTC, three decimals and `Z`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// A moment: milliseconds since the Unix epoch, within the years 1 to 9999 of UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(i64);

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("must be {expected}")]
pub struct InvalidTimestamp {
    expected: &'static str,
}

const EXPECTED_TIME: InvalidTimestamp =
    InvalidTimestamp { expected: "a time between the years 1 and 9999, like 2026-01-15T10:30:00.000Z" };
const EXPECTED_DAY: InvalidTimestamp = InvalidTimestamp { expected: "a day like 2026-01-15" };
const EXPECTED_MONTH: InvalidTimestamp = InvalidTimestamp { expected: "a month like 2026-01" };
const DAY_MILLIS: i64 = 86_400_000;

impl Millis {
    /// 0001-01-01T00:00:00.000Z, the earliest a protobuf Timestamp can say.
    pub const MIN: Self = Self(-62_135_596_800_000);
    /// 9999-12-31T23:59:59.999Z, the latest.
    pub const MAX: Self = Self(253_402_300_799_999);

    /// Clamped to [`Millis::MIN`] and [`Millis::MAX`].
    pub const fn from_millis(millis: i64) -> Self {
        match millis {
            m if m < Self::MIN.0 => Self::MIN,
            m if m > Self::MAX.0 => Self::MAX,
            m => Self(m),
        }
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Clamped to the range of the calendar.
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// `self - earlier` in milliseconds; negative where `earlier` is later.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    pub const fn day(self) -> Day {
        Day(self.0.div_euclid(DAY_MILLIS) as i32)
    }

    pub fn month(self) -> Month {
        self.day().month()
    }

    /// As [`Millis::fmt`] shows it: UTC, three decimals and `Z`.
    pub fn text(self) -> Text<24> {
        let of_day = self.0.rem_euclid(DAY_MILLIS) as u32;
        let (year, month, day) = self.day().civil();
        let mut text = *b"0000-00-00T00:00:00.000Z";
        digits(&mut text[..4], year as u32);
        digits(&mut text[5..7], month.into());
        digits(&mut text[8..10], day.into());
        digits(&mut text[11..13], of_day / 3_600_000);
        digits(&mut text[14..16], of_day / 60_000 % 60);
        digits(&mut text[17..19], of_day / 1_000 % 60);
        digits(&mut text[20..23], of_day % 1_000);
        Text(text)
    }
}

/// The last decimal digits of the number, as many as there is room for.
fn digits(text: &mut [u8], mut number: u32) {
    for place in text.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

impl TryFrom<Timestamp> for Millis {
    type Error = InvalidTimestamp;

    /// Cuts to milliseconds, towards the past.
    fn try_from(t: Timestamp) -> Result<Self, Self::Error> {
        if !(0..1_000_000_000).contains(&t.nanos) {
            return Err(EXPECTED_TIME);
        }
        let millis = t.seconds.checked_mul(1_000).and_then(|m| m.checked_add(i64::from(t.nanos / 1_000_000)));
        match millis {
            Some(m) if (Self::MIN.0..=Self::MAX.0).contains(&m) => Ok(Self(m)),
            _ => Err(EXPECTED_TIME),
        }
    }
}

impl From<Millis> for Timestamp {
    fn from(m: Millis) -> Self {
        Self { seconds: m.0.div_euclid(1_000), nanos: (m.0.rem_euclid(1_000) * 1_000_000) as i32 }
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Millis {
    type Err = InvalidTimestamp;

    /// Takes RFC 3339 with any offset; cuts to milliseconds, towards the past.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| EXPECTED_TIME)?;
        let millis = parsed.unix_timestamp_nanos().div_euclid(1_000_000) as i64;
        if (Self::MIN.0..=Self::MAX.0).contains(&millis) { Ok(Self(millis)) } else { Err(EXPECTED_TIME) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match Millis::try_from(*self) {
            Ok(millis) => serializer.collect_str(&millis),
            Err(error) => Err(serde::ser::Error::custom(error)),
        }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse::<Millis>().map(Into::into).map_err(de::Error::custom)
    }
}

/// A day of UTC, counted from 1970-01-01. Shown and read as `2026-01-15`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

impl Day {
    pub const fn from_epoch_days(days: i32) -> Self {
        Self(days)
    }

    pub const fn epoch_days(self) -> i32 {
        self.0
    }

    /// Its first millisecond.
    pub const fn start(self) -> Millis {
        Millis::from_millis(self.0 as i64 * DAY_MILLIS)
    }

    pub fn month(self) -> Month {
        let (year, month, _) = self.civil();
        Month { year, month }
    }

    /// Year, month and day of the proleptic Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
    const fn civil(self) -> (i32, u8, u8) {
        let z = self.0 + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        (year_of_era + era * 400 + (month <= 2) as i32, month as u8, day as u8)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Day {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let format = time::macros::format_description!("[year]-[month]-[day]");
        let date = Date::parse(text, &format).map_err(|_| EXPECTED_DAY)?;
        if text.len() != 10 || !(1..=9999).contains(&date.year()) {
            return Err(EXPECTED_DAY);
        }
        let epoch = Date::from_ordinal_date(1970, 1).map_err(|_| EXPECTED_DAY)?;
        Ok(Self(date.to_julian_day() - epoch.to_julian_day()))
    }
}

/// A month of UTC. Shown and read as `2026-01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: i32,
    month: u8,
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

impl fmt::Debug for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Month {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 7 {
            return Err(EXPECTED_MONTH);
        }
        format!("{text}-01").parse::<Day>().map(Day::month).map_err(|_| EXPECTED_MONTH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_is_shown_in_utc_with_three_decimals_and_cut_towards_the_past() {
        let at = |text: &str| text.parse::<Millis>().map(|m| m.to_string());
        assert_eq!(at("2026-01-15T10:30:00Z").unwrap(), "2026-01-15T10:30:00.000Z");
        assert_eq!(at("2026-01-15T10:30:00.123999+02:00").unwrap(), "2026-01-15T08:30:00.123Z");
        assert_eq!(at("1969-12-31T23:59:59.9999Z").unwrap(), "1969-12-31T23:59:59.999Z");
        assert_eq!(at("2026-01-15"), Err(EXPECTED_TIME));
        assert_eq!(Millis::MIN.to_string(), "0001-01-01T00:00:00.000Z");
        assert_eq!(Millis::MAX.to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_timestamp_outside_the_calendar_is_refused() {
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000), (253_402_300_800, 0)] {
            assert_eq!(Millis::try_from(Timestamp { seconds, nanos }), Err(EXPECTED_TIME), "{seconds} {nanos}");
        }
    }

    #[test]
    fn days_and_months_are_read_as_they_are_shown() {
        for text in ["0001-01-01", "1970-01-01", "2024-02-29", "9999-12-31"] {
            assert_eq!(text.parse::<Day>().unwrap().to_string(), text);
        }
        for text in ["2026-1-15", "2026-02-30", "20260115", "", "+026-01-15", "0000-01-01"] {
            assert_eq!(text.parse::<Day>(), Err(EXPECTED_DAY), "{text}");
        }
        assert_eq!("2024-02-29".parse::<Day>().unwrap().month(), "2024-02".parse::<Month>().unwrap());
        assert_eq!("2024-13".parse::<Month>(), Err(EXPECTED_MONTH));
    }

    proptest! {
        #[test]
        fn text_and_protobuf_bring_every_moment_back(millis in Millis::MIN.0..=Millis::MAX.0) {
            let moment = Millis::from_millis(millis);
            prop_assert_eq!(moment.to_string().parse::<Millis>().unwrap(), moment);
            prop_assert_eq!(Millis::try_from(Timestamp::from(moment)).unwrap(), moment);
            prop_assert!(moment.day().start() <= moment && moment.since(moment.day().start()) < DAY_MILLIS);
            prop_assert_eq!(moment.day().to_string().parse::<Day>().unwrap(), moment.day());
        }
    }
}
