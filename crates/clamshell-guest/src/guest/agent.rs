//! The hosted agent: one program, started once in a guest's life, whose output goes to a log like a shell's.
//!
//! Standard output and standard error become one stream of lines: a line of one is not cut by a line of the other, as long
//! as it is ended soon and not longer than the buffer. The agent never waits for its log: a full disk or a slow reader
//! costs bytes of the log and not the agent's time.

use std::{
    collections::BTreeSet,
    os::{fd::AsFd, unix::fs::DirBuilderExt},
    path::Path,
};

use clamshell_protocol::{AgentInfo, AgentSpec, ErrorCode, Exit, Reply};
use clamshell_term::log::{LogMeta, LogWriter, MetaExit};
use rustix::{
    fs::{OFlags, Uid, fchown, fcntl_getfl, fcntl_setfl},
    pipe::{PipeFlags, pipe_with},
};

use super::{
    Guest, READ_BYTES,
    buffer::Tail,
    clock,
    commands::error_code,
    identity,
    poll::{Token, Watch},
    process,
    spawn::{Program, spawn},
};

/// Longest line kept back until its end comes: what a pipe holds.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// Longest time that a line is kept back: a prompt or a row of dots is shown although it has no end yet.
const LINE_PATIENCE_MS: u64 = 1000;

/// After the agent ended, so much silence of what it left behind means that all it wrote has been read.
const DRAIN_SILENCE_MS: u64 = 100;

/// And so many bytes mean that it is another program that writes: no pipe holds more.
const DRAIN_BYTES_MAX: usize = 1 << 20;

/// Numbers of signals that there are.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

/// Which of the agent's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// One of the agent's outputs.
struct Source {
    /// `None` when it has ended.
    watch: Option<Watch>,
    line: Line,
}

/// The beginning of a line whose end has not come.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    /// Shown by then, whole or not.
    show_at_ms: Option<u64>,
}

impl Line {
    /// Adds output; what is to be shown now goes to `show`.
    fn push(&mut self, bytes: &[u8], now_ms: u64, mut show: impl FnMut(&[u8])) {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (whole, begun) = bytes.split_at(whole);
        if !whole.is_empty() {
            if self.bytes.is_empty() {
                show(whole);
            } else {
                self.bytes.extend_from_slice(whole);
                self.show(&mut show);
            }
        }
        self.bytes.extend_from_slice(begun);
        if self.bytes.len() >= LINE_BYTES_MAX {
            self.show(&mut show);
        } else if !self.bytes.is_empty() {
            self.show_at_ms.get_or_insert(now_ms + LINE_PATIENCE_MS);
        }
    }

    fn show(&mut self, mut show: impl FnMut(&[u8])) {
        if !self.bytes.is_empty() {
            show(&self.bytes);
        }
        self.bytes = Vec::new();
        self.show_at_ms = None;
    }
}

pub(super) struct Agent {
    pid: i32,
    argv: Vec<String>,
    started_at_ms: u64,
    run_offset: u64,
    stop_signal: i32,
    stdout: Source,
    stderr: Source,
    pub(super) output: Output,
    exit: Option<Exit>,
    ended_at_ms: Option<u64>,
    /// The log is complete.
    over: bool,
    silent_at_ms: Option<u64>,
    drained_bytes: usize,
    /// Connections that follow the log.
    pub(super) followers: Vec<u64>,
}

/// What the agent printed.
pub(super) struct Output {
    pub(super) log: LogWriter,
    pub(super) tail: Tail,
    last_at_ms: u64,
}

impl Output {
    fn store(&mut self, bytes: &[u8]) {
        self.last_at_ms = clock::calendar_ms();
        let written = match self.log.append(bytes, self.last_at_ms) {
            Ok(()) => bytes.len(),
            // The disk is full or broken; the agent has requests to answer.
            Err(error) => error.written,
        };
        self.tail.push(&bytes[..written]);
    }
}

impl Agent {
    pub(super) fn is_running(&self, pid: i32) -> bool {
        self.pid == pid && self.exit.is_none()
    }

    /// How it ended, once its log is complete.
    pub(super) fn end(&self) -> Option<Exit> {
        self.exit.filter(|_| self.over)
    }

    pub(super) fn info(&self) -> AgentInfo {
        AgentInfo {
            pid: u32::try_from(self.pid).unwrap_or(0),
            started_at_ms: self.started_at_ms,
            start_offset: self.output.log.start(),
            run_offset: self.run_offset,
            end_offset: self.output.log.end(),
            exit: self.end(),
        }
    }

    pub(super) fn next_timer(&self) -> Option<u64> {
        let silent = self.silent_at_ms.filter(|_| !self.over);
        [silent, self.stdout.line.show_at_ms, self.stderr.line.show_at_ms].into_iter().flatten().min()
    }

    fn source(&mut self, stream: Stream) -> (&mut Source, &mut Output) {
        match stream {
            Stream::Stdout => (&mut self.stdout, &mut self.output),
            Stream::Stderr => (&mut self.stderr, &mut self.output),
        }
    }

    fn write_meta(&self) {
        let meta = LogMeta {
            argv: self.argv.clone(),
            pid: u32::try_from(self.pid).unwrap_or(0),
            created_at_ms: self.started_at_ms,
            run_offset: self.run_offset,
            cols: 0,
            rows: 0,
            keep: false,
            exit: self.exit.map(|exit| MetaExit { code: exit.code, signal: exit.signal }),
            ended_at_ms: self.ended_at_ms,
            last_output_at_ms: self.output.last_at_ms,
        };
        let _ = self.output.log.write_meta(&meta);
    }
}

impl Guest {
    pub(super) fn start_agent(&mut self, id: u64, spec: &AgentSpec) {
        if self.agent.is_none() {
            match self.launch_agent(spec) {
                Ok(agent) => self.agent = Some(agent),
                Err((code, message)) => return self.refuse(id, code, message),
            }
        }
        self.show_agent(id);
    }

    pub(super) fn show_agent(&mut self, id: u64) {
        match &self.agent {
            Some(agent) => {
                let info = agent.info();
                self.reply(id, Reply::Agent(info));
            }
            None => self.refuse(id, ErrorCode::NotFound, "no agent was started"),
        }
    }

    fn launch_agent(&self, spec: &AgentSpec) -> Result<Agent, (ErrorCode, String)> {
        let invalid = |reason: &str| (ErrorCode::Invalid, reason.to_owned());
        let internal = |what: &str, error: &dyn std::fmt::Display| {
            (ErrorCode::Internal, format!("cannot {what}: {error}"))
        };
        let stop_signal = spec.stop_signal.unwrap_or(libc::SIGTERM);
        if !SIGNALS.contains(&stop_signal) {
            return Err(invalid("there is no such stop signal"));
        }
        let file = |path: &str| {
            identity::account_file(Path::new(path)).map_err(|error| internal("read the accounts", &error))
        };
        let account = identity::resolve(&spec.user, &file("/etc/passwd")?, &file("/etc/group")?)
            .map_err(|error| (ErrorCode::Invalid, error.to_string()))?;
        let mut env = spec.env.clone();
        if !env.iter().any(|(name, _)| name == "HOME") {
            env.push(("HOME".to_owned(), account.home));
        }
        let cwd = if spec.cwd.is_empty() { "/" } else { &spec.cwd };
        if !cwd.starts_with('/') || cwd.contains('\0') {
            return Err(invalid("the working directory is not absolute"));
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(cwd).map_err(|error| {
            (ErrorCode::SpawnFailed, format!("cannot make the working directory: {error}"))
        })?;
        let mut log = LogWriter::open_agent(self.shells_dir.as_fd(), spec.log_bytes_max)
            .map_err(|error| internal("open the log", &error))?;
        let pipe = |token| {
            let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
            // Our end only: a program that finds its output non-blocking misbehaves.
            fcntl_setfl(&ours, fcntl_getfl(&ours)? | OFlags::NONBLOCK)?;
            Ok::<_, rustix::io::Errno>((Watch::new(ours, &self.poller, token), theirs))
        };
        let pipes = pipe(Token::AgentOutput).and_then(|stdout| Ok((stdout, pipe(Token::AgentError)?)));
        let ((stdout, stdout_theirs), (stderr, stderr_theirs)) =
            pipes.map_err(|errno| internal("make pipes", &errno))?;
        let becomes = self.config.switch_user.then_some((account.uid, account.gid));
        if let Some((uid, _)) = becomes {
            // Programs open `/dev/stdout` anew, for which they need a right to it.
            for pipe in [&stdout_theirs, &stderr_theirs] {
                let _ = fchown(pipe, Some(Uid::from_raw(uid)), None);
            }
        }
        let pid = spawn(&Program {
            argv: &spec.argv,
            env: &env,
            cwd,
            identity: becomes,
            groups: &account.groups,
            stdio: [self.dev_null.as_fd(), stdout_theirs.as_fd(), stderr_theirs.as_fd()],
            terminal: false,
            adopts_orphans: false,
        })
        .map_err(|error| (error_code(&error), error.to_string()))?;
        let started_at_ms = clock::calendar_ms();
        let run_offset = log.end();
        log.record_start(0, 0, started_at_ms);
        let source = |watch: Watch| {
            watch.want(true, false);
            Source { watch: Some(watch), line: Line::default() }
        };
        let agent = Agent {
            pid,
            argv: spec.argv.clone(),
            started_at_ms,
            run_offset,
            stop_signal,
            stdout: source(stdout),
            stderr: source(stderr),
            output: Output { tail: Tail::new(run_offset), log, last_at_ms: started_at_ms },
            exit: None,
            ended_at_ms: None,
            over: false,
            silent_at_ms: None,
            drained_bytes: 0,
            followers: Vec::new(),
        };
        agent.write_meta();
        Ok(agent)
    }

    pub(super) fn read_agent(&mut self, stream: Stream) {
        let mut scratch = self.scratch();
        let now_ms = self.now_ms;
        if let Some(agent) = &mut self.agent {
            let exited = agent.exit.is_some();
            let (source, output) = agent.source(stream);
            let mut filled = 0;
            // No more than this at once, however fast it writes: then others have their turn.
            while let Some(watch) = &source.watch
                && filled < READ_BYTES
            {
                match watch.read(&mut scratch[filled..]) {
                    Ok(Some(0)) | Err(_) => source.watch = None,
                    Ok(Some(count)) => filled += count,
                    Ok(None) => break,
                }
            }
            source.line.push(&scratch[..filled], now_ms, |bytes| output.store(bytes));
            if source.watch.is_none() {
                source.line.show(|bytes| output.store(bytes));
            }
            if exited && filled > 0 {
                agent.drained_bytes += filled;
                agent.silent_at_ms = Some(now_ms + DRAIN_SILENCE_MS);
            }
        }
        self.scratch = scratch;
        self.pump_followers();
        self.finish_agent_when_drained();
    }

    pub(super) fn agent_exited(&mut self, exit: Exit) {
        let Some(agent) = &mut self.agent else { return };
        agent.exit = Some(exit);
        agent.silent_at_ms = Some(self.now_ms + DRAIN_SILENCE_MS);
        self.read_agent(Stream::Stdout);
        self.read_agent(Stream::Stderr);
        if self.shutdown.is_some() {
            // What it left behind has not been asked yet.
            self.ask_to_end(&BTreeSet::new());
        }
    }

    fn finish_agent_when_drained(&mut self) {
        let Some(agent) = &self.agent else { return };
        if agent.exit.is_none() || agent.over {
            return;
        }
        let ended = agent.stdout.watch.is_none() && agent.stderr.watch.is_none();
        let silent = agent.silent_at_ms.is_some_and(|at| at <= self.now_ms);
        if ended || silent || agent.drained_bytes > DRAIN_BYTES_MAX {
            self.finish_agent();
        }
    }

    /// The log is complete: record the end and tell those who follow.
    fn finish_agent(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (source, output) = agent.source(stream);
            source.watch = None;
            source.line.show(|bytes| output.store(bytes));
        }
        let killed = Exit { code: 128 + libc::SIGKILL, signal: Some(libc::SIGKILL), timed_out: false };
        agent.exit.get_or_insert(killed);
        let calendar_ms = clock::calendar_ms();
        agent.ended_at_ms = Some(calendar_ms);
        agent.over = true;
        agent.output.log.record_end(calendar_ms);
        agent.output.log.flush();
        agent.write_meta();
        self.pump_followers();
    }

    pub(super) fn run_agent_timers(&mut self) {
        let now_ms = self.now_ms;
        let Some(agent) = &mut self.agent else { return };
        if agent.next_timer().is_none_or(|at| at > now_ms) {
            return;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            let (source, output) = agent.source(stream);
            if source.line.show_at_ms.is_some_and(|at| at <= now_ms) {
                source.line.show(|bytes| output.store(bytes));
            }
        }
        self.pump_followers();
        self.finish_agent_when_drained();
    }

    /// The agent and what belongs to it, while it runs.
    pub(super) fn agent_tree(&self) -> BTreeSet<i32> {
        match &self.agent {
            Some(agent) if agent.exit.is_none() => self.processes.tree(agent.pid),
            _ => BTreeSet::new(),
        }
    }

    /// Sends the agent its stop signal; those who are to be left alone until it has ended.
    pub(super) fn ask_agent_to_end(&self) -> BTreeSet<i32> {
        let Some(agent) = self.agent.as_ref().filter(|agent| agent.exit.is_none()) else {
            return BTreeSet::new();
        };
        process::send_number(agent.pid, agent.stop_signal);
        // A stopped program would not see it.
        process::send_number(agent.pid, libc::SIGCONT);
        self.processes.tree(agent.pid)
    }

    pub(super) fn finish_agent_at_shutdown(&mut self) {
        // What a dead program left in its pipes is far less than so many reads.
        for _ in 0..16 {
            if self.agent.as_ref().is_some_and(|agent| !agent.over) {
                self.read_agent(Stream::Stdout);
                self.read_agent(Stream::Stderr);
            }
        }
        if self.agent.as_ref().is_some_and(|agent| !agent.over) {
            self.finish_agent();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_shown_whole_unless_they_are_long_or_late() {
        let mut line = Line::default();
        let mut push = |bytes: &[u8], now_ms| {
            let mut shown = Vec::new();
            line.push(bytes, now_ms, |bytes| shown.extend_from_slice(bytes));
            (shown, line.bytes.len(), line.show_at_ms)
        };
        assert_eq!(push(b"one\ntwo\n", 0), (b"one\ntwo\n".to_vec(), 0, None));
        assert_eq!(push(b"thr", 10), (Vec::new(), 3, Some(1010)));
        assert_eq!(push(b"ee", 20), (Vec::new(), 5, Some(1010)), "since its first byte");
        assert_eq!(push(b"\nfour\nfi", 30), (b"three\nfour\n".to_vec(), 2, Some(1030)));
        let (shown, kept, _) = push(&vec![b'x'; LINE_BYTES_MAX - 3], 40);
        assert_eq!((shown.len(), kept), (0, LINE_BYTES_MAX - 1));
        let (shown, kept, at) = push(b"xy", 50);
        assert_eq!((shown.len(), kept, at), (LINE_BYTES_MAX + 1, 0, None));
    }
}
