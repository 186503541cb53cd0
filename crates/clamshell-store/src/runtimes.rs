//! Runtimes and their versions. A version is written once and never changed.

use std::collections::BTreeMap;

use clamshell_domain::{
    Artifact, EndpointName, Hosting, LifecycleConfiguration, Limits, NetworkMode, ResourceStatus, Runtime,
    RuntimeId, RuntimeName,
};
use serde::{Deserialize, Serialize};
use sqlx::{Any, Row as _, Transaction, any::AnyRow};
use thiserror::Error;

use crate::{
    Store, StoreError,
    error::from_database,
    row::{Columns, stored_json, stored_ms},
};

const TABLE: &str = "runtime_versions";

/// A version with its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRecord {
    /// What it is. Its `created_at_ms` is that of the version.
    pub runtime: Runtime,
    /// When the runtime was made, milliseconds since 1970.
    pub runtime_created_at_ms: u64,
    /// Newest change of the version or of the runtime's deletion, milliseconds since 1970.
    pub updated_at_ms: u64,
    /// `Deleting` and `DeleteFailed` are the runtime's, the others the version's own.
    pub status: ResourceStatus,
    /// Why it failed.
    pub failure_reason: Option<String>,
    /// Greatest number that a version of this runtime ever had.
    pub number_max: u32,
}

/// A runtime was not added.
#[derive(Debug, Error)]
pub enum InsertRuntimeError {
    /// Another runtime has the name or the id.
    #[error("runtime name is taken: {name}")]
    NameTaken {
        /// The name.
        name: RuntimeName,
    },
    /// A new runtime starts at version 1.
    #[error("first version of a runtime must be 1, not {version}")]
    NotFirstVersion {
        /// The version given.
        version: u32,
    },
    /// The store failed.
    #[error("runtime cannot be stored")]
    Store(#[from] StoreError),
}

from_database!(InsertRuntimeError);

/// The JSON of a version. Only ever add fields, with a default.
#[derive(Debug, Serialize, Deserialize)]
struct StoredSpec {
    description: String,
    artifact: Artifact,
    environment: BTreeMap<String, String>,
    lifecycle: LifecycleConfiguration,
    limits: Limits,
    network: NetworkMode,
    driver: Option<String>,
    #[serde(default)]
    hosting: Option<Hosting>,
}

macro_rules! select {
    ($rest:expr) => {
        concat!(
            "SELECT r.runtime_id, r.name, v.version, v.spec, v.created_at_ms, v.status, v.failure_reason, \
             v.updated_at_ms, r.created_at_ms AS runtime_created_at_ms, r.latest_version, r.deletion, \
             r.deletion_reason, r.deletion_at_ms FROM runtimes r \
             JOIN runtime_versions v ON v.runtime_id = r.runtime_id ",
            $rest
        )
    };
}

/// The newest version that there is: the one of the greatest number may have been deleted.
macro_rules! is_newest {
    ($rest:expr) => {
        concat!(
            "WHERE v.version = (SELECT MAX(n.version) FROM runtime_versions n WHERE n.runtime_id = r.runtime_id) ",
            $rest
        )
    };
}

fn stored_spec(runtime: &Runtime) -> StoredSpec {
    StoredSpec {
        description: runtime.description.clone(),
        artifact: runtime.artifact.clone(),
        environment: runtime.environment.clone(),
        lifecycle: runtime.lifecycle,
        limits: runtime.limits,
        network: runtime.network,
        driver: runtime.driver.clone(),
        hosting: runtime.hosting.clone(),
    }
}

impl Store {
    /// Adds a runtime with its version 1 and the endpoint `DEFAULT` that points to it.
    ///
    /// # Errors
    /// [`InsertRuntimeError`].
    pub async fn insert_runtime(&self, runtime: &Runtime) -> Result<(), InsertRuntimeError> {
        if runtime.version != 1 {
            return Err(InsertRuntimeError::NotFirstVersion { version: runtime.version });
        }
        let mut tx = self.write().await?;
        insert(&mut tx, runtime, ResourceStatus::Ready).await?;
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Adds the next version of a runtime, whatever `runtime.version` says, and points `DEFAULT` to it. Returns its number.
    ///
    /// # Errors
    /// [`StoreError`], also when there is no such runtime.
    pub async fn add_runtime_version(&self, runtime: &Runtime, now_ms: u64) -> Result<u32, StoreError> {
        let spec = stored_json(TABLE, "spec", &stored_spec(runtime))?;
        let now_ms = stored_ms(now_ms);
        let mut tx = self.write().await?;
        let row = sqlx::query(
            "UPDATE runtimes SET latest_version = latest_version + 1 WHERE runtime_id = $1 RETURNING latest_version",
        )
        .bind(runtime.runtime_id.as_str())
        .fetch_one(&mut *tx)
        .await?;
        let version: i64 = row.try_get(0)?;
        sqlx::query(
            "INSERT INTO runtime_versions (runtime_id, version, spec, created_at_ms, updated_at_ms) \
             VALUES ($1, $2, $3, $4, $4)",
        )
        .bind(runtime.runtime_id.as_str())
        .bind(version)
        .bind(spec)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "UPDATE endpoints SET version = $2, target_version = $2, status = $5, failure_reason = NULL, \
             updated_at_ms = $3 WHERE runtime_id = $1 AND name = $4",
        )
        .bind(runtime.runtime_id.as_str())
        .bind(version)
        .bind(now_ms)
        .bind(EndpointName::default_endpoint().as_str())
        .bind(status_number(ResourceStatus::Ready))
        .execute(&mut *tx)
        .await?;
        self.commit_change(tx).await?;
        u32::try_from(version).map_err(|_| StoreError::Corrupt { table: TABLE, column: "version" })
    }

    /// A version of a runtime, the latest when `version` is `None`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn runtime(
        &self,
        runtime_id: &RuntimeId,
        version: Option<u32>,
    ) -> Result<Option<Runtime>, StoreError> {
        Ok(self.runtime_version(runtime_id, version).await?.map(|record| record.runtime))
    }

    /// A version of a runtime with its state, the latest when `version` is `None`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn runtime_version(
        &self,
        runtime_id: &RuntimeId,
        version: Option<u32>,
    ) -> Result<Option<VersionRecord>, StoreError> {
        let query = match version {
            None => sqlx::query(select!(is_newest!("AND r.runtime_id = $1"))).bind(runtime_id.as_str()),
            Some(version) => sqlx::query(select!("WHERE r.runtime_id = $1 AND v.version = $2"))
                .bind(runtime_id.as_str())
                .bind(i64::from(version)),
        };
        query.fetch_optional(&self.readers).await?.as_ref().map(record_of).transpose()
    }

    /// The latest version of the runtime of this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn runtime_by_name(&self, name: &RuntimeName) -> Result<Option<Runtime>, StoreError> {
        let row = sqlx::query(select!(is_newest!("AND r.name = $1")))
            .bind(name.as_str())
            .fetch_optional(&self.readers)
            .await?;
        Ok(row.as_ref().map(record_of).transpose()?.map(|record| record.runtime))
    }

    /// The latest version of every runtime, by creation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_runtimes(&self) -> Result<Vec<Runtime>, StoreError> {
        Ok(self.list_runtime_versions().await?.into_iter().map(|record| record.runtime).collect())
    }

    /// The latest version of every runtime with its state, by creation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_runtime_versions(&self) -> Result<Vec<VersionRecord>, StoreError> {
        let rows = sqlx::query(select!(is_newest!("ORDER BY r.created_at_ms, r.runtime_id")))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(record_of).collect()
    }

    /// All versions of all runtimes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_all_versions(&self) -> Result<Vec<VersionRecord>, StoreError> {
        let rows = sqlx::query(select!("ORDER BY r.created_at_ms, r.runtime_id, v.version"))
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(record_of).collect()
    }

    /// All versions of a runtime, oldest first; empty when there is no such runtime.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_versions(&self, runtime_id: &RuntimeId) -> Result<Vec<VersionRecord>, StoreError> {
        let rows = sqlx::query(select!("WHERE r.runtime_id = $1 ORDER BY v.version"))
            .bind(runtime_id.as_str())
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(record_of).collect()
    }
}

/// Adds a runtime with its first version and the endpoint `DEFAULT`, all in this state.
pub(crate) async fn insert(
    tx: &mut Transaction<'static, Any>,
    runtime: &Runtime,
    status: ResourceStatus,
) -> Result<(), InsertRuntimeError> {
    let spec = stored_json(TABLE, "spec", &stored_spec(runtime))?;
    let created_at_ms = stored_ms(runtime.created_at_ms);
    let inserted = sqlx::query(
        "INSERT INTO runtimes (runtime_id, name, latest_version, created_at_ms) VALUES ($1, $2, 1, $3) \
         ON CONFLICT DO NOTHING",
    )
    .bind(runtime.runtime_id.as_str())
    .bind(runtime.name.as_str())
    .bind(created_at_ms)
    .execute(&mut **tx)
    .await?;
    if inserted.rows_affected() == 0 {
        return Err(InsertRuntimeError::NameTaken { name: runtime.name.clone() });
    }
    sqlx::query(
        "INSERT INTO runtime_versions (runtime_id, version, spec, created_at_ms, updated_at_ms, status) \
         VALUES ($1, 1, $2, $3, $3, $4)",
    )
    .bind(runtime.runtime_id.as_str())
    .bind(spec)
    .bind(created_at_ms)
    .bind(status_number(status))
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "INSERT INTO endpoints (runtime_id, name, version, target_version, created_at_ms, updated_at_ms, status) \
         VALUES ($1, $2, 1, 1, $3, $3, $4)",
    )
    .bind(runtime.runtime_id.as_str())
    .bind(EndpointName::default_endpoint().as_str())
    .bind(created_at_ms)
    .bind(status_number(status))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The JSON of a version's column `spec`.
pub(crate) fn spec_json(runtime: &Runtime) -> Result<String, StoreError> {
    stored_json(TABLE, "spec", &stored_spec(runtime))
}

/// Stored number of a status; never reused.
pub(crate) fn status_number(status: ResourceStatus) -> i64 {
    match status {
        ResourceStatus::Creating => 1,
        ResourceStatus::CreateFailed => 2,
        ResourceStatus::Updating => 3,
        ResourceStatus::UpdateFailed => 4,
        ResourceStatus::Ready => 5,
        ResourceStatus::Deleting => 6,
        ResourceStatus::DeleteFailed => 7,
    }
}

/// The status of a stored number.
pub(crate) fn status_of(number: i64) -> Option<ResourceStatus> {
    Some(match number {
        1 => ResourceStatus::Creating,
        2 => ResourceStatus::CreateFailed,
        3 => ResourceStatus::Updating,
        4 => ResourceStatus::UpdateFailed,
        5 => ResourceStatus::Ready,
        6 => ResourceStatus::Deleting,
        7 => ResourceStatus::DeleteFailed,
        _ => return None,
    })
}

fn record_of(row: &AnyRow) -> Result<VersionRecord, StoreError> {
    let columns = Columns::new(TABLE, row);
    let deletion = columns.optional_coded("deletion", status_of)?;
    let changed: u64 = columns.number("updated_at_ms")?;
    let deletion_at_ms: Option<u64> = columns.optional_number("deletion_at_ms")?;
    Ok(VersionRecord {
        runtime: runtime_of(row)?,
        runtime_created_at_ms: columns.number("runtime_created_at_ms")?,
        updated_at_ms: changed.max(deletion_at_ms.unwrap_or(0)),
        status: match deletion {
            Some(status) => status,
            None => columns.coded("status", status_of)?,
        },
        failure_reason: match deletion {
            Some(_) => columns.optional_text("deletion_reason")?,
            None => columns.optional_text("failure_reason")?,
        },
        number_max: columns.number("latest_version")?,
    })
}

fn runtime_of(row: &AnyRow) -> Result<Runtime, StoreError> {
    let columns = Columns::new(TABLE, row);
    let spec: StoredSpec = columns.json("spec")?;
    Ok(Runtime {
        runtime_id: columns.id("runtime_id")?,
        name: columns.id("name")?,
        version: columns.number("version")?,
        description: spec.description,
        artifact: spec.artifact,
        environment: spec.environment,
        lifecycle: spec.lifecycle,
        limits: spec.limits,
        network: spec.network,
        driver: spec.driver,
        hosting: spec.hosting,
        created_at_ms: columns.number("created_at_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_numbers_of_their_own() {
        for number in 1..=7 {
            assert_eq!(status_of(number).map(status_number), Some(number));
        }
        assert_eq!((status_of(0), status_of(8)), (None, None));
    }

    /// What version 0.1 wrote must stay readable.
    #[test]
    fn a_stored_spec_of_the_first_version_is_read() {
        let spec: StoredSpec = serde_json::from_str(
            r#"{"description":"","artifact":{"kind":"host"},"environment":{"A":"b"},
                "lifecycle":{"idleTimeoutS":900,"maxLifetimeS":28800},
                "limits":{"cpuMillis":2000},"network":"SANDBOX","driver":null}"#,
        )
        .unwrap();
        assert_eq!(spec.artifact, Artifact::Host);
        assert_eq!(spec.limits, Limits::default());
    }
}
