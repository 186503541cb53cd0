//! Passwords of people, and who they are at an identity provider.

use sqlx::{Any, Transaction};

use crate::{
    Store, StoreError,
    row::{Columns, stored_ms},
};

impl Store {
    /// Hash of the password of a user.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn console_password(&self, user_name: &str) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT hash FROM console_passwords WHERE user_name = $1")
            .bind(user_name)
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(|row| Columns::new("console_passwords", row).text("hash")).transpose()
    }

    /// Whether anybody has a password.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_console_passwords(&self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM console_passwords LIMIT 1");
        Ok(row.fetch_optional(&self.readers).await?.is_some())
    }

    /// Sets the password of a user and ends all of its logins and links but the login `kept`; `false` when
    /// there is no such user.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put_console_password(
        &self,
        user_name: &str,
        hash: &str,
        kept: Option<&str>,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        if !has_user(&mut tx, user_name).await? {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO console_passwords (user_name, hash, updated_at_ms) VALUES ($1, $2, $3) \
             ON CONFLICT (user_name) DO UPDATE SET hash = excluded.hash, updated_at_ms = excluded.updated_at_ms",
        )
        .bind(user_name)
        .bind(hash)
        .bind(stored_ms(now_ms))
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM console_logins WHERE user_name = $1 AND login_id <> $2")
            .bind(user_name)
            .bind(kept.unwrap_or_default())
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM console_links WHERE user_name = $1")
            .bind(user_name)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The user that somebody of a provider is here.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn console_identity(&self, issuer: &str, subject: &str) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT user_name FROM console_identities WHERE issuer = $1 AND subject = $2")
            .bind(issuer)
            .bind(subject)
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(|row| Columns::new("console_identities", row).text("user_name")).transpose()
    }

    /// Makes the user that somebody of a provider is here from now on; `false` when the name is somebody else's, or the person
    /// is another user by now.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_console_identity(
        &self,
        issuer: &str,
        subject: &str,
        user_name: &str,
        description: &str,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let user = sqlx::query(
            "INSERT INTO principals (kind, name, description, created_at_ms) VALUES (1, $1, $2, $3) \
             ON CONFLICT (kind, name) DO NOTHING",
        )
        .bind(user_name)
        .bind(description)
        .bind(stored_ms(now_ms))
        .execute(&mut *tx)
        .await?;
        let identity = sqlx::query(
            "INSERT INTO console_identities (issuer, subject, user_name, created_at_ms) VALUES ($1, $2, $3, $4) \
             ON CONFLICT DO NOTHING",
        )
        .bind(issuer)
        .bind(subject)
        .bind(user_name)
        .bind(stored_ms(now_ms))
        .execute(&mut *tx)
        .await?;
        if user.rows_affected() == 0 || identity.rows_affected() == 0 {
            return Ok(false);
        }
        self.commit_change(tx).await?;
        Ok(true)
    }
}

/// Whether there is this user; `root` always is.
pub(crate) async fn has_user(tx: &mut Transaction<'static, Any>, name: &str) -> Result<bool, StoreError> {
    if name == "root" {
        return Ok(true);
    }
    let row = sqlx::query("SELECT 1 FROM principals WHERE kind = 1 AND name = $1").bind(name);
    Ok(row.fetch_optional(&mut **tx).await?.is_some())
}

/// Removes all that a user has at the console, with the user: a later one of the same name is somebody else, who gives no
/// rights to links that the first one made, and gets no shells of theirs.
pub(crate) async fn forget(tx: &mut Transaction<'static, Any>, user_name: &str) -> Result<(), StoreError> {
    for statement in [
        "DELETE FROM console_passwords WHERE user_name = $1",
        "DELETE FROM console_logins WHERE user_name = $1",
        "DELETE FROM console_links WHERE user_name = $1",
        "DELETE FROM console_identities WHERE user_name = $1",
        "DELETE FROM shell_shares WHERE made_by = $1",
        // Owners are ARNs, and no name of a user has a colon or a slash.
        "DELETE FROM web_shells WHERE substr(owner, length(owner) - length($1) - 5) = ':user/' || $1",
    ] {
        sqlx::query(statement).bind(user_name).execute(&mut **tx).await?;
    }
    Ok(())
}
