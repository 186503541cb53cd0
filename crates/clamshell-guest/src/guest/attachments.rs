//! Attachments: cursors into a shell's log, each at its own speed.
//!
//! A slow one costs the others nothing: it is sent from the log when its socket takes more.

use std::collections::BTreeMap;

use clamshell_protocol::{
    Access, AttachFrom, ErrorCode, FRAME_PAYLOAD_BYTES_MAX, Frame, Reply, ShellOpened, ShellSpec,
};
use clamshell_term::{
    answers::Turn,
    log::{LogWriter, is_shell_id},
};

use super::{
    Guest,
    buffer::Tail,
    connection::{Attachment, Connection, OUTPUT_LINGER_MS, Role, Stage},
    shell::Shell,
    shells::{note_detached, writers},
};

/// Frames of output are at most this long: with the channel byte in front, one message to a client.
const FRAME_BYTES: usize = 64 * 1024 - 1;

/// What an attachment may do, and what it wants.
pub(super) struct Manner {
    pub(super) access: Access,
    pub(super) lead_bytes_max: Option<u64>,
    pub(super) answers_when_told: bool,
}

impl Guest {
    pub(super) fn attach(
        &mut self,
        id: u64,
        shell_id: &str,
        create: Option<&ShellSpec>,
        from: AttachFrom,
        manner: Manner,
    ) {
        let Manner { access, lead_bytes_max, answers_when_told } = manner;
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
            for_tail: matches!(from, AttachFrom::Tail(_)),
            progress_ms: self.now_ms,
            lead_bytes_max: lead_bytes_max.filter(|_| access == Access::Write),
            answers_when_told: answers_when_told && access == Access::Write,
        });
        shell.attached.push(id);
        if access == Access::Write {
            shell.detached_at_ms = None;
            shell.end_detached_at_ms = None;
        }
        // Told below, in the offsets of the answer.
        let skipped = access == Access::Write && matches!(from, AttachFrom::Tail(_)) && !created;
        if skipped {
            shell.dropped_bytes += cursor.saturating_sub(shell.seen_offset.max(shell.run_offset));
        }
        if stage == Stage::CatchUp {
            let opened = opened(shell, created, answers_when_told, cursor, end);
            connection.push(&Frame::Reply(Box::new(Reply::Shell(opened))));
        }
        if access == Access::Write {
            // What came before it was answered, or nobody waits for the answer any more.
            let position_of = positions(&self.connections);
            shell.answers.join(id, answers_when_told, end, position_of);
        }
        if skipped {
            // Counted once, even if this client never reads the answer.
            shell.seen_offset = shell.seen_offset.max(cursor);
        }
        self.pump(id);
    }

    pub(super) fn detach(&mut self, id: u64, attachment: &Attachment) {
        let Some(shell) = self.shells.get_mut(&attachment.serial) else { return };
        shell.attached.retain(|attached| *attached != id);
        shell.answers.leave(id, attachment.cursor, positions(&self.connections));
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

    pub(super) fn pump_attached(&mut self, serial: u64) {
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
        let (mut broken, mut over) = (false, false);
        loop {
            match connection.out.flush(&connection.watch) {
                Ok(0) => {}
                Ok(_) => {
                    attachment.progress_ms = self.now_ms;
                    if connection.closing {
                        connection.deadline_ms = Some(self.now_ms + OUTPUT_LINGER_MS);
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
                over = true;
                break;
            }
            match next_frames(id, shell, attachment, connection.out.tail()) {
                Next::Queued => {}
                Next::Last => {
                    connection.closing = true;
                    connection.deadline_ms = Some(self.now_ms + OUTPUT_LINGER_MS);
                }
                Next::Nothing => break,
            }
        }
        if broken {
            self.take_last_words(id);
        } else if over {
            self.drop_connection(id);
        } else {
            self.update_interest(id);
        }
        self.resume_reading(serial);
    }
}

/// Where each attachment is.
pub(super) fn positions(connections: &BTreeMap<u64, Connection>) -> impl Fn(u64) -> u64 {
    |id| match connections.get(&id).map(|connection| &connection.role) {
        Some(Role::Shell(attachment)) => attachment.cursor,
        _ => 0,
    }
}

fn opened(
    shell: &Shell,
    created: bool,
    tells_answers: bool,
    from_offset: u64,
    end_offset: u64,
) -> ShellOpened {
    let start_offset = shell.log.start();
    ShellOpened {
        created,
        run_offset: shell.run_offset,
        start_offset,
        end_offset,
        from_offset: from_offset.max(start_offset),
        seen_offset: shell.seen_offset,
        dropped_bytes: shell.dropped_bytes,
        cols: shell.cols,
        rows: shell.rows,
        tells_answers,
    }
}

enum Next {
    Queued,
    Last,
    Nothing,
}

/// Queues what comes next for an attachment whose queue is empty.
fn next_frames(id: u64, shell: &mut Shell, attachment: &mut Attachment, out: &mut Vec<u8>) -> Next {
    if attachment.stage == Stage::AwaitScreen {
        if shell.screen.offset() < attachment.attach_end.max(shell.log.start()) && !shell.is_over() {
            return Next::Nothing;
        }
        // A shell that ended meanwhile is caught up with in one go: it is the last time.
        while shell.screen.offset() < shell.log.end() && shell.is_over() {
            shell.feed_screen(u64::MAX);
        }
        let offset = shell.screen.offset();
        let opened = opened(shell, attachment.created, attachment.answers_when_told, offset, shell.log.end());
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
    let end = match shell.answers.next(id, attachment.cursor) {
        Turn::News(answers) => {
            Frame::Answers(answers).encode(out);
            return Next::Queued;
        }
        Turn::Until(until) => until.min(end),
        Turn::Output => end,
    };
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
        gap(shell, attachment, start, out);
        return Next::Queued;
    }
    match output(&shell.tail, &mut shell.log, attachment.cursor, end, out) {
        Some(count) => attachment.cursor += count,
        // Trimmed by the next run of the same shell id, or unreadable: say so rather than wait.
        None => gap(shell, attachment, end, out),
    }
    Next::Queued
}

/// Queues a frame of output from `cursor` on, which lies before `end`; how many bytes it has, or `None` when they cannot
/// be had any more.
pub(super) fn output(
    tail: &Tail,
    log: &mut LogWriter,
    cursor: u64,
    end: u64,
    out: &mut Vec<u8>,
) -> Option<u64> {
    let length = usize::try_from(end - cursor).unwrap_or(usize::MAX).min(FRAME_BYTES);
    let header = |length: usize| Frame::output_header(cursor, u32::try_from(length).unwrap_or(0));
    if let Some((first, second)) = tail.from(cursor) {
        let first = &first[..length.min(first.len())];
        let second = &second[..length - first.len()];
        out.extend_from_slice(&header(length));
        out.extend_from_slice(first);
        out.extend_from_slice(second);
        return Some(length as u64);
    }
    let mut bytes = vec![0; length];
    let count = log.read_at(cursor, &mut bytes).ok().filter(|count| *count > 0)?;
    out.extend_from_slice(&header(count));
    out.extend_from_slice(&bytes[..count]);
    Some(count as u64)
}

/// Queues the news that an attachment goes on at `to`.
fn gap(shell: &mut Shell, attachment: &mut Attachment, to: u64, out: &mut Vec<u8>) {
    let from = attachment.cursor;
    Frame::Gap { from, to }.encode(out);
    if attachment.access == Access::Write {
        shell.count_gap(from, to, attachment.for_tail);
    }
    attachment.cursor = to;
}
