//! One shell: a program at a terminal, its log, its screen, and the bytes on their way.

use std::os::fd::{AsFd, OwnedFd};

use clamshell_protocol::{Exit, ShellSpec};
use clamshell_term::{
    answers::Answers,
    log::{LogMeta, LogWriter, MetaExit},
    screen::LazyScreen,
};
use rustix::{
    fs::{Mode, OFlags, Uid, fchmod, fchown, openat},
    io::Errno,
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, ptsname, unlockpt},
    termios::{Winsize, tcgetpgrp, tcsetwinsize},
};

use super::{
    READ_BYTES,
    buffer::{Queue, Tail},
    clock,
    poll::Watch,
    secrets::SecretFolder,
};

/// How far the screen model may fall behind before it is fed although the program is busy: what
/// attaching to the screen may have to catch up. Text is skipped through in milliseconds, anything else
/// fed in a fraction of a second.
pub(super) const SCREEN_LAG_BYTES_MAX: u64 = 4 << 20;

/// Silence after which the screen model is fed: the program has drawn what it wanted to draw.
pub(super) const SCREEN_IDLE_MS: u64 = 100;

/// After the program ended a background child may keep the terminal open; so much silence means that
/// all the program wrote has been read.
pub(super) const DRAIN_SILENCE_MS: u64 = 100;

/// And so many bytes mean that it is the child that writes: no terminal buffers more.
pub(super) const DRAIN_BYTES_MAX: usize = 1 << 20;

pub(super) struct Shell {
    pub(super) shell_id: String,
    pub(super) pid: i32,
    pub(super) spec: ShellSpec,
    /// Gone with the program.
    pub(super) secrets: Option<SecretFolder>,
    /// `None` when the shell is over.
    pub(super) master: Option<Watch>,
    /// Kept open while the program runs, so that a moment without any program at the terminal is not
    /// its end.
    pub(super) slave: Option<OwnedFd>,
    pub(super) log: LogWriter,
    pub(super) tail: Tail,
    /// Output that the disk did not take; nothing is read until it does.
    pub(super) unlogged: Vec<u8>,
    pub(super) retry_log_at_ms: Option<u64>,
    pub(super) screen: LazyScreen,
    pub(super) input: Queue,
    pub(super) cols: u16,
    pub(super) rows: u16,
    pub(super) created_at_ms: u64,
    pub(super) run_offset: u64,
    pub(super) last_output_at_ms: u64,
    pub(super) last_output_ms: u64,
    pub(super) seen_offset: u64,
    /// See [`clamshell_protocol::ShellOpened::dropped_bytes`].
    pub(super) dropped_bytes: u64,
    /// Connections attached, writers and watchers.
    pub(super) attached: Vec<u64>,
    /// Which of the writers answers what the program asks the terminal.
    pub(super) answers: Answers,
    pub(super) detached_at_ms: Option<u64>,
    pub(super) end_detached_at_ms: Option<u64>,
    /// Being ended: SIGKILL comes then.
    pub(super) kill_at_ms: Option<u64>,
    /// Being ended: the hang-up is repeated then.
    pub(super) hang_up_at_ms: Option<u64>,
    pub(super) exit: Option<Exit>,
    pub(super) ended_at_ms: Option<u64>,
    pub(super) drain_until_ms: Option<u64>,
    pub(super) drained_bytes: usize,
    /// The terminal has ended: nobody has it open any more.
    pub(super) drained: bool,
    /// Waiting for a slow but live reader, at most until then.
    pub(super) stalled_until_ms: Option<u64>,
}

impl Shell {
    pub(super) fn is_running(&self, pid: i32) -> bool {
        self.pid == pid && self.exit.is_none()
    }

    /// Whether the log is complete and the exit known.
    pub(super) fn is_over(&self) -> bool {
        self.master.is_none()
    }

    /// Bytes read at once: in a small log so few that what was just sent is not trimmed by them.
    pub(super) fn read_bytes(&self) -> usize {
        usize::try_from(self.log.append_bytes_max()).unwrap_or(READ_BYTES).min(READ_BYTES)
    }

    pub(super) fn meta(&self) -> LogMeta {
        LogMeta {
            argv: self.spec.argv.clone(),
            pid: u32::try_from(self.pid).unwrap_or(0),
            created_at_ms: self.created_at_ms,
            run_offset: self.run_offset,
            cols: self.cols,
            rows: self.rows,
            keep: self.spec.keep,
            exit: self.exit.map(|exit| MetaExit { code: exit.code, signal: exit.signal }),
            ended_at_ms: self.ended_at_ms,
            last_output_at_ms: self.last_output_at_ms,
        }
    }

    /// Reads only when what is read can be stored and no live reader would lose what it replaces.
    pub(super) fn update_interest(&self) {
        if let Some(master) = &self.master {
            let read = !self.drained && self.unlogged.is_empty() && self.stalled_until_ms.is_none();
            master.want(read, !self.input.is_empty());
        }
    }

    /// Stores output in the log, and only then in what attachments and screen see.
    pub(super) fn store(&mut self, bytes: &[u8], now_ms: u64) {
        let calendar_ms = clock::calendar_ms();
        let written = match self.log.append(bytes, calendar_ms) {
            Ok(()) => {
                self.retry_log_at_ms = None;
                bytes.len()
            }
            Err(error) => {
                // The disk is full or broken. The program waits in its write; nothing is lost.
                self.unlogged = bytes[error.written..].to_vec();
                self.retry_log_at_ms = Some(now_ms + 1000);
                error.written
            }
        };
        self.tail.push(&bytes[..written]);
        self.last_output_at_ms = calendar_ms;
        self.last_output_ms = now_ms;
    }

    /// Counts a gap that a writing attachment was told of. One that came for the tail counts all of it, as the server
    /// does for its client; another one may have asked for what was seen long ago.
    pub(super) fn count_gap(&mut self, from: u64, to: u64, for_tail: bool) {
        let from = if for_tail { from } else { from.max(self.seen_offset).max(self.run_offset) };
        self.dropped_bytes += to.saturating_sub(from);
        // Told is as good as seen: the next attachment does not count it again.
        self.seen_offset = self.seen_offset.max(to);
    }

    /// Whether the screen model should be fed now; if not, when.
    pub(super) fn screen_due(&self, awaited: bool, now_ms: u64) -> Option<u64> {
        let lag = self.log.end() - self.screen.offset();
        if lag == 0 || self.is_over() {
            None
        } else if awaited || lag > SCREEN_LAG_BYTES_MAX {
            Some(now_ms)
        } else {
            Some(self.last_output_ms + SCREEN_IDLE_MS)
        }
    }

    /// Feeds the screen model one slice, not beyond `until`.
    pub(super) fn feed_screen(&mut self, until: u64) {
        let until = until.min(self.log.end());
        let start = self.log.start();
        if self.screen.offset() < start {
            self.screen.restart_at(start);
        }
        let log = &mut self.log;
        if self.screen.catch_up(until, |offset, buffer| log.read_at(offset, buffer)).is_err() {
            self.screen.restart_at(until);
        }
    }

    /// Whether a program other than the shell's own has the terminal.
    pub(super) fn has_foreground_program(&self) -> bool {
        let foreground = self.master.as_ref().and_then(|master| tcgetpgrp(master.as_fd()).ok());
        foreground.is_some_and(|group| group.as_raw_nonzero().get() != self.pid)
    }

    pub(super) fn set_size(&self, cols: u16, rows: u16) -> rustix::io::Result<()> {
        match &self.master {
            Some(master) => tcsetwinsize(master.as_fd(), window(cols, rows)),
            None => Err(Errno::BADF),
        }
    }
}

fn window(cols: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 }
}

/// Makes a terminal of this size: the master, non-blocking, and the slave.
pub(super) fn terminal(dev_pts: Option<&OwnedFd>, cols: u16, rows: u16) -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    // By the descriptor opened at the start, so that nothing put at /dev/ptmx later is ever opened.
    let inside = dev_pts.and_then(|dir| {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        openat(dir, "ptmx", flags, Mode::empty()).ok()
    });
    let master = match inside {
        Some(master) => master,
        None => openpt(flags)?,
    };
    unlockpt(&master)?;
    let slave = match ioctl_tiocgptpeer(&master, flags) {
        // gVisor does not know the call. Its `/dev/pts` holds terminals and nothing that a program could put there.
        Err(Errno::NOTTY) => {
            let path = ptsname(&master, Vec::new())?;
            let name = path.to_bytes().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            openat(dev_pts.ok_or(Errno::NOTTY)?, name, flags, Mode::empty())?
        }
        opened => opened?,
    };
    tcsetwinsize(&master, window(cols, rows))?;
    rustix::io::ioctl_fionbio(&master, true)?;
    Ok((master, slave))
}

/// Lets a user open the terminal by its name, as `tmux`, `ssh` and `gpg` do. Where the guest may not,
/// they fail and the rest works.
pub(super) fn give(slave: &OwnedFd, uid: u32) {
    let _ = fchown(slave, Some(Uid::from_raw(uid)), None);
    let _ = fchmod(slave, Mode::RUSR | Mode::WUSR | Mode::WGRP);
}
