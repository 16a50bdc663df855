//! A record as it lies in the client's buffer, and where it lies in the log.
use std::{ffi::CStr, ptr, slice};

use rdkafka::{
    bindings::rd_kafka_header_get_all,
    message::{BorrowedHeaders, BorrowedMessage, Message as _},
    types::RDKafkaRespErr,
};

/// Where a record is. Never its identity: that is the eventId.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub partition: i32,
    pub offset: i64,
}

/// A borrowed record: valid only inside the call, so that what nobody needs is never copied.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub topic: &'a str,
    pub position: Position,
    /// Milliseconds since the Unix epoch, as the producer set it.
    pub timestamp: Option<i64>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// The headers of a record, in their order.
#[derive(Clone, Copy)]
pub enum Headers<'a> {
    Borrowed(Option<&'a BorrowedHeaders>),
    /// For records that do not come from a client: tests, dead letters.
    Slice(&'a [(&'a str, &'a [u8])]),
}

impl<'a> Headers<'a> {
    /// The first header of that name that has a value.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        match *self {
            Self::Borrowed(headers) => headers.into_iter().flat_map(all).find_map(|(key, value)| {
                let is_it = key.to_bytes() == name.as_bytes();
                value.filter(|_| is_it)
            }),
            Self::Slice(slice) => slice.iter().find_map(|&(key, value)| (key == name).then_some(value)),
        }
    }

    /// A name that is not UTF-8 reads as U+FFFD.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let (borrowed, slice) = match *self {
            Self::Borrowed(headers) => (headers, &[][..]),
            Self::Slice(slice) => (None, slice),
        };
        let borrowed = borrowed.into_iter().flat_map(all);
        let borrowed = borrowed.map(|(key, value)| (key.to_str().unwrap_or("\u{fffd}"), value));
        borrowed.chain(slice.iter().map(|&(key, value)| (key, Some(value))))
    }
}

fn all(headers: &BorrowedHeaders) -> impl Iterator<Item = (&CStr, Option<&[u8]>)> {
    (0..).map_while(|index| header(headers, index))
}

/// The header at that place. Not `BorrowedHeaders::get`: that one panics at a name that is not UTF-8, and one such
/// record would stop every consumer of its partition for good.
fn header(headers: &BorrowedHeaders, index: usize) -> Option<(&CStr, Option<&[u8]>)> {
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: a BorrowedHeaders is a view of librdkafka's header list, made by casting the pointer to it. Reading a
    // list changes nothing in it; its names end with NUL; name and value live as long as the list, so as `headers`.
    unsafe {
        let list = ptr::from_ref(headers).cast_mut().cast();
        let code = rd_kafka_header_get_all(list, index, &mut name, &mut value, &mut size);
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None; // past the last one
        }
        Some((CStr::from_ptr(name), (!value.is_null()).then(|| slice::from_raw_parts(value.cast(), size))))
    }
}

impl<'a> From<&'a BorrowedMessage<'_>> for Record<'a> {
    fn from(message: &'a BorrowedMessage<'_>) -> Self {
        Self {
            topic: message.topic(),
            position: Position { partition: message.partition(), offset: message.offset() },
            timestamp: message.timestamp().to_millis(),
            key: message.key(),
            value: message.payload(),
            headers: Headers::Borrowed(message.headers()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::bindings::{rd_kafka_header_add, rd_kafka_headers_destroy, rd_kafka_headers_new};

    use super::*;

    #[test]
    fn a_header_name_that_is_no_text_spoils_only_itself() {
        // SAFETY: the list is made here, is alive while it is read, and is destroyed once; a BorrowedHeaders is a view
        // of exactly such a list.
        unsafe {
            let list = rd_kafka_headers_new(3);
            for (name, value) in [(&b"a\xff"[..], &b"1"[..]), (b"b", b"2"), (b"c", b"")] {
                let (name_size, value_size) = (name.len() as isize, value.len() as isize);
                rd_kafka_header_add(list, name.as_ptr().cast(), name_size, value.as_ptr().cast(), value_size);
            }
            let headers = Headers::Borrowed(Some(&*list.cast::<BorrowedHeaders>()));
            let read: Vec<_> = headers.iter().collect();
            assert_eq!(read, [("\u{fffd}", Some(&b"1"[..])), ("b", Some(b"2")), ("c", Some(b""))]);
            assert_eq!((headers.get("b"), headers.get("a")), (Some(&b"2"[..]), None));
            rd_kafka_headers_destroy(list);
        }
    }
}
