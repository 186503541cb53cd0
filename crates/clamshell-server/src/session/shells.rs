//! Shells of a session: those that run, from the guest; those that ended, from the disk.

use std::{collections::BTreeMap, sync::Arc};

use clamshell_domain::ShellId;
use clamshell_protocol::{Exit, Reply, Request, ShellInfo};
use clamshell_term::log::{LogError, LogReader};

use super::Session;
use crate::guest::GuestError;

/// Most shells listed per session; a guest keeps fewer, and what lies on disk may have been made by anybody.
const LISTED_MAX: usize = 256;

/// Bytes kept of a shell's command line: a list of 256 with the longest there can be would take gigabytes.
const ARGV_BYTES_MAX: usize = 4096;

/// Whether somebody is at a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShellState {
    /// Runs, with a writing client.
    Attached,
    /// Runs on its own.
    Detached,
    /// Its program is gone; its log is there.
    Ended,
}

/// How a shell that is gone ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShellEnd {
    /// Its program exited.
    Exited(Exit),
    /// Its session's compute ended, perhaps with the machine.
    SessionEnded,
}

/// A shell as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShellView {
    pub(crate) info: ShellInfo,
    pub(crate) state: ShellState,
    pub(crate) end: Option<ShellEnd>,
    pub(crate) ended_at_ms: Option<u64>,
}

impl Session {
    /// Every shell of this session that has left a trace. Asking wakes nothing.
    ///
    /// # Errors
    /// [`GuestError`] when the compute runs and its guest does not answer.
    pub(crate) async fn shells(self: &Arc<Self>) -> Result<Vec<ShellView>, GuestError> {
        let session = Arc::clone(self);
        let on_disk = tokio::task::spawn_blocking(move || session.shells_on_disk()).await.unwrap_or_default();
        let mut shells: BTreeMap<String, ShellView> =
            on_disk.into_iter().map(|view| (view.info.shell_id.clone(), view)).collect();
        if let Some(compute) = self.compute() {
            let (reply, _) = compute.guest.ask(Request::ShellList).await?;
            let Reply::Shells { shells: listed } = reply else { return Err(GuestError::Unexpected) };
            for mut info in listed.into_iter().take(LISTED_MAX) {
                info.argv = front(info.argv);
                if ShellId::parse(info.shell_id.as_str()).is_err() {
                    continue;
                }
                let (state, end) = match info.exit {
                    Some(exit) => (ShellState::Ended, Some(ShellEnd::Exited(exit))),
                    None if info.writers > 0 => (ShellState::Attached, None),
                    None => (ShellState::Detached, None),
                };
                let ended_at_ms = shells.get(&info.shell_id).and_then(|known| known.ended_at_ms);
                shells.insert(info.shell_id.clone(), ShellView { info, state, end, ended_at_ms });
            }
        }
        Ok(shells.into_values().collect())
    }

    /// One shell.
    ///
    /// # Errors
    /// As [`Session::shells`].
    pub(crate) async fn shell(self: &Arc<Self>, shell_id: &ShellId) -> Result<Option<ShellView>, GuestError> {
        Ok(self.shells().await?.into_iter().find(|view| view.info.shell_id == shell_id.as_str()))
    }

    /// The log of a shell, running or not.
    ///
    /// # Errors
    /// [`LogError`].
    pub(crate) fn shell_log(&self, shell_id: &ShellId) -> Result<LogReader, LogError> {
        LogReader::open(&self.folder().join("shells"), shell_id.as_str())
    }

    fn shells_on_disk(&self) -> Vec<ShellView> {
        let ids = LogReader::list(&self.folder().join("shells")).unwrap_or_default();
        let ids = ids.into_iter().filter_map(|id| ShellId::parse(id).ok()).take(LISTED_MAX);
        ids.filter_map(|id| self.shell_on_disk(&id)).collect()
    }

    fn shell_on_disk(&self, shell_id: &ShellId) -> Option<ShellView> {
        let log = self.shell_log(shell_id).ok()?;
        let meta = log.meta().ok()?;
        let (start_offset, end_offset) = log.extent().ok()?;
        let exit = meta.exit.map(|exit| Exit { code: exit.code, signal: exit.signal, timed_out: false });
        Some(ShellView {
            info: ShellInfo {
                shell_id: shell_id.to_string(),
                pid: meta.pid,
                argv: front(meta.argv),
                cols: meta.cols,
                rows: meta.rows,
                created_at_ms: meta.created_at_ms,
                last_output_at_ms: meta.last_output_at_ms,
                start_offset,
                run_offset: meta.run_offset,
                end_offset,
                writers: 0,
                watchers: 0,
                detached_at_ms: None,
                keep: meta.keep,
                exit,
            },
            state: ShellState::Ended,
            end: Some(exit.map_or(ShellEnd::SessionEnded, ShellEnd::Exited)),
            ended_at_ms: meta.ended_at_ms,
        })
    }
}

/// The first arguments, as far as they fit.
fn front(argv: Vec<String>) -> Vec<String> {
    let mut room = ARGV_BYTES_MAX;
    let fits = |argument: &String| {
        // An empty one takes room in a list, too.
        let left = room.checked_sub(argument.len() + 1);
        room = left.unwrap_or(0);
        left.is_some()
    };
    argv.into_iter().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_kept_as_far_as_they_fit() {
        let check = |argv: Vec<String>, kept: usize| assert_eq!(front(argv).len(), kept);
        check(vec!["/bin/bash".to_owned(), "-l".to_owned()], 2);
        check(vec!["x".repeat(ARGV_BYTES_MAX)], 0);
        check(vec!["x".to_owned(), "x".repeat(ARGV_BYTES_MAX), "x".to_owned()], 1);
        check(vec![String::new(); 100_000], ARGV_BYTES_MAX);
    }
}
