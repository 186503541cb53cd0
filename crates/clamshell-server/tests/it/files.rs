//! Files of a workspace by the extension API, beside a sandbox that uses them.

use std::{collections::BTreeSet, path::PathBuf};

use aws_lc_rs::digest;
use clamshell_testkit::{Client, Reply, eventually};
use clamshell_wire::percent_encode;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    calls::SESSION,
    in_process::{InProcess, LIMIT, sandboxes},
};

fn at(tail: &str, path: &str) -> String {
    format!("/clamshell/v1/sessions/{SESSION}/files{tail}?path={}", percent_encode(path))
}

fn hex_sha256(bytes: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn get(client: &Client, path: &str, headers: &[(&str, &str)]) -> Reply {
    client.request("GET", &at("/content", path), headers, &[]).await.unwrap()
}

async fn put(client: &Client, path: &str, bytes: &[u8]) -> Reply {
    let hash = hex_sha256(bytes);
    let headers = [("x-amz-content-sha256", hash.as_str())];
    client.request("PUT", &at("/content", path), &headers, bytes).await.unwrap()
}

async fn list(client: &Client, path: &str) -> Value {
    let reply = client.request("GET", &at("", path), &[], &[]).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.json()
}

fn names(listing: &Value) -> Vec<&str> {
    listing["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

async fn run(client: &Client, command: &str) -> String {
    let done = client.command(SESSION, command, 30).await.unwrap();
    assert_eq!(done.stop, Some((0, "COMPLETED".to_owned())), "{command}: {done:?}");
    done.stdout
}

/// Names in the session's folder on the machine, and in its workspace.
fn on_machine(server: &InProcess) -> (PathBuf, BTreeSet<String>) {
    let sessions = std::fs::read_dir(server.data_dir().join("sessions")).unwrap();
    // Beside it lies the sandbox that was made ahead, without a workspace of a session.
    let folder = sessions
        .map(|entry| entry.unwrap().path())
        .find(|path| path.join("workspace/marker").exists())
        .unwrap();
    let names = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let all = names(folder.clone()).into_iter().chain(names(folder.join("workspace"))).collect();
    (folder, all)
}

#[tokio::test]
async fn files_come_and_go_while_the_agent_works_with_them() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let client = &server.client;
    run(client, "cd /mnt/workspace && mkdir sub && printf 0123456789 > sub/file && ln -s /etc/passwd link")
        .await;

    let listing = list(client, "/").await;
    assert_eq!(
        (names(&listing), &listing["path"], &listing["truncated"]),
        (vec!["link", "sub"], &json!("/"), &json!(false))
    );
    assert_eq!(listing["entries"][0]["kind"], "symlink");
    assert_eq!(listing["entries"][1]["kind"], "directory");
    let file = &list(client, "sub").await["entries"][0];
    assert_eq!(
        (&file["name"], &file["kind"], &file["bytes"], &file["mode"]),
        (&json!("file"), &json!("file"), &json!(10), &json!("0644"))
    );

    let whole = get(client, "/sub/file", &[]).await;
    assert_eq!((whole.status.as_u16(), &whole.body[..]), (200, &b"0123456789"[..]));
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("content-length", "10"),
        ("content-disposition", "attachment; filename=\"file\"; filename*=UTF-8''file"),
        ("x-content-type-options", "nosniff"),
        ("accept-ranges", "bytes"),
    ] {
        assert_eq!(whole.header(name), value, "{name}");
    }
    assert!(whole.header("content-security-policy").contains("sandbox"));
    let part = get(client, "sub/file", &[("range", "bytes=2-4"), ("if-range", whole.header("etag"))]).await;
    assert_eq!(
        (part.status.as_u16(), &part.body[..], part.header("content-range")),
        (206, &b"234"[..], "bytes 2-4/10")
    );
    let none = get(client, "sub/file", &[("range", "bytes=10-")]).await;
    assert_eq!((none.status.as_u16(), none.body.len(), none.header("content-range")), (416, 0, "bytes */10"));
    run(client, "echo changed > /mnt/workspace/sub/file").await;
    let changed =
        get(client, "sub/file", &[("range", "bytes=2-4"), ("if-range", whole.header("etag"))]).await;
    assert_eq!((changed.status.as_u16(), &changed.body[..]), (200, &b"changed\n"[..]));

    let kept = put(client, "new file", b"by hand\n").await;
    assert_eq!(
        (kept.status.as_u16(), &kept.json()["bytes"], &kept.json()["mode"]),
        (200, &json!(8), &json!("0644"))
    );
    let folder = client.request("POST", &at("/directory", "made"), &[], &[]).await.unwrap();
    assert_eq!((folder.status.as_u16(), &folder.json()["kind"]), (201, &json!("directory")));
    // The user of shells and agents reads it, changes it and puts something beside it.
    let as_agent = "setpriv --reuid=1000 --regid=1000 --clear-groups sh -c \
        'cat \"/mnt/workspace/new file\" && echo more >> \"/mnt/workspace/new file\" && echo x > /mnt/workspace/made/x'";
    assert_eq!(run(client, as_agent).await, "by hand\n");
    assert_eq!(get(client, "new file", &[]).await.body, "by hand\nmore\n");
    run(client, "chmod 6755 /mnt/workspace/sub/file").await;
    assert_eq!(put(client, "sub/file", b"#!/bin/true\n").await.json()["mode"], "0755");

    let moved = format!("{}&to=made%2Fagain", at("/move", "new file"));
    assert_eq!(client.request("POST", &moved, &[], &[]).await.unwrap().status, 204);
    let taken = format!("{}&to=sub%2Ffile", at("/move", "made/again"));
    assert_eq!(client.request("POST", &taken, &[], &[]).await.unwrap().status, 409);

    // Stopped sessions have their files, and nothing wakes them.
    let stop = format!("/clamshell/v1/sessions/{SESSION}/stop");
    assert_eq!(client.request("POST", &stop, &[], &[]).await.unwrap().status, 200);
    assert_eq!(names(&list(client, "made").await), ["again", "x"]);
    assert_eq!(put(client, "made/x", b"while stopped").await.status, 200);
    assert_eq!(get(client, "made/x", &[]).await.body, "while stopped");
    for (path, status) in [("made", 409), ("made/x", 204), ("made/again", 204), ("made", 204), ("made", 404)]
    {
        let removed = client.request("DELETE", &at("", path), &[], &[]).await.unwrap();
        assert_eq!(removed.status, status, "{path}: {removed:?}");
    }
    let session =
        client.request("GET", &format!("/clamshell/v1/sessions/{SESSION}"), &[], &[]).await.unwrap();
    assert_eq!(session.json()["state"], "Stopped");
}

#[tokio::test]
async fn what_leads_out_or_is_no_file_is_refused_in_words() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let client = &server.client;
    run(
        client,
        "cd /mnt/workspace && ln -s /etc link && ln -s /proc/self/root magic && mkfifo pipe && mkdir sub && \
         printf x > $'new\\nline' && printf y > $'\\xff'",
    )
    .await;
    for (path, status, text) in [
        ("../secret", 400, "'..'"),
        ("link/passwd", 400, "symbolic link"),
        ("magic/etc/passwd", 400, "symbolic link"),
        ("link", 400, "symbolic link"),
        ("pipe", 400, "not a regular file"),
        ("sub", 400, "not a regular file"),
        ("pipe/x", 400, "not a folder"),
        ("none", 404, "No such file"),
        ("a\0b", 400, "NUL"),
    ] {
        let reply = get(client, path, &[]).await;
        let message = reply.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(reply.status == status && message.contains(text), "{path}: {reply:?}");
    }
    for path in ["link/new", "magic/tmp/new", "../new", "sub", "none/new", ""] {
        assert!(put(client, path, b"x").await.status.is_client_error(), "{path}");
    }
    // Names that are no text have their bytes beside.
    let listing = list(client, "").await;
    assert_eq!(names(&listing), ["link", "magic", "new\nline", "pipe", "sub", "%FF"]);
    let encoded = listing["entries"][5]["pathBase64"].as_str().unwrap();
    let path = format!("/clamshell/v1/sessions/{SESSION}/files/content?pathBase64={encoded}");
    let odd = client.request("GET", &path, &[], &[]).await.unwrap();
    assert_eq!((odd.status.as_u16(), &odd.body[..]), (200, &b"y"[..]));
    let other = "/clamshell/v1/sessions/no-such-session-0000000000000000000001/files";
    let reply = client.request("GET", other, &[], &[]).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.json()["message"].as_str()), (404, Some("Session not found")));
}

#[tokio::test]
async fn an_upload_that_does_not_arrive_leaves_nothing() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let client = &server.client;
    run(client, "printf old > /mnt/workspace/kept; touch /mnt/workspace/marker").await;
    let (folder, before) = on_machine(&server);
    let same = async || {
        eventually("nothing is left", LIMIT, async || match on_machine(&server).1 {
            now if now == before => Ok(()),
            now => Err(now),
        })
        .await;
        assert_eq!(get(client, "kept", &[]).await.body, "old");
    };

    // Other bytes than were signed.
    let hash = hex_sha256(b"what was signed");
    let headers =
        client.signed("PUT", &at("/content", "kept"), &[("x-amz-content-sha256", &hash)], b"what was signed");
    let reply =
        client.send("PUT", &at("/content", "kept"), &headers.unwrap(), b"what arrived").await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.header("x-amzn-errortype")), (403, "AccessDeniedException"));
    same().await;

    // A client that goes in the middle.
    let bytes = vec![b'x'; 4 << 20];
    let hash = hex_sha256(&bytes);
    let path = at("/content", "kept");
    let headers = client.signed("PUT", &path, &[("x-amz-content-sha256", &hash)], &bytes).unwrap();
    let mut head = format!("PUT {path} HTTP/1.1\r\ncontent-length: {}\r\n", bytes.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut socket = TcpStream::connect(&client.authority).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(&bytes[..1 << 20]).await.unwrap();
    eventually("the upload is under way", LIMIT, async || {
        let staged = std::fs::read_dir(&folder).unwrap().any(|entry| {
            let entry = entry.unwrap();
            entry.file_name().to_string_lossy().starts_with(".upload-") && entry.metadata().unwrap().len() > 0
        });
        if staged { Ok(()) } else { Err("nothing staged") }
    })
    .await;
    // What is under way is nowhere in the sandbox.
    assert_eq!(run(client, "ls -A /mnt/workspace").await, "kept\nmarker\n");
    drop(socket);
    same().await;

    // Longer than the workspace may be, told by its length alone and before it is sent.
    let path = at("/content", "large");
    let headers = client.signed("PUT", &path, &[("x-amz-content-sha256", &hash)], &bytes).unwrap();
    let mut head =
        format!("PUT {path} HTTP/1.1\r\ncontent-length: {}\r\nconnection: close\r\n", (1_u64 << 30) + 1);
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut socket = TcpStream::connect(&client.authority).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    same().await;
}

#[tokio::test]
async fn a_workspace_takes_no_more_than_its_limit() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("[limits]\nworkspace_mib = 4\n").await;
    let client = &server.client;
    run(client, "head -c 3000000 /dev/zero > /mnt/workspace/there; touch /mnt/workspace/marker").await;
    let (_, before) = on_machine(&server);
    let refused = put(client, "more", &vec![b'x'; 2 << 20]).await;
    assert_eq!(
        (refused.status.as_u16(), refused.header("x-amzn-errortype")),
        (402, "ServiceQuotaExceededException")
    );
    assert!(refused.json()["message"].as_str().unwrap().contains("above its limit"));
    assert_eq!(on_machine(&server).1, before);
    assert_eq!(put(client, "little", &vec![b'x'; 1 << 19]).await.status, 200);
}
