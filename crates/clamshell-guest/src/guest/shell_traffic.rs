//! What flows through a shell: output from its terminal to log, screen and attachments, input and sizes to it.

use std::time::Duration;

use super::{
    Guest,
    attachments::positions,
    clock,
    connection::{Role, Stage},
    shell::{DRAIN_SILENCE_MS, Shell},
};

/// So many bytes at once mean that a program writes as fast as it can: the kernel hands out a terminal's output by the
/// page, less one byte.
const FLOOD_BYTES: usize = 4095;

/// How long such a program is let ahead: it fills what the terminal buffers in about this time.
const NAP: Duration = Duration::from_micros(150);

/// Naps per turn. The guest serves nobody else meanwhile, so together they stay below what a person at another
/// shell could notice.
const NAPS_MAX: u32 = 3;

/// An attachment that sent something within this time is alive: output waits for it rather than
/// being trimmed away in front of it.
const LIVE_MS: u64 = 5000;

impl Guest {
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

    pub(super) fn read_shell(&mut self, serial: u64) {
        if self.must_stall(serial) {
            return;
        }
        let mut scratch = self.scratch();
        let mut filled = 0;
        let mut naps = 0;
        let mut filled_before_nap = 0;
        if let Some(shell) = self.shells.get_mut(&serial)
            && let Some(master) = &shell.master
            && shell.unlogged.is_empty()
        {
            // The kernel gives at most a page at a time; a rest of less than that would only be a short frame more.
            let most = shell.read_bytes();
            while filled == 0 || filled + FLOOD_BYTES <= most {
                match master.read(&mut scratch[filled..most]) {
                    Ok(Some(0)) | Err(_) => {
                        shell.drained = true;
                        break;
                    }
                    Ok(Some(count)) => filled += count,
                    // A program that writes as fast as it can is let ahead for a moment: one large
                    // piece costs every process on its way far less than sixteen small ones.
                    Ok(None) if filled >= FLOOD_BYTES && filled > filled_before_nap && naps < NAPS_MAX => {
                        naps += 1;
                        filled_before_nap = filled;
                        clock::nap(NAP);
                    }
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

    /// Whether reading more would trim away what a live attachment has not been sent, or run ahead of every writer
    /// that asked to be kept up with.
    pub(super) fn must_stall(&mut self, serial: u64) -> bool {
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
        let ahead = self.ahead_until_ms(serial);
        let Some(shell) = self.shells.get_mut(&serial) else { return true };
        shell.stalled_until_ms = shell.stalled_until_ms.max(ahead);
        shell.update_interest();
        shell.stalled_until_ms.is_some()
    }

    /// Until when output waits for writers that asked for it: while each of them that is alive is too far behind.
    /// The fastest one counts, so a slow second screen slows nobody down.
    fn ahead_until_ms(&self, serial: u64) -> Option<u64> {
        let shell = self.shells.get(&serial)?;
        let end = shell.log.end();
        let mut until = None;
        for id in &shell.attached {
            let Some(Role::Shell(attachment)) = self.connections.get(id).map(|connection| &connection.role)
            else {
                continue;
            };
            let Some(most) = attachment.lead_bytes_max else { continue };
            let alive_until = attachment.progress_ms + LIVE_MS;
            if alive_until <= self.now_ms {
                continue;
            }
            if end.saturating_sub(attachment.cursor) <= most {
                return None;
            }
            until = until.max(Some(alive_until));
        }
        until
    }

    pub(super) fn resume_reading(&mut self, serial: u64) {
        if self.shells.get(&serial).is_some_and(|shell| shell.stalled_until_ms.is_some()) {
            self.must_stall(serial);
        }
    }

    pub(super) fn shell_input(&mut self, serial: u64, by: u64, bytes: &[u8]) {
        if let Some(shell) = self.shells.get_mut(&serial).filter(|shell| shell.exit.is_none()) {
            shell.input.tail().extend_from_slice(bytes);
            shell.answers.typed(by, positions(&self.connections));
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

    pub(super) fn awaited_screen(&self, shell: &Shell) -> Option<u64> {
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

    pub(super) fn feed_screen_when_due(&mut self, serial: u64) {
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
