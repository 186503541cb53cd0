//! Shells: list, show, close, read the log, paint the screen, export the recording.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use bytes::Bytes;
use clamshell_domain::ShellId;
use clamshell_protocol::{Access, AttachFrom, Frame, Reply, Request};
use clamshell_store::is_default_title;
use clamshell_term::{
    asciicast::{self, CastEvent, CastEventKind, CastHeader},
    log::{Event, EventKind, LogReader},
};
use clamshell_wire::AwsError;
use futures_util::StreamExt;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Ask, shell_id};
use crate::{
    app::{App, Target},
    http::{
        ApiError,
        response::{self, Body},
    },
    session::{Session, ShellEnd, ShellState, ShellView},
    time::rfc3339,
};

/// What a client that closes a shell gives its programs to tidy up, milliseconds.
const CLOSE_GRACE_MS: u64 = 1_000;

/// Bytes of a log read at once, and how many such pieces wait for a slow client.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES_MAX: usize = 8;

/// Characters of a title.
const TITLE_CHARS_MAX: usize = 100;

/// Sessions asked for their shells at once: guests that do not answer cost one wait together and not one each.
const SESSIONS_AT_ONCE: usize = 64;

/// Records of a recording read at once.
const EVENTS_AT_ONCE: usize = 1024;

pub(super) async fn list_all(ask: &Ask<'_>) -> Result<Response<Body>, ApiError> {
    let runtime = match ask.param("runtime") {
        None => None,
        Some(name) => Some(ask.app.named_target(name, None).await?.runtime.runtime_id.clone()),
    };
    let sessions = ask.app.registry.list().into_iter();
    let sessions =
        sessions.filter(|session| runtime.as_ref().is_none_or(|id| session.key().runtime_id == *id));
    let asked = futures_util::stream::iter(sessions).map(|session| async move {
        let shells = session.shells().await;
        (session, shells)
    });
    let mut answers = std::pin::pin!(asked.buffered(SESSIONS_AT_ONCE));
    let mut shells = Vec::new();
    while let Some((session, listed)) = answers.next().await {
        match listed {
            Ok(views) => shells.extend(views.iter().map(|shell| view(ask.app, &session, shell))),
            // One guest that does not answer must not hide the others.
            Err(error) => {
                tracing::warn!(session = %session.key().session_id, %error, "shells cannot be listed")
            }
        }
    }
    Ok(response::json(StatusCode::OK, &json!({ "shells": shells })))
}

pub(super) async fn list(ask: &Ask<'_>, session_id: &str) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    let shells: Vec<Value> =
        session.shells().await?.iter().map(|shell| view(ask.app, &session, shell)).collect();
    Ok(response::json(StatusCode::OK, &json!({ "shells": shells })))
}

pub(super) async fn show(ask: &Ask<'_>, session_id: &str, shell: &str) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    let shell = session.shell(&shell_id(shell)?).await?.ok_or(ApiError::ShellNotFound)?;
    Ok(response::json(StatusCode::OK, &view(ask.app, &session, &shell)))
}

pub(super) async fn close(ask: &Ask<'_>, session_id: &str, shell: &str) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    let shell_id = shell_id(shell)?;
    let compute = session.compute().ok_or(ApiError::ShellNotFound)?;
    let request = Request::ShellClose { shell_id: shell_id.to_string(), grace_ms: CLOSE_GRACE_MS };
    compute.guest.ask(request).await?;
    ask.app.events.hints.shells(session.key());
    Ok(response::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn rename(ask: &Ask<'_>, session_id: &str, shell: &str) -> Result<Response<Body>, ApiError> {
    let title = title(&ask.body)?;
    let session = ask.session(session_id).await?;
    let shell_id = shell_id(shell)?;
    let shell = session.shell(&shell_id).await?.ok_or(ApiError::ShellNotFound)?;
    let title = (!title.is_empty()).then_some(title.as_str());
    ask.app.store.put_shell_title(session.key(), &shell_id, title, ask.app.now_ms()).await?;
    session.set_title(shell_id.as_str(), title);
    ask.app.events.hints.shells(session.key());
    Ok(response::json(StatusCode::OK, &view(ask.app, &session, &shell)))
}

/// Gives a shell that was just started a name that tells it from the others of its session. Nobody waits until it is
/// stored: a shell whose name was lost is shown by its id.
pub(super) fn name_new(app: &Arc<App>, session: &Arc<Session>, target: &Target, shell_id: &ShellId) {
    let title = session.name_new(shell_id.as_str(), target.runtime.name.as_str());
    let titled = session.too_many_titled();
    if title.is_none() && titled.is_empty() {
        return;
    }
    let (session, shell_id) = (Arc::clone(session), shell_id.clone());
    let app_of_task = Arc::clone(app);
    app.tasks.spawn(async move {
        let app = app_of_task;
        // Somebody may have been faster with a name.
        let title = title.filter(|title| session.title(shell_id.as_str()).as_ref() == Some(title));
        if title.is_some() {
            let put =
                app.store.put_shell_title(session.key(), &shell_id, title.as_deref(), app.now_ms()).await;
            if let Err(error) = put {
                tracing::warn!(error = crate::http::chain(&error), "name of a new shell cannot be stored");
            }
            app.events.hints.shells(session.key());
        }
        if let Err(error) = forget_titles(&app, &session, &titled).await {
            tracing::warn!(
                error = crate::http::chain(&error),
                "names of shells that are gone cannot be removed"
            );
        }
    });
}

/// Forgets the names of those shells that are gone: programs start and end shells as often as they like.
async fn forget_titles(
    app: &App,
    session: &Arc<Session>,
    titled: &[String],
) -> Result<(), clamshell_store::StoreError> {
    if titled.is_empty() {
        return Ok(());
    }
    let Ok(shells) = session.shells().await else { return Ok(()) };
    let there: HashSet<&str> = shells.iter().map(|shell| shell.info.shell_id.as_str()).collect();
    for shell_id in titled.iter().filter(|shell_id| !there.contains(shell_id.as_str())) {
        if let Ok(id) = ShellId::parse(shell_id.as_str()) {
            app.store.put_shell_title(session.key(), &id, None, app.now_ms()).await?;
        }
        session.set_title(shell_id, None);
    }
    Ok(())
}

/// The name that a person gives to a shell, from the body of the call.
pub(super) fn title(body: &[u8]) -> Result<String, ApiError> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Rename {
        title: String,
    }
    let Rename { title } = serde_json::from_slice(body)
        .map_err(|_| AwsError::cannot_parse("The body is not an object with a title"))?;
    let title = title.trim();
    if title.chars().count() > TITLE_CHARS_MAX || title.chars().any(is_deceptive) {
        let rule = "Member must have at most 100 characters, none of which controls a terminal";
        return Err(AwsError::invalid_field("title", rule).into());
    }
    Ok(title.to_owned())
}

/// Control characters, and those that turn the direction of a line or hide in it.
fn is_deceptive(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

pub(super) async fn screen(ask: &Ask<'_>, session_id: &str, shell: &str) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    let shell_id = shell_id(shell)?;
    let compute = session.compute().ok_or(ApiError::ShellNotFound)?;
    let request = Request::Shell {
        shell_id: shell_id.to_string(),
        create: None,
        from: AttachFrom::Screen,
        access: Access::Watch,
        lead_bytes_max: None,
        answers_when_told: false,
    };
    let (reply, mut guest) = compute.guest.ask(request).await?;
    if !matches!(reply, Reply::Shell(_)) {
        return Err(ApiError::Internal("guest answered a shell with something else"));
    }
    match guest.reader.next_soon().await? {
        Some(Frame::Screen { offset, bytes }) => {
            let mut response = response::bytes(StatusCode::OK, "application/octet-stream", bytes);
            put_offset(&mut response, offset);
            Ok(response)
        }
        _ => Err(ApiError::Internal("guest did not paint the screen")),
    }
}

pub(super) async fn log(ask: &Ask<'_>, session_id: &str, shell: &str) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    let log = open_log(&session, &shell_id(shell)?).await?;
    let (start, end) = log.extent().map_err(|error| ApiError::Log(error.to_string()))?;
    let from = match ask.param("from") {
        None => start,
        Some(text) => text
            .parse::<u64>()
            .ok()
            .filter(|from| *from <= end)
            .ok_or_else(|| AwsError::invalid_field("from", "Member must be an offset of the log"))?
            .max(start),
    };
    let (sender, receiver) = mpsc::channel::<Bytes>(PIECES_MAX);
    ask.app.tasks.spawn_blocking(move || {
        let mut at = from;
        let mut buffer = vec![0; PIECE_BYTES];
        while at < end {
            let room = usize::try_from(end - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            match log.read_at(at, &mut buffer[..room]) {
                Ok(count) if count > 0 => {
                    at += count as u64;
                    if sender.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
                        return;
                    }
                }
                // Trimmed meanwhile, or unreadable: the client sees fewer bytes than up to the end.
                Ok(_) | Err(_) => return,
            }
        }
    });
    let mut response = streamed(receiver, "application/octet-stream");
    put_offset(&mut response, from);
    Ok(response)
}

pub(super) async fn export(ask: &Ask<'_>, session_id: &str, shell: &str) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    let log = open_log(&session, &shell_id(shell)?).await?;
    let (sender, receiver) = mpsc::channel::<Bytes>(PIECES_MAX);
    ask.app.tasks.spawn_blocking(move || {
        let (header, first) = cast_header(&log);
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        for line in asciicast::lines(&header, CastEvents::new(&log, first)) {
            piece.extend_from_slice(line.as_bytes());
            if piece.len() >= PIECE_BYTES && sender.blocking_send(std::mem::take(&mut piece).into()).is_err()
            {
                return;
            }
        }
        let _ = sender.blocking_send(piece.into());
    });
    Ok(streamed(receiver, "application/x-asciicast"))
}

async fn open_log(session: &Arc<Session>, shell_id: &ShellId) -> Result<LogReader, ApiError> {
    let (session, shell_id) = (Arc::clone(session), shell_id.clone());
    let opened = tokio::task::spawn_blocking(move || session.shell_log(&shell_id)).await;
    match opened {
        Ok(Ok(log)) => Ok(log),
        Ok(Err(error)) if crate::http::chain(&error).contains("No such file") => Err(ApiError::ShellNotFound),
        Ok(Err(error)) => Err(ApiError::Log(crate::http::chain(&error))),
        Err(_) => Err(ApiError::Internal("reading a log panicked")),
    }
}

fn streamed(receiver: mpsc::Receiver<Bytes>, content_type: &'static str) -> Response<Body> {
    let stream = futures_util::stream::unfold(receiver, async |mut receiver: mpsc::Receiver<Bytes>| {
        receiver.recv().await.map(|bytes| (Ok(hyper::body::Frame::data(bytes)), receiver))
    });
    let mut response = Response::new(http_body_util::StreamBody::new(stream).boxed_unsync());
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn put_offset(response: &mut Response<Body>, offset: u64) {
    response.headers_mut().insert(HeaderName::from_static("x-clamshell-offset"), HeaderValue::from(offset));
}

fn cast_header(log: &LogReader) -> (CastHeader, Option<Event>) {
    let first = log.events(0, 1).ok().and_then(|events| events.first().copied());
    let meta = log.meta().ok();
    let (cols, rows) = match first.map(|event| event.kind) {
        Some(EventKind::Start { cols, rows } | EventKind::Resize { cols, rows }) => (cols, rows),
        _ => meta.as_ref().map_or((80, 24), |meta| (meta.cols, meta.rows)),
    };
    let started_at_ms =
        first.map_or_else(|| meta.map_or(0, |meta| meta.created_at_ms), |event| event.time_ms);
    let env = BTreeMap::from([("TERM".to_owned(), "xterm-256color".to_owned())]);
    (CastHeader { cols, rows, started_at_ms, env }, first)
}

/// The bytes of a log between its timing records, as events of a recording.
struct CastEvents<'a> {
    log: &'a LogReader,
    end: u64,
    at: u64,
    at_ms: u64,
    skip: usize,
    queue: std::collections::VecDeque<Event>,
    exhausted: bool,
}

impl<'a> CastEvents<'a> {
    fn new(log: &'a LogReader, first: Option<Event>) -> Self {
        let (start, end) = log.extent().unwrap_or((0, 0));
        let at_ms = first.map_or(0, |event| event.time_ms);
        Self {
            log,
            end,
            at: start,
            at_ms,
            skip: 0,
            queue: std::collections::VecDeque::new(),
            exhausted: false,
        }
    }

    fn peek(&mut self) -> Option<Event> {
        if self.queue.is_empty() && !self.exhausted {
            let events = self.log.events(self.skip, EVENTS_AT_ONCE).unwrap_or_default();
            self.skip += EVENTS_AT_ONCE;
            self.exhausted = events.is_empty();
            self.queue.extend(events);
        }
        self.queue.front().copied()
    }

    fn output_until(&mut self, until: u64) -> Option<CastEvent> {
        let length = usize::try_from(until.min(self.end).saturating_sub(self.at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(PIECE_BYTES)];
        let count = self.log.read_at(self.at, &mut bytes).unwrap_or(0);
        if count == 0 {
            self.at = until;
            return None;
        }
        bytes.truncate(count);
        self.at += count as u64;
        Some(CastEvent { at_ms: self.at_ms, kind: CastEventKind::Output(bytes) })
    }
}

impl Iterator for CastEvents<'_> {
    type Item = CastEvent;

    fn next(&mut self) -> Option<CastEvent> {
        loop {
            match self.peek() {
                Some(event) if event.offset > self.at && self.at < self.end => {
                    if let Some(output) = self.output_until(event.offset) {
                        return Some(output);
                    }
                }
                Some(event) => {
                    self.queue.pop_front();
                    self.at_ms = self.at_ms.max(event.time_ms);
                    if let EventKind::Resize { cols, rows } = event.kind {
                        return Some(CastEvent {
                            at_ms: self.at_ms,
                            kind: CastEventKind::Resize { cols, rows },
                        });
                    }
                }
                None if self.at < self.end => {
                    let output = self.output_until(self.end);
                    if output.is_some() {
                        return output;
                    }
                }
                None => return None,
            }
        }
    }
}

/// `Shell` of `docs/api.md`.
pub(in crate::http) fn view(app: &App, session: &Session, shell: &ShellView) -> Value {
    let info = &shell.info;
    let mut value = json!({
        "runtimeArn": app.runtime_arn(&session.key().runtime_id).to_string(),
        "runtimeName": session.runtime().name,
        "qualifier": session.key().endpoint,
        "sessionId": session.key().session_id,
        "shellId": info.shell_id,
        "state": match shell.state {
            ShellState::Attached => "Attached",
            ShellState::Detached => "Detached",
            ShellState::Ended => "Ended",
        },
        "pid": info.pid,
        "command": info.argv,
        "cols": info.cols,
        "rows": info.rows,
        "createdAt": rfc3339(info.created_at_ms),
        "lastOutputAt": rfc3339(info.last_output_at_ms),
        "startOffset": info.start_offset,
        "runOffset": info.run_offset,
        "endOffset": info.end_offset,
        "writers": info.writers,
        "watchers": info.watchers,
        "keep": info.keep,
    });
    if let Some(title) = session.title(&info.shell_id) {
        value["isDefaultTitle"] = json!(is_default_title(session.runtime().name.as_str(), &title));
        value["title"] = json!(title);
    }
    if let Some(ms) = info.detached_at_ms.filter(|_| shell.state == ShellState::Detached) {
        value["detachedAt"] = json!(rfc3339(ms));
    }
    if let Some(ms) = shell.ended_at_ms.filter(|_| shell.state == ShellState::Ended) {
        value["endedAt"] = json!(rfc3339(ms));
    }
    match shell.end {
        Some(ShellEnd::Exited(exit)) => {
            value["endReason"] = json!("Exited");
            value["exitCode"] = json!(exit.code);
            if let Some(signal) = exit.signal {
                value["signal"] = json!(signal);
            }
        }
        Some(ShellEnd::SessionEnded) => value["endReason"] = json!("SessionEnded"),
        None => {}
    }
    value
}
