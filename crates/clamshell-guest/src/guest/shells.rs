//! All shells: starting, attaching, following, resizing, ending, listing.

use std::{
    collections::{BTreeMap, btree_map},
    os::fd::{AsFd, BorrowedFd},
};

use clamshell_protocol::{
    Access, AttachFrom, ErrorCode, Exit, FRAME_PAYLOAD_BYTES_MAX, Frame, Reply, ShellInfo, ShellOpened,
    ShellSpec,
};
use clamshell_term::{
    log::{LogMeta, LogReader, LogWriter, MetaExit, is_shell_id},
    screen::LazyScreen,
};
use rustix::process::Signal;

use super::{
    Guest,
    buffer::{Queue, Tail},
    clock,
    commands::error_code,
    connection::{Attachment, LINGER_MS, Role, Stage},
    poll::{Token, Watch},
    shell::{DRAIN_BYTES_MAX, DRAIN_SILENCE_MS, Shell, give, terminal},
    spawn::{Program, spawn},
};

/// Ended shells that stay listed and keep their logs.
const ENDED_MAX: usize = 32;

/// An attachment that sent something within this time is alive: output waits for it rather than
/// being trimmed away in front of it.
const LIVE_MS: u64 = 5000;

/// Between SIGHUP and SIGKILL when a client or the detach limit ends a shell.
pub(super) const HANG_UP_GRACE_MS: u64 = 5000;

/// How often an ending or a kept shell is looked at.
const LOOK_EVERY_MS: u64 = 25;
const KEEP_LOOK_EVERY_MS: u64 = 5000;

/// Frames of output are at most this long.
const FRAME_BYTES: usize = 64 * 1024;

/// A shell that is over.
pub(super) struct Ended {
    meta: LogMeta,
    start_offset: u64,
    end_offset: u64,
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
    pub(super) fn attach(
        &mut self,
        id: u64,
        shell_id: &str,
        create: Option<&ShellSpec>,
        from: AttachFrom,
        access: Access,
    ) {
        if !is_shell_id(shell_id) {
            return self.refuse(id, ErrorCode::Invalid, "shell id is not allowed");
        }
        // Refused before anything is started: a refusal changes nothing.
        if let (AttachFrom::Offset(offset), false) = (from, self.running.contains_key(shell_id))
            && create.is_some()
            && offset > self.ended.get(shell_id).map_or(0, |ended| ended.end_offset)
        {
            return self.refuse(id, ErrorCode::OffsetOutOfRange, "the log is shorter");
        }
        let (serial, created) = match (self.running.get(shell_id).copied(), create) {
            (Some(serial), _) => (serial, false),
            (None, None) => return self.refuse(id, ErrorCode::NotFound, "no such running shell"),
            (None, Some(spec)) => match self.start_shell(shell_id, spec) {
                Ok(serial) => (serial, true),
                Err((code, message)) => return self.refuse(id, code, message),
            },
        };
        let Some(shell) = self.shells.get_mut(&serial) else { return };
        let (start, end) = (shell.log.start(), shell.log.end());
        let (cursor, stage) = match from {
            AttachFrom::Offset(offset) if offset > end => {
                return self.refuse(id, ErrorCode::OffsetOutOfRange, format!("the log ends at {end}"));
            }
            AttachFrom::Offset(offset) => (offset, Stage::CatchUp),
            AttachFrom::Tail(count) => {
                (end.saturating_sub(count).max(start).max(shell.run_offset), Stage::CatchUp)
            }
            AttachFrom::Screen => (end, Stage::AwaitScreen),
            AttachFrom::End => (end, Stage::CatchUp),
        };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.role = Role::Shell(Attachment {
            serial,
            access,
            cursor,
            attach_end: end,
            stage,
            created,
            resized: None,
            progress_ms: self.now_ms,
        });
        shell.attached.push(id);
        if access == Access::Write {
            shell.detached_at_ms = None;
            shell.end_detached_at_ms = None;
        }
        if stage == Stage::CatchUp {
            let opened = opened(shell, created, cursor, end);
            connection.push(&Frame::Reply(Box::new(Reply::Shell(opened))));
        }
        self.pump(id);
    }

    fn start_shell(&mut self, shell_id: &str, spec: &ShellSpec) -> Result<u64, (ErrorCode, String)> {
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
        let started = spawn(&Program {
            argv: &spec.argv,
            env: &spec.env,
            cwd: &spec.cwd,
            identity,
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
            // The environment may hold much and is not needed again.
            spec: ShellSpec { env: Vec::new(), ..spec.clone() },
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
            attached: Vec::new(),
            detached_at_ms: None,
            end_detached_at_ms: None,
            kill_at_ms: None,
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

    pub(super) fn detach(&mut self, id: u64, attachment: &Attachment) {
        let Some(shell) = self.shells.get_mut(&attachment.serial) else { return };
        shell.attached.retain(|attached| *attached != id);
        let writers = writers(&self.connections, &shell.attached);
        if attachment.access == Access::Write && writers == 0 {
            note_detached(shell, self.now_ms);
        }
        if shell.is_over() && shell.attached.is_empty() {
            self.forget_shell(attachment.serial);
        } else {
            self.resume_reading(attachment.serial);
        }
    }

    pub(super) fn shell_ready(&mut self, serial: u64, readable: bool, writable: bool) {
        if writable {
            self.flush_shell_input(serial);
            // Those that were held back may go on; most never were.
            let attached = self.shells.get(&serial).map(|shell| shell.attached.clone()).unwrap_or_default();
            for id in attached {
                self.take_frames(id);
                self.update_interest(id);
            }
        }
        if readable {
            self.read_shell(serial);
        }
    }

    fn read_shell(&mut self, serial: u64) {
        if self.must_stall(serial) {
            return;
        }
        let mut scratch = self.scratch();
        let mut filled = 0;
        if let Some(shell) = self.shells.get_mut(&serial)
            && let Some(master) = &shell.master
            && shell.unlogged.is_empty()
        {
            // The kernel gives at most a page at a time.
            let most = shell.read_bytes();
            while filled < most {
                match master.read(&mut scratch[filled..most]) {
                    Ok(Some(0)) | Err(_) => {
                        shell.drained = true;
                        break;
                    }
                    Ok(Some(count)) => filled += count,
                    Ok(None) => break,
                }
            }
            if filled > 0 {
                shell.store(&scratch[..filled], self.now_ms);
                if shell.exit.is_some() {
                    shell.drained_bytes += filled;
                    shell.drain_until_ms = Some(self.now_ms + DRAIN_SILENCE_MS);
                }
            }
            shell.update_interest();
        }
        self.scratch = scratch;
        if filled > 0 {
            self.pump_attached(serial);
        }
        self.finish_shell_when_drained(serial);
    }

    /// Whether reading more would trim away what a live attachment has not been sent.
    fn must_stall(&mut self, serial: u64) -> bool {
        let Some(shell) = self.shells.get_mut(&serial) else { return true };
        let start = shell.log.start_after(shell.read_bytes() as u64);
        shell.stalled_until_ms = None;
        if start > shell.log.start() {
            shell.stalled_until_ms = shell
                .attached
                .iter()
                .filter_map(|id| match self.connections.get(id).map(|connection| &connection.role) {
                    Some(Role::Shell(attachment)) if attachment.cursor < start => {
                        Some(attachment.progress_ms + LIVE_MS)
                    }
                    _ => None,
                })
                .filter(|until| *until > self.now_ms)
                .max();
        }
        shell.update_interest();
        shell.stalled_until_ms.is_some()
    }

    fn resume_reading(&mut self, serial: u64) {
        if self.shells.get(&serial).is_some_and(|shell| shell.stalled_until_ms.is_some()) {
            self.must_stall(serial);
        }
    }

    fn pump_attached(&mut self, serial: u64) {
        let attached = self.shells.get(&serial).map(|shell| shell.attached.clone()).unwrap_or_default();
        for id in attached {
            self.pump_attachment(id);
        }
    }

    /// Sends an attachment what its socket takes of what it has not seen.
    pub(super) fn pump_attachment(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Role::Shell(attachment) = &mut connection.role else { return };
        let serial = attachment.serial;
        let Some(shell) = self.shells.get_mut(&serial) else { return self.drop_connection(id) };
        let mut broken = false;
        loop {
            match connection.out.flush(&connection.watch) {
                Ok(0) => {}
                Ok(_) => {
                    attachment.progress_ms = self.now_ms;
                    if connection.closing {
                        connection.deadline_ms = Some(self.now_ms + LINGER_MS);
                    }
                }
                Err(_) => broken = true,
            }
            if broken || !connection.out.is_empty() {
                break;
            }
            if attachment.stage != Stage::AwaitScreen && attachment.access == Access::Write {
                shell.seen_offset = shell.seen_offset.max(attachment.cursor);
            }
            if connection.closing {
                broken = true;
                break;
            }
            match next_frames(shell, attachment, connection.out.tail()) {
                Next::Queued => {}
                Next::Last => {
                    connection.closing = true;
                    connection.deadline_ms = Some(self.now_ms + LINGER_MS);
                }
                Next::Nothing => break,
            }
        }
        if broken {
            self.drop_connection(id);
        } else {
            self.update_interest(id);
        }
        self.resume_reading(serial);
    }

    pub(super) fn shell_input(&mut self, serial: u64, bytes: &[u8]) {
        if let Some(shell) = self.shells.get_mut(&serial).filter(|shell| shell.exit.is_none()) {
            shell.input.tail().extend_from_slice(bytes);
            self.flush_shell_input(serial);
        }
    }

    fn flush_shell_input(&mut self, serial: u64) {
        let Some(shell) = self.shells.get_mut(&serial) else { return };
        let Some(master) = &shell.master else { return };
        if shell.input.flush(master).is_err() {
            shell.input.clear();
        }
        shell.update_interest();
    }

    pub(super) fn resize_shell(&mut self, serial: u64, by: u64, cols: u16, rows: u16) {
        let Some(shell) = self.shells.get_mut(&serial) else { return };
        if (shell.cols, shell.rows) == (cols, rows) || shell.set_size(cols, rows).is_err() {
            return;
        }
        shell.cols = cols;
        shell.rows = rows;
        shell.log.record_resize(cols, rows, clock::calendar_ms());
        shell.screen.resize_at(shell.log.end(), cols, rows);
        let attached = shell.attached.clone();
        for id in attached.into_iter().filter(|id| *id != by) {
            if let Some(connection) = self.connections.get_mut(&id)
                && let Role::Shell(attachment) = &mut connection.role
            {
                attachment.resized = Some((cols, rows));
                self.pump_attachment(id);
            }
        }
    }

    /// Asks everything in the shell's session to end, and kills what is left after `grace_ms`.
    pub(super) fn hang_up(&mut self, serial: u64, grace_ms: u64) {
        let Some(shell) = self.shells.get_mut(&serial) else { return };
        let kill_at_ms = self.now_ms.saturating_add(grace_ms);
        shell.kill_at_ms = Some(shell.kill_at_ms.map_or(kill_at_ms, |before| before.min(kill_at_ms)));
        let pid = shell.pid;
        self.processes.signal_tree(pid, Signal::HUP);
        // A stopped program would not see it.
        self.processes.signal_tree(pid, Signal::CONT);
    }

    pub(super) fn shell_exited(&mut self, serial: u64, exit: Exit) {
        let Some(shell) = self.shells.get_mut(&serial) else { return };
        shell.exit = Some(exit);
        shell.input.clear();
        // Without ours, the terminal tells when the last program has left it.
        shell.slave = None;
        shell.drain_until_ms = Some(self.now_ms + DRAIN_SILENCE_MS);
        self.read_shell(serial);
    }

    fn finish_shell_when_drained(&mut self, serial: u64) {
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
        shell.kill_at_ms = None;
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

    fn forget_shell(&mut self, serial: u64) {
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

    fn awaited_screen(&self, shell: &Shell) -> Option<u64> {
        shell
            .attached
            .iter()
            .filter_map(|id| match self.connections.get(id).map(|connection| &connection.role) {
                Some(Role::Shell(attachment)) if attachment.stage == Stage::AwaitScreen => {
                    Some(attachment.attach_end)
                }
                _ => None,
            })
            .min()
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
        let screen = shell.screen_due(self.awaited_screen(shell).is_some(), self.now_ms);
        [ending, drain, screen, shell.retry_log_at_ms, shell.stalled_until_ms, shell.end_detached_at_ms]
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
            && shell.kill_at_ms.is_some_and(|at| at <= now_ms)
        {
            shell.kill_at_ms = Some(now_ms + LOOK_EVERY_MS);
            let pid = shell.pid;
            self.processes.kill_tree(pid);
        }
        self.feed_screen_when_due(serial);
        self.finish_shell_when_drained(serial);
    }

    fn feed_screen_when_due(&mut self, serial: u64) {
        let Some(shell) = self.shells.get(&serial) else { return };
        let awaited = self.awaited_screen(shell);
        if shell.screen_due(awaited.is_some(), self.now_ms).is_none_or(|at| at > self.now_ms)
            && awaited.is_none()
        {
            return;
        }
        let until = awaited.unwrap_or(shell.log.end());
        if let Some(shell) = self.shells.get_mut(&serial) {
            shell.feed_screen(until);
        }
        if awaited.is_some() {
            self.pump_attached(serial);
        }
    }
}

fn writers(connections: &BTreeMap<u64, super::Connection>, attached: &[u64]) -> u32 {
    let is_writer = |id: &&u64| {
        matches!(connections.get(id).map(|connection| &connection.role),
            Some(Role::Shell(attachment)) if attachment.access == Access::Write)
    };
    u32::try_from(attached.iter().filter(is_writer).count()).unwrap_or(u32::MAX)
}

fn note_detached(shell: &mut Shell, now_ms: u64) {
    shell.detached_at_ms = Some(clock::calendar_ms());
    shell.end_detached_at_ms = shell.spec.detached_timeout_ms.map(|timeout| now_ms.saturating_add(timeout));
}

fn opened(shell: &Shell, created: bool, from_offset: u64, end_offset: u64) -> ShellOpened {
    let start_offset = shell.log.start();
    ShellOpened {
        created,
        run_offset: shell.run_offset,
        start_offset,
        end_offset,
        from_offset: from_offset.max(start_offset),
        seen_offset: shell.seen_offset,
        cols: shell.cols,
        rows: shell.rows,
    }
}

enum Next {
    Queued,
    Last,
    Nothing,
}

/// Queues what comes next for an attachment whose queue is empty.
fn next_frames(shell: &mut Shell, attachment: &mut Attachment, out: &mut Vec<u8>) -> Next {
    if attachment.stage == Stage::AwaitScreen {
        if shell.screen.offset() < attachment.attach_end.max(shell.log.start()) && !shell.is_over() {
            return Next::Nothing;
        }
        // A shell that ended meanwhile is caught up with in one go: it is the last time.
        while shell.screen.offset() < shell.log.end() && shell.is_over() {
            shell.feed_screen(u64::MAX);
        }
        let offset = shell.screen.offset();
        let opened = opened(shell, attachment.created, offset, shell.log.end());
        Frame::Reply(Box::new(Reply::Shell(opened))).encode(out);
        let bytes = shell.screen.dump(FRAME_PAYLOAD_BYTES_MAX - 64);
        Frame::Screen { offset, bytes }.encode(out);
        attachment.cursor = offset;
        attachment.attach_end = offset;
        attachment.stage = Stage::CatchUp;
        return Next::Queued;
    }
    if let Some((cols, rows)) = attachment.resized.take() {
        Frame::Resized { cols, rows }.encode(out);
        return Next::Queued;
    }
    if attachment.stage == Stage::CatchUp && attachment.cursor >= attachment.attach_end {
        attachment.stage = Stage::Live;
        Frame::CaughtUp { offset: attachment.cursor }.encode(out);
        return Next::Queued;
    }
    let end = if attachment.stage == Stage::CatchUp { attachment.attach_end } else { shell.log.end() };
    if attachment.cursor >= end {
        return match shell.exit {
            Some(exit) if shell.is_over() => {
                Frame::Exit(exit).encode(out);
                Next::Last
            }
            _ => Next::Nothing,
        };
    }
    let start = shell.log.start();
    if attachment.cursor < start {
        Frame::Gap { from: attachment.cursor, to: start }.encode(out);
        attachment.cursor = start;
        return Next::Queued;
    }
    let length = usize::try_from(end - attachment.cursor).unwrap_or(usize::MAX).min(FRAME_BYTES);
    let header = |length: usize| Frame::output_header(attachment.cursor, u32::try_from(length).unwrap_or(0));
    if let Some((first, second)) = shell.tail.from(attachment.cursor) {
        let first = &first[..length.min(first.len())];
        let second = &second[..length - first.len()];
        out.extend_from_slice(&header(length));
        out.extend_from_slice(first);
        out.extend_from_slice(second);
        attachment.cursor += length as u64;
        return Next::Queued;
    }
    let mut bytes = vec![0; length];
    match shell.log.read_at(attachment.cursor, &mut bytes) {
        Ok(count) if count > 0 => {
            out.extend_from_slice(&header(count));
            out.extend_from_slice(&bytes[..count]);
            attachment.cursor += count as u64;
        }
        // Trimmed by the next run of the same shell id, or unreadable: say so rather than wait.
        _ => {
            Frame::Gap { from: attachment.cursor, to: end }.encode(out);
            attachment.cursor = end;
        }
    }
    Next::Queued
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
