//! All shells: starting, ending, listing. What flows through them is in `shell_traffic.rs`.

use std::{
    collections::{BTreeMap, btree_map},
    os::fd::{AsFd, BorrowedFd},
};

use clamshell_protocol::{Access, ErrorCode, Exit, Reply, ShellInfo, ShellSpec};
use clamshell_term::{
    answers::Answers,
    log::{LogMeta, LogReader, LogWriter, MetaExit},
    screen::LazyScreen,
};
use rustix::process::Signal;

use super::{
    Guest,
    buffer::{Queue, Tail},
    clock,
    commands::error_code,
    connection::Role,
    poll::{Token, Watch},
    secrets::SecretFolder,
    shell::{DRAIN_BYTES_MAX, DRAIN_SILENCE_MS, Shell, give, terminal},
    spawn::{Program, spawn},
};

/// Ended shells that stay listed and keep their logs.
const ENDED_MAX: usize = 32;

/// Between SIGHUP and SIGKILL when a client or the detach limit ends a shell.
pub(super) const HANG_UP_GRACE_MS: u64 = 5000;

/// A hang-up that comes between a shell's look at its signals and its wait for input stays unnoticed until something
/// wakes it (bash does this). So it comes again, once.
pub(super) const HANG_UP_AGAIN_MS: u64 = 250;

/// How often an ending or a kept shell is looked at.
const LOOK_EVERY_MS: u64 = 25;
const KEEP_LOOK_EVERY_MS: u64 = 5000;

/// A shell that is over.
pub(super) struct Ended {
    meta: LogMeta,
    start_offset: u64,
    pub(super) end_offset: u64,
}

/// What earlier guests of this session left. One that has no exit was killed with its sandbox.
pub(super) fn recover(shells: BorrowedFd<'_>) -> BTreeMap<String, Ended> {
    let mut ended = BTreeMap::new();
    for shell_id in LogReader::list_at(shells).unwrap_or_default() {
        let Ok(reader) = LogReader::open_at(shells, &shell_id) else { continue };
        let (Ok(mut meta), Ok((start_offset, end_offset))) = (reader.meta(), reader.extent()) else {
            continue;
        };
        if meta.exit.is_none() {
            meta.exit = Some(MetaExit { code: 128 + libc::SIGKILL, signal: Some(libc::SIGKILL) });
            meta.ended_at_ms.get_or_insert(meta.last_output_at_ms.max(meta.created_at_ms));
        }
        ended.insert(shell_id, Ended { meta, start_offset, end_offset });
    }
    ended
}

impl Guest {
    pub(super) fn start_shell(
        &mut self,
        shell_id: &str,
        spec: &ShellSpec,
    ) -> Result<u64, (ErrorCode, String)> {
        if self.running.len() >= spec.shells_max as usize {
            return Err((ErrorCode::TooManyShells, format!("{} shells are running", self.running.len())));
        }
        if spec.cols == 0 || spec.rows == 0 {
            return Err((ErrorCode::Invalid, "a terminal has at least one column and row".to_owned()));
        }
        let (master, slave) = terminal(self.dev_pts.as_ref(), spec.cols, spec.rows)
            .map_err(|errno| (ErrorCode::Internal, format!("cannot make a terminal: {errno}")))?;
        let mut log = LogWriter::open(self.shells_dir.as_fd(), shell_id, spec.log_bytes_max)
            .map_err(|error| (ErrorCode::Internal, format!("cannot open the log: {error}")))?;
        let identity = self.identity(spec.user);
        if let Some((uid, _)) = identity {
            give(&slave, uid);
        }
        let mut env = spec.env.clone();
        let secrets = if spec.secrets.is_empty() {
            None
        } else {
            let made = SecretFolder::make(&self.config.secrets_dir, shell_id, identity, &spec.secrets);
            let folder = made.map_err(|reason| (ErrorCode::SpawnFailed, format!("secrets: {reason}")))?;
            env.push(("CLAMSHELL_SECRETS".to_owned(), folder.path().to_owned()));
            Some(folder)
        };
        let started = spawn(&Program {
            argv: &spec.argv,
            env: &env,
            cwd: &spec.cwd,
            identity,
            groups: &[],
            stdio: [slave.as_fd(); 3],
            terminal: true,
            adopts_orphans: false,
        });
        let pid = match started {
            Ok(pid) => pid,
            Err(error) => {
                if log.end() == 0 && !self.ended.contains_key(shell_id) {
                    let _ = LogWriter::remove(self.shells_dir.as_fd(), shell_id);
                }
                return Err((error_code(&error), error.to_string()));
            }
        };
        let serial = self.fresh_id();
        let calendar_ms = clock::calendar_ms();
        let end = log.end();
        log.record_start(spec.cols, spec.rows, calendar_ms);
        let mut shell = Shell {
            shell_id: shell_id.to_owned(),
            pid,
            // The environment may hold much and is not needed again; nor are secrets.
            spec: ShellSpec { env: Vec::new(), secrets: Vec::new(), ..spec.clone() },
            secrets,
            master: Some(Watch::new(master, &self.poller, Token::Shell(serial))),
            slave: Some(slave),
            tail: Tail::new(end),
            screen: LazyScreen::new(end, spec.cols, spec.rows),
            log,
            unlogged: Vec::new(),
            retry_log_at_ms: None,
            input: Queue::default(),
            cols: spec.cols,
            rows: spec.rows,
            created_at_ms: calendar_ms,
            run_offset: end,
            last_output_at_ms: calendar_ms,
            last_output_ms: self.now_ms,
            seen_offset: end,
            dropped_bytes: 0,
            attached: Vec::new(),
            answers: Answers::new(),
            detached_at_ms: None,
            end_detached_at_ms: None,
            kill_at_ms: None,
            hang_up_at_ms: None,
            exit: None,
            ended_at_ms: None,
            drain_until_ms: None,
            drained_bytes: 0,
            drained: false,
            stalled_until_ms: None,
        };
        note_detached(&mut shell, self.now_ms);
        let _ = shell.log.write_meta(&shell.meta());
        shell.update_interest();
        self.shells.insert(serial, shell);
        self.running.insert(shell_id.to_owned(), serial);
        self.ended.remove(shell_id);
        Ok(serial)
    }

    /// Asks everything in the shell's session to end, and kills what is left after `grace_ms`.
    pub(super) fn hang_up(&mut self, serial: u64, grace_ms: u64) {
        let Some(shell) = self.shells.get_mut(&serial) else { return };
        let kill_at_ms = self.now_ms.saturating_add(grace_ms);
        shell.kill_at_ms = Some(shell.kill_at_ms.map_or(kill_at_ms, |before| before.min(kill_at_ms)));
        shell.hang_up_at_ms = Some(self.now_ms + HANG_UP_AGAIN_MS);
        let pid = shell.pid;
        self.processes.signal_tree(pid, Signal::HUP);
        // A stopped program would not see it.
        self.processes.signal_tree(pid, Signal::CONT);
    }

    pub(super) fn shell_exited(&mut self, serial: u64, exit: Exit) {
        let Some(shell) = self.shells.get_mut(&serial) else { return };
        shell.exit = Some(exit);
        shell.secrets = None;
        shell.input.clear();
        // Without ours, the terminal tells when the last program has left it.
        shell.slave = None;
        shell.drain_until_ms = Some(self.now_ms + DRAIN_SILENCE_MS);
        self.read_shell(serial);
    }

    pub(super) fn finish_shell_when_drained(&mut self, serial: u64) {
        let Some(shell) = self.shells.get(&serial) else { return };
        if shell.exit.is_none() || shell.is_over() || !shell.unlogged.is_empty() {
            return;
        }
        let silent =
            shell.stalled_until_ms.is_none() && shell.drain_until_ms.is_some_and(|at| at <= self.now_ms);
        if !(shell.drained || silent || shell.drained_bytes > DRAIN_BYTES_MAX) {
            return;
        }
        if let Some(kill_at_ms) = shell.kill_at_ms {
            // It was asked to end: then all of it.
            let pid = shell.pid;
            if self.now_ms >= kill_at_ms {
                self.processes.kill_tree(pid);
            } else if !self.processes.tree(pid).is_empty() {
                return;
            }
        }
        self.finish_shell(serial);
    }

    /// The log is complete: record the end, tell those attached, and let go of the terminal.
    pub(super) fn finish_shell(&mut self, serial: u64) {
        let Some(shell) = self.shells.get_mut(&serial) else { return };
        let killed = Exit { code: 128 + libc::SIGKILL, signal: Some(libc::SIGKILL), timed_out: false };
        shell.exit.get_or_insert(killed);
        let calendar_ms = clock::calendar_ms();
        shell.ended_at_ms = Some(calendar_ms);
        shell.master = None;
        shell.slave = None;
        shell.secrets = None;
        shell.kill_at_ms = None;
        shell.hang_up_at_ms = None;
        shell.end_detached_at_ms = None;
        shell.log.record_end(calendar_ms);
        shell.log.flush();
        let meta = shell.meta();
        let _ = shell.log.write_meta(&meta);
        let ended = Ended { meta, start_offset: shell.log.start(), end_offset: shell.log.end() };
        let shell_id = shell.shell_id.clone();
        let unattached = shell.attached.is_empty();
        self.running.remove(&shell_id);
        self.ended.insert(shell_id, ended);
        self.pump_attached(serial);
        if unattached {
            self.forget_shell(serial);
        }
        let waiting: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| matches!(connection.role, Role::AwaitEnd(awaited) if awaited == serial))
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.reply(id, Reply::Done);
        }
        self.forget_oldest_ended();
    }

    pub(super) fn forget_shell(&mut self, serial: u64) {
        if self.shells.remove(&serial).is_some() {
            // A screen of many small cells was freed; without this its pages stay with the guest.
            // SAFETY: gives free pages back; no pointer is involved.
            let _ = unsafe { libc::malloc_trim(0) };
        }
    }

    pub(super) fn forget_oldest_ended(&mut self) {
        while self.ended.len() > ENDED_MAX {
            let oldest =
                self.ended.iter().min_by_key(|(_, ended)| ended.meta.ended_at_ms).map(|(id, _)| id.clone());
            let Some(shell_id) = oldest else { return };
            self.ended.remove(&shell_id);
            let _ = LogWriter::remove(self.shells_dir.as_fd(), &shell_id);
        }
    }

    pub(super) fn list_shells(&self) -> Vec<ShellInfo> {
        let mut all: BTreeMap<&String, ShellInfo> =
            self.ended.iter().map(|(shell_id, ended)| (shell_id, ended.info(shell_id))).collect();
        for (shell_id, serial) in &self.running {
            let Some(shell) = self.shells.get(serial) else { continue };
            let info = self.info(shell);
            match all.entry(shell_id) {
                btree_map::Entry::Vacant(entry) => drop(entry.insert(info)),
                btree_map::Entry::Occupied(mut entry) => drop(entry.insert(info)),
            }
        }
        all.into_values().collect()
    }

    fn info(&self, shell: &Shell) -> ShellInfo {
        let writers = writers(&self.connections, &shell.attached);
        let attached = u32::try_from(shell.attached.len()).unwrap_or(u32::MAX);
        ShellInfo {
            shell_id: shell.shell_id.clone(),
            pid: u32::try_from(shell.pid).unwrap_or(0),
            argv: shell.spec.argv.clone(),
            cols: shell.cols,
            rows: shell.rows,
            created_at_ms: shell.created_at_ms,
            last_output_at_ms: shell.last_output_at_ms,
            start_offset: shell.log.start(),
            run_offset: shell.run_offset,
            end_offset: shell.log.end(),
            writers,
            watchers: attached.saturating_sub(writers),
            detached_at_ms: shell.detached_at_ms,
            keep: shell.spec.keep,
            // Listed as running until its log is complete.
            exit: None,
        }
    }

    /// When the shell next needs a look although nothing happens.
    pub(super) fn shell_timer(&self, shell: &Shell) -> Option<u64> {
        let ending =
            shell.kill_at_ms.map(|at| if shell.exit.is_some() { self.now_ms + LOOK_EVERY_MS } else { at });
        let can_finish = !shell.is_over()
            && shell.kill_at_ms.is_none()
            && shell.stalled_until_ms.is_none()
            && shell.unlogged.is_empty();
        let drain = shell.drain_until_ms.filter(|_| can_finish);
        let again = shell.hang_up_at_ms.filter(|_| shell.exit.is_none());
        let screen = shell.screen_due(self.awaited_screen(shell).is_some(), self.now_ms);
        [
            ending,
            again,
            drain,
            screen,
            shell.retry_log_at_ms,
            shell.stalled_until_ms,
            shell.end_detached_at_ms,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn run_shell_timers(&mut self) {
        let due: Vec<u64> = self
            .shells
            .iter()
            .filter(|(_, shell)| self.shell_timer(shell).is_some_and(|at| at <= self.now_ms))
            .map(|(serial, _)| *serial)
            .collect();
        // Those whose program is ending need their look even before a deadline.
        let ending =
            self.shells.iter().filter(|(_, shell)| shell.kill_at_ms.is_some() && shell.exit.is_some());
        let ending: Vec<u64> = ending.map(|(serial, _)| *serial).collect();
        for serial in due {
            self.run_shell_timer(serial);
        }
        for serial in ending {
            self.finish_shell_when_drained(serial);
        }
    }

    fn run_shell_timer(&mut self, serial: u64) {
        let now_ms = self.now_ms;
        let Some(shell) = self.shells.get_mut(&serial) else { return };
        if shell.retry_log_at_ms.is_some_and(|at| at <= now_ms) {
            let bytes = std::mem::take(&mut shell.unlogged);
            shell.store(&bytes, now_ms);
            shell.update_interest();
            self.pump_attached(serial);
        }
        if let Some(shell) = self.shells.get(&serial)
            && shell.stalled_until_ms.is_some_and(|at| at <= now_ms)
        {
            self.must_stall(serial);
        }
        if let Some(shell) = self.shells.get_mut(&serial)
            && shell.end_detached_at_ms.is_some_and(|at| at <= now_ms)
        {
            if shell.spec.keep && shell.has_foreground_program() {
                shell.end_detached_at_ms = Some(now_ms + KEEP_LOOK_EVERY_MS);
            } else {
                shell.end_detached_at_ms = None;
                self.hang_up(serial, HANG_UP_GRACE_MS);
            }
        }
        if let Some(shell) = self.shells.get_mut(&serial)
            && shell.exit.is_none()
            && shell.hang_up_at_ms.is_some_and(|at| at <= now_ms)
        {
            shell.hang_up_at_ms = None;
            let pid = shell.pid;
            self.processes.signal_tree(pid, Signal::HUP);
        }
        if let Some(shell) = self.shells.get_mut(&serial)
            && shell.exit.is_none()
            && shell.kill_at_ms.is_some_and(|at| at <= now_ms)
        {
            shell.kill_at_ms = Some(now_ms + LOOK_EVERY_MS);
            let pid = shell.pid;
            self.processes.kill_tree(pid);
        }
        self.feed_screen_when_due(serial);
        self.finish_shell_when_drained(serial);
    }
}

pub(super) fn writers(connections: &BTreeMap<u64, super::Connection>, attached: &[u64]) -> u32 {
    let is_writer = |id: &&u64| {
        matches!(connections.get(id).map(|connection| &connection.role),
            Some(Role::Shell(attachment)) if attachment.access == Access::Write)
    };
    u32::try_from(attached.iter().filter(is_writer).count()).unwrap_or(u32::MAX)
}

pub(super) fn note_detached(shell: &mut Shell, now_ms: u64) {
    shell.detached_at_ms = Some(clock::calendar_ms());
    shell.end_detached_at_ms = shell.spec.detached_timeout_ms.map(|timeout| now_ms.saturating_add(timeout));
}

impl Ended {
    fn info(&self, shell_id: &str) -> ShellInfo {
        let meta = &self.meta;
        ShellInfo {
            shell_id: shell_id.to_owned(),
            pid: meta.pid,
            argv: meta.argv.clone(),
            cols: meta.cols,
            rows: meta.rows,
            created_at_ms: meta.created_at_ms,
            last_output_at_ms: meta.last_output_at_ms,
            start_offset: self.start_offset,
            run_offset: meta.run_offset,
            end_offset: self.end_offset,
            writers: 0,
            watchers: 0,
            detached_at_ms: None,
            keep: meta.keep,
            exit: meta.exit.map(|exit| Exit { code: exit.code, signal: exit.signal, timed_out: false }),
        }
    }
}
