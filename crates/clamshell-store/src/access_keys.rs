//! Access keys. Secrets are sealed with the master key and bound to their access key id.

use clamshell_domain::{AccessKey, AccessKeyId, AccessKeyStatus};
use sqlx::{Any, Transaction, any::AnyRow};
use thiserror::Error;

use crate::{
    MasterKey, OpenSecretError, SealError, Secret, Store, StoreError,
    error::from_database,
    row::{Columns, stored_ms},
};

const TABLE: &str = "access_keys";
const MINUTE_MS: u64 = 60_000;

/// An access key was not added.
#[derive(Debug, Error)]
pub enum InsertAccessKeyError {
    /// The id is taken.
    #[error("access key exists already: {access_key_id}")]
    AlreadyExists {
        /// The id.
        access_key_id: AccessKeyId,
    },
    /// Its secret could not be sealed.
    #[error("secret of access key cannot be sealed")]
    Seal(#[from] SealError),
    /// The store failed.
    #[error("access key cannot be stored")]
    Store(#[from] StoreError),
}

from_database!(InsertAccessKeyError);

/// An access key was not changed.
#[derive(Debug, Error)]
pub enum ChangeAccessKeyError {
    /// There is none of this id.
    #[error("no such access key: {access_key_id}")]
    NotFound {
        /// The id.
        access_key_id: AccessKeyId,
    },
    /// Without it nobody could sign anything anymore.
    #[error("access key is the last active one: {access_key_id}")]
    LastActive {
        /// The id.
        access_key_id: AccessKeyId,
    },
    /// The store failed.
    #[error("access key cannot be changed")]
    Store(#[from] StoreError),
}

from_database!(ChangeAccessKeyError);

/// The secret of an access key cannot be had.
#[derive(Debug, Error)]
pub enum AccessKeySecretError {
    /// The stored secret does not open: wrong master key, or a damaged row.
    #[error("secret of access key does not open: {access_key_id}")]
    Sealed {
        /// The id.
        access_key_id: AccessKeyId,
        /// Why.
        #[source]
        source: OpenSecretError,
    },
    /// The store failed.
    #[error("access key cannot be read")]
    Store(#[from] StoreError),
}

from_database!(AccessKeySecretError);

impl Store {
    /// Adds a key and its secret.
    ///
    /// # Errors
    /// [`InsertAccessKeyError`].
    pub async fn insert_access_key(
        &self,
        master_key: &MasterKey,
        key: &AccessKey,
        secret: &Secret,
    ) -> Result<(), InsertAccessKeyError> {
        let sealed = master_key.seal(&context(&key.access_key_id), secret.expose())?;
        let mut tx = self.write().await?;
        let inserted = sqlx::query(
            "INSERT INTO access_keys (access_key_id, user_name, status, secret, created_at_ms, last_used_at_ms) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (access_key_id) DO NOTHING",
        )
        .bind(key.access_key_id.as_str())
        .bind(key.user_name.as_str())
        .bind(status_number(key.status))
        .bind(sealed)
        .bind(stored_ms(key.created_at_ms))
        .bind(key.last_used_at_ms.map(stored_ms))
        .execute(&mut *tx)
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(InsertAccessKeyError::AlreadyExists { access_key_id: key.access_key_id.clone() });
        }
        tx.commit().await?;
        Ok(())
    }

    /// A key with its secret, active or not; the caller must look at the status.
    ///
    /// # Errors
    /// [`AccessKeySecretError`].
    pub async fn secret_of(
        &self,
        master_key: &MasterKey,
        access_key_id: &AccessKeyId,
    ) -> Result<Option<(AccessKey, Secret)>, AccessKeySecretError> {
        let row = sqlx::query(
            "SELECT access_key_id, user_name, status, created_at_ms, last_used_at_ms, secret FROM access_keys \
             WHERE access_key_id = $1",
        )
        .bind(access_key_id.as_str())
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let sealed = Columns::new(TABLE, &row).bytes("secret")?;
        let secret = master_key.open(&context(access_key_id), &sealed).map_err(|source| {
            AccessKeySecretError::Sealed { access_key_id: access_key_id.clone(), source }
        })?;
        Ok(Some((access_key(&row)?, secret)))
    }

    /// All keys, oldest first, without their secrets.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_access_keys(&self) -> Result<Vec<AccessKey>, StoreError> {
        let rows = sqlx::query(
            "SELECT access_key_id, user_name, status, created_at_ms, last_used_at_ms FROM access_keys \
             ORDER BY created_at_ms, access_key_id",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(access_key).collect()
    }

    /// Makes a key active or inactive. The last active one stays active unless `force`.
    ///
    /// # Errors
    /// [`ChangeAccessKeyError`].
    pub async fn set_access_key_status(
        &self,
        access_key_id: &AccessKeyId,
        status: AccessKeyStatus,
        force: bool,
    ) -> Result<(), ChangeAccessKeyError> {
        let mut tx = self.write().await?;
        if status == AccessKeyStatus::Inactive {
            refuse_last_active(&mut tx, access_key_id, force).await?;
        }
        let updated = sqlx::query("UPDATE access_keys SET status = $1 WHERE access_key_id = $2")
            .bind(status_number(status))
            .bind(access_key_id.as_str())
            .execute(&mut *tx)
            .await?;
        if updated.rows_affected() == 0 {
            return Err(ChangeAccessKeyError::NotFound { access_key_id: access_key_id.clone() });
        }
        tx.commit().await?;
        Ok(())
    }

    /// Removes a key for good. The last active one stays unless `force`.
    ///
    /// # Errors
    /// [`ChangeAccessKeyError`].
    pub async fn remove_access_key(
        &self,
        access_key_id: &AccessKeyId,
        force: bool,
    ) -> Result<(), ChangeAccessKeyError> {
        let mut tx = self.write().await?;
        refuse_last_active(&mut tx, access_key_id, force).await?;
        let removed = sqlx::query("DELETE FROM access_keys WHERE access_key_id = $1")
            .bind(access_key_id.as_str())
            .execute(&mut *tx)
            .await?;
        if removed.rows_affected() == 0 {
            return Err(ChangeAccessKeyError::NotFound { access_key_id: access_key_id.clone() });
        }
        tx.commit().await?;
        Ok(())
    }

    /// Notes an accepted signature, to the minute. Writes only when the minute changed, so a busy
    /// client costs one write a minute. A key that is gone is no error.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn touch_access_key(&self, access_key_id: &AccessKeyId, now_ms: u64) -> Result<(), StoreError> {
        let minute = stored_ms(now_ms - now_ms % MINUTE_MS);
        let stale = sqlx::query(
            "SELECT 1 FROM access_keys WHERE access_key_id = $1 \
             AND (last_used_at_ms IS NULL OR last_used_at_ms < $2)",
        )
        .bind(access_key_id.as_str())
        .bind(minute)
        .fetch_optional(&self.readers)
        .await?;
        if stale.is_none() {
            return Ok(());
        }
        let mut tx = self.write().await?;
        sqlx::query(
            "UPDATE access_keys SET last_used_at_ms = $1 WHERE access_key_id = $2 \
             AND (last_used_at_ms IS NULL OR last_used_at_ms < $1)",
        )
        .bind(minute)
        .bind(access_key_id.as_str())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }
}

async fn refuse_last_active(
    tx: &mut Transaction<'static, Any>,
    access_key_id: &AccessKeyId,
    force: bool,
) -> Result<(), ChangeAccessKeyError> {
    if force {
        return Ok(());
    }
    let active =
        sqlx::query("SELECT access_key_id FROM access_keys WHERE status = $1 ORDER BY access_key_id LIMIT 2")
            .bind(status_number(AccessKeyStatus::Active))
            .fetch_all(&mut **tx)
            .await?;
    match active.as_slice() {
        [only] if Columns::new(TABLE, only).id::<AccessKeyId>("access_key_id")? == *access_key_id => {
            Err(ChangeAccessKeyError::LastActive { access_key_id: access_key_id.clone() })
        }
        _ => Ok(()),
    }
}

fn context(access_key_id: &AccessKeyId) -> String {
    format!("access-key/{access_key_id}")
}

/// Stored numbers; never reused.
fn status_number(status: AccessKeyStatus) -> i64 {
    match status {
        AccessKeyStatus::Active => 1,
        AccessKeyStatus::Inactive => 2,
    }
}

fn status_of(number: i64) -> Option<AccessKeyStatus> {
    match number {
        1 => Some(AccessKeyStatus::Active),
        2 => Some(AccessKeyStatus::Inactive),
        _ => None,
    }
}

fn access_key(row: &AnyRow) -> Result<AccessKey, StoreError> {
    let columns = Columns::new(TABLE, row);
    Ok(AccessKey {
        access_key_id: columns.id("access_key_id")?,
        user_name: columns.text("user_name")?,
        status: columns.coded("status", status_of)?,
        created_at_ms: columns.number("created_at_ms")?,
        last_used_at_ms: columns.optional_number("last_used_at_ms")?,
    })
}
