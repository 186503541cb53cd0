//! The only network a sandbox has by itself: a loopback interface that also owns the address of the
//! metadata service.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

/// Address of the metadata service.
const METADATA: [u8; 4] = [169, 254, 169, 254];

/// Turns the interface on and gives it the address, as a single host so that nothing else of that
/// network is taken.
pub(crate) fn bring_up() -> io::Result<()> {
    // SAFETY: plain integers; the result is checked before use.
    let fd =
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new and owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    ask(&socket, &link_up())?;
    ask(&socket, &add_address())
}

/// The loopback interface is the first of every network namespace.
const INDEX: u32 = 1;

fn link_up() -> Vec<u8> {
    let up = libc::IFF_UP.cast_unsigned().to_ne_bytes();
    // struct ifinfomsg: family, padding, type, index, flags, change mask.
    let body = [&[0, 0, 0, 0][..], &INDEX.to_ne_bytes(), &up, &up].concat();
    message(libc::RTM_NEWLINK, 0, &body)
}

fn add_address() -> Vec<u8> {
    // struct ifaddrmsg: family, prefix length, flags, scope (host), index.
    let family = u8::try_from(libc::AF_INET).unwrap_or(2);
    let mut body = [&[family, 32, 0, 254][..], &INDEX.to_ne_bytes()].concat();
    for kind in [libc::IFA_LOCAL, libc::IFA_ADDRESS] {
        // struct rtattr: length with header, kind.
        body.extend_from_slice(&8u16.to_ne_bytes());
        body.extend_from_slice(&kind.to_ne_bytes());
        body.extend_from_slice(&METADATA);
    }
    let flags = u16::try_from(libc::NLM_F_CREATE | libc::NLM_F_REPLACE).unwrap_or(0);
    message(libc::RTM_NEWADDR, flags, &body)
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let request = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK).unwrap_or(0);
    let length = u32::try_from(16 + body.len()).unwrap_or(0);
    // struct nlmsghdr: length, type, flags, sequence, port.
    let mut message = length.to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(request | flags).to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(body);
    message
}

fn ask(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    // SAFETY: the buffer is valid for its length.
    let sent = unsafe { libc::send(socket.as_raw_fd(), message.as_ptr().cast(), message.len(), 0) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut answer = [0u8; 1024];
    // SAFETY: the buffer is valid for its length.
    let length = unsafe { libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
    // struct nlmsgerr follows the header: a negated error number, 0 for success.
    match (usize::try_from(length), answer.get(16..20)) {
        (Ok(20..), Some(&[a, b, c, d])) => match i32::from_ne_bytes([a, b, c, d]) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(-code)),
        },
        _ => Err(io::Error::last_os_error()),
    }
}
