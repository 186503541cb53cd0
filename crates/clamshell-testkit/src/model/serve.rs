//! HTTP of a scripted model: routes, bodies, streams of events.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body as HttpBody, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

use super::{
    Listener,
    ask::{Api, Ask},
    record::{Record, Recorded},
    script::Script,
    shape::{self, Event, Shaped},
};

/// Connections at once: agents keep a handful open, and each holds one request in memory.
const CONNECTIONS_MAX: usize = 64;
/// Longest body: what the largest context of a model fills, several times.
const BODY_BYTES_MAX: usize = 32 << 20;
/// The only model there is.
const NAME: &str = "scripted";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What all connections share.
#[derive(Debug)]
pub(super) struct State {
    script: Script,
    serial: AtomicU64,
    pub(super) record: Record,
}

impl State {
    pub(super) fn new(script: Script) -> Self {
        Self { script, serial: AtomicU64::new(1), record: Record::default() }
    }
}

/// Serves connections until it is dropped, and they with it.
pub(super) async fn accept(listener: Listener, state: Arc<State>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let state = Arc::clone(&state);
        let accepted = match &listener {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                let _ = stream.set_nodelay(true);
                connections.spawn(connection(stream, state, place));
            }),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                connections.spawn(connection(stream, state, place));
            }),
        };
        if accepted.is_err() {
            // Out of descriptors: one of the others has to end first.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection<S>(stream: S, state: Arc<State>, _place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(respond(&state, request).await) }
    });
    // A client that goes away in the middle of an answer is no failure of the model.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// What is answered, before it is bytes.
struct Outcome {
    ask: Option<Ask>,
    rule: Option<usize>,
    shaped: Shaped,
    /// Whether a stream is written as one JSON list.
    is_list: bool,
}

impl Outcome {
    fn plain(value: Value) -> Self {
        Self { ask: None, rule: None, shaped: Shaped::Whole(value), is_list: false }
    }

    fn error(api: Option<Api>, status: u16, message: &str) -> Self {
        let body = shape::error(api, status, message);
        Self { ask: None, rule: None, shaped: Shaped::Error { status, body }, is_list: false }
    }
}

async fn respond<B>(state: &State, request: Request<B>) -> Response<Body>
where
    B: HttpBody<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await.map(http_body_util::Collected::to_bytes);
    let (length, json) = match &body {
        Ok(bytes) => (bytes.len(), serde_json::from_slice(bytes).unwrap_or_default()),
        Err(_) => (0, Value::Null),
    };
    let path = parts.uri.path();
    let query = parts.uri.query().unwrap_or_default();
    let outcome = match &body {
        Ok(_) => route(state, &parts.method, path, query, &json),
        Err(_) => Outcome::error(None, 413, "the body did not come, or is too long"),
    };
    let response = answer(outcome.shaped, outcome.is_list);
    let headers = parts.headers.iter();
    let headers =
        headers.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
    state.record.keep(
        length,
        Recorded {
            method: parts.method.to_string(),
            path: parts.uri.to_string(),
            headers: headers.collect(),
            body: json,
            ask: outcome.ask,
            rule: outcome.rule,
            status: response.status().as_u16(),
        },
    );
    response
}

fn route(state: &State, method: &Method, path: &str, query: &str, body: &Value) -> Outcome {
    if method == Method::GET || method == Method::HEAD {
        return match path.rsplit('/').next() {
            Some("models") => Outcome::plain(models(path)),
            Some("") if path == "/" => Outcome::plain(json!({})),
            Some(_) if path.contains("/models/") => Outcome::plain(model()),
            _ => Outcome::error(None, 404, "there is nothing at this path"),
        };
    }
    if method != Method::POST {
        return Outcome::error(None, 404, "there is nothing at this path");
    }
    let gemini = path.rsplit_once("/models/").and_then(|(_, rest)| rest.rsplit_once(':'));
    let tokens = state.script.usage.input_total();
    let (api, is_list) = match gemini {
        Some((_, "countTokens")) => return Outcome::plain(json!({ "totalTokens": tokens })),
        Some((_, "streamGenerateContent")) => (Api::Gemini, !query.split('&').any(|pair| pair == "alt=sse")),
        Some((_, "generateContent")) => (Api::Gemini, false),
        _ if path.ends_with("/messages/count_tokens") => {
            return Outcome::plain(json!({ "input_tokens": tokens }));
        }
        _ if path.ends_with("/messages") => (Api::Messages, false),
        _ if path.ends_with("/responses") => (Api::Responses, false),
        _ if path.ends_with("/chat/completions") => (Api::Chat, false),
        _ => return Outcome::error(None, 404, "there is nothing at this path"),
    };
    if !body.is_object() {
        return Outcome::error(Some(api), 400, "the body is no JSON object");
    }
    let ask = match (api, gemini) {
        (Api::Gemini, Some((name, verb))) => Ask::gemini(name, verb == "streamGenerateContent", body),
        (Api::Messages, _) => Ask::messages(body),
        (Api::Responses, _) => Ask::responses(body),
        (Api::Chat | Api::Gemini, _) => Ask::chat(body),
    };
    let (rule, reply) = state.script.answer(&ask);
    let serial = state.serial.fetch_add(1, Ordering::Relaxed);
    Outcome { shaped: shape::shape(&ask, &reply, serial), rule, ask: Some(ask), is_list }
}

fn model() -> Value {
    json!({"id": NAME, "type": "model", "object": "model", "display_name": NAME, "owned_by": "script",
        "created": 0, "created_at": "2026-01-01T00:00:00Z"})
}

/// The one model; Gemini's list has another shape, and Codex reads an empty `models` as `no news`.
fn models(path: &str) -> Value {
    if path.contains("/v1beta") {
        let methods = ["generateContent", "streamGenerateContent", "countTokens"];
        return json!({"models": [{"name": format!("models/{NAME}"), "supportedGenerationMethods": methods}]});
    }
    json!({"object": "list", "data": [model()], "has_more": false, "first_id": NAME, "last_id": NAME, "models": []})
}

fn answer(shaped: Shaped, is_list: bool) -> Response<Body> {
    let (status, kind, body) = match shaped {
        Shaped::Whole(value) => (200, "application/json", whole(&value)),
        Shaped::Error { status, body } => (status, "application/json", whole(&body)),
        Shaped::Events(events) if is_list => {
            let values = events.iter().filter_map(|event| serde_json::from_str::<Value>(&event.data).ok());
            (200, "application/json", whole(&values.collect()))
        }
        Shaped::Events(events) => (200, "text/event-stream", stream_of(events)),
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

fn whole(value: &Value) -> Body {
    Full::new(Bytes::from(value.to_string())).boxed_unsync()
}

fn stream_of(events: Vec<Event>) -> Body {
    let frames = stream::unfold(events.into_iter(), async |mut events| {
        let event = events.next()?;
        if !event.pause.is_zero() {
            tokio::time::sleep(event.pause).await;
        }
        Some((Ok::<_, Infallible>(Frame::data(Bytes::from(event.bytes()))), events))
    });
    StreamBody::new(frames).boxed_unsync()
}
