//! Connections at work, safe to let go of at any moment.
//!
//! A call may be dropped anywhere: its client went away or its deadline passed. So every unit of work runs in a task of
//! its own, which the caller only awaits; and a connection whose work did not end, for whatever reason, is closed
//! instead of going back to the pool, which the server takes for a ROLLBACK. None is ever handed on inside a
//! transaction (as `Pool::begin` of sqlx 0.8 and 0.9 may do, sqlx#4385).
use std::{
    future::Future,
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Error, PgConnection, PgPool, Postgres, Row, pool::PoolConnection, raw_sql};
use tokio::time::timeout;

use super::{PostgresStore, refused, sql_state};
use crate::StoreError;

/// For a unit of work and its connection: longer than a statement may take, shorter than a call.
const UNIT: Duration = Duration::from_secs(8);

/// When a connection last turned out to be dead. Then its server has most likely ended, and with it every connection
/// that is older: the pool gives out none of those any more, so one lost unit of work tells for all.
#[derive(Debug, Default)]
pub(super) struct Lost(Mutex<Option<Instant>>);

impl Lost {
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection of this age was there when one was lost.
    pub(super) fn includes(&self, age: Duration) -> bool {
        let lost = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lost.is_some_and(|lost| age > lost.elapsed())
    }
}

/// The server, or something on the way to it, ended the connection.
fn is_loss(error: &Error) -> bool {
    match error {
        Error::Io(_) | Error::Protocol(_) => true,
        // class 57P is its operator's intervention, 08 the connection's end
        _ => sql_state(error).is_some_and(|code| code.starts_with("57P") || code.starts_with("08")),
    }
}

impl PostgresStore {
    /// Runs a unit of work to its end, whoever still waits for it.
    pub(super) async fn unit<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Error>> + Send + 'static,
    {
        match tokio::spawn(timeout(UNIT, work)).await {
            Ok(Ok(done)) => done.map_err(|error| {
                if is_loss(&error) {
                    self.lost.note();
                }
                refused(error)
            }),
            Ok(Err(elapsed)) => Err(StoreError::unavailable(elapsed)),
            Err(panicked) => Err(StoreError::unavailable(panicked)),
        }
    }
}

/// A connection in use; for a transaction, from before its BEGIN on.
pub(super) struct Session(Option<PoolConnection<Postgres>>);

/// What transactions exclude each other by, beside rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// Beside all other writers.
    Shared,
    /// Alone among writers: nothing clashes, request ids of any day may be written.
    Exclusive,
    /// Alone among those who share out shards.
    Leases,
}

impl Session {
    pub(super) async fn open(pool: &PgPool) -> Result<Self, Error> {
        Ok(Self(Some(pool.acquire().await?)))
    }

    /// In a transaction of which every statement sees what was committed before it.
    pub(super) async fn begin(pool: &PgPool, lock: Lock) -> Result<Self, Error> {
        // one round trip; the numbers are of this database alone
        let begin = match lock {
            Lock::Shared => "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock_shared(4851, 1)",
            Lock::Exclusive => "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(4851, 1)",
            Lock::Leases => "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(4851, 2)",
        };
        let mut session = Self::open(pool).await?;
        raw_sql(begin).execute(&mut *session).await?;
        Ok(session)
    }

    /// As with [`Lock::Shared`]; and the newest day that has request ids, which stays so until the end. `None` before
    /// the first.
    pub(super) async fn begin_on_a_day(pool: &PgPool) -> Result<(Self, Option<i32>), Error> {
        const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock_shared(4851, 1); \
            SELECT day FROM request_day";
        let mut session = Self::open(pool).await?;
        let rows = raw_sql(BEGIN).fetch_all(&mut *session).await?;
        // the lock has a row too, of a column without a value
        let day = rows.iter().find_map(|row| row.try_get("day").ok());
        Ok((session, day))
    }

    /// An error means that nobody knows whether it happened.
    pub(super) async fn commit(self) -> Result<(), Error> {
        self.end_with("COMMIT").await
    }

    pub(super) async fn roll_back(self) -> Result<(), Error> {
        self.end_with("ROLLBACK").await
    }

    async fn end_with(mut self, statement: &'static str) -> Result<(), Error> {
        raw_sql(statement).execute(&mut *self).await?;
        self.end();
        Ok(())
    }

    /// The work has ended and no transaction is open: back to the pool.
    pub(super) fn end(mut self) {
        drop(self.0.take());
    }
}

const AT_WORK: &str = "a session has its connection until it ends, which consumes it";

impl Deref for Session {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.0.as_ref().expect(AT_WORK)
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect(AT_WORK)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.0 {
            connection.close_on_drop();
        }
    }
}
