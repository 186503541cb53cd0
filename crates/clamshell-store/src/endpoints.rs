//! Endpoints: named pointers to a version of a runtime.
//!
//! `version` is what new computes get. An endpoint in CREATING or CREATE_FAILED has none that could be used, and then
//! `version` is the one it is to get.

use std::collections::BTreeMap;

use clamshell_domain::{Endpoint, EndpointName, ResourceStatus, RuntimeId};
use sqlx::any::AnyRow;

use crate::{
    Receipt, Store, StoreError,
    row::{Columns, stored_ms},
    runtimes::{status_number, status_of},
};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT runtime_id, name, version, created_at_ms, updated_at_ms, endpoint_id, description, \
             target_version, status, failure_reason FROM endpoints ",
            $rest
        )
    };
}

impl Store {
    /// One endpoint of a runtime.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn endpoint(
        &self,
        runtime_id: &RuntimeId,
        name: &EndpointName,
    ) -> Result<Option<Endpoint>, StoreError> {
        sqlx::query(select!("WHERE runtime_id = $1 AND name = $2"))
            .bind(runtime_id.as_str())
            .bind(name.as_str())
            .fetch_optional(&self.readers)
            .await?
            .as_ref()
            .map(endpoint_of)
            .transpose()
    }

    /// All endpoints of a runtime, by creation; empty when there is no such runtime.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_endpoints(&self, runtime_id: &RuntimeId) -> Result<Vec<Endpoint>, StoreError> {
        let rows = sqlx::query(select!("WHERE runtime_id = $1 ORDER BY created_at_ms, name"))
            .bind(runtime_id.as_str())
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(endpoint_of).collect()
    }

    /// Adds an endpoint with its tags, which belong to `arn`. The caller has made sure that there is none of this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_endpoint(
        &self,
        endpoint: &Endpoint,
        arn: &str,
        tags: &BTreeMap<String, String>,
        receipt: Option<&Receipt>,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO endpoints (runtime_id, name, version, target_version, created_at_ms, updated_at_ms, status, \
             endpoint_id, description) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(endpoint.runtime_id.as_str())
        .bind(endpoint.name.as_str())
        .bind(i64::from(endpoint.version))
        .bind(i64::from(endpoint.target_version))
        .bind(stored_ms(endpoint.created_at_ms))
        .bind(stored_ms(endpoint.updated_at_ms))
        .bind(status_number(endpoint.status))
        .bind(endpoint.endpoint_id.as_str())
        .bind(endpoint.description.clone())
        .execute(&mut *tx)
        .await?;
        crate::tags::put(&mut tx, arn, tags).await?;
        crate::tokens::keep(&mut tx, receipt).await?;
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Writes versions, status, reason, description and time of change of an endpoint.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn update_endpoint(
        &self,
        endpoint: &Endpoint,
        receipt: Option<&Receipt>,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "UPDATE endpoints SET version = $3, target_version = $4, updated_at_ms = $5, status = $6, description = $7, \
             failure_reason = $8 WHERE runtime_id = $1 AND name = $2",
        )
        .bind(endpoint.runtime_id.as_str())
        .bind(endpoint.name.as_str())
        .bind(i64::from(endpoint.version))
        .bind(i64::from(endpoint.target_version))
        .bind(stored_ms(endpoint.updated_at_ms))
        .bind(status_number(endpoint.status))
        .bind(endpoint.description.clone())
        .bind(endpoint.failure_reason.clone())
        .execute(&mut *tx)
        .await?;
        crate::tokens::keep(&mut tx, receipt).await?;
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Removes an endpoint with what belongs to its `arn`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_endpoint(
        &self,
        runtime_id: &RuntimeId,
        name: &EndpointName,
        arn: &str,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM endpoints WHERE runtime_id = $1 AND name = $2")
            .bind(runtime_id.as_str())
            .bind(name.as_str())
            .execute(&mut *tx)
            .await?;
        crate::tags::forget_resource(&mut tx, arn).await?;
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Endpoints beside `DEFAULT` in CREATING, UPDATING or DELETING.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unfinished_endpoints(&self) -> Result<Vec<Endpoint>, StoreError> {
        let rows =
            sqlx::query(select!("WHERE status IN ($1, $2, $3) AND name <> $4 ORDER BY created_at_ms, name"))
                .bind(status_number(ResourceStatus::Creating))
                .bind(status_number(ResourceStatus::Updating))
                .bind(status_number(ResourceStatus::Deleting))
                .bind(EndpointName::default_endpoint().as_str())
                .fetch_all(&self.readers)
                .await?;
        rows.iter().map(endpoint_of).collect()
    }
}

fn endpoint_of(row: &AnyRow) -> Result<Endpoint, StoreError> {
    let columns = Columns::new("endpoints", row);
    let runtime_id: RuntimeId = columns.id("runtime_id")?;
    let name: EndpointName = columns.id("name")?;
    // Those that come with a runtime have the end of its id.
    let derived = || format!("{name}-{}", runtime_id.as_str().rsplit('-').next().unwrap_or_default());
    Ok(Endpoint {
        endpoint_id: columns.optional_text("endpoint_id")?.unwrap_or_else(derived),
        runtime_id,
        name,
        description: columns.optional_text("description")?,
        status: columns.coded("status", status_of)?,
        failure_reason: columns.optional_text("failure_reason")?,
        version: columns.number("version")?,
        target_version: columns.number("target_version")?,
        created_at_ms: columns.number("created_at_ms")?,
        updated_at_ms: columns.number("updated_at_ms")?,
    })
}
