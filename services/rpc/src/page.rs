//! Pages of a list (AIP-158): how many, and from where on.
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Reason, Violations};

pub const PAGE_SIZE_DEFAULT: usize = 50;
pub const PAGE_SIZE_MAX: usize = 1_000;

/// 0 means [`PAGE_SIZE_DEFAULT`]; a negative one or one above [`PAGE_SIZE_MAX`] is a violation of `page_size`.
pub fn page_size(asked: i32, violations: &mut Violations) -> usize {
    match usize::try_from(asked) {
        Ok(0) => PAGE_SIZE_DEFAULT,
        Ok(size) if size <= PAGE_SIZE_MAX => size,
        _ => {
            violations.add("page_size", Reason::InvalidField, format!("must be between 0 and {PAGE_SIZE_MAX}"));
            PAGE_SIZE_DEFAULT
        }
    }
}

/// Where the next page starts, as text that means nothing to a client. `position` is usually a tuple of the sort key.
pub fn next_page_token<T: Serialize>(position: &T) -> String {
    let json = serde_json::to_vec(position).expect("a sort key of numbers and strings is always JSON");
    URL_SAFE_NO_PAD.encode(json)
}

/// The position that [`next_page_token`] was given; `None` for the first page. Anything else is a violation.
pub fn page_token<T: DeserializeOwned>(token: &str, violations: &mut Violations) -> Option<T> {
    if token.is_empty() {
        return None;
    }
    let position = URL_SAFE_NO_PAD.decode(token).ok().and_then(|json| serde_json::from_slice(&json).ok());
    if position.is_none() {
        violations.add("page_token", Reason::InvalidField, "must be the next_page_token of an earlier answer");
    }
    position
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_brings_back_the_position_it_was_made_of(millis: i64, id: String) {
            let mut violations = Violations::new();
            let token = next_page_token(&(millis, &id));
            prop_assert_eq!(page_token::<(i64, String)>(&token, &mut violations), Some((millis, id)));
            prop_assert!(violations.is_empty());
        }

        #[test]
        fn a_garbled_token_is_a_violation_and_never_a_panic(token in "\\PC{1,40}") {
            let mut violations = Violations::new();
            prop_assert_eq!(page_token::<(i64, String)>(&token, &mut violations), None);
            prop_assert!(!violations.is_empty());
        }
    }

    #[test]
    fn a_page_holds_between_one_and_a_thousand() {
        for (asked, size, fine) in
            [(0, 50, true), (1, 1, true), (1_000, 1_000, true), (1_001, 50, false), (-1, 50, false)]
        {
            let mut violations = Violations::new();
            assert_eq!((page_size(asked, &mut violations), violations.is_empty()), (size, fine), "{asked}");
        }
    }
}
