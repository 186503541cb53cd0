//! One shell that runs at the upstream: the task that keeps a connection to it, whoever watches, and takes the upstream's
//! limits off its users: heartbeats, the hour that a connection may last, frames a second.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clamshell_domain::Entropy;
use clamshell_term::{
    frame::{STDIN_BYTES_MAX, ShellFrame},
    rate::FrameBudget,
    reconnect::{CloseMeaning, Decision, Reconnect, ReconnectPolicy, StopReason},
    status::Status,
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message};
use tokio_util::sync::CancellationToken;

use super::{
    joint::{Joined, Joint},
    state::{End, Link, State},
    upstream::{ShellAsk, Upstream, UpstreamError, UpstreamShell, UpstreamSocket},
};

/// Pieces of input that wait for the upstream; a page that sends more is closed.
const INPUTS_MAX: usize = 1024;

/// Bytes of input that wait for the upstream: a paste that a program reads slowly.
const INPUT_BYTES_MAX: usize = 4 << 20;

/// Input that was typed while the upstream could not be reached.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// The endpoint has this long to open a session and confirm a shell in it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// The end of a replay: nothing more came for so long.
const REPLAY_QUIET: Duration = Duration::from_millis(300);

/// A close handshake that takes longer is not worth waiting for.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Times of a shell's connection to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebPolicy {
    /// A heartbeat is sent so often, so that no proxy takes the connection for idle.
    pub heartbeat: Duration,
    /// From this age on the connection is renewed at the next quiet moment: the upstream ends it after an hour.
    pub renew_from: Duration,
    /// At this age it is renewed in any case.
    pub renew_latest: Duration,
    /// A moment is quiet when nothing was typed or printed for so long.
    pub quiet: Duration,
    /// The connection is kept for so long after the last page has gone. The shell goes on without it, for as long as the
    /// upstream keeps shells that nobody is connected to.
    pub keep: Duration,
}

impl Default for WebPolicy {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(30),
            renew_from: Duration::from_mins(55),
            renew_latest: Duration::from_mins(59),
            quiet: Duration::from_secs(2),
            keep: Duration::from_mins(1),
        }
    }
}

/// What pages send.
#[derive(Debug)]
pub(super) enum Input {
    Bytes(Vec<u8>),
    Resize(u16, u16),
    /// End the shell.
    Close,
}

impl Input {
    fn length(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Resize(..) | Self::Close => 0,
        }
    }
}

/// A shell; shared by its task and its pages.
pub(super) struct Shell {
    pub(super) ask: ShellAsk,
    state: Mutex<State>,
    /// Changes with everything that pages may want to know.
    changed: watch::Sender<u64>,
    input: mpsc::Sender<Input>,
    /// Bytes of input that wait.
    queued: AtomicUsize,
    /// Pages that were taken over from.
    evicted: watch::Sender<Vec<u64>>,
}

/// Why a connection is over.
enum Over {
    /// By the upstream or the network.
    Closed(Option<u16>, String),
    /// The program ended, or the upstream says that it is lost.
    Ended(End),
    /// Its time is nearly up.
    Renew,
    /// No page has been there for a while.
    Abandoned,
    /// This process ends.
    Shutdown,
}

impl Shell {
    /// A shell, and where its input comes out.
    pub(super) fn new(ask: ShellAsk, start: u64) -> (Arc<Self>, mpsc::Receiver<Input>) {
        let (input, inputs) = mpsc::channel(INPUTS_MAX);
        let state = Mutex::new(State::new(start, ask.size));
        let shell = Self {
            ask,
            state,
            changed: watch::Sender::new(0),
            input,
            queued: AtomicUsize::new(0),
            evicted: watch::Sender::new(Vec::new()),
        };
        (Arc::new(shell), inputs)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes state and tells everybody.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        changed
    }

    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// `false` when too much input waits: for a program that reads none, or for an upstream that cannot be reached.
    pub(super) fn send(&self, input: Input) -> bool {
        let bytes_max = match self.state().link() {
            Link::Live => INPUT_BYTES_MAX,
            Link::Connecting(_) => HELD_BYTES_MAX,
        };
        let length = input.length();
        if self.queued.fetch_add(length, Ordering::Relaxed) + length <= bytes_max
            && self.input.try_send(input).is_ok()
        {
            return true;
        }
        self.queued.fetch_sub(length, Ordering::Relaxed);
        false
    }

    /// Takes the shell over for a page: the others that write are sent away.
    pub(super) fn evict_others(&self, id: u64) {
        let others = self.state().others(id);
        self.evicted.send_replace(others);
    }

    /// Returns once a page was taken over from.
    pub(super) async fn evicted(&self, id: u64) {
        let mut evicted = self.evicted.subscribe();
        // The shell outlives its pages, so this never fails.
        let _ = evicted.wait_for(|ids| ids.contains(&id)).await;
    }

    /// Keeps a connection until the shell ends, nobody is there any more, or the process ends.
    pub(super) async fn drive(
        self: Arc<Self>,
        upstream: Arc<dyn Upstream>,
        mut inputs: mpsc::Receiver<Input>,
        policy: WebPolicy,
        entropy: Arc<dyn Entropy>,
        shutdown: CancellationToken,
    ) {
        let started = Instant::now();
        let mut reconnect = Reconnect::new(ReconnectPolicy::WHOLE_WINDOW);
        let mut attempt = 1;
        loop {
            self.change(|state| state.on_connecting(attempt));
            let mut ask = self.ask.clone();
            ask.size = self.state().size();
            let connected = tokio::select! {
                connected = timeout(CONNECT_TIMEOUT, upstream.connect(&ask)) => connected,
                () = shutdown.cancelled() => return,
            };
            let over = match connected {
                Ok(Ok(connected)) => {
                    reconnect.on_confirmed();
                    attempt = 1;
                    self.connected(connected, &mut inputs, policy, &shutdown).await
                }
                Ok(Err(UpstreamError::Refused { message })) => Over::Ended(End::Failed { message }),
                Ok(Err(UpstreamError::Closed { code, message })) => Over::Closed(code, message),
                Err(_) => Over::Closed(None, "no confirmation within 60 s".to_owned()),
            };
            let (code, message) = match over {
                Over::Ended(end) => return self.change(|state| state.on_end(end)),
                Over::Abandoned | Over::Shutdown => return,
                Over::Renew => continue,
                Over::Closed(code, message) => (code, message),
            };
            tracing::debug!(shell = %self.ask.shell_id, code, message, "connection to the upstream is over");
            let now_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let random = random(&*entropy);
            match reconnect.on_closed(now_ms, code, random) {
                Decision::Retry { delay_ms, attempt: number, .. } => {
                    attempt = number;
                    self.change(|state| state.on_connecting(number));
                    let gone = self.abandoned(policy.keep);
                    tokio::select! {
                        () = sleep(Duration::from_millis(delay_ms)) => {}
                        () = gone => return,
                        () = shutdown.cancelled() => return,
                    }
                }
                Decision::Stop(reason) => {
                    return self.change(|state| state.on_end(end_of(reason, code, message)));
                }
            }
        }
    }

    /// Serves one connection.
    async fn connected(
        &self,
        connected: UpstreamShell,
        inputs: &mut mpsc::Receiver<Input>,
        policy: WebPolicy,
        shutdown: &CancellationToken,
    ) -> Over {
        let UpstreamShell { socket, reconnected, early } = connected;
        let same_program = reconnected.unwrap_or(true);
        let joint = self.change(|state| {
            let first = state.range().1 == state.run_start();
            let joint = state.on_connected(same_program);
            // What was typed for a program that is gone is not for the next one.
            (joint, first || same_program)
        });
        let (joint, keeps_input) = joint;
        if !keeps_input {
            while let Ok(input) = inputs.try_recv() {
                self.taken(input);
            }
        }
        let (mut sink, mut stream) = socket.split();
        let connected_at = Instant::now();
        let typed_at = watch::Sender::new(connected_at);
        let printed_at = watch::Sender::new(connected_at);
        let over = {
            let reading = self.read(&mut stream, early, joint, &printed_at);
            let writing = self.write(&mut sink, inputs, policy.heartbeat, &typed_at);
            let renewal = renewal(connected_at, policy, &typed_at, &printed_at);
            tokio::select! {
                over = reading => over,
                over = writing => over,
                () = renewal => Over::Renew,
                () = self.abandoned(policy.keep) => Over::Abandoned,
                () = shutdown.cancelled() => Over::Shutdown,
            }
        };
        if !matches!(over, Over::Closed(..)) {
            // Without 0xFF: the shell goes on.
            let _ = timeout(CLOSE_TIMEOUT, sink.close()).await;
            if matches!(over, Over::Renew) {
                self.drain(&mut stream, &printed_at).await;
            }
        }
        over
    }

    /// Takes what was on its way when this side said goodbye: the replay would bring it again, but sooner is better.
    async fn drain(&self, stream: &mut SplitStream<UpstreamSocket>, printed_at: &watch::Sender<Instant>) {
        let all = self.read(stream, std::collections::VecDeque::new(), None, printed_at);
        let _ = timeout(CLOSE_TIMEOUT, all).await;
    }

    async fn read(
        &self,
        stream: &mut SplitStream<UpstreamSocket>,
        early: std::collections::VecDeque<Bytes>,
        mut joint: Option<Joint>,
        printed_at: &watch::Sender<Instant>,
    ) -> Over {
        for message in early {
            if let Some(over) = self.on_message(&message, &mut joint) {
                return over;
            }
        }
        let mut changed = self.watch();
        loop {
            if !self.state().has_room() {
                // Nothing is read until the pages have caught up: the upstream holds its program back.
                let _ = changed.changed().await;
                continue;
            }
            let next = if joint.is_some() {
                match timeout(REPLAY_QUIET, stream.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        if let Some(joined) = joint.take().map(|mut joint| joint.on_quiet()) {
                            self.on_joined(joined);
                        }
                        continue;
                    }
                }
            } else {
                stream.next().await
            };
            let message = match next {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Over::Closed(None, error.to_string()),
                None => return Over::Closed(None, "connection lost".to_owned()),
            };
            match message {
                Message::Binary(bytes) => {
                    printed_at.send_replace(Instant::now());
                    if let Some(over) = self.on_message(&bytes, &mut joint) {
                        return over;
                    }
                }
                Message::Close(frame) => {
                    let code = frame.as_ref().map(|frame| u16::from(frame.code));
                    let reason = frame.map(|frame| frame.reason.to_string()).unwrap_or_default();
                    return Over::Closed(code, reason);
                }
                Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    fn on_message(&self, message: &[u8], joint: &mut Option<Joint>) -> Option<Over> {
        match ShellFrame::from_server(message) {
            Ok(ShellFrame::Stdout(bytes)) => match joint {
                None => self.change(|state| state.on_output(bytes)),
                Some(join) => {
                    let joined = join.on_output(bytes);
                    if joined != Joined::Waiting {
                        *joint = None;
                        self.on_joined(joined);
                    }
                }
            },
            // Shown as the platform means it: to people, beside the output.
            Ok(ShellFrame::Stderr(text)) => {
                let text = String::from_utf8_lossy(text);
                let plain: String = text.chars().filter(|letter| !letter.is_control()).take(500).collect();
                self.change(|state| state.on_output(format!("\x1b[2m[{plain}]\x1b[22m\r\n").as_bytes()));
            }
            Ok(ShellFrame::Status(json)) => match Status::parse(json) {
                Ok(Status::Exited { code, signal }) => {
                    return Some(Over::Ended(End::Exited { code, signal }));
                }
                // An error of the service: another connection may do better.
                Ok(Status::Failed { message }) => return Some(Over::Closed(None, message)),
                _ => {}
            },
            Ok(ShellFrame::Close) => {
                return Some(Over::Closed(Some(1001), "upstream is shutting down".to_owned()));
            }
            Ok(
                ShellFrame::Stdin(_)
                | ShellFrame::Resize { .. }
                | ShellFrame::Heartbeat
                | ShellFrame::Consumed(_)
                | ShellFrame::Unknown { .. },
            ) => {}
            Err(error) => return Some(Over::Closed(Some(1009), error.to_string())),
        }
        None
    }

    fn on_joined(&self, joined: Joined) {
        match joined {
            Joined::Continues(bytes) => self.change(|state| state.on_output(&bytes)),
            Joined::Afresh(bytes) => self.change(|state| state.on_output_afresh(&bytes)),
            Joined::Waiting => {}
        }
    }

    /// Returns once no page has been there for this long.
    async fn abandoned(&self, keep: Duration) {
        let mut changed = self.watch();
        loop {
            let attached = self.state().attached();
            if attached != (0, 0) {
                let _ = changed.changed().await;
                continue;
            }
            let deadline = Instant::now() + keep;
            // Output changes the state as well; only a page ends the wait.
            loop {
                tokio::select! {
                    () = sleep_until(deadline) => return,
                    _ = changed.changed() => {}
                }
                if self.state().attached() != (0, 0) {
                    break;
                }
            }
        }
    }

    /// Sends input in the pace that the upstream allows, small pieces together, and heartbeats.
    async fn write(
        &self,
        sink: &mut SplitSink<UpstreamSocket, Message>,
        inputs: &mut mpsc::Receiver<Input>,
        heartbeat: Duration,
        typed_at: &watch::Sender<Instant>,
    ) -> Over {
        let started = Instant::now();
        let mut budget = FrameBudget::client();
        let mut kept = None;
        let mut beat = tokio::time::interval_at(started + heartbeat, heartbeat);
        loop {
            let input = match kept.take() {
                Some(input) => input,
                None => tokio::select! {
                    input = inputs.recv() => match input {
                        Some(input) => self.taken(input),
                        None => return Over::Abandoned,
                    },
                    _ = beat.tick() => {
                        if let Err(error) = sink.send(binary(ShellFrame::Heartbeat)).await {
                            return lost(&error);
                        }
                        continue;
                    }
                },
            };
            typed_at.send_replace(Instant::now());
            let now_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let delay_ms = budget.delay_ms(now_ms);
            if delay_ms > 0 {
                sleep(Duration::from_millis(delay_ms)).await;
            }
            let input = match input {
                Input::Bytes(bytes) => Input::Bytes(self.together(bytes, inputs, &mut kept)),
                other => other,
            };
            let frame = match &input {
                Input::Bytes(bytes) => ShellFrame::Stdin(bytes),
                Input::Resize(width, height) => ShellFrame::Resize { width: *width, height: *height },
                Input::Close => ShellFrame::Close,
            };
            let now_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            budget.take(now_ms);
            if let Err(error) = sink.send(binary(frame)).await {
                return lost(&error);
            }
        }
    }

    /// Input that came out of the queue waits no more, whatever becomes of the connection.
    fn taken(&self, input: Input) -> Input {
        self.queued.fetch_sub(input.length(), Ordering::Relaxed);
        input
    }

    /// Puts the input that waits behind `bytes`, up to one frame; what does not fit is kept for the next.
    fn together(
        &self,
        mut bytes: Vec<u8>,
        inputs: &mut mpsc::Receiver<Input>,
        kept: &mut Option<Input>,
    ) -> Vec<u8> {
        while bytes.len() < STDIN_BYTES_MAX {
            match inputs.try_recv().map(|input| self.taken(input)) {
                Ok(Input::Bytes(more)) if bytes.len() + more.len() <= STDIN_BYTES_MAX => bytes.extend(more),
                Ok(other) => {
                    *kept = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        bytes
    }
    /// Whether this shell is connected, and what its end was.
    pub(super) fn standing(&self) -> (Link, Option<End>) {
        let state = self.state();
        (state.link(), state.end().cloned())
    }
}

fn end_of(reason: StopReason, code: Option<u16>, message: String) -> End {
    match reason {
        StopReason::Closed(CloseMeaning::Replaced) => End::Replaced,
        // A shell whose end the upstream did not tell in a STATUS.
        StopReason::Closed(CloseMeaning::Ended) => End::Exited { code: 0, signal: None },
        StopReason::Closed(CloseMeaning::Refused | CloseMeaning::Lost) => {
            let code = code.map(|code| format!(" ({code})")).unwrap_or_default();
            End::Failed { message: format!("the upstream closed the connection{code}: {message}") }
        }
        StopReason::RetriesUsedUp | StopReason::WindowOver => {
            End::Failed { message: format!("the upstream cannot be reached: {message}") }
        }
    }
}

fn random(entropy: &dyn Entropy) -> u32 {
    let mut bytes = [0; 4];
    entropy.fill(&mut bytes);
    u32::from_le_bytes(bytes)
}

fn lost(error: &WsError) -> Over {
    Over::Closed(None, error.to_string())
}

fn binary(frame: ShellFrame<'_>) -> Message {
    Message::Binary(Bytes::from(frame.encode()))
}

/// Returns at the moment to renew a connection.
async fn renewal(
    connected_at: Instant,
    policy: WebPolicy,
    typed_at: &watch::Sender<Instant>,
    printed_at: &watch::Sender<Instant>,
) {
    let latest = connected_at + policy.renew_latest;
    sleep_until(connected_at + policy.renew_from).await;
    loop {
        let busy_at = (*typed_at.borrow()).max(*printed_at.borrow());
        let quiet_at = busy_at + policy.quiet;
        if quiet_at <= Instant::now() || latest <= Instant::now() {
            return;
        }
        sleep_until(quiet_at.min(latest)).await;
    }
}

#[cfg(test)]
mod tests {
    use clamshell_domain::{SessionId, ShellId};

    use super::*;

    #[test]
    fn input_that_was_taken_makes_room_even_when_its_connection_is_lost() {
        let ask = ShellAsk {
            session_id: SessionId::parse("s".repeat(33)).expect("an id"),
            shell_id: ShellId::parse("shell").expect("an id"),
            size: (80, 24),
        };
        let (shell, mut inputs) = Shell::new(ask, 0);
        let piece = || Input::Bytes(vec![b'x'; HELD_BYTES_MAX / 4]);
        assert!((0..4).all(|_| shell.send(piece())), "as much as is held is taken");
        assert!(!shell.send(Input::Bytes(vec![b'x'])), "and no more");
        let first = inputs.try_recv().map(|input| shell.taken(input)).expect("it is there");
        let Input::Bytes(bytes) = first else { unreachable!("it was bytes") };
        let together = shell.together(bytes, &mut inputs, &mut None);
        assert_eq!(together.len(), STDIN_BYTES_MAX);
        // It may never be sent, and there is room for as much again.
        assert!(shell.send(piece()) && shell.send(piece()));
        assert!(!shell.send(Input::Bytes(vec![b'x'])));
    }
}
