//! Connections to ports of the sandbox, made for the server: the socket is passed to it, or else relayed.
//!
//! Only the loopback interface is asked: what listens on another address alone is not meant to be reached this way.

use std::{
    io::IoSlice,
    mem::MaybeUninit,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
};

use clamshell_protocol::{ErrorCode, Frame, Reply};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
        connect, getpeername, getsockname, sendmsg, socket_with, sockopt,
    },
};

use super::{
    Guest,
    connection::{LINGER_MS, Role},
    poll::{Token, Watch},
    relay::Relay,
};

/// A program of the same sandbox answers at once, unless more wait for it than its listener lets queue.
const CONNECT_WITHIN_MS: u64 = 5000;

/// Connections being made at once: a port that lets everybody wait must not use up what shells and commands need.
const DIALS_MAX: usize = 64;

/// A connection being made.
pub(super) struct Dial {
    socket: Watch,
    port: u16,
    pass: bool,
    /// Of the addresses that are left after this one.
    last: bool,
}

impl Guest {
    pub(super) fn connect_to(&mut self, id: u64, port: u16, pass: bool) {
        if port == 0 {
            return self.refuse(id, ErrorCode::Invalid, "there is no port 0");
        }
        let dials = self.connections.values().filter(|connection| matches!(connection.role, Role::Dial(_)));
        if dials.count() >= DIALS_MAX {
            return self.refuse(id, ErrorCode::Busy, "too many connections are being made");
        }
        self.dial(id, port, pass, false);
    }

    fn dial(&mut self, id: u64, port: u16, pass: bool, last: bool) {
        let (family, address) = if last {
            (AddressFamily::INET6, SocketAddr::from((Ipv6Addr::LOCALHOST, port)))
        } else {
            (AddressFamily::INET, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = match socket_with(family, SocketType::STREAM, flags, None) {
            Ok(socket) => socket,
            Err(errno) => return self.dial_failed(id, port, pass, last, errno),
        };
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return self.dial_failed(id, port, pass, last, errno),
        }
        let socket = Watch::new(socket, &self.poller, Token::Dial(id));
        socket.want(false, true);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.role = Role::Dial(Dial { socket, port, pass, last });
        connection.deadline_ms = Some(self.now_ms + CONNECT_WITHIN_MS);
        // Within one machine it is decided by now.
        self.dial_ready(id);
        self.update_interest(id);
    }

    pub(super) fn dial_ready(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Role::Dial(dial) = &connection.role else { return };
        let mut fds = [PollFd::from_borrowed_fd(dial.socket.as_fd(), PollFlags::OUT)];
        if !matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..)) {
            return;
        }
        let outcome = sockopt::socket_error(&dial.socket).and_then(|outcome| outcome);
        let Role::Dial(dial) = std::mem::replace(&mut connection.role, Role::New) else { return };
        connection.deadline_ms = None;
        match outcome {
            // A port that nobody listens on may be given to the very socket that connects to it.
            Ok(()) if is_own_peer(&dial.socket) => {
                self.dial_failed(id, dial.port, dial.pass, dial.last, Errno::CONNREFUSED);
            }
            Ok(()) => self.dialed(id, dial),
            Err(errno) => self.dial_failed(id, dial.port, dial.pass, dial.last, errno),
        }
    }

    pub(super) fn give_up_dial(&mut self, id: u64) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.role = Role::New;
        }
        self.refuse(id, ErrorCode::Busy, "the port takes no connection");
    }

    fn dial_failed(&mut self, id: u64, port: u16, pass: bool, last: bool, errno: Errno) {
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
                self.refuse(id, ErrorCode::Busy, format!("cannot connect: {errno}"));
            }
            _ if last => self.refuse(id, ErrorCode::Refused, "nothing listens on the port"),
            _ => self.dial(id, port, pass, true),
        }
    }

    fn dialed(&mut self, id: u64, dial: Dial) {
        if dial.pass && self.passes_sockets && self.pass(id, &dial.socket) {
            return;
        }
        if self.relays.len() >= self.relays_max {
            return self.refuse(id, ErrorCode::Busy, "too many connections to programs");
        }
        let Some(mut connection) = self.connections.remove(&id) else { return };
        connection.push(&Frame::Reply(Box::new(Reply::Connected { passed: false })));
        let _ = sockopt::set_tcp_nodelay(&dial.socket, true);
        let relay = Relay::new(
            connection.watch.hand_over(Token::RelayNear(id)),
            dial.socket.hand_over(Token::RelayFar(id)),
            connection.out,
            &connection.decoder.take_rest(),
        );
        self.relays.insert(id, relay);
        self.pump_relay(id, false);
    }

    /// Sends the answer with the socket; `false` when that is not possible, and nothing was sent.
    fn pass(&mut self, id: u64, socket: &Watch) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else { return true };
        let answer = Frame::Reply(Box::new(Reply::Connected { passed: true })).to_bytes();
        let descriptors = [socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return false;
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let Ok(sent) = sendmsg(&connection.watch, &[IoSlice::new(&answer)], &mut control, flags) else {
            return false;
        };
        connection.out.tail().extend_from_slice(&answer[sent.min(answer.len())..]);
        connection.closing = true;
        connection.deadline_ms = Some(self.now_ms + LINGER_MS);
        self.flush(id);
        true
    }
}

fn is_own_peer(socket: &Watch) -> bool {
    match (getsockname(socket), getpeername(socket)) {
        (Ok(own), Ok(peer)) => peer == Some(own),
        // Connected, and gone again.
        _ => false,
    }
}
