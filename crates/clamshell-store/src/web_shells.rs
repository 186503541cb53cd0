//! Shells that `clamshell web` has opened at its endpoint, with their owners. What the endpoint does with them it alone
//! knows; a row without an end is one that may still run.

use std::collections::HashSet;

use clamshell_domain::{SessionId, ShellId};
use sqlx::any::AnyRow;
use thiserror::Error;

use crate::{
    Store, StoreError,
    row::{Columns, stored_ms},
};

const TABLE: &str = "web_shells";

/// Ended shells are forgotten after this long.
const ENDED_KEPT_MS: u64 = 7 * 24 * 3_600_000;

/// Ended shells of a user that are kept; those that ended longest ago are forgotten. All are listed at once, and their names
/// are looked through for each new one.
const ENDED_MAX: i64 = 256;

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
    /// Notes that a user opens a shell, new or not; an ended one begins again. A new one is called by `family` and the first
    /// number that no other shell of the session has; at most `shells_max` of a user run at once.
    ///
    /// # Errors
    /// [`OpenWebShellError`].
    pub async fn open_web_shell(
        &self,
        session_id: &SessionId,
        shell_id: &ShellId,
        owner: &str,
        (family, shells_max): (&str, u32),
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
        sqlx::query(
            "DELETE FROM web_shells WHERE owner = $1 AND ended_at_ms < (SELECT ended_at_ms FROM web_shells \
             WHERE owner = $1 AND ended_at_ms IS NOT NULL ORDER BY ended_at_ms DESC LIMIT 1 OFFSET $2)",
        )
        .bind(owner)
        .bind(ENDED_MAX - 1)
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
        if Columns::new(TABLE, &running).number::<i64>("rows")? >= i64::from(shells_max) {
            return Err(OpenWebShellError::TooMany);
        }
        let named = sqlx::query("SELECT title FROM web_shells WHERE session_id = $1")
            .bind(session_id.as_str())
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::from)?;
        let taken = named
            .iter()
            .map(|row| Columns::new(TABLE, row).text("title"))
            .collect::<Result<Vec<_>, StoreError>>()?;
        sqlx::query(
            "INSERT INTO web_shells (session_id, shell_id, owner, title, created_at_ms, attached_at_ms) \
             VALUES ($1, $2, $3, $5, $4, $4) ON CONFLICT (session_id, shell_id) \
             DO UPDATE SET attached_at_ms = $4, ended_at_ms = NULL, exit_code = NULL",
        )
        .bind(session_id.as_str())
        .bind(shell_id.as_str())
        .bind(owner)
        .bind(stored_ms(now_ms))
        .bind(default_title(family, &taken))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::from)?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(())
    }

    /// All shells without an end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn running_web_shells(&self) -> Result<Vec<(SessionId, ShellId)>, StoreError> {
        let rows = sqlx::query("SELECT session_id, shell_id FROM web_shells WHERE ended_at_ms IS NULL")
            .fetch_all(&self.readers)
            .await?;
        let key = |row: &AnyRow| {
            let columns = Columns::new(TABLE, row);
            Ok((columns.id("session_id")?, columns.id("shell_id")?))
        };
        rows.iter().map(key).collect()
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

/// What a new shell is called until somebody gives it a name: by its runtime and the first number that is free.
pub fn default_title<T: AsRef<str>>(family: &str, taken: &[T]) -> String {
    let taken: HashSet<&str> = taken.iter().map(AsRef::as_ref).collect();
    // One of so many numbers is free.
    let mut titles = (1..=taken.len() + 1).map(|number| format!("{family} {number}"));
    titles.find(|title| !taken.contains(title.as_str())).unwrap_or_default()
}

/// Whether a shell is still called as [`default_title`] did.
pub fn is_default_title(family: &str, title: &str) -> bool {
    let number = title.strip_prefix(family).and_then(|rest| rest.strip_prefix(' '));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_shells_are_called_by_their_runtime_and_a_number() {
        let check = |taken: &[&str], expect: &str| assert_eq!(default_title("agent", taken), expect);
        check(&[], "agent 1");
        check(&["agent 1", "build"], "agent 2");
        check(&["agent 2", "agent 3", ""], "agent 1");
        assert!(is_default_title("agent", "agent 12"));
        for other in ["agent", "agent ", "agent 1b", "agents 1", "my agent 1"] {
            assert!(!is_default_title("agent", other), "{other}");
        }
    }
}
