//! Connections of the server: reading frames, writing answers, and when to stop either.

use std::{os::fd::AsFd, time::Duration};

use clamshell_protocol::{Access, Decoder, ErrorCode, Frame, Reply, WireError};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{SocketFlags, accept_with},
};

use super::{
    Guest,
    agent_log::Follower,
    buffer::Queue,
    connect::Dial,
    poll::{Token, Watch},
};

/// Connections at once: one per command and several per shell, with room.
const CONNECTIONS_MAX: usize = 256;

/// Connections accepted per wake; the rest wait in the listener's queue.
const ACCEPTS_PER_WAKE: usize = 16;

/// Time for the request to come. The server sends it in the same breath as it connects.
const REQUEST_WITHIN_MS: u64 = 10_000;

/// Time for the last answer to be taken by a server that stopped reading.
pub(super) const LINGER_MS: u64 = 30_000;

/// The same for the last output of a command or a shell: behind the server is a client that may pause as long as a
/// command may run, and the end of the output is what it waits for. The server gives up on it by its own clock, and then hangs up.
pub(super) const OUTPUT_LINGER_MS: u64 = 3_600_000;

/// Bytes queued for a shell's terminal or a command's standard input before the connection is not
/// read any more: more than one paste, little enough for ten shells.
pub(super) const INPUT_BYTES_MAX: usize = 1 << 20;

pub(super) struct Connection {
    pub(super) watch: Watch,
    pub(super) decoder: Decoder,
    /// Bounded by whoever pushes: a shell pushes when it is empty, a command below its limit.
    pub(super) out: Queue,
    pub(super) role: Role,
    /// Nothing more is read; ends when `out` is written.
    pub(super) closing: bool,
    pub(super) deadline_ms: Option<u64>,
}

/// What a connection is for, known from its request.
pub(super) enum Role {
    New,
    Command(u64),
    Shell(Attachment),
    /// Follows what the agent prints.
    AgentLog(Follower),
    /// Waits for a connection to a port.
    Dial(Dial),
    /// Waits until the shell is gone.
    AwaitEnd(u64),
    AwaitShutdown,
}

/// A cursor into a shell's log.
pub(super) struct Attachment {
    pub(super) serial: u64,
    pub(super) access: Access,
    /// Next offset to send.
    pub(super) cursor: u64,
    /// End of the log when it attached; the caught-up frame comes there.
    pub(super) attach_end: u64,
    pub(super) stage: Stage,
    /// Its request started the shell.
    pub(super) created: bool,
    /// Came for the newest bytes of the run.
    pub(super) for_tail: bool,
    /// Size to tell when what is queued is written; a newer one replaces it.
    pub(super) resized: Option<(u16, u16)>,
    /// When bytes last went out.
    pub(super) progress_ms: u64,
    /// How far output may be ahead of `cursor`; only a writer has one.
    pub(super) lead_bytes_max: Option<u64>,
    /// It answers what the program asks the terminal only while it is told to; only a writer is.
    pub(super) answers_when_told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The screen model is still behind `attach_end`; nothing was answered yet.
    AwaitScreen,
    /// Reading what was there at attach.
    CatchUp,
    Live,
}

impl Connection {
    pub(super) fn push(&mut self, frame: &Frame) {
        frame.encode(self.out.tail());
    }

    pub(super) fn awaits_shutdown(&self) -> bool {
        matches!(self.role, Role::AwaitShutdown)
    }

    /// Writes what is queued, waiting at most so long: for the last words before the guest ends.
    pub(super) fn flush_for(&mut self, patience: Duration) {
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(patience.subsec_nanos()) };
        while !self.out.is_empty() {
            let mut fds = [PollFd::from_borrowed_fd(self.watch.as_fd(), PollFlags::OUT)];
            if !matches!(poll(&mut fds, Some(&timeout)), Ok(1)) || self.out.flush(&self.watch).is_err() {
                return;
            }
        }
    }
}

impl Guest {
    pub(super) fn accept(&mut self) {
        for _ in 0..ACCEPTS_PER_WAKE {
            let Ok(fd) = accept_with(self.listener.as_fd(), SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
            else {
                return;
            };
            let id = self.fresh_id();
            let watch = Watch::new(fd, &self.poller, Token::Connection(id));
            let connection = Connection {
                watch,
                decoder: Decoder::new(),
                out: Queue::default(),
                role: Role::New,
                closing: false,
                deadline_ms: Some(self.now_ms + REQUEST_WITHIN_MS),
            };
            let full = self.connections.len() >= CONNECTIONS_MAX;
            self.connections.insert(id, connection);
            if full {
                self.refuse(id, ErrorCode::Busy, "too many connections");
                // Answered as far as the socket takes it; there is no room to keep it.
                self.drop_connection(id);
                continue;
            }
            // The request usually is already there.
            self.connection_ready(id, true, false);
        }
    }

    pub(super) fn connection_ready(&mut self, id: u64, readable: bool, writable: bool) {
        if readable && !self.is_paused(id) {
            let mut scratch = self.scratch();
            let read = match self.connections.get(&id) {
                Some(connection) if !connection.closing => connection.watch.read(&mut scratch),
                _ => Ok(None),
            };
            match read {
                Ok(Some(0)) | Err(_) => self.drop_connection(id),
                Ok(Some(count)) => {
                    if let Some(connection) = self.connections.get_mut(&id) {
                        connection.decoder.extend(&scratch[..count]);
                    }
                }
                Ok(None) => {}
            }
            self.scratch = scratch;
            self.take_frames(id);
        }
        if writable {
            self.pump(id);
        }
        self.update_interest(id);
    }

    /// Forgets a connection whose reader is gone, after acting on what it had sent: whoever types and hangs up at once
    /// has typed. The end of the stream bounds it, and so does a full queue.
    pub(super) fn take_last_words(&mut self, id: u64) {
        let mut scratch = self.scratch();
        while !self.is_paused(id) {
            match self.connections.get_mut(&id).map(|connection| connection.watch.read(&mut scratch)) {
                Some(Ok(Some(count))) if count > 0 => {
                    if let Some(connection) = self.connections.get_mut(&id) {
                        connection.decoder.extend(&scratch[..count]);
                    }
                    self.take_frames(id);
                }
                _ => break,
            }
        }
        self.scratch = scratch;
        self.drop_connection(id);
    }

    /// Acts on the frames that have come whole, until there is none or their target is full.
    pub(super) fn take_frames(&mut self, id: u64) {
        while !self.is_paused(id) {
            let Some(connection) = self.connections.get_mut(&id).filter(|connection| !connection.closing)
            else {
                return;
            };
            match connection.decoder.next_frame_to_guest() {
                Ok(Some(frame)) => self.take_frame(id, frame),
                Ok(None) => return,
                Err(_) => return self.drop_connection(id),
            }
        }
    }

    fn take_frame(&mut self, id: u64, frame: Frame) {
        let Some(connection) = self.connections.get(&id) else { return };
        match (&connection.role, frame) {
            (Role::New, Frame::Request(request)) => self.take_request(id, *request),
            (Role::Command(command), Frame::Input(bytes)) => self.command_input(*command, &bytes),
            (Role::Command(command), Frame::InputEnd) => self.command_input_end(*command),
            (Role::Command(command), Frame::Kill) => self.kill_command(*command),
            (Role::Shell(attachment), frame) if attachment.access == Access::Write => {
                let serial = attachment.serial;
                match frame {
                    Frame::Input(bytes) => self.shell_input(serial, id, &bytes),
                    Frame::Resize { cols, rows } => self.resize_shell(serial, id, cols, rows),
                    Frame::Kill => self.hang_up(serial, super::shells::HANG_UP_GRACE_MS),
                    _ => self.drop_connection(id),
                }
            }
            // One that only watches has nothing to say; what it says changes nothing.
            (Role::Shell(_), Frame::Input(_) | Frame::Resize { .. } | Frame::Kill) => {}
            _ => self.drop_connection(id),
        }
    }

    /// Whether what a connection sends has to wait because its target's queue is full.
    fn is_paused(&self, id: u64) -> bool {
        let queued = match self.connections.get(&id).map(|connection| &connection.role) {
            // What comes now is for the program.
            Some(Role::Dial(_)) => return true,
            Some(Role::Command(command)) => {
                self.commands.get(command).map_or(0, |command| command.input.len())
            }
            Some(Role::Shell(attachment)) => {
                self.shells.get(&attachment.serial).map_or(0, |shell| shell.input.len())
            }
            _ => 0,
        };
        queued >= INPUT_BYTES_MAX
    }

    pub(super) fn update_interest(&self, id: u64) {
        if let Some(connection) = self.connections.get(&id) {
            connection.watch.want(!connection.closing && !self.is_paused(id), !connection.out.is_empty());
        }
    }

    /// Moves bytes towards the server: what is queued, then whatever this connection follows.
    pub(super) fn pump(&mut self, id: u64) {
        match self.connections.get(&id).map(|connection| &connection.role) {
            Some(Role::Shell(_)) => self.pump_attachment(id),
            Some(Role::AgentLog(_)) => self.pump_follower(id),
            Some(Role::Command(command)) => {
                let command = *command;
                self.flush(id);
                self.update_command_interest(command);
            }
            Some(_) => self.flush(id),
            None => {}
        }
    }

    pub(super) fn flush(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let flushed = connection.out.flush(&connection.watch);
        let ended = flushed.is_err();
        if connection.closing && flushed.is_ok_and(|count| count > 0) {
            let linger_ms = match connection.role {
                Role::Command(_) | Role::Shell(_) | Role::AgentLog(_) => OUTPUT_LINGER_MS,
                Role::New | Role::Dial(_) | Role::AwaitEnd(_) | Role::AwaitShutdown => LINGER_MS,
            };
            connection.deadline_ms = Some(self.now_ms + linger_ms);
        }
        if ended || (connection.closing && connection.out.is_empty()) {
            self.drop_connection(id);
        } else {
            self.update_interest(id);
        }
    }

    /// Answers and says no more.
    pub(super) fn reply(&mut self, id: u64, reply: Reply) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.push(&Frame::Reply(Box::new(reply)));
            connection.closing = true;
            connection.deadline_ms = Some(self.now_ms + LINGER_MS);
            self.flush(id);
        }
    }

    pub(super) fn refuse(&mut self, id: u64, code: ErrorCode, message: impl Into<String>) {
        self.reply(id, Reply::Error(WireError { code, message: message.into() }));
    }

    /// Forgets a connection; what it was for goes on or ends as the request said.
    pub(super) fn drop_connection(&mut self, id: u64) {
        let Some(connection) = self.connections.remove(&id) else { return };
        match connection.role {
            Role::Command(command) => self.command_left(command),
            Role::Shell(attachment) => self.detach(id, &attachment),
            Role::AgentLog(_) => self.unfollow(id),
            Role::New | Role::Dial(_) | Role::AwaitEnd(_) | Role::AwaitShutdown => {}
        }
    }

    pub(super) fn run_connection_timers(&mut self) {
        let late: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.deadline_ms.is_some_and(|deadline| deadline <= self.now_ms))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            if matches!(self.connections.get(&id).map(|connection| &connection.role), Some(Role::Dial(_))) {
                self.give_up_dial(id);
            } else {
                self.drop_connection(id);
            }
        }
    }
}
