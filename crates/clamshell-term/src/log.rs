//! The output log of a shell on disk: bytes addressed by an offset that never changes its meaning.
//!
//! A shell's folder holds segments `<20-digit start offset>.log` of raw bytes, `<20-digit number>.events`
//! files of fixed-size records (when output came, resizes, starts and ends of runs), and `meta.json`.
//! The guest writes through [`LogWriter`]; the server reads through [`LogReader`], which takes
//! everything it finds for hostile. Offsets go on over runs of the same shell id.
//!
//! Not here: any policy about who reads what, or when trimming has to wait.

mod event;
mod files;
mod meta;
mod reader;
mod writer;

pub use event::{EVENT_BYTES, Event, EventKind};
pub use meta::{LogMeta, META_BYTES_MAX, MetaExit};
pub use reader::LogReader;
pub use writer::{AppendError, LogWriter};

use std::io;

use thiserror::Error;

/// A log that cannot be opened or read.
#[derive(Debug, Error)]
pub enum LogError {
    /// The id cannot be used as the name of a folder.
    #[error("shell id is not allowed as a folder name")]
    ShellId,
    /// The system refused.
    #[error("cannot {action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// `meta.json` is missing a field, too long, or no JSON.
    #[error("malformed shell metadata")]
    Meta,
}

impl LogError {
    pub(crate) fn io(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |errno| Self::Io { action, source: errno.into() }
    }
}

/// Folder of the hosted agent's log, beside those of the shells. No shell can have this id.
pub const AGENT_LOG: &str = ".agent";

/// Whether `id` is `[a-zA-Z0-9][a-zA-Z0-9_-]{0,127}`, and so safe as the name of a folder.
pub fn is_shell_id(id: &str) -> bool {
    let bytes = id.as_bytes();
    bytes.len() <= 128
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

#[cfg(test)]
mod tests;
