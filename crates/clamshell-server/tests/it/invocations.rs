//! Agents in real sandboxes, called as clients call them: what comes in and out, byte for byte, and how errors look.

mod endings;
mod protocols;
mod streams;
mod websockets;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use clamshell_domain::ServerProtocol;
use clamshell_testkit::{
    Client, Reply,
    hosted::{CodeBucket, agent_runtime, host},
    within,
};
use clamshell_wire::headers;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, task::JoinSet};

use crate::in_process::{InProcess, LIMIT, sandboxes};

/// An agent that does what the header `X-Mode` says.
pub(crate) const AGENT: &str = include_str!("invocations/agent.py");

/// Headers that the test's runtimes pass on.
const ALLOWED: [&str; 2] = ["X-Mode", "X-Amzn-Bedrock-AgentCore-Runtime-Custom-Team"];

/// Words that the answer to a failed agent has.
const FAILED: &str = "from runtime. Please check your CloudWatch logs for more information.";

/// A server with one runtime whose agent is `agent.py`.
pub(crate) struct Fixture {
    pub(crate) server: InProcess,
    pub(crate) client: Client,
    _bucket: CodeBucket,
}

impl Fixture {
    pub(crate) async fn start(protocol: ServerProtocol) -> Option<Self> {
        Self::start_with(protocol, "").await
    }

    /// As [`Fixture::start`], with more configuration. `None`, with the reason printed, where it cannot be.
    pub(crate) async fn start_with(protocol: ServerProtocol, configuration: &str) -> Option<Self> {
        sandboxes()?;
        let bucket = CodeBucket::with_agent(AGENT).unwrap()?;
        let configuration = format!("standby = false\n{configuration}{}", bucket.configuration());
        let server = InProcess::start(&configuration).await;
        let name = match protocol {
            ServerProtocol::Http => "HTTP",
            ServerProtocol::Mcp => "MCP",
            ServerProtocol::A2a => "A2A",
            ServerProtocol::AgUi => "AGUI",
        };
        let mut runtime = agent_runtime("agent", bucket.artifact(), protocol).unwrap();
        runtime.environment.insert("PROTOCOL".to_owned(), name.to_owned());
        runtime.hosting.as_mut().unwrap().header_allowlist = ALLOWED.map(str::to_owned).to_vec();
        let client = host(server.data_dir(), &server.client, &runtime).await.unwrap();
        Some(Self { server, client, _bucket: bucket })
    }

    /// An invocation, its answer whole.
    pub(crate) async fn invoke(
        &self,
        session: &str,
        mode: &str,
        more: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut headers = vec![(headers::SESSION_ID, session), ("x-mode", mode)];
        headers.extend(more);
        let path = self.client.runtime_path("invocations");
        within("answer", LIMIT, self.client.request("POST", &path, &headers, body)).await.unwrap()
    }

    /// An invocation, its answer as it comes. The task drives the connection.
    pub(crate) async fn begin(&self, session: &str, mode: &str) -> (Response<Incoming>, JoinSet<()>) {
        self.begin_with(session, mode, b"{}").await
    }

    /// As [`Fixture::begin`], with a body.
    pub(crate) async fn begin_with(
        &self,
        session: &str,
        mode: &str,
        body: &[u8],
    ) -> (Response<Incoming>, JoinSet<()>) {
        let path = self.client.runtime_path("invocations");
        let headers = [(headers::SESSION_ID, session), ("x-mode", mode)];
        let mut request = Request::builder().method("POST").uri(&path);
        for (name, value) in self.client.signed("POST", &path, &headers, body).unwrap() {
            request = request.header(name, value);
        }
        let stream = TcpStream::connect(&self.client.authority).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let _ = connection.await;
        });
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let response = within("headers", LIMIT, sender.send_request(request)).await.unwrap();
        (response, driver)
    }

    /// What the agent of a session says of itself.
    pub(crate) async fn state(&self, session: &str) -> Value {
        self.invoke(session, "state", &[], b"").await.json()
    }
}

/// A session id of its own.
pub(crate) fn session(name: &str) -> String {
    format!("session-of-the-invocation-tests-{name:0>12}")
}

/// The next bytes of a body.
pub(crate) async fn next(body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
    let frame = within("frame", LIMIT, body.frame()).await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

#[tokio::test]
async fn e2e_bodies_arrive_as_they_were_sent() {
    let Some(fixture) = Fixture::start(ServerProtocol::Http).await else { return };
    let id = session("echo");
    let mut random = vec![0_u8; 3_000_001];
    let mut seed = 7_u32;
    for byte in &mut random {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = seed.to_be_bytes()[0];
    }
    for length in [0, 1, 1000, 65_536, 1 << 20, (1 << 20) + 1, 3_000_001] {
        let body = &random[..length];
        let reply = fixture.invoke(&id, "echo", &[("content-type", "application/octet-stream")], body).await;
        assert_eq!(reply.status, 200, "{length}: {}", String::from_utf8_lossy(&reply.body));
        assert!(reply.body == body, "{length} bytes came back otherwise");
        assert_eq!(reply.header("content-type"), "application/octet-stream");
        assert_eq!(reply.header(headers::SESSION_ID), id);
    }
    // Nothing of the long ones is left.
    let names: Vec<_> = std::fs::read_dir(fixture.server.data_dir()).unwrap().flatten().collect();
    assert!(names.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with("body-")));
    // Wrongly signed: the agent hears nothing of it.
    let before = fixture.state(&id).await["calls"].as_u64().unwrap();
    let path = fixture.client.runtime_path("invocations");
    let sent = [(headers::SESSION_ID, id.as_str()), ("x-mode", "echo")];
    let signed = fixture.client.signed("POST", &path, &sent, &random[..2_000_000]).unwrap();
    let reply = fixture.client.send("POST", &path, &signed, &random[1..2_000_001]).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header(headers::ERROR_TYPE)), (403, "AccessDeniedException"));
    assert_eq!(fixture.state(&id).await["calls"].as_u64().unwrap(), before + 1);
}

#[tokio::test]
async fn e2e_headers_in_and_out() {
    let Some(fixture) = Fixture::start(ServerProtocol::Http).await else { return };
    let id = session("headers");
    let sent = [
        (headers::USER_ID, "alice"),
        ("traceparent", "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01"),
        ("tracestate", "a=b"),
        ("x-amzn-trace-id", "Root=1-2-3"),
        ("baggage", "k=v"),
        ("accept", "text/event-stream"),
        ("x-amzn-bedrock-agentcore-runtime-custom-team", "blue"),
        ("x-amzn-bedrock-agentcore-runtime-custom-other", "no"),
        ("x-not-allowed", "no"),
        ("cookie", "no"),
    ];
    let reply = fixture.invoke(&id, "seen", &sent, b"").await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    let mut seen = reply.json();
    let request_id = reply.header(headers::REQUEST_ID).to_owned();
    assert_eq!(seen["headers"]["x-amzn-bedrock-agentcore-runtime-request-id"], json!(request_id));
    seen["headers"].as_object_mut().unwrap().remove("x-amzn-bedrock-agentcore-runtime-request-id");
    let expect = json!({
        "method": "POST",
        "path": "/invocations",
        "headers": {
            "host": "localhost:8080",
            "content-type": "application/json",
            "content-length": "0",
            "accept": "text/event-stream",
            "x-mode": "seen",
            "x-amzn-bedrock-agentcore-runtime-session-id": id,
            "x-amzn-bedrock-agentcore-runtime-user-id": "alice",
            "x-amzn-bedrock-agentcore-runtime-custom-team": "blue",
            "traceparent": sent[1].1,
            "tracestate": "a=b",
            "x-amzn-trace-id": "Root=1-2-3",
            "baggage": "k=v",
        },
    });
    assert_eq!(seen, expect);
    for (name, value) in &sent[1..5] {
        assert_eq!(reply.header(name), *value);
    }
    // Without an id the answer names one; without a content type it gets one.
    let path = fixture.client.runtime_path("invocations");
    let reply = fixture.client.request("POST", &path, &[("x-mode", "bare")], b"").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (202, "application/octet-stream"));
    assert!(uuid::Uuid::parse_str(reply.header(headers::SESSION_ID)).is_ok());
}

#[tokio::test]
async fn e2e_errors_of_the_agent_are_one_error() {
    let Some(fixture) = Fixture::start(ServerProtocol::Http).await else { return };
    let id = session("errors");
    // On a new session an error may be part of the start: it is asked again.
    let reply = fixture.invoke(&id, "third", &[], b"the same body").await;
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"the same body"[..]));
    assert_eq!(fixture.state(&id).await["calls"], 4);
    for status in [300, 400, 404, 429, 500, 503] {
        let reply = fixture.invoke(&id, &format!("status {status}"), &[], b"{}").await;
        let seen = (reply.status.as_u16(), reply.header(headers::ERROR_TYPE), reply.json());
        let text = format!("Received error ({status}) {FAILED}");
        assert_eq!(seen, (424, "RuntimeClientError", json!({ "message": text })));
        assert_eq!(reply.header("content-type"), "application/json");
    }
    let reply = fixture.invoke(&id, "crash", &[], b"{}").await;
    let text = format!("Received error (502) {FAILED}");
    assert_eq!((reply.status.as_u16(), reply.json()), (424, json!({ "message": text })));
    // A 4xx is an answer, even the first one.
    let first = session("first");
    let reply = fixture.invoke(&first, "status 404", &[], b"{}").await;
    assert_eq!(reply.json(), json!({ "message": format!("Received error (404) {FAILED}") }));
    assert_eq!(fixture.state(&first).await["calls"], 2);
}

#[tokio::test]
async fn e2e_bad_invocations_are_refused() {
    let Some(fixture) = Fixture::start(ServerProtocol::Http).await else { return };
    let check = async |path: &str, sent: &[(&str, &str)], status: u16, error: &str, word: &str| {
        let reply = fixture.client.request("POST", path, sent, b"{}").await.unwrap();
        let text = reply.json()["message"].as_str().unwrap().to_owned();
        assert_eq!((reply.status.as_u16(), reply.header(headers::ERROR_TYPE)), (status, error), "{text}");
        assert!(text.contains(word), "{text}");
    };
    let path = fixture.client.runtime_path("invocations");
    let long = "x".repeat(4097);
    check(&path, &[(headers::SESSION_ID, "short")], 400, "ValidationException", "runtimeSessionId").await;
    check(&path, &[("x-mode", &long)], 400, "ValidationException", "x-mode").await;
    check(&path, &[(headers::USER_ID, &"u".repeat(1025))], 400, "ValidationException", "runtimeUserId").await;
    check(&format!("{path}?qualifier=none"), &[], 404, "ResourceNotFoundException", "'none'").await;
    let default = fixture.server.client.runtime_path("invocations");
    check(&default, &[], 400, "ValidationException", "hosts no agent").await;
    // A body that says how long it is, and is too long.
    let mut signed = fixture.client.signed("POST", &path, &[], b"").unwrap();
    signed.push(("content-length".to_owned(), "100000001".to_owned()));
    let reply = announce(&fixture.client, &path, &signed).await;
    assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
    assert!(reply.contains("less than or equal to 100000000"), "{reply}");
    assert!(fixture.server.client.request("GET", "/clamshell/v1/sessions", &[], b"").await.unwrap().json()["sessions"]
        .as_array()
        .unwrap()
        .is_empty());
}

/// Sends headers and part of a body, and reads what comes.
async fn announce(client: &Client, path: &str, headers: &[(String, String)]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(&client.authority).await.unwrap();
    let mut text = format!("POST {path} HTTP/1.1\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; 9 << 20]).await.unwrap();
    let mut reply = vec![0; 4096];
    let count = within("refusal", Duration::from_secs(60), stream.read(&mut reply)).await.unwrap();
    String::from_utf8_lossy(&reply[..count]).into_owned()
}

/// Something that several tasks share.
pub(crate) fn shared(fixture: Fixture) -> Arc<Fixture> {
    Arc::new(fixture)
}
