//! What sessions have used in all: columns of their rows, written apart from the rest of it.

use clamshell_domain::{SessionUsage, StorageId};

use crate::{
    Store, StoreError,
    row::{Columns, stored_ms},
};

/// Stored bits; never reused.
const CPU_MISSING: i64 = 1;
const MEMORY_MISSING: i64 = 2;

impl Store {
    /// The use of all sessions, by storage id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_session_usages(&self) -> Result<Vec<(StorageId, SessionUsage)>, StoreError> {
        let rows = sqlx::query(
            "SELECT storage_id, usage_since_ms, cpu_us, cpu_seen_us, memory_kib_ms, usage_missing FROM sessions \
             WHERE endpoint <> ''",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let columns = Columns::new("sessions", row);
                let missing: i64 = columns.number("usage_missing")?;
                let usage = SessionUsage {
                    since_ms: columns.optional_number("usage_since_ms")?,
                    cpu_us: columns.number("cpu_us")?,
                    cpu_seen_us: columns.number("cpu_seen_us")?,
                    memory_kib_ms: columns.number("memory_kib_ms")?,
                    cpu_missing: missing & CPU_MISSING != 0,
                    memory_missing: missing & MEMORY_MISSING != 0,
                };
                Ok((columns.id("storage_id")?, usage))
            })
            .collect()
    }

    /// Writes the use of many sessions in one transaction: each one's sums and what they are up to are stored together or
    /// not at all, so nothing is ever counted twice. Sessions that are gone are passed over.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn write_session_usages(&self, usages: &[(StorageId, SessionUsage)]) -> Result<(), StoreError> {
        if usages.is_empty() {
            return Ok(());
        }
        let mut tx = self.write().await?;
        for (storage_id, usage) in usages {
            let cpu_missing = if usage.cpu_missing { CPU_MISSING } else { 0 };
            let memory_missing = if usage.memory_missing { MEMORY_MISSING } else { 0 };
            sqlx::query(
                "UPDATE sessions SET usage_since_ms = $1, cpu_us = $2, cpu_seen_us = $3, memory_kib_ms = $4, \
                 usage_missing = $5 WHERE storage_id = $6",
            )
            .bind(usage.since_ms.map(stored_ms))
            .bind(stored_ms(usage.cpu_us))
            .bind(stored_ms(usage.cpu_seen_us))
            .bind(stored_ms(usage.memory_kib_ms))
            .bind(cpu_missing + memory_missing)
            .bind(storage_id.as_str())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }
}
