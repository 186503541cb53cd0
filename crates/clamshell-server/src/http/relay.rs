//! Between one WebSocket and one attachment of the guest: the frames of `runtime.md` 6.8.
//!
//! Output never skips a byte on its way: the guest sends it from the log in order, and this relay takes
//! the next frame only when the client has room for it. So a slow client holds nothing but its own
//! cursor. Input is queued up to [`INPUT_BYTES_MAX`], so that pings are answered while a program reads nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use clamshell_domain::ShellId;
use clamshell_protocol::{Access, Frame, ShellOpened};
use clamshell_term::{
    frame::{SERVER_MESSAGE_BYTES_MAX, ShellFrame, ShellFrameError},
    rate::{FrameBudget, TextCounter},
    status::Status,
};
use futures_util::{
    Sink, SinkExt, Stream, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, mpsc},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Bytes, Error as WsError, Message, Utf8Bytes,
        error::CapacityError,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    connections::Connection,
    guest::{GuestConnection, GuestReader, GuestWriter},
    session::{Claim, Compute, Session, Writer, is_lifetime_end},
};

/// Input held for a program that reads none: 64 frames of the largest size. Beyond it the connection is closed
/// with 1008, as the service does on an overflow; the shell lives on.
const INPUT_BYTES_MAX: usize = 4 << 20;

/// Frames of input held; small ones reach this before the bytes do.
const INPUT_FRAMES_MAX: usize = 1024;

/// Heartbeat answers held for a client that reads none; further ones are left out.
const HEARTBEATS_MAX: usize = 16;

/// How long the last words to a client may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long input that was taken may need to reach the guest after the client left.
const FLUSH: Duration = Duration::from_secs(5);

/// After the guest hung up: how long to wait for the news that the whole compute is going.
const NEWS: Duration = Duration::from_millis(500);

/// Limits for the WebSocket library. Messages above our own limit but below this one get the proper close
/// code; the write buffer is bounded, unlike the library's default.
pub(super) fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(512 * 1024)
        .max_message_size(Some(256 * 1024))
        .max_frame_size(Some(256 * 1024))
}

/// Which client is at the other end.
#[derive(Debug)]
pub(super) enum Style {
    /// Any client of the AWS operation.
    Aws {
        /// Its hold on the shell.
        claim: Claim,
        /// Bytes that this attachment's replay did not reach back to.
        lost: u64,
    },
    /// A client of the extension API.
    Attach {
        /// Bytes of output that may be on their way to a client that tells what it has dealt with. A client that tells
        /// nothing more gets nothing more, and all it holds meanwhile is its cursor.
        window: Option<u64>,
        /// It answers what the program asks the terminal only while it is told to.
        answers_when_told: bool,
    },
}

/// Everything about one connection.
pub(super) struct Relay {
    pub(super) app: Arc<App>,
    pub(super) session: Arc<Session>,
    pub(super) compute: Compute,
    pub(super) shell_id: ShellId,
    pub(super) opened: ShellOpened,
    pub(super) access: Access,
    pub(super) style: Style,
    /// Who opened it.
    pub(super) connection: Connection,
    /// Its place among the writers of the shell, for a writing client of the extension API.
    pub(super) writer: Option<Writer>,
}

enum End {
    /// The client left: detach.
    ClientGone,
    /// Close with this code.
    Close(u16, &'static str),
    /// The program ended.
    Exited(clamshell_protocol::Exit),
    /// The guest hung up.
    GuestGone,
}

struct Shared<'a> {
    relay: &'a Relay,
    queued: AtomicUsize,
    /// Bytes of STDOUT sent on this connection.
    sent: AtomicU64,
    /// So many of them the client has dealt with, as it says.
    consumed: AtomicU64,
    /// Tells the outgoing half that `consumed` grew.
    more_consumed: Notify,
}

impl Relay {
    /// Serves the connection until either side ends it.
    pub(super) async fn run<S>(self, socket: WebSocketStream<S>, guest: GuestConnection)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut sink, mut stream) = socket.split();
        let shared = Shared {
            relay: &self,
            queued: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
            more_consumed: Notify::new(),
        };
        let (input, input_queue) = mpsc::channel(INPUT_FRAMES_MAX);
        let (heartbeat, heartbeats) = mpsc::channel(HEARTBEATS_MAX);
        let GuestConnection { reader, writer } = guest;
        let no_claim = CancellationToken::new();
        let evicted = match &self.style {
            Style::Aws { claim, .. } => &claim.evicted,
            Style::Attach { .. } => &no_claim,
        };
        let evicted = self.writer.as_ref().map_or(evicted, |writer| &writer.evicted);
        // Those who watch see who comes and goes.
        self.app.events.hints.shells(self.session.key());
        let time_to_live =
            tokio::time::sleep(Duration::from_millis(self.app.config.shells.connection_ttl_ms));

        let mut to_guest = std::pin::pin!(shared.write_guest(writer, input_queue));
        let end = {
            let outgoing = shared.pump_out(reader, &mut sink, heartbeats);
            let incoming = shared.pump_in(&mut stream, &input, &heartbeat);
            tokio::select! {
                end = outgoing => end,
                end = incoming => end,
                () = &mut to_guest => End::GuestGone,
                () = time_to_live => End::Close(1008, "connection time to live is over"),
                () = self.connection.revoked.cancelled() => End::Close(1008, "credentials are not valid any more"),
                () = evicted.cancelled() => End::Close(4000, "replaced by another client"),
                () = self.compute.ended.cancelled() => End::Close(1001, "session stopped"),
                () = self.app.shutdown.cancelled() => End::Close(1001, "server is restarting"),
            }
        };
        drop(input);
        let end = match end {
            End::GuestGone => tokio::select! {
                () = self.compute.ended.cancelled() => End::Close(1001, "session stopped"),
                () = self.app.shutdown.cancelled() => End::Close(1001, "server is restarting"),
                () = tokio::time::sleep(NEWS) => End::Close(1011, "runtime cannot be reached"),
            },
            end => {
                // What was typed reaches the program even if the client left right after it.
                let _ = tokio::time::timeout(FLUSH, to_guest).await;
                end
            }
        };
        let _ = tokio::time::timeout(FAREWELL, self.farewell(&mut sink, &mut stream, end)).await;
        self.session.activity(self.app.now_ms());
        self.app.events.hints.shells(self.session.key());
    }

    async fn farewell<S>(
        &self,
        sink: &mut SplitSink<WebSocketStream<S>, Message>,
        stream: &mut SplitStream<WebSocketStream<S>>,
        end: End,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (code, reason) = match end {
            End::ClientGone => {
                // The library has queued the answer to the client's close frame.
                let _ = sink.close().await;
                return;
            }
            End::Close(code, reason) => {
                if code == 1001 && is_lifetime_end(&self.session) {
                    let _ = sink.send(binary(ShellFrame::Close.encode())).await;
                }
                (code, reason)
            }
            End::Exited(exit) => {
                let status = Status::Exited { code: exit.code, signal: exit.signal };
                let _ = sink.send(status_message(&status)).await;
                (1000, "shell exited")
            }
            End::GuestGone => (1011, "runtime cannot be reached"),
        };
        let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from_static(reason) };
        if sink.send(Message::Close(Some(frame))).await.is_ok() {
            // Closing a socket with unread input would reset it and may take the close frame with it.
            while let Some(Ok(_)) = stream.next().await {}
        }
    }

    /// `gaps`: bytes of the gaps met since the attachment was made.
    fn confirmation(&self, gaps: u64) -> Status {
        let (bytes_dropped, offset) = match &self.style {
            Style::Aws { lost, .. } => {
                // The guest counts for as long as the shell runs, whatever becomes of the server. One older than that
                // count says 0. Any number may come from a guest.
                let dropped = self.opened.dropped_bytes.max(*lost).saturating_add(gaps);
                ((dropped > 0).then_some(dropped), None)
            }
            Style::Attach { .. } => (None, Some(self.opened.from_offset)),
        };
        Status::Confirmed {
            shell_id: self.shell_id.to_string(),
            reconnected: !self.opened.created,
            bytes_dropped,
            offset,
        }
    }
}

impl Shared<'_> {
    async fn pump_out<K>(
        &self,
        mut guest: GuestReader,
        sink: &mut K,
        mut heartbeats: mpsc::Receiver<()>,
    ) -> End
    where
        K: Sink<Message, Error = WsError> + Unpin,
    {
        let relay = self.relay;
        let mut gaps = 0_u64;
        if let Err(end) = self.send(sink, status_message(&relay.confirmation(gaps))).await {
            return end;
        }
        if let Style::Attach { window: Some(_), .. } = relay.style {
            let opened = &relay.opened;
            let run = Status::Run {
                shell_id: relay.shell_id.to_string(),
                offset: opened.run_offset,
                end: opened.end_offset,
                cols: opened.cols,
                rows: opened.rows,
            };
            if let Err(end) = self.send(sink, status_message(&run)).await {
                return end;
            }
        }
        if let Style::Attach { answers_when_told: true, .. } = relay.style
            && !relay.opened.tells_answers
        {
            // A sandbox older than this: each client answers, as each did then.
            if let Err(end) = self.send_answers(sink, true).await {
                return end;
            }
        }
        loop {
            let has_room = self.has_room();
            let frame = tokio::select! {
                // All are cancel-safe: a frame that was not taken stays in its queue, news of room is kept.
                frame = guest.next(), if has_room => frame,
                () = self.more_consumed.notified(), if !has_room => continue,
                Some(()) = heartbeats.recv() => {
                    if let Err(end) = self.send(sink, binary(ShellFrame::Heartbeat.encode())).await {
                        return end;
                    }
                    continue;
                }
            };
            let frame = match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => return End::GuestGone,
                Err(error) => {
                    tracing::warn!(shell = %relay.shell_id, %error, "connection to the guest broke");
                    return End::GuestGone;
                }
            };
            let sent = match frame {
                Frame::Output { bytes, .. } => self.send_output(sink, &bytes).await,
                Frame::Exit(exit) => return End::Exited(exit),
                Frame::CaughtUp { .. } => match &relay.style {
                    Style::Aws { lost: 1.., .. } => {
                        self.send(sink, status_message(&relay.confirmation(gaps))).await
                    }
                    Style::Aws { .. } | Style::Attach { .. } => Ok(()),
                },
                Frame::Gap { from, to } => match &relay.style {
                    Style::Aws { .. } => {
                        gaps = gaps.saturating_add(to.saturating_sub(from));
                        self.send(sink, status_message(&relay.confirmation(gaps))).await
                    }
                    Style::Attach { .. } => {
                        let status = Status::Gap { shell_id: relay.shell_id.to_string(), from, to };
                        self.send(sink, status_message(&status)).await
                    }
                },
                Frame::Screen { offset, bytes } => {
                    let status = Status::Screen {
                        shell_id: relay.shell_id.to_string(),
                        offset,
                        bytes: bytes.len() as u64,
                    };
                    match self.send(sink, status_message(&status)).await {
                        Ok(()) => self.send_output(sink, &bytes).await,
                        Err(end) => Err(end),
                    }
                }
                Frame::Resized { cols, rows } => match &relay.style {
                    Style::Aws { .. } => Ok(()),
                    Style::Attach { .. } => {
                        let status = Status::Resized { shell_id: relay.shell_id.to_string(), cols, rows };
                        self.send(sink, status_message(&status)).await
                    }
                },
                Frame::Answers(answers) => match &relay.style {
                    Style::Attach { answers_when_told: true, .. } => self.send_answers(sink, answers).await,
                    Style::Aws { .. } | Style::Attach { .. } => Ok(()),
                },
                Frame::Request(_)
                | Frame::Input(_)
                | Frame::InputEnd
                | Frame::Resize { .. }
                | Frame::Kill
                | Frame::Reply(_)
                | Frame::Stdout(_)
                | Frame::Stderr(_) => {
                    tracing::warn!(shell = %relay.shell_id, "guest sent a frame that does not belong to a shell");
                    return End::GuestGone;
                }
            };
            if let Err(end) = sent {
                return end;
            }
        }
    }

    async fn send_answers<K>(&self, sink: &mut K, answers: bool) -> Result<(), End>
    where
        K: Sink<Message, Error = WsError> + Unpin,
    {
        let status = Status::Answers { shell_id: self.relay.shell_id.to_string(), answers };
        self.send(sink, status_message(&status)).await
    }

    async fn send_output<K>(&self, sink: &mut K, bytes: &[u8]) -> Result<(), End>
    where
        K: Sink<Message, Error = WsError> + Unpin,
    {
        self.active();
        for piece in bytes.chunks(SERVER_MESSAGE_BYTES_MAX - 1) {
            // Before it goes out: the client may have dealt with it before this half runs again.
            self.sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
            self.send(sink, binary(ShellFrame::Stdout(piece).encode())).await?;
        }
        Ok(())
    }

    /// Whether the client takes more. What comes next from the guest may be one frame above the window.
    fn has_room(&self) -> bool {
        let Style::Attach { window: Some(window), .. } = self.relay.style else { return true };
        let sent = self.sent.load(Ordering::Relaxed);
        sent.saturating_sub(self.consumed.load(Ordering::Relaxed)) < window
    }

    async fn send<K>(&self, sink: &mut K, message: Message) -> Result<(), End>
    where
        K: Sink<Message, Error = WsError> + Unpin,
    {
        let patience = Duration::from_millis(self.relay.app.config.shells.stall_timeout_ms);
        match tokio::time::timeout(patience, sink.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::ClientGone),
            Err(_) => Err(End::Close(1008, "client takes no output")),
        }
    }

    async fn pump_in<T>(
        &self,
        stream: &mut T,
        input: &mpsc::Sender<Frame>,
        heartbeat: &mpsc::Sender<()>,
    ) -> End
    where
        T: Stream<Item = Result<Message, WsError>> + Unpin,
    {
        let mut budget = FrameBudget::server();
        // Not the calendar's time: that may be set back, and then no second would ever be over.
        let started = tokio::time::Instant::now();
        let mut texts = TextCounter::default();
        loop {
            let message = match stream.next().await {
                Some(Ok(message)) => message,
                Some(Err(WsError::Capacity(CapacityError::MessageTooLong { .. }))) => return too_long(),
                Some(Err(_)) | None => return End::ClientGone,
            };
            self.active();
            let data = match message {
                Message::Binary(data) => data,
                Message::Text(_) => {
                    if texts.on_text() {
                        return End::Close(1003, "only binary messages are understood");
                    }
                    continue;
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
                Message::Close(_) => return End::ClientGone,
            };
            texts.on_binary();
            let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            if !budget.take(elapsed_ms) {
                return End::Close(1008, "more than 250 frames per second");
            }
            let frame = match ShellFrame::from_client(&data) {
                Ok(frame) => frame,
                Err(ShellFrameError::TooLong { .. }) => return too_long(),
                Err(ShellFrameError::BadResize) => continue,
            };
            let frame = match frame {
                ShellFrame::Heartbeat => {
                    let _ = heartbeat.try_send(());
                    continue;
                }
                ShellFrame::Consumed(count) => {
                    let count = count.min(self.sent.load(Ordering::Relaxed));
                    self.consumed.fetch_max(count, Ordering::Relaxed);
                    self.more_consumed.notify_one();
                    continue;
                }
                _ if self.relay.access == Access::Watch => continue,
                ShellFrame::Stdin(bytes) => Frame::Input(bytes.to_vec()),
                ShellFrame::Resize { width, height } => Frame::Resize { cols: width, rows: height },
                ShellFrame::Close => Frame::Kill,
                ShellFrame::Stdout(_)
                | ShellFrame::Stderr(_)
                | ShellFrame::Status(_)
                | ShellFrame::Unknown { .. } => continue,
            };
            let length = queue_length(&frame);
            let queued = self.queued.fetch_add(length, Ordering::Relaxed) + length;
            if queued > INPUT_BYTES_MAX || input.try_send(frame).is_err() {
                return End::Close(1008, "program reads no input");
            }
        }
    }

    async fn write_guest(&self, mut guest: GuestWriter, mut queue: mpsc::Receiver<Frame>) {
        while let Some(frame) = queue.recv().await {
            if guest.send(&frame).await.is_err() {
                return;
            }
            self.queued.fetch_sub(queue_length(&frame), Ordering::Relaxed);
        }
    }

    fn active(&self) {
        if self.relay.access == Access::Write {
            self.relay.session.activity(self.relay.app.now_ms());
        }
    }
}

fn queue_length(frame: &Frame) -> usize {
    match frame {
        Frame::Input(bytes) => bytes.len(),
        _ => 0,
    }
}

fn too_long() -> End {
    End::Close(1009, "payload is above 64 KiB")
}

fn binary(bytes: Vec<u8>) -> Message {
    Message::Binary(Bytes::from(bytes))
}

fn status_message(status: &Status) -> Message {
    binary(ShellFrame::Status(status.to_json().as_bytes()).encode())
}
