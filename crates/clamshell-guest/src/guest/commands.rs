//! Commands without a terminal: pipes in, pipes out, an exit code, and a tree of processes to kill.

use std::os::fd::{AsFd, OwnedFd};

use clamshell_protocol::{CommandSpec, ErrorCode, Exit, Frame, Reply};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    pipe::{PipeFlags, pipe_with},
};

use super::{
    Guest, READ_BYTES,
    buffer::Queue,
    connection::{OUTPUT_LINGER_MS, Role},
    poll::{Token, Watch},
    spawn::{Program, SpawnError, spawn},
};

/// Commands at once.
const COMMANDS_MAX: usize = 128;

/// Output queued for a slow reader before the pipes are not read any more: the program then blocks
/// in its own write, as it would on a slow terminal.
const OUT_BYTES_MAX: usize = 256 * 1024;

/// After the program ended a background child may keep the pipes open. What the program wrote is in
/// them already, so so much silence means that it has all been read.
const DRAIN_SILENCE_MS: u64 = 50;

/// And so many bytes mean that it is the child that writes: no pipe holds more.
const DRAIN_BYTES_MAX: usize = 1 << 20;

/// Which of a command's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

pub(super) struct Command {
    connection: Option<u64>,
    pid: i32,
    stdin: Option<Watch>,
    pub(super) input: Queue,
    input_ended: bool,
    stdout: Option<Watch>,
    stderr: Option<Watch>,
    deadline_ms: Option<u64>,
    timed_out: bool,
    keep_running: bool,
    exit: Option<Exit>,
    silent_at_ms: Option<u64>,
    drained_bytes: usize,
    /// The reader is slow: silence of the pipes means nothing.
    held_back: bool,
}

impl Command {
    pub(super) fn is_running(&self, pid: i32) -> bool {
        self.pid == pid && self.exit.is_none()
    }

    pub(super) fn next_timer(&self) -> Option<u64> {
        let silent = self.silent_at_ms.filter(|_| !self.held_back);
        let deadline = self.deadline_ms.filter(|_| self.exit.is_none());
        [silent, deadline].into_iter().flatten().min()
    }
}

struct Pipes {
    stdin: Option<(OwnedFd, OwnedFd)>,
    stdout: (OwnedFd, OwnedFd),
    stderr: (OwnedFd, OwnedFd),
}

impl Pipes {
    fn make(stdin: bool) -> rustix::io::Result<Self> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let pipes =
            Self { stdin: if stdin { Some(pipe()?) } else { None }, stdout: pipe()?, stderr: pipe()? };
        // Only our ends: a program that finds its output non-blocking misbehaves.
        let ours =
            [Some(&pipes.stdout.0), Some(&pipes.stderr.0), pipes.stdin.as_ref().map(|(_, write)| write)];
        for fd in ours.into_iter().flatten() {
            fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
        }
        Ok(pipes)
    }
}

impl Guest {
    pub(super) fn start_command(&mut self, connection_id: u64, spec: &CommandSpec) {
        if self.commands.len() >= COMMANDS_MAX {
            return self.refuse(connection_id, ErrorCode::Busy, "too many commands");
        }
        let pipes = match Pipes::make(spec.stdin) {
            Ok(pipes) => pipes,
            Err(errno) => {
                return self.refuse(
                    connection_id,
                    ErrorCode::Internal,
                    format!("cannot make pipes: {errno}"),
                );
            }
        };
        let started = spawn(&Program {
            argv: &spec.argv,
            env: &spec.env,
            cwd: &spec.cwd,
            identity: self.identity(spec.user),
            groups: &[],
            stdio: [
                pipes.stdin.as_ref().map_or(self.dev_null.as_fd(), |(read, _)| read.as_fd()),
                pipes.stdout.1.as_fd(),
                pipes.stderr.1.as_fd(),
            ],
            terminal: false,
            adopts_orphans: !spec.keep_running,
        });
        let pid = match started {
            Ok(pid) => pid,
            Err(error) => return self.refuse(connection_id, error_code(&error), error.to_string()),
        };
        let id = self.fresh_id();
        let watch = |fd, token| Watch::new(fd, &self.poller, token);
        let command = Command {
            connection: Some(connection_id),
            pid,
            stdin: pipes.stdin.map(|(_, write)| watch(write, Token::CommandInput(id))),
            input: Queue::default(),
            input_ended: false,
            stdout: Some(watch(pipes.stdout.0, Token::CommandOutput(id))),
            stderr: Some(watch(pipes.stderr.0, Token::CommandError(id))),
            deadline_ms: spec.timeout_ms.map(|timeout| self.now_ms.saturating_add(timeout)),
            timed_out: false,
            keep_running: spec.keep_running,
            exit: None,
            silent_at_ms: None,
            drained_bytes: 0,
            held_back: false,
        };
        self.commands.insert(id, command);
        if let Some(connection) = self.connections.get_mut(&connection_id) {
            connection.role = Role::Command(id);
            let pid = u32::try_from(pid).unwrap_or(0);
            connection.push(&Frame::Reply(Box::new(Reply::Started { pid })));
        }
        self.pump(connection_id);
    }

    /// Reads the pipes only while their reader keeps up.
    pub(super) fn update_command_interest(&mut self, id: u64) {
        let Some(command) = self.commands.get_mut(&id) else { return };
        let queued = command.connection.and_then(|id| self.connections.get(&id)).map_or(0, |c| c.out.len());
        let held_back = queued >= OUT_BYTES_MAX;
        if command.held_back && !held_back && command.exit.is_some() {
            command.silent_at_ms = Some(self.now_ms + DRAIN_SILENCE_MS);
        }
        command.held_back = held_back;
        for watch in [&command.stdout, &command.stderr].into_iter().flatten() {
            watch.want(!held_back, false);
        }
        if let Some(stdin) = &command.stdin {
            stdin.want(false, !command.input.is_empty());
        }
    }

    pub(super) fn read_command(&mut self, id: u64, stream: Stream) {
        let mut scratch = self.scratch();
        self.read_command_into(id, stream, &mut scratch);
        self.scratch = scratch;
        self.finish_command_when_drained(id);
    }

    fn read_command_into(&mut self, id: u64, stream: Stream, scratch: &mut [u8]) {
        let Some(command) = self.commands.get_mut(&id) else { return };
        let source = match stream {
            Stream::Stdout => &mut command.stdout,
            Stream::Stderr => &mut command.stderr,
        };
        let Some(watch) = source else { return };
        let mut filled = 0;
        // Read what is there in one go, up to one frame.
        while filled < READ_BYTES {
            match watch.read(&mut scratch[filled..]) {
                Ok(Some(0)) | Err(_) => {
                    *source = None;
                    break;
                }
                Ok(Some(count)) => filled += count,
                Ok(None) => break,
            }
        }
        if filled == 0 {
            return;
        }
        if command.exit.is_some() {
            command.drained_bytes += filled;
            command.silent_at_ms = Some(self.now_ms + DRAIN_SILENCE_MS);
        }
        let connection = command.connection;
        if let Some(connection) = connection.and_then(|id| self.connections.get_mut(&id)) {
            let bytes = scratch[..filled].to_vec();
            connection.push(&match stream {
                Stream::Stdout => Frame::Stdout(bytes),
                Stream::Stderr => Frame::Stderr(bytes),
            });
        }
        if let Some(connection) = connection {
            self.pump(connection);
        }
        self.update_command_interest(id);
    }

    pub(super) fn command_input(&mut self, id: u64, bytes: &[u8]) {
        if let Some(command) = self.commands.get_mut(&id).filter(|command| command.stdin.is_some()) {
            command.input.tail().extend_from_slice(bytes);
            self.flush_command_input(id);
        }
    }

    pub(super) fn command_input_end(&mut self, id: u64) {
        if let Some(command) = self.commands.get_mut(&id) {
            command.input_ended = true;
            self.flush_command_input(id);
        }
    }

    fn flush_command_input(&mut self, id: u64) {
        let Some(command) = self.commands.get_mut(&id) else { return };
        let Some(stdin) = &command.stdin else { return };
        // An error means that nobody reads; the program may still go on without it.
        let gone = command.input.flush(stdin).is_err();
        if gone {
            command.input.clear();
        }
        if gone || (command.input_ended && command.input.is_empty()) {
            command.stdin = None;
        }
        self.update_command_interest(id);
    }

    /// The pipe takes more; what was held back on the connection goes on.
    pub(super) fn command_input_ready(&mut self, id: u64) {
        self.flush_command_input(id);
        if let Some(connection) = self.commands.get(&id).and_then(|command| command.connection) {
            self.take_frames(connection);
            self.update_interest(connection);
        }
    }

    pub(super) fn kill_command(&mut self, id: u64) {
        if let Some(command) = self.commands.get(&id) {
            self.processes.kill_tree(command.pid);
        }
    }

    /// The server hung up.
    pub(super) fn command_left(&mut self, id: u64) {
        let Some(command) = self.commands.get_mut(&id) else { return };
        command.connection = None;
        command.input.clear();
        command.stdin = None;
        if command.exit.is_some() {
            self.commands.remove(&id);
        } else if !command.keep_running {
            command.stdout = None;
            command.stderr = None;
            let pid = command.pid;
            self.processes.kill_tree(pid);
        } else {
            self.update_command_interest(id);
        }
    }

    pub(super) fn command_exited(&mut self, id: u64, exit: Exit) {
        let Some(command) = self.commands.get_mut(&id) else { return };
        command.exit = Some(if command.timed_out {
            // However the tree died, it was our SIGKILL that ended it.
            Exit { code: 128 + libc::SIGKILL, signal: Some(libc::SIGKILL), timed_out: true }
        } else {
            exit
        });
        command.silent_at_ms = Some(self.now_ms + DRAIN_SILENCE_MS);
        command.stdin = None;
        command.input.clear();
        if !command.held_back {
            self.read_command(id, Stream::Stdout);
            self.read_command(id, Stream::Stderr);
        }
        self.finish_command_when_drained(id);
    }

    fn finish_command_when_drained(&mut self, id: u64) {
        let Some(command) = self.commands.get(&id) else { return };
        let Some(exit) = command.exit else { return };
        let silent = !command.held_back && command.silent_at_ms.is_some_and(|at| at <= self.now_ms);
        let ended = command.stdout.is_none() && command.stderr.is_none();
        if !(ended || silent || command.drained_bytes > DRAIN_BYTES_MAX) {
            return;
        }
        let connection_id = command.connection;
        self.commands.remove(&id);
        if let Some(connection_id) = connection_id
            && let Some(connection) = self.connections.get_mut(&connection_id)
        {
            connection.push(&Frame::Exit(exit));
            connection.closing = true;
            connection.deadline_ms = Some(self.now_ms + OUTPUT_LINGER_MS);
            self.pump(connection_id);
        }
    }

    pub(super) fn run_command_timers(&mut self) {
        let due: Vec<u64> = self
            .commands
            .iter()
            .filter(|(_, command)| command.next_timer().is_some_and(|at| at <= self.now_ms))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(command) = self.commands.get_mut(&id) else { continue };
            if command.exit.is_some() {
                self.finish_command_when_drained(id);
            } else {
                command.timed_out = true;
                // Tried again should a process have slipped through.
                command.deadline_ms = Some(self.now_ms + 100);
                self.kill_command(id);
            }
        }
    }
}

pub(super) fn error_code(error: &SpawnError) -> ErrorCode {
    match error {
        SpawnError::Invalid => ErrorCode::Invalid,
        SpawnError::System { .. } => ErrorCode::SpawnFailed,
    }
}
