//! What connections may look like: HTTP/2, headers sent twice, presigned upgrades without the port, and the drain.

use bytes::{Bytes, BytesMut};
use clamshell_domain::{Clock, SystemClock};
use clamshell_term::frame::ShellFrame;
use clamshell_testkit::{ShellEvent, within};
use clamshell_wire::{
    event_stream::{CommandEvent, CommandEventReader},
    headers,
};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    calls::{Call, SESSION, Signer, command},
    in_process::{InProcess, LIMIT, sandboxes},
};

/// An answer with its version.
pub(crate) struct Answer {
    pub(crate) version: Version,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

async fn whole(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = within("body", LIMIT, body.collect()).await.unwrap().to_bytes();
    Answer { version: parts.version, status: parts.status, headers: parts.headers, body }
}

fn request(call: &Call, uri: &str) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(call.method.as_str()).uri(uri);
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    request.body(Full::new(Bytes::from(call.body.clone()))).unwrap()
}

/// One request over HTTP/1.1.
pub(crate) async fn exchange_http1<S>(stream: S, call: &Call) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let mut call = call.clone();
    if !call.headers.iter().any(|(name, _)| name == "host") {
        call = call.header("host", "localhost");
    }
    let response = within("answer", LIMIT, sender.send_request(request(&call, &call.path))).await;
    whole(response.unwrap()).await
}

/// One request over HTTP/2; the `host` header becomes the authority, as it does in every client.
pub(crate) async fn exchange_http2<S>(stream: S, scheme: &str, authority: &str, call: &Call) -> Answer
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let mut call = call.clone();
    call.headers.retain(|(name, _)| name != "host");
    let uri = format!("{scheme}://{authority}{}", call.path);
    let response = within("answer", LIMIT, sender.send_request(request(&call, &uri))).await;
    whole(response.unwrap()).await
}

async fn http2(server: &InProcess, call: &Call) -> Answer {
    let stream = TcpStream::connect(&server.client.authority).await.unwrap();
    exchange_http2(stream, "http", &server.client.authority, call).await
}

fn events(body: &[u8]) -> Vec<CommandEvent> {
    CommandEventReader::new().feed(body).unwrap()
}

#[tokio::test]
async fn http2_without_tls_is_served() {
    let server = InProcess::start("").await;
    let health = http2(&server, &Call::new("GET", "/clamshell/v1/health")).await;
    assert_eq!((health.version, health.status.as_u16()), (Version::HTTP_2, 200));
    let list = Call::new("GET", "/clamshell/v1/sessions");
    let refused = http2(&server, &list).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.headers[headers::ERROR_TYPE], "AccessDeniedException");
    assert!(uuid::Uuid::parse_str(refused.headers[headers::REQUEST_ID].to_str().unwrap()).is_ok());
    assert_eq!(http2(&server, &list.clone().signed(&server.root())).await.status, 200);
    let other_host = list.signed(&Signer { authority: "127.0.0.2:1".to_owned(), ..server.root() });
    assert_eq!(http2(&server, &other_host).await.status, 403);
    let unknown = http2(&server, &Call::new("GET", "/nothing")).await;
    assert_eq!(
        (unknown.status.as_u16(), unknown.headers[headers::ERROR_TYPE].as_bytes()),
        (404, &b"UnknownOperationException"[..])
    );
    let allowed = http2(&server, &Call::new("GET", server.client.runtime_path("commands"))).await;
    assert_eq!((allowed.status.as_u16(), allowed.headers["allow"].as_bytes()), (405, &b"POST"[..]));
    // There is no upgrade in HTTP/2.
    let shell = Call::new("GET", format!("{}?shellId=a", server.client.runtime_path("ws/shells")))
        .header("sec-websocket-version", "13")
        .signed(&server.root());
    let shell = http2(&server, &shell).await;
    let text: serde_json::Value = serde_json::from_slice(&shell.body).unwrap();
    assert_eq!((shell.status.as_u16(), &text["message"]), (400, &"WebSocket upgrade needs HTTP/1.1".into()));
}

#[tokio::test]
async fn a_command_runs_over_http2() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let call = command(&server, SESSION, "echo out; echo err >&2; exit 3").signed(&server.root());
    let reply = http2(&server, &call).await;
    assert_eq!((reply.version, reply.status.as_u16()), (Version::HTTP_2, 200));
    assert_eq!(reply.headers["content-type"], headers::EVENT_STREAM);
    assert_eq!(reply.headers[headers::SESSION_ID], SESSION);
    let events = events(&reply.body);
    assert_eq!(events.first(), Some(&CommandEvent::Start));
    assert!(events.contains(&CommandEvent::Stdout("out\n".to_owned())), "{events:?}");
    assert!(events.contains(&CommandEvent::Stderr("err\n".to_owned())), "{events:?}");
    assert!(matches!(events.last(), Some(CommandEvent::Stop { exit_code: 3, .. })), "{events:?}");
}

/// Sends the head of an upgrade as written and reads the head of the answer.
async fn upgrade(server: &InProcess, path: &str, lines: &[String]) -> String {
    let mut stream = TcpStream::connect(&server.client.authority).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.windows(4).any(|part| part == b"\r\n\r\n") {
        let mut piece = [0; 1024];
        let count = within("answer", LIMIT, stream.read(&mut piece)).await.unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&piece[..count]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn lines(call: &Call) -> Vec<String> {
    call.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect()
}

/// `runtime.md` 3: the Python SDK sends Host, Upgrade, Connection, version and key twice, and checks the answer
/// against the first key.
#[tokio::test]
async fn headers_sent_twice_count_once() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let path = format!("{}?shellId=build", server.client.runtime_path("ws/shells"));
    let call = Call::new("GET", path.as_str())
        .header(headers::SESSION_ID, SESSION)
        .signed(&server.root())
        .upgrade_without("");
    let mut twice = lines(&call);
    for line in [
        format!("Host: {}", server.client.authority),
        "Upgrade: websocket".to_owned(),
        "Connection: Upgrade".to_owned(),
        "Sec-WebSocket-Version: 13".to_owned(),
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==".to_owned(),
    ] {
        twice.push(line);
    }
    let answer = upgrade(&server, &path, &twice).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    // The hash of the first key, from RFC 6455 section 1.3.
    assert!(answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
    assert!(answer.contains("x-amzn-bedrock-agentcore-shell-id: build\r\n"), "{answer}");
    assert!(answer.contains(&format!("{}: {SESSION}\r\n", headers::SESSION_ID)), "{answer}");
}

#[tokio::test]
async fn a_presigned_upgrade_without_the_port_is_served() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let query = format!("shellId=build&X-Amzn-Bedrock-AgentCore-Runtime-Session-Id={SESSION}");
    let path = format!("{}?{query}", server.client.runtime_path("ws/shells"));
    let bare = Signer { authority: "127.0.0.1".to_owned(), ..server.root() };
    let call = Call::new("GET", path).presigned(&bare, 300).upgrade_without("");
    let call = call.edit("host", "127.0.0.1", &server.client.authority);
    let answer = upgrade(&server, &call.path, &lines(&call)).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
}

#[tokio::test]
async fn nonsense_on_the_wire_ends_its_own_connection_only() {
    let server = InProcess::start("").await;
    let mut garbage: Vec<Vec<u8>> = vec![
        b"\0\0\0\0".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n".to_vec(),
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot a frame at all, not even nearly".to_vec(),
        b"GET / HTTP/1.1\r\nx: \0\r\n\r\n".to_vec(),
        [&b"GET / HTTP/1.1\r\nx: "[..], &b"a".repeat(1 << 20)].concat(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
    ];
    garbage.push([b"GET / HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(5000), b"\r\n".to_vec()].concat());
    for bytes in garbage {
        let mut stream = TcpStream::connect(&server.client.authority).await.unwrap();
        // The server may have hung up before all of it was sent.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = within("connection ends", LIMIT, stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(!answer.contains(" 200 ") && !answer.contains(" 500 "), "{answer}");
    }
    let reply = Call::new("GET", "/clamshell/v1/health").send(&server.client).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_body_that_never_ends_is_refused_at_its_bound() {
    let server = InProcess::start("").await;
    let mut stream = TcpStream::connect(&server.client.authority).await.unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        server.client.runtime_path("commands")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = [b"10000\r\n".to_vec(), vec![b'a'; 65_536], b"\r\n".to_vec()].concat();
    let mut sent = 0;
    // 1 GiB would be sent if the server took it; sending fails soon after its answer.
    while sent < 1 << 30 && stream.write_all(&chunk).await.is_ok() {
        sent += chunk.len();
    }
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    let reply = Call::new("GET", "/clamshell/v1/health").send(&server.client).await;
    assert_eq!(reply.status, 200);
}

/// Strangers get little memory: an endless head is refused long before it is long.
#[tokio::test]
async fn a_head_without_end_is_refused() {
    let server = InProcess::start("").await;
    let mut stream = TcpStream::connect(&server.client.authority).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "x".repeat(140_000));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let read = stream.read_exact(&mut answer);
    within("answer", std::time::Duration::from_secs(20), read).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 431");
    let long = Call::new("GET", "/clamshell/v1/sessions").header("x-long", "x".repeat(60_000));
    assert_eq!(long.signed(&server.root()).send(&server.client).await.status, 200);
}

/// Half a minute each, all at once: whoever says nothing, or not all of it, loses its place.
#[tokio::test]
async fn silence_is_cut_off() {
    let server = InProcess::start("").await;
    let body = command(&server, SESSION, "true").signed(&server.root());
    let head = lines(&body).join("\r\n");
    let half_body = format!("POST {} HTTP/1.1\r\n{head}\r\ncontent-length: 100\r\n\r\n{{", body.path);
    let forms = [
        ("", ""),
        ("PRI * HT", ""),
        ("GET / HTTP/1.1\r\nhost: a\r\n", ""),
        (half_body.as_str(), "Request body is incomplete"),
    ];
    let mut open = Vec::new();
    for (sent, expect) in forms {
        let mut stream = TcpStream::connect(&server.client.authority).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        open.push((sent, expect, stream));
    }
    for (sent, expect, mut stream) in open {
        let mut answer = Vec::new();
        let _ = within("connection is cut", LIMIT, stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains(expect) && !answer.contains(" 200 "), "{sent:?}: {answer}");
    }
}

/// A clock that can be stopped.
#[derive(Default)]
struct StoppableClock(std::sync::atomic::AtomicU64);

impl Clock for StoppableClock {
    fn now_ms(&self) -> u64 {
        match self.0.load(std::sync::atomic::Ordering::SeqCst) {
            0 => SystemClock.now_ms(),
            stopped_at_ms => stopped_at_ms,
        }
    }
}

/// The machine's clock may stand still, or be set back by an hour: a second is over all the same.
#[tokio::test]
async fn how_many_frames_a_client_may_send_does_not_hang_on_the_calendar() {
    let Some(()) = sandboxes() else { return };
    let clock = std::sync::Arc::new(StoppableClock::default());
    let server = InProcess::start_at("", clock.clone()).await;
    let mut shell = server.client.attach(SESSION, "paced", "create=true&from=end").await.unwrap();
    clock.0.store(clock.now_ms(), std::sync::atomic::Ordering::SeqCst);
    // Well below the limit of a second, and above it in all.
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(8));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for _ in 0..300 {
        pace.tick().await;
        shell.send(&ShellFrame::Heartbeat).await.unwrap();
        loop {
            match within("heartbeat", LIMIT, shell.next()).await.unwrap() {
                ShellEvent::Heartbeat => break,
                ShellEvent::Closed(code) => unreachable!("closed with {code}"),
                _ => {}
            }
        }
    }
}

/// Streams let a client wait for ever between two requests: only who signed one may.
#[tokio::test]
async fn strangers_lose_their_place_and_clients_keep_it() {
    let server = InProcess::start("").await;
    let list = Call::new("GET", "/clamshell/v1/sessions");
    let (mut stranger, mut stranger_ends) = idle_http2(&server, &list, 403).await;
    let (mut client, _client_goes_on) = idle_http2(&server, &list.signed(&server.root()), 200).await;
    within("stranger is cut off", LIMIT, stranger_ends.join_next()).await;
    let health = format!("http://{}/clamshell/v1/health", server.client.authority);
    let health = || request(&Call::new("GET", health.as_str()), &health);
    assert!(stranger.send_request(health()).await.is_err());
    assert_eq!(client.send_request(health()).await.unwrap().status(), 200);
}

/// A connection on which one request was answered with `status`.
async fn idle_http2(
    server: &InProcess,
    call: &Call,
    status: u16,
) -> (hyper::client::conn::http2::SendRequest<Full<Bytes>>, JoinSet<()>) {
    let authority = &server.client.authority;
    let stream = TokioIo::new(TcpStream::connect(authority).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    let mut call = call.clone();
    call.headers.retain(|(name, _)| name != "host");
    let uri = format!("http://{authority}{}", call.path);
    assert_eq!(whole(sender.send_request(request(&call, &uri)).await.unwrap()).await.status, status);
    (sender, tasks)
}

/// A command being streamed: what came so far, the rest, and the task of its connection.
struct Streaming {
    body: Incoming,
    seen: BytesMut,
    _connection: JoinSet<()>,
}

impl Streaming {
    async fn start(server: &InProcess, text: &str) -> Self {
        let call = command(server, SESSION, text).signed(&server.root());
        let stream = TcpStream::connect(&server.client.authority).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // How the connection ends is what these tests look at, on the body.
            let _ = connection.await;
        });
        let response =
            within("answer", LIMIT, sender.send_request(request(&call, &call.path))).await.unwrap();
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), seen: BytesMut::new(), _connection: tasks }
    }

    async fn read_until(&mut self, text: &str) {
        while !self.seen.windows(text.len()).any(|part| part == text.as_bytes()) {
            let frame = within("output", LIMIT, self.body.frame()).await.unwrap().unwrap();
            self.seen.extend_from_slice(frame.data_ref().unwrap());
        }
    }

    /// The rest; whether it ended as a whole answer does.
    async fn rest(&mut self) -> bool {
        loop {
            match within("end of the output", LIMIT, self.body.frame()).await {
                None => return true,
                Some(Ok(frame)) => self.seen.extend_from_slice(frame.data_ref().unwrap()),
                Some(Err(_)) => return false,
            }
        }
    }
}

#[tokio::test]
async fn a_drain_lets_a_command_finish() {
    let Some(()) = sandboxes() else { return };
    let mut server = InProcess::start("drain_timeout_s = 60\n").await;
    let mut streaming = Streaming::start(&server, "echo started; sleep 1; echo done").await;
    streaming.read_until("started").await;
    let mut shell = server.client.shell(SESSION, "build").await.unwrap();
    server.shutdown.cancel();
    // An open shell is told to come back.
    loop {
        match within("shell is closed", LIMIT, shell.next()).await.unwrap() {
            ShellEvent::Closed(code) => break assert_eq!(code, 1001),
            ShellEvent::Close
            | ShellEvent::Output(_)
            | ShellEvent::Status(_)
            | ShellEvent::Notice(_)
            | ShellEvent::Heartbeat => {}
        }
    }
    assert!(streaming.rest().await);
    let events = events(&streaming.seen);
    assert!(events.contains(&CommandEvent::Stdout("done\n".to_owned())), "{events:?}");
    assert!(matches!(events.last(), Some(CommandEvent::Stop { exit_code: 0, .. })), "{events:?}");
    server.ended().await;
    assert!(TcpStream::connect(&server.client.authority).await.is_err(), "the port is free");
}

#[tokio::test]
async fn a_drain_ends_when_its_time_is_over() {
    let Some(()) = sandboxes() else { return };
    let mut server = InProcess::start("drain_timeout_s = 1\n").await;
    let mut streaming = Streaming::start(&server, "echo started; sleep 1000; echo done").await;
    streaming.read_until("started").await;
    server.shutdown.cancel();
    server.ended().await;
    assert!(!streaming.rest().await, "a cut answer must not look like a whole one");
    let events = events(&streaming.seen);
    assert!(!events.iter().any(|event| matches!(event, CommandEvent::Stop { .. })), "{events:?}");
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_up_the_end() {
    let mut server = InProcess::start("drain_timeout_s = 60\n").await;
    let stream = TcpStream::connect(&server.client.authority).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let call = Call::new("GET", "/clamshell/v1/health").header("host", "a");
    let reply = whole(sender.send_request(request(&call, &call.path)).await.unwrap()).await;
    assert_eq!(reply.status, 200);
    // Another one has said nothing at all.
    let _silent = TcpStream::connect(&server.client.authority).await.unwrap();
    let started = std::time::Instant::now();
    server.shutdown.cancel();
    server.ended().await;
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}
