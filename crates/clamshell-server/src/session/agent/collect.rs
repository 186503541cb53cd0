//! Carries what an agent prints from its sandbox into the runtime's log, each line once, across ends of this server.

use std::{sync::Arc, time::Duration};

use clamshell_protocol::{Exit, Frame};
use clamshell_term::log::LogReader;
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use super::lines::Lines;
use crate::{
    guest::{GuestConnection, GuestError},
    logs::SessionLog,
    session::{Compute, Session},
};

/// Bytes written per second and session, beyond which an agent that floods its log loses the oldest in the sandbox: the
/// disk and the processors are everybody's.
const BYTES_PER_SECOND: u64 = 8 << 20;

/// Pause before a guest is asked again that broke off.
const PAUSE: Duration = Duration::from_millis(500);

/// Bytes read at once from the log that an ended sandbox has left.
const PIECE_BYTES: usize = 64 * 1024;

/// Pieces of it that are read: more than any guest keeps.
const PIECES_MAX: usize = 2048;

pub(super) struct Collector {
    pub(super) session: Arc<Session>,
    pub(super) compute: Compute,
    pub(super) log: Arc<SessionLog>,
    pub(super) shutdown: CancellationToken,
    /// How much may be written until when.
    pub(super) second: (Instant, u64),
}

enum Followed {
    Exited(Exit),
    /// The guest hung up, perhaps with its sandbox.
    Broken,
    ShuttingDown,
}

impl Collector {
    /// Runs until the agent's output has ended, or the server does: the next one goes on.
    pub(super) async fn run(mut self, exited: oneshot::Sender<Exit>) {
        loop {
            match self.follow().await {
                Ok(Followed::Exited(exit)) => {
                    let _ = exited.send(exit);
                    return;
                }
                Ok(Followed::ShuttingDown) => return,
                Ok(Followed::Broken) => {}
                Err(error) => tracing::debug!(%error, "an agent's output cannot be followed"),
            }
            if self.compute.ended.is_cancelled() {
                return self.read_what_is_left().await;
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = self.compute.ended.cancelled() => {}
                () = self.shutdown.cancelled() => return,
            }
        }
    }

    async fn follow(&mut self) -> Result<Followed, GuestError> {
        let Some(info) = self.compute.guest.agent().await? else { return Ok(Followed::Broken) };
        let from = match self.log.offset().await {
            Some(known) if known <= info.end_offset => known,
            Some(_) => {
                // Its log was lost, with the session's storage perhaps.
                self.log.restart();
                info.start_offset
            }
            None => info.start_offset,
        };
        let (_, GuestConnection { mut reader, writer: _writer }) = self.compute.guest.agent_log(from).await?;
        let mut lines = Lines::at(from);
        loop {
            let frame = tokio::select! {
                frame = reader.next() => frame?,
                () = self.shutdown.cancelled() => return Ok(Followed::ShuttingDown),
            };
            let (ready, exit) = match frame {
                Some(Frame::Output { offset, bytes }) => (lines.push(offset, &bytes), None),
                Some(Frame::Gap { to, .. }) => (lines.skip_to(to), None),
                Some(Frame::Exit(exit)) => (lines.flush(), Some(exit)),
                Some(_) => continue,
                None => return Ok(Followed::Broken),
            };
            if !ready.is_empty() {
                let written = self.log.append(ready).await;
                self.pace(written).await;
            }
            if let Some(exit) = exit {
                return Ok(Followed::Exited(exit));
            }
        }
    }

    /// Waits for the next second when this one's bytes are used up.
    async fn pace(&mut self, written: u64) {
        let now = Instant::now();
        let (until, left) = &mut self.second;
        if now >= *until {
            (*until, *left) = (now + Duration::from_secs(1), BYTES_PER_SECOND);
        }
        *left = left.saturating_sub(written);
        if *left == 0 {
            tokio::time::sleep_until(*until).await;
        }
    }

    /// The sandbox has ended: what the guest had not sent lies in the session's folder, complete.
    async fn read_what_is_left(self) {
        let (session, from) = (self.session, self.log.offset().await);
        let read = tokio::task::spawn_blocking(move || {
            let log = LogReader::open_agent(&session.folder().join("shells")).ok()?;
            let (start, end) = log.extent().ok()?;
            let from = from.filter(|from| *from <= end).unwrap_or(start);
            let mut lines = Lines::at(from);
            let mut ready = Vec::new();
            if from < start {
                ready.extend(lines.skip_to(start));
            }
            let mut piece = vec![0; PIECE_BYTES];
            for _ in 0..PIECES_MAX {
                match log.read_at(lines.end(), &mut piece) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => ready.extend(lines.push(lines.end(), &piece[..count])),
                }
            }
            ready.extend(lines.flush());
            Some(ready)
        });
        if let Ok(Some(ready)) = read.await
            && !ready.is_empty()
        {
            self.log.append(ready).await;
        }
    }
}
