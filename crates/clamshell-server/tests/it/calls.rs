//! Requests as values: built, signed by anybody at any time, spoiled, sent; and what answers must look like.

use std::sync::Arc;

use clamshell_domain::Clock;
use clamshell_testkit::{Client, Reply, is_root};
use clamshell_wire::{
    headers,
    sigv4::{Credentials, PayloadHash, SignedRequest, presign, sign_headers},
};
use serde_json::{Value, json};

use crate::in_process::InProcess;

/// 2027-01-15T08:00:00Z: with a clock that stands still, every message is exact and nothing changes by itself.
pub(crate) const NOW_MS: u64 = 1_800_000_000_000;

/// A session that exists.
pub(crate) const SESSION: &str = "session-of-the-server-tests-000000001";

/// The clock that stands still.
pub(crate) struct FixedClock;

impl Clock for FixedClock {
    fn now_ms(&self) -> u64 {
        NOW_MS
    }
}

/// Who signs, where, when.
#[derive(Clone)]
pub(crate) struct Signer {
    pub(crate) authority: String,
    pub(crate) region: String,
    pub(crate) credentials: Credentials,
    pub(crate) now_ms: u64,
}

impl Signer {
    /// The same signer at another time.
    pub(crate) fn at(&self, offset_s: i64) -> Self {
        Self { now_ms: self.now_ms.checked_add_signed(offset_s * 1000).unwrap(), ..self.clone() }
    }

    /// Another key.
    pub(crate) fn with_key(&self, id: &str, secret: &str) -> Self {
        let credentials = Credentials {
            access_key_id: id.to_owned(),
            secret_access_key: secret.to_owned(),
            session_token: None,
        };
        Self { credentials, ..self.clone() }
    }

    /// The right key id with a wrong secret.
    pub(crate) fn with_wrong_secret(&self) -> Self {
        self.with_key(&self.credentials.access_key_id, "wrongwrongwrongwrongwrongwrongwrongwrong")
    }
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(method: &str, path: impl Into<String>) -> Self {
        Self { method: method.to_owned(), path: path.into(), headers: Vec::new(), body: Vec::new() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The headers of a WebSocket upgrade, without those named.
    pub(crate) fn upgrade_without(self, left_out: &str) -> Self {
        let all = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        all.iter()
            .filter(|(name, _)| *name != left_out)
            .fold(self, |call, (name, value)| call.header(name, *value))
    }

    fn with_host(mut self, authority: &str) -> Self {
        if !self.headers.iter().any(|(name, _)| name == "host") {
            self.headers.insert(0, ("host".to_owned(), authority.to_owned()));
        }
        self
    }

    fn with_request<T>(&self, sign: impl FnOnce(&SignedRequest<'_>) -> T) -> T {
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        sign(&SignedRequest {
            method: &self.method,
            raw_path: path,
            raw_query: query,
            headers: &headers,
            payload_hash: if self.body.is_empty() {
                PayloadHash::Empty
            } else {
                PayloadHash::Body(&self.body)
            },
        })
    }

    /// Signs in the headers.
    pub(crate) fn signed(self, signer: &Signer) -> Self {
        let mut call = self.with_host(&signer.authority);
        let added = call
            .with_request(|request| sign_headers(request, &signer.credentials, &signer.region, signer.now_ms))
            .unwrap();
        call.headers.extend(added.into_iter().map(|(name, value)| (name.to_owned(), value)));
        call
    }

    /// Signs in the query.
    pub(crate) fn presigned(self, signer: &Signer, expires_s: u32) -> Self {
        let mut call = self.with_host(&signer.authority);
        let query = call
            .with_request(|request| {
                presign(request, &signer.credentials, &signer.region, signer.now_ms, expires_s)
            })
            .unwrap();
        let path = call.path.split('?').next().unwrap_or_default().to_owned();
        call.path = format!("{path}?{query}");
        call
    }

    /// Replaces text in a header, after signing for instance.
    pub(crate) fn edit(mut self, name: &str, from: &str, to: &str) -> Self {
        let (_, value) = self.headers.iter_mut().find(|(known, _)| known == name).unwrap();
        assert!(value.contains(from), "{value} has no {from}");
        *value = value.replacen(from, to, 1);
        self
    }

    /// Replaces text in path and query.
    pub(crate) fn edit_path(mut self, from: &str, to: &str) -> Self {
        assert!(self.path.contains(from), "{} has no {from}", self.path);
        self.path = self.path.replacen(from, to, 1);
        self
    }

    /// Sends it over a connection of its own.
    pub(crate) async fn send(&self, client: &Client) -> Reply {
        let call = self.clone().with_host(&client.authority);
        match client.send(&call.method, &call.path, &call.headers, &call.body).await {
            Ok(reply) => reply,
            Err(error) => unreachable!("{} {}: {error:#}", self.method, self.path),
        }
    }
}

/// A request that must be refused, and how.
pub(crate) struct Refusal {
    pub(crate) name: String,
    pub(crate) call: Call,
    pub(crate) status: u16,
    pub(crate) error: &'static str,
    pub(crate) body: Value,
}

impl Refusal {
    /// Sends the request and compares the whole answer.
    pub(crate) async fn check(&self, server: &InProcess) {
        let reply = self.call.send(&server.client).await;
        let name = &self.name;
        let seen = (reply.status.as_u16(), reply.header(headers::ERROR_TYPE), reply.json());
        assert_eq!(seen, (self.status, self.error, self.body.clone()), "{name}");
        check_envelope(name, &reply);
        assert_eq!(reply.header("content-type"), "application/json", "{name}");
    }
}

/// What every answer has, good or bad.
pub(crate) fn check_envelope(name: &str, reply: &Reply) {
    let request_id = reply.header(headers::REQUEST_ID);
    assert!(uuid::Uuid::parse_str(request_id).is_ok(), "{name}: {request_id}");
    assert_eq!(reply.header("access-control-allow-origin"), "*", "{name}");
    assert_eq!(reply.header("www-authenticate"), "", "{name}");
}

/// Body of a `ValidationException` for one member.
pub(crate) fn invalid(field: &str, rule: &str) -> Value {
    json!({
        "message":
            format!("1 validation error detected: Value at '{field}' failed to satisfy constraint: {rule}"),
        "reason": "FieldValidationFailed",
        "fieldList": [{ "name": field, "message": rule }],
    })
}

/// Body of a `ValidationException` for what cannot be read.
pub(crate) fn unreadable(message: &str) -> Value {
    json!({ "message": message, "reason": "CannotParse" })
}

/// Body of an error with nothing but a message.
pub(crate) fn message(text: impl Into<String>) -> Value {
    json!({ "message": text.into() })
}

/// Body for a runtime or endpoint that is not here.
pub(crate) fn no_runtime(runtime: &str, qualifier: &str) -> Value {
    message(format!("No endpoint or agent found with qualifier '{qualifier}' for agent '{runtime}'"))
}

/// A server whose clock stands still, with a running session where sandboxes can be made.
pub(crate) async fn server_with_session() -> InProcess {
    let server = InProcess::start_at("", Arc::new(FixedClock)).await;
    if is_root() {
        let reply = command(&server, SESSION, "true").signed(&server.root()).send(&server.client).await;
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    }
    server
}

/// A command in a session.
pub(crate) fn command(server: &InProcess, session_id: &str, text: &str) -> Call {
    Call::new("POST", server.client.runtime_path("commands"))
        .header(headers::SESSION_ID, session_id)
        .header("content-type", "application/json")
        .body(json!({ "command": text }).to_string())
}

/// All that requests could change: sessions, shells, keys and runtimes.
pub(crate) async fn state(server: &InProcess) -> Value {
    let mut state = Vec::new();
    for (method, path) in [
        ("GET", "/clamshell/v1/sessions"),
        ("GET", "/clamshell/v1/shells"),
        ("GET", "/clamshell/v1/keys"),
        ("POST", "/runtimes/"),
    ] {
        let reply = Call::new(method, path).signed(&server.root()).send(&server.client).await;
        assert_eq!(reply.status, 200, "{path}");
        let mut value = reply.json();
        for key in value["keys"].as_array_mut().into_iter().flatten() {
            key["lastUsedAt"] = Value::Null;
        }
        state.push(value);
    }
    Value::Array(state)
}
