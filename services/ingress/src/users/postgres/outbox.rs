//! The outbox and who owns its shards: whoever reads or deletes proves its lease in the same statement.
use std::time::Duration;

use bytes::Bytes;
use headwater_proto::{Millis, topics::USER_EVENTS};
use sqlx::{Error, PgConnection, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    PostgresStore, read,
    session::{Lock, Session},
};
use crate::{
    StoreError,
    outbox::{Lease, Outbox, OutboxRow, PackedRow, Reading, SentRow, Waiting},
    shares::{self, Shard},
};

/// How long a lease lasts from its last renewal, and so how long the shards of a killed instance stand still.
const LEASE: Duration = Duration::from_secs(6);
/// Rows of a shard that are looked at for one reading.
const ROWS: i64 = 256;

pub(super) async fn make_shards(connection: &mut PgConnection) -> Result<(), Error> {
    const INSERT: &str = "INSERT INTO outbox_shards (partition) \
        SELECT * FROM generate_series(0, $1 - 1) ON CONFLICT DO NOTHING";
    sqlx::query(INSERT).bind(USER_EVENTS.partitions).execute(connection).await?;
    Ok(())
}

/// Returns the version that rows of this transaction are of.
pub(super) async fn insert(
    connection: &mut PgConnection,
    packed: &[PackedRow],
    at: Millis,
) -> Result<Option<i32>, Error> {
    const INSERT: &str = "INSERT INTO outbox (partition, records, committed_at, bytes) \
        SELECT partition, records, $4, bytes FROM unnest($1::int[], $2::int[], $3::bytea[]) \
        AS packed (partition, records, bytes) RETURNING xmin";
    if packed.is_empty() {
        return Ok(None);
    }
    let query = sqlx::query(INSERT)
        .bind(packed.iter().map(|row| row.partition).collect::<Vec<_>>())
        .bind(packed.iter().map(|row| row.records as i32).collect::<Vec<_>>())
        .bind(packed.iter().map(|row| &row.bytes[..]).collect::<Vec<_>>())
        .bind(at.as_millis());
    let rows = query.fetch_all(connection).await?;
    rows.first().map(|row| read::version(row, 0)).transpose()
}

impl Outbox for PostgresStore {
    async fn lease(&self, relay: Uuid) -> Result<Vec<Lease>, StoreError> {
        let pool = self.pool.clone();
        self.unit(async move {
            let mut session = Session::begin(&pool, Lock::Leases).await?;
            let leases = lease(&mut session, relay).await?;
            session.commit().await?;
            Ok(leases)
        })
        .await
    }

    async fn release(&self, leases: &[Lease]) -> Result<(), StoreError> {
        const RELEASE: &str = "UPDATE outbox_shards AS shard SET owner = NULL, expires_at = '-infinity' \
            FROM unnest($1::int[], $2::bigint[]) AS held (partition, token) \
            WHERE shard.partition = held.partition AND shard.token = held.token";
        let (pool, leases) = (self.pool.clone(), leases.to_vec());
        self.unit(async move {
            let mut session = Session::open(&pool).await?;
            let query = sqlx::query(RELEASE)
                .bind(leases.iter().map(|lease| lease.partition).collect::<Vec<_>>())
                .bind(leases.iter().map(|lease| lease.token).collect::<Vec<_>>());
            query.execute(&mut *session).await?;
            session.end();
            Ok(())
        })
        .await
    }

    async fn resign(&self, relay: Uuid) -> Result<(), StoreError> {
        let pool = self.pool.clone();
        self.unit(async move {
            let mut session = Session::begin(&pool, Lock::Leases).await?;
            for statement in [
                "UPDATE outbox_shards SET owner = NULL, expires_at = '-infinity' WHERE owner = $1",
                "DELETE FROM outbox_relays WHERE relay = $1",
            ] {
                sqlx::query(statement).bind(relay).execute(&mut *session).await?;
            }
            session.commit().await
        })
        .await
    }

    async fn unsent(&self, lease: &Lease, in_flight: &[i64], limit_bytes: usize) -> Result<Vec<OutboxRow>, StoreError> {
        self.unsent_of_all(vec![Reading { lease: *lease, in_flight: in_flight.to_vec(), limit_bytes }]).await
    }

    async fn unsent_of_all(&self, readings: Vec<Reading>) -> Result<Vec<OutboxRow>, StoreError> {
        // Octet_length reads no bytes that are stored apart; the first row is there however big it is. What is in flight
        // is looked through for every row, so each shard has its own part of it.
        const QUERY: &str = "SELECT first.id, first.partition, first.records, first.bytes \
            FROM (SELECT partition, token, room, ($4::bigint[])[begin_at:end_at] AS in_flight \
                FROM unnest($1::int[], $2::bigint[], $3::bigint[], $5::int[], $6::int[]) \
                AS readings (partition, token, room, begin_at, end_at)) AS reading \
            JOIN outbox_shards AS shard ON shard.partition = reading.partition AND shard.token = reading.token \
            CROSS JOIN LATERAL ( \
                SELECT *, sum(octet_length(bytes)) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS total, \
                    row_number() OVER (ORDER BY id) AS place \
                FROM (SELECT * FROM outbox WHERE outbox.partition = reading.partition AND id <> ALL(reading.in_flight) \
                    ORDER BY id LIMIT $7) AS unsent \
            ) AS first \
            WHERE first.total <= reading.room OR first.place = 1 \
            ORDER BY first.partition, first.id";
        let pool = self.pool.clone();
        self.unit(async move {
            let room = |reading: &Reading| i64::try_from(reading.limit_bytes).unwrap_or(i64::MAX);
            let mut in_flight = Vec::with_capacity(readings.iter().map(|reading| reading.in_flight.len()).sum());
            let (mut begin_at, mut end_at) = (Vec::new(), Vec::new());
            for reading in &readings {
                begin_at.push(in_flight.len() as i32 + 1);
                in_flight.extend_from_slice(&reading.in_flight);
                end_at.push(in_flight.len() as i32);
            }
            let mut session = Session::open(&pool).await?;
            let query = sqlx::query(QUERY)
                .bind(readings.iter().map(|reading| reading.lease.partition).collect::<Vec<_>>())
                .bind(readings.iter().map(|reading| reading.lease.token).collect::<Vec<_>>())
                .bind(readings.iter().map(room).collect::<Vec<_>>())
                .bind(in_flight)
                .bind(begin_at)
                .bind(end_at)
                .bind(ROWS);
            let rows = query.fetch_all(&mut *session).await?;
            session.end();
            rows.iter().map(outbox_row).collect()
        })
        .await
    }

    async fn delete(&self, sent: &[SentRow]) -> Result<(), StoreError> {
        const DELETE: &str = "DELETE FROM outbox USING \
            unnest($1::bigint[], $2::int[], $3::bigint[]) AS sent (id, partition, token), outbox_shards AS shard \
            WHERE outbox.id = sent.id AND outbox.partition = sent.partition \
                AND shard.partition = sent.partition AND shard.token = sent.token";
        let (pool, sent) = (self.pool.clone(), sent.to_vec());
        self.unit(async move {
            let mut session = Session::open(&pool).await?;
            let query = sqlx::query(DELETE)
                .bind(sent.iter().map(|row| row.id).collect::<Vec<_>>())
                .bind(sent.iter().map(|row| row.lease.partition).collect::<Vec<_>>())
                .bind(sent.iter().map(|row| row.lease.token).collect::<Vec<_>>());
            query.execute(&mut *session).await?;
            session.end();
            Ok(())
        })
        .await
    }

    async fn occupied(&self) -> Result<Vec<i32>, StoreError> {
        // one look into the index per shard, however many rows each has
        const QUERY: &str = "SELECT partition FROM outbox_shards AS shard \
            WHERE EXISTS (SELECT FROM outbox WHERE outbox.partition = shard.partition) ORDER BY partition";
        let pool = self.pool.clone();
        self.unit(async move {
            let mut session = Session::open(&pool).await?;
            let rows = sqlx::query(QUERY).fetch_all(&mut *session).await?;
            session.end();
            rows.iter().map(|row| row.try_get("partition")).collect()
        })
        .await
    }

    async fn waiting(&self) -> Result<Waiting, StoreError> {
        // the oldest is the one with the lowest id, but for what was committed at the same moment
        const QUERY: &str = "SELECT count(*) AS n, (SELECT committed_at FROM outbox ORDER BY id LIMIT 1) AS oldest_at \
            FROM outbox";
        let pool = self.pool.clone();
        self.unit(async move {
            let mut session = Session::open(&pool).await?;
            let row = sqlx::query(QUERY).fetch_one(&mut *session).await?;
            session.end();
            let oldest_at: Option<i64> = row.try_get("oldest_at")?;
            let rows: i64 = row.try_get("n")?;
            Ok(Waiting { rows: rows.unsigned_abs(), oldest_at: oldest_at.map(Millis::from_millis) })
        })
        .await
    }
}

fn outbox_row(row: &PgRow) -> Result<OutboxRow, Error> {
    let (records, bytes): (i32, Vec<u8>) = (row.try_get(2)?, row.try_get(3)?);
    let (id, partition) = (row.try_get(0)?, row.try_get(1)?);
    Ok(OutboxRow { id, partition, records: records.unsigned_abs(), bytes: Bytes::from(bytes) })
}

/// One round of sharing: says that this relay lives, renews what it has, takes what it is due. Times are the database's.
async fn lease(connection: &mut PgConnection, relay: Uuid) -> Result<Vec<Lease>, Error> {
    const LIVE: &str = "INSERT INTO outbox_relays (relay, alive_until) \
        VALUES ($1, clock_timestamp() + $2 * interval '1 second') \
        ON CONFLICT (relay) DO UPDATE SET alive_until = excluded.alive_until";
    const BURY: &str = "DELETE FROM outbox_relays WHERE alive_until <= clock_timestamp()";
    const RELAYS: &str = "SELECT relay FROM outbox_relays";
    const SHARDS: &str = "SELECT partition, owner, token, expires_at <= clock_timestamp() AS expired \
        FROM outbox_shards WHERE partition < $1 ORDER BY partition";
    const HOLD: &str = "UPDATE outbox_shards AS shard SET owner = $1, token = held.token, \
        expires_at = clock_timestamp() + $4 * interval '1 second' \
        FROM unnest($2::int[], $3::bigint[]) AS held (partition, token) WHERE shard.partition = held.partition";

    sqlx::query(LIVE).bind(relay).bind(LEASE.as_secs_f64()).execute(&mut *connection).await?;
    sqlx::query(BURY).execute(&mut *connection).await?;
    let relays = sqlx::query(RELAYS).fetch_all(&mut *connection).await?;
    let relays: Vec<Uuid> = relays.iter().map(|row| row.try_get("relay")).collect::<Result<_, _>>()?;
    let shards = sqlx::query(SHARDS).bind(USER_EVENTS.partitions).fetch_all(&mut *connection).await?;
    let shards: Vec<Shard> = shards.iter().map(shard).collect::<Result<_, _>>()?;
    let shares = shares::due(relay, &relays, &shards);
    let query = sqlx::query(HOLD)
        .bind(relay)
        .bind(shares.iter().map(|share| share.partition).collect::<Vec<_>>())
        .bind(shares.iter().map(|share| share.token).collect::<Vec<_>>());
    query.bind(LEASE.as_secs_f64()).execute(&mut *connection).await?;
    let lease = |share: shares::Share| Lease { partition: share.partition, token: share.token, surplus: share.surplus };
    Ok(shares.into_iter().map(lease).collect())
}

fn shard(row: &PgRow) -> Result<Shard, Error> {
    Ok(Shard {
        partition: row.try_get("partition")?,
        owner: row.try_get("owner")?,
        token: row.try_get("token")?,
        expired: row.try_get("expired")?,
    })
}
