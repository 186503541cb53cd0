//! Agents behind a guest of the test's own: connections are passed to a listener of this process.

use std::{
    convert::Infallible,
    mem::MaybeUninit,
    os::fd::AsFd,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use clamshell_domain::{
    EndpointName, Hosting, RuntimeId, ServerProtocol, SessionId, SessionKey, StorageId, SystemClock,
    SystemEntropy,
};
use clamshell_protocol::{Decoder, ErrorCode, Frame, Reply, Request as Asked, WireError};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::*;
use crate::logs::{LogPolicy, Logs};

/// An agent of the test.
struct Fixture {
    folder: tempfile::TempDir,
    /// Ends with the fixture.
    _tasks: JoinSet<()>,
    port: u16,
    connections: Arc<AtomicUsize>,
    ended: CancellationToken,
}

/// A guest that passes connections to ports of this machine.
async fn guest(listener: UnixListener, connections: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let asked = read_request(&mut stream).await;
        let Asked::Connect { port, .. } = asked else { continue };
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(socket) => {
                connections.fetch_add(1, Ordering::Relaxed);
                pass(&stream, &socket).await;
            }
            Err(_) => {
                let error = WireError { code: ErrorCode::Refused, message: "nothing listens".to_owned() };
                let reply = Frame::Reply(Box::new(Reply::Error(error)));
                stream.write_all(&reply.to_bytes()).await.unwrap();
            }
        }
    }
}

async fn read_request(stream: &mut UnixStream) -> Asked {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 4096];
    loop {
        let count = stream.read(&mut buffer).await.unwrap();
        decoder.extend(&buffer[..count]);
        if let Some(Frame::Request(request)) = decoder.next_frame().unwrap() {
            return *request;
        }
    }
}

async fn pass(stream: &UnixStream, socket: &TcpStream) {
    let bytes = Frame::Reply(Box::new(Reply::Connected { passed: true })).to_bytes();
    stream.writable().await.unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let rights = [socket.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
    let pieces = [std::io::IoSlice::new(&bytes)];
    rustix::net::sendmsg(stream, &pieces, &mut control, SendFlags::NOSIGNAL).unwrap();
}

/// Says what it was asked.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let host = parts.headers.get("host").map(|host| host.to_str().unwrap().to_owned());
    let mut text = format!("{} {} {}\n", parts.method, parts.uri, host.unwrap_or_default()).into_bytes();
    text.extend_from_slice(&body);
    let mut response = Response::new(Full::new(Bytes::from(text)));
    if parts.uri.path() == "/broken" {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    Ok(response)
}

impl Fixture {
    /// An agent that serves each connection as `serve` does.
    async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> (Self, Arc<Agent>)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let folder = tempfile::tempdir().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = tcp.local_addr().unwrap().port();
        let unix = UnixListener::bind(folder.path().join("guest.sock")).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn(guest(unix, Arc::clone(&connections)));
        tasks.spawn(async move {
            let mut served = JoinSet::new();
            while let Ok((stream, _)) = tcp.accept().await {
                served.spawn(serve(stream));
            }
        });
        let ended = CancellationToken::new();
        let fixture = Self { folder, _tasks: tasks, port, connections, ended };
        let agent = fixture.agent(Duration::from_secs(5));
        (fixture, agent)
    }

    fn agent(&self, start_limit: Duration) -> Arc<Agent> {
        let hosting = Hosting {
            role_arn: String::new(),
            protocol: ServerProtocol::Http,
            port: self.port,
            path: "/invocations".to_owned(),
            header_allowlist: Vec::new(),
            file_systems: Vec::new(),
            authorizer: None,
            configuration: String::new(),
        };
        let clock = Arc::new(SystemClock);
        let logs = Logs::new(self.folder.path(), LogPolicy::default(), clock, TaskTracker::new());
        let key = SessionKey {
            runtime_id: RuntimeId::parse("weather-0123456789").unwrap(),
            endpoint: EndpointName::parse("DEFAULT").unwrap(),
            session_id: SessionId::parse("a-session-that-hosts-an-agent-00000001").unwrap(),
        };
        Arc::new(Agent::new(AgentParts {
            hosting: &hosting,
            start_limit,
            guest: GuestAddress::in_folder(self.folder.path()).unwrap(),
            log: logs.of_session(&key, &StorageId::generate(&SystemEntropy)),
            ended: self.ended.clone(),
            is_old: false,
        }))
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn serve_echo(stream: TcpStream) {
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo)).await;
}

fn handle(agent: &Arc<Agent>) -> AgentHandle {
    AgentHandle { agent: Arc::clone(agent) }
}

fn post(path: &str, body: &'static str) -> Request<AgentBody> {
    let body = Full::new(Bytes::from_static(body.as_bytes())).map_err(|never| match never {});
    Request::post(format!("http://client.example{path}")).body(body.boxed_unsync()).unwrap()
}

async fn text(response: Response<AgentAnswer>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn log_files(folder: &Path) -> String {
    let mut text = String::new();
    let mut folders = vec![folder.join("logs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => text.push_str(&std::fs::read_to_string(entry.path()).unwrap()),
            }
        }
    }
    text
}

#[tokio::test]
async fn requests_use_one_connection_after_the_other() {
    let (fixture, agent) = Fixture::start(serve_echo).await;
    let handle = handle(&agent);
    for _ in 0..5 {
        let response = handle.request(post("/invocations?a=b", "hello")).await.unwrap();
        let expect = format!("POST /invocations?a=b localhost:{}\nhello", fixture.port);
        assert_eq!(text(response).await, expect);
        assert_eq!((agent.pool.is_busy(), agent.pool.kept()), (false, 1));
    }
    assert_eq!(fixture.connections(), 1);
}

#[tokio::test]
async fn an_unread_answer_holds_up_nobody() {
    let (fixture, agent) = Fixture::start(serve_echo).await;
    let handle = handle(&agent);
    let first = handle.request(post("/one", "1")).await.unwrap();
    let second = handle.request(post("/two", "2")).await.unwrap();
    assert!(text(second).await.ends_with('2'));
    assert!(text(first).await.ends_with('1'));
    assert!(fixture.connections() <= 2);
}

#[tokio::test]
async fn a_connection_that_the_agent_closed_is_replaced() {
    // One answer, and then it closes without having said so.
    let once = |mut stream: TcpStream| async move {
        let mut asked = Vec::new();
        while !asked.ends_with(b"x") {
            assert!(stream.read_buf(&mut asked).await.unwrap() > 0);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").await.unwrap();
    };
    let (fixture, agent) = Fixture::start(once).await;
    let handle = handle(&agent);
    for round in 1..=3 {
        let response = handle.request(post("/invocations", "x")).await.unwrap();
        assert!(text(response).await.ends_with('x'));
        assert_eq!(fixture.connections(), round);
        tokio::time::timeout(Duration::from_secs(10), async {
            while agent.pool.kept() > 0 {
                agent.pool.tidy();
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_long_answer_comes_whole_over_a_connection_that_is_used_again() {
    let (fixture, agent) = Fixture::start(serve_echo).await;
    let long: Bytes = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    for round in ["/one", "/two"] {
        let body = Full::new(long.clone()).map_err(|never| match never {}).boxed_unsync();
        let asked = Request::post(format!("http://client.example{round}")).body(body).unwrap();
        let response = handle(&agent).request(asked).await.unwrap();
        assert!(agent.pool.is_busy());
        let answer = response.into_body().collect().await.unwrap().to_bytes();
        assert!(answer.ends_with(&long), "{} bytes", answer.len());
    }
    assert_eq!((fixture.connections(), agent.pool.kept(), agent.pool.is_busy()), (1, 1, false));
}

#[tokio::test]
async fn an_error_that_nobody_reads_leaves_its_connection() {
    let (fixture, agent) = Fixture::start(serve_echo).await;
    for _ in 0..3 {
        drop(handle(&agent).request(post("/broken", "x")).await.unwrap());
    }
    assert_eq!((fixture.connections(), agent.pool.is_busy()), (1, false));
}

#[tokio::test]
async fn an_answer_dropped_before_its_end_closes_its_connection() {
    let (told, mut closed) = tokio::sync::mpsc::channel(1);
    let half = move |mut stream: TcpStream| {
        let told = told.clone();
        async move {
            let mut asked = Vec::new();
            while !asked.ends_with(b"x") {
                assert!(stream.read_buf(&mut asked).await.unwrap() > 0);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nx").await.unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
            told.send(()).await.unwrap();
        }
    };
    let (_fixture, agent) = Fixture::start(half).await;
    let response = handle(&agent).request(post("/invocations", "x")).await.unwrap();
    assert!(agent.pool.is_busy());
    drop(response);
    assert_eq!((agent.pool.is_busy(), agent.pool.kept()), (false, 0));
    tokio::time::timeout(Duration::from_secs(10), closed.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_agent_that_hangs_up_is_unreachable_and_the_log_says_so() {
    let (fixture, agent) = Fixture::start(|stream| async move { drop(stream) }).await;
    let error = handle(&agent).request(post("/invocations", "x")).await.unwrap_err();
    assert_eq!(error, AgentError::Unreachable);
    tokio::time::timeout(Duration::from_secs(10), async {
        while !log_files(fixture.folder.path()).contains("POST /invocations was not answered") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn an_agent_that_exits_meanwhile_tells_how() {
    let (_fixture, agent) = Fixture::start(|stream| async move { drop(stream) }).await;
    let asked = handle(&agent);
    let (answer, ()) = tokio::join!(asked.request(post("/invocations", "x")), async {
        agent.over(AgentError::Exited { code: 3, signal: None });
    });
    assert_eq!(answer.unwrap_err(), AgentError::Exited { code: 3, signal: None });
    let later = asked.connect().await.unwrap_err();
    assert_eq!(later, AgentError::Exited { code: 3, signal: None });
}

#[tokio::test]
async fn errors_of_the_agent_are_answers_and_are_logged() {
    let (fixture, agent) = Fixture::start(serve_echo).await;
    let response = handle(&agent).request(post("/broken?secret=1", "x")).await.unwrap();
    assert_eq!(response.status(), 500);
    tokio::time::timeout(Duration::from_secs(10), async {
        while !log_files(fixture.folder.path()).contains("POST /broken was answered with 500") {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    assert!(!log_files(fixture.folder.path()).contains("secret"));
}

#[tokio::test]
async fn an_agent_is_ready_when_it_listens_and_answers() {
    let (_fixture, agent) = Fixture::start(serve_echo).await;
    assert_eq!(health::wait_until_ready(&agent).await, Ok(health::Ping::Healthy { since_ms: None }));
}

#[tokio::test]
async fn an_agent_that_never_answers_is_given_up() {
    let silent = |stream: TcpStream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    };
    let (fixture, _) = Fixture::start(silent).await;
    let agent = fixture.agent(Duration::from_millis(300));
    assert!(health::wait_until_ready(&agent).await.is_err());
}

#[tokio::test]
async fn answers_that_nobody_waits_for_any_more_are_broken_off() {
    let (told, mut closed) = tokio::sync::mpsc::channel(1);
    let slow = move |mut stream: TcpStream| {
        let told = told.clone();
        async move {
            let mut buffer = vec![0; 4096];
            while let Ok(1..) = stream.read(&mut buffer).await {}
            told.send(()).await.unwrap();
        }
    };
    let (_fixture, agent) = Fixture::start(slow).await;
    let handle = handle(&agent);
    let asked = handle.request(post("/invocations", "x"));
    assert!(tokio::time::timeout(Duration::from_millis(100), asked).await.is_err());
    tokio::time::timeout(Duration::from_secs(10), closed.recv()).await.unwrap().unwrap();
}
