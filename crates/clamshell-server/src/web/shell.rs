//! One shell that runs at the upstream: the task that keeps a connection to it, whoever watches, and takes the upstream's
//! limits off its users: heartbeats, the hour that a connection may last, frames a second.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use clamshell_domain::Entropy;
use clamshell_term::{
    frame::ShellFrame,
    rate::FrameBudget,
    reconnect::{CloseMeaning, Decision, Reconnect, ReconnectPolicy, StopReason},
    status::Status,
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message};
use tokio_util::sync::CancellationToken;

use super::{
    joint::{Joined, Joint},
    state::{Connected, End, Link, State},
    typing::{Input, Took},
    upstream::{ShellAsk, Upstream, UpstreamError, UpstreamShell, UpstreamSocket},
};

/// The endpoint has this long to open a session and confirm a shell in it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// The end of a replay: nothing more came for so long.
const REPLAY_QUIET: Duration = Duration::from_millis(300);

/// The same for an endpoint that says where its replay begins, and so how much of it must come.
const COUNTED_REPLAY_QUIET: Duration = Duration::from_secs(5);

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

/// A shell; shared by its task and its pages.
pub(super) struct Shell {
    pub(super) ask: ShellAsk,
    /// ARN of its user.
    pub(super) owner: String,
    state: Mutex<State>,
    /// Changes with everything that pages may want to know.
    changed: watch::Sender<u64>,
    /// Input waits.
    typed: Notify,
    /// Pages that were taken over from.
    evicted: watch::Sender<Vec<u64>>,
}

/// When something was last printed, and whether the program is known to be the one that was there before.
type Told<'a> = (&'a watch::Sender<Instant>, &'a watch::Sender<bool>);

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
    /// A shell of which this much is known.
    pub(super) fn new(ask: ShellAsk, owner: String, state: State) -> Arc<Self> {
        Arc::new(Self {
            ask,
            owner,
            state: Mutex::new(state),
            changed: watch::Sender::new(0),
            typed: Notify::new(),
            evicted: watch::Sender::new(Vec::new()),
        })
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

    /// Takes input of a page.
    pub(super) fn type_in(&self, page: u64, input: Input) -> Took {
        let took = self.state().type_in(page, input);
        self.typed.notify_one();
        took
    }

    /// Ends the shell, for its owner.
    pub(super) fn close(&self) {
        self.state().close();
        self.typed.notify_one();
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
        policy: WebPolicy,
        entropy: Arc<dyn Entropy>,
        shutdown: CancellationToken,
    ) {
        let started = Instant::now();
        let mut reconnect = Reconnect::new(ReconnectPolicy::WHOLE_WINDOW);
        let mut attempt = 1;
        loop {
            if self.standing().1.is_some() {
                return;
            }
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
                    self.connected(connected, policy, &shutdown).await
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
        policy: WebPolicy,
        shutdown: &CancellationToken,
    ) -> Over {
        let UpstreamShell { socket, reconnected, offset, early } = connected;
        let (joint, is_sure) = match self.change(|state| state.on_connected(reconnected, offset)) {
            Connected::Goes => (None, true),
            Connected::Joins(joint) => (Some(joint), true),
            Connected::Unsure(joint) => (Some(joint), false),
        };
        // What was typed for a program that is gone is not for the next one.
        let same_program = watch::Sender::new(is_sure);
        let (mut sink, mut stream) = socket.split();
        let connected_at = Instant::now();
        let typed_at = watch::Sender::new(connected_at);
        let printed_at = watch::Sender::new(connected_at);
        let over = {
            let reading = self.read(&mut stream, early, joint, (&printed_at, &same_program));
            let writing = self.write(&mut sink, policy.heartbeat, (&typed_at, &same_program));
            let renewal = renewal(connected_at, policy, &typed_at, &printed_at);
            tokio::select! {
                over = reading => over,
                over = writing => over,
                () = renewal => Over::Renew,
                () = self.abandoned(policy.keep) => Over::Abandoned,
                () = shutdown.cancelled() => Over::Shutdown,
            }
        };
        self.change(State::on_lost);
        if !matches!(over, Over::Closed(..)) {
            // Without 0xFF: the shell goes on.
            let _ = timeout(CLOSE_TIMEOUT, sink.close()).await;
            if matches!(over, Over::Renew) {
                self.drain(&mut stream, (&printed_at, &same_program)).await;
            }
        }
        over
    }

    /// Takes what was on its way when this side said goodbye: the replay would bring it again, but sooner is better.
    async fn drain(&self, stream: &mut SplitStream<UpstreamSocket>, told: Told<'_>) {
        let all = self.read(stream, std::collections::VecDeque::new(), None, told);
        let _ = timeout(CLOSE_TIMEOUT, all).await;
    }

    async fn read(
        &self,
        stream: &mut SplitStream<UpstreamSocket>,
        early: std::collections::VecDeque<Bytes>,
        mut joint: Option<Joint>,
        (printed_at, same_program): Told<'_>,
    ) -> Over {
        for message in early {
            if let Some(over) = self.on_message(&message, &mut joint, same_program) {
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
            let next = if let Some(waits) = &joint {
                let quiet = if waits.is_counted() { COUNTED_REPLAY_QUIET } else { REPLAY_QUIET };
                match timeout(quiet, stream.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        if let Some(joined) = joint.take().map(|mut joint| joint.on_quiet()) {
                            self.on_joined(joined, same_program);
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
                    if let Some(over) = self.on_message(&bytes, &mut joint, same_program) {
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

    fn on_message(
        &self,
        message: &[u8],
        joint: &mut Option<Joint>,
        same_program: &watch::Sender<bool>,
    ) -> Option<Over> {
        match ShellFrame::from_server(message) {
            Ok(ShellFrame::Stdout(bytes)) => match joint {
                None => self.change(|state| state.on_output(bytes)),
                Some(join) => {
                    let joined = join.on_output(bytes);
                    if joined != Joined::Waiting {
                        *joint = None;
                        self.on_joined(joined, same_program);
                    }
                }
            },
            // Shown as the platform means it: to people, beside the output.
            Ok(ShellFrame::Stderr(text)) => {
                let text = String::from_utf8_lossy(text);
                let plain: String = text.chars().filter(|letter| !letter.is_control()).take(500).collect();
                self.change(|state| state.tell(plain.into()));
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

    fn on_joined(&self, joined: Joined, same_program: &watch::Sender<bool>) {
        match joined {
            Joined::Continues { bytes, doubtful } => self.change(|state| {
                state.on_output(&bytes);
                if doubtful {
                    state.on_doubtful();
                }
            }),
            // Nobody said whose output this is, and it is not what was there.
            Joined::Afresh { bytes, .. } if !*same_program.borrow() => self.change(|state| {
                state.on_other_program();
                state.on_output(&bytes);
            }),
            Joined::Afresh { bytes, missed } => self.change(|state| state.on_output_afresh(&bytes, missed)),
            Joined::Waiting => return,
        }
        same_program.send_replace(true);
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
        heartbeat: Duration,
        (typed_at, same_program): (&watch::Sender<Instant>, &watch::Sender<bool>),
    ) -> Over {
        let started = Instant::now();
        let mut budget = FrameBudget::client();
        let mut beat = tokio::time::interval_at(started + heartbeat, heartbeat);
        // It lives as long as this does, so this never fails.
        let _ = same_program.subscribe().wait_for(|is_sure| *is_sure).await;
        loop {
            let now_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            let delay_ms = budget.delay_ms(now_ms);
            if delay_ms > 0 {
                sleep(Duration::from_millis(delay_ms)).await;
            }
            let Some(input) = self.state().take_input() else {
                tokio::select! {
                    () = self.typed.notified() => {}
                    _ = beat.tick() => {
                        if let Err(error) = sink.send(binary(ShellFrame::Heartbeat)).await {
                            return lost(&error);
                        }
                    }
                }
                continue;
            };
            typed_at.send_replace(Instant::now());
            let now_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            budget.take(now_ms);
            if let Err(error) = sink.send(binary(input.frame())).await {
                return lost(&error);
            }
            if self.state().on_passed() {
                self.change(|_| ());
            }
        }
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
    use crate::web::state::From;

    /// A shell that has printed `known`, with a page that has typed into it; then a connection whose endpoint does not say
    /// whether the program is the same replays `replay`. Gives whether it is taken for the same, and what is passed on.
    fn joined(known: &[u8], replay: &[u8]) -> (bool, Option<Input>) {
        let ask = ShellAsk {
            session_id: SessionId::parse("s".repeat(33)).expect("an id"),
            shell_id: ShellId::parse("shell").expect("an id"),
            size: (80, 24),
        };
        let shell = Shell::new(ask, String::new(), State::new(1000, (80, 24)));
        let page = shell.change(|state| {
            state.on_connected(Some(true), None);
            state.on_output(known);
            state.attach("shell", From::End, true, Some("page")).0
        });
        assert_eq!(shell.type_in(page, Input::Bytes(b"rm".to_vec())), Took::Waits);
        let Connected::Unsure(joint) = shell.change(|state| state.on_connected(None, None)) else {
            unreachable!("nobody said whose output comes")
        };
        let (mut joint, same_program) = (Some(joint), watch::Sender::new(false));
        shell.on_message(&ShellFrame::Stdout(replay).encode(), &mut joint, &same_program);
        if let Some(mut joint) = joint {
            shell.on_joined(joint.on_quiet(), &same_program);
        }
        assert!(*same_program.borrow(), "input goes on");
        let state = &mut shell.state();
        (state.run_start() == 1000, state.take_input())
    }

    #[test]
    fn what_was_typed_is_for_the_program_that_printed_what_was_there() {
        assert_eq!(joined(b"$ make\n", b"$ make\nok\n"), (true, Some(Input::Bytes(b"rm".to_vec()))));
        assert_eq!(joined(b"$ make\n", b"login: "), (false, None));
    }
}
