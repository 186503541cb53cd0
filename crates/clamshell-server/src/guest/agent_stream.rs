//! A connection to a program of the sandbox: a socket that the guest passed, or the guest's relay.
//!
//! A passed descriptor is hostile: whoever passed it may keep another one for the same socket and change its modes at any
//! time. So only a connected TCP socket is taken, no call on it relies on its being non-blocking, and it is closed without
//! lingering.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use clamshell_protocol::{Decoder, FRAME_HEADER_BYTES, Frame, Reply, Request};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags,
        Shutdown, SocketType, ipproto, recvmsg, sockopt,
    },
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use super::{GuestAddress, GuestError, REPLY_TIMEOUT, plain};

/// Longest answer to a request for a connection: a refusal in words.
const REPLY_BYTES_MAX: usize = 16 * 1024;

/// Descriptors that are looked at in one message: the one awaited, and one to see that there are more. The kernel closes
/// the others itself.
const DESCRIPTORS: usize = 2;

/// Bytes of a program, both ways; each half can end on its own.
#[derive(Debug)]
pub(crate) struct AgentStream(Stream);

#[derive(Debug)]
enum Stream {
    Passed(Passed),
    Relayed(UnixStream),
}

/// Asks for a connection. The answer is read to its last byte and no further, for behind it come the program's.
pub(super) async fn connect(guest: &GuestAddress, port: u16) -> Result<AgentStream, GuestError> {
    let connected = async {
        let mut stream = guest.open().await?;
        let request = Frame::Request(Box::new(Request::Connect { port, pass: true }));
        stream.write_all(&request.to_bytes()).await?;
        let mut descriptors = Vec::new();
        let mut decoder = Decoder::new();
        let mut header = [0; FRAME_HEADER_BYTES];
        receive(&stream, &mut header, &mut descriptors).await?;
        decoder.extend(&header);
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if length > REPLY_BYTES_MAX {
            return Err(GuestError::Unexpected);
        }
        let mut payload = vec![0; length];
        receive(&stream, &mut payload, &mut descriptors).await?;
        decoder.extend(&payload);
        let Some(Frame::Reply(reply)) = decoder.next_frame()? else { return Err(GuestError::Unexpected) };
        match (*reply, descriptors.pop()) {
            (Reply::Connected { passed: true }, Some(socket)) if descriptors.is_empty() => {
                Ok(AgentStream(Stream::Passed(Passed::take(socket)?)))
            }
            (Reply::Connected { passed: false }, None) => Ok(AgentStream(Stream::Relayed(stream))),
            (Reply::Error(error), None) => Err(GuestError::Refused(plain(error))),
            _ => Err(GuestError::Unexpected),
        }
    };
    timeout(REPLY_TIMEOUT, connected).await.map_err(|_| GuestError::Timeout)?
}

/// Fills `buffer`, and takes the descriptors that come along. More than one is an error, and all are closed.
async fn receive(
    stream: &UnixStream,
    buffer: &mut [u8],
    descriptors: &mut Vec<Socket>,
) -> Result<(), GuestError> {
    let mut filled = 0;
    while filled < buffer.len() {
        stream.readable().await?;
        let received = stream.try_io(Interest::READABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut pieces = [IoSliceMut::new(&mut buffer[filled..])];
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let received = recvmsg(stream, &mut pieces, &mut control, flags)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    descriptors.extend(rights.map(Socket));
                }
            }
            Ok((received.bytes, received.flags.contains(ReturnFlags::CTRUNC)))
        });
        match received {
            Ok((0, _)) => return Err(GuestError::HungUp),
            Ok((_, true)) => return Err(GuestError::Unexpected),
            Ok((count, false)) => filled += count,
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error.into()),
        }
        if descriptors.len() > 1 {
            return Err(GuestError::Unexpected);
        }
    }
    Ok(())
}

/// A descriptor that came from a guest.
#[derive(Debug)]
struct Socket(OwnedFd);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Closing a socket that was told to linger holds up the thread. On what is no socket this fails, and may.
        let _ = sockopt::set_socket_linger(&self.0, None);
    }
}

/// A passed socket. Read and written by calls that never wait, whatever modes the socket has.
#[derive(Debug)]
struct Passed(TcpStream);

impl Passed {
    fn take(socket: Socket) -> Result<Self, GuestError> {
        if !is_connected_tcp(&socket) {
            return Err(GuestError::Unexpected);
        }
        let own = rustix::io::fcntl_dupfd_cloexec(&socket, 0).map_err(io::Error::from)?;
        let stream = std::net::TcpStream::from(own);
        stream.set_nonblocking(true)?;
        // Small pieces are not held back until larger ones come; without it they only come later.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        Ok(Self(TcpStream::from_std(stream)?))
    }

    fn poll_receive(&self, cx: &mut Context<'_>, target: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            let mut received = None;
            let tried = self.0.try_io(Interest::READABLE, || {
                let (_, count) = rustix::net::recv(&self.0, &mut *target, RecvFlags::DONTWAIT)?;
                received = Some(count.min(target.len()));
                // Fewer bytes than there was room for: there are no more, and the kernel tells of new ones.
                match count > 0 && count < target.len() {
                    true => Err(io::ErrorKind::WouldBlock.into()),
                    false => Ok(()),
                }
            });
            match (received, tried) {
                (Some(count), _) => return Poll::Ready(Ok(count)),
                (None, Err(error)) if is_passing(&error) => {}
                (None, Err(error)) => return Poll::Ready(Err(error)),
                (None, Ok(())) => {}
            }
        }
    }

    fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            let sent = self.0.try_io(Interest::WRITABLE, || {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(&self.0, bytes, flags).map_err(io::Error::from)
            });
            match sent {
                Err(error) if is_passing(&error) => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl Drop for Passed {
    fn drop(&mut self) {
        let _ = sockopt::set_socket_linger(&self.0, None);
    }
}

/// A file would be read as fast as it can be, a listener and a datagram socket never.
fn is_connected_tcp(socket: &Socket) -> bool {
    let domain = sockopt::socket_domain(socket);
    (domain == Ok(AddressFamily::INET) || domain == Ok(AddressFamily::INET6))
        && sockopt::socket_type(socket) == Ok(SocketType::STREAM)
        && sockopt::socket_protocol(socket) == Ok(Some(ipproto::TCP))
        && rustix::net::getpeername(socket).is_ok()
}

impl AsyncRead for AgentStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Stream::Relayed(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Passed(passed) => {
                let target = buffer.initialize_unfilled();
                let count = ready!(passed.poll_receive(cx, target))?;
                buffer.advance(count);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for AgentStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Stream::Relayed(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Passed(passed) => passed.poll_send(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Stream::Relayed(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Passed(passed) => Poll::Ready(match rustix::net::shutdown(&passed.0, Shutdown::Write) {
                // The other side has gone before.
                Ok(()) | Err(Errno::NOTCONN) => Ok(()),
                Err(errno) => Err(errno.into()),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
