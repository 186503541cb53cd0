//! File systems of a runtime version, from the configuration to the files that its sessions see.

use std::{
    os::unix::fs::{MetadataExt, chown},
    path::Path,
};

use clamshell_domain::{FileSystem, ServerProtocol};
use clamshell_testkit::{
    Client, CommandOutcome, eventually,
    hosted::{CodeBucket, agent_runtime, host},
    skip,
};
use serde_json::Value;

use crate::{
    in_process::{InProcess, LIMIT, sandboxes},
    objects::Clients,
};

const ARN: &str = "arn:aws:elasticfilesystem:us-west-2:111122223333:access-point/fsap-0123456789abcdef";

/// As little as a runtime's agent can be.
const AGENT: &str = "
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{\"status\": \"Healthy\"}')
HTTPServer(('0.0.0.0', 8080), Handler).serve_forever()
";

/// Owner of shared folders on the machine.
const OWNER: u32 = 54_321;

fn arn(number: u32) -> String {
    format!("{ARN}{number}")
}

fn point(number: u32, mount_path: &str) -> FileSystem {
    FileSystem::AccessPoint { arn: arn(number), mount_path: mount_path.to_owned() }
}

/// The agent's zip, and a configuration with it; `None`, with the reason printed, where sandboxes or
/// their Python are missing.
fn code() -> Option<(CodeBucket, String)> {
    sandboxes()?;
    let bucket = CodeBucket::with_agent(AGENT).unwrap()?;
    let configuration = format!("standby = false{}", bucket.configuration());
    Some((bucket, configuration))
}

/// A runtime with these file systems.
async fn runtime(
    server: &InProcess,
    bucket: &CodeBucket,
    name: &str,
    driver: &str,
    file_systems: Vec<FileSystem>,
) -> Client {
    let mut runtime = agent_runtime(name, bucket.artifact(), ServerProtocol::Http).unwrap();
    runtime.limits.pids_max = 64;
    runtime.driver = Some(driver.to_owned());
    runtime.hosting.as_mut().unwrap().file_systems = file_systems;
    host(server.data_dir(), &server.client, &runtime).await.unwrap()
}

fn session(number: u32) -> String {
    format!("a-session-with-file-systems-{number:012}")
}

/// Runs a command once the session is there.
async fn run(client: &Client, session: &str, command: &str) -> CommandOutcome {
    eventually(command, LIMIT, async || match client.command(session, command, 60).await {
        Ok(outcome) if outcome.stop.is_some() => Ok(outcome),
        other => Err(format!("{other:?}")),
    })
    .await
}

async fn says(client: &Client, session: &str, command: &str, expect: &str) {
    let outcome = run(client, session, command).await;
    assert_eq!(outcome.stdout.trim(), expect, "{command}: {outcome:?}");
}

fn folder(path: &Path) {
    std::fs::create_dir(path).unwrap();
    chown(path, Some(OWNER), Some(OWNER)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_share_what_the_operator_mapped() {
    let Some((bucket, code)) = code() else { return };
    let shared = tempfile::tempdir().unwrap();
    let (open, fixed) = (shared.path().join("open"), shared.path().join("fixed"));
    folder(&open);
    folder(&fixed);
    std::fs::write(fixed.join("known"), "known").unwrap();
    let configuration = format!(
        "{code}[access_points.\"{}\"]\npath = {open:?}\n[access_points.\"{}\"]\npath = {fixed:?}\nread_only = true\n",
        arn(1),
        arn(2)
    );
    let server = InProcess::start(&configuration).await;
    let file_systems = || {
        let own = FileSystem::SessionStorage { mount_path: "/mnt/own".into() };
        vec![own, point(1, "/mnt/open/"), point(2, "/mnt/fixed")]
    };
    let client = runtime(&server, &bucket, "sharing", "native", file_systems()).await;
    let (one, other) = (session(1), session(2));
    says(
        &client,
        &one,
        "echo shared > /mnt/open/file; echo mine > /mnt/own/file; cat /mnt/fixed/known",
        "known",
    )
    .await;
    says(
        &client,
        &other,
        "cat /mnt/open/file; ls /mnt/own; touch /mnt/fixed/new || echo refused",
        "shared\nrefused",
    )
    .await;
    says(&client, &one, "cat /mnt/workspace/file", "mine").await;
    assert!(std::fs::metadata(open.join("file")).unwrap().uid() >= OWNER);

    // Of version and driver it does not depend.
    let crun = runtime(&server, &bucket, "sharing_elsewhere", "crun", file_systems()).await;
    if run_or_skip(&crun).await {
        says(
            &crun,
            &session(3),
            "cat /mnt/open/file; touch /mnt/fixed/new || echo refused",
            "shared\nrefused",
        )
        .await;
    }
}

async fn run_or_skip(client: &Client) -> bool {
    let reply = client.command(&session(3), "true", 60).await;
    let usable = reply.as_ref().is_ok_and(|outcome| outcome.stop.is_some());
    if !usable {
        skip::<()>(&format!("crun cannot be used here: {reply:?}"));
    }
    usable
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_shown_fails_the_call_and_the_log_says_why() {
    let Some((bucket, code)) = code() else { return };
    let configuration = format!("{code}[access_points.\"{}\"]\npath = \"/nowhere/at/all\"\n", arn(1));
    let server = InProcess::start(&configuration).await;
    for (name, number, word) in [("missing", 1, "No such file"), ("unmapped", 7, "[access_points]")] {
        let client = runtime(&server, &bucket, name, "native", vec![point(number, "/mnt/data")]).await;
        let id = session(number);
        let path = client.runtime_path("commands");
        let headers = [
            ("x-amzn-bedrock-agentcore-runtime-session-id", id.as_str()),
            ("content-type", "application/json"),
        ];
        let reply = client.request("POST", &path, &headers, br#"{"command":"true"}"#).await.unwrap();
        assert_eq!(reply.status.as_u16(), 424, "{}", String::from_utf8_lossy(&reply.body));
        assert_eq!(reply.header("x-amzn-errortype"), "RuntimeClientError");
        eventually("the log says why", LIMIT, async || {
            let path = format!("/clamshell/v1/logs?runtime={name}&session={id}");
            let reply = server.client.request("GET", &path, &[], &[]).await.unwrap();
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let says = |line: &Value| {
                line["message"].as_str().is_some_and(|text| text.contains(word) && text.contains("/mnt/data"))
            };
            if lines.any(|line| line["source"] == "platform" && says(&line)) { Ok(()) } else { Err(text) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_of_a_bucket_is_copied_at_each_start() {
    let Some((bucket, code)) = code() else { return };
    let configuration =
        format!("{code}[access_points.\"{}\"]\ns3 = \"data-bucket/below\"\nread_only = true\n", arn(1));
    let server = InProcess::start(&configuration).await;
    let client = runtime(&server, &bucket, "reading", "native", vec![point(1, "/mnt/data")]).await;
    let Some(clients) = Clients::new(&server) else { return };
    let put = async |text: &str, key: &str| {
        std::fs::write(clients.path().join("file"), text).unwrap();
        clients.aws(&["s3", "cp", "file", &format!("s3://data-bucket/{key}")]).await;
    };
    clients.aws(&["s3", "mb", "s3://data-bucket"]).await;
    put("first", "below/a/file").await;
    put("old", "below/old").await;
    put("beside", "beside").await;
    let look = "cd /mnt/data; find . -type f | sort; cat a/file; touch x || echo \" refused\"";
    says(&client, &session(1), look, "./a/file\n./old\nfirst refused").await;

    put("second", "below/a/file").await;
    clients.aws(&["s3", "rm", "s3://data-bucket/below/old"]).await;
    // A copy that is a few seconds old is shown as it is, so another session may see the old one at first.
    let mut number = 2;
    eventually("a new session sees the change", LIMIT, async || {
        number += 1;
        let seen = run(&client, &session(number), look).await.stdout;
        if seen == "./a/file\nsecond refused\n" { Ok(()) } else { Err(seen) }
    })
    .await;
}

async fn stop(client: &Client, session: &str) {
    let path = client.runtime_path("stopruntimesession");
    let headers = [("x-amzn-bedrock-agentcore-runtime-session-id", session)];
    let reply = client.request("POST", &path, &headers, b"{}").await.unwrap();
    assert_eq!(reply.status.as_u16(), 200, "{}", String::from_utf8_lossy(&reply.body));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sessions_change_goes_back_to_the_bucket() {
    let Some((bucket, code)) = code() else { return };
    let configuration = format!(
        "{code}[access_points.\"{}\"]\ns3 = \"work-bucket/below\"\n[access_points.\"{}\"]\ns3 = \"work-bucket/below\"\nread_only = true\n",
        arn(1),
        arn(2)
    );
    let server = InProcess::start(&configuration).await;
    let Some(clients) = Clients::new(&server) else { return };
    clients.aws(&["s3", "mb", "s3://work-bucket"]).await;
    std::fs::write(clients.path().join("file"), "first").unwrap();
    clients.aws(&["s3", "cp", "file", "s3://work-bucket/below/a/known"]).await;
    let file_systems = vec![point(1, "/mnt/kept"), point(2, "/mnt/fixed")];
    let client = runtime(&server, &bucket, "writing", "native", file_systems).await;
    let (one, other) = (session(1), session(2));
    // As the agent's user, which owns the folder.
    let write = "cd /mnt/kept; cat a/known; mkdir b; echo -n new > b/new; echo -n more > a/known; touch /mnt/fixed/x || echo \" refused\"";
    says(&client, &one, write, "first refused").await;
    says(
        &client,
        &other,
        "cd /mnt/kept; cat a/known; cat b/new; ln -s /etc/passwd link; echo -n x > gone",
        "morenew",
    )
    .await;
    stop(&client, &one).await;
    let key = |key: &str| format!("s3://work-bucket/below/{key}");
    // A stop waits for what is so little.
    assert_eq!(clients.aws(&["s3", "cp", &key("b/new"), "-"]).await, "new");
    assert_eq!(clients.aws(&["s3", "cp", &key("a/known"), "-"]).await, "more");

    // Both sides change a file, the bucket gets another, and a file goes, while one session still runs.
    clients.aws(&["s3", "cp", "file", &key("a/known")]).await;
    clients.aws(&["s3", "cp", "file", &key("arrived")]).await;
    says(&client, &other, "cd /mnt/kept; echo -n ours > a/known; rm gone; echo done", "done").await;
    stop(&client, &other).await;
    assert_eq!(clients.aws(&["s3", "cp", &key("a/known"), "-"]).await, "ours");
    let listed = clients.aws(&["s3", "ls", "--recursive", "s3://work-bucket"]).await;
    assert!(listed.contains("below/a/known.conflict-") && !listed.contains("below/gone"), "{listed}");
    assert!(!listed.contains("link"), "{listed}");
    let path = "/clamshell/v1/logs?runtime=writing";
    eventually("the log says so", LIMIT, async || {
        let reply = server.client.request("GET", path, &[], &[]).await.unwrap();
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        if text.contains("not written back") && text.contains(".conflict-") { Ok(()) } else { Err(text) }
    })
    .await;
    let mut number = 2;
    eventually("a new session sees what arrived", LIMIT, async || {
        number += 1;
        let seen = run(&client, &session(number), "cat /mnt/kept/arrived /mnt/kept/a/known.conflict-*").await;
        if seen.stdout == "firstfirst" { Ok(()) } else { Err(seen.stdout) }
    })
    .await;

    // A session that goes on is looked at from time to time, also by the server that finds it again.
    let server = server.start_again(&configuration).await;
    let mut client = client;
    client.authority = server.client.authority.clone();
    let Some(clients) = Clients::new(&server) else { return };
    says(&client, &session(number), "cd /mnt/kept; echo -n later > later; rm arrived; echo done", "done")
        .await;
    eventually("it is written back", LIMIT, async || {
        let listed = clients.aws(&["s3", "ls", "--recursive", "s3://work-bucket"]).await;
        if listed.contains("below/later") && !listed.contains("arrived") { Ok(()) } else { Err(listed) }
    })
    .await;
}
