//! The fields of a request that has passed the door: newtypes that exist only when valid.
use std::{fmt, net::IpAddr, sync::Arc};

use headwater_proto::limit;

/// Why a text is not taken. Never repeats the text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidField {
    #[error("is required")]
    Required,
    #[error("must have at least {0} bytes")]
    TooShort(usize),
    #[error("must have at most {0} bytes")]
    TooLong(usize),
    #[error("must not contain control characters")]
    ControlCharacter,
    #[error("must be an email address, like ada@example.com")]
    Email,
    #[error("must be an IPv4 or IPv6 address, like 203.0.113.7 or 2001:db8::1")]
    Ip,
}

fn checked(text: &str, max: usize) -> Result<&str, InvalidField> {
    match text {
        "" => Err(InvalidField::Required),
        _ if text.len() > max => Err(InvalidField::TooLong(max)),
        _ if text.chars().any(char::is_control) => Err(InvalidField::ControlCharacter),
        _ => Ok(text),
    }
}

/// 1 to `MAX` bytes of UTF-8 without control characters. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const MAX: usize>(Arc<str>);

pub type UserAgent = Text<{ limit::USER_AGENT }>;
pub type SessionId = Text<{ limit::SESSION_ID }>;
/// Why an account was reinstated.
pub type Remark = Text<1_024>;

impl<const MAX: usize> Text<MAX> {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<&str> for Text<MAX> {
    type Error = InvalidField;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        checked(text, MAX).map(|text| Self(text.into()))
    }
}

impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// An address as it is compared everywhere: trimmed and lower-cased. Cheap to clone, hidden in debug output.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Email(Arc<str>);

impl Email {
    pub const MAX_BYTES: usize = limit::EMAIL;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for Email {
    type Error = InvalidField;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        if text.chars().any(char::is_control) {
            return Err(InvalidField::ControlCharacter);
        }
        let lowered = text.trim().to_lowercase();
        let text = checked(&lowered, Self::MAX_BYTES)?;
        let parts: Vec<&str> = text.split('@').collect();
        let well_formed = parts.len() == 2 && parts.iter().all(|part| !part.is_empty());
        if well_formed && !text.contains(char::is_whitespace) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidField::Email)
        }
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(..)")
    }
}

/// An address in canonical form: an IPv4 address mapped into IPv6 is the IPv4 address. Hidden in debug output.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ip(IpAddr);

impl TryFrom<&str> for Ip {
    type Error = InvalidField;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        if text.is_empty() {
            return Err(InvalidField::Required);
        }
        text.parse::<IpAddr>().map(|ip| Self(ip.to_canonical())).map_err(|_| InvalidField::Ip)
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ip(..)")
    }
}

/// A password as sent. Leaves this process only as a hash; hidden in debug output.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Arc<str>);

impl Password {
    pub const MIN_BYTES: usize = 8;
    pub const MAX_BYTES: usize = 1_024;

    /// One that is to be set: 8 to 1,024 bytes.
    pub fn chosen(text: &str) -> Result<Self, InvalidField> {
        let password = Self::claimed(text)?;
        if text.len() < Self::MIN_BYTES { Err(InvalidField::TooShort(Self::MIN_BYTES)) } else { Ok(password) }
    }

    /// One that is to be verified: a shorter one is merely wrong.
    pub fn claimed(text: &str) -> Result<Self, InvalidField> {
        checked(text, Self::MAX_BYTES).map(|text| Self(text.into()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_email_is_trimmed_lower_cased_and_has_one_at_sign_with_something_on_both_sides() {
        assert_eq!(Email::try_from("  Ada@Example.COM ").unwrap().as_str(), "ada@example.com");
        let longest = format!("{}@b", "a".repeat(252));
        assert!(Email::try_from(longest.as_str()).is_ok());
        for (text, why) in [
            ("", InvalidField::Required),
            ("   ", InvalidField::Required),
            ("ada", InvalidField::Email),
            ("@example.com", InvalidField::Email),
            ("ada@", InvalidField::Email),
            ("ada@b@c", InvalidField::Email),
            ("a da@b", InvalidField::Email),
            ("a\u{a0}da@b", InvalidField::Email),
            ("ada@b\n", InvalidField::ControlCharacter),
            ("ada@b\u{85}", InvalidField::ControlCharacter),
            (format!("a{longest}").as_str(), InvalidField::TooLong(254)),
        ] {
            assert_eq!(Email::try_from(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn an_ip_is_kept_in_canonical_form() {
        let shown = |text: &str| Ip::try_from(text).map(|ip| ip.to_string());
        assert_eq!(shown("::ffff:10.0.0.1").unwrap(), "10.0.0.1");
        assert_eq!(shown("2001:0DB8:0:0:0:0:0:1").unwrap(), "2001:db8::1");
        assert_eq!(shown(""), Err(InvalidField::Required));
        for text in ["10.0.0", "10.0.0.1 ", "010.0.0.1", "fe80::1%eth0", "10.0.0.1:80", "localhost", "\n"] {
            assert_eq!(shown(text), Err(InvalidField::Ip), "{text:?}");
        }
    }

    #[test]
    fn a_chosen_password_has_8_to_1024_bytes_and_a_claimed_one_may_be_shorter() {
        assert_eq!(Password::chosen("1234567"), Err(InvalidField::TooShort(8)));
        assert!(Password::chosen("12345678").is_ok());
        assert!(Password::claimed("1234567").is_ok());
        assert!(Password::chosen(&"é".repeat(512)).is_ok());
        for taken in [Password::chosen, Password::claimed] {
            assert_eq!(taken(""), Err(InvalidField::Required));
            assert_eq!(taken(&"é".repeat(513)), Err(InvalidField::TooLong(1_024)));
            assert_eq!(taken("12345678\0"), Err(InvalidField::ControlCharacter));
        }
    }

    #[test]
    fn secrets_and_addresses_do_not_show_in_debug_output() {
        let shown = format!(
            "{:?} {:?} {:?}",
            Password::chosen("correct horse").unwrap(),
            Email::try_from("ada@example.com").unwrap(),
            Ip::try_from("10.0.0.1").unwrap()
        );
        assert_eq!(shown, "Password(..) Email(..) Ip(..)");
    }
}
