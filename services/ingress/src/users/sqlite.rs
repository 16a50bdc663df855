//! SQLite in memory: everything is forgotten when the process ends.
//!
//! One connection and so one transaction at a time: a second connection would be a database of its own.
//! Many rows go to and fro as one JSON parameter, so that a group costs one statement per table, prepared once.
mod outbox;
mod read;
mod write;

use std::sync::Arc;

use headwater_proto::{Day, UserId};
use headwater_stream::Positions;
use sqlx::{
    ConnectOptions, Row,
    sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions},
};

use super::{Authentication, Credentials, Keys, Snapshot, Store, User, Who, Writes, rows};
use crate::StoreError;

/// A handle; clones share the database.
#[derive(Clone)]
pub struct SqliteStore {
    pool: SqlitePool,
    positions: Arc<Positions>,
}

/// Request ids, so that a big day does not hold the only connection for long.
const DELETED_AT_ONCE: i64 = 10_000;

impl SqliteStore {
    /// A new, empty database.
    pub async fn open() -> Result<Self, StoreError> {
        // statements are not logged: their parameters never are, and the rest is paid for at every call
        let options = SqliteConnectOptions::new().in_memory(true).row_buffer_size(1_024).disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(refused)?;
        let files = [(1, "users", include_str!("../../migrations/sqlite/0001_users.sql"))];
        super::migrations(&files).run(&pool).await.map_err(StoreError::unavailable)?;
        Ok(Self { pool, positions: Positions::new() })
    }
}

/// A refused value is the request's fault; everything else is the store's.
fn refused(error: sqlx::Error) -> StoreError {
    const TOO_BIG: &str = "18";
    let data = error.as_database_error().is_some_and(|error| {
        !matches!(error.kind(), sqlx::error::ErrorKind::Other) || error.code().as_deref() == Some(TOO_BIG)
    });
    if data { StoreError::data(error) } else { StoreError::unavailable(error) }
}

impl Store for SqliteStore {
    async fn transact<T, F>(&self, keys: &Keys, decide: F) -> Result<T, StoreError>
    where
        T: Send,
        F: Fn(Snapshot) -> (Writes, T) + Send + Sync,
    {
        let mut transaction = self.pool.begin().await.map_err(refused)?;
        let snapshot = read::snapshot(&mut transaction, keys).await.map_err(refused)?;
        let (writes, decided) = decide(snapshot);
        write::all(&mut transaction, &writes).await.map_err(refused)?;
        transaction.commit().await.map_err(refused)?;
        Ok(decided)
    }

    async fn credentials(&self, of: &Who) -> Result<Option<Credentials>, StoreError> {
        let query = match of {
            Who::Id(_) => "SELECT user_id, password_hash FROM users WHERE user_id = ?1",
            Who::Email(_) => "SELECT user_id, password_hash FROM users WHERE email = ?1",
        };
        let row = sqlx::query(query).bind(of.as_str()).fetch_optional(&self.pool).await.map_err(refused)?;
        row.map(|row| rows::credentials(&row)).transpose().map_err(refused)
    }

    async fn account(&self, user_id: &UserId) -> Result<Option<(User, Authentication)>, StoreError> {
        const QUERY: &str = "SELECT u.user_id, email, password_hash, status, status_epoch, created_at, \
            coalesce(failures, 0) AS failures, last_ip, last_ip_at, last_login_at, \
            coalesce(open_sessions, '') AS open_sessions \
            FROM users u LEFT JOIN authentication_states USING (user_id) WHERE u.user_id = ?1";
        let row = sqlx::query(QUERY).bind(user_id.as_str()).fetch_optional(&self.pool).await.map_err(refused)?;
        let account = row.map(|row| Ok((rows::user(&row)?, rows::state(&row, 6)?)));
        account.transpose().map_err(refused)
    }

    async fn expire_request_ids(&self, first_kept: Day) -> Result<u64, StoreError> {
        const DELETE: &str = "DELETE FROM request_ids WHERE event_id IN \
            (SELECT event_id FROM request_ids WHERE day < ?1 LIMIT ?2)";
        let first_kept = first_kept.epoch_days();
        let count = sqlx::query("SELECT count(DISTINCT day) AS days FROM request_ids WHERE day < ?1").bind(first_kept);
        let days: i64 = count.fetch_one(&self.pool).await.and_then(|row| row.try_get("days")).map_err(refused)?;
        loop {
            let delete = sqlx::query(DELETE).bind(first_kept).bind(DELETED_AT_ONCE);
            let deleted = delete.execute(&self.pool).await.map_err(refused)?.rows_affected();
            if deleted < DELETED_AT_ONCE as u64 {
                return Ok(days.unsigned_abs());
            }
        }
    }

    fn positions(&self) -> Option<Arc<Positions>> {
        Some(self.positions.clone())
    }

    async fn digest_key(&self) -> Result<[u8; 32], StoreError> {
        let insert = sqlx::query("INSERT INTO digest_key (only, key) VALUES (1, ?1) ON CONFLICT DO NOTHING");
        insert.bind(&super::new_digest_key()[..]).execute(&self.pool).await.map_err(refused)?;
        let row = sqlx::query("SELECT key FROM digest_key").fetch_one(&self.pool).await.map_err(refused)?;
        let stored: Vec<u8> = row.try_get("key").map_err(refused)?;
        rows::array(&stored).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sqlite_keeps_what_the_port_promises() {
        super::super::conformance::suite(|| async { SqliteStore::open().await.unwrap() }).await;
    }
}
