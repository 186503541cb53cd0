//! `kill -9` of the server while an agent works and prints: the agent does not notice, and its log has each line once.

use clamshell_testkit::{Client, eventually, hosted::CodeBucket, skip};
use serde_json::{Value, json};

use super::{PATIENCE, session_id, start};

/// Counts, and answers with its process id.
const AGENT: &str = r#"
import json, os, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({"status": "Healthy"})
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.answer({"pid": os.getpid()})
    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass

def count():
    number = 0
    while True:
        print("line %d" % number, flush=True)
        number += 1
        time.sleep(0.001)

threading.Thread(target=count, daemon=True).start()
ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"#;

async fn make_runtime(client: &mut Client, python: &str) {
    let body = json!({
        "agentRuntimeName": "counter",
        "agentRuntimeArtifact": { "codeConfiguration": {
            "code": { "s3": { "bucket": "code", "prefix": "agent.zip" } },
            "runtime": python,
            "entryPoint": ["agent.py"],
        } },
        "roleArn": "arn:aws:iam::123456789012:role/agent",
        "networkConfiguration": { "networkMode": "PUBLIC" },
    });
    let headers = [("content-type", "application/json")];
    let made = client.request("PUT", "/runtimes/", &headers, body.to_string().as_bytes()).await.unwrap();
    assert!(made.status.is_success(), "{made:?}");
    client.runtime_arn = made.json()["agentRuntimeArn"].as_str().unwrap().to_owned();
    let path = format!("/runtimes/{}/", made.json()["agentRuntimeId"].as_str().unwrap());
    eventually("runtime is ready", PATIENCE, async || {
        let shown = client.request("GET", &path, &[], b"").await.unwrap().json();
        if shown["status"] == "READY" { Ok(()) } else { Err(shown) }
    })
    .await;
}

async fn invoke(client: &Client, session: &str) -> Value {
    let headers = [(super::SESSION_HEADER, session), ("content-type", "application/json")];
    let path = client.runtime_path("invocations");
    eventually("agent answers", PATIENCE, async || {
        let reply =
            client.request("POST", &path, &headers, b"{}").await.map_err(|error| error.to_string())?;
        if reply.status == 200 { Ok(reply.json()) } else { Err(format!("{reply:?}")) }
    })
    .await
}

/// The numbers that the log has, once it has `last`.
async fn numbers(client: &Client, last: u64) -> Vec<u64> {
    eventually("log has come so far", PATIENCE, async || {
        let reply = client.request("GET", "/clamshell/v1/logs?runtime=counter", &[], b"").await.unwrap();
        let lines = reply.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let number = |line: &[u8]| -> Option<u64> {
            let line: Value = serde_json::from_slice(line).unwrap();
            line["message"].as_str()?.strip_prefix("line ")?.parse().ok()
        };
        let told: Vec<u64> = lines.filter_map(number).collect();
        if told.last() >= Some(&last) { Ok(told) } else { Err(told.len()) }
    })
    .await
}

#[tokio::test]
async fn kill_9_while_an_agent_prints() {
    if !clamshell_testkit::is_root() {
        return skip::<()>("needs root").unwrap_or_default();
    }
    let Some(bucket) = CodeBucket::with_agent(AGENT).unwrap() else { return };
    let (mut server, mut client) = start(&bucket.configuration()).await;
    make_runtime(&mut client, bucket.python().as_str()).await;
    let session = session_id("kill-nine-agent");
    let pid = invoke(&client, &session).await["pid"].clone();
    let mut last = 0;
    for _ in 0..5 {
        let told = numbers(&client, last + 200).await;
        last = told.len() as u64;
        server.kill_9().unwrap();
        server.start_again().await.unwrap();
        assert_eq!(invoke(&client, &session).await["pid"], pid, "the same agent answers");
    }
    let told = numbers(&client, last + 200).await;
    assert_eq!(told, (0..told.len() as u64).collect::<Vec<_>>(), "each line once and in order");
}
