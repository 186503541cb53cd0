//! Users and roles with their inline policies. The texts of policies are kept as they came; whoever puts one has checked it.

use std::collections::BTreeMap;

use clamshell_domain::Entropy;
use sqlx::{Any, Transaction, any::AnyRow};
use thiserror::Error;
use tokio::sync::watch;

use crate::{
    MasterKey, Store, StoreError, console_users,
    error::from_database,
    row::{Columns, stored_ms},
};

const TABLE: &str = "principals";
const POLICIES: &str = "principal_policies";

/// What a principal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// Has access keys.
    User,
    /// Lends what it may do to runtimes.
    Role,
}

/// A user or role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalRecord {
    /// User or role.
    pub kind: PrincipalKind,
    /// Unique among those of its kind.
    pub name: String,
    /// For people.
    pub description: String,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
    /// Inline policies by name.
    pub policies: BTreeMap<String, String>,
}

/// A user or role was not changed.
#[derive(Debug, Error)]
pub enum ChangePrincipalError {
    /// There is none of this name, or no such policy.
    #[error("no such user, role or policy")]
    NotFound,
    /// The name is taken.
    #[error("name is taken")]
    AlreadyExists,
    /// It still has access keys.
    #[error("user has access keys")]
    HasKeys,
    /// One more policy would be too many.
    #[error("too many policies")]
    TooManyPolicies,
    /// The store failed.
    #[error("user or role cannot be stored")]
    Store(#[from] StoreError),
}

from_database!(ChangePrincipalError);

/// Inline policies of one principal: all of them are evaluated for each of its calls.
pub const POLICIES_MAX: usize = 10;

impl Store {
    /// Counts changes of users, roles, policies, tags, runtimes and endpoints made through this store: what was read before
    /// a change is of no use after it.
    pub fn changes(&self) -> u64 {
        *self.changes.borrow()
    }

    /// Tells of each change that [`Store::changes`] counts. Whoever is slow sees the newest count only.
    pub fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Commits such a change, and counts it.
    pub(crate) async fn commit_change(&self, tx: Transaction<'static, Any>) -> Result<(), StoreError> {
        tx.commit().await?;
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// A user or role with its policies.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn principal(
        &self,
        kind: PrincipalKind,
        name: &str,
    ) -> Result<Option<PrincipalRecord>, StoreError> {
        let row = sqlx::query(
            "SELECT kind, name, description, created_at_ms FROM principals WHERE kind = $1 AND name = $2",
        )
        .bind(number(kind))
        .bind(name)
        .fetch_optional(&self.readers)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let mut record = record(&row)?;
        let rows = sqlx::query(
            "SELECT policy_name, policy FROM principal_policies WHERE kind = $1 AND principal = $2",
        )
        .bind(number(kind))
        .bind(name)
        .fetch_all(&self.readers)
        .await?;
        for row in &rows {
            let columns = Columns::new(POLICIES, row);
            record.policies.insert(columns.text("policy_name")?, columns.text("policy")?);
        }
        Ok(Some(record))
    }

    /// All users or roles by name, with their policies.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn list_principals(&self, kind: PrincipalKind) -> Result<Vec<PrincipalRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT kind, name, description, created_at_ms FROM principals WHERE kind = $1 ORDER BY name",
        )
        .bind(number(kind))
        .fetch_all(&self.readers)
        .await?;
        let mut records = rows.iter().map(record).collect::<Result<Vec<_>, _>>()?;
        let rows =
            sqlx::query("SELECT principal, policy_name, policy FROM principal_policies WHERE kind = $1")
                .bind(number(kind))
                .fetch_all(&self.readers)
                .await?;
        for row in &rows {
            let columns = Columns::new(POLICIES, row);
            let principal = columns.text("principal")?;
            // Made between the two reads: the next list has it.
            let Some(record) = records.iter_mut().find(|record| record.name == principal) else { continue };
            record.policies.insert(columns.text("policy_name")?, columns.text("policy")?);
        }
        Ok(records)
    }

    /// Adds a user or role with its policies.
    ///
    /// # Errors
    /// [`ChangePrincipalError::AlreadyExists`], [`ChangePrincipalError::TooManyPolicies`].
    pub async fn insert_principal(&self, record: &PrincipalRecord) -> Result<(), ChangePrincipalError> {
        if record.policies.len() > POLICIES_MAX {
            return Err(ChangePrincipalError::TooManyPolicies);
        }
        let mut tx = self.write().await?;
        let inserted = sqlx::query(
            "INSERT INTO principals (kind, name, description, created_at_ms) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (kind, name) DO NOTHING",
        )
        .bind(number(record.kind))
        .bind(record.name.as_str())
        .bind(record.description.as_str())
        .bind(stored_ms(record.created_at_ms))
        .execute(&mut *tx)
        .await?;
        if inserted.rows_affected() == 0 {
            return Err(ChangePrincipalError::AlreadyExists);
        }
        for (name, policy) in &record.policies {
            sqlx::query(
                "INSERT INTO principal_policies (kind, principal, policy_name, policy, updated_at_ms) \
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(number(record.kind))
            .bind(record.name.as_str())
            .bind(name.as_str())
            .bind(policy.as_str())
            .bind(stored_ms(record.created_at_ms))
            .execute(&mut *tx)
            .await?;
        }
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Removes a user or role with its policies. A user must have no access keys.
    ///
    /// # Errors
    /// [`ChangePrincipalError`].
    pub async fn remove_principal(
        &self,
        kind: PrincipalKind,
        name: &str,
    ) -> Result<(), ChangePrincipalError> {
        let mut tx = self.write().await?;
        if kind == PrincipalKind::User {
            let key = sqlx::query("SELECT 1 FROM access_keys WHERE user_name = $1 LIMIT 1")
                .bind(name)
                .fetch_optional(&mut *tx)
                .await?;
            if key.is_some() {
                return Err(ChangePrincipalError::HasKeys);
            }
        }
        let removed = sqlx::query("DELETE FROM principals WHERE kind = $1 AND name = $2")
            .bind(number(kind))
            .bind(name)
            .execute(&mut *tx)
            .await?;
        if removed.rows_affected() == 0 {
            return Err(ChangePrincipalError::NotFound);
        }
        if kind == PrincipalKind::User {
            console_users::forget(&mut tx, name).await?;
        }
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Puts an inline policy in place of the one of this name that there may be.
    ///
    /// # Errors
    /// [`ChangePrincipalError::NotFound`], [`ChangePrincipalError::TooManyPolicies`].
    pub async fn put_principal_policy(
        &self,
        kind: PrincipalKind,
        name: &str,
        policy_name: &str,
        policy: &str,
        now_ms: u64,
    ) -> Result<(), ChangePrincipalError> {
        let mut tx = self.write().await?;
        let known = sqlx::query("SELECT 1 FROM principals WHERE kind = $1 AND name = $2")
            .bind(number(kind))
            .bind(name)
            .fetch_optional(&mut *tx)
            .await?;
        if known.is_none() {
            return Err(ChangePrincipalError::NotFound);
        }
        let others = sqlx::query(
            "SELECT 1 FROM principal_policies WHERE kind = $1 AND principal = $2 AND policy_name <> $3",
        )
        .bind(number(kind))
        .bind(name)
        .bind(policy_name)
        .fetch_all(&mut *tx)
        .await?;
        if others.len() >= POLICIES_MAX {
            return Err(ChangePrincipalError::TooManyPolicies);
        }
        sqlx::query(
            "INSERT INTO principal_policies (kind, principal, policy_name, policy, updated_at_ms) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (kind, principal, policy_name) \
             DO UPDATE SET policy = excluded.policy, updated_at_ms = excluded.updated_at_ms",
        )
        .bind(number(kind))
        .bind(name)
        .bind(policy_name)
        .bind(policy)
        .bind(stored_ms(now_ms))
        .execute(&mut *tx)
        .await?;
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Takes an inline policy away.
    ///
    /// # Errors
    /// [`ChangePrincipalError::NotFound`].
    pub async fn remove_principal_policy(
        &self,
        kind: PrincipalKind,
        name: &str,
        policy_name: &str,
    ) -> Result<(), ChangePrincipalError> {
        let mut tx = self.write().await?;
        let removed = sqlx::query(
            "DELETE FROM principal_policies WHERE kind = $1 AND principal = $2 AND policy_name = $3",
        )
        .bind(number(kind))
        .bind(name)
        .bind(policy_name)
        .execute(&mut *tx)
        .await?;
        if removed.rows_affected() == 0 {
            return Err(ChangePrincipalError::NotFound);
        }
        self.commit_change(tx).await?;
        Ok(())
    }

    /// Whether [`Store::server_secret`] has made the secret of this name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_server_secret(&self, name: &str) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM server_secrets WHERE name = $1").bind(name);
        Ok(row.fetch_optional(&self.readers).await?.is_some())
    }

    /// 32 random bytes of this server under a name, made when they are first asked for. Stored sealed.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Corrupt`] when the master key does not open them.
    pub async fn server_secret(
        &self,
        master_key: &MasterKey,
        name: &str,
        entropy: &dyn Entropy,
    ) -> Result<[u8; 32], StoreError> {
        let corrupt = || StoreError::Corrupt { table: "server_secrets", column: "secret" };
        let context = format!("server-secret/{name}");
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        let sealed = master_key.seal(&context, &bytes).map_err(|_| corrupt())?;
        let mut tx = self.write().await?;
        sqlx::query(
            "INSERT INTO server_secrets (name, secret) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        )
        .bind(name)
        .bind(sealed)
        .execute(&mut *tx)
        .await?;
        let row = sqlx::query("SELECT secret FROM server_secrets WHERE name = $1")
            .bind(name)
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        let sealed = Columns::new("server_secrets", &row).bytes("secret")?;
        let secret = master_key.open(&context, &sealed).map_err(|_| corrupt())?;
        secret.expose().try_into().map_err(|_| corrupt())
    }
}

/// Stored numbers; never reused.
fn number(kind: PrincipalKind) -> i64 {
    match kind {
        PrincipalKind::User => 1,
        PrincipalKind::Role => 2,
    }
}

fn kind_of(number: i64) -> Option<PrincipalKind> {
    match number {
        1 => Some(PrincipalKind::User),
        2 => Some(PrincipalKind::Role),
        _ => None,
    }
}

fn record(row: &AnyRow) -> Result<PrincipalRecord, StoreError> {
    let columns = Columns::new(TABLE, row);
    Ok(PrincipalRecord {
        kind: columns.coded("kind", kind_of)?,
        name: columns.text("name")?,
        description: columns.text("description")?,
        created_at_ms: columns.number("created_at_ms")?,
        policies: BTreeMap::new(),
    })
}
