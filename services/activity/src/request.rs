//! What a client asks for, read as the document says: every problem at once, in its words.
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    num::NonZeroUsize,
};

use serde_json::value::RawValue;

use crate::event::{Payload, empty, known_type, object};

pub(crate) const USER_ID: &str = "userId is required and must be a non-empty string";
pub(crate) const EVENT_TYPE: &str = "eventType must be one of: LOGIN, LOGOUT, PRODUCT_VIEW";
pub(crate) const PAYLOAD: &str = "payload must be a JSON object when provided";
pub(crate) const BODY: &str = "body must be valid JSON";
pub(crate) const LIMIT: &str = "limit must be a whole number from 1";

/// An event that a client wants published.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) user_id: Box<str>,
    pub(crate) event_type: &'static str,
    pub(crate) payload: Payload,
}

/// The fields of a JSON object, of several of one name the last, as JavaScript reads it.
type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

impl Wanted {
    /// Of a request's body.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Vec<&'static str>> {
        let fields: Fields<'_> = match serde_json::from_slice(body) {
            Ok(fields) => fields,
            // of JSON that is no object every field is missing
            Err(_) if serde_json::from_slice::<&RawValue>(body).is_ok() => Fields::new(),
            Err(_) => return Err(vec![BODY]),
        };
        let text = |name: &str| fields.get(name).and_then(|value| serde_json::from_str::<String>(value.get()).ok());
        let user_id = text("userId").filter(|user_id| !user_id.trim().is_empty());
        let event_type = text("eventType").and_then(|event_type| known_type(&event_type));
        let payload = fields.get("payload").map_or_else(|| Some(empty()), |payload| object(payload));
        Self::of(user_id, event_type, payload)
    }

    /// What is `None` is missing or wrong.
    pub(crate) fn of(
        user_id: Option<String>,
        event_type: Option<&'static str>,
        payload: Option<Payload>,
    ) -> Result<Self, Vec<&'static str>> {
        match (user_id, event_type, payload) {
            (Some(user_id), Some(event_type), Some(payload)) => {
                Ok(Self { user_id: user_id.into(), event_type, payload })
            }
            (user_id, event_type, payload) => {
                let problems =
                    [(user_id.is_none(), USER_ID), (event_type.is_none(), EVENT_TYPE), (payload.is_none(), PAYLOAD)];
                Err(problems.into_iter().filter_map(|(wrong, problem)| wrong.then_some(problem)).collect())
            }
        }
    }
}

/// Which of the processed events.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) user_id: Option<String>,
    pub(crate) event_type: Option<&'static str>,
    /// Only so many, the newest ones.
    pub(crate) limit: Option<usize>,
}

impl Filter {
    /// Of a request's query; names that are not ours are left alone.
    pub(crate) fn read(query: &HashMap<String, String>) -> Result<Self, Vec<&'static str>> {
        let event_type = query.get("eventType").map(|text| known_type(text).ok_or(EVENT_TYPE)).transpose();
        let limit = query.get("limit").map(|text| text.parse().map_err(|_| LIMIT)).transpose();
        match (event_type, limit) {
            (Ok(event_type), Ok(limit)) => {
                let limit = limit.map(NonZeroUsize::get);
                Ok(Self { user_id: query.get("userId").cloned(), event_type, limit })
            }
            (event_type, limit) => Err(event_type.err().into_iter().chain(limit.err()).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_named_at_once_in_the_words_of_the_document() {
        #[rustfmt::skip]
        let table: &[(&str, &[&str])] = &[
            ("{", &[BODY]), ("", &[BODY]), ("{\"userId\":\"a\",}", &[BODY]), ("\u{feff}{}", &[BODY]),
            ("{}", &[USER_ID, EVENT_TYPE]), ("[]", &[USER_ID, EVENT_TYPE]), ("7", &[USER_ID, EVENT_TYPE]),
            ("{\"userId\":\" \",\"eventType\":\"login\",\"payload\":[]}", &[USER_ID, EVENT_TYPE, PAYLOAD]),
            ("{\"userId\":7,\"eventType\":null,\"payload\":null}", &[USER_ID, EVENT_TYPE, PAYLOAD]),
            ("{\"userId\":\"a\",\"eventType\":\"LOGIN\",\"payload\":\"{}\"}", &[PAYLOAD]),
            ("{\"userId\":\"\",\"eventType\":\"LOGIN\"}", &[USER_ID]),
            ("{\"userId\":\"a\",\"eventType\":[\"LOGIN\"]}", &[EVENT_TYPE]),
        ];
        for (body, problems) in table {
            assert_eq!(Wanted::read(body.as_bytes()).err().as_deref(), Some(*problems), "{body}");
        }
        assert_eq!(Wanted::read(b"{\"userId\":\"\xff\"}").err(), Some(vec![BODY]), "no UTF-8");
    }

    #[test]
    fn a_payload_is_kept_as_it_was_written_and_is_empty_where_there_is_none() {
        let read = |body: &str| Wanted::read(body.as_bytes()).unwrap();
        let wanted = read(
            r#" {"payload": {"n": 1.00e2, "n": 12345678901234567890} ,"eventType":"PRODUCT_VIEW","userId":"\u0061 "} "#,
        );
        assert_eq!(wanted.payload.get(), r#"{"n": 1.00e2, "n": 12345678901234567890}"#);
        assert_eq!((&*wanted.user_id, wanted.event_type), ("a ", "PRODUCT_VIEW"));
        assert_eq!(read(r#"{"userId":"a","eventType":"LOGIN"}"#).payload.get(), "{}");
    }

    #[test]
    fn a_filter_is_read_from_the_query() {
        let read = |pairs: &[(&str, &str)]| {
            Filter::read(&pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        assert_eq!(read(&[("other", "x")]), Ok(Filter::default()));
        let all = Filter { user_id: Some("a".into()), event_type: Some("LOGOUT"), limit: Some(7) };
        assert_eq!(read(&[("userId", "a"), ("eventType", "LOGOUT"), ("limit", "7")]), Ok(all));
        assert_eq!(read(&[("eventType", "x"), ("limit", "0")]), Err(vec![EVENT_TYPE, LIMIT]));
        assert_eq!(read(&[("limit", "-1")]), Err(vec![LIMIT]));
    }
}
