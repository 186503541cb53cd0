//! Between one page's WebSocket and a shell of the upstream: the attachment of `docs/api.md`, served from what is here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clamshell_term::{
    frame::{SERVER_MESSAGE_BYTES_MAX, ShellFrame, ShellFrameError},
    rate::{FrameBudget, TextCounter},
    status::Status,
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, mpsc},
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Bytes, Error as WsError, Message,
        error::CapacityError,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    shell::Shell,
    state::{End, From, Next},
    typing::{Input, Took},
};

/// Heartbeat answers held for a page that reads none; further ones are left out.
const HEARTBEATS_MAX: usize = 16;

/// How long the last words to a page may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// A page that takes no output for so long is sent away: its writers hold everybody up.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A page that reports nothing taken for so long does not hold up the others that write. As with shells of this server.
const LAG: Duration = Duration::from_secs(5);

/// A page's wish.
#[derive(Debug, Clone)]
pub(crate) struct PageAsk {
    pub(crate) from: From,
    pub(crate) writes: bool,
    /// Bytes of output on their way before the page has to tell that it has dealt with some.
    pub(crate) window: Option<u64>,
    /// It answers what the program asks the terminal only while it is told to.
    pub(crate) answers_when_told: bool,
    /// Other writers are sent away.
    pub(crate) takeover: bool,
    /// Name under which its input is counted.
    pub(crate) writer: Option<String>,
}

/// Why a page's connection ends.
enum Bye {
    Gone,
    Close(u16, String),
    Ended(End),
}

struct Served<'a> {
    shell: &'a Shell,
    ask: PageAsk,
    id: u64,
    sent: AtomicU64,
    consumed: AtomicU64,
    more_consumed: Notify,
}

/// Serves a page until either side ends it.
pub(super) async fn serve<S>(
    socket: WebSocketStream<S>,
    shell: Arc<Shell>,
    ask: PageAsk,
    revoked: CancellationToken,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = socket.split();
    let shell_id = shell.ask.shell_id.to_string();
    let (id, statuses, picture) =
        shell.change(|state| state.attach(&shell_id, ask.from, ask.writes, ask.writer.as_deref()));
    if ask.writes {
        shell.change(|state| state.join_answers(id, ask.answers_when_told));
    }
    if ask.takeover && ask.writes {
        shell.evict_others(id);
    }
    let served = Served {
        shell: &shell,
        ask,
        id,
        sent: AtomicU64::new(0),
        consumed: AtomicU64::new(0),
        more_consumed: Notify::new(),
    };
    let (heartbeat, heartbeats) = mpsc::channel(HEARTBEATS_MAX);
    let bye = {
        let outgoing = served.pump_out(&mut sink, statuses, picture, heartbeats);
        let incoming = served.pump_in(&mut stream, &heartbeat);
        tokio::select! {
            bye = outgoing => bye,
            bye = incoming => bye,
            () = shell.evicted(id) => Bye::Close(4000, "replaced by another page".to_owned()),
            () = revoked.cancelled() => Bye::Close(1008, "login is not good any more".to_owned()),
            () = shutdown.cancelled() => Bye::Close(1001, "server is restarting".to_owned()),
        }
    };
    shell.change(|state| state.detach(id));
    let _ = timeout(FAREWELL, farewell(&mut sink, &mut stream, bye)).await;
}

async fn farewell<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    stream: &mut SplitStream<WebSocketStream<S>>,
    bye: Bye,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (code, reason) = match bye {
        Bye::Gone => {
            let _ = sink.close().await;
            return;
        }
        Bye::Close(code, reason) => (code, reason),
        Bye::Ended(End::Exited { code, signal }) => {
            let _ = sink.send(status(&Status::Exited { code, signal })).await;
            (1000, "shell exited".to_owned())
        }
        Bye::Ended(End::Detached) => (1001, "connect again".to_owned()),
        Bye::Ended(End::Replaced) => (4000, "another client of the endpoint has the shell".to_owned()),
        Bye::Ended(End::Failed { message }) => {
            let _ = sink.send(status(&Status::Failed { message })).await;
            (1011, "upstream failed".to_owned())
        }
    };
    let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
    if sink.send(Message::Close(Some(frame))).await.is_ok() {
        while let Some(Ok(_)) = stream.next().await {}
    }
}

impl Served<'_> {
    async fn pump_out<S>(
        &self,
        sink: &mut SplitSink<WebSocketStream<S>, Message>,
        statuses: Vec<Status>,
        picture: Vec<u8>,
        mut heartbeats: mpsc::Receiver<()>,
    ) -> Bye
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        for first in &statuses {
            if let Err(bye) = self.send(sink, status(first)).await {
                return bye;
            }
        }
        for piece in picture.chunks(SERVER_MESSAGE_BYTES_MAX - 1) {
            if let Err(bye) = self.send_output(sink, piece).await {
                return bye;
            }
        }
        let mut changed = self.shell.watch();
        // Since when there is no room, and whether that was so long that it was told.
        let (mut full_at, mut lags) = (Instant::now(), false);
        loop {
            let has_room = self.has_room();
            if has_room {
                full_at = Instant::now();
                if std::mem::take(&mut lags) {
                    self.shell.change(|state| state.set_lags(self.id, false));
                }
            }
            let next = if has_room {
                // Marked before it is asked for, so that no change in between is missed.
                changed.mark_unchanged();
                self.shell.state().next(self.id, SERVER_MESSAGE_BYTES_MAX - 1)
            } else {
                Next::Nothing
            };
            let shell_id = || self.shell.ask.shell_id.to_string();
            let sent = match next {
                Next::Output(bytes) => {
                    let sent = self.send_output(sink, &bytes).await;
                    // The upstream is read on when the slowest page has room.
                    self.shell.change(|_| ());
                    sent
                }
                Next::Gap(from, to) => {
                    self.send(sink, status(&Status::Gap { shell_id: shell_id(), from, to })).await
                }
                Next::Resized(cols, rows) => {
                    self.send(sink, status(&Status::Resized { shell_id: shell_id(), cols, rows })).await
                }
                Next::Answers(answers) => {
                    self.send(sink, status(&Status::Answers { shell_id: shell_id(), answers })).await
                }
                Next::Typed(bytes) => {
                    self.send(sink, status(&Status::Typed { shell_id: shell_id(), bytes })).await
                }
                Next::Notice(text) => self.send(sink, binary(ShellFrame::Stderr(text.as_bytes()))).await,
                Next::Anew => return Bye::Close(1001, "another program runs in this shell".to_owned()),
                Next::Ended(end) => return Bye::Ended(end),
                Next::Nothing => {
                    tokio::select! {
                        _ = changed.changed(), if has_room => Ok(()),
                        () = self.more_consumed.notified(), if !has_room => Ok(()),
                        () = sleep_until(full_at + LAG), if !has_room && !lags => {
                            lags = true;
                            self.shell.change(|state| state.set_lags(self.id, true));
                            Ok(())
                        }
                        Some(()) = heartbeats.recv() => {
                            self.send(sink, binary(ShellFrame::Heartbeat)).await
                        }
                    }
                }
            };
            if let Err(bye) = sent {
                return bye;
            }
        }
    }

    fn has_room(&self) -> bool {
        let Some(window) = self.ask.window else { return true };
        let sent = self.sent.load(Ordering::Relaxed);
        sent.saturating_sub(self.consumed.load(Ordering::Relaxed)) < window
    }

    async fn send_output<S>(
        &self,
        sink: &mut SplitSink<WebSocketStream<S>, Message>,
        bytes: &[u8],
    ) -> Result<(), Bye>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.send(sink, binary(ShellFrame::Stdout(bytes))).await
    }

    async fn send<S>(
        &self,
        sink: &mut SplitSink<WebSocketStream<S>, Message>,
        message: Message,
    ) -> Result<(), Bye>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        match timeout(STALL_TIMEOUT, sink.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Bye::Gone),
            Err(_) => Err(Bye::Close(1008, "page takes no output".to_owned())),
        }
    }

    async fn pump_in<S>(
        &self,
        stream: &mut SplitStream<WebSocketStream<S>>,
        heartbeat: &mpsc::Sender<()>,
    ) -> Bye
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut budget = FrameBudget::server();
        let started = Instant::now();
        let mut texts = TextCounter::default();
        loop {
            let data = match stream.next().await {
                Some(Ok(Message::Binary(data))) => data,
                Some(Ok(Message::Text(_))) => {
                    if texts.on_text() {
                        return Bye::Close(1003, "only binary messages are understood".to_owned());
                    }
                    continue;
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Err(WsError::Capacity(CapacityError::MessageTooLong { .. }))) => return too_long(),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Bye::Gone,
            };
            texts.on_binary();
            let now_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            if !budget.take(now_ms) {
                return Bye::Close(1008, "more than 250 frames per second".to_owned());
            }
            let input = match ShellFrame::from_client(&data) {
                Ok(ShellFrame::Heartbeat) => {
                    let _ = heartbeat.try_send(());
                    continue;
                }
                Ok(ShellFrame::Consumed(count)) => {
                    let count = count.min(self.sent.load(Ordering::Relaxed));
                    self.consumed.fetch_max(count, Ordering::Relaxed);
                    self.more_consumed.notify_one();
                    continue;
                }
                Err(ShellFrameError::TooLong { .. }) => return too_long(),
                // Whoever watches sends nothing else.
                _ if !self.ask.writes => continue,
                Ok(ShellFrame::Stdin(bytes)) => {
                    self.shell.state().on_typed(self.id);
                    Input::Bytes(bytes.to_vec())
                }
                Ok(ShellFrame::Resize { width, height }) => {
                    if !self.shell.change(|state| state.resize(self.id, width, height)) {
                        continue;
                    }
                    Input::Resize(width, height)
                }
                Ok(ShellFrame::Close) => Input::Close,
                Ok(
                    ShellFrame::Stdout(_)
                    | ShellFrame::Stderr(_)
                    | ShellFrame::Status(_)
                    | ShellFrame::Unknown { .. },
                )
                | Err(ShellFrameError::BadResize) => continue,
            };
            match self.shell.type_in(self.id, input) {
                Took::Waits => {}
                Took::Full => {
                    return Bye::Close(1008, "too much input waits for the upstream".to_owned());
                }
                Took::Stale => return Bye::Gone,
            }
        }
    }
}

fn too_long() -> Bye {
    Bye::Close(1009, "payload is above 64 KiB".to_owned())
}

fn status(status: &Status) -> Message {
    binary(ShellFrame::Status(status.to_json().as_bytes()))
}

fn binary(frame: ShellFrame<'_>) -> Message {
    Message::Binary(Bytes::from(frame.encode()))
}
