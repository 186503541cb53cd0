//! Runtimes and their versions. A version is written once and never changed.

use std::collections::BTreeMap;

use clamshell_domain::{
    Artifact, EndpointName, Hosting, LifecycleConfiguration, Limits, NetworkMode, Runtime, RuntimeId,
    RuntimeName,
};
use serde::{Deserialize, Serialize};
use sqlx::{Row as _, any::AnyRow};
use thiserror::Error;

use crate::{
    Store, StoreError,
    row::{Columns, stored_json, stored_ms},
};

const TABLE: &str = "runtime_versions";

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
    ($rest:literal) => {
        concat!(
            "SELECT r.runtime_id, r.name, v.version, v.spec, v.created_at_ms FROM runtimes r \
             JOIN runtime_versions v ON v.runtime_id = r.runtime_id ",
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
        let spec = stored_json(TABLE, "spec", &stored_spec(runtime))?;
        let created_at_ms = stored_ms(runtime.created_at_ms);
        let mut tx = self.write().await?;
        let inserted = sqlx::query(
            "INSERT INTO runtimes (runtime_id, name, latest_version, created_at_ms) VALUES ($1, $2, 1, $3) \
             ON CONFLICT DO NOTHING",
        )
        .bind(runtime.runtime_id.as_str())
        .bind(runtime.name.as_str())
        .bind(created_at_ms)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::from)?;
        if inserted.rows_affected() == 0 {
            return Err(InsertRuntimeError::NameTaken { name: runtime.name.clone() });
        }
        sqlx::query(
            "INSERT INTO runtime_versions (runtime_id, version, spec, created_at_ms) VALUES ($1, 1, $2, $3)",
        )
        .bind(runtime.runtime_id.as_str())
        .bind(spec)
        .bind(created_at_ms)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::from)?;
        sqlx::query(
            "INSERT INTO endpoints (runtime_id, name, version, created_at_ms, updated_at_ms) \
             VALUES ($1, $2, 1, $3, $3)",
        )
        .bind(runtime.runtime_id.as_str())
        .bind(EndpointName::default_endpoint().as_str())
        .bind(created_at_ms)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::from)?;
        tx.commit().await.map_err(StoreError::from)?;
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
            "INSERT INTO runtime_versions (runtime_id, version, spec, created_at_ms) VALUES ($1, $2, $3, $4)",
        )
        .bind(runtime.runtime_id.as_str())
        .bind(version)
        .bind(spec)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "UPDATE endpoints SET version = $2, updated_at_ms = $3 WHERE runtime_id = $1 AND name = $4",
        )
        .bind(runtime.runtime_id.as_str())
        .bind(version)
        .bind(now_ms)
        .bind(EndpointName::default_endpoint().as_str())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
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
        let query = match version {
            None => sqlx::query(select!("WHERE r.runtime_id = $1 AND v.version = r.latest_version"))
                .bind(runtime_id.as_str()),
            Some(version) => sqlx::query(select!("WHERE r.runtime_id = $1 AND v.version = $2"))
                .bind(runtime_id.as_str())
                .bind(i64::from(version)),
        };
        query.fetch_optional(&self.readers).await?.as_ref().map(runtime_of).transpose()
    }

    /// The latest version of the runtime of this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn runtime_by_name(&self, name: &RuntimeName) -> Result<Option<Runtime>, StoreError> {
        sqlx::query(select!("WHERE r.name = $1 AND v.version = r.latest_version"))
            .bind(name.as_str())
            .fetch_optional(&self.readers)
            .await?
            .as_ref()
            .map(runtime_of)
            .transpose()
    }

    /// The latest version of every runtime, by creation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_runtimes(&self) -> Result<Vec<Runtime>, StoreError> {
        let rows =
            sqlx::query(select!("WHERE v.version = r.latest_version ORDER BY r.created_at_ms, r.runtime_id"))
                .fetch_all(&self.readers)
                .await?;
        rows.iter().map(runtime_of).collect()
    }
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
