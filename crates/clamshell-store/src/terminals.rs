//! What terminals of a runtime start, and the secrets that are handed to it.
//!
//! Settings are the server's JSON, by runtime id. Secrets are sealed with the master key and bound to their names; nothing here
//! lists their values.

use clamshell_domain::RuntimeId;
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    MasterKey, OpenSecretError, SealError, Secret, Store, StoreError,
    error::from_database,
    row::{Columns, stored_json, stored_ms},
};

const SECRETS: &str = "terminal_secrets";
const TERMINALS: &str = "runtime_terminals";

/// Secrets that there can be: more than a person has, and a list of them is one small answer.
pub const TERMINAL_SECRETS_MAX: usize = 1000;

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminalSecret {
    /// Its name.
    pub name: String,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
    /// When its value was set last, milliseconds since 1970.
    pub updated_at_ms: u64,
}

/// A secret was not kept, or is not to be had.
#[derive(Debug, Error)]
pub enum TerminalSecretError {
    /// There are as many as there can be.
    #[error("there are {TERMINAL_SECRETS_MAX} secrets already")]
    TooMany,
    /// It cannot be sealed.
    #[error("secret cannot be sealed")]
    Seal(#[from] SealError),
    /// What is stored does not open: wrong master key, or a damaged row.
    #[error("secret does not open: {name}")]
    Sealed {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: OpenSecretError,
    },
    /// The store failed.
    #[error("secret cannot be stored or read")]
    Store(#[from] StoreError),
}

from_database!(TerminalSecretError);

impl Store {
    /// Keeps a secret in place of the one of this name.
    ///
    /// # Errors
    /// [`TerminalSecretError`].
    pub async fn put_terminal_secret(
        &self,
        master_key: &MasterKey,
        name: &str,
        secret: &Secret,
        now_ms: u64,
    ) -> Result<TerminalSecret, TerminalSecretError> {
        let sealed = master_key.seal(&context(name), secret.expose())?;
        let mut tx = self.write().await?;
        let others = sqlx::query("SELECT COUNT(*) AS others FROM terminal_secrets WHERE name <> $1")
            .bind(name)
            .fetch_one(&mut *tx)
            .await?;
        let others: usize = Columns::new(SECRETS, &others).number("others")?;
        if others >= TERMINAL_SECRETS_MAX {
            return Err(TerminalSecretError::TooMany);
        }
        let row = sqlx::query(
            "INSERT INTO terminal_secrets (name, secret, created_at_ms, updated_at_ms) VALUES ($1, $2, $3, $3) \
             ON CONFLICT (name) DO UPDATE SET secret = excluded.secret, updated_at_ms = excluded.updated_at_ms \
             RETURNING name, created_at_ms, updated_at_ms",
        )
        .bind(name)
        .bind(sealed)
        .bind(stored_ms(now_ms))
        .fetch_one(&mut *tx)
        .await?;
        let kept = terminal_secret(&row)?;
        tx.commit().await?;
        Ok(kept)
    }

    /// All secrets by name, without their values.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn terminal_secrets(&self) -> Result<Vec<TerminalSecret>, StoreError> {
        let rows =
            sqlx::query("SELECT name, created_at_ms, updated_at_ms FROM terminal_secrets ORDER BY name")
                .fetch_all(&self.readers)
                .await?;
        rows.iter().map(terminal_secret).collect()
    }

    /// The value of a secret.
    ///
    /// # Errors
    /// [`TerminalSecretError`].
    pub async fn open_terminal_secret(
        &self,
        master_key: &MasterKey,
        name: &str,
    ) -> Result<Option<Secret>, TerminalSecretError> {
        let row = sqlx::query("SELECT secret FROM terminal_secrets WHERE name = $1")
            .bind(name)
            .fetch_optional(&self.readers)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let sealed = Columns::new(SECRETS, &row).bytes("secret")?;
        let opened = master_key.open(&context(name), &sealed);
        opened.map(Some).map_err(|source| TerminalSecretError::Sealed { name: name.to_owned(), source })
    }

    /// Removes a secret; says whether there was one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_terminal_secret(&self, name: &str) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let removed =
            sqlx::query("DELETE FROM terminal_secrets WHERE name = $1").bind(name).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(removed.rows_affected() > 0)
    }

    /// What terminals of a runtime start, and since when.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn runtime_terminal<T: DeserializeOwned>(
        &self,
        runtime_id: &RuntimeId,
    ) -> Result<Option<(T, u64)>, StoreError> {
        let row = sqlx::query("SELECT settings, updated_at_ms FROM runtime_terminals WHERE runtime_id = $1")
            .bind(runtime_id.as_str())
            .fetch_optional(&self.readers)
            .await?;
        let settings = |row| {
            let columns = Columns::new(TERMINALS, row);
            Ok((columns.json("settings")?, columns.number("updated_at_ms")?))
        };
        row.as_ref().map(settings).transpose()
    }

    /// Says what terminals of a runtime start.
    ///
    /// # Errors
    /// [`StoreError`], also when there is no such runtime.
    pub async fn put_runtime_terminal<T: Serialize>(
        &self,
        runtime_id: &RuntimeId,
        settings: &T,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let settings = stored_json(TERMINALS, "settings", settings)?;
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO runtime_terminals (runtime_id, settings, updated_at_ms) VALUES ($1, $2, $3) \
             ON CONFLICT (runtime_id) DO UPDATE SET settings = excluded.settings, \
             updated_at_ms = excluded.updated_at_ms",
        )
        .bind(runtime_id.as_str())
        .bind(settings)
        .bind(stored_ms(now_ms))
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Terminals of a runtime start the login shell again; says whether they did not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_runtime_terminal(&self, runtime_id: &RuntimeId) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        let removed = sqlx::query("DELETE FROM runtime_terminals WHERE runtime_id = $1")
            .bind(runtime_id.as_str())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(removed.rows_affected() > 0)
    }
}

fn context(name: &str) -> String {
    format!("terminal-secret/{name}")
}

fn terminal_secret(row: &sqlx::any::AnyRow) -> Result<TerminalSecret, StoreError> {
    let columns = Columns::new(SECRETS, row);
    Ok(TerminalSecret {
        name: columns.text("name")?,
        created_at_ms: columns.number("created_at_ms")?,
        updated_at_ms: columns.number("updated_at_ms")?,
    })
}
