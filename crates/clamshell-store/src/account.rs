//! The account: one row, made at the first start.

use clamshell_domain::{AccountId, Clock, Entropy, Region};

use crate::{
    Store, StoreError,
    row::{Columns, stored_ms},
};

/// The account that owns everything in this store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its number.
    pub account_id: AccountId,
    /// The region that it was made in; part of every ARN.
    pub region: Region,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
}

impl Store {
    /// The account, made now when there is none. An account that exists keeps its region, whatever
    /// `region` says: ARNs that were given out would change otherwise.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ensure_account(
        &self,
        clock: &dyn Clock,
        entropy: &dyn Entropy,
        region: Region,
    ) -> Result<Account, StoreError> {
        let account_id = AccountId::generate(entropy);
        let now_ms = clock.now_ms();
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO account (only_row, account_id, region, created_at_ms) VALUES (1, $1, $2, $3) \
             ON CONFLICT (only_row) DO NOTHING",
        )
        .bind(account_id.as_str())
        .bind(region.as_str())
        .bind(stored_ms(now_ms))
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query("SELECT account_id, region, created_at_ms FROM account WHERE only_row = 1")
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        let columns = Columns::new("account", &row);
        Ok(Account {
            account_id: columns.id("account_id")?,
            region: columns.id("region")?,
            created_at_ms: columns.number("created_at_ms")?,
        })
    }
}
