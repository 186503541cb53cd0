//! The traffic of one connection: output to the terminal, keys to the shell, pings.
//!
//! Output is read only when the terminal has taken what came before: a terminal that is stopped
//! stops the shell, through the socket, without a byte piling up here. Input is gathered to at most
//! 200 frames a second of at most 32 KiB.

use std::{
    cell::Cell,
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use clamshell_term::{
    frame::{STDIN_BYTES_MAX, ShellFrame, stdin_messages},
    rate::FrameBudget,
};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{
    Access,
    connection::{Connection, close_text},
    receiver::{Received, Receiver},
    terminal::{self, Ends, Output, READ_BYTES, Terminal},
};
use crate::client::printable;

const PING_EVERY: Duration = Duration::from_secs(30);
/// A connection on which nothing comes for this long, two pings included, is dead.
const DEAD_AFTER: Duration = Duration::from_secs(60);
/// Connections live one hour at most; ours ends itself before, when nobody notices.
const PLANNED_AFTER: Duration = Duration::from_secs(55 * 60);
const PLANNED_AT_THE_LATEST: Duration = Duration::from_secs(59 * 60);
const QUIET: Duration = Duration::from_secs(2);
/// Input that the network does not take is held up to here; then the terminal waits. Ctrl+] behind a
/// paste of this size still detaches.
const QUEUED_BYTES_MAX: usize = 1 << 20;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The shell ended.
    Exited(i32),
    /// The platform lost the shell.
    Failed(String),
    /// The user left, or there is no input any more.
    Detached,
    /// Nobody reads stdout any more.
    OutputGone,
    /// Close code, or none when the connection was lost, and a text for people.
    Closed(Option<u16>, String),
    /// The platform shuts down.
    Shutdown,
    /// Time for a fresh connection.
    Planned,
    /// Told to end by a signal.
    Signal(i32),
}

/// What both directions know of each other.
struct Shared {
    /// Anything came from the server.
    heard: Cell<Instant>,
    /// A byte went either way.
    active: Cell<Instant>,
    /// The terminal does not take output, so nothing can come.
    stopped: Cell<bool>,
}

/// Runs one connection to its end.
pub(super) async fn pump(
    connection: &mut Connection,
    receiver: &mut Receiver,
    terminal: &mut Terminal,
    access: Access,
) -> End {
    let early = std::mem::take(&mut connection.early);
    let (sink, stream) = (&mut connection.socket.messages).split();
    let now = Instant::now();
    let shared = Shared { heard: Cell::new(now), active: Cell::new(now), stopped: Cell::new(false) };
    let Terminal { input, output, resized, ends, scanner, started, .. } = terminal;
    let keys = Keys { input, resized, scanner, started: *started, access };
    tokio::select! {
        end = inbound(stream, early, receiver, output, &shared) => end,
        end = outbound(sink, keys, &shared) => end,
        end = signaled(ends) => end,
    }
}

async fn signaled(ends: &mut Ends) -> End {
    End::Signal(ends.next().await)
}

async fn inbound(
    mut stream: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut early: VecDeque<Bytes>,
    receiver: &mut Receiver,
    output: &tokio::sync::mpsc::Sender<Output>,
    shared: &Shared,
) -> End {
    let opened = Instant::now();
    loop {
        shared.stopped.set(true);
        let permit = output.reserve().await;
        shared.stopped.set(false);
        let Ok(permit) = permit else { return End::OutputGone };
        let message = match early.pop_front() {
            Some(bytes) => Message::Binary(bytes),
            None => {
                let planned = planned_at(opened, shared.active.get());
                tokio::select! {
                    message = stream.next() => match message {
                        Some(Ok(message)) => message,
                        Some(Err(error)) => return lost(&error),
                        None => return End::Closed(None, "connection lost".to_owned()),
                    },
                    () = sleep_until(planned) => {
                        if planned_at(opened, shared.active.get()) <= Instant::now() {
                            return End::Planned;
                        }
                        continue;
                    }
                }
            }
        };
        shared.heard.set(Instant::now());
        match message {
            Message::Binary(bytes) => match receiver.on_message(&bytes) {
                Received::Output(bytes) => {
                    shared.active.set(Instant::now());
                    permit.send(Output::Bytes(bytes));
                }
                Received::Notice(text) => {
                    // The terminal is raw: a line feed alone would leave a staircase.
                    permit.send(Output::Bytes(format!("\r\n{text}\r\n").into()));
                }
                Received::End(end) => return end,
                Received::Ignore => {}
            },
            Message::Close(frame) => {
                let code = frame.as_ref().map(|frame| u16::from(frame.code));
                let reason = frame.map(|frame| printable(&frame.reason)).unwrap_or_default();
                return End::Closed(code, close_text(code, &reason));
            }
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

/// When a connection that was opened and last used then ends itself.
fn planned_at(opened: Instant, active: Instant) -> Instant {
    (active + QUIET).max(opened + PLANNED_AFTER).min(opened + PLANNED_AT_THE_LATEST)
}

fn lost(error: &Error) -> End {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => End::Closed(None, "connection lost".to_owned()),
        error => End::Closed(None, printable(&error.to_string())),
    }
}

/// The user's side of the outward direction.
struct Keys<'a> {
    input: &'a mut tokio::sync::mpsc::Receiver<Vec<u8>>,
    resized: &'a mut tokio::signal::unix::Signal,
    scanner: &'a mut clamshell_term::escape::EscapeScanner,
    started: std::time::Instant,
    access: Access,
}

impl Keys<'_> {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What is ready, up to one frame.
    fn gather(&mut self, first: Vec<u8>) -> Vec<u8> {
        let mut bytes = first;
        while bytes.len() + READ_BYTES <= STDIN_BYTES_MAX {
            let Ok(more) = self.input.try_recv() else { break };
            bytes.extend_from_slice(&more);
        }
        bytes
    }
}

/// Frames on their way out.
#[derive(Default)]
struct Outgoing {
    frames: VecDeque<Message>,
    bytes: usize,
    unflushed: bool,
}

impl Outgoing {
    fn push(&mut self, frame: Message) {
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    fn is_pending(&self) -> bool {
        self.unflushed || !self.frames.is_empty()
    }

    /// Moves frames into the socket as far as it takes them. Cancel-safe: a frame is here or there.
    fn poll_drive(
        &mut self,
        sink: &mut (impl Sink<Message, Error = Error> + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        while !self.frames.is_empty() {
            ready!(Pin::new(&mut *sink).poll_ready(cx))?;
            if let Some(frame) = self.frames.pop_front() {
                self.bytes = self.bytes.saturating_sub(frame.len());
                self.unflushed = true;
                sink.start_send_unpin(frame)?;
            }
        }
        ready!(Pin::new(&mut *sink).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }
}

async fn outbound(
    mut sink: impl Sink<Message, Error = Error> + Unpin,
    mut keys: Keys<'_>,
    shared: &Shared,
) -> End {
    let mut outgoing = Outgoing::default();
    let mut budget = FrameBudget::client();
    let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    // After a suspended laptop wakes up, one ping tells; a burst of them would only fill the queue.
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now_ms = keys.now_ms();
        let pace = Duration::from_millis(budget.delay_ms(now_ms));
        let may_send = pace.is_zero();
        let second_press =
            keys.scanner.deadline_ms().map(|at| Duration::from_millis(at.saturating_sub(now_ms)));
        let dead = shared.heard.get() + DEAD_AFTER;
        tokio::select! {
            driven = poll_fn(|cx| outgoing.poll_drive(&mut sink, cx)), if outgoing.is_pending() => {
                if let Err(error) = driven {
                    return lost(&error);
                }
            }
            typed = keys.input.recv(), if may_send && outgoing.bytes < QUEUED_BYTES_MAX => {
                let Some(first) = typed else { return End::Detached };
                let typed = keys.gather(first);
                if keys.access == Access::Watch {
                    // Ctrl+C, Ctrl+D and q leave: nothing else could be meant by somebody who looks on.
                    let now_ms = keys.now_ms();
                    let leave = typed.iter().any(|key| matches!(key, 0x03 | 0x04 | b'q'));
                    if leave || keys.scanner.scan(&typed, now_ms).detach {
                        return End::Detached;
                    }
                    continue;
                }
                shared.active.set(Instant::now());
                let now_ms = keys.now_ms();
                let scan = keys.scanner.scan(&typed, now_ms);
                for frame in stdin_messages(&scan.send) {
                    budget.take(now_ms);
                    outgoing.push(Message::Binary(frame.into()));
                }
                if scan.detach {
                    // What was typed before the key still goes out.
                    let _ = tokio::time::timeout(
                        Duration::from_secs(1),
                        poll_fn(|cx| outgoing.poll_drive(&mut sink, cx)),
                    )
                    .await;
                    return End::Detached;
                }
            }
            _ = keys.resized.recv(), if may_send => {
                if keys.access == Access::Write {
                    let (width, height) = terminal::size();
                    budget.take(keys.now_ms());
                    outgoing.push(Message::Binary(ShellFrame::Resize { width, height }.encode().into()));
                }
            }
            () = sleep(pace), if !may_send => {}
            () = sleep(second_press.unwrap_or_default()), if second_press.is_some() => {
                let now_ms = keys.now_ms();
                if keys.scanner.expire(now_ms).detach {
                    return End::Detached;
                }
            }
            _ = ping.tick() => outgoing.push(Message::Ping(Bytes::new())),
            () = sleep_until(dead) => {
                if shared.stopped.get() {
                    // Nothing can be heard while the terminal is stopped.
                    shared.heard.set(Instant::now());
                } else if shared.heard.get() + DEAD_AFTER <= Instant::now() {
                    return End::Closed(None, "no answer".to_owned());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker_ref;

    /// Takes `room` frames, then is full.
    struct Narrow {
        room: usize,
        got: Vec<Message>,
    }

    impl Sink<Message> for Narrow {
        type Error = Error;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            if self.got.len() < self.room { Poll::Ready(Ok(())) } else { Poll::Pending }
        }

        fn start_send(mut self: Pin<&mut Self>, item: Message) -> Result<(), Error> {
            self.got.push(item);
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_connection_ends_itself_in_a_quiet_moment_before_its_hour_is_over() {
        let opened = Instant::now();
        let check = |active_s: u64, expect_s: u64| {
            let planned = planned_at(opened, opened + Duration::from_secs(active_s));
            assert_eq!(planned - opened, Duration::from_secs(expect_s), "{active_s}");
        };
        check(0, 55 * 60);
        check(55 * 60 - 1, 55 * 60 + 1);
        check(58 * 60, 58 * 60 + 2);
        check(59 * 60, 59 * 60);
    }

    #[test]
    fn frames_wait_for_room_and_keep_their_order() {
        let mut sink = Narrow { room: 1, got: Vec::new() };
        let mut outgoing = Outgoing::default();
        for byte in [b"a", b"b", b"c"] {
            outgoing.push(Message::Binary(Bytes::from_static(byte)));
        }
        let mut cx = Context::from_waker(noop_waker_ref());
        assert!(outgoing.poll_drive(&mut sink, &mut cx).is_pending());
        assert_eq!((outgoing.bytes, outgoing.is_pending()), (2, true));
        sink.room = 9;
        assert!(outgoing.poll_drive(&mut sink, &mut cx).is_ready());
        assert_eq!((outgoing.bytes, outgoing.is_pending()), (0, false));
        let got: Vec<Vec<u8>> = sink.got.into_iter().map(|frame| frame.into_data().to_vec()).collect();
        assert_eq!(got, [b"a", b"b", b"c"]);
    }
}
