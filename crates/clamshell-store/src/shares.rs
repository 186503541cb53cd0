//! Titles of shells, and share links. Both go with their session.

use clamshell_domain::{SessionKey, ShellId};
use sqlx::any::AnyRow;
use thiserror::Error;

use crate::{
    Store, StoreError,
    error::from_database,
    row::{Columns, stored_ms},
};

const TITLES: &str = "shell_titles";
const SHARES: &str = "shell_shares";

/// Share links of one shell at once: more than people it is shown to.
pub const SHARES_MAX: usize = 100;

/// What a share link lets its holder do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareAccess {
    /// Look on.
    Watch,
    /// Type as well.
    Write,
}

/// A share link, without its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareRecord {
    /// Its id, which is no secret.
    pub share_id: String,
    /// The shell's session.
    pub key: SessionKey,
    /// The shell.
    pub shell_id: ShellId,
    /// What it allows at most.
    pub access: ShareAccess,
    /// Name of the user who made it; what that user may not do, the link does not allow.
    pub made_by: String,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
    /// Milliseconds since 1970.
    pub expires_at_ms: u64,
}

/// A share link was not made.
#[derive(Debug, Error)]
pub enum InsertShareError {
    /// The shell has as many as it may have.
    #[error("shell has too many share links")]
    TooMany,
    /// The store failed, or the session does not exist.
    #[error("share link cannot be stored")]
    Store(#[from] StoreError),
}

from_database!(InsertShareError);

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT share_id, runtime_id, endpoint, session_id, shell_id, access, made_by, created_at_ms, \
             expires_at_ms FROM shell_shares ",
            $rest
        )
    };
}

impl Store {
    /// Names a shell; `None` takes the name away.
    ///
    /// # Errors
    /// [`StoreError`], also when there is no such session.
    pub async fn put_shell_title(
        &self,
        key: &SessionKey,
        shell_id: &ShellId,
        title: Option<&str>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        let query = match title {
            Some(title) => sqlx::query(
                "INSERT INTO shell_titles (runtime_id, endpoint, session_id, shell_id, title, updated_at_ms) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (runtime_id, endpoint, session_id, shell_id) \
                 DO UPDATE SET title = excluded.title, updated_at_ms = excluded.updated_at_ms",
            )
            .bind(key.runtime_id.as_str())
            .bind(key.endpoint.as_str())
            .bind(key.session_id.as_str())
            .bind(shell_id.as_str())
            .bind(title)
            .bind(stored_ms(now_ms)),
            None => sqlx::query(
                "DELETE FROM shell_titles \
                 WHERE runtime_id = $1 AND endpoint = $2 AND session_id = $3 AND shell_id = $4",
            )
            .bind(key.runtime_id.as_str())
            .bind(key.endpoint.as_str())
            .bind(key.session_id.as_str())
            .bind(shell_id.as_str()),
        };
        query.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// All titles there are.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_shell_titles(&self) -> Result<Vec<(SessionKey, ShellId, String)>, StoreError> {
        let rows = sqlx::query("SELECT runtime_id, endpoint, session_id, shell_id, title FROM shell_titles")
            .fetch_all(&self.readers)
            .await?;
        let title = |row: &AnyRow| {
            let columns = Columns::new(TITLES, row);
            Ok((key_of(&columns)?, columns.id("shell_id")?, columns.text("title")?))
        };
        rows.iter().map(title).collect()
    }

    /// Adds a share link. `token_hash` is SHA-256 of its token.
    ///
    /// # Errors
    /// [`InsertShareError`].
    pub async fn insert_share(
        &self,
        share: &ShareRecord,
        token_hash: &[u8; 32],
    ) -> Result<(), InsertShareError> {
        let mut tx = self.write().await?;
        let row = sqlx::query(
            "SELECT COUNT(*) AS shares FROM shell_shares \
             WHERE runtime_id = $1 AND endpoint = $2 AND session_id = $3 AND shell_id = $4 AND expires_at_ms > $5",
        )
        .bind(share.key.runtime_id.as_str())
        .bind(share.key.endpoint.as_str())
        .bind(share.key.session_id.as_str())
        .bind(share.shell_id.as_str())
        .bind(stored_ms(share.created_at_ms))
        .fetch_one(&mut *tx)
        .await?;
        if Columns::new(SHARES, &row).number::<usize>("shares")? >= SHARES_MAX {
            return Err(InsertShareError::TooMany);
        }
        sqlx::query(
            "INSERT INTO shell_shares (share_id, token_hash, runtime_id, endpoint, session_id, shell_id, access, \
             made_by, created_at_ms, expires_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(share.share_id.as_str())
        .bind(token_hash.to_vec())
        .bind(share.key.runtime_id.as_str())
        .bind(share.key.endpoint.as_str())
        .bind(share.key.session_id.as_str())
        .bind(share.shell_id.as_str())
        .bind(access_number(share.access))
        .bind(share.made_by.as_str())
        .bind(stored_ms(share.created_at_ms))
        .bind(stored_ms(share.expires_at_ms))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// The share link with this token, by its SHA-256; expired ones too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn share_by_token(&self, token_hash: &[u8; 32]) -> Result<Option<ShareRecord>, StoreError> {
        let row = sqlx::query(select!("WHERE token_hash = $1"))
            .bind(token_hash.to_vec())
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(share_of).transpose()
    }

    /// The share link of this id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn share(&self, share_id: &str) -> Result<Option<ShareRecord>, StoreError> {
        let row =
            sqlx::query(select!("WHERE share_id = $1")).bind(share_id).fetch_optional(&self.readers).await?;
        row.as_ref().map(share_of).transpose()
    }

    /// Share links of a shell, newest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_shares(
        &self,
        key: &SessionKey,
        shell_id: &ShellId,
        now_ms: u64,
    ) -> Result<Vec<ShareRecord>, StoreError> {
        let rows = sqlx::query(select!(
            "WHERE runtime_id = $1 AND endpoint = $2 AND session_id = $3 AND shell_id = $4 \
             AND expires_at_ms > $5 ORDER BY created_at_ms DESC, share_id"
        ))
        .bind(key.runtime_id.as_str())
        .bind(key.endpoint.as_str())
        .bind(key.session_id.as_str())
        .bind(shell_id.as_str())
        .bind(stored_ms(now_ms))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(share_of).collect()
    }

    /// Removes a share link. Gives whether there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_share(&self, share_id: &str) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let removed = sqlx::query("DELETE FROM shell_shares WHERE share_id = $1")
            .bind(share_id)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(removed.rows_affected() > 0)
    }

    /// Removes share links that have expired.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_expired_shares(&self, now_ms: u64) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let removed = sqlx::query("DELETE FROM shell_shares WHERE expires_at_ms <= $1")
            .bind(stored_ms(now_ms))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(removed.rows_affected())
    }
}

fn key_of(columns: &Columns<'_>) -> Result<SessionKey, StoreError> {
    Ok(SessionKey {
        runtime_id: columns.id("runtime_id")?,
        endpoint: columns.id("endpoint")?,
        session_id: columns.id("session_id")?,
    })
}

fn share_of(row: &AnyRow) -> Result<ShareRecord, StoreError> {
    let columns = Columns::new(SHARES, row);
    Ok(ShareRecord {
        share_id: columns.text("share_id")?,
        key: key_of(&columns)?,
        shell_id: columns.id("shell_id")?,
        access: columns.coded("access", access)?,
        made_by: columns.text("made_by")?,
        created_at_ms: columns.number("created_at_ms")?,
        expires_at_ms: columns.number("expires_at_ms")?,
    })
}

fn access_number(access: ShareAccess) -> i64 {
    match access {
        ShareAccess::Watch => 1,
        ShareAccess::Write => 2,
    }
}

fn access(number: i64) -> Option<ShareAccess> {
    [ShareAccess::Watch, ShareAccess::Write].into_iter().find(|access| access_number(*access) == number)
}
