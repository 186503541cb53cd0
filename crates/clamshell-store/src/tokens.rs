//! Answers given to calls with a client token, so that the same call again changes nothing.
//!
//! The answer is written with the change itself: a call that is sent again after a crash finds either both or none.

use sqlx::{Any, Transaction};

use crate::{
    Store, StoreError,
    row::{Columns, stored_ms},
};

/// What is remembered of a call with a client token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Name of the operation; tokens of different operations have nothing to do with each other.
    pub operation: &'static str,
    /// The token.
    pub token: String,
    /// Digest of the other parameters.
    pub digest: Vec<u8>,
    /// Body of the answer.
    pub answer: String,
    /// Milliseconds since 1970.
    pub now_ms: u64,
}

/// The answer to an earlier call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// Digest of its parameters.
    pub digest: Vec<u8>,
    /// Body of its answer.
    pub answer: String,
}

impl Store {
    /// The answer to an earlier call of this operation with this token, not older than `since_ms`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn stored_answer(
        &self,
        operation: &str,
        token: &str,
        since_ms: u64,
    ) -> Result<Option<StoredAnswer>, StoreError> {
        let row = sqlx::query(
            "SELECT digest, answer FROM idempotency_tokens \
             WHERE operation = $1 AND token = $2 AND created_at_ms >= $3",
        )
        .bind(operation)
        .bind(token)
        .bind(stored_ms(since_ms))
        .fetch_optional(&self.readers)
        .await?;
        let answer = |row| {
            let columns = Columns::new("idempotency_tokens", row);
            Ok(StoredAnswer { digest: columns.bytes("digest")?, answer: columns.text("answer")? })
        };
        row.as_ref().map(answer).transpose()
    }

    /// Forgets answers older than `before_ms`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_answers(&self, before_ms: u64) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let removed = sqlx::query("DELETE FROM idempotency_tokens WHERE created_at_ms < $1")
            .bind(stored_ms(before_ms))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(removed.rows_affected())
    }
}

/// Writes a receipt, over an expired one of the same token.
pub(crate) async fn keep(
    tx: &mut Transaction<'static, Any>,
    receipt: Option<&Receipt>,
) -> Result<(), StoreError> {
    let Some(receipt) = receipt else { return Ok(()) };
    sqlx::query(
        "INSERT INTO idempotency_tokens (operation, token, digest, answer, created_at_ms) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (operation, token) DO UPDATE SET digest = excluded.digest, \
         answer = excluded.answer, created_at_ms = excluded.created_at_ms",
    )
    .bind(receipt.operation)
    .bind(receipt.token.as_str())
    .bind(receipt.digest.clone())
    .bind(receipt.answer.as_str())
    .bind(stored_ms(receipt.now_ms))
    .execute(&mut **tx)
    .await?;
    Ok(())
}
