//! Shells that `clamshell web` has opened at its endpoint, with their owners. What the endpoint does with them it alone
//! knows; a row without an end is one that may still run.

use clamshell_domain::{SessionId, ShellId};
use sqlx::any::AnyRow;
use thiserror::Error;

use crate::{
    Store, StoreError,
    row::{Columns, stored_ms},
};

const TABLE: &str = "web_shells";

/// Shells of one owner that may run at once: far above what a person looks at.
pub const WEB_SHELLS_MAX: i64 = 64;

/// Ended shells are forgotten after this long.
const ENDED_KEPT_MS: u64 = 7 * 24 * 3_600_000;

/// A shell and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebShellRecord {
    /// Session it runs in.
    pub session_id: SessionId,
    /// Its id.
    pub shell_id: ShellId,
    /// ARN of the user.
    pub owner: String,
    /// Name given by its owner; may be empty.
    pub title: String,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
    /// When a page was last there, in milliseconds since 1970.
    pub attached_at_ms: u64,
    /// When it ended, in milliseconds since 1970, if that is known.
    pub ended_at_ms: Option<u64>,
    /// Exit code of its program.
    pub exit_code: Option<i64>,
}

/// A shell was not opened.
#[derive(Debug, Error)]
pub enum OpenWebShellError {
    /// The session or shell is another user's.
    #[error("session or shell is another user's")]
    NotYours,
    /// One more would be too many.
    #[error("user has too many shells")]
    TooMany,
    /// The store failed.
    #[error("shell cannot be stored")]
    Store(#[from] StoreError),
}

impl Store {
    /// Notes that a user opens a shell, new or not; an ended one begins again.
    ///
    /// # Errors
    /// [`OpenWebShellError`].
    pub async fn open_web_shell(
        &self,
        session_id: &SessionId,
        shell_id: &ShellId,
        owner: &str,
        now_ms: u64,
    ) -> Result<(), OpenWebShellError> {
        let mut tx = self.write().await?;
        let others =
            sqlx::query("SELECT COUNT(*) AS rows FROM web_shells WHERE session_id = $1 AND owner <> $2")
                .bind(session_id.as_str())
                .bind(owner)
                .fetch_one(&mut *tx)
                .await
                .map_err(StoreError::from)?;
        if Columns::new(TABLE, &others).number::<i64>("rows")? > 0 {
            return Err(OpenWebShellError::NotYours);
        }
        sqlx::query("DELETE FROM web_shells WHERE owner = $1 AND ended_at_ms < $2")
            .bind(owner)
            .bind(stored_ms(now_ms.saturating_sub(ENDED_KEPT_MS)))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::from)?;
        let running = sqlx::query(
            "SELECT COUNT(*) AS rows FROM web_shells WHERE owner = $1 AND ended_at_ms IS NULL \
             AND NOT (session_id = $2 AND shell_id = $3)",
        )
        .bind(owner)
        .bind(session_id.as_str())
        .bind(shell_id.as_str())
        .fetch_one(&mut *tx)
        .await
        .map_err(StoreError::from)?;
        if Columns::new(TABLE, &running).number::<i64>("rows")? >= WEB_SHELLS_MAX {
            return Err(OpenWebShellError::TooMany);
        }
        sqlx::query(
            "INSERT INTO web_shells (session_id, shell_id, owner, title, created_at_ms, attached_at_ms) \
             VALUES ($1, $2, $3, '', $4, $4) ON CONFLICT (session_id, shell_id) \
             DO UPDATE SET attached_at_ms = $4, ended_at_ms = NULL, exit_code = NULL",
        )
        .bind(session_id.as_str())
        .bind(shell_id.as_str())
        .bind(owner)
        .bind(stored_ms(now_ms))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::from)?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(())
    }

    /// One shell.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn web_shell(
        &self,
        session_id: &SessionId,
        shell_id: &ShellId,
    ) -> Result<Option<WebShellRecord>, StoreError> {
        let row = sqlx::query("SELECT * FROM web_shells WHERE session_id = $1 AND shell_id = $2")
            .bind(session_id.as_str())
            .bind(shell_id.as_str())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(record).transpose()
    }

    /// All shells of a user, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn web_shells(&self, owner: &str) -> Result<Vec<WebShellRecord>, StoreError> {
        let rows = sqlx::query("SELECT * FROM web_shells WHERE owner = $1 ORDER BY created_at_ms, shell_id")
            .bind(owner)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(record).collect()
    }

    /// Notes that a shell has ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_web_shell(
        &self,
        session_id: &SessionId,
        shell_id: &ShellId,
        exit_code: Option<i64>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query(
            "UPDATE web_shells SET ended_at_ms = $3, exit_code = $4 \
             WHERE session_id = $1 AND shell_id = $2 AND ended_at_ms IS NULL",
        )
        .bind(session_id.as_str())
        .bind(shell_id.as_str())
        .bind(stored_ms(now_ms))
        .bind(exit_code)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Names a shell; `false` when there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn name_web_shell(
        &self,
        session_id: &SessionId,
        shell_id: &ShellId,
        title: &str,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let named = sqlx::query("UPDATE web_shells SET title = $3 WHERE session_id = $1 AND shell_id = $2")
            .bind(session_id.as_str())
            .bind(shell_id.as_str())
            .bind(title)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(named.rows_affected() > 0)
    }
}

fn record(row: &AnyRow) -> Result<WebShellRecord, StoreError> {
    let columns = Columns::new(TABLE, row);
    Ok(WebShellRecord {
        session_id: columns.id("session_id")?,
        shell_id: columns.id("shell_id")?,
        owner: columns.text("owner")?,
        title: columns.text("title")?,
        created_at_ms: columns.number("created_at_ms")?,
        attached_at_ms: columns.number("attached_at_ms")?,
        ended_at_ms: columns.optional_number("ended_at_ms")?,
        exit_code: columns.optional_number("exit_code")?,
    })
}
