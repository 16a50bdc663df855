//! How each kind of value is written. An error is what the value must be: who reports it knows which value and source.
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use headwater_otel::Sampler;
use headwater_proto::Encoding;

/// Debug shows that it is set, not what it is.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Requests per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit(pub NonZeroU32);

type Parsed<T> = Result<T, String>;

fn from_text<T: FromStr>(text: &str, expected: &str) -> Parsed<T> {
    text.parse().map_err(|_| expected.to_owned())
}

pub(super) fn optional<T>(parse: impl Fn(&str) -> Parsed<T>) -> impl Fn(&str) -> Parsed<Option<T>> {
    move |text| if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

pub(super) fn text(text: &str) -> Parsed<String> {
    Ok(text.to_owned())
}

pub(super) fn secret(text: &str) -> Parsed<Secret> {
    Ok(Secret(text.to_owned()))
}

pub(super) fn postgres(text: &str) -> Parsed<Secret> {
    const EXPECTED: &str = "must be a PostgreSQL URL like postgres://user:password@host:5432/database";
    if headwater_ingress::PostgresStore::understands(text) { secret(text) } else { Err(EXPECTED.to_owned()) }
}

pub(super) fn mongodb(text: &str) -> Parsed<Secret> {
    const EXPECTED: &str = "must be a MongoDB URI like mongodb://user:password@host:27017/database";
    if headwater_documents::Documents::understands(text) { secret(text) } else { Err(EXPECTED.to_owned()) }
}

pub(super) fn webhook(text: &str) -> Parsed<Secret> {
    match reqwest::Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => secret(text),
        _ => Err("must be an http or https URL".to_owned()),
    }
}

pub(super) fn http(text: &str) -> Parsed<String> {
    match reqwest::Url::parse(text) {
        Ok(url) if url.scheme() == "http" => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err("must be an http URL like http://localhost:4317".to_owned()),
    }
}

pub(super) fn sampler(text: &str) -> Parsed<Sampler> {
    text.parse().map_err(|error: headwater_otel::UnknownSampler| error.to_string())
}

pub(super) fn ip(text: &str) -> Parsed<IpAddr> {
    from_text(text, "must be an ip address")
}

pub(super) fn port(text: &str) -> Parsed<u16> {
    from_text(text, "must be a port, 0 to 65535")
}

/// Any number of them.
pub(super) fn addresses(text: &str) -> Parsed<Vec<SocketAddr>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.map(|part| from_text(part, "must be addresses like 127.0.0.1:9464,127.0.0.1:9465")).collect()
}

pub(super) fn whole(text: &str) -> Parsed<u32> {
    from_text(text, "must be a whole number from 0")
}

pub(super) fn count(text: &str) -> Parsed<NonZeroUsize> {
    from_text(text, "must be a whole number from 1")
}

pub(super) fn some_text(text: &str) -> Parsed<String> {
    if text.trim().is_empty() { Err("must not be blank".to_owned()) } else { Ok(text.to_owned()) }
}

/// Up to an hour.
pub(super) fn millis(text: &str) -> Parsed<Duration> {
    const EXPECTED: &str = "must be milliseconds, a whole number from 1 to 3600000";
    let millis = from_text(text, EXPECTED)?;
    if (1..=3_600_000).contains(&millis) { Ok(Duration::from_millis(millis)) } else { Err(EXPECTED.to_owned()) }
}

pub(super) fn encoding(text: &str) -> Parsed<Encoding> {
    match text {
        "json" => Ok(Encoding::Json),
        "protobuf" => Ok(Encoding::Protobuf),
        _ => Err("must be json or protobuf".to_owned()),
    }
}

pub(super) fn from_one<T: FromStr + PartialOrd + From<u8>>(text: &str) -> Parsed<T> {
    const EXPECTED: &str = "must be a whole number from 1";
    let number: T = from_text(text, EXPECTED)?;
    if number >= T::from(1) { Ok(number) } else { Err(EXPECTED.to_owned()) }
}

/// As the ingress takes them.
pub(super) fn days(text: &str) -> Parsed<u32> {
    let days = from_one(text)?;
    if days <= 3_650 { Ok(days) } else { Err("must be at most 3650".to_owned()) }
}

pub(super) fn share(text: &str) -> Parsed<f64> {
    const EXPECTED: &str = "must be a number from 0 to 1";
    let share = from_text(text, EXPECTED)?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err(EXPECTED.to_owned()) }
}

pub(super) fn switch(text: &str) -> Parsed<bool> {
    from_text(text, "must be true or false")
}

pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() { Err("must be a path".to_owned()) } else { Ok(text.into()) }
}

pub(super) fn rate_limit(text: &str) -> Parsed<RateLimit> {
    from_text(text, "must be requests per second, a whole number from 1").map(RateLimit)
}

/// Stands in file names and group ids.
pub(super) fn name(text: &str) -> Parsed<String> {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !text.is_empty() && text.chars().all(named) && text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Ok(text.to_owned())
    } else {
        Err("must be letters, digits, '.', '_' and '-', and begin with a letter or digit".to_owned())
    }
}

pub(super) fn suffix(text: &str) -> Parsed<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("must be letters, digits, '.', '_' and '-'".to_owned())
    }
}

pub(super) fn log_filter(text: &str) -> Parsed<String> {
    match headwater_otel::check_log_filter(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(_) => Err("must be a log filter like info,headwater_stream=debug".to_owned()),
    }
}

/// Numbers with units, biggest first or not: 30m, 1h30m, 500ms.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    let expected = || "must be a duration like 30m, 1h30m or 500ms".to_owned();
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(expected()),
        };
        let millis = number.parse::<u64>().ok().and_then(|n| n.checked_mul(millis)).ok_or_else(expected)?;
        total = total.checked_add(Duration::from_millis(millis)).ok_or_else(expected)?;
        rest = after;
    }
    if total.is_zero() { Err(expected()) } else { Ok(total) }
}

/// As analytics takes it.
pub(super) fn session_timeout(text: &str) -> Parsed<Duration> {
    let timeout = duration(text)?;
    if timeout <= Duration::from_secs(365 * 86_400) { Ok(timeout) } else { Err("must be at most 365d".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, millis) in
            [("30m", 1_800_000), ("1h30m", 5_400_000), ("500ms", 500), ("1s", 1_000), ("2d", 172_800_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "0s", "30", "m", "1.5h", "-1s", "1 h", "5y", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
