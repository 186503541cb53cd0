//! Agents in real sandboxes from the outside: how they start, what keeps them alive, how they end, what their log tells.

use std::{collections::BTreeMap, time::Instant};

use clamshell_domain::{LifecycleConfiguration, Limits, Runtime, ServerProtocol};
use clamshell_testkit::{
    Client, eventually,
    hosted::{CodeBucket, agent_runtime, host},
    within,
};
use serde_json::Value;

use crate::in_process::{InProcess, LIMIT, sandboxes};

/// Does what its variable `MODE` says.
const AGENT: &str = r#"
import json, os, sys, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

mode = os.environ.get("MODE", "")
asked = 0

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += 1
        if mode == "silent":
            time.sleep(3600)
        if mode == "sick" and asked > 1:
            return self.answer(503, {})
        status = {"status": "HealthyBusy" if mode == "busy" else "Healthy"}
        if mode == "moving":
            status["time_of_last_update"] = int(time.time())
        self.answer(200, status)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if mode == "crash":
            print("about to crash", flush=True)
            os._exit(3)
        self.answer(200, {"got": len(body)})

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

facts = {name: os.environ.get(name) for name in
         ["MODE", "AWS_REGION", "DOCKER_CONTAINER", "OTEL_RESOURCE_ATTRIBUTES", "PYTHONPATH", "HOME"]}
print(json.dumps({"start": True, "uid": os.getuid(), "cwd": os.getcwd(), **facts}), flush=True)
print("to standard error \xff", file=sys.stderr, flush=True)

if mode == "exit":
    sys.exit(3)
if mode == "flood":
    for number in range(100000):
        sys.stdout.write("line %d\n" % number)
    sys.stdout.flush()
if mode == "count":
    def count():
        number = 0
        while True:
            print("line %d" % number, flush=True)
            number += 1
            time.sleep(0.002)
    threading.Thread(target=count, daemon=True).start()
if mode == "fork":
    count = 0
    while True:
        try:
            if os.fork() == 0:
                time.sleep(3600)
            count += 1
        except OSError:
            break
    print("forked %d" % count, flush=True)
server = HTTPServer if mode == "fork" else ThreadingHTTPServer
server(("0.0.0.0", 8080), Handler).serve_forever()
"#;

/// A server with buckets, and runtimes that run [`AGENT`] in different modes.
struct Fixture {
    server: InProcess,
    configuration: String,
    bucket: CodeBucket,
}

/// Clients and names of the runtime of a mode.
struct Agents {
    client: Client,
    name: String,
}

impl Fixture {
    /// `None`, with the reason printed, where it cannot be.
    async fn start() -> Option<Self> {
        sandboxes()?;
        let bucket = CodeBucket::with_agent(AGENT).unwrap()?;
        let configuration = format!("standby = false{}", bucket.configuration());
        let server = InProcess::start(&configuration).await;
        Some(Self { server, configuration, bucket })
    }

    /// A runtime whose agents run in a mode, and end after so many idle seconds.
    async fn agents(&self, mode: &str, idle_timeout_s: u64) -> Agents {
        let name = format!("agent_{mode}");
        let runtime = agent_runtime(&name, self.bucket.artifact(), ServerProtocol::Http).unwrap();
        let runtime = Runtime {
            environment: BTreeMap::from([("MODE".to_owned(), mode.to_owned())]),
            lifecycle: LifecycleConfiguration { idle_timeout_s, ..runtime.lifecycle },
            limits: Limits { pids_max: 64, ..runtime.limits },
            ..runtime
        };
        let client = host(self.server.data_dir(), &self.server.client, &runtime).await.unwrap();
        Agents { client, name }
    }
}

fn session(number: u32) -> String {
    format!("a-session-whose-agent-is-tested-{number:09}")
}

impl Agents {
    /// Starts a session, or does something in it.
    async fn command(&self, session: &str, command: &str) -> String {
        let outcome = eventually("command runs", LIMIT, async || {
            match self.client.command(session, command, 60).await {
                Ok(outcome) if outcome.exception.is_none() => Ok(outcome),
                other => Err(format!("{other:?}")),
            }
        });
        outcome.await.stdout
    }

    async fn get(&self, path: &str) -> (u16, Vec<u8>) {
        let reply = within(path, LIMIT, self.client.request("GET", path, &[], &[])).await.unwrap();
        (reply.status.as_u16(), reply.body.to_vec())
    }

    /// The session as the extension API shows it.
    async fn show(&self, session: &str) -> Value {
        let (status, body) =
            self.get(&format!("/clamshell/v1/sessions/{session}?runtime={}", self.name)).await;
        assert_eq!(status, 200);
        serde_json::from_slice(&body).unwrap()
    }

    /// Waits until the session has stopped, and gives the reason.
    async fn stopped(&self, session: &str) -> String {
        let reason = eventually("session stops", LIMIT, async || {
            let shown = self.show(session).await;
            match shown["state"] == "Stopped" {
                true => Ok(shown["stopReason"].as_str().unwrap_or_default().to_owned()),
                false => Err(shown),
            }
        });
        reason.await
    }

    /// Lines of the log of a session.
    async fn log(&self, session: &str) -> Vec<Value> {
        let path = format!("/clamshell/v1/logs?runtime={}&session={session}", self.name);
        let (status, body) = self.get(&path).await;
        assert_eq!(status, 200);
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    /// Waits for a line of the log that has this text, and gives all.
    async fn logged(&self, session: &str, text: &str) -> Vec<Value> {
        eventually(text, LIMIT, async || {
            let lines = self.log(session).await;
            let is_there = lines.iter().any(|line| message(line).contains(text));
            if is_there {
                Ok(lines)
            } else {
                Err((lines.len(), lines.last().cloned(), self.show(session).await))
            }
        })
        .await
    }
}

fn message(line: &Value) -> &str {
    line["message"].as_str().unwrap()
}

/// Numbers that a counting agent has printed, as the log tells them.
fn numbers(lines: &[Value]) -> Vec<u64> {
    lines.iter().filter_map(|line| message(line).strip_prefix("line ")?.parse().ok()).collect()
}

fn starts(lines: &[Value]) -> Vec<Value> {
    let facts = lines.iter().filter_map(|line| serde_json::from_str::<Value>(message(line)).ok());
    facts.filter(|facts| facts["start"] == true).collect()
}

#[tokio::test]
async fn an_agent_finds_what_it_is_promised_and_its_log_tells_it() {
    let Some(fixture) = Fixture::start().await else { return };
    let agents = fixture.agents("plain", 900).await;
    let id = session(1);
    agents.command(&id, "true").await;
    let mut lines = agents.logged(&id, "to standard error").await;
    lines.retain(|line| line["source"] == "agent");
    assert_eq!(lines.len(), 2, "{lines:?}");
    let facts = &starts(&lines)[0];
    assert_eq!((&facts["uid"], &facts["cwd"]), (&Value::from(1000), &Value::from("/var/task")));
    assert_eq!((&facts["MODE"], &facts["DOCKER_CONTAINER"]), (&Value::from("plain"), &Value::from("1")));
    assert_eq!(
        (&facts["AWS_REGION"], &facts["PYTHONPATH"]),
        (&Value::from("us-west-2"), &Value::from("/var/task"))
    );
    assert_eq!(facts["HOME"], "/home/agentcore-runtime-user");
    let resource = facts["OTEL_RESOURCE_ATTRIBUTES"].as_str().unwrap();
    let arn = format!("cloud.resource_id={}/runtime-endpoint/DEFAULT:DEFAULT", agents.client.runtime_arn);
    assert!(resource.contains(&arn), "{resource}");
    for line in &lines {
        assert_eq!(line["sessionId"], id.as_str());
    }
    let runtime_id = agents.client.runtime_arn.rsplit('/').next().unwrap();
    let group = fixture.server.data_dir().join("logs/aws/bedrock-agentcore/runtimes");
    assert!(group.join(format!("{runtime_id}-DEFAULT")).is_dir());
    // It answers its sandbox's own programs, too, once it listens.
    let ask = "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /ping HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3";
    eventually("agent answers", LIMIT, async || {
        let answer = agents.command(&id, ask).await;
        if answer.contains("Healthy") { Ok(()) } else { Err(answer) }
    })
    .await;
    assert_eq!(agents.show(&id).await["state"], "Active");
}

#[tokio::test]
async fn an_agent_that_exits_ends_its_compute_and_the_next_call_has_a_new_one() {
    let Some(fixture) = Fixture::start().await else { return };
    let agents = fixture.agents("exit", 900).await;
    let id = session(2);
    agents.command(&id, "true").await;
    assert_eq!(agents.stopped(&id).await, "AgentExited");
    let lines = agents.logged(&id, "agent exited with code 3").await;
    let end = lines.iter().find(|line| message(line) == "agent exited with code 3").unwrap();
    assert_eq!(end["source"], "platform");
    agents.command(&id, "true").await;
    assert_eq!(agents.stopped(&id).await, "AgentExited");
    let lines = eventually("both ends are told", LIMIT, async || {
        let lines = agents.log(&id).await;
        let ends = lines.iter().filter(|line| message(line) == "agent exited with code 3").count();
        if ends == 2 { Ok(lines) } else { Err(lines) }
    })
    .await;
    assert_eq!(starts(&lines).len(), 2, "each start is told once: {lines:?}");
    let offsets: Vec<_> = lines.iter().filter_map(|line| line["offset"].as_u64()).collect();
    assert!(offsets.is_sorted(), "{offsets:?}");
}

#[tokio::test]
async fn an_agent_that_crashes_in_a_call_is_replaced_for_the_next() {
    let Some(fixture) = Fixture::start().await else { return };
    let agents = fixture.agents("crash", 900).await;
    let id = session(10);
    let path = agents.client.runtime_path("invocations");
    let headers = [("x-amzn-bedrock-agentcore-runtime-session-id", id.as_str())];
    for round in 1..=2 {
        let reply = eventually("call is taken", LIMIT, async || {
            let reply = agents.client.request("POST", &path, &headers, b"{}").await.unwrap();
            if reply.status == 409 { Err(reply) } else { Ok(reply) }
        })
        .await;
        assert_eq!(reply.status, 424, "{reply:?}");
        assert_eq!(agents.stopped(&id).await, "AgentExited");
        let lines = agents.logged(&id, "agent exited with code 3").await;
        assert_eq!(lines.iter().filter(|line| message(line) == "about to crash").count(), round);
    }
}

#[tokio::test]
async fn an_agent_that_gets_sick_is_ended() {
    let Some(fixture) = Fixture::start().await else { return };
    let agents = fixture.agents("sick", 900).await;
    let id = session(3);
    agents.command(&id, "true").await;
    assert_eq!(agents.stopped(&id).await, "Unhealthy");
    agents.logged(&id, "agent is unhealthy: GET /ping was answered with 503").await;
}

#[tokio::test]
async fn an_agent_that_never_answers_is_given_up() {
    let Some(fixture) = Fixture::start().await else { return };
    let agents = fixture.agents("silent", 900).await;
    let id = session(4);
    let path = agents.client.runtime_path("invocations");
    let headers = [("x-amzn-bedrock-agentcore-runtime-session-id", id.as_str())];
    let began = Instant::now();
    let reply =
        within("refusal", LIMIT, agents.client.request("POST", &path, &headers, b"{}")).await.unwrap();
    let took = began.elapsed().as_secs();
    assert!((29..45).contains(&took), "{took} s");
    let seen = (reply.status.as_u16(), reply.header("x-amzn-errortype"), reply.json());
    let text = "Runtime initialization time exceeded. Please make sure that initialization completes in 30s.";
    assert_eq!(seen, (424, "RuntimeClientError", serde_json::json!({ "message": text })));
    assert_eq!(agents.stopped(&id).await, "StartFailed");
    let lines = agents.logged(&id, "agent did not become ready within 30 s").await;
    let end = lines.iter().find(|line| message(line).starts_with("agent did not become ready")).unwrap();
    assert_eq!(end["source"], "platform");
}

#[tokio::test]
async fn agents_that_are_busy_or_say_so_are_kept_alive() {
    let Some(fixture) = Fixture::start().await else { return };
    let (busy, moving) = (fixture.agents("busy", 9).await, fixture.agents("moving", 9).await);
    let idle = fixture.agents("idle", 9).await;
    let id = session(5);
    for agents in [&busy, &moving, &idle] {
        agents.command(&id, "true").await;
    }
    assert_eq!(idle.stopped(&id).await, "Idle");
    // Started before, and asked as often.
    for agents in [&busy, &moving] {
        let shown = agents.show(&id).await;
        assert!(shown["state"] == "Active" || shown["state"] == "Idle", "{shown}");
    }
}

#[tokio::test]
async fn a_flood_is_told_line_by_line() {
    let Some(fixture) = Fixture::start().await else { return };
    let agents = fixture.agents("flood", 900).await;
    let id = session(6);
    agents.command(&id, "true").await;
    let lines = agents.logged(&id, "line 99999").await;
    let told = numbers(&lines);
    assert_eq!(told, (0..100_000).collect::<Vec<_>>());
    let group = fixture.server.data_dir().join("logs/aws/bedrock-agentcore/runtimes");
    let mut folders = vec![group];
    let mut sizes = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() { folders.push(entry.path()) } else { sizes.push(metadata.len()) }
        }
    }
    assert!(sizes.iter().all(|bytes| *bytes <= 16 << 20), "{sizes:?}");
}

#[tokio::test]
async fn an_agent_that_forks_without_end_hurts_itself_alone() {
    let Some(fixture) = Fixture::start().await else { return };
    let (forking, other) = (fixture.agents("fork", 900).await, fixture.agents("plain", 900).await);
    let id = session(7);
    forking.command(&id, "true").await;
    forking.logged(&id, "forked ").await;
    assert_eq!(other.command(&id, "echo unharmed").await, "unharmed\n");
    let path = format!("/clamshell/v1/sessions/{id}/stop?runtime={}", forking.name);
    let reply = within("stop", LIMIT, forking.client.request("POST", &path, &[], b"{}")).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test]
async fn a_restart_of_the_server_keeps_the_agent_and_its_log_exact() {
    let Some(mut fixture) = Fixture::start().await else { return };
    let agents = fixture.agents("count", 900).await;
    let id = session(8);
    agents.command(&id, "true").await;
    agents.logged(&id, "line 100").await;
    fixture.server = fixture.server.start_again(&fixture.configuration).await;
    let mut client = agents.client.clone();
    client.authority.clone_from(&fixture.server.client.authority);
    let agents = Agents { client, ..agents };
    let before = numbers(&agents.log(&id).await).len() as u64;
    let lines = agents.logged(&id, &format!("line {}", before + 100)).await;
    let told = numbers(&lines);
    assert_eq!(told, (0..told.len() as u64).collect::<Vec<_>>());
    assert_eq!(starts(&lines).len(), 1);
}

#[tokio::test]
async fn words_after_the_stop_signal_are_in_the_log() {
    let Some(fixture) = Fixture::start().await else { return };
    let agents = fixture.agents("count", 900).await;
    let id = session(9);
    agents.command(&id, "true").await;
    agents.logged(&id, "line 10").await;
    let path = format!("/clamshell/v1/sessions/{id}/stop?runtime={}", agents.name);
    within("stop", LIMIT, agents.client.request("POST", &path, &[], b"{}")).await.unwrap();
    assert_eq!(agents.stopped(&id).await, "Requested");
    let told = numbers(&agents.log(&id).await);
    assert_eq!(told, (0..told.len() as u64).collect::<Vec<_>>());
    agents.command(&id, "true").await;
    let lines = eventually("second start", LIMIT, async || {
        let lines = agents.log(&id).await;
        if starts(&lines).len() == 2 { Ok(lines) } else { Err(lines.len()) }
    })
    .await;
    let first = numbers(&lines).into_iter().take_while({
        let mut expect = 0;
        move |number| {
            expect += 1;
            *number == expect - 1
        }
    });
    assert!(first.count() >= told.len(), "nothing of the first agent's output is lost or doubled");
}
