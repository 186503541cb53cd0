//! Terminals that start a command with secrets, and where those secrets are: nowhere else.

use std::path::Path;

use aws_lc_rs::digest;
use clamshell_testkit::{Client, Reply, ShellEvent, ShellSocket, eventually};
use clamshell_wire::percent_encode;
use serde_json::{Value, json};

use crate::{
    access::user,
    calls::{Call, SESSION},
    in_process::{InProcess, LIMIT, sandboxes},
};

/// Long enough to be found nowhere by chance.
const CANARY: &str = "canary-7f3a9c51e0d84b26-of-the-terminal-tests";

async fn ask(client: &Client, method: &str, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    client.request(method, &format!("/clamshell/v1{path}"), &[], &body).await.unwrap()
}

async fn set(client: &Client, name: &str, value: &str) {
    let kept = ask(client, "PUT", &format!("/secrets/{name}"), &json!({ "value": value })).await;
    assert_eq!((kept.status.as_u16(), &kept.json()["name"]), (200, &json!(name)), "{kept:?}");
}

async fn start(client: &Client, script: &str, secrets: &[&str], applies_to: &str) {
    let settings = json!({
        "command": ["/bin/bash", "-c", script], "secrets": secrets, "workingDirectory": "/mnt/workspace",
        "appliesTo": applies_to,
    });
    let kept = ask(client, "PUT", "/runtimes/default/terminal", &settings).await;
    assert_eq!(kept.status, 200, "{kept:?}");
}

async fn run(client: &Client, command: &str) -> String {
    let done = client.command(SESSION, command, 30).await.unwrap();
    assert_eq!(done.stop.as_ref().map(|stop| stop.1.as_str()), Some("COMPLETED"), "{command}: {done:?}");
    done.stdout
}

/// Reads until the terminal's program has ended.
async fn end(mut shell: ShellSocket) {
    loop {
        match shell.next().await.unwrap() {
            ShellEvent::Closed(_) => return,
            _ => continue,
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Files below a folder that hold a text; sockets, pipes and links are none.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(holding(&entry.path(), text));
        } else if kind.is_file() && std::fs::read(entry.path()).is_ok_and(|bytes| contains(&bytes, text)) {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn a_secret_is_read_by_its_program_and_found_nowhere_else() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let client = &server.client;
    set(client, "KEY", CANARY).await;
    set(client, "OTHER_1", "another one").await;
    let script = "sha256sum < $CLAMSHELL_SECRETS/KEY; ls -A $CLAMSHELL_SECRETS | tr '\\n' ' '; \
        stat -c '%U %a %F' $CLAMSHELL_SECRETS $CLAMSHELL_SECRETS/KEY; stat -f -c %T $CLAMSHELL_SECRETS; \
        pwd; echo folder=$CLAMSHELL_SECRETS; echo ready; while read -r line; do echo got-$line; done";
    start(client, script, &["KEY", "OTHER_1"], "attach").await;
    let mut shell = client.attach(SESSION, "one", "create=true&command=default&from=offset:0").await.unwrap();
    let seen = String::from_utf8(shell.read_until("ready").await.unwrap()).unwrap();
    let hash = digest::digest(&digest::SHA256, CANARY.as_bytes());
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    for part in [
        hash.as_str(),
        "KEY OTHER_1",
        "agentcore-runtime-user 500 directory",
        "agentcore-runtime-user 400 regular file",
        "tmpfs",
        "/mnt/workspace",
        "folder=/run/clamshell/secrets/one",
    ] {
        assert!(seen.contains(part), "{part} is not in {seen}");
    }
    shell.input(b"typed\n").await.unwrap();
    shell.read_until("got-typed").await.unwrap();

    // In the sandbox: no environment, no arguments, no file but the one. The text that is looked for is put together
    // there, so that the search does not find itself.
    let (front, back) = CANARY.split_at(20);
    let grep = format!(
        "x={front}; x=${{x}}{back}; for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do \
         tr '\\0' '\\n' < $f 2>/dev/null | grep -F \"$x\" && echo $f; done; \
         grep -rlF \"$x\" /run /tmp /dev/shm /mnt/workspace /home /root /var/log /etc 2>/dev/null; true"
    );
    assert_eq!(run(client, &grep).await.trim(), "/run/clamshell/secrets/one/KEY");
    // Another user of the session neither reads nor lists it.
    let as_other = "setpriv --reuid=2000 --regid=2000 --clear-groups sh -c \
        'cat /run/clamshell/secrets/one/KEY; ls /run/clamshell/secrets/one; ls /run/clamshell/secrets' 2>&1 | wc -l; \
        setpriv --reuid=2000 --regid=2000 --clear-groups cat /run/clamshell/secrets/one/KEY 2>/dev/null; true";
    let denied = run(client, as_other).await;
    assert_eq!(denied.trim(), "3", "three refusals and no more: {denied}");
    assert_eq!(run(client, "ulimit -c").await.trim(), "0");

    // What the server tells.
    let at = |tail: &str| format!("/sessions/{SESSION}/shells/one{tail}");
    for path in [
        "/secrets".to_owned(),
        "/runtimes/default/terminal".to_owned(),
        at(""),
        at("/log"),
        at("/screen"),
        at("/export"),
    ] {
        let told = ask(client, "GET", &path, &Value::Null).await;
        assert_eq!(told.status, 200, "{path}");
        assert!(!contains(&told.body, CANARY), "{path}");
    }
    let mut again = client.attach(SESSION, "one", "create=true&command=default&from=offset:0").await.unwrap();
    let replay = again.read_until("got-typed").await.unwrap();
    assert!(!contains(&replay, CANARY));
    // On the machine: not even the database, which has it sealed.
    assert_eq!(holding(server.data_dir(), CANARY), Vec::<String>::new());

    // Gone with the program.
    again.cut();
    let closed = ask(client, "DELETE", &at(""), &Value::Null).await;
    assert_eq!(closed.status, 204);
    end(shell).await;
    let left = || run(client, "find /run/clamshell/secrets -mindepth 1");
    eventually("the files are gone", LIMIT, async || match left().await {
        left if left.trim().is_empty() => Ok(()),
        left => Err(left),
    })
    .await;
    assert_eq!(holding(server.data_dir(), CANARY), Vec::<String>::new());
}

#[tokio::test]
async fn a_program_keeps_its_secrets_over_an_end_of_the_server() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    set(&server.client, "KEY", CANARY).await;
    let script = "echo ready; while read -r line; do sha256sum < $CLAMSHELL_SECRETS/KEY | cut -c1-8; done";
    start(&server.client, script, &["KEY"], "attach").await;
    let query = "create=true&command=default&from=offset:0";
    let mut shell = server.client.attach(SESSION, "one", query).await.unwrap();
    shell.read_until("ready").await.unwrap();
    shell.cut();
    let server = server.start_again("").await;
    // Removed meanwhile, which takes nothing from who has it.
    assert_eq!(ask(&server.client, "DELETE", "/secrets/KEY", &Value::Null).await.status, 204);
    let mut shell = server.client.attach(SESSION, "one", query).await.unwrap();
    shell.input(b"\n").await.unwrap();
    let hash = digest::digest(&digest::SHA256, CANARY.as_bytes());
    let hash: String = hash.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    shell.read_until(&hash).await.unwrap();
    // The next one gets none, and says which is missing.
    let refused = server.client.attach(SESSION, "two", query).await.unwrap_err().to_string();
    assert!(refused.contains("409") && refused.contains("'KEY'"), "{refused}");
}

#[tokio::test]
async fn names_of_terminals_that_are_gone_are_free_again() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let client = &server.client;
    start(client, "true", &[], "attach").await;
    for number in 0..80 {
        let query = "create=true&command=default&from=offset:0";
        end(client.attach(SESSION, &format!("shell-{number}"), query).await.unwrap()).await;
    }
    let path = format!("/sessions/{SESSION}/shells/shell-79");
    let last = ask(client, "GET", &path, &Value::Null).await.json();
    let title = last["title"].as_str().unwrap_or_default();
    let number = title.strip_prefix("default ").and_then(|number| number.parse::<u32>().ok());
    assert!(number.is_some_and(|number| number <= 70), "{last}");
}

#[tokio::test]
async fn which_terminals_start_the_command() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let client = &server.client;
    start(client, "echo of-the-runtime; sleep 1000", &[], "attach").await;
    let by_default = "echo of-the-\"shell\"\n";
    let starts = async |mut shell: ShellSocket, expect: &str| {
        shell.input(by_default.as_bytes()).await.unwrap();
        let seen = shell.read_until(expect).await.unwrap();
        assert!(contains(&seen, expect));
    };
    starts(client.attach(SESSION, "a", "create=true&command=default").await.unwrap(), "of-the-runtime").await;
    starts(client.attach(SESSION, "b", "create=true&command=shell").await.unwrap(), "of-the-shell").await;
    starts(client.attach(SESSION, "c", "create=true").await.unwrap(), "of-the-shell").await;
    starts(client.shell(SESSION, "d").await.unwrap(), "of-the-shell").await;
    start(client, "echo of-the-runtime; sleep 1000", &[], "all").await;
    starts(client.shell(SESSION, "e").await.unwrap(), "of-the-runtime").await;
    let shells = ask(client, "GET", &format!("/sessions/{SESSION}/shells"), &Value::Null).await.json();
    assert_eq!(shells["shells"][0]["command"][2], "echo of-the-runtime; sleep 1000");
    let refused = client.attach(SESSION, "f", "create=true&command=other").await.unwrap_err().to_string();
    assert!(refused.contains("400") && refused.contains("[default, shell]"), "{refused}");
    assert_eq!(ask(client, "DELETE", "/runtimes/default/terminal", &Value::Null).await.status, 204);
    assert_eq!(ask(client, "DELETE", "/runtimes/default/terminal", &Value::Null).await.status, 404);
    starts(client.attach(SESSION, "g", "create=true&command=default").await.unwrap(), "of-the-shell").await;
}

#[tokio::test]
async fn settings_and_secrets_are_held_to_their_rules() {
    let server = InProcess::start("").await;
    let client = &server.client;
    let refused = async |method: &str, path: &str, body: Value, status: u16, text: &str| {
        let reply = ask(client, method, path, &body).await;
        let message = reply.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(reply.status == status && message.contains(text), "{method} {path} {body}: {reply:?}");
    };
    let terminal = "/runtimes/default/terminal";
    refused("GET", terminal, Value::Null, 404, "no terminal command").await;
    refused("PUT", terminal, json!({ "command": [] }), 400, "command").await;
    refused("PUT", terminal, json!({ "command": "sh" }), 400, "JSON").await;
    refused("PUT", terminal, json!({ "command": ["sh"], "secrets": ["NONE"] }), 409, "'NONE'").await;
    refused("PUT", terminal, json!({ "command": ["sh"], "workingDirectory": "x" }), 400, "absolute").await;
    refused("PUT", "/runtimes/nobody/terminal", json!({ "command": ["sh"] }), 404, "nobody").await;
    for name in ["1A", "A-B", "A%2FB", "..", &"A".repeat(129)] {
        refused("PUT", &format!("/secrets/{name}"), json!({ "value": "x" }), 400, "name").await;
    }
    refused("PUT", "/secrets/A", json!({ "value": "" }), 400, "value").await;
    refused("PUT", "/secrets/A", json!({ "value": "x".repeat(32_769) }), 400, "value").await;
    refused("PUT", "/secrets/A", json!({ "value": 1 }), 400, "JSON").await;
    refused("DELETE", "/secrets/A", Value::Null, 404, "Secret not found").await;
    set(client, "A", &"x".repeat(32_768)).await;
    let listed = ask(client, "GET", "/secrets", &Value::Null).await.json();
    assert_eq!(listed["secrets"][0]["name"], "A");
    assert_eq!(listed["secrets"][0].as_object().unwrap().len(), 3);
    let arn = percent_encode(&client.runtime_arn);
    let kept = ask(
        client,
        "PUT",
        &format!("/runtimes/{arn}/terminal"),
        &json!({ "command": ["sh"], "secrets": ["A"] }),
    )
    .await;
    assert_eq!(kept.status, 200);
    let shown = ask(client, "GET", terminal, &Value::Null).await.json();
    assert_eq!(
        (&shown["command"], &shown["secrets"], &shown["appliesTo"]),
        (&json!(["sh"]), &json!(["A"]), &json!("attach"))
    );
}

/// Whoever chooses the command can have it print its secrets, so that is a right of its own.
#[tokio::test]
async fn the_command_is_chosen_by_who_may_use_its_secrets() {
    let server = InProcess::start("").await;
    set(&server.client, "KEY", "x").await;
    let allow =
        |action: &str, resource: &str| json!({ "Effect": "Allow", "Action": action, "Resource": resource });
    let arn = server.client.runtime_arn.clone();
    let secret = format!("arn:aws:clamshell:us-west-2:{}:secret/KEY", server.info.account_id);
    let put = allow("clamshell:PutRuntimeTerminal", &arn);
    let without = user(&server, "without", &json!([put])).await;
    let with = user(&server, "with", &json!([put, allow("clamshell:UseSecret", &secret)])).await;
    let call =
        |body: Value| Call::new("PUT", "/clamshell/v1/runtimes/default/terminal").body(body.to_string());
    let (plain, secrets) = (json!({ "command": ["sh"] }), json!({ "command": ["sh"], "secrets": ["KEY"] }));
    for (signer, body, status) in [(&without, &plain, 200), (&without, &secrets, 403), (&with, &secrets, 200)]
    {
        let reply = call(body.clone()).signed(signer).send(&server.client).await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
    }
    let refused = call(secrets).signed(&without).send(&server.client).await;
    assert!(refused.json()["message"].as_str().unwrap().contains("clamshell:UseSecret"));
    let rename = Call::new("DELETE", "/clamshell/v1/secrets/KEY").signed(&with).send(&server.client).await;
    assert_eq!(rename.status, 403);
}
