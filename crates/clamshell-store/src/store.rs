//! Opening the file: connections, settings and migrations.
//!
//! One connection writes and a few read. Under SQLite's write-ahead log readers never wait for the
//! writer, and one writer never meets `SQLITE_BUSY` inside its own process. Transactions start with
//! `BEGIN IMMEDIATE`: a deferred one that reads and then writes fails with `SQLITE_BUSY_SNAPSHOT`
//! when another process wrote in between, and `busy_timeout` does not retry that.

use std::{
    fs::{OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    Any, AnyConnection, AnyPool, Connection, Executor, SqlSafeStr, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::{Migration, MigrationType, Migrator},
};

use tokio::sync::watch;

use crate::StoreError;

/// Reads at once. Each connection is a thread; reads take microseconds and a session list a few
/// milliseconds, so four keep two to eight cores busy.
const READERS_MAX: u32 = 4;

/// Longest wait for a connection. Writes take well under a millisecond each, so this only ends when
/// the disk hangs; then a clear error beats a queue that grows.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// `synchronous=NORMAL` under the write-ahead log keeps every committed transaction through the
/// death of the process, `kill -9` included, because the log is written before commit returns.
/// Only a power cut may take back the newest commits; the file stays consistent even then.
/// `busy_timeout` covers other processes, for instance a backup.
const SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
     PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON;";

/// Settings of a connection that only reads: a write through it is a bug and fails.
const READER_SETTINGS: &str = "PRAGMA busy_timeout = 5000; PRAGMA query_only = ON;";

const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "first tables", include_str!("../migrations/0001_first_tables.sql")),
    (2, "control plane", include_str!("../migrations/0002_control_plane.sql")),
    (3, "principals", include_str!("../migrations/0003_principals.sql")),
    (4, "console", include_str!("../migrations/0004_console.sql")),
    (5, "audit and shares", include_str!("../migrations/0005_audit_and_shares.sql")),
    (6, "terminal commands", include_str!("../migrations/0006_terminal_commands.sql")),
    (7, "web shells", include_str!("../migrations/0007_web_shells.sql")),
    (8, "lockouts", include_str!("../migrations/0008_lockouts.sql")),
    (9, "session usage", include_str!("../migrations/0009_session_usage.sql")),
];

/// The open store. Cheap to clone; all clones share the connections.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) readers: AnyPool,
    writer: AnyPool,
    /// See [`Store::changes`].
    pub(crate) changes: Arc<watch::Sender<u64>>,
}

impl Store {
    /// Opens the SQLite file at `path`, making it (mode 0600) when it is missing; its folder must
    /// exist. Brings the tables up to date.
    ///
    /// # Errors
    /// [`StoreError`], also when the file was written by a newer version of this program.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let given = path.to_owned();
        let path = tokio::task::spawn_blocking(move || prepare_file(&given))
            .await
            .expect("preparing a file does not panic and is never aborted")?;
        let url = sqlite_url(&path)?;
        sqlx::any::install_default_drivers();
        let options: AnyConnectOptions = url.parse()?;

        // Not through a pool: that would try again on a damaged file until its timeout and then
        // report the timeout. The connection stays open until the writer has taken over, because
        // the last one to close removes the write-ahead log.
        let mut first = AnyConnection::connect_with(&options).await?;
        first.execute(sqlx::raw_sql(SETTINGS)).await?;
        migrator().run(&mut first).await.map_err(StoreError::Migrate)?;
        let writer = pool(1, SETTINGS).connect_with(options.clone()).await?;
        first.close().await?;
        let readers = pool(READERS_MAX, READER_SETTINGS).connect_with(options).await?;
        Ok(Self { readers, writer, changes: Arc::new(watch::Sender::new(0)) })
    }

    /// Waits for running statements and closes the file; the write-ahead log is folded in. Not
    /// needed for safety, only for a tidy end.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// A write transaction; rolled back unless committed.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Any>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }
}

fn pool(connections_max: u32, settings: &'static str) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A local file does not drop connections: keep them, and their prepared statements, for good.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                connection.execute(sqlx::raw_sql(settings)).await?;
                Ok(())
            })
        })
}

fn migrator() -> Migrator {
    Migrator::with_migrations(
        MIGRATIONS
            .iter()
            .map(|(version, description, sql)| {
                let sql = sql.into_sql_str();
                Migration::new(*version, (*description).into(), MigrationType::Simple, sql, false)
            })
            .collect(),
    )
}

/// Makes the file with a mode that only its owner can read (SQLite gives the same mode to the
/// write-ahead log), and resolves its folder, because a URL would resolve `..` without looking.
fn prepare_file(path: &Path) -> Result<PathBuf, StoreError> {
    let open_error = |source: io::Error| StoreError::Open { path: path.to_owned(), source };
    let name = path.file_name().ok_or_else(|| StoreError::Path { path: path.to_owned() })?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let path = folder.canonicalize().map_err(open_error)?.join(name);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(open_error)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(open_error)?;
    Ok(path)
}

/// The connection URL of an absolute path, with every byte that could mean something escaped.
fn sqlite_url(path: &Path) -> Result<String, StoreError> {
    let text = path.to_str().ok_or_else(|| StoreError::Path { path: path.to_owned() })?;
    let mut url = String::from("sqlite://");
    for byte in text.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {
                url.push(char::from(byte));
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url.push_str("?mode=rw");
    Ok(url)
}

#[cfg(test)]
mod tests {
    use sqlx::Row;

    use super::*;

    #[test]
    fn urls_escape_what_could_mean_something() {
        let check = |path: &str, url: &str| assert_eq!(sqlite_url(Path::new(path)).unwrap(), url);
        check("/data/state.db", "sqlite:///data/state.db?mode=rw");
        check("/a b/100%?#.db", "sqlite:///a%20b/100%25%3F%23.db?mode=rw");
        check("/é.db", "sqlite:///%C3%A9.db?mode=rw");
    }

    /// What could do everything before there were policies can do so afterwards.
    #[tokio::test(flavor = "multi_thread")]
    async fn users_of_older_keys_are_administrators() {
        let folder = tempfile::tempdir().unwrap();
        let path = prepare_file(&folder.path().join("state.db")).unwrap();
        sqlx::any::install_default_drivers();
        let options: AnyConnectOptions = sqlite_url(&path).unwrap().parse().unwrap();
        let mut old = AnyConnection::connect_with(&options).await.unwrap();
        for (_, _, sql) in &MIGRATIONS[..2] {
            old.execute(sqlx::raw_sql(*sql)).await.unwrap();
        }
        for (id, user, at) in [("A", "root", 1), ("B", "ci", 3), ("C", "ci", 2)] {
            let sql = "INSERT INTO access_keys (access_key_id, user_name, status, secret, created_at_ms) \
                       VALUES ($1, $2, 1, x'00', $3)";
            sqlx::query(sql).bind(id).bind(user).bind(at).execute(&mut old).await.unwrap();
        }
        old.execute(sqlx::raw_sql(MIGRATIONS[2].2)).await.unwrap();
        let rows = sqlx::query(
            "SELECT p.name, p.created_at_ms, y.policy_name, y.policy FROM principals p \
             JOIN principal_policies y ON y.kind = p.kind AND y.principal = p.name",
        );
        let rows = rows.fetch_all(&mut old).await.unwrap();
        assert_eq!(rows.len(), 1);
        let text = |column: &str| rows[0].get::<String, _>(column);
        assert_eq!((text("name").as_str(), rows[0].get::<i64, _>("created_at_ms")), ("ci", 2));
        assert_eq!(text("policy_name"), "AdministratorAccess");
        assert!(text("policy").contains("\"Action\":\"*\""));
    }

    #[test]
    fn migrations_are_numbered_from_one_without_a_gap() {
        for (index, (version, _, _)) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(*version).unwrap(), index + 1);
        }
    }
}
