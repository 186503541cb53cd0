//! Bytes between the server and a program's socket, where the socket itself cannot be passed.
//!
//! Each direction ends on its own, and holds at most what one read brought: a side that takes nothing holds up the other.

use rustix::{
    net::Shutdown,
    process::{Resource, getrlimit},
};

use super::{Guest, buffer::Queue, poll::Watch};

/// Relays at once. Each holds two descriptors and at most [`super::READ_BYTES`] each way, so together at most 64 MiB
/// where nobody on either side reads.
const RELAYS_MAX: usize = 512;

/// Descriptors left for everything else: connections, shells, commands.
const DESCRIPTORS_SPARED: usize = 512;

/// As many relays as there are descriptors for.
pub(super) fn relays_max() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    (descriptors.saturating_sub(DESCRIPTORS_SPARED) / 2).min(RELAYS_MAX)
}

/// A connection to a program, relayed.
pub(super) struct Relay {
    /// The server's.
    near: Watch,
    /// The program's.
    far: Watch,
    up: Direction,
    down: Direction,
}

/// One direction.
#[derive(Debug, Default)]
struct Direction {
    queue: Queue,
    /// Nothing more comes.
    ended: bool,
    /// And that has been told.
    told: bool,
}

impl Direction {
    /// Moves what there is, at most one read: then others have their turn.
    fn pump(&mut self, from: &Watch, to: &Watch, scratch: &mut [u8]) -> Result<(), Broken> {
        let mut read = false;
        loop {
            self.queue.flush(to).map_err(|_| Broken::Target)?;
            if !self.queue.is_empty() {
                return Ok(());
            }
            if self.ended {
                if !self.told {
                    // Fails where all is over anyway.
                    let _ = rustix::net::shutdown(to, Shutdown::Write);
                    self.told = true;
                }
                return Ok(());
            }
            if read {
                return Ok(());
            }
            match from.read(scratch) {
                Ok(Some(0)) => self.ended = true,
                Ok(Some(count)) => self.queue.tail().extend_from_slice(&scratch[..count]),
                Ok(None) => return Ok(()),
                Err(_) => return Err(Broken::Source),
            }
            read = true;
        }
    }

    /// Nothing more can be moved.
    fn give_up(&mut self) {
        self.queue.clear();
        self.ended = true;
        self.told = true;
    }

    fn wants_more(&self) -> bool {
        !self.ended && self.queue.is_empty()
    }
}

enum Broken {
    Source,
    Target,
}

impl Relay {
    /// A relay that first sends the server `answer` and the program `first`.
    pub(super) fn new(near: Watch, far: Watch, answer: Queue, first: &[u8]) -> Self {
        let mut up = Direction::default();
        up.queue.tail().extend_from_slice(first);
        Self { near, far, up, down: Direction { queue: answer, ..Direction::default() } }
    }

    /// Moves what there is; whether there may be more.
    fn pump(&mut self, server_hung_up: bool, scratch: &mut [u8]) -> bool {
        match self.up.pump(&self.near, &self.far, scratch) {
            Ok(()) => {}
            Err(Broken::Source) => return false,
            // It reads no more; what it has said is still to be delivered.
            Err(Broken::Target) => self.up.give_up(),
        }
        match self.down.pump(&self.far, &self.near, scratch) {
            Ok(()) => {}
            // Reset by the program: an end as well.
            Err(Broken::Source) => self.down.ended = true,
            Err(Broken::Target) => return false,
        }
        if self.down.ended && self.down.queue.is_empty() && !self.down.told {
            let _ = rustix::net::shutdown(&self.near, Shutdown::Write);
            self.down.told = true;
        }
        if self.up.told && (self.down.told || server_hung_up) {
            return false;
        }
        self.near.want(self.up.wants_more(), !self.down.queue.is_empty());
        if self.up.told && self.down.queue.is_empty() && !self.down.told {
            // One that has ended its half still waits for an answer; one that has hung up does not.
            self.near.want_hang_up();
        }
        self.far.want(self.down.wants_more(), !self.up.queue.is_empty());
        true
    }
}

impl Guest {
    pub(super) fn pump_relay(&mut self, id: u64, server_hung_up: bool) {
        let mut scratch = self.scratch();
        if let Some(relay) = self.relays.get_mut(&id)
            && !relay.pump(server_hung_up, &mut scratch)
        {
            self.relays.remove(&id);
        }
        self.scratch = scratch;
    }
}
