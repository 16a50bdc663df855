//! Everything that is wrong with a request, told at once.
use std::fmt::Display;

use tonic::{Code, Status};
use tonic_types::{FieldViolation, StatusExt};

use crate::Reason;

/// Collects the bad fields of one request.
///
/// ```
/// # use headwater_rpc::Violations;
/// let mut violations = Violations::new();
/// let days = violations.field("days", "seven".parse::<u32>());
/// assert_eq!(days, None);
/// assert_eq!(violations.finish().unwrap_err().message(), "days: invalid digit found in string");
/// ```
#[derive(Debug, Default)]
pub struct Violations {
    fields: Vec<FieldViolation>,
    first: Option<Reason>,
}

impl Violations {
    pub fn new() -> Self {
        Self::default()
    }

    /// `field` is the path in the request as proto names it, like "context.ip"; `description` says what it must be.
    pub fn add(&mut self, field: impl Into<String>, reason: Reason, description: impl Into<String>) {
        self.fields.push(FieldViolation {
            field: field.into(),
            description: description.into(),
            reason: reason.as_str().to_owned(),
            localized_message: None,
        });
        self.first.get_or_insert(reason);
    }

    /// The parsed field, or `None` and a violation that says why.
    pub fn field<T, E: Display>(&mut self, field: &str, parsed: Result<T, E>) -> Option<T> {
        parsed.map_err(|error| self.add(field, Reason::InvalidField, error.to_string())).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// INVALID_ARGUMENT with BadRequest naming every field. Its reason is the violation's own where there is only one,
    /// else INVALID_FIELD.
    pub fn finish(self) -> Result<(), Status> {
        let Some(first) = self.first else { return Ok(()) };
        let reason = if self.fields.len() == 1 { first } else { Reason::InvalidField };
        let message =
            self.fields.iter().map(|v| format!("{}: {}", v.field, v.description)).collect::<Vec<_>>().join("; ");
        let mut details = reason.details();
        details.set_bad_request(self.fields);
        Err(Status::with_error_details(Code::InvalidArgument, message, details))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(violations: Violations) -> (String, Vec<String>) {
        let details = violations.finish().unwrap_err().get_error_details();
        let fields = details.bad_request().unwrap().field_violations.iter().map(|v| v.field.clone()).collect();
        (details.error_info().unwrap().reason.clone(), fields)
    }

    #[test]
    fn every_bad_field_is_named_at_once_and_the_only_one_by_its_own_reason() {
        assert!(Violations::new().finish().is_ok());

        let mut one = Violations::new();
        one.add("occurred_at", Reason::EventTimeInFuture, "lies 6 min ahead");
        assert_eq!(told(one), ("EVENT_TIME_IN_FUTURE".to_owned(), vec!["occurred_at".to_owned()]));

        let mut two = Violations::new();
        two.add("occurred_at", Reason::EventTimeInFuture, "lies 6 min ahead");
        assert_eq!(two.field("context.ip", "1.2.3".parse::<std::net::IpAddr>()), None);
        assert_eq!(told(two), ("INVALID_FIELD".to_owned(), vec!["occurred_at".to_owned(), "context.ip".to_owned()]));
    }
}
