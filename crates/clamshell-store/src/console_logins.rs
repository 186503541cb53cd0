//! Logins of the console and the links that open one. Tokens are stored as their SHA-256 and nothing else.

use sqlx::any::AnyRow;

use crate::{
    Store, StoreError,
    console_users::has_user,
    row::{Columns, stored_ms},
};

const TABLE: &str = "console_logins";

/// Links of one user that wait to be used: people make one at a time, and scripts some.
const LINKS_MAX: i64 = 100;

/// How somebody signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginMethod {
    /// With a link.
    Link,
    /// With a password.
    Password,
    /// At an identity provider.
    Provider,
}

/// A login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRecord {
    /// Its name, which opens nothing.
    pub login_id: String,
    /// SHA-256 of its token.
    pub token_hash: Vec<u8>,
    /// Whose it is.
    pub user_name: String,
    /// How it was made.
    pub method: LoginMethod,
    /// Milliseconds since 1970.
    pub created_at_ms: u64,
    /// Milliseconds since 1970; may be a minute behind.
    pub last_used_at_ms: u64,
    /// It ends then, used or not; milliseconds since 1970.
    pub expires_at_ms: u64,
    /// Where it was made from.
    pub source_ip: String,
    /// With which program.
    pub user_agent: String,
}

impl Store {
    /// All logins.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn console_logins(&self) -> Result<Vec<LoginRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT login_id, token_hash, user_name, method, created_at_ms, last_used_at_ms, expires_at_ms, source_ip, \
             user_agent FROM console_logins ORDER BY created_at_ms, login_id",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(record).collect()
    }

    /// Adds a login and removes those named in `instead`; `false` when there is no such user.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_console_login(
        &self,
        login: &LoginRecord,
        instead: &[String],
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        if !has_user(&mut tx, &login.user_name).await? {
            return Ok(false);
        }
        for login_id in instead {
            sqlx::query("DELETE FROM console_logins WHERE login_id = $1")
                .bind(login_id.as_str())
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query(
            "INSERT INTO console_logins (login_id, token_hash, user_name, method, created_at_ms, last_used_at_ms, \
             expires_at_ms, source_ip, user_agent) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(login.login_id.as_str())
        .bind(login.token_hash.clone())
        .bind(login.user_name.as_str())
        .bind(number(login.method))
        .bind(stored_ms(login.created_at_ms))
        .bind(stored_ms(login.last_used_at_ms))
        .bind(stored_ms(login.expires_at_ms))
        .bind(login.source_ip.as_str())
        .bind(login.user_agent.as_str())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Notes when a login was used.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn touch_console_login(&self, login_id: &str, used_at_ms: u64) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("UPDATE console_logins SET last_used_at_ms = $2 WHERE login_id = $1")
            .bind(login_id)
            .bind(stored_ms(used_at_ms))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Removes logins.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_console_logins(&self, login_ids: &[String]) -> Result<(), StoreError> {
        let mut tx = self.write().await?;
        for login_id in login_ids {
            sqlx::query("DELETE FROM console_logins WHERE login_id = $1")
                .bind(login_id.as_str())
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Adds a link that signs a user in once. Links that ended before `now_ms` go; `false` when the user has too many others.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn insert_console_link(
        &self,
        token_hash: &[u8],
        user_name: &str,
        expires_at_ms: u64,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        sqlx::query("DELETE FROM console_links WHERE expires_at_ms <= $1")
            .bind(stored_ms(now_ms))
            .execute(&mut *tx)
            .await?;
        let row = sqlx::query("SELECT COUNT(*) AS links FROM console_links WHERE user_name = $1")
            .bind(user_name)
            .fetch_one(&mut *tx)
            .await?;
        if Columns::new("console_links", &row).number::<i64>("links")? >= LINKS_MAX {
            return Ok(false);
        }
        sqlx::query("INSERT INTO console_links (token_hash, user_name, expires_at_ms) VALUES ($1, $2, $3)")
            .bind(token_hash.to_vec())
            .bind(user_name)
            .bind(stored_ms(expires_at_ms))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The user whom a link signs in, as long as it was not used and has not ended. Uses nothing up.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn console_link_user(
        &self,
        token_hash: &[u8],
        now_ms: u64,
    ) -> Result<Option<String>, StoreError> {
        let row =
            sqlx::query("SELECT user_name FROM console_links WHERE token_hash = $1 AND expires_at_ms > $2")
                .bind(token_hash.to_vec())
                .bind(stored_ms(now_ms))
                .fetch_optional(&self.readers)
                .await?;
        row.map(|row| Columns::new("console_links", &row).text("user_name")).transpose()
    }

    /// Uses a link up: gives its user to the first who asks before it ends, and nothing to anybody else.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_console_link(
        &self,
        token_hash: &[u8],
        now_ms: u64,
    ) -> Result<Option<String>, StoreError> {
        // Strangers invent tokens: those cost a read and no write.
        let known = sqlx::query("SELECT 1 FROM console_links WHERE token_hash = $1")
            .bind(token_hash.to_vec())
            .fetch_optional(&self.readers)
            .await?;
        if known.is_none() {
            return Ok(None);
        }
        let mut tx = self.write().await?;
        let row = sqlx::query("SELECT user_name, expires_at_ms FROM console_links WHERE token_hash = $1")
            .bind(token_hash.to_vec())
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else { return Ok(None) };
        sqlx::query("DELETE FROM console_links WHERE token_hash = $1")
            .bind(token_hash.to_vec())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        let columns = Columns::new("console_links", &row);
        let ends: u64 = columns.number("expires_at_ms")?;
        Ok((now_ms < ends).then_some(columns.text("user_name")?))
    }
}

/// Stored numbers; never reused.
fn number(method: LoginMethod) -> i64 {
    match method {
        LoginMethod::Link => 1,
        LoginMethod::Password => 2,
        LoginMethod::Provider => 3,
    }
}

fn method_of(number: i64) -> Option<LoginMethod> {
    match number {
        1 => Some(LoginMethod::Link),
        2 => Some(LoginMethod::Password),
        3 => Some(LoginMethod::Provider),
        _ => None,
    }
}

fn record(row: &AnyRow) -> Result<LoginRecord, StoreError> {
    let columns = Columns::new(TABLE, row);
    Ok(LoginRecord {
        login_id: columns.text("login_id")?,
        token_hash: columns.bytes("token_hash")?,
        user_name: columns.text("user_name")?,
        method: columns.coded("method", method_of)?,
        created_at_ms: columns.number("created_at_ms")?,
        last_used_at_ms: columns.number("last_used_at_ms")?,
        expires_at_ms: columns.number("expires_at_ms")?,
        source_ip: columns.text("source_ip")?,
        user_agent: columns.text("user_agent")?,
    })
}
