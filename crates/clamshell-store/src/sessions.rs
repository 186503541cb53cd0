//! Sessions: one row each, with the private range of user ids that no other session has.

use clamshell_domain::{IdRange, Phase, RuntimeId, SessionKey, SessionRecord, StopReason, StorageId};
use sqlx::any::AnyRow;
use thiserror::Error;

use crate::{
    Store, StoreError,
    error::from_database,
    row::{Columns, stored_ms},
};

const TABLE: &str = "sessions";

/// A session was not added.
#[derive(Debug, Error)]
pub enum CreateSessionError {
    /// There is one of this key, or of this storage id.
    #[error("session exists already")]
    AlreadyExists,
    /// Every private range of user ids is taken: remove sessions first.
    #[error("no range of user ids is free for another session; at most {ranges_max} sessions")]
    RangesExhausted {
        /// Ranges there are.
        ranges_max: u32,
    },
    /// The store failed, or the runtime does not exist.
    #[error("session cannot be stored")]
    Store(#[from] StoreError),
}

from_database!(CreateSessionError);

/// A session was not updated.
#[derive(Debug, Error)]
pub enum UpdateSessionError {
    /// There is none of this key, storage id and id range: it was removed, perhaps made anew.
    #[error("no such session")]
    NotFound,
    /// The store failed.
    #[error("session cannot be stored")]
    Store(#[from] StoreError),
}

from_database!(UpdateSessionError);

/// Which sessions to list; `None` is any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Of this runtime.
    pub runtime_id: Option<RuntimeId>,
    /// In this phase.
    pub phase: Option<Phase>,
}

/// A session, or a standby, that is about to be.
pub(crate) struct NewRow<'a> {
    pub(crate) runtime_id: &'a RuntimeId,
    /// Empty for a standby.
    pub(crate) endpoint: &'a str,
    pub(crate) session_id: &'a str,
    pub(crate) storage_id: &'a StorageId,
    pub(crate) runtime_version: u32,
    pub(crate) driver: &'a str,
    pub(crate) now_ms: u64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT runtime_id, endpoint, session_id, storage_id, id_range, phase, runtime_version, driver, \
             created_at_ms, started_at_ms, stopped_at_ms, stop_reason, last_activity_at_ms FROM sessions ",
            $rest
        )
    };
}

impl Store {
    /// Adds a session, in phase `Provisioning`, and gives it the lowest range of user ids that no
    /// session has.
    ///
    /// # Errors
    /// [`CreateSessionError`].
    pub async fn create_session(
        &self,
        key: &SessionKey,
        storage_id: &StorageId,
        now_ms: u64,
        runtime_version: u32,
        driver: &str,
    ) -> Result<SessionRecord, CreateSessionError> {
        let row = NewRow {
            runtime_id: &key.runtime_id,
            endpoint: key.endpoint.as_str(),
            session_id: key.session_id.as_str(),
            storage_id,
            runtime_version,
            driver,
            now_ms,
        };
        let id_range = self.insert_row(&row).await?;
        Ok(SessionRecord {
            key: key.clone(),
            storage_id: storage_id.clone(),
            id_range,
            phase: Phase::Provisioning,
            runtime_version,
            driver: driver.to_owned(),
            created_at_ms: now_ms,
            started_at_ms: None,
            stopped_at_ms: None,
            stop_reason: None,
            last_activity_at_ms: now_ms,
        })
    }

    /// Inserts a row in phase `Provisioning` with the lowest free range of user ids, which it gives.
    pub(crate) async fn insert_row(&self, row: &NewRow<'_>) -> Result<u32, CreateSessionError> {
        let mut tx = self.write().await?;
        let id_range = free_id_range(&mut tx).await?;
        let inserted = sqlx::query(
            "INSERT INTO sessions (runtime_id, endpoint, session_id, storage_id, id_range, phase, runtime_version, \
             driver, created_at_ms, last_activity_at_ms, usage_since_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $9) \
             ON CONFLICT DO NOTHING",
        )
        .bind(row.runtime_id.as_str())
        .bind(row.endpoint)
        .bind(row.session_id)
        .bind(row.storage_id.as_str())
        .bind(i64::from(id_range))
        .bind(phase_number(Phase::Provisioning))
        .bind(i64::from(row.runtime_version))
        .bind(row.driver)
        .bind(stored_ms(row.now_ms))
        .execute(&mut *tx)
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(CreateSessionError::AlreadyExists);
        }
        tx.commit().await?;
        Ok(id_range)
    }

    /// One session.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session(&self, key: &SessionKey) -> Result<Option<SessionRecord>, StoreError> {
        sqlx::query(select!("WHERE runtime_id = $1 AND endpoint = $2 AND session_id = $3"))
            .bind(key.runtime_id.as_str())
            .bind(key.endpoint.as_str())
            .bind(key.session_id.as_str())
            .fetch_optional(&self.readers)
            .await?
            .as_ref()
            .map(session_of)
            .transpose()
    }

    /// Sessions, oldest first. At most [`IdRange::RANGES`], because each has a range.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRecord>, StoreError> {
        // Four texts instead of `$1 IS NULL OR ...`: SQLite picks an index for each.
        let query = match (&filter.runtime_id, filter.phase) {
            (None, None) => sqlx::query(select!("WHERE endpoint <> '' ORDER BY created_at_ms, storage_id")),
            (Some(runtime_id), None) => sqlx::query(select!(
                "WHERE runtime_id = $1 AND endpoint <> '' ORDER BY created_at_ms, storage_id"
            ))
            .bind(runtime_id.as_str()),
            (None, Some(phase)) => {
                sqlx::query(select!("WHERE phase = $1 AND endpoint <> '' ORDER BY created_at_ms, storage_id"))
                    .bind(phase_number(phase))
            }
            (Some(runtime_id), Some(phase)) => sqlx::query(select!(
                "WHERE runtime_id = $1 AND phase = $2 AND endpoint <> '' ORDER BY created_at_ms, storage_id"
            ))
            .bind(runtime_id.as_str())
            .bind(phase_number(phase)),
        };
        query.fetch_all(&self.readers).await?.iter().map(session_of).collect()
    }

    /// Writes everything of a session that can change. Its storage id, id range and creation cannot,
    /// and must be those stored: so a late write never lands on a session made anew under the key.
    ///
    /// # Errors
    /// [`UpdateSessionError`].
    pub async fn update_session(&self, record: &SessionRecord) -> Result<(), UpdateSessionError> {
        let mut tx = self.write().await?;
        let updated = sqlx::query(
            "UPDATE sessions SET phase = $1, runtime_version = $2, driver = $3, started_at_ms = $4, \
             stopped_at_ms = $5, stop_reason = $6, last_activity_at_ms = $7 \
             WHERE runtime_id = $8 AND endpoint = $9 AND session_id = $10 AND storage_id = $11 AND id_range = $12",
        )
        .bind(phase_number(record.phase))
        .bind(i64::from(record.runtime_version))
        .bind(record.driver.as_str())
        .bind(record.started_at_ms.map(stored_ms))
        .bind(record.stopped_at_ms.map(stored_ms))
        .bind(record.stop_reason.map(stop_reason_number))
        .bind(stored_ms(record.last_activity_at_ms))
        .bind(record.key.runtime_id.as_str())
        .bind(record.key.endpoint.as_str())
        .bind(record.key.session_id.as_str())
        .bind(record.storage_id.as_str())
        .bind(i64::from(record.id_range))
        .execute(&mut *tx)
        .await?;
        if updated.rows_affected() == 0 {
            return Err(UpdateSessionError::NotFound);
        }
        tx.commit().await?;
        Ok(())
    }

    /// Removes a session and frees its range of user ids: its files must be gone before. Returns
    /// whether there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_session(&self, key: &SessionKey) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let removed =
            sqlx::query("DELETE FROM sessions WHERE runtime_id = $1 AND endpoint = $2 AND session_id = $3")
                .bind(key.runtime_id.as_str())
                .bind(key.endpoint.as_str())
                .bind(key.session_id.as_str())
                .execute(&mut *tx)
                .await?;
        tx.commit().await?;
        Ok(removed.rows_affected() > 0)
    }

    /// Notes activity of many sessions in one transaction. Never moves a time back; sessions that
    /// are gone are passed over.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written then.
    pub async fn touch_sessions(&self, activity: &[(SessionKey, u64)]) -> Result<(), StoreError> {
        if activity.is_empty() {
            return Ok(());
        }
        let mut tx = self.write().await?;
        for (key, last_activity_at_ms) in activity {
            sqlx::query(
                "UPDATE sessions SET last_activity_at_ms = $1 WHERE runtime_id = $2 AND endpoint = $3 \
                 AND session_id = $4 AND last_activity_at_ms < $1",
            )
            .bind(stored_ms(*last_activity_at_ms))
            .bind(key.runtime_id.as_str())
            .bind(key.endpoint.as_str())
            .bind(key.session_id.as_str())
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }
}

/// The lowest range of user ids that no session and no standby has.
async fn free_id_range(tx: &mut sqlx::Transaction<'_, sqlx::Any>) -> Result<u32, CreateSessionError> {
    // The row before the first gap, walking the unique index from 0.
    let lowest_free = sqlx::query(
        "SELECT 0 AS id_range WHERE NOT EXISTS (SELECT 1 FROM sessions WHERE id_range = 0) \
         UNION ALL SELECT * FROM (SELECT a.id_range + 1 AS id_range FROM sessions a \
         WHERE NOT EXISTS (SELECT 1 FROM sessions b WHERE b.id_range = a.id_range + 1) \
         ORDER BY a.id_range LIMIT 1) AS after_first_run LIMIT 1",
    )
    .fetch_one(&mut **tx)
    .await?;
    let id_range: u32 = Columns::new(TABLE, &lowest_free).number("id_range")?;
    if id_range >= IdRange::RANGES {
        return Err(CreateSessionError::RangesExhausted { ranges_max: IdRange::RANGES });
    }
    Ok(id_range)
}

/// Stored numbers; never reused.
pub(crate) fn phase_number(phase: Phase) -> i64 {
    match phase {
        Phase::Stopped => 1,
        Phase::Provisioning => 2,
        Phase::Running => 3,
        Phase::Stopping => 4,
    }
}

fn phase_of(number: i64) -> Option<Phase> {
    match number {
        1 => Some(Phase::Stopped),
        2 => Some(Phase::Provisioning),
        3 => Some(Phase::Running),
        4 => Some(Phase::Stopping),
        _ => None,
    }
}

/// Stored numbers; never reused.
fn stop_reason_number(reason: StopReason) -> i64 {
    match reason {
        StopReason::Requested => 1,
        StopReason::Idle => 2,
        StopReason::MaxLifetime => 3,
        StopReason::Lost => 4,
        StopReason::StartFailed => 5,
        StopReason::DiskLimit => 6,
        StopReason::Unhealthy => 7,
        StopReason::AgentExited => 8,
    }
}

fn stop_reason_of(number: i64) -> Option<StopReason> {
    match number {
        1 => Some(StopReason::Requested),
        2 => Some(StopReason::Idle),
        3 => Some(StopReason::MaxLifetime),
        4 => Some(StopReason::Lost),
        5 => Some(StopReason::StartFailed),
        6 => Some(StopReason::DiskLimit),
        7 => Some(StopReason::Unhealthy),
        8 => Some(StopReason::AgentExited),
        _ => None,
    }
}

fn session_of(row: &AnyRow) -> Result<SessionRecord, StoreError> {
    let columns = Columns::new(TABLE, row);
    Ok(SessionRecord {
        key: SessionKey {
            runtime_id: columns.id("runtime_id")?,
            endpoint: columns.id("endpoint")?,
            session_id: columns.id("session_id")?,
        },
        storage_id: columns.id("storage_id")?,
        id_range: columns.number("id_range")?,
        phase: columns.coded("phase", phase_of)?,
        runtime_version: columns.number("runtime_version")?,
        driver: columns.text("driver")?,
        created_at_ms: columns.number("created_at_ms")?,
        started_at_ms: columns.optional_number("started_at_ms")?,
        stopped_at_ms: columns.optional_number("stopped_at_ms")?,
        stop_reason: columns.optional_coded("stop_reason", stop_reason_of)?,
        last_activity_at_ms: columns.number("last_activity_at_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_numbers_go_there_and_back() {
        for number in 1..=4 {
            assert_eq!(phase_of(number).map(phase_number), Some(number));
        }
        for number in 1..=8 {
            assert_eq!(stop_reason_of(number).map(stop_reason_number), Some(number));
        }
        assert_eq!(
            (phase_of(0), phase_of(5), stop_reason_of(0), stop_reason_of(9)),
            (None, None, None, None)
        );
    }
}
