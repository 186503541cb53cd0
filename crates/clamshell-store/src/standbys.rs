//! Standbys: rows of the sessions' table whose session has no name yet.
//!
//! A sandbox made ahead needs a storage id and a range of user ids that no session has. Its row waits among the
//! sessions, under an endpoint name that no endpoint can have, and becomes a session by an update.

use clamshell_domain::{Phase, RuntimeId, SessionKey, SessionRecord, StorageId};

use crate::{
    CreateSessionError, Store, StoreError, UpdateSessionError,
    row::{Columns, stored_ms},
    sessions::{NewRow, phase_number},
};

const TABLE: &str = "sessions";

/// A sandbox that waits for its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standby {
    /// Version that it was made of.
    pub runtime_id: RuntimeId,
    /// Number of that version.
    pub runtime_version: u32,
    /// Its folder and groups.
    pub storage_id: StorageId,
    /// Its private range.
    pub id_range: u32,
    /// Who made it.
    pub driver: String,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
}

impl Store {
    /// Takes a storage id and the lowest free range of user ids for a sandbox that is made ahead.
    ///
    /// # Errors
    /// [`CreateSessionError`].
    pub async fn create_standby(
        &self,
        runtime_id: &RuntimeId,
        runtime_version: u32,
        storage_id: &StorageId,
        driver: &str,
        now_ms: u64,
    ) -> Result<Standby, CreateSessionError> {
        // No session has the name of a storage.
        let row = NewRow {
            runtime_id,
            endpoint: "",
            session_id: storage_id.as_str(),
            storage_id,
            runtime_version,
            driver,
            now_ms,
        };
        let id_range = self.insert_row(&row).await?;
        Ok(Standby {
            runtime_id: runtime_id.clone(),
            runtime_version,
            storage_id: storage_id.clone(),
            id_range,
            driver: driver.to_owned(),
            created_at_ms: now_ms,
        })
    }

    /// Makes a running session of a standby. The standby stays what it was on any error.
    ///
    /// # Errors
    /// [`CreateSessionError::AlreadyExists`] when there is a session of this key, [`CreateSessionError::Store`] also
    /// when there is no such standby.
    pub async fn claim_standby(
        &self,
        standby: &Standby,
        key: &SessionKey,
        now_ms: u64,
    ) -> Result<SessionRecord, CreateSessionError> {
        let mut tx = self.write().await?;
        let taken =
            sqlx::query("SELECT 1 FROM sessions WHERE runtime_id = $1 AND endpoint = $2 AND session_id = $3")
                .bind(key.runtime_id.as_str())
                .bind(key.endpoint.as_str())
                .bind(key.session_id.as_str())
                .fetch_optional(&mut *tx)
                .await?;
        if taken.is_some() {
            return Err(CreateSessionError::AlreadyExists);
        }
        let claimed = sqlx::query(
            "UPDATE sessions SET endpoint = $1, session_id = $2, phase = $3, created_at_ms = $4, started_at_ms = $4, \
             last_activity_at_ms = $4, usage_since_ms = $4 WHERE storage_id = $5 AND runtime_id = $6 AND endpoint = ''",
        )
        .bind(key.endpoint.as_str())
        .bind(key.session_id.as_str())
        .bind(phase_number(Phase::Running))
        .bind(stored_ms(now_ms))
        .bind(standby.storage_id.as_str())
        .bind(key.runtime_id.as_str())
        .execute(&mut *tx)
        .await?;
        if claimed.rows_affected() == 0 {
            return Err(CreateSessionError::Store(StoreError::from(sqlx::Error::RowNotFound)));
        }
        tx.commit().await?;
        Ok(SessionRecord {
            key: key.clone(),
            storage_id: standby.storage_id.clone(),
            id_range: standby.id_range,
            phase: Phase::Running,
            runtime_version: standby.runtime_version,
            driver: standby.driver.clone(),
            created_at_ms: now_ms,
            started_at_ms: Some(now_ms),
            stopped_at_ms: None,
            stop_reason: None,
            last_activity_at_ms: now_ms,
        })
    }

    /// All standbys: a server that starts finds those of one that was killed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_standbys(&self) -> Result<Vec<Standby>, StoreError> {
        let rows = sqlx::query(
            "SELECT runtime_id, runtime_version, storage_id, id_range, driver, created_at_ms FROM sessions \
             WHERE endpoint = '' ORDER BY created_at_ms, storage_id",
        )
        .fetch_all(&self.readers)
        .await?;
        let standby = |row| {
            let columns = Columns::new(TABLE, row);
            Ok(Standby {
                runtime_id: columns.id("runtime_id")?,
                runtime_version: columns.number("runtime_version")?,
                storage_id: columns.id("storage_id")?,
                id_range: columns.number("id_range")?,
                driver: columns.text("driver")?,
                created_at_ms: columns.number("created_at_ms")?,
            })
        };
        rows.iter().map(standby).collect()
    }

    /// Gives back what a standby had taken: its files must be gone before.
    ///
    /// # Errors
    /// [`UpdateSessionError::NotFound`] when it has become a session, or was removed.
    pub async fn remove_standby(&self, storage_id: &StorageId) -> Result<(), UpdateSessionError> {
        let mut tx = self.write().await?;
        let removed = sqlx::query("DELETE FROM sessions WHERE storage_id = $1 AND endpoint = ''")
            .bind(storage_id.as_str())
            .execute(&mut *tx)
            .await?;
        if removed.rows_affected() == 0 {
            return Err(UpdateSessionError::NotFound);
        }
        tx.commit().await?;
        Ok(())
    }
}
