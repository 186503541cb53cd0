//! An answer in the shape of the API that asked: one JSON value, or events of a stream.
//!
//! Pure functions of the request, the answer and a number that makes ids differ.

mod gemini;
mod messages;
mod openai;

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    ask::{Api, Ask},
    script::{Reply, Said},
};

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Sent as `event:`, when the API names its events.
    pub(super) name: Option<String>,
    /// Sent as `data:`.
    pub(super) data: String,
    /// How long before it is sent.
    pub(super) pause: Duration,
}

impl Event {
    /// An event without a name.
    fn data(value: &Value) -> Self {
        Self { name: None, data: value.to_string(), pause: Duration::ZERO }
    }

    /// An event named after its `type`.
    fn typed(value: &Value) -> Self {
        Self { name: value["type"].as_str().map(str::to_owned), ..Self::data(value) }
    }

    fn after(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// As it is sent.
    pub(super) fn bytes(&self) -> String {
        match &self.name {
            Some(name) => format!("event: {name}\ndata: {}\n\n", self.data),
            None => format!("data: {}\n\n", self.data),
        }
    }
}

/// What an API is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shaped {
    /// One JSON value.
    Whole(Value),
    /// A stream of events.
    Events(Vec<Event>),
    /// An error.
    Error { status: u16, body: Value },
}

/// Gives an answer its shape.
pub(super) fn shape(ask: &Ask, reply: &Reply, serial: u64) -> Shaped {
    let said = match &reply.said {
        Said::Error { status, message } => {
            return Shaped::Error { status: *status, body: error(Some(ask.api), *status, message) };
        }
        Said::Text { pieces, pause } => Content::Text { pieces, pause: *pause },
        Said::Call { tool, input } => Content::Call { tool, input },
    };
    let answer = Answered { ask, content: said, usage: reply.usage, serial };
    match (ask.api, ask.is_stream) {
        (Api::Messages, false) => Shaped::Whole(messages::whole(&answer)),
        (Api::Messages, true) => Shaped::Events(messages::events(&answer)),
        (Api::Responses, false) => Shaped::Whole(openai::response(&answer)),
        (Api::Responses, true) => Shaped::Events(openai::response_events(&answer)),
        (Api::Chat, false) => Shaped::Whole(openai::chat(&answer)),
        (Api::Chat, true) => Shaped::Events(openai::chat_events(&answer)),
        (Api::Gemini, false) => Shaped::Whole(gemini::whole(&answer)),
        (Api::Gemini, true) => Shaped::Events(gemini::events(&answer)),
    }
}

/// An error as the API says it.
pub(super) fn error(api: Option<Api>, status: u16, message: &str) -> Value {
    let (kind, canonical) = match status {
        400 => ("invalid_request_error", "INVALID_ARGUMENT"),
        401 => ("authentication_error", "UNAUTHENTICATED"),
        403 => ("permission_error", "PERMISSION_DENIED"),
        404 => ("not_found_error", "NOT_FOUND"),
        413 => ("request_too_large", "INVALID_ARGUMENT"),
        429 => ("rate_limit_error", "RESOURCE_EXHAUSTED"),
        503 => ("api_error", "UNAVAILABLE"),
        529 => ("overloaded_error", "UNAVAILABLE"),
        _ => ("api_error", "INTERNAL"),
    };
    match api {
        Some(Api::Gemini) => {
            json!({"error": {"code": status, "message": message, "status": canonical}})
        }
        Some(Api::Responses | Api::Chat) => {
            json!({"error": {"message": message, "type": kind, "param": null, "code": null}})
        }
        Some(Api::Messages) | None => {
            json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_scripted"})
        }
    }
}

/// An answer that is no error.
struct Answered<'a> {
    ask: &'a Ask,
    content: Content<'a>,
    usage: super::script::Usage,
    serial: u64,
}

#[derive(Clone, Copy)]
enum Content<'a> {
    Text { pieces: &'a [String], pause: Duration },
    Call { tool: &'a str, input: &'a Map<String, Value> },
}

impl Answered<'_> {
    fn id(&self, prefix: &str) -> String {
        format!("{prefix}{:016x}", self.serial)
    }
}

/// Deltas of a text, each by `delta`, with the pause before all but the first.
fn deltas(pieces: &[String], pause: Duration, delta: impl Fn(&str) -> Event) -> Vec<Event> {
    let event =
        |(at, piece): (usize, &String)| delta(piece).after(if at == 0 { Duration::ZERO } else { pause });
    pieces.iter().enumerate().map(event).collect()
}

/// JSON in two halves, cut between characters: clients have to put it together.
fn halves(json: &str) -> [&str; 2] {
    let mut middle = json.len() / 2;
    while !json.is_char_boundary(middle) {
        middle -= 1;
    }
    let (first, second) = json.split_at(middle);
    [first, second]
}

#[cfg(test)]
mod tests;
