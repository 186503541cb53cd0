//! Runtimes and endpoints by the command line: made, changed, invoked, seen, removed.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clamshell_testkit::eventually;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Place, plain, session, write};
use crate::program::{command, signal, wait};

/// An agent in the standard library whose answers the tests know.
const AGENT: &str = r#"
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.reply(200, "application/json", b'{"status":"Healthy"}')
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        print("asked", body.decode("utf-8", "replace"), flush=True)
        ask = json.loads(body).get("prompt", "") if body[:1] == b"{" else "raw"
        if ask == "fail":
            return self.reply(500, "application/json", b'{"error":"boom"}')
        if ask == "error":
            return self.reply(200, "application/json", b'{"error":"not today"}')
        if ask == "stream":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for word in ["one ", "two ", "three"]:
                line = f"data: {json.dumps(word)}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
            return self.wfile.write(b"0\r\n\r\n")
        if ask == "raw":
            return self.reply(200, self.headers.get("Content-Type") or "none", body)
        about = {"level": os.environ.get("LEVEL"), "prompt": ask, "header": self.headers.get("X-Amzn-Bedrock-AgentCore-Runtime-Custom-Tint")}
        self.reply(200, "application/json", json.dumps({"result": json.dumps(about)}).encode())
    def reply(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("0.0.0.0", 8080), Agent).serve_forever()
"#;

fn said(ended: &super::Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{ended:?}");
    serde_json::from_str(&ended.stdout).unwrap()
}

#[tokio::test]
async fn a_folder_becomes_a_runtime_that_answers() {
    let Some(place) = Place::new().await else { return };
    place.project("life-1", &[("agent.py", AGENT), (".env", "SECRET=1\n")]);
    let plan = place.json(&["deploy", "./life-1", "--dry-run"]);
    assert_eq!(plan["plan"]["runtime"], "life_1");
    assert_eq!(plan["plan"]["entry_point"], "agent.py");
    assert!(plan["steps"][0].as_str().unwrap().starts_with("Packing 1 file, "), "{plan}");
    assert_eq!(place.json(&["runtime", "list"])["agentRuntimes"].as_array().map(Vec::len), Some(1));

    let told = place.run(&["deploy", "./life-1", "--env", "LEVEL=one"]);
    assert_eq!(told.code, Some(0), "{told:?}");
    assert!(told.stdout.starts_with("arn:aws:bedrock-agentcore:"), "{told:?}");
    for step in [
        "Packing... 1 file, ",
        "Uploading to s3://",
        "Creating the runtime... version 1 is READY",
        "Invoke it: clamshell invoke life_1 \"hello\"",
    ] {
        assert!(told.stderr.contains(step), "{step}: {told:?}");
    }

    let id = session("life");
    let ended = place.run(&["invoke", "life_1", "hello", "--session-id", &id]);
    assert_eq!(said(&ended), json!({"level": "one", "prompt": "hello", "header": null}));
    assert_eq!(ended.stderr, "");
    let ended = place.run(&["invoke", "life_1", "stream", "--session-id", &id]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "one two three\n"), "{ended:?}");
    let report = place.json(&["invoke", "life_1", "stream", "--session-id", &id]);
    assert_eq!(report, json!({"success": true, "response": "one two three", "sessionId": id}));
    let ended = place.run(&[
        "invoke",
        "life_1",
        "--raw",
        "a\tb",
        "--content-type",
        "text/x-test",
        "--session-id",
        &id,
    ]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "a\tb"), "{ended:?}");

    // What an agent says went wrong is the exit code.
    let ended = place.run(&["invoke", "life_1", "error", "--session-id", &id]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("Error: not today"), "{ended:?}");
    let ended = place.run(&["invoke", "life_1", "fail", "--session-id", &id, "--json"]);
    assert_eq!((ended.code, &ended.json()["success"]), (Some(1), &json!(false)));
    let wrong = place.run(&["invoke", "life_1", "x", "--session-id", "short"]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert_eq!(place.run(&["invoke", "life_1", "x", "--no-such-flag"]).code, Some(2));
    assert_eq!(place.run(&["invoke", "nobody", "x"]).code, Some(1));

    // The log has what the agent printed.
    let lines = eventually("the log has the question", std::time::Duration::from_secs(30), async || {
        let ended = plain(&place, &["logs", "life_1", "--session", &id]);
        if ended.stdout.contains("asked {\"prompt\":\"stream\"}")
            || ended.stdout.contains("asked {\"prompt\": \"stream\"}")
        {
            Ok(ended.stdout)
        } else {
            Err(ended)
        }
    })
    .await;
    assert!(lines.contains("asked a b") || lines.contains("asked a\tb"), "{lines}");
    // Whoever follows sees what was and what comes.
    let mut follow = command(place.server.data_dir(), &["logs", "life_1", "--follow"]);
    let mut follow = follow.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("stream")));
    place.run(&["invoke", "life_1", "and then", "--session-id", &id]).ok();
    assert!(lines.any(|line| line.unwrap().contains("and then")));
    signal(&follow, Signal::INT);
    wait(&mut follow);
    let old = plain(&place, &["logs", "life_1", "--since", "2099-01-01T00:00:00Z", "--json"]);
    assert_eq!((old.code, old.stdout.as_str()), (Some(0), ""), "{old:?}");
}

#[tokio::test]
async fn a_second_deployment_is_a_new_version_that_keeps_the_rest() {
    let Some(place) = Place::new().await else { return };
    let folder = place.project("again", &[("agent.py", AGENT)]);
    let first = place.deploy("again", &["--env", "LEVEL=one"]);
    assert_eq!((&first["created"], &first["agentRuntimeVersion"]), (&json!(true), &json!("1")));
    write(&folder, "agent.py", &AGENT.replace("os.environ.get(\"LEVEL\")", "\"new code\""));
    let second = place.deploy("again", &[]);
    assert_eq!((&second["created"], &second["agentRuntimeVersion"]), (&json!(false), &json!("2")));
    assert_ne!(first["code"]["sha256"], second["code"]["sha256"]);
    let answer = place.run(&["invoke", "again", "x"]);
    assert_eq!(said(&answer)["level"], "new code");
    assert!(answer.stderr.starts_with("Session: "), "{answer:?}");
    let shown = place.json(&["runtime", "get", "again"]);
    assert_eq!(shown["environmentVariables"], json!({"LEVEL": "one"}));
    let versions = place.json(&["runtime", "versions", "again"]);
    assert_eq!(versions["agentRuntimes"].as_array().map(Vec::len), Some(2));

    // An endpoint of its own stays with the first version.
    let made = place.json(&["endpoint", "create", "again", "stable", "--version", "1"]);
    assert_eq!(made["status"], "READY", "{made}");
    let answer = place.run(&["invoke", "again", "x", "--qualifier", "stable"]);
    assert_eq!(said(&answer)["level"], "one");
    place.json(&["endpoint", "update", "again", "stable", "--version", "2"]);
    let listed = place.json(&["endpoint", "list", "again"]);
    assert_eq!(listed["runtimeEndpoints"].as_array().map(Vec::len), Some(2), "{listed}");
    assert_eq!(place.json(&["endpoint", "get", "again", "stable"])["liveVersion"], "2");
    place.json(&["endpoint", "delete", "again", "stable"]);

    let status = place.run(&["status", "again"]).ok();
    assert!(status.contains("invocation URL") && status.contains("DEFAULT"), "{status}");
    let all = place.json(&["status"]);
    assert!(
        all["agentRuntimes"].as_array().unwrap().iter().any(|one| one["agentRuntimeName"] == "again"),
        "{all}"
    );
    place.json(&["runtime", "update", "again", "--unset", "LEVEL", "--description", "changed"]);
    let shown = place.json(&["runtime", "get", "again"]);
    assert_eq!(shown["description"], "changed");
    assert!(shown["environmentVariables"]["LEVEL"].is_null(), "{shown}");
    place.json(&["runtime", "delete", "again"]);
    let gone = place.run(&["runtime", "get", "again", "--json"]);
    assert_eq!((gone.code, &gone.json()["success"]), (Some(1), &json!(false)));
}

#[tokio::test]
async fn a_call_that_fails_shows_why() {
    let Some(place) = Place::new().await else { return };
    place.project("broken", &[("main.py", "import nothing_of_this_name\n")]);
    place.deploy("broken", &[]);
    let id = session("broken");
    let ended = place.run(&["invoke", "broken", "hello", "--session-id", &id]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    for text in [
        "[platform] network: loopback only",
        "ModuleNotFoundError: No module named 'nothing_of_this_name'\n",
        "\nerror: cannot invoke the agent: ",
        &format!("\nhint: `clamshell logs broken --session {id}` shows all that the agent printed\n"),
    ] {
        assert!(ended.stderr.contains(text), "{text}: {ended:?}");
    }
    // Programs are told as much.
    let report = place.run(&["invoke", "broken", "hello", "--session-id", &id, "--json"]);
    assert_eq!(report.code, Some(1), "{report:?}");
    let report = report.json();
    assert_eq!(report["success"], json!(false));
    let hint = format!("`clamshell logs broken --session {id}` shows all that the agent printed");
    assert_eq!(report["hint"], json!(hint), "{report}");
    let log: Vec<&str> =
        report["log"].as_array().unwrap().iter().map(|one| one["message"].as_str().unwrap()).collect();
    assert!(log.iter().any(|line| line.starts_with("ModuleNotFoundError: ")), "{report}");
    let shown = plain(&place, &["runtime", "get", "default"]);
    assert!(shown.stdout.contains("loopback only") && !shown.stdout.contains("PUBLIC"), "{shown:?}");
    let shown = plain(&place, &["runtime", "get", "broken"]);
    assert!(shown.stdout.contains("PUBLIC, of which this server gives loopback only"), "{shown:?}");
    // A prompt is no request of these protocols.
    place.project("other", &[("main.py", &AGENT.replace("8080", "9000"))]);
    place.deploy("other", &["--protocol", "A2A"]);
    let ended = place.run(&["invoke", "other", "error"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("\nhint: this agent speaks a protocol of its own; --raw"), "{ended:?}");
}

#[tokio::test]
async fn what_cannot_be_deployed_is_told_with_a_hint() {
    let Some(place) = Place::new().await else { return };
    place.project("empty", &[("notes.txt", "")]);
    place.project("plain", &[("main.py", "")]);
    place.project("docker", &[("main.py", ""), ("Dockerfile", "")]);
    place.project("broken", &[("main.py", ""), ("requirements.txt", "no such package !!\n")]);
    let check = |args: &[&str], text: &str| {
        let ended = place.run(args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{args:?} {ended:?}");
        assert!(ended.stderr.contains(text), "{args:?}: {ended:?}");
    };
    check(&["deploy", "./empty"], "neither a Python nor a Node project is in it\nhint: ");
    check(&["deploy", "./docker"], "it has a Dockerfile");
    check(&["deploy", "./nowhere"], "there is none");
    check(&["deploy", "./broken"], "\nerror: cannot install dependencies");
    // The image `host` has the interpreters of this machine.
    let is_there = |folder: &str| std::path::Path::new(folder).join("python3.14").exists();
    if !is_there("/usr/bin") && !is_there("/usr/local/bin") {
        check(
            &["deploy", "./plain", "--code-runtime", "PYTHON_3_14"],
            "... \nerror: cannot create the runtime: CREATE_FAILED: ",
        );
    }
    check(&["deploy", "./empty", "--entry-point", "gone.py"], "there is no file gone.py");
    check(&["runtime", "create", "nothing"], "no artifact was named\nhint: ");
    check(&["logs", "nobody"], "cannot find the runtime `nobody`");
    check(&["create", "9lives", "--agent", "plain-http"], "a name begins with a letter");
}

/// An agent that dies in its answer, or has nothing to say.
const DYING: &str = r#"
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply(b'{"status":"Healthy"}')
    def do_POST(self):
        ask = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
        if ask == "die":
            # The answer ends with its connection.
            self.reply(b"the first half")
            print("about to die", flush=True)
            os._exit(7)
        self.reply(b"" if ask == "nothing" else b"whole")
    def reply(self, body):
        self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n" + body)
    def log_message(self, *arguments):
        pass

ThreadingHTTPServer(("0.0.0.0", 8080), Agent).serve_forever()
"#;

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_failure_that_shows_why() {
    let Some(place) = Place::new().await else { return };
    place.project("dying", &[("agent.py", DYING)]);
    place.deploy("dying", &[]);
    let ended = place.run(&["invoke", "dying", "fine", "--session-id", &session("fine")]);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (Some(0), "whole", ""),
        "{ended:?}"
    );
    let ended = place.run(&["invoke", "dying", "nothing", "--session-id", &session("fine")]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{ended:?}");
    assert_eq!(ended.stderr, "The agent's answer is empty.\n");
    let id = session("dying");
    let ended = place.run(&["invoke", "dying", "die", "--session-id", &id]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), "the first half"), "{ended:?}");
    for text in [
        "about to die\n",
        "[platform] agent exited with code 7\n",
        "Error: the answer broke off",
        &format!("\nhint: `clamshell logs dying --session {id}` shows all that the agent printed\n"),
    ] {
        assert!(ended.stderr.contains(text), "{text}: {ended:?}");
    }
    let id = session("dying-json");
    let ended = place.run(&["invoke", "dying", "die", "--session-id", &id, "--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let report = ended.json();
    assert_eq!(
        (&report["success"], &report["response"]),
        (&json!(false), &json!("the first half")),
        "{report}"
    );
    assert!(report["error"].as_str().unwrap().starts_with("the answer broke off"), "{report}");
    assert!(report["hint"].as_str().unwrap().contains(&id), "{report}");
    let last = report["log"].as_array().unwrap().last().unwrap();
    assert_eq!(last["message"], "agent exited with code 7", "{report}");
}

#[tokio::test]
async fn code_that_is_no_code_is_not_deployed() {
    let Some(place) = Place::new().await else { return };
    let lines = "import helper\n";
    place
        .project("python", &[("main.py", lines), ("helper.py", "x = 1\ndef f(:\n"), ("old.py", "print 1\n")]);
    let ended = place.run(&["deploy", "./python", "--json"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let report = ended.json();
    assert_eq!(report["error"], "cannot deploy the project: helper.py:2: invalid syntax", "{report}");
    place.project(
        "script",
        &[("package.json", "{}"), ("index.js", "require('./other')\n"), ("other.js", "let = ;\n")],
    );
    let ended = place.run(&["deploy", "./script"]);
    if std::process::Command::new("node").arg("--version").output().is_ok() {
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("\nerror: cannot deploy the project: other.js:1: "), "{ended:?}");
        assert_eq!(place.json(&["runtime", "list"])["agentRuntimes"].as_array().map(Vec::len), Some(1));
    }
    assert_eq!(packages(&place), 0);
    // What nothing imports is nobody's business.
    place.project("python", &[("helper.py", "x = 1\n")]);
    place.deploy("python", &[]);
    assert_ne!(packages(&place), 0);
}

/// Files that the server keeps for buckets.
fn packages(place: &Place) -> usize {
    let mut folders = vec![place.server.data_dir().join("objects")];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() { folders.push(entry.path()) } else { count += 1 }
        }
    }
    count
}

/// Bytes that compress to nothing less.
fn noise(length: usize) -> Vec<u8> {
    let mut seed = 7_u32;
    let mut next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Waits for a step of a deployment, and presses Ctrl+C when `is_time` says so.
fn interrupt(
    mut deploy: std::process::Command,
    step: &str,
    is_time: impl Fn() -> bool,
) -> (Option<i32>, String) {
    let mut child = deploy.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains(step) {
        let mut byte = [0];
        let ended = stderr.read_exact(&mut byte);
        assert!(ended.is_ok(), "{}", String::from_utf8_lossy(&said));
        said.push(byte[0]);
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_time() {
        assert!(std::time::Instant::now() < deadline, "{}", String::from_utf8_lossy(&said));
        std::thread::yield_now();
    }
    signal(&child, Signal::INT);
    let code = wait(&mut child);
    stderr.read_to_end(&mut said).unwrap();
    (code, String::from_utf8_lossy(&said).into_owned())
}

/// A way to a server that takes so many bytes of a connection and then no more.
struct Narrow {
    port: u16,
    is_full: Arc<AtomicBool>,
    /// Lets go of what is held.
    over: Arc<AtomicBool>,
}

fn narrow(server: std::net::SocketAddr, bytes_max: usize) -> Narrow {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let way =
        Narrow { port: listener.local_addr().unwrap().port(), is_full: Arc::default(), over: Arc::default() };
    let (is_full, over) = (Arc::clone(&way.is_full), Arc::clone(&way.over));
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut upstream = std::net::TcpStream::connect(server).unwrap();
            let (mut back, mut to) = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut back, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
            let (is_full, over) = (Arc::clone(&is_full), Arc::clone(&over));
            std::thread::spawn(move || {
                let (mut count, mut buffer) = (0, vec![0; 65_536]);
                while let Ok(length @ 1..) = client.read(&mut buffer) {
                    let _ = upstream.write_all(&buffer[..length]);
                    count += length;
                    if count > bytes_max {
                        is_full.store(true, Ordering::SeqCst);
                        while !over.load(Ordering::SeqCst) {
                            std::thread::yield_now();
                        }
                        break;
                    }
                }
                let _ = upstream.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    way
}

#[tokio::test]
async fn an_interrupted_deploy_leaves_nothing_behind() {
    let Some(place) = Place::new().await else { return };
    let folder = place.project("large", &[("main.py", AGENT)]);
    let temporary = tempfile::tempdir().unwrap();
    let deploy = |more: &[&str]| {
        let args: Vec<&str> = ["deploy", "./large"].into_iter().chain(more.iter().copied()).collect();
        let mut deploy = command(place.server.data_dir(), &args);
        deploy.current_dir(place.projects.path()).env("TMPDIR", temporary.path());
        deploy
    };
    let is_clean = || {
        let left: Vec<_> = std::fs::read_dir(temporary.path()).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(place.json(&["runtime", "list"])["agentRuntimes"].as_array().map(Vec::len), Some(1));
    };
    std::fs::write(folder.join("model.bin"), noise(80_000_000)).unwrap();
    let (code, said) = interrupt(deploy(&[]), "Packing... ", || true);
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("\nerror: interrupted"), "{said}");
    is_clean();
    assert_eq!(packages(&place), 0);

    std::fs::write(folder.join("model.bin"), noise(4_000_000)).unwrap();
    let server = place.server.info().unwrap().endpoint;
    let way = narrow(server.rsplit('/').next().unwrap().parse().unwrap(), 1_000_000);
    let url = format!("http://127.0.0.1:{}", way.port);
    let mut uploading = deploy(&["--endpoint-url", &url]);
    let environment = plain(&place, &["env", "--json"]).json();
    for (name, value) in environment.as_object().unwrap() {
        if !name.contains("ENDPOINT") {
            uploading.env(name, value.as_str().unwrap());
        }
    }
    let (code, said) = interrupt(uploading, "Uploading to s3://", || way.is_full.load(Ordering::SeqCst));
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("\nerror: interrupted: nothing was deployed"), "{said}");
    is_clean();
    way.over.store(true, Ordering::SeqCst);
    eventually("the server keeps nothing", std::time::Duration::from_secs(30), async || {
        match packages(&place) {
            0 => Ok(()),
            count => Err(count),
        }
    })
    .await;
}
