//! `clamshell web` in front of a real server: what its users see, and what they do not notice.

#![expect(clippy::panic, reason = "what should not come fails the test")]

use std::{path::Path, time::Duration};

use clamshell_term::{frame::ShellFrame, status::Status};
use clamshell_testkit::{Client, ServerProcess, ShellEvent, ShellSocket, eventually};
use clamshell_wire::sigv4::Credentials;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_clamshell");
const SESSION: &str = "web-session-of-the-tests-000000000001";
/// A line of the counter that most tests run.
const COUNT: &str =
    "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo \"line-$i.\"; sleep 0.02; done; echo all''done\n";

struct Scene {
    upstream: ServerProcess,
    web: ServerProcess,
    client: Client,
}

/// A server, and the web terminal in front of it; `configuration` is the server's.
async fn scene(configuration: &str) -> Scene {
    let upstream = ServerProcess::start(Path::new(PROGRAM), configuration).await.unwrap();
    let data_dir = upstream.data_dir().to_str().unwrap().to_owned();
    let flags = ["--data-dir", data_dir.as_str(), "--runtime", "default"];
    let web = ServerProcess::start_web(Path::new(PROGRAM), "", &flags).await.unwrap();
    let client = web.client().await.unwrap();
    Scene { upstream, web, client }
}

/// Attaches and reads what is said before the output: the first offset and that of the run.
async fn attach(client: &Client, shell: &str, query: &str) -> (ShellSocket, u64, u64) {
    let mut socket = client.attach(SESSION, shell, &format!("window=262144&{query}")).await.unwrap();
    let ShellEvent::Status(Status::Confirmed { offset: Some(offset), .. }) = socket.next().await.unwrap()
    else {
        panic!("no confirmation");
    };
    let ShellEvent::Status(Status::Run { offset: run, .. }) = socket.next().await.unwrap() else {
        panic!("the run was not told");
    };
    (socket, offset, run)
}

async fn open(client: &Client, shell: &str) -> ShellSocket {
    let (mut socket, ..) = attach(client, shell, "create=true&from=end").await;
    socket.input(b"stty -echo; PS1=; echo re''ady\n").await.unwrap();
    socket.read_until("ready\r\n").await.unwrap();
    socket
}

/// Reads to the end of the counter and checks that every line came once.
async fn count_all(socket: &mut ShellSocket, mut seen: Vec<u8>) {
    let mut consumed = seen.len() as u64;
    while !seen.windows(9).any(|window| window == b"alldone\r\n") {
        let event = tokio::time::timeout(Duration::from_secs(60), socket.next()).await;
        match event.unwrap_or_else(|_| panic!("nothing more after {}", tail(&seen))).unwrap() {
            ShellEvent::Output(bytes) => {
                seen.extend_from_slice(&bytes);
                consumed += bytes.len() as u64;
                socket.send(&ShellFrame::Consumed(consumed)).await.unwrap();
            }
            ShellEvent::Status(_) | ShellEvent::Heartbeat => {}
            other => panic!("{other:?} after {}", tail(&seen)),
        }
    }
    let text = String::from_utf8(seen).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("line-")).collect();
    let expect: Vec<String> = (1..=400).map(|number| format!("line-{number}.")).collect();
    assert_eq!(lines, expect, "every line once, in order");
}

fn tail(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(200)..]).into_owned()
}

async fn get(client: &Client, path: &str) -> (u16, Value) {
    let reply = client.request("GET", path, &[], b"").await.unwrap();
    (reply.status.as_u16(), reply.json())
}

async fn shells(client: &Client) -> Vec<Value> {
    let (status, body) = get(client, "/clamshell/v1/shells").await;
    assert_eq!(status, 200, "{body}");
    body["shells"].as_array().unwrap().clone()
}

#[tokio::test]
async fn e2e_web_brings_a_page_back_to_the_byte() {
    let Scene { client, upstream: _upstream, web: _web } = scene("").await;
    let mut socket = open(&client, "one").await;
    socket.input(b"echo $((6*7))-first\n").await.unwrap();
    let seen = socket.read_until("42-first\r\n").await.unwrap();
    assert!(!seen.is_empty());
    let shell = shells(&client).await.remove(0);
    assert_eq!(shell["state"], "Attached");
    let (offset, run) = (shell["endOffset"].as_u64().unwrap(), shell["runOffset"].as_u64().unwrap());
    socket.cut();
    // What is printed meanwhile is there when the page comes back, and nothing else.
    let (mut other, ..) = attach(&client, "one", "from=end").await;
    other.input(b"echo $((6*7))-second\n").await.unwrap();
    other.read_until("42-second\r\n").await.unwrap();
    let (mut back, first, its_run) = attach(&client, "one", &format!("from=offset:{offset}")).await;
    assert_eq!((first, its_run), (offset, run));
    let again = back.read_until("42-second\r\n").await.unwrap();
    assert!(!String::from_utf8_lossy(&again).contains("first"), "{}", tail(&again));
    // From nowhere known it is painted.
    let (mut painted, ..) = attach(&client, "one", "from=offset:5").await;
    assert!(matches!(painted.next().await.unwrap(), ShellEvent::Status(Status::Screen { .. })));
    painted.read_until("42-second").await.unwrap();
}

#[tokio::test]
async fn e2e_web_hides_the_end_of_a_connections_time() {
    let Scene { client, upstream, web: _web } = scene("[shells]\nconnection_ttl_s = 2\n").await;
    let mut socket = open(&client, "hour").await;
    socket.input(COUNT.as_bytes()).await.unwrap();
    count_all(&mut socket, Vec::new()).await;
    // It takes 8 s and more: the server has ended the connection several times.
    assert!(upstream.log_tail().matches("shell request").count() >= 3, "{}", upstream.log_tail());
}

#[tokio::test]
async fn e2e_web_outlives_its_endpoint() {
    let Scene { client, mut upstream, web: _web } = scene("").await;
    let mut socket = open(&client, "crash").await;
    socket.input(COUNT.as_bytes()).await.unwrap();
    let mut seen = socket.read_until("line-50.").await.unwrap();
    upstream.kill_9().unwrap();
    upstream.start_again().await.unwrap();
    // The last line may be cut where the connection was.
    let event = socket.next().await.unwrap();
    if let ShellEvent::Output(bytes) = event {
        seen.extend_from_slice(&bytes);
    }
    count_all(&mut socket, seen).await;
}

#[tokio::test]
async fn e2e_web_comes_back_after_its_own_end() {
    let Scene { client, upstream: _upstream, mut web } = scene("").await;
    let mut socket = open(&client, "mine").await;
    socket.input(b"kept=$((40+2))\n").await.unwrap();
    socket.input(b"echo x-$kept\n").await.unwrap();
    socket.read_until("x-42\r\n").await.unwrap();
    let (_, _, run) = attach(&client, "mine", "from=end").await;
    web.kill_9().unwrap();
    web.start_again().await.unwrap();
    let listed = shells(&client).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["state"], "Detached");
    let (mut back, _, new_run) = attach(&client, "mine", "from=screen").await;
    assert!(new_run > run, "offsets of another process are others");
    back.input(b"echo y-$kept\n").await.unwrap();
    back.read_until("y-42\r\n").await.unwrap();
}

#[tokio::test]
async fn e2e_web_tells_how_a_shell_ended_and_closes_those_that_are_left() {
    let Scene { client, upstream, web: _web } = scene("").await;
    let mut socket = open(&client, "ends").await;
    socket.input(b"exit 7\n").await.unwrap();
    let mut seen = Vec::new();
    loop {
        match socket.next().await.unwrap() {
            ShellEvent::Closed(code) => {
                seen.push(format!("{code}"));
                break;
            }
            ShellEvent::Status(Status::Exited { code, .. }) => seen.push(format!("exit {code}")),
            _ => {}
        }
    }
    assert_eq!(seen, ["exit 7", "1000"]);
    eventually("the end is noted", Duration::from_secs(10), async || {
        let shell = shells(&client).await.remove(0);
        if shell["state"] == "Ended" && shell["exitCode"] == 7 { Ok(()) } else { Err(shell) }
    })
    .await;
    // One that nobody looks at any more is ended by its owner.
    open(&client, "orphan").await.cut();
    let path = format!("/clamshell/v1/sessions/{SESSION}/shells/orphan");
    let closed = client.request("DELETE", &path, &[], b"").await.unwrap();
    assert_eq!(closed.status.as_u16(), 204);
    let there = upstream.client().await.unwrap();
    eventually("the endpoint's shell ends", Duration::from_secs(20), async || {
        let (_, body) = get(&there, &path).await;
        if body["state"] == "Ended" { Ok(()) } else { Err(body) }
    })
    .await;
}

#[tokio::test]
async fn e2e_web_keeps_users_apart_and_lets_one_write_at_a_time_when_asked() {
    let Scene { client, upstream: _upstream, web: _web } = scene("").await;
    let mut mine = open(&client, "mine").await;
    let made =
        client.request("POST", "/clamshell/v1/keys", &[], br#"{"userName":"eve"}"#).await.unwrap().json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let credentials = Credentials {
        access_key_id: text("accessKeyId"),
        secret_access_key: text("secretAccessKey"),
        session_token: None,
    };
    let eve = Client { credentials, ..client.clone() };
    assert_eq!(shells(&eve).await, Vec::<Value>::new());
    for (shell, query) in [("mine", "access=watch"), ("mine", "create=true"), ("other", "create=true")] {
        let error = eve.attach(SESSION, shell, query).await.unwrap_err().to_string();
        assert!(error.starts_with("404"), "{shell} {query}: {error}");
    }
    for (method, path) in [
        ("DELETE", format!("/clamshell/v1/sessions/{SESSION}/shells/mine")),
        ("POST", format!("/clamshell/v1/sessions/{SESSION}/stop")),
    ] {
        let reply = eve.request(method, &path, &[], b"").await.unwrap();
        assert_eq!(reply.status.as_u16(), 404, "{method} {path}");
    }

    // Whoever watches cannot type; whoever takes over sends the others away.
    let (mut watcher, ..) = attach(&client, "mine", "from=end&access=watch").await;
    watcher.input(b"echo from-the-watcher\n").await.unwrap();
    mine.input(b"echo from-the-''writer\n").await.unwrap();
    let seen = watcher.read_until("from-the-writer\r\n").await.unwrap();
    assert!(!String::from_utf8_lossy(&seen).contains("watcher"), "{}", tail(&seen));
    let (mut second, ..) = attach(&client, "mine", "from=end&takeover=true").await;
    let code = loop {
        if let ShellEvent::Closed(code) = mine.next().await.unwrap() {
            break code;
        }
    };
    assert_eq!(code, 4000);
    second.input(b"echo still-''there\n").await.unwrap();
    second.read_until("still-there\r\n").await.unwrap();
}

#[tokio::test]
async fn e2e_web_serves_nothing_but_terminals() {
    let Scene { client, upstream: _upstream, web: _web } = scene("").await;
    let (status, server) = get(&client, "/clamshell/v1/server").await;
    assert_eq!((status, &server["driver"]), (200, &json!("web")));
    for (method, path) in [
        ("POST", client.runtime_path("invocations")),
        ("GET", client.runtime_path("ws/shells")),
        ("POST", "/runtimes/".to_owned()),
        ("GET", "/clamshell/v1/sessions".to_owned()),
        ("GET", format!("/clamshell/v1/sessions/{SESSION}/files?path=/")),
        ("POST", format!("/clamshell/v1/sessions/{SESSION}/commands")),
    ] {
        let reply = client.request(method, &path, &[], b"").await.unwrap();
        assert_eq!(reply.status.as_u16(), 404, "{method} {path}: {}", reply.json());
    }
}
