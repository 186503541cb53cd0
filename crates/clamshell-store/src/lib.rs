//! What must outlive the server: account, access keys, runtimes, endpoints, tags, policies and sessions in SQLite.
//!
//! Every method that returns `Ok` has committed: the change survives `kill -9` of the server at the
//! next instant. Every write is one transaction, so a dropped future changes everything or nothing.
//! The SQL is kept to what SQLite and Postgres both understand (`$1`, TEXT, BIGINT, BLOB), one file
//! per resource. No policy here: what a phase means and who may do what is decided above.

mod access_keys;
mod account;
mod audit;
mod console_lockouts;
mod console_logins;
mod console_users;
mod endpoints;
mod error;
mod principals;
mod resource_policies;
mod row;
mod runtime_changes;
mod runtimes;
mod secrets;
mod sessions;
mod shares;
mod standbys;
mod store;
mod tags;
mod terminals;
mod tokens;
mod usages;
mod web_shells;

pub use access_keys::{AccessKeySecretError, ChangeAccessKeyError, InsertAccessKeyError};
pub use account::Account;
pub use audit::{AuditFilter, AuditOutcome, AuditRecord, AuditVia};
pub use console_lockouts::LockoutRecord;
pub use console_logins::{LoginMethod, LoginRecord};
pub use error::StoreError;
pub use principals::{ChangePrincipalError, POLICIES_MAX, PrincipalKind, PrincipalRecord};
pub use runtime_changes::{ChangeRuntimeError, Unfinished};
pub use runtimes::{InsertRuntimeError, VersionRecord};
pub use secrets::{MasterKey, MasterKeyError, OpenSecretError, SealError, Secret};
pub use sessions::{CreateSessionError, SessionFilter, UpdateSessionError};
pub use shares::{InsertShareError, SHARES_MAX, ShareAccess, ShareRecord};
pub use standbys::Standby;
pub use store::Store;
pub use terminals::{TERMINAL_SECRETS_MAX, TerminalSecret, TerminalSecretError};
pub use tokens::{Receipt, StoredAnswer};
pub use web_shells::{OpenWebShellError, WebShellRecord, default_title, is_default_title};
