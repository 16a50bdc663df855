//! The store of users as a port: what it holds and what it promises. Adapters know nothing of rules.
#[cfg(test)]
mod conformance;
pub mod decide;
mod postgres;
mod rows;
mod sqlite;
pub mod verdict;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    future::Future,
    sync::Arc,
};

use headwater_proto::{Day, EventId, Millis, UserId};
use headwater_stream::Positions;
use sqlx::{
    SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};
use uuid::Uuid;

pub use postgres::{OpenError, PostgresStore};
pub use sqlite::SqliteStore;

use crate::{
    StoreError,
    action::Digest,
    fields::{Email, Ip, SessionId},
    outbox::{Outbox, PackedRow},
};

/// Users, their authentication state, request ids, applied verdicts and the outbox, in one database.
///
/// An adapter is a cheap handle; dropping a future of one never leaves anything behind but an undone transaction.
pub trait Store: Outbox + Clone {
    /// One transaction: loads what `keys` name, lets `decide` look at it, writes what it returns. All or nothing.
    /// What was loaded cannot have changed when the writes land: `decide` may be called again, with a newer snapshot,
    /// where another transaction was faster. States are locked in the order of user ids.
    fn transact<T, F>(&self, keys: &Keys, decide: F) -> impl Future<Output = Result<T, StoreError>> + Send
    where
        T: Send,
        F: Fn(Snapshot) -> (Writes, T) + Send + Sync;

    /// For the verification that comes before a transaction.
    fn credentials(&self, of: &Who) -> impl Future<Output = Result<Option<Credentials>, StoreError>> + Send;

    /// A registered user; the state is that of before the first event where there is none.
    fn account(
        &self,
        user_id: &UserId,
    ) -> impl Future<Output = Result<Option<(User, Authentication)>, StoreError>> + Send;

    /// Forgets the request ids of the days before `first_kept`; returns how many days that were.
    fn expire_request_ids(&self, first_kept: Day) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Of a store in memory: where its account status consumer stands in the log.
    fn positions(&self) -> Option<Arc<Positions>>;

    /// Made once, the same for every instance: what request digests are keyed with.
    fn digest_key(&self) -> impl Future<Output = Result<[u8; 32], StoreError>> + Send;
}

/// Of SQL files that are part of the program.
fn migrations(files: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migration = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, SqlStr::from_static(sql), false)
    };
    Migrator::with_migrations(files.iter().map(migration).collect())
}

/// Two random UUIDs: 244 bits of a cryptographic generator.
fn new_digest_key() -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    key[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    key
}

/// What a transaction looks at. Sorted, so that every transaction locks in the same order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keys {
    /// Of which the account row is needed.
    pub users: BTreeSet<UserId>,
    /// Of which the authentication state is needed.
    pub states: BTreeSet<UserId>,
    pub emails: BTreeSet<Email>,
    pub requests: BTreeSet<EventId>,
    pub verdicts: BTreeSet<EventId>,
}

/// What is stored under [`Keys`]; what is not there is not stored.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub users: HashMap<UserId, User>,
    pub states: HashMap<UserId, Authentication>,
    pub taken_emails: HashSet<Email>,
    pub requests: HashMap<EventId, KnownRequest>,
    pub applied_verdicts: HashSet<EventId>,
}

/// What a transaction writes: one row per user, in the order of user ids.
#[derive(Debug, Clone, Default)]
pub struct Writes {
    /// When it is written, by this process's clock: the age of outbox rows is counted from here.
    pub at: Millis,
    pub new_users: Vec<User>,
    /// Password hash, status and status epoch of users that were loaded.
    pub changed_users: Vec<User>,
    pub states: Vec<(UserId, Authentication)>,
    pub requests: Vec<NewRequest>,
    pub applied_verdicts: Vec<EventId>,
    pub outbox: Vec<PackedRow>,
}

/// An account.
#[derive(Debug, Clone, PartialEq)]
pub struct User {
    pub id: UserId,
    pub email: Email,
    /// PHC string.
    pub password_hash: Arc<str>,
    pub status: Status,
    /// Raised by every reinstatement; verdicts of another epoch are not applied.
    pub status_epoch: i64,
    pub created_at: Millis,
}

/// From open to closed: a verdict only raises it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    Active,
    Flagged,
    PasswordResetRequired,
    Suspended,
}

#[derive(Debug, thiserror::Error)]
#[error("status {0} is not one of 0 to 3")]
struct UnknownStatus(i16);

impl Status {
    /// As stored; `as` is the way back.
    fn from_number(number: i16) -> Result<Self, UnknownStatus> {
        match number {
            0 => Ok(Self::Active),
            1 => Ok(Self::Flagged),
            2 => Ok(Self::PasswordResetRequired),
            3 => Ok(Self::Suspended),
            other => Err(UnknownStatus(other)),
        }
    }
}

/// What is remembered of anybody who ever acted, registered or not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Authentication {
    /// Consecutive.
    pub failures: i32,
    pub last_ip: Option<SeenIp>,
    pub last_login_at: Option<Millis>,
    /// The newest [`Authentication::MAX_OPEN_SESSIONS`], oldest first.
    pub open_sessions: Vec<SessionId>,
}

impl Authentication {
    pub const MAX_OPEN_SESSIONS: usize = 32;
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeenIp {
    pub ip: Ip,
    /// occurred_at of the event that showed it.
    pub at: Millis,
}

/// A request that was accepted before.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownRequest {
    pub digest: Digest,
    pub receipt: Receipt,
}

#[derive(Debug, Clone, PartialEq)]
pub struct NewRequest {
    pub id: EventId,
    /// UTC day of reception; ids are forgotten by day.
    pub day: Day,
    pub digest: Digest,
    pub receipt: Receipt,
}

/// What the first answer to a request said, beside its id. As protobuf in the store: most are empty there.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Receipt {
    /// Of Register and Login.
    #[prost(string, tag = "1")]
    pub user_id: String,
    /// Of Login.
    #[prost(string, tag = "2")]
    pub session_id: String,
    /// A Login that wrote user.ip_changed too.
    #[prost(bool, tag = "3")]
    pub ip_changed: bool,
    /// The answer was INVALID_CREDENTIALS.
    #[prost(bool, tag = "4")]
    pub wrong_password: bool,
}

/// How a caller names a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    Id(UserId),
    Email(Email),
}

impl Who {
    pub fn as_str(&self) -> &str {
        match self {
            Self::Id(user_id) => user_id.as_str(),
            Self::Email(email) => email.as_str(),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Credentials {
    pub user_id: UserId,
    pub password_hash: Arc<str>,
}
