//! epoll: what each descriptor waits for, and who is told.

use std::{
    cell::Cell,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, EventData, EventFlags},
    },
    io::Errno,
};

/// Events taken per wake. More wait in the kernel.
const EVENTS_PER_WAKE: usize = 64;

/// Who is behind a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    Listener,
    Signals,
    Connection(u64),
    Shell(u64),
    CommandInput(u64),
    CommandOutput(u64),
    CommandError(u64),
    MetadataListener,
    Metadata(u64),
    AgentOutput,
    AgentError,
    Dial(u64),
    RelayNear(u64),
    RelayFar(u64),
}

/// Ids count up from 0 and never reach 2^56, so the kind has the top byte.
const ID_BITS: u32 = 56;

impl Token {
    fn to_u64(self) -> u64 {
        let (kind, id) = match self {
            Self::Listener => (0, 0),
            Self::Signals => (1, 0),
            Self::Connection(id) => (2, id),
            Self::Shell(id) => (3, id),
            Self::CommandInput(id) => (4, id),
            Self::CommandOutput(id) => (5, id),
            Self::CommandError(id) => (6, id),
            Self::MetadataListener => (7, 0),
            Self::Metadata(id) => (8, id),
            Self::AgentOutput => (9, 0),
            Self::AgentError => (10, 0),
            Self::Dial(id) => (11, id),
            Self::RelayNear(id) => (12, id),
            Self::RelayFar(id) => (13, id),
        };
        (kind << ID_BITS) | id
    }

    fn from_u64(data: u64) -> Option<Self> {
        let id = data & ((1 << ID_BITS) - 1);
        Some(match data >> ID_BITS {
            0 => Self::Listener,
            1 => Self::Signals,
            2 => Self::Connection(id),
            3 => Self::Shell(id),
            4 => Self::CommandInput(id),
            5 => Self::CommandOutput(id),
            6 => Self::CommandError(id),
            7 => Self::MetadataListener,
            8 => Self::Metadata(id),
            9 => Self::AgentOutput,
            10 => Self::AgentError,
            11 => Self::Dial(id),
            12 => Self::RelayNear(id),
            13 => Self::RelayFar(id),
            _ => return None,
        })
    }
}

/// What happened to a descriptor. A hang-up counts as readable and writable: the next call tells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ready {
    pub(super) token: Token,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// Both directions have ended.
    pub(super) hung_up: bool,
}

/// The epoll descriptor, shared with the [`Watch`]es that register in it.
#[derive(Debug, Clone)]
pub(super) struct Poller {
    epoll: Rc<OwnedFd>,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Rc::new(epoll::create(CreateFlags::CLOEXEC)?) })
    }

    /// Waits until something is ready or `timeout_ms` passed; `None` waits for ever.
    pub(super) fn wait(&self, timeout_ms: Option<u64>, ready: &mut Vec<Ready>) -> io::Result<()> {
        let timeout = timeout_ms.map(|timeout| Timespec {
            // An hour is far more than any timer here needs and fits every kernel's type.
            tv_sec: i64::try_from(timeout / 1000).unwrap_or(3600).min(3600),
            tv_nsec: i64::try_from(timeout % 1000).unwrap_or(0) * 1_000_000,
        });
        let mut events =
            [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS_PER_WAKE];
        ready.clear();
        let count = match epoll::wait(&*self.epoll, &mut events[..], timeout.as_ref()) {
            Ok(count) => count,
            Err(Errno::INTR) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        for event in events.iter().take(count) {
            let (flags, data) = (event.flags, event.data);
            let ended = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            if let Some(token) = Token::from_u64(data.u64()) {
                ready.push(Ready {
                    token,
                    readable: ended || flags.contains(EventFlags::IN),
                    writable: ended || flags.contains(EventFlags::OUT),
                    hung_up: ended,
                });
            }
        }
        Ok(())
    }
}

/// A descriptor and what it waits for. One that waits for nothing leaves the epoll set, because a
/// hang-up is reported whether asked for or not and would wake the loop for ever.
#[derive(Debug)]
pub(super) struct Watch {
    fd: OwnedFd,
    poller: Poller,
    token: Token,
    interest: Cell<EventFlags>,
}

impl Watch {
    pub(super) fn new(fd: OwnedFd, poller: &Poller, token: Token) -> Self {
        Self { fd, poller: poller.clone(), token, interest: Cell::new(EventFlags::empty()) }
    }

    /// The same descriptor, with somebody else behind it who has yet to ask.
    pub(super) fn hand_over(mut self, token: Token) -> Self {
        self.want(false, false);
        self.token = token;
        self
    }

    /// Asks to be told of a hang-up alone.
    pub(super) fn want_hang_up(&self) {
        // Urgent data, which no socket here ever has, keeps it in the set.
        self.want_flags(EventFlags::PRI);
    }

    /// Asks to be told. An error leaves the old interest; it can only be lack of kernel memory.
    pub(super) fn want(&self, read: bool, write: bool) {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, read);
        flags.set(EventFlags::OUT, write);
        self.want_flags(flags);
    }

    fn want_flags(&self, flags: EventFlags) {
        let old = self.interest.get();
        if old == flags {
            return;
        }
        let data = EventData::new_u64(self.token.to_u64());
        let done = if flags.is_empty() {
            epoll::delete(&*self.poller.epoll, &self.fd)
        } else if old.is_empty() {
            epoll::add(&*self.poller.epoll, &self.fd, data, flags)
        } else {
            epoll::modify(&*self.poller.epoll, &self.fd, data, flags)
        };
        if done.is_ok() {
            self.interest.set(flags);
        }
    }

    /// Reads what is there: `Ok(None)` when nothing is, `Ok(Some(0))` at the end.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<Option<usize>, Errno> {
        match rustix::io::read(&self.fd, buffer) {
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Writes what fits: `Ok(0)` when nothing does.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match rustix::io::write(&self.fd, bytes) {
            Ok(count) => Ok(count),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.want(false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::Listener,
            Token::Connection(7),
            Token::Shell(1 << 40),
            Token::Metadata(3),
            Token::RelayFar(9),
        ] {
            assert_eq!(Token::from_u64(token.to_u64()), Some(token));
        }
        assert_eq!(Token::from_u64(u64::MAX), None);
    }
}
