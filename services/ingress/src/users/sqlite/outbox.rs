//! The outbox: read back by id within a partition, deleted after the broker's report.
use bytes::Bytes;
use futures::TryStreamExt;
use headwater_proto::{Millis, topics::USER_EVENTS};
use sqlx::{Error, Row, SqliteConnection};
use uuid::Uuid;

use super::{SqliteStore, refused};
use crate::{
    StoreError,
    outbox::{Lease, Outbox, OutboxRow, PackedRow, SentRow, Waiting},
};

pub(super) async fn insert(connection: &mut SqliteConnection, packed: &[PackedRow], at: Millis) -> Result<(), Error> {
    const INSERT: &str = "INSERT INTO outbox (partition, records, committed_at, bytes) VALUES (?1, ?2, ?3, ?4)";
    for row in packed {
        let insert = sqlx::query(INSERT).bind(row.partition).bind(row.records).bind(at.as_millis());
        insert.bind(row.bytes.as_ref()).execute(&mut *connection).await?;
    }
    Ok(())
}

impl Outbox for SqliteStore {
    /// All shards for good: the store lives and ends with the one process that has it.
    async fn lease(&self, _relay: Uuid) -> Result<Vec<Lease>, StoreError> {
        let lease = |partition| Lease { partition, token: 0, surplus: false };
        Ok((0..USER_EVENTS.partitions).map(lease).collect())
    }

    async fn release(&self, _leases: &[Lease]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn resign(&self, _relay: Uuid) -> Result<(), StoreError> {
        Ok(())
    }

    async fn unsent(&self, lease: &Lease, in_flight: &[i64], limit_bytes: usize) -> Result<Vec<OutboxRow>, StoreError> {
        const QUERY: &str = "SELECT id, records, bytes FROM outbox \
            WHERE partition = ?1 AND id NOT IN (SELECT value FROM json_each(?2)) ORDER BY id";
        let partition = lease.partition;
        let query = sqlx::query(QUERY).bind(partition).bind(ids(in_flight));
        let mut found = query.fetch(&self.pool);
        let (mut rows, mut total) = (Vec::new(), 0);
        while let Some(row) = found.try_next().await.map_err(refused)? {
            let bytes: Vec<u8> = row.try_get("bytes").map_err(refused)?;
            if !rows.is_empty() && total + bytes.len() > limit_bytes {
                break;
            }
            total += bytes.len();
            rows.push(OutboxRow {
                id: row.try_get("id").map_err(refused)?,
                partition,
                records: row.try_get("records").map_err(refused)?,
                bytes: Bytes::from(bytes),
            });
        }
        Ok(rows)
    }

    async fn delete(&self, sent: &[SentRow]) -> Result<(), StoreError> {
        let sent: Vec<i64> = sent.iter().map(|row| row.id).collect();
        let delete = sqlx::query("DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(?1))").bind(ids(&sent));
        delete.execute(&self.pool).await.map_err(refused)?;
        Ok(())
    }

    async fn occupied(&self) -> Result<Vec<i32>, StoreError> {
        // one look into the index per partition, however many rows each has
        const QUERY: &str = "WITH RECURSIVE occupied(partition) AS ( \
            SELECT min(partition) FROM outbox UNION ALL \
            SELECT (SELECT min(o.partition) FROM outbox o WHERE o.partition > occupied.partition) \
            FROM occupied WHERE occupied.partition IS NOT NULL \
            ) SELECT partition FROM occupied WHERE partition IS NOT NULL";
        let rows = sqlx::query(QUERY).fetch_all(&self.pool).await.map_err(refused)?;
        rows.iter().map(|row| row.try_get("partition").map_err(refused)).collect()
    }

    async fn waiting(&self) -> Result<Waiting, StoreError> {
        let query = sqlx::query("SELECT count(*) AS n, min(committed_at) AS oldest_at FROM outbox");
        let row = query.fetch_one(&self.pool).await.map_err(refused)?;
        let oldest_at: Option<i64> = row.try_get("oldest_at").map_err(refused)?;
        let rows: i64 = row.try_get("n").map_err(refused)?;
        Ok(Waiting { rows: rows.unsigned_abs(), oldest_at: oldest_at.map(Millis::from_millis) })
    }
}

fn ids(ids: &[i64]) -> String {
    serde_json::Value::from(ids).to_string()
}
