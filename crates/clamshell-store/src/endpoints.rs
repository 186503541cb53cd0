//! Endpoints: named pointers to a version of a runtime.

use clamshell_domain::{Endpoint, EndpointName, RuntimeId};
use sqlx::any::AnyRow;

use crate::{Store, StoreError, row::Columns};

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
        sqlx::query(
            "SELECT runtime_id, name, version, created_at_ms, updated_at_ms FROM endpoints \
             WHERE runtime_id = $1 AND name = $2",
        )
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
        let rows = sqlx::query(
            "SELECT runtime_id, name, version, created_at_ms, updated_at_ms FROM endpoints \
             WHERE runtime_id = $1 ORDER BY created_at_ms, name",
        )
        .bind(runtime_id.as_str())
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(endpoint_of).collect()
    }
}

fn endpoint_of(row: &AnyRow) -> Result<Endpoint, StoreError> {
    let columns = Columns::new("endpoints", row);
    Ok(Endpoint {
        runtime_id: columns.id("runtime_id")?,
        name: columns.id("name")?,
        version: columns.number("version")?,
        created_at_ms: columns.number("created_at_ms")?,
        updated_at_ms: columns.number("updated_at_ms")?,
    })
}
