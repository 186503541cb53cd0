//! Every command without a terminal: output, JSON, exit codes.

use std::{path::Path, process::Stdio, time::Duration};

use clamshell_testkit::{eventually, is_root, skip};
use rustix::process::Signal;
use serde_json::json;

use super::program::{binary, command, finish, run, server, signal, wait};

const SESSION: &str = "session-of-the-tests-0000000000000001";

#[tokio::test]
async fn one_command_gives_its_output_and_its_code() {
    let Some(server) = server("").await else { return };
    let data_dir = server.data_dir();
    let ended = run(data_dir, &["exec", "echo out; echo err >&2; exit 3"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), "out\n"));
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines[..2], ["err", "Error: Command exited with code 3"]);
    assert!(lines[2].starts_with("Session: ") && lines.len() == 3, "{lines:?}");

    let ended = run(data_dir, &["exec", "--session-id", SESSION, "--json", "--", "whoami"]);
    let expect =
        json!({"success": true, "exitCode": 0, "stdout": "root\n", "stderr": "", "sessionId": SESSION});
    assert_eq!((ended.code, ended.json()), (Some(0), expect));

    let ended = run(data_dir, &["exec", "exit 4", "--json"]);
    let value = ended.json();
    assert_eq!(ended.code, Some(4));
    assert_eq!((&value["success"], &value["exitCode"]), (&json!(false), &json!(4)));

    let ended = run(data_dir, &["exec", "--timeout", "1", "sleep 30"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.starts_with("Error: Command timed out after 1s\n"), "{ended:?}");
}

#[tokio::test]
async fn mistakes_are_told_with_a_hint_and_as_json() {
    let Some(server) = server("").await else { return };
    let data_dir = server.data_dir();
    let check = |args: &[&str], text: &str| {
        let ended = run(data_dir, args);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{args:?}");
        assert!(ended.stderr.contains(text), "{args:?}: {ended:?}");
        let with_json: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let ended = run(data_dir, &with_json);
        assert_eq!(ended.code, Some(1), "{with_json:?}");
        if !args.contains(&"--it") {
            let value = ended.json();
            assert_eq!(value["success"], false, "{with_json:?}");
            assert!(!value["error"].as_str().unwrap().is_empty(), "{with_json:?}");
        }
    };
    check(&["exec"], "Usage: clamshell exec");
    check(&["exec", "--it"], "Error: --it needs a terminal: stdin is not one\nhint: ");
    check(
        &["exec", "--session-id", "short", "true"],
        "Error: --session-id must be between 33 and 256 characters",
    );
    check(&["exec", "--timeout", "-1", "true"], "Error: --timeout must be a non-negative integer (seconds)");
    check(&["exec", "--runtime", "nobody", "true"], "error: cannot find the runtime `nobody`");
    check(
        &[
            "exec",
            "--endpoint-url",
            "http://127.0.0.1:1",
            "--region",
            "us-west-2",
            "--bearer-token",
            "x",
            "--runtime",
            "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/demo-AbCdE12345",
            "true",
        ],
        "cannot be reached",
    );
    check(&["exec", "--region", "eu-west-1", "true"], "error: the regions do not agree: ");
    check(&["sessions", "show", "nothing-there"], "error: cannot find the session `nothing-there`: ");
    check(&["shells", "close", "nothing-there"], "hint: `clamshell shells` lists them");
    check(&["sessions", "--no-such-flag"], "--no-such-flag");
    let ended = run(data_dir, &["exec", "--it", "--json"]);
    assert!(ended.stderr.contains("--json cannot be used with --it"), "{ended:?}");
}

#[tokio::test]
async fn sessions_are_listed_shown_stopped_and_removed() {
    let Some(server) = server("").await else { return };
    let data_dir = server.data_dir();
    run(data_dir, &["exec", "--session-id", SESSION, "echo kept > /mnt/workspace/file"]).ok();
    let listed = run(data_dir, &["sessions"]).ok();
    assert!(listed.contains(SESSION) && listed.contains("default"), "{listed}");
    let prefix = &SESSION[..20];
    let shown = run(data_dir, &["sessions", "show", prefix, "--json"]).json();
    assert_eq!((&shown["sessionId"], &shown["qualifier"]), (&json!(SESSION), &json!("DEFAULT")));
    assert!(run(data_dir, &["sessions", "show", prefix]).ok().contains("runtime:"));
    let stopped = run(data_dir, &["sessions", "stop", prefix, "--json"]).json();
    assert_eq!(stopped["state"], "Stopped");
    let kept = run(data_dir, &["exec", "--session-id", SESSION, "cat /mnt/workspace/file"]).ok();
    assert_eq!(kept, "kept\n");
    let removed = run(data_dir, &["sessions", "rm", prefix, "--json"]).json();
    assert_eq!(removed, json!({"success": true, "sessionId": SESSION}));
    assert_eq!(run(data_dir, &["sessions", "list", "--json"]).json(), json!({"sessions": []}));
}

#[tokio::test]
async fn keys_open_and_stop_opening() {
    let Some(server) = server("").await else { return };
    let data_dir = server.data_dir();
    let key = run(data_dir, &["keys", "create", "ci", "--json"]).json();
    let id = key["accessKeyId"].as_str().unwrap();
    let endpoint = server.info().unwrap().endpoint;
    let sessions = || {
        let mut command = command(data_dir, &["sessions", "--json"]);
        command
            .env("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", &endpoint)
            .env("AWS_ACCESS_KEY_ID", id)
            .env("AWS_SECRET_ACCESS_KEY", key["secretAccessKey"].as_str().unwrap());
        finish(command)
    };
    assert_eq!(sessions().json(), json!({"sessions": []}));
    assert_eq!(run(data_dir, &["keys", "disable", id, "--json"]).json()["status"], "Inactive");
    let refused = sessions();
    assert_eq!(refused.code, Some(1));
    assert!(refused.json()["error"].as_str().unwrap().contains("(403 "), "{refused:?}");
    assert_eq!(run(data_dir, &["keys", "enable", id, "--json"]).json()["status"], "Active");
    assert_eq!(sessions().code, Some(0));
    let listed = run(data_dir, &["keys"]).ok();
    assert!(listed.contains(id) && listed.contains("root"), "{listed}");
    assert!(!listed.contains(key["secretAccessKey"].as_str().unwrap()));
    run(data_dir, &["keys", "remove", id]).ok();
    assert_eq!(sessions().code, Some(1));
}

#[tokio::test]
async fn users_may_do_what_their_policies_say() {
    let Some(server) = server("").await else { return };
    let data_dir = server.data_dir();
    let made = run(data_dir, &["users", "create", "ci", "--description", "of CI", "--json"]).json();
    assert_eq!((&made["userName"], &made["policies"]), (&json!("ci"), &json!({})));
    assert_ne!(run(data_dir, &["keys", "create", "--user", "nobody"]).code, Some(0));
    let key = run(data_dir, &["keys", "create", "--user", "ci", "--json"]).json();
    let endpoint = server.info().unwrap().endpoint;
    let sessions = || {
        let mut command = command(data_dir, &["sessions", "--json"]);
        command
            .env("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", &endpoint)
            .env("AWS_ACCESS_KEY_ID", key["accessKeyId"].as_str().unwrap())
            .env("AWS_SECRET_ACCESS_KEY", key["secretAccessKey"].as_str().unwrap());
        finish(command)
    };
    let refused = sessions();
    let text = refused.json()["error"].to_string();
    assert!(text.contains("is not authorized to perform: clamshell:ListSessions"), "{refused:?}");
    let file = data_dir.join("policy.json");
    let policy = json!({ "Statement": {
        "Effect": "Allow", "Action": "clamshell:ListSessions", "Resource": "*",
    } });
    std::fs::write(&file, policy.to_string()).unwrap();
    let put = |kind: &str, name: &str| {
        run(data_dir, &[kind, "put-policy", name, "list", file.to_str().unwrap(), "--json"]).json()
    };
    assert_eq!(put("users", "ci")["policies"]["list"], policy);
    assert_eq!(sessions().json(), json!({ "sessions": [] }));
    let shown = run(data_dir, &["users", "show", "ci"]).ok();
    assert!(shown.contains(":user/ci") && shown.contains("clamshell:ListSessions"), "{shown}");
    run(data_dir, &["users", "rm-policy", "ci", "list"]).ok();
    assert_eq!(sessions().code, Some(1));
    assert_ne!(run(data_dir, &["users", "rm", "ci"]).code, Some(0), "it has a key");
    run(data_dir, &["keys", "remove", key["accessKeyId"].as_str().unwrap()]).ok();
    run(data_dir, &["users", "rm", "ci"]).ok();
    assert!(!run(data_dir, &["users"]).ok().contains("ci"));

    let roles = run(data_dir, &["roles"]).ok();
    assert!(roles.contains("clamshell-agent") && roles.contains("InvokeAgents"), "{roles}");
    run(data_dir, &["roles", "create", "reader"]).ok();
    assert_eq!(put("roles", "reader")["policies"]["list"], policy);
    run(data_dir, &["roles", "rm", "reader"]).ok();
    std::fs::write(&file, "{").unwrap();
    let broken = run(data_dir, &["roles", "put-policy", "clamshell-agent", "x", file.to_str().unwrap()]);
    assert_ne!(broken.code, Some(0));
}

#[tokio::test]
async fn the_environment_is_what_aws_clients_read() {
    let Some(server) = server("").await else { return };
    let data_dir = server.data_dir();
    let value = run(data_dir, &["env", "--shell", "json"]).json();
    let info = server.info().unwrap();
    assert_eq!(value["AWS_ENDPOINT_URL_BEDROCK_AGENTCORE"], info.endpoint);
    assert_eq!(value["CLAMSHELL_RUNTIME_ARN"], info.default_runtime_arn);
    let lines = run(data_dir, &["env"]).ok();
    let script =
        format!("{lines}\nexec \"$0\" exec --json --runtime \"$CLAMSHELL_RUNTIME_ARN\" 'echo signed'");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).arg(binary()).env_remove("CLAMSHELL_DATA_DIR").env("HOME", "/nonexistent");
    assert_eq!(finish(shell).json()["stdout"], "signed\n");
}

#[tokio::test]
async fn a_server_with_its_own_ca_is_trusted_by_its_commands() {
    let Some(server) = server("[tls]\n").await else { return };
    let data_dir = server.data_dir();
    assert!(server.info().unwrap().endpoint.starts_with("https://"));
    assert_eq!(run(data_dir, &["exec", "echo over-tls"]).ok(), "over-tls\n");
    let value = run(data_dir, &["env", "--json"]).json();
    assert!(Path::new(value["AWS_CA_BUNDLE"].as_str().unwrap()).exists());
}

#[tokio::test]
async fn ctrl_c_ends_the_command_too() {
    let Some(server) = server("").await else { return };
    let data_dir = server.data_dir();
    let is_running = || {
        let list = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c 'sleep 3[7]7'";
        run(data_dir, &["exec", "--session-id", SESSION, list]).stdout.trim() != "0"
    };
    let mut child = command(data_dir, &["exec", "--session-id", SESSION, "sleep 377"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let limit = Duration::from_secs(30);
    eventually("the command to run", limit, async || is_running().then_some(()).ok_or("not yet")).await;
    signal(&child, Signal::INT);
    assert_eq!(wait(&mut child), Some(130));
    eventually("the command to end", limit, async || (!is_running()).then_some(()).ok_or("still there"))
        .await;
}

#[test]
fn a_server_is_started_when_none_runs_and_stopped_when_told() {
    if !is_root() {
        return skip::<()>("sandboxes of this test are made by root").unwrap_or_default();
    }
    let folder = tempfile::Builder::new().prefix("clamshell-test-").tempdir().unwrap();
    let data_dir = folder.path();
    let with_port = |args: &[&str]| {
        let mut command = command(data_dir, args);
        command.env("CLAMSHELL_LISTEN", "127.0.0.1:0");
        finish(command)
    };
    let ended = with_port(&["sessions"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("error: no local server is running"), "{ended:?}");
    let ended = with_port(&["exec", "--session-id", SESSION, "echo first"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "first\n"), "{ended:?}");
    assert_eq!(ended.stderr, "Starting a local server...\n");
    let again = with_port(&["serve", "--detach", "--json"]).json();
    assert_eq!((&again["alreadyRunning"], &again["otherProgram"]), (&json!(true), &json!(false)));
    // As if the program had been built again since the server was started.
    let file = data_dir.join("server.json");
    let written = std::fs::read_to_string(&file).unwrap();
    let mut info: serde_json::Value = serde_json::from_str(&written).unwrap();
    info["build"] = json!("0123");
    std::fs::write(&file, info.to_string()).unwrap();
    assert_eq!(with_port(&["serve", "--detach", "--json"]).json()["otherProgram"], true);
    let told = with_port(&["serve", "--detach"]);
    assert!(told.stderr.contains("another build") && told.stderr.contains(" stop && "), "{told:?}");
    std::fs::write(&file, written).unwrap();
    assert_eq!(with_port(&["stop", "--json"]).json()["stopped"], true);
    assert_eq!(with_port(&["stop", "--json"]).json()["stopped"], false);
    assert_eq!(with_port(&["serve", "--detach", "--json"]).json()["alreadyRunning"], false);
    // The sandbox went on without a server.
    let sessions = with_port(&["sessions", "--json"]).json();
    assert_ne!(sessions["sessions"][0]["state"], "Stopped");
    with_port(&["sessions", "rm", SESSION]).ok();
    with_port(&["stop"]).ok();
}

#[test]
fn many_first_commands_share_one_server() {
    if !is_root() {
        return skip::<()>("sandboxes of this test are made by root").unwrap_or_default();
    }
    let folder = tempfile::Builder::new().prefix("clamshell-test-").tempdir().unwrap();
    let start = |number: usize| {
        let mut command = command(folder.path(), &["exec", &format!("echo number {number}")]);
        command.env("CLAMSHELL_LISTEN", "127.0.0.1:0");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..4).map(start).collect();
    for (number, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("number {number}\n"));
    }
    let sessions = run(folder.path(), &["sessions", "--json"]).json();
    for session in sessions["sessions"].as_array().unwrap() {
        run(folder.path(), &["sessions", "rm", session["sessionId"].as_str().unwrap()]).ok();
    }
    run(folder.path(), &["stop"]).ok();
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = run(folder.path(), &["serve", "--detach", "--listen", &address]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.starts_with("error: the server did not start: "), "{ended:?}");
    assert!(
        ended.stderr.contains(&address)
            && ended.stderr.contains("hint: ")
            && ended.stderr.contains("--listen 127.0.0.1:0"),
        "{ended:?}"
    );
}

#[test]
fn a_region_that_would_change_is_refused() {
    if !is_root() {
        return skip::<()>("sandboxes of this test are made by root").unwrap_or_default();
    }
    let folder = tempfile::Builder::new().prefix("clamshell-test-").tempdir().unwrap();
    let start = |region: &str| {
        run(folder.path(), &["serve", "--detach", "--listen", "127.0.0.1:0", "--region", region])
    };
    start("eu-central-1").ok();
    run(folder.path(), &["stop"]).ok();
    let refused = start("eu-west-1");
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("was set up for eu-central-1"), "{refused:?}");
}

#[test]
fn the_doctor_needs_no_server() {
    let folder = tempfile::tempdir().unwrap();
    let report = run(folder.path(), &["doctor", "--json"]);
    let reports = report.json()["reports"].as_array().cloned().unwrap();
    assert!(reports.iter().any(|report| report["driver"] == "native"), "{reports:?}");
    let usable = reports.iter().any(|report| report["usable"] == true);
    assert_eq!(report.code, Some(i32::from(!usable)));
}

#[test]
fn completions_are_scripts() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(folder.path(), &["completion", shell]).ok().contains("clamshell"), "{shell}");
    }
}
