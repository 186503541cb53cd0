//! Who guessed passwords and waits, so that a restart of the server lets nobody guess on. Only networks that wait are here;
//! how many there can be is bounded by how fast all together may fail and by when they are forgotten, both decided above.

use sqlx::any::AnyRow;

use crate::{
    Store, StoreError,
    row::{Columns, stored_ms},
};

const TABLE: &str = "console_lockouts";

/// A network that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockoutRecord {
    /// Its address.
    pub source: String,
    /// Failures that count.
    pub failures: u32,
    /// The last of them; milliseconds since 1970.
    pub failed_at_ms: u64,
    /// It waits until then; milliseconds since 1970.
    pub locked_until_ms: u64,
}

impl Store {
    /// All networks that failed after `since_ms`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn console_lockouts(&self, since_ms: u64) -> Result<Vec<LockoutRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT source, failures, failed_at_ms, locked_until_ms FROM console_lockouts WHERE failed_at_ms > $1 \
             ORDER BY failed_at_ms, source",
        )
        .bind(stored_ms(since_ms))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(record).collect()
    }

    /// Notes that a network waits, in place of what was noted of it. Those that failed at `since_ms` or earlier go.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_console_lockout(
        &self,
        lockout: &LockoutRecord,
        since_ms: u64,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM console_lockouts WHERE failed_at_ms <= $1 OR source = $2")
            .bind(stored_ms(since_ms))
            .bind(lockout.source.as_str())
            .execute(&mut *tx)
            .await?;
        sqlx::query(
            "INSERT INTO console_lockouts (source, failures, failed_at_ms, locked_until_ms) VALUES ($1, $2, $3, $4)",
        )
        .bind(lockout.source.as_str())
        .bind(i64::from(lockout.failures))
        .bind(stored_ms(lockout.failed_at_ms))
        .bind(stored_ms(lockout.locked_until_ms))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

fn record(row: &AnyRow) -> Result<LockoutRecord, StoreError> {
    let columns = Columns::new(TABLE, row);
    Ok(LockoutRecord {
        source: columns.text("source")?,
        failures: columns.number("failures")?,
        failed_at_ms: columns.number("failed_at_ms")?,
        locked_until_ms: columns.number("locked_until_ms")?,
    })
}
