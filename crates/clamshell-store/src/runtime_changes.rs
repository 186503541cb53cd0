//! Steps in the life of a runtime that the control plane changes, each one transaction.
//!
//! A change is written down as begun (CREATING, UPDATING, DELETING) together with the answer that the caller gets, and
//! later as finished. What was begun is found again after a crash by [`Store::unfinished_runtimes`].

use std::collections::BTreeMap;

use clamshell_domain::{Artifact, EndpointName, ResourceStatus, Runtime, RuntimeId};
use thiserror::Error;

use crate::{
    InsertRuntimeError, Receipt, Store, StoreError,
    error::from_database,
    row::{Columns, stored_ms},
    runtimes::{insert, spec_json, status_number, status_of},
};

/// A runtime was not changed.
#[derive(Debug, Error)]
pub enum ChangeRuntimeError {
    /// There is no such runtime or version in the state that was expected.
    #[error("the runtime is in another state than expected")]
    OtherState,
    /// The store failed.
    #[error("change of a runtime cannot be stored")]
    Store(#[from] StoreError),
}

from_database!(ChangeRuntimeError);

/// A change of a runtime that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfinished {
    /// This version is to be made ready.
    Version {
        /// The runtime.
        runtime_id: RuntimeId,
        /// The version.
        version: u32,
    },
    /// The runtime is to be removed.
    Deletion {
        /// The runtime.
        runtime_id: RuntimeId,
    },
}

impl Store {
    /// Adds a runtime in CREATING, with its tags, which belong to `arn`.
    ///
    /// # Errors
    /// [`InsertRuntimeError`].
    pub async fn create_runtime(
        &self,
        runtime: &Runtime,
        arn: &str,
        tags: &BTreeMap<String, String>,
        receipt: Option<&Receipt>,
    ) -> Result<(), InsertRuntimeError> {
        if runtime.version != 1 {
            return Err(InsertRuntimeError::NotFirstVersion { version: runtime.version });
        }
        let mut tx = self.write().await?;
        insert(&mut tx, runtime, ResourceStatus::Creating).await?;
        crate::tags::put(&mut tx, arn, tags).await?;
        crate::tokens::keep(&mut tx, receipt).await?;
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Adds the version `runtime.version`, which must be the next one, in UPDATING; `DEFAULT` is to follow.
    ///
    /// # Errors
    /// [`ChangeRuntimeError`].
    pub async fn update_runtime(
        &self,
        runtime: &Runtime,
        receipt: Option<&Receipt>,
    ) -> Result<(), ChangeRuntimeError> {
        let spec = spec_json(runtime)?;
        let (id, now_ms) = (runtime.runtime_id.as_str(), stored_ms(runtime.created_at_ms));
        let default = EndpointName::default_endpoint();
        let mut tx = self.write().await?;
        let updated = sqlx::query(
            "UPDATE runtimes SET latest_version = $2 WHERE runtime_id = $1 AND latest_version = $2 - 1 AND deletion IS NULL",
        )
        .bind(id)
        .bind(i64::from(runtime.version))
        .execute(&mut *tx)
        .await?;
        if updated.rows_affected() == 0 {
            return Err(ChangeRuntimeError::OtherState);
        }
        sqlx::query(
            "INSERT INTO runtime_versions (runtime_id, version, spec, created_at_ms, updated_at_ms, status) \
             VALUES ($1, $2, $3, $4, $4, $5)",
        )
        .bind(id)
        .bind(i64::from(runtime.version))
        .bind(spec)
        .bind(now_ms)
        .bind(status_number(ResourceStatus::Updating))
        .execute(&mut *tx)
        .await?;
        // One that never worked starts over with the new version.
        sqlx::query(
            "UPDATE endpoints SET version = $2, status = $3, failure_reason = NULL \
             WHERE runtime_id = $1 AND name = $4 AND status IN ($3, $5)",
        )
        .bind(id)
        .bind(i64::from(runtime.version))
        .bind(status_number(ResourceStatus::Creating))
        .bind(default.as_str())
        .bind(status_number(ResourceStatus::CreateFailed))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "UPDATE endpoints SET target_version = $2, updated_at_ms = $3, \
             status = CASE WHEN status = $4 THEN status ELSE $5 END WHERE runtime_id = $1 AND name = $6",
        )
        .bind(id)
        .bind(i64::from(runtime.version))
        .bind(now_ms)
        .bind(status_number(ResourceStatus::Creating))
        .bind(status_number(ResourceStatus::Updating))
        .bind(default.as_str())
        .execute(&mut *tx)
        .await?;
        crate::tokens::keep(&mut tx, receipt).await?;
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Writes down how a version in CREATING or UPDATING came out: ready, with `runtime` as it is to stay (its digests are known
    /// now), or failed for `reason`. `DEFAULT` follows to a ready version and stays where it is otherwise.
    ///
    /// # Errors
    /// [`ChangeRuntimeError::OtherState`] also when it was finished already.
    pub async fn finish_version(
        &self,
        runtime: &Runtime,
        outcome: Result<&Artifact, &str>,
        now_ms: u64,
    ) -> Result<ResourceStatus, ChangeRuntimeError> {
        let (id, version) = (runtime.runtime_id.as_str(), i64::from(runtime.version));
        let default = EndpointName::default_endpoint();
        let mut tx = self.write().await?;
        let row = sqlx::query("SELECT status FROM runtime_versions WHERE runtime_id = $1 AND version = $2")
            .bind(id)
            .bind(version)
            .fetch_optional(&mut *tx)
            .await?;
        let before = match &row {
            Some(row) => Columns::new("runtime_versions", row).coded("status", status_of)?,
            None => return Err(ChangeRuntimeError::OtherState),
        };
        let status = match (before, outcome.is_ok()) {
            (ResourceStatus::Creating | ResourceStatus::Updating, true) => ResourceStatus::Ready,
            (ResourceStatus::Creating, false) => ResourceStatus::CreateFailed,
            (ResourceStatus::Updating, false) => ResourceStatus::UpdateFailed,
            _ => return Err(ChangeRuntimeError::OtherState),
        };
        let artifact = outcome.unwrap_or(&runtime.artifact).clone();
        let spec = spec_json(&Runtime { artifact, ..runtime.clone() })?;
        sqlx::query(
            "UPDATE runtime_versions SET status = $3, failure_reason = $4, updated_at_ms = $5, spec = $6 \
             WHERE runtime_id = $1 AND version = $2",
        )
        .bind(id)
        .bind(version)
        .bind(status_number(status))
        .bind(outcome.err().map(str::to_owned))
        .bind(stored_ms(now_ms))
        .bind(spec)
        .execute(&mut *tx)
        .await?;
        let text = if outcome.is_ok() {
            "UPDATE endpoints SET version = $2, target_version = $2, status = $3, failure_reason = $4, \
             updated_at_ms = $5 WHERE runtime_id = $1 AND name = $6 AND status IN ($7, $8)"
        } else {
            "UPDATE endpoints SET target_version = version, status = CASE WHEN status = $7 THEN $3 ELSE $9 END, \
             failure_reason = CASE WHEN status = $7 THEN $4 ELSE NULL END, updated_at_ms = $5 \
             WHERE runtime_id = $1 AND name = $6 AND status IN ($7, $8) AND target_version = $2"
        };
        let endpoint_status =
            if outcome.is_ok() { ResourceStatus::Ready } else { ResourceStatus::CreateFailed };
        let mut query = sqlx::query(text)
            .bind(id)
            .bind(version)
            .bind(status_number(endpoint_status))
            .bind(outcome.err().map(str::to_owned))
            .bind(stored_ms(now_ms))
            .bind(default.as_str())
            .bind(status_number(ResourceStatus::Creating))
            .bind(status_number(ResourceStatus::Updating));
        if outcome.is_err() {
            query = query.bind(status_number(ResourceStatus::Ready));
        }
        query.execute(&mut *tx).await?;
        self.commit_change(tx).await?;
        Ok(status)
    }

    /// Writes down that a runtime and all its endpoints are to be removed.
    ///
    /// # Errors
    /// [`ChangeRuntimeError`].
    pub async fn begin_runtime_deletion(
        &self,
        runtime_id: &RuntimeId,
        now_ms: u64,
        receipt: Option<&Receipt>,
    ) -> Result<(), ChangeRuntimeError> {
        let mut tx = self.write().await?;
        let deleting = status_number(ResourceStatus::Deleting);
        let updated = sqlx::query(
            "UPDATE runtimes SET deletion = $2, deletion_reason = NULL, deletion_at_ms = $3 WHERE runtime_id = $1",
        )
        .bind(runtime_id.as_str())
        .bind(deleting)
        .bind(stored_ms(now_ms))
        .execute(&mut *tx)
        .await?;
        if updated.rows_affected() == 0 {
            return Err(ChangeRuntimeError::OtherState);
        }
        sqlx::query("UPDATE endpoints SET status = $2, updated_at_ms = $3 WHERE runtime_id = $1")
            .bind(runtime_id.as_str())
            .bind(deleting)
            .bind(stored_ms(now_ms))
            .execute(&mut *tx)
            .await?;
        crate::tokens::keep(&mut tx, receipt).await?;
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Writes down that a runtime could not be removed; its endpoints say so too.
    ///
    /// # Errors
    /// [`ChangeRuntimeError`].
    pub async fn fail_runtime_deletion(
        &self,
        runtime_id: &RuntimeId,
        reason: &str,
        now_ms: u64,
    ) -> Result<(), ChangeRuntimeError> {
        let mut tx = self.write().await?;
        let failed = status_number(ResourceStatus::DeleteFailed);
        for text in [
            "UPDATE runtimes SET deletion = $2, deletion_reason = $3, deletion_at_ms = $4 WHERE runtime_id = $1",
            "UPDATE endpoints SET status = $2, failure_reason = $3, updated_at_ms = $4 WHERE runtime_id = $1",
        ] {
            sqlx::query(text)
                .bind(runtime_id.as_str())
                .bind(failed)
                .bind(reason)
                .bind(stored_ms(now_ms))
                .execute(&mut *tx)
                .await?;
        }
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Removes a runtime with its versions, endpoints, tags and policies. Its sessions must be gone.
    ///
    /// # Errors
    /// [`StoreError`], also while sessions of it are there.
    pub async fn delete_runtime(&self, runtime_id: &RuntimeId, arn: &str) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for text in [
            "DELETE FROM endpoints WHERE runtime_id = $1",
            "DELETE FROM runtime_versions WHERE runtime_id = $1",
            "DELETE FROM runtimes WHERE runtime_id = $1",
        ] {
            sqlx::query(text).bind(runtime_id.as_str()).execute(&mut *tx).await?;
        }
        crate::tags::forget_resource(&mut tx, arn).await?;
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Removes one version. No endpoint may have it.
    ///
    /// # Errors
    /// [`ChangeRuntimeError`].
    pub async fn delete_version(
        &self,
        runtime_id: &RuntimeId,
        version: u32,
        receipt: Option<&Receipt>,
    ) -> Result<(), ChangeRuntimeError> {
        let mut tx = self.write().await?;
        let removed = sqlx::query("DELETE FROM runtime_versions WHERE runtime_id = $1 AND version = $2")
            .bind(runtime_id.as_str())
            .bind(i64::from(version))
            .execute(&mut *tx)
            .await?;
        if removed.rows_affected() == 0 {
            return Err(ChangeRuntimeError::OtherState);
        }
        crate::tokens::keep(&mut tx, receipt).await?;
        self.commit_change(tx).await?;
        Ok(())
    }

    /// What was begun and not finished; a runtime that is being removed has nothing else to finish.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unfinished_runtimes(&self) -> Result<Vec<Unfinished>, StoreError> {
        let mut unfinished = Vec::new();
        let deletions =
            sqlx::query("SELECT runtime_id FROM runtimes WHERE deletion = $1 ORDER BY deletion_at_ms")
                .bind(status_number(ResourceStatus::Deleting))
                .fetch_all(&self.readers)
                .await?;
        for row in &deletions {
            let runtime_id = Columns::new("runtimes", row).id("runtime_id")?;
            unfinished.push(Unfinished::Deletion { runtime_id });
        }
        let versions = sqlx::query(
            "SELECT v.runtime_id, v.version FROM runtime_versions v JOIN runtimes r ON r.runtime_id = v.runtime_id \
             WHERE v.status IN ($1, $2) AND r.deletion IS NULL ORDER BY v.created_at_ms, v.runtime_id, v.version",
        )
        .bind(status_number(ResourceStatus::Creating))
        .bind(status_number(ResourceStatus::Updating))
        .fetch_all(&self.readers)
        .await?;
        for row in &versions {
            let columns = Columns::new("runtime_versions", row);
            let (runtime_id, version) = (columns.id("runtime_id")?, columns.number("version")?);
            unfinished.push(Unfinished::Version { runtime_id, version });
        }
        Ok(unfinished)
    }
}
