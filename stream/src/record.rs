//! A record as it lies in the client's buffer, and where it lies in the log.
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _, Message as _};

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
        self.iter().find_map(|(key, value)| if key == name { value } else { None })
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let (borrowed, slice) = match *self {
            Self::Borrowed(headers) => (headers, &[][..]),
            Self::Slice(slice) => (None, slice),
        };
        let borrowed = borrowed.into_iter().flat_map(|headers| {
            (0..headers.count()).map(move |index| {
                let header = headers.get(index);
                (header.key, header.value)
            })
        });
        borrowed.chain(slice.iter().map(|&(key, value)| (key, Some(value))))
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
