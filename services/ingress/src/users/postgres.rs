//! PostgreSQL: what is acknowledged survives, and any number of instances share it.
//!
//! A group of actions costs a handful of statements, however many it has: rows go to and fro as arrays. Isolation is
//! READ COMMITTED with explicit locks:
//!
//! - Authentication states, then accounts, are locked in the order of user ids before anything else is read, so no two
//!   transactions wait for each other in a circle and what was loaded cannot change. Outbox ids are taken behind those
//!   locks: they grow with each user's events over all instances.
//! - What was not there when it was looked for (a new user, an email, a request id) may be there when it is written.
//!   Such a clash undoes the transaction and everything is decided anew, now alone among writers: that cannot clash.
//!
//! Plans are made once per connection, for any number of keys, and always over an index: nothing here may turn into a
//! scan because a table was small when its statement was first seen.
mod days;
mod outbox;
mod read;
mod recent;
mod session;
#[cfg(test)]
mod tests;
mod transaction;
mod write;

use std::{str::FromStr, sync::Arc, time::Duration};

use headwater_proto::{Day, UserId};
use headwater_stream::Positions;
use sqlx::{
    ConnectOptions, Connection, Error, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use super::{Authentication, Credentials, Keys, Snapshot, Store, User, Who, Writes, migrations, new_digest_key, rows};
use crate::StoreError;
use recent::Recent;
use session::{Lost, Session};

/// A handle; clones share the connections.
#[derive(Clone)]
pub struct PostgresStore {
    pool: PgPool,
    recent: Arc<Recent>,
    lost: Arc<Lost>,
}

/// Of one instance: the lanes, the relay's shards, account status, calls.
const MAX_CONNECTIONS: u32 = 16;
/// For a connection of the pool. What waits longer fails and is told so.
const ACQUIRE: Duration = Duration::from_secs(4);
/// At the start, for the first connection.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection that was idle for so long is asked whether it lives.
const TRUSTED: Duration = Duration::from_secs(1);

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Says nothing of the value: it has a password in it.
    #[error("DATABASE_URL: must be a PostgreSQL URL like postgres://user:password@host:5432/database")]
    Url,
    #[error("PostgreSQL at {address} cannot be used; see that it runs there and that DATABASE_URL is right")]
    Unreachable {
        address: String,
        #[source]
        source: Error,
    },
    #[error("the tables of the ingress cannot be brought up to date in PostgreSQL at {address}")]
    Migration {
        address: String,
        #[source]
        source: sqlx::migrate::MigrateError,
    },
}

impl OpenError {
    /// Nobody answers there, or not to us.
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl PostgresStore {
    /// Whether [`open`](Self::open) would know where to connect.
    pub fn understands(url: &str) -> bool {
        options(url).is_ok()
    }

    /// Connects and brings the tables up to date; of several instances that start together, one does.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        Self::open_with(url, MAX_CONNECTIONS).await
    }

    async fn open_with(url: &str, connections: u32) -> Result<Self, OpenError> {
        let options = options(url)?;
        let address = format!("{}:{}", options.get_host(), options.get_port());
        let unreachable = |source| OpenError::Unreachable { address: address.clone(), source };
        let connecting = timeout(CONNECT, PgConnection::connect_with(&options)).await;
        let mut first = connecting.map_err(|_| unreachable(Error::PoolTimedOut))?.map_err(unreachable)?;
        let files = [
            (1, "users", include_str!("../../migrations/postgres/0001_users.sql")),
            (2, "outbox cleaned", include_str!("../../migrations/postgres/0002_outbox_cleaned.sql")),
        ];
        let migrated = migrations(&files).run_direct(None, &mut first, false).await;
        migrated.map_err(|source| OpenError::Migration { address: address.clone(), source })?;
        outbox::make_shards(&mut first).await.map_err(unreachable)?;
        let _ = first.close().await; // it has done its work
        let lost = Arc::<Lost>::default();
        let is_lost = lost.clone();
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let lost = is_lost.includes(meta.age);
                Box::pin(async move {
                    if lost {
                        return Ok(false);
                    }
                    if meta.idle_for > TRUSTED {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options.options(SETTINGS));
        Ok(Self { pool, recent: Arc::default(), lost })
    }
}

/// Every statement goes over an index; none waits for long; nobody sits in a transaction.
const SETTINGS: [(&str, &str); 9] = [
    ("statement_timeout", "5s"),
    ("lock_timeout", "3s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
    ("client_min_messages", "warning"),
];

fn options(url: &str) -> Result<PgConnectOptions, OpenError> {
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(OpenError::Url);
    }
    let options = PgConnectOptions::from_str(url).map_err(|_| OpenError::Url)?;
    let named = match options.get_application_name() {
        Some(_) => options,
        None => options.application_name("headwater-ingress"),
    };
    // statements are not logged: their parameters never are, and the rest is paid for at every call
    Ok(named.disable_statement_logging())
}

/// A value that PostgreSQL cannot take is the request's fault; everything else is the store's.
fn refused(error: Error) -> StoreError {
    let data = sql_state(&error).is_some_and(|code| code.starts_with("22") || code.starts_with("23"));
    if data { StoreError::data(error) } else { StoreError::unavailable(error) }
}

fn sql_state(error: &Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned())
}

/// PostgreSQL chose this transaction to end a circle of waiting.
fn is_deadlock(error: &Error) -> bool {
    sql_state(error).is_some_and(|code| code == "40P01" || code == "40001")
}

impl Store for PostgresStore {
    async fn transact<T, F>(&self, keys: &Keys, decide: F) -> Result<T, StoreError>
    where
        T: Send,
        F: Fn(Snapshot) -> (Writes, T) + Send + Sync,
    {
        self.transact_in_turn(keys, decide).await
    }

    async fn credentials(&self, of: &Who) -> Result<Option<Credentials>, StoreError> {
        let query = match of {
            Who::Id(_) => "SELECT user_id, password_hash FROM users WHERE user_id = $1",
            Who::Email(_) => "SELECT user_id, password_hash FROM users WHERE email = $1",
        };
        let (pool, of) = (self.pool.clone(), of.as_str().to_owned());
        self.unit(async move {
            let mut session = Session::open(&pool).await?;
            let row = sqlx::query(query).bind(of).fetch_optional(&mut *session).await?;
            session.end();
            row.map(|row| rows::credentials(&row)).transpose()
        })
        .await
    }

    async fn account(&self, user_id: &UserId) -> Result<Option<(User, Authentication)>, StoreError> {
        const QUERY: &str = "SELECT u.user_id, email, password_hash, status, status_epoch, created_at, \
            coalesce(failures, 0) AS failures, last_ip, last_ip_at, last_login_at, \
            coalesce(open_sessions, '') AS open_sessions \
            FROM users u LEFT JOIN authentication_states USING (user_id) WHERE u.user_id = $1";
        let (pool, user_id) = (self.pool.clone(), user_id.clone());
        self.unit(async move {
            let mut session = Session::open(&pool).await?;
            let row = sqlx::query(QUERY).bind(user_id.as_str()).fetch_optional(&mut *session).await?;
            session.end();
            row.map(|row| Ok((rows::user(&row)?, rows::state(&row, 6)?))).transpose()
        })
        .await
    }

    async fn expire_request_ids(&self, first_kept: Day) -> Result<u64, StoreError> {
        self.unit(days::drop_before(self.pool.clone(), first_kept)).await
    }

    /// None: the group's commit counts, as the store outlives the process.
    fn positions(&self) -> Option<Arc<Positions>> {
        None
    }

    async fn digest_key(&self) -> Result<[u8; 32], StoreError> {
        let pool = self.pool.clone();
        self.unit(async move {
            let mut session = Session::open(&pool).await?;
            let insert = sqlx::query("INSERT INTO digest_key (key) VALUES ($1) ON CONFLICT DO NOTHING");
            insert.bind(&new_digest_key()[..]).execute(&mut *session).await?;
            let row = sqlx::query("SELECT key FROM digest_key").fetch_one(&mut *session).await?;
            session.end();
            rows::array(rows::Columns::bytes(&row, 0)?)
        })
        .await
    }
}
