//! Guests that pass what they should, what they should not, and nothing.

use std::{
    fs::File,
    io::{IoSlice, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream as Unix},
    },
    path::Path,
    thread::JoinHandle,
};

use clamshell_protocol::{ErrorCode, WireError};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage};
use tokio::io::AsyncReadExt;

use super::*;

/// A guest of one connection, on a thread: it answers with these bytes and descriptors, then does what `then` says.
fn guest(
    folder: &Path,
    reply: Reply,
    descriptors: Vec<OwnedFd>,
    then: impl FnOnce(Unix) + Send + 'static,
) -> JoinHandle<()> {
    let listener = UnixListener::bind(folder.join("guest.sock")).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut decoder = Decoder::new();
        let frame = loop {
            let mut bytes = [0; 1024];
            let count = std::io::Read::read(&mut stream, &mut bytes).unwrap();
            assert!(count > 0);
            decoder.extend(&bytes[..count]);
            if let Some(frame) = decoder.next_frame().unwrap() {
                break frame;
            }
        };
        let expected = Request::Connect { port: 8080, pass: true };
        assert_eq!(frame, Frame::Request(Box::new(expected)));
        send(&stream, &Frame::Reply(Box::new(reply)).to_bytes(), &descriptors);
        drop(descriptors);
        then(stream);
    })
}

fn send(stream: &Unix, bytes: &[u8], descriptors: &[OwnedFd]) {
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::empty());
    assert_eq!(sent, Ok(bytes.len()));
}

/// Both ends of a TCP connection.
fn tcp() -> (OwnedFd, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ours.into(), listener.accept().unwrap().0)
}

fn connected(passed: bool) -> Reply {
    Reply::Connected { passed }
}

async fn outcome(reply: Reply, descriptors: Vec<OwnedFd>) -> Result<AgentStream, GuestError> {
    let folder = tempfile::tempdir().unwrap();
    let guest = guest(folder.path(), reply, descriptors, drop);
    let outcome = GuestAddress::in_folder(folder.path()).unwrap().connect(8080).await;
    guest.join().unwrap();
    outcome
}

/// Sends and receives a megabyte at once, ends its half, and reads the other to its end.
async fn exchange(stream: AgentStream, peer: impl std::io::Read + Write + Send + 'static) {
    let data: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    let echo = std::thread::spawn(move || {
        let mut peer = peer;
        let mut bytes = vec![0; 1_000_000];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0, "the half has ended");
        peer.write_all(&bytes).unwrap();
    });
    let (mut reader, mut writer) = tokio::io::split(stream);
    writer.write_all(&data).await.unwrap();
    writer.shutdown().await.unwrap();
    let mut back = Vec::new();
    reader.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, data);
    echo.join().unwrap();
}

#[tokio::test]
async fn a_passed_socket_carries_bytes_both_ways_and_ends_by_halves() {
    let (passed, peer) = tcp();
    let stream = outcome(connected(true), vec![passed]).await.unwrap();
    assert!(matches!(stream.0, Stream::Passed(_)));
    exchange(stream, peer).await;
}

#[tokio::test]
async fn a_socket_that_is_made_blocking_later_holds_nobody_up() {
    let (passed, peer) = tcp();
    let kept = passed.try_clone().unwrap();
    let mut stream = outcome(connected(true), vec![passed]).await.unwrap();
    rustix::io::ioctl_fionbio(&kept, false).unwrap();
    sockopt::set_socket_linger(&kept, Some(std::time::Duration::from_secs(600))).unwrap();
    drop(kept);
    // Would wait for ever in the system call: nobody answers.
    let mut byte = [0; 1];
    let read = timeout(std::time::Duration::from_millis(50), stream.read(&mut byte)).await;
    assert!(read.is_err());
    let flood = async { while stream.write_all(&[0; 65_536]).await.is_ok() {} };
    assert!(timeout(std::time::Duration::from_millis(200), flood).await.is_err());
    drop(stream);
    drop(peer);
}

#[tokio::test]
async fn a_relayed_connection_begins_right_behind_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let guest = guest(folder.path(), connected(false), Vec::new(), |mut stream| {
        stream.write_all(b"first words").unwrap();
        let mut bytes = String::new();
        std::io::Read::read_to_string(&mut stream, &mut bytes).unwrap();
        assert_eq!(bytes, "to the program");
        stream.write_all(b", last words").unwrap();
    });
    let mut stream = GuestAddress::in_folder(folder.path()).unwrap().connect(8080).await.unwrap();
    let mut first = [0; 11];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"first words");
    stream.write_all(b"to the program").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut last = String::new();
    stream.read_to_string(&mut last).await.unwrap();
    assert_eq!(last, ", last words");
    guest.join().unwrap();
}

/// What a guest passes must be one connected TCP socket.
#[tokio::test]
async fn whatever_else_is_passed_is_refused_and_closed() {
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let pipe = || OwnedFd::from(std::io::pipe().unwrap().0);
    let listener = || OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let datagram = || {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(socket.local_addr().unwrap()).unwrap();
        OwnedFd::from(socket)
    };
    let unix = || OwnedFd::from(Unix::pair().unwrap().0);
    let check = async |what: &str, reply: Reply, descriptors: Vec<OwnedFd>| {
        let outcome = outcome(reply, descriptors).await;
        assert!(matches!(outcome, Err(GuestError::Unexpected)), "{what}: {outcome:?}");
    };
    check("nothing", connected(true), Vec::new()).await;
    check("a file", connected(true), vec![null()]).await;
    check("a pipe", connected(true), vec![pipe()]).await;
    check("a listener", connected(true), vec![listener()]).await;
    check("a datagram socket", connected(true), vec![datagram()]).await;
    check("a Unix socket", connected(true), vec![unix()]).await;
    check("one with a relay", connected(false), vec![tcp().0]).await;
    check("one with another answer", Reply::Done, vec![tcp().0]).await;
    for count in 2..8 {
        let (ours, mut peers): (Vec<_>, Vec<_>) = (0..count).map(|_| tcp()).unzip();
        check("several", connected(true), ours).await;
        for peer in &mut peers {
            // Its other end is closed, in whatever way.
            assert!(!matches!(std::io::Read::read(peer, &mut [0; 1]), Ok(1..)));
        }
    }
}

#[tokio::test]
async fn a_refusal_is_told() {
    let error = WireError { code: ErrorCode::Refused, message: "nothing\u{7} listens".to_owned() };
    let refused = outcome(Reply::Error(error), Vec::new()).await;
    let Err(GuestError::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert_eq!((refusal.code, &refusal.message[..]), (ErrorCode::Refused, "nothing listens"));
}

#[tokio::test]
async fn an_answer_without_measure_is_not_read() {
    let message = "x".repeat(REPLY_BYTES_MAX);
    let long = Reply::Error(WireError { code: ErrorCode::Refused, message });
    assert!(matches!(outcome(long, Vec::new()).await, Err(GuestError::Unexpected)));
}
