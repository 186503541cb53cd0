//! `clamshell files`, `secrets` and `runtime terminal` against a server of this test's own, which is killed in between.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use clamshell_testkit::{ServerProcess, is_root, skip};

/// Long enough to be found nowhere by chance.
const CANARY: &str = "canary-52b7d1e0c4f94a88-of-the-command-line";

const SESSION: &str = "session-of-the-command-line-tests-00001";

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_clamshell"))
}

fn clamshell(server: &ServerProcess, words: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(binary())
        .args(words)
        .arg("--data-dir")
        .arg(server.data_dir())
        .current_dir(server.data_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn run(server: &ServerProcess, words: &[&str], input: &[u8]) -> String {
    let output = clamshell(server, words, input);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Files below a folder, the server's log among them, that hold a text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            found.extend(holding(&entry.path(), text));
        } else if kind.is_file()
            && std::fs::read(entry.path())
                .is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
        {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn files_of_a_session_from_the_command_line() {
    if !is_root() {
        return skip("sandboxes of this test are made by root").unwrap_or_default();
    }
    let server = ServerProcess::start(binary(), "").await.unwrap();
    let client = server.client().await.unwrap();
    client.command(SESSION, "mkdir /mnt/workspace/sub", 30).await.unwrap();
    std::fs::write(server.data_dir().join("notes.md"), "by hand\n").unwrap();
    run(&server, &["files", "put", SESSION, "notes.md", "sub/a b"], b"");
    run(&server, &["files", "put", SESSION, "-", "typed"], b"from stdin");
    let listed = run(&server, &["files", "ls", SESSION], b"");
    assert!(listed.contains("sub/") && listed.contains("typed"), "{listed}");
    let listed: serde_json::Value =
        serde_json::from_str(&run(&server, &["files", "ls", SESSION, "sub", "--json"], b"")).unwrap();
    assert_eq!((&listed["entries"][0]["name"], &listed["entries"][0]["bytes"]), (&"a b".into(), &8.into()));
    assert_eq!(run(&server, &["files", "get", SESSION, "sub/a b", "-"], b""), "by hand\n");
    run(&server, &["files", "mv", SESSION, "sub/a b", "moved"], b"");
    run(&server, &["files", "get", SESSION, "moved", "fetched"], b"");
    assert_eq!(std::fs::read_to_string(server.data_dir().join("fetched")).unwrap(), "by hand\n");
    let refused = clamshell(&server, &["files", "get", SESSION, "sub/../../x", "-"], b"");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("'..'"));
    for gone in ["moved", "typed", "sub"] {
        run(&server, &["files", "rm", SESSION, gone], b"");
    }
}

#[tokio::test]
async fn a_secret_from_the_command_line_is_in_no_file_of_the_server() {
    if !is_root() {
        return skip("sandboxes of this test are made by root").unwrap_or_default();
    }
    let mut server = ServerProcess::start(binary(), "").await.unwrap();
    run(&server, &["secrets", "set", "KEY"], format!("{CANARY}\n").as_bytes());
    assert!(run(&server, &["secrets", "list"], b"").contains("KEY"));
    let script = "echo ready; while read -r line; do wc -c < $CLAMSHELL_SECRETS/KEY; done";
    run(&server, &["runtime", "terminal", "default", "--command", script, "--secret", "KEY"], b"");
    assert!(run(&server, &["runtime", "terminal", "default"], b"").contains("KEY"));
    let query = "create=true&command=default&from=offset:0";
    let mut shell = server.client().await.unwrap().attach(SESSION, "one", query).await.unwrap();
    shell.read_until("ready").await.unwrap();
    assert_eq!(holding(server.data_dir(), CANARY), Vec::<String>::new());

    server.kill_9().unwrap();
    server.start_again().await.unwrap();
    let mut shell = server.client().await.unwrap().attach(SESSION, "one", query).await.unwrap();
    shell.input(b"\n").await.unwrap();
    shell.read_until(&CANARY.len().to_string()).await.unwrap();
    assert_eq!(holding(server.data_dir(), CANARY), Vec::<String>::new());
    run(&server, &["runtime", "terminal", "default", "--rm"], b"");
    run(&server, &["secrets", "rm", "KEY"], b"");
}
