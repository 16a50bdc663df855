//! Rows -> what the port speaks of, whatever the database. Columns go by their place: a name would be looked up in every
//! row.
use headwater_proto::{EventId, Millis, UserId};
use prost::Message;
use sqlx::{Error, Row, postgres::PgRow, sqlite::SqliteRow};
use uuid::Uuid;

use super::{Authentication, Credentials, KnownRequest, Receipt, SeenIp, Status, User};
use crate::fields::{Email, Ip, SessionId};

/// The types of columns that are read here, as both databases have them.
pub(super) trait Columns {
    fn text(&self, column: usize) -> Result<&str, Error>;
    fn optional_text(&self, column: usize) -> Result<Option<&str>, Error>;
    fn bytes(&self, column: usize) -> Result<&[u8], Error>;
    fn uuid(&self, column: usize) -> Result<Uuid, Error>;
    fn small(&self, column: usize) -> Result<i16, Error>;
    fn int(&self, column: usize) -> Result<i32, Error>;
    fn big(&self, column: usize) -> Result<i64, Error>;
    fn optional_big(&self, column: usize) -> Result<Option<i64>, Error>;
}

macro_rules! columns_of {
    ($($row:ty)+) => {$(
        impl Columns for $row {
            fn text(&self, column: usize) -> Result<&str, Error> {
                self.try_get(column)
            }
            fn optional_text(&self, column: usize) -> Result<Option<&str>, Error> {
                self.try_get(column)
            }
            fn bytes(&self, column: usize) -> Result<&[u8], Error> {
                self.try_get(column)
            }
            fn uuid(&self, column: usize) -> Result<Uuid, Error> {
                self.try_get(column)
            }
            fn small(&self, column: usize) -> Result<i16, Error> {
                self.try_get(column)
            }
            fn int(&self, column: usize) -> Result<i32, Error> {
                self.try_get(column)
            }
            fn big(&self, column: usize) -> Result<i64, Error> {
                self.try_get(column)
            }
            fn optional_big(&self, column: usize) -> Result<Option<i64>, Error> {
                self.try_get(column)
            }
        }
    )+};
}
columns_of!(PgRow SqliteRow);

/// user_id, password_hash.
pub(super) fn credentials(row: &impl Columns) -> Result<Credentials, Error> {
    Ok(Credentials { user_id: user_id(row)?, password_hash: row.text(1)?.into() })
}

/// user_id, email, password_hash, status, status_epoch, created_at.
pub(super) fn user(row: &impl Columns) -> Result<User, Error> {
    Ok(User {
        id: user_id(row)?,
        email: Email::try_from(row.text(1)?).map_err(decode)?,
        password_hash: row.text(2)?.into(),
        status: Status::from_number(row.small(3)?).map_err(decode)?,
        status_epoch: row.big(4)?,
        created_at: Millis::from_millis(row.big(5)?),
    })
}

/// From `first` on: failures, last_ip, last_ip_at, last_login_at, open_sessions.
pub(super) fn state(row: &impl Columns, first: usize) -> Result<Authentication, Error> {
    let ip = row.optional_text(first + 1)?.map(Ip::try_from).transpose().map_err(decode)?;
    let at = row.optional_big(first + 2)?;
    let open_sessions = row.text(first + 4)?.lines().map(SessionId::try_from);
    Ok(Authentication {
        failures: row.int(first)?,
        last_ip: ip.zip(at).map(|(ip, at)| SeenIp { ip, at: Millis::from_millis(at) }),
        last_login_at: row.optional_big(first + 3)?.map(Millis::from_millis),
        open_sessions: open_sessions.collect::<Result<_, _>>().map_err(decode)?,
    })
}

/// user_id, then a state.
pub(super) fn keyed_state(row: &impl Columns) -> Result<(UserId, Authentication), Error> {
    Ok((user_id(row)?, state(row, 1)?))
}

/// event_id, digest, receipt.
pub(super) fn known_request(row: &impl Columns) -> Result<(EventId, KnownRequest), Error> {
    let receipt = Receipt::decode(row.bytes(2)?).map_err(decode)?;
    Ok((event_id(row)?, KnownRequest { digest: array(row.bytes(1)?)?, receipt }))
}

/// The first column.
pub(super) fn user_id(row: &impl Columns) -> Result<UserId, Error> {
    UserId::try_from(row.text(0)?).map_err(decode)
}

/// The first column.
pub(super) fn email(row: &impl Columns) -> Result<Email, Error> {
    Email::try_from(row.text(0)?).map_err(decode)
}

/// The first column.
pub(super) fn event_id(row: &impl Columns) -> Result<EventId, Error> {
    Ok(EventId::from_bytes(row.uuid(0)?.into_bytes()))
}

pub(super) fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(decode)
}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Decode(Box::new(error))
}
