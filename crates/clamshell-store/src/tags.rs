//! Tags of runtimes and endpoints, by ARN.

use std::collections::BTreeMap;

use sqlx::{Any, Transaction};

use crate::{Store, StoreError, row::Columns};

impl Store {
    /// Tags of a resource; empty when it has none, or there is no such resource.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tags(&self, arn: &str) -> Result<BTreeMap<String, String>, StoreError> {
        let rows = sqlx::query("SELECT tag_key, tag_value FROM tags WHERE resource_arn = $1")
            .bind(arn)
            .fetch_all(&self.readers)
            .await?;
        let pair = |row| {
            let columns = Columns::new("tags", row);
            Ok((columns.text("tag_key")?, columns.text("tag_value")?))
        };
        rows.iter().map(pair).collect()
    }

    /// Adds tags to a resource; those of the same key are replaced.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_tags(&self, arn: &str, tags: &BTreeMap<String, String>) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        put(&mut tx, arn, tags).await?;
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Takes tags away; keys that are not there do not matter.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_tags(&self, arn: &str, keys: &[String]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for key in keys {
            sqlx::query("DELETE FROM tags WHERE resource_arn = $1 AND tag_key = $2")
                .bind(arn)
                .bind(key.as_str())
                .execute(&mut *tx)
                .await?;
        }
        self.commit_change(tx).await?;
        Ok(())
    }
}

pub(crate) async fn put(
    tx: &mut Transaction<'static, Any>,
    arn: &str,
    tags: &BTreeMap<String, String>,
) -> Result<(), StoreError> {
    for (key, value) in tags {
        sqlx::query(
            "INSERT INTO tags (resource_arn, tag_key, tag_value) VALUES ($1, $2, $3) \
             ON CONFLICT (resource_arn, tag_key) DO UPDATE SET tag_value = excluded.tag_value",
        )
        .bind(arn)
        .bind(key.as_str())
        .bind(value.as_str())
        .execute(&mut **tx)
        .await?;
    }
    Ok(())
}

/// Removes tags and policies of a resource and of what lies below it.
pub(crate) async fn forget_resource(tx: &mut Transaction<'static, Any>, arn: &str) -> Result<(), StoreError> {
    let below = format!("{arn}/");
    for statement in [
        "DELETE FROM tags WHERE resource_arn = $1 OR substr(resource_arn, 1, length($2)) = $2",
        "DELETE FROM resource_policies WHERE resource_arn = $1 OR substr(resource_arn, 1, length($2)) = $2",
    ] {
        sqlx::query(statement).bind(arn).bind(below.as_str()).execute(&mut **tx).await?;
    }
    Ok(())
}
