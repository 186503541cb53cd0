//! What any use of the store may run into. Operations with answers of their own wrap it.

use std::path::PathBuf;

use thiserror::Error;

/// The store failed, or holds what it must not.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The file cannot be made or opened.
    #[error("store file cannot be opened: {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The path is not UTF-8, or names no file.
    #[error("store path is not usable: {}", path.display())]
    Path {
        /// The file.
        path: PathBuf,
    },
    /// The tables cannot be brought up to this version of the program.
    #[error("store cannot be migrated")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The database refused or failed.
    #[error("database failed")]
    Database(#[from] sqlx::Error),
    /// A row does not hold what its column promises. The value is not repeated: it may be secret.
    #[error("stored value is damaged: {table}.{column}")]
    Corrupt {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
    },
    /// A value cannot be written as JSON, for instance a path that is not UTF-8.
    #[error("value cannot be stored: {table}.{column}")]
    Encode {
        /// Table.
        table: &'static str,
        /// Column.
        column: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// What the database says about an operation with an error of its own is the failure of the store there, too.
macro_rules! from_database {
    ($error:ident) => {
        impl From<sqlx::Error> for $error {
            fn from(error: sqlx::Error) -> Self {
                Self::Store(error.into())
            }
        }
    };
}
pub(crate) use from_database;
