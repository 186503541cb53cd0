//! `meta.json`: what a shell is, beside its bytes.

use serde::{Deserialize, Serialize};

/// Longest `meta.json` that a reader takes: a 64 KiB command line, escaped six to one, fits.
pub const META_BYTES_MAX: usize = 512 * 1024;

/// What a shell is, as stored beside its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogMeta {
    /// What was started.
    pub argv: Vec<String>,
    /// Process id inside the sandbox.
    pub pid: u32,
    /// Start of the newest run, milliseconds since 1970.
    pub created_at_ms: u64,
    /// First offset of the newest run.
    pub run_offset: u64,
    /// Columns at the last start, resize or end.
    pub cols: u16,
    /// Rows at the last start, resize or end.
    pub rows: u16,
    /// Never ended for being detached while a program is in the foreground.
    pub keep: bool,
    /// How it ended; `None` while it runs.
    pub exit: Option<MetaExit>,
    /// When it ended, milliseconds since 1970.
    pub ended_at_ms: Option<u64>,
    /// Newest output when this was written, milliseconds since 1970.
    #[serde(default)]
    pub last_output_at_ms: u64,
}

/// How the program of a shell ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaExit {
    /// Exit status; 128 + signal when a signal ended it.
    pub code: i32,
    /// The signal.
    pub signal: Option<i32>,
}
