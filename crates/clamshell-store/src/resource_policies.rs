//! Policies that are attached to runtimes and endpoints, by ARN. The text is kept as it came.

use crate::{
    Store, StoreError,
    row::{Columns, stored_ms},
};

impl Store {
    /// The policy of a resource, if it has one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn resource_policy(&self, arn: &str) -> Result<Option<String>, StoreError> {
        sqlx::query("SELECT policy FROM resource_policies WHERE resource_arn = $1")
            .bind(arn)
            .fetch_optional(&self.readers)
            .await?
            .as_ref()
            .map(|row| Columns::new("resource_policies", row).text("policy"))
            .transpose()
    }

    /// Attaches a policy in place of the one that there may be.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_resource_policy(&self, arn: &str, policy: &str, now_ms: u64) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO resource_policies (resource_arn, policy, updated_at_ms) VALUES ($1, $2, $3) \
             ON CONFLICT (resource_arn) DO UPDATE SET policy = excluded.policy, updated_at_ms = excluded.updated_at_ms",
        )
        .bind(arn)
        .bind(policy)
        .bind(stored_ms(now_ms))
        .execute(&mut *tx)
        .await?;
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Removes the policy of a resource; says whether there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_resource_policy(&self, arn: &str) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let removed = sqlx::query("DELETE FROM resource_policies WHERE resource_arn = $1")
            .bind(arn)
            .execute(&mut *tx)
            .await?;
        self.commit_change(tx).await?;
        Ok(removed.rows_affected() > 0)
    }
}
