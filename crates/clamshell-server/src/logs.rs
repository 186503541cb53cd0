//! Logs of runtimes: what their agents print, and what the platform has to say about them.
//!
//! Laid out as CloudWatch has them (`runtime.md` 11.3), below the data directory:
//! `logs/aws/bedrock-agentcore/runtimes/<runtime id>-<endpoint>/YYYY/MM/DD/[runtime-logs]<storage id>.jsonl`, one JSON object
//! a line. Each line carries the offset in the agent's output up to which it tells it. So a server that is killed loses
//! nothing and repeats nothing: the next one reads the last line and goes on from there.

mod reader;
mod retention;
mod writer;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use clamshell_domain::{Clock, EndpointName, RuntimeId, SessionId, SessionKey, StorageId};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub(crate) use reader::{LogFilter, LogReader};
use writer::Writer;
pub(crate) use writer::{Line, Source};

/// Longest line kept; what is longer becomes several.
pub(crate) const LINE_BYTES_MAX: usize = 256 * 1024;

/// A file is followed by another one when it has so many bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// How long and how much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPolicy {
    /// Bytes per runtime and endpoint; the oldest files go first.
    pub group_bytes_max: u64,
    /// Days after its last line for which a file is kept.
    pub days_max: u64,
}

impl Default for LogPolicy {
    fn default() -> Self {
        Self { group_bytes_max: 256 << 20, days_max: 14 }
    }
}

/// All logs of a server.
pub(crate) struct Logs {
    root: PathBuf,
    policy: LogPolicy,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    /// Those that somebody writes, by storage id.
    open: Mutex<HashMap<StorageId, Weak<SessionLog>>>,
    /// Counts changes, for those who follow.
    changed: watch::Sender<u64>,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Logs {
    /// Those of a data directory.
    pub(crate) fn new(
        data_dir: &std::path::Path,
        policy: LogPolicy,
        clock: Arc<dyn Clock>,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        Arc::new(Self {
            root: data_dir.join("logs/aws/bedrock-agentcore/runtimes"),
            policy,
            clock,
            tasks,
            open: Mutex::default(),
            changed: watch::Sender::new(0),
        })
    }

    /// The log of a session. There is one for each, however often it is asked for.
    pub(crate) fn of_session(self: &Arc<Self>, key: &SessionKey, storage_id: &StorageId) -> Arc<SessionLog> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, log| log.strong_count() > 0);
        if let Some(log) = open.get(storage_id).and_then(Weak::upgrade) {
            return log;
        }
        let group = self.group(&key.runtime_id, &key.endpoint);
        let log = Arc::new(SessionLog {
            logs: Arc::clone(self),
            session_id: key.session_id.clone(),
            writer: Arc::new(Mutex::new(Writer::new(group, storage_id, FILE_BYTES_MAX))),
        });
        open.insert(storage_id.clone(), Arc::downgrade(&log));
        log
    }

    /// Reads what was written; with the filter's `follow` what will be, too.
    pub(crate) fn read(self: &Arc<Self>, filter: LogFilter) -> LogReader {
        LogReader::new(Arc::clone(self), filter)
    }

    fn group(&self, runtime_id: &RuntimeId, endpoint: &EndpointName) -> PathBuf {
        self.root.join(format!("{runtime_id}-{endpoint}"))
    }

    fn note_change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// The log of one session.
pub(crate) struct SessionLog {
    logs: Arc<Logs>,
    session_id: SessionId,
    writer: Arc<Mutex<Writer>>,
}

impl SessionLog {
    /// Offset in the agent's output up to which it is written down. Reads the disk the first time.
    pub(crate) async fn offset(self: &Arc<Self>) -> Option<u64> {
        let log = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let mut writer = log.writer();
            if let Err(error) = writer.open() {
                tracing::warn!(%error, "a runtime's log cannot be read");
            }
            writer.offset()
        })
        .await
        .unwrap_or_default()
    }

    /// Appends lines, all or those that are not there yet; returns when they are written, with the bytes that were.
    /// A failure is logged: the agent has requests to answer.
    pub(crate) async fn append(self: &Arc<Self>, lines: Vec<Line>) -> u64 {
        let log = Arc::clone(self);
        tokio::task::spawn_blocking(move || log.append_now(&lines)).await.unwrap_or_default()
    }

    /// The agent's output starts anew: offsets below those that were written are not old ones.
    pub(crate) fn restart(&self) {
        self.writer().forget_offset();
    }

    /// Writes a line of the platform, soon and in order with others.
    pub(crate) fn note(self: &Arc<Self>, message: String) {
        let log = Arc::clone(self);
        let line = Line { source: Source::Platform, message, end_offset: None };
        self.logs.tasks.spawn_blocking(move || log.append_now(&[line]));
    }

    fn append_now(&self, lines: &[Line]) -> u64 {
        let now_ms = self.logs.clock.now_ms();
        let mut writer = self.writer();
        let written = writer.append(now_ms, &self.session_id, lines);
        let rotated = writer.take_rotated();
        drop(writer);
        self.logs.note_change();
        if let Some(group) = rotated {
            retention::tidy_group(&group, self.logs.policy, now_ms);
        }
        written.unwrap_or_else(|error| {
            tracing::warn!(%error, "a runtime's log cannot be written");
            0
        })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
