//! Connections to programs: passed, relayed, refused.

use std::{
    io::{IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::{Shutdown, TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixStream},
    thread::JoinHandle,
};

use clamshell_protocol::{Decoder, ErrorCode, Frame, Reply, Request, WireError};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::guest::{Guest, PATIENCE, wait_until};

/// Asks for a connection and reads the answer, with what was passed along, and no further.
fn connect(guest: &Guest, port: u16, pass: bool) -> (Reply, Vec<OwnedFd>, UnixStream) {
    let mut stream = guest.connect().stream;
    stream.write_all(&Frame::Request(Box::new(Request::Connect { port, pass })).to_bytes()).unwrap();
    let (mut decoder, mut passed) = (Decoder::new(), Vec::new());
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let count = recvmsg(&stream, &mut [IoSliceMut::new(&mut byte)], &mut control, flags).unwrap().bytes;
        assert_eq!(count, 1);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                passed.extend(rights);
            }
        }
        decoder.extend(&byte);
        if let Some(frame) = decoder.next_frame().unwrap() {
            let Frame::Reply(reply) = frame else { panic!("{frame:?}") };
            return (*reply, passed, stream);
        }
    }
}

fn relayed(guest: &Guest, port: u16) -> UnixStream {
    let (reply, passed, stream) = connect(guest, port, false);
    assert_eq!((reply, passed.len()), (Reply::Connected { passed: false }, 0));
    stream
}

fn refused(guest: &Guest, port: u16) -> ErrorCode {
    match connect(guest, port, false).0 {
        Reply::Error(WireError { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

fn listen(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A program that answers each of `connections` with all it was sent, once that has ended.
fn echo(listener: TcpListener, connections: usize) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        }
    })
}

fn data() -> Vec<u8> {
    (0..1_000_000_u32).map(|at| (at % 251) as u8).collect()
}

#[test]
fn a_passed_socket_is_the_programs() {
    let guest = Guest::start();
    let (listener, port) = listen("127.0.0.1:0");
    let program = echo(listener, 1);
    let (reply, mut passed, mut control) = connect(&guest, port, true);
    assert_eq!((reply, passed.len()), (Reply::Connected { passed: true }, 1));
    assert_eq!(control.read(&mut [0; 1]).unwrap(), 0, "the connection has ended");
    let mut stream = TcpStream::from(passed.remove(0));
    stream.set_nonblocking(false).unwrap();
    stream.write_all(&data()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert!(back == data());
    program.join().unwrap();
}

#[test]
fn a_relay_carries_a_megabyte_each_way_and_ends_by_halves() {
    let guest = Guest::start();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else { continue };
        let port = listener.local_addr().unwrap().port();
        let program = echo(listener, 1);
        let mut stream = relayed(&guest, port);
        stream.write_all(&data()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert!(back == data(), "{address}");
        program.join().unwrap();
    }
}

#[test]
fn the_program_may_end_its_half_first() {
    let guest = Guest::start();
    let (listener, port) = listen("127.0.0.1:0");
    let program = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&data()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let mut stream = relayed(&guest, port);
    let mut seen = Vec::new();
    stream.read_to_end(&mut seen).unwrap();
    assert!(seen == data());
    stream.write_all(b"still there").unwrap();
    drop(stream);
    assert_eq!(program.join().unwrap(), b"still there");
}

#[test]
fn bytes_flow_both_ways_at_once_and_a_side_that_does_not_read_is_waited_for() {
    let guest = Guest::start();
    let (listener, port) = listen("127.0.0.1:0");
    let stream = relayed(&guest, port);
    let (program, _) = listener.accept().unwrap();
    let both = |mut stream: Box<dyn ReadWrite>, mut copy: Box<dyn ReadWrite>| {
        let writer = std::thread::spawn(move || copy.write_all(&data()).unwrap());
        // Reads only when the other has filled all buffers between.
        let mut back = vec![0; 1_000_000];
        stream.read_exact(&mut back).unwrap();
        writer.join().unwrap();
        assert!(back == data());
    };
    let near: [Box<dyn ReadWrite>; 2] = [Box::new(stream.try_clone().unwrap()), Box::new(stream)];
    let far: [Box<dyn ReadWrite>; 2] = [Box::new(program.try_clone().unwrap()), Box::new(program)];
    let [a, b] = near;
    let [c, d] = far;
    std::thread::scope(|scope| {
        scope.spawn(move || both(a, b));
        scope.spawn(move || both(c, d));
    });
    // Others were not held up.
    assert!(matches!(guest.ask(Request::Hello), Reply::Hello(_)));
}

trait ReadWrite: Read + Write + Send {}
impl<T: Read + Write + Send> ReadWrite for T {}

#[test]
fn a_server_that_hangs_up_ends_the_programs_connection() {
    let guest = Guest::start();
    let (listener, port) = listen("127.0.0.1:0");
    let stream = relayed(&guest, port);
    let (mut program, _) = listener.accept().unwrap();
    program.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(stream);
    assert_eq!(program.read(&mut [0; 1]).unwrap(), 0);
    // Not only its half: writing fails once the reset has come.
    wait_until("the connection is gone", || match program.write(b"x") {
        Ok(_) => Err("still taken".to_owned()),
        Err(_) => Ok(()),
    });
    wait_until("its descriptors are gone", || {
        let open = std::fs::read_dir(format!("/proc/{}/fd", guest.pid())).unwrap().count();
        if open < 20 { Ok(()) } else { Err(format!("{open} open")) }
    });
}

#[test]
fn what_nobody_listens_on_is_refused() {
    let guest = Guest::start();
    let (listener, port) = listen("127.0.0.1:0");
    drop(listener);
    assert_eq!(refused(&guest, port), ErrorCode::Refused);
    assert_eq!(refused(&guest, 0), ErrorCode::Invalid);
    let (reply, passed, _) = connect(&guest, port, true);
    assert!(matches!(reply, Reply::Error(WireError { code: ErrorCode::Refused, .. })), "{reply:?}");
    assert_eq!(passed.len(), 0);
}

#[test]
fn relays_have_a_bound_and_are_given_back() {
    let guest = Guest::start();
    let (listener, port) = listen("127.0.0.1:0");
    let (mut streams, mut programs) = (Vec::new(), Vec::new());
    let refusal = loop {
        let (reply, _, stream) = connect(&guest, port, false);
        match reply {
            Reply::Connected { passed: false } => {
                streams.push(stream);
                programs.push(listener.accept().unwrap().0);
            }
            other => break other,
        }
    };
    assert!(matches!(refusal, Reply::Error(WireError { code: ErrorCode::Busy, .. })), "{refusal:?}");
    assert!(streams.len() <= 512 && !streams.is_empty(), "{}", streams.len());
    drop(streams);
    wait_until("there is room again", || match connect(&guest, port, false).0 {
        Reply::Connected { passed: false } => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn a_port_that_lets_everybody_wait_is_given_up_and_leaves_room_for_others() {
    let guest = Guest::start();
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
    let listener = socket.unwrap();
    let address = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0));
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let port = TcpListener::from(listener.try_clone().unwrap()).local_addr().unwrap().port();
    // Nobody accepts, so that before long nobody is let in.
    let ask = |_| {
        let mut connection = guest.connect();
        connection.send(&Frame::Request(Box::new(Request::Connect { port, pass: false })));
        connection
    };
    let mut asked: Vec<_> = (0..80).map(ask).collect();
    let mut given_up = 0;
    assert!(matches!(guest.ask(Request::Hello), Reply::Hello(_)));
    for connection in &mut asked {
        match connection.reply() {
            Reply::Connected { passed: false } => {}
            Reply::Error(WireError { code: ErrorCode::Busy, message }) => {
                given_up += usize::from(message == "the port takes no connection");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((1..=64).contains(&given_up), "{given_up}");
    drop(listener);
}
