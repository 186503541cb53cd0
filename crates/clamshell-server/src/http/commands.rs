//! InvokeAgentRuntimeCommand: one command, its output as an event stream while it runs (`runtime.md` 6.6).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use clamshell_domain::SessionId;
use clamshell_protocol::{Frame, Reply, Request};
use clamshell_wire::{
    ErrorCode,
    command::{CommandRequest, check_session_id},
    event_stream::{CommandEvents, CommandStatus, OutputStream},
    headers,
};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{ApiError, ApiRequest, chain, response::Body};
use crate::{
    app::{App, Target},
    environment,
    guest::GuestConnection,
    session::Call,
};

/// Messages between the guest and a slow client: full ones are 64 KiB, so at most 1 MiB per command. Beyond it the guest
/// is not read, and beyond its own bound the program waits.
const MESSAGES_MAX: usize = 16;

/// All output of a command, headers of messages not counted (`runtime.md` section 10).
const OUTPUT_BYTES_MAX: u64 = 100_000_000;

/// Characters of a command in the log.
const LOGGED_CHARS_MAX: usize = 200;

/// Activity of a command that says nothing is noted so often.
const STILL_RUNNING: Duration = Duration::from_secs(20);

/// How long a client may take nothing: the longest time that a command itself may have, and less once there is only
/// the rest of a stopped session to take.
const PATIENCE: Patience =
    Patience { while_running: Duration::from_secs(3600), after_end: Duration::from_secs(30) };

/// Trace headers that come back as they were sent.
const ECHOED: [&str; 4] = [headers::TRACE_ID, headers::TRACEPARENT, headers::TRACESTATE, headers::BAGGAGE];

/// Serves the AWS operation.
pub(super) async fn run(request: ApiRequest<'_>, body: &[u8]) -> Result<Response<Body>, ApiError> {
    let query = request.query()?;
    let asked = CommandRequest::parse(body)?;
    let session_id = session_id(request.session_header()?)?;
    let target = request.target(&query).await?;
    tracing::info!(
        request = %request.request_id, session = %session_id,
        command = %excerpt(&asked.command), bytes = asked.command.len(), "command"
    );
    let mut response = start(request.app, target, session_id, asked, false).await?;
    for name in ECHOED {
        if let Some(value) = request.parts.headers.get(name) {
            response.headers_mut().insert(HeaderName::from_static(name), value.clone());
        }
    }
    Ok(response)
}

/// The beginning of a command, escaped, for the log: a whole one may be 64 KiB, and may hold what is nobody's business.
pub(super) fn excerpt(command: &str) -> String {
    let mut text = String::with_capacity(LOGGED_CHARS_MAX);
    let mut room = LOGGED_CHARS_MAX;
    for escaped in command.chars().map(char::escape_debug) {
        // An escape that does not fit is not cut in two.
        let Some(left) = room.checked_sub(escaped.len()) else { break };
        room = left;
        text.extend(escaped);
    }
    text
}

/// The session id of a header; a new one when the caller gives none.
pub(super) fn session_id(header: Option<&str>) -> Result<SessionId, ApiError> {
    match header {
        None => SessionId::parse(Uuid::new_v4().to_string())
            .map_err(|_| ApiError::Internal("a UUID has 36 characters")),
        Some(text) => {
            check_session_id(text)?;
            SessionId::parse(text)
                .map_err(|_| ApiError::Internal("the wire layer checks session ids by the same rule"))
        }
    }
}

/// Starts the command and answers with its stream.
pub(super) async fn start(
    app: &Arc<App>,
    target: Target,
    session_id: SessionId,
    asked: CommandRequest,
    keep_running: bool,
) -> Result<Response<Body>, ApiError> {
    let key = target.session_key(session_id);
    let call = app.registry.call(key, Arc::clone(&target.runtime)).await?;
    let spec = environment::command(
        &call.session().runtime(),
        &call.compute.environment,
        &app.region,
        asked.command,
        u64::from(asked.timeout_s) * 1000,
        keep_running,
    );
    let (reply, guest) = call.compute.guest.ask(Request::Command(spec)).await?;
    if !matches!(reply, Reply::Started { .. }) {
        return Err(ApiError::Internal("guest answered a command with something else"));
    }
    let session_header = HeaderValue::from_str(call.session().key().session_id.as_str());
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    app.tasks.spawn(stream(call, guest, sender));
    let stream = futures_util::stream::unfold(receiver, async |mut receiver: mpsc::Receiver<Bytes>| {
        receiver.recv().await.map(|bytes| (Ok(hyper::body::Frame::data(bytes)), receiver))
    });
    let mut response = Response::new(http_body_util::StreamBody::new(stream).boxed_unsync());
    *response.status_mut() = StatusCode::OK;
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(headers::EVENT_STREAM));
    if let Ok(value) = session_header {
        out.insert(HeaderName::from_static(headers::SESSION_ID), value);
    }
    Ok(response)
}

/// Moves output from the guest to the client until either ends. Hanging up on the guest ends the command.
async fn stream(call: Call, guest: GuestConnection, client: mpsc::Sender<Bytes>) {
    let mut events = CommandEvents::new();
    let ended = call.compute.ended.clone();
    let client = Client { messages: client, ended: &ended, patience: PATIENCE };
    if client.deliver(events.content_start()).await.is_err() {
        return;
    }
    let GuestConnection { mut reader, writer: _writer } = guest;
    let mut sent: u64 = 0;
    loop {
        let frame = tokio::select! {
            frame = reader.next() => frame,
            () = client.messages.closed() => return,
            () = tokio::time::sleep(STILL_RUNNING) => {
                call.activity();
                continue;
            }
        };
        let last = match frame {
            Ok(Some(Frame::Stdout(bytes))) => {
                sent += bytes.len() as u64;
                client.deliver(events.deltas(OutputStream::Stdout, &bytes)).await
            }
            Ok(Some(Frame::Stderr(bytes))) => {
                sent += bytes.len() as u64;
                client.deliver(events.deltas(OutputStream::Stderr, &bytes)).await
            }
            Ok(Some(Frame::Exit(exit))) => {
                let (code, status) = if exit.timed_out {
                    (-1, CommandStatus::TimedOut)
                } else {
                    (exit.code, CommandStatus::Completed)
                };
                let _ = client.deliver(events.content_stop(code, status)).await;
                return;
            }
            Ok(None) | Err(_) if call.compute.ended.is_cancelled() => {
                client.fail(&mut events, "The session was stopped").await;
                return;
            }
            other => {
                let error = other.err().map(|error| chain(&error));
                tracing::warn!(error, "guest broke off a command");
                client.fail(&mut events, "The runtime cannot be reached").await;
                return;
            }
        };
        if last.is_err() {
            return;
        }
        if sent > OUTPUT_BYTES_MAX {
            client.fail(&mut events, "The output of the command is above 100 MB").await;
            return;
        }
    }
}

/// Where the messages of one command go.
struct Client<'a> {
    messages: mpsc::Sender<Bytes>,
    /// Cancelled when the session's compute ends.
    ended: &'a CancellationToken,
    patience: Patience,
}

#[derive(Clone, Copy)]
struct Patience {
    while_running: Duration,
    after_end: Duration,
}

impl Client<'_> {
    async fn fail(&self, events: &mut CommandEvents, message: &str) {
        let _ = self.deliver(events.exception(ErrorCode::RuntimeClientError, message)).await;
    }

    /// Waits for room. `Err` when the client is gone, or takes nothing: it must not hold its session awake for ever, nor
    /// outlive it.
    async fn deliver(&self, messages: Bytes) -> Result<(), ()> {
        if messages.is_empty() {
            return Ok(());
        }
        let after_end = async {
            self.ended.cancelled().await;
            tokio::time::sleep(self.patience.after_end).await;
        };
        tokio::select! {
            sent = self.messages.send(messages) => sent.map_err(|_| ()),
            () = tokio::time::sleep(self.patience.while_running) => Err(()),
            () = after_end => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn deliver_to_idle(ended: bool, patience: Patience) -> Result<(), ()> {
        let (messages, _idle) = mpsc::channel(1);
        let token = CancellationToken::new();
        let client = Client { messages, ended: &token, patience };
        client.deliver(Bytes::from_static(b"first")).await.unwrap();
        if ended {
            token.cancel();
        }
        client.deliver(Bytes::from_static(b"second")).await
    }

    #[test]
    fn the_log_has_the_beginning_of_a_command() {
        let check = |command: &str, expect: &str| assert_eq!(excerpt(command), expect);
        check("ls -la", "ls -la");
        check("echo a\necho \u{1b}[2J", "echo a\\necho \\u{1b}[2J");
        check(&"x".repeat(201), &"x".repeat(200));
        check(&format!("{}\n", "x".repeat(199)), &"x".repeat(199));
        assert!(excerpt(&"\u{1b}".repeat(65_536)).len() <= LOGGED_CHARS_MAX);
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (now, never) = (Duration::ZERO, Duration::from_secs(1_000_000));
        let running = Patience { while_running: now, after_end: never };
        assert_eq!(deliver_to_idle(false, running).await, Err(()));
        let after_end = Patience { while_running: never, after_end: now };
        assert_eq!(deliver_to_idle(true, after_end).await, Err(()));
    }
}
