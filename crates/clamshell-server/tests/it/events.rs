//! What is told to those who watch: all that changes, to whoever may see it, and a new picture to who missed something.

use std::collections::VecDeque;

use clamshell_testkit::{Client, ShellEvent, within};
use clamshell_wire::percent_encode;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpSocket, task::JoinSet};

use crate::{
    access::user,
    calls::{Call, SESSION, Signer},
    in_process::{InProcess, LIMIT, sandboxes},
};

/// A client of the event stream.
struct Watcher {
    body: Incoming,
    begun: String,
    waiting: VecDeque<(String, Value)>,
    last_id: u64,
    _connection: JoinSet<()>,
}

impl Watcher {
    async fn open(server: &InProcess, signer: &Signer, topics: &str) -> Self {
        Self::open_with(server, signer, topics, None).await
    }

    /// With so many bytes for what was not read yet.
    async fn open_with(server: &InProcess, signer: &Signer, topics: &str, room: Option<u32>) -> Self {
        let call = Call::new("GET", format!("/clamshell/v1/events?topics={}", percent_encode(topics)));
        let call = call.signed(signer);
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(room) = room {
            socket.set_recv_buffer_size(room).unwrap();
        }
        let stream = socket.connect(server.client.authority.parse().unwrap()).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(8192)
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = connection.await;
        });
        let mut request = Request::get(&call.path);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self {
            body: response.into_body(),
            begun: String::new(),
            waiting: VecDeque::new(),
            last_id: 0,
            _connection: tasks,
        }
    }

    /// The next event; `None` when the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            let frame = within("event", LIMIT, self.body.frame()).await?;
            let Ok(frame) = frame else { return None };
            self.begun.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
            while let Some((message, rest)) = self.begun.split_once("\n\n") {
                if let Some(text) = message.strip_prefix("event: ") {
                    let (name, rest) = text.split_once("\nid: ").unwrap();
                    let (id, data) = rest.split_once("\ndata: ").unwrap();
                    let id = id.parse().unwrap();
                    assert!(id >= self.last_id, "ids never fall");
                    self.last_id = id;
                    self.waiting.push_back((name.to_owned(), serde_json::from_str(data).unwrap()));
                }
                self.begun = rest.to_owned();
            }
        }
    }

    /// The next event of this name for which `found` holds; those before are skipped.
    async fn until(&mut self, name: &str, found: impl Fn(&Value) -> bool) -> Value {
        let mut seen = Vec::new();
        let wait = async {
            loop {
                let (its_name, data) = self.next().await.unwrap();
                if its_name == name && found(&data) {
                    return data;
                }
                seen.push(format!("{its_name} {data}"));
            }
        };
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(data) => data,
            Err(_) => unreachable!("no such {name} among {seen:#?}"),
        }
    }
}

async fn root(server: &InProcess, method: &str, path: &str, body: &Value) -> Value {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let reply = Call::new(method, path).body(text).signed(&server.root()).send(&server.client).await;
    assert!(reply.status.is_success(), "{method} {path}: {}", String::from_utf8_lossy(&reply.body));
    if reply.body.is_empty() { Value::Null } else { reply.json() }
}

fn runtime_body(name: &str) -> Value {
    json!({
        "agentRuntimeName": name,
        "roleArn": "arn:aws:iam::123456789012:role/agent",
        "agentRuntimeArtifact": { "containerConfiguration": { "containerUri": "127.0.0.1:9/nothing:1" } },
        "networkConfiguration": { "networkMode": "PUBLIC" },
    })
}

async fn exit(client: &Client, shell: &str) {
    let mut socket = client.attach(SESSION, shell, "create=true").await.unwrap();
    socket.input(b"exit 3\n").await.unwrap();
    while !matches!(socket.next().await.unwrap(), ShellEvent::Closed(_)) {}
}

#[tokio::test]
async fn sessions_and_shells_are_told_from_their_start_to_their_removal() {
    if sandboxes().is_none() {
        return;
    }
    let server = InProcess::start("").await;
    let client = &server.client;
    let mut watcher = Watcher::open(&server, &server.root(), "sessions,shells").await;
    assert_eq!(watcher.next().await.unwrap(), ("sessions".to_owned(), json!({ "sessions": [] })));
    assert_eq!(watcher.next().await.unwrap(), ("shells".to_owned(), json!({ "shells": [] })));

    client.command(SESSION, "true", 60).await.unwrap();
    let session = watcher.until("session", |it| it["state"] == "Active").await;
    assert_eq!((&session["sessionId"], &session["qualifier"]), (&json!(SESSION), &json!("DEFAULT")));
    let session = watcher.until("session", |it| it["usage"]["memoryBytes"].is_u64()).await;
    assert!(session["usage"]["pids"].as_u64().unwrap() > 0, "{session}");

    // A shell comes, is named, left, and ends while nobody is there.
    let mut socket = client.attach(SESSION, "build", "create=true").await.unwrap();
    watcher.until("shell", |it| it["shellId"] == "build" && it["state"] == "Attached").await;
    let shells = format!("/clamshell/v1/sessions/{SESSION}/shells");
    let title = "t\u{e9}st \u{1F41A}";
    let named = root(&server, "PUT", &format!("{shells}/build/title"), &json!({ "title": title })).await;
    assert_eq!(named["title"], title);
    watcher.until("shell", |it| it["title"] == title).await;
    socket.input(b"while [ ! -e /mnt/workspace/go ]; do sleep 0.1; done; exit 5\n").await.unwrap();
    socket.read_until("exit 5").await.unwrap();
    drop(socket);
    watcher.until("shell", |it| it["state"] == "Detached").await;
    client.command(SESSION, "touch /mnt/workspace/go", 60).await.unwrap();
    let ended = watcher.until("shell", |it| it["state"] == "Ended").await;
    assert_eq!((&ended["exitCode"], &ended["endReason"]), (&json!(5), &json!("Exited")));
    exit(client, "second").await;
    watcher.until("shell", |it| it["shellId"] == "second" && it["exitCode"] == 3).await;

    // Whoever comes later has it all in its picture, and it outlives the server.
    root(&server, "POST", &format!("/clamshell/v1/sessions/{SESSION}/stop"), &Value::Null).await;
    watcher.until("session", |it| it["state"] == "Stopping").await;
    watcher.until("session", |it| it["state"] == "Stopped").await;
    server.shutdown.cancel();
    while watcher.next().await.is_some() {}
    let server = server.start_again("").await;
    let mut watcher = Watcher::open(&server, &server.root(), "shells,sessions").await;
    let sessions = watcher.until("sessions", |_| true).await;
    assert_eq!(sessions["sessions"][0]["state"], "Stopped", "{sessions}");
    let shells = watcher.until("shells", |_| true).await;
    let seen: Vec<_> = shells["shells"].as_array().unwrap().iter().map(|it| &it["shellId"]).collect();
    assert_eq!(seen, ["build", "second"]);
    assert_eq!(shells["shells"][0]["title"], title);

    root(&server, "DELETE", &format!("/clamshell/v1/sessions/{SESSION}"), &Value::Null).await;
    let gone = json!({
        "runtimeArn": server.client.runtime_arn, "qualifier": "DEFAULT", "sessionId": SESSION,
    });
    let mut shell_gone = gone.clone();
    shell_gone["shellId"] = json!("build");
    assert_eq!(watcher.until("shell-removed", |_| true).await, shell_gone);
    assert_eq!(watcher.until("session-removed", |_| true).await, gone);
}

#[tokio::test]
async fn titles_are_held_to_their_rules() {
    if sandboxes().is_none() {
        return;
    }
    let server = InProcess::start("").await;
    let socket = server.client.attach(SESSION, "build", "create=true").await.unwrap();
    let path = |shell: &str| format!("/clamshell/v1/sessions/{SESSION}/shells/{shell}/title");
    let put = async |path: &str, body: Value| {
        let call = Call::new("PUT", path).body(body.to_string()).signed(&server.root());
        let reply = call.send(&server.client).await;
        (reply.status.as_u16(), reply.json()["title"].clone())
    };
    let ok = |title: &str| (200, json!(title));
    assert_eq!(put(&path("build"), json!({ "title": "x".repeat(100) })).await, ok(&"x".repeat(100)));
    for bad in ["x".repeat(101).as_str(), "a\u{1b}[31mb", "a\nb", "a\u{202e}b", "a\u{200b}b", "\u{7}"] {
        assert_eq!(put(&path("build"), json!({ "title": bad })).await.0, 400, "{bad:?}");
    }
    for bad in [json!({}), json!({ "title": 1 }), json!({ "title": "a", "more": 1 }), json!([])] {
        assert_eq!(put(&path("build"), bad.clone()).await.0, 400, "{bad}");
    }
    assert_eq!(put(&path("nothing"), json!({ "title": "a" })).await.0, 404);
    assert_eq!(put(&path("build"), json!({ "title": "  a b " })).await, ok("a b"));
    assert_eq!(put(&path("build"), json!({ "title": "" })).await, (200, Value::Null));
    drop(socket);
}

#[tokio::test]
async fn runtimes_are_told_and_each_sees_its_own() {
    let server = InProcess::start("").await;
    let arn = server.client.runtime_arn.clone();
    let statements = json!([
        { "Effect": "Allow", "Action": "clamshell:Events", "Resource": "*" },
        { "Effect": "Allow", "Action": ["clamshell:ListSessions", "bedrock-agentcore:ListAgentRuntimes"],
          "Resource": [arn, format!("{arn}/*")] },
    ]);
    let one = user(&server, "one", &statements).await;
    let topics = "sessions,shells,runtimes,audit";
    let mut all = Watcher::open(&server, &server.root(), topics).await;
    let mut mine = Watcher::open(&server, &one, topics).await;
    let mut trail = Watcher::open(&server, &server.root(), "audit").await;
    let names = |data: &Value| -> Vec<String> {
        let of = |it: &Value| it["agentRuntimeName"].as_str().unwrap().to_owned();
        data["runtimes"].as_array().unwrap().iter().map(of).collect()
    };
    for watcher in [&mut all, &mut mine] {
        assert_eq!(names(&watcher.until("runtimes", |_| true).await), ["default"]);
    }
    let records = async |watcher: &mut Watcher| {
        watcher.until("audit", |_| true).await["records"].as_array().unwrap().len()
    };
    for watcher in [&mut all, &mut trail] {
        assert!(records(watcher).await >= 3);
    }
    assert_eq!(records(&mut mine).await, 0, "the trail is not everybody's");

    let made = root(&server, "PUT", "/runtimes/", &runtime_body("other")).await;
    let id = made["agentRuntimeId"].as_str().unwrap().to_owned();
    let is_other = |it: &Value| it["agentRuntimeId"] == id;
    let told = all.until("runtime", is_other).await;
    assert_eq!((&told["agentRuntimeName"], &told["status"]), (&json!("other"), &json!("CREATING")));
    trail.until("audit-record", |it| it["action"] == "bedrock-agentcore:CreateAgentRuntime").await;
    all.until("runtime", |it| is_other(it) && it["status"] == "CREATE_FAILED").await;
    // Tags of what one may see make no noise, a right more is seen at once.
    root(&server, "POST", &format!("/tags/{}", percent_encode(&arn)), &json!({ "tags": { "a": "b" } })).await;
    let policy = json!({ "Statement": { "Effect": "Allow", "Action": "*", "Resource": "*" } });
    root(&server, "PUT", "/clamshell/v1/users/one/policies/all", &policy).await;
    let (name, data) = mine.next().await.unwrap();
    assert_eq!(name, "sessions", "a new picture and nothing before it: {data}");
    assert_eq!(names(&mine.until("runtimes", |_| true).await), ["default", "other"]);
    assert!(records(&mut mine).await > 3);
    root(&server, "DELETE", &format!("/runtimes/{id}/"), &Value::Null).await;
    for watcher in [&mut all, &mut mine] {
        watcher.until("runtime-removed", |it| is_other(it) && it["agentRuntimeArn"].is_string()).await;
    }
    // Without any right there is nothing left to see; without the key there is no stream.
    for policy in ["all", "test"] {
        root(&server, "DELETE", &format!("/clamshell/v1/users/one/policies/{policy}"), &Value::Null).await;
    }
    let nothing = mine.until("runtimes", |it| it["runtimes"].as_array().unwrap().is_empty()).await;
    assert_eq!(nothing, json!({ "runtimes": [] }));
    let key = &one.credentials.access_key_id;
    root(&server, "POST", &format!("/clamshell/v1/keys/{key}/disable"), &Value::Null).await;
    while mine.next().await.is_some() {}

    for topics in ["all", "", "sessions,", "Sessions"] {
        let call = Call::new("GET", format!("/clamshell/v1/events?topics={topics}")).signed(&server.root());
        assert_eq!(call.send(&server.client).await.status, 400, "{topics}");
    }
}

/// Who does not read costs a bounded queue, and sees the newest when it reads again.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_listener_gets_a_new_picture() {
    let server = InProcess::start("").await;
    let mut slow = Watcher::open_with(&server, &server.root(), "audit", Some(2048)).await;
    let first = slow.until("audit", |_| true).await;
    assert_eq!(first, json!({ "records": [] }));
    // Far more than the queue and all socket buffers take.
    let root = server.root();
    let mut strokes = JoinSet::new();
    for lane in 0..16 {
        let (root, client) = (root.clone(), server.client.clone());
        strokes.spawn(async move {
            for number in 0..250 {
                let path = format!("/clamshell/v1/users/{lane}-{number}-{}", "x".repeat(480));
                let call =
                    Call::new("DELETE", path).header(clamshell_wire::headers::SESSION_ID, "y".repeat(500));
                assert_eq!(call.signed(&root).send(&client).await.status, 404);
            }
        });
    }
    while let Some(done) = strokes.join_next().await {
        done.unwrap();
    }
    let picture = slow.until("audit", |_| true).await;
    let newest = picture["records"][0]["id"].as_u64().unwrap();
    assert_eq!(picture["records"].as_array().unwrap().len(), 100);
    assert!(newest <= 16 * 250, "{newest}");
    // And goes on from there without a gap.
    Call::new("DELETE", "/clamshell/v1/users/last").signed(&root).send(&server.client).await;
    let mut expect = newest;
    loop {
        expect += 1;
        let record = slow.until("audit-record", |_| true).await;
        assert_eq!(record["id"], expect);
        if record["detail"]["path"] == "/clamshell/v1/users/last" {
            break;
        }
    }
}
