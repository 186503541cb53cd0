//! Access keys through the API: what they open, when they stop opening, and where their secrets are not.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use clamshell_domain::{AccessKey, AccessKeyId, AccessKeyStatus, Clock, SystemEntropy};
use clamshell_store::{MasterKey, Secret, Store};
use clamshell_testkit::{Reply, ShellEvent, ShellSocket, within};
use serde_json::{Value, json};

use crate::{
    calls::{Call, NOW_MS, SESSION, Signer, check_envelope, message},
    in_process::{InProcess, LIMIT, sandboxes},
};

const KEYS: &str = "/clamshell/v1/keys";

async fn ask(server: &InProcess, signer: &Signer, method: &str, rest: &str, body: &str) -> Reply {
    let reply =
        Call::new(method, format!("{KEYS}{rest}")).body(body).signed(signer).send(&server.client).await;
    check_envelope(rest, &reply);
    reply
}

async fn create(server: &InProcess, name: &str) -> (Value, Signer) {
    let root = server.root();
    let reply = ask(server, &root, "POST", "", &json!({ "userName": name }).to_string()).await;
    assert_eq!(reply.status, 201);
    let key = reply.json();
    let signer =
        root.with_key(key["accessKeyId"].as_str().unwrap(), key["secretAccessKey"].as_str().unwrap());
    (key, signer)
}

async fn status(server: &InProcess, signer: &Signer) -> u16 {
    Call::new("GET", "/clamshell/v1/sessions").signed(signer).send(&server.client).await.status.as_u16()
}

fn refused(reply: &Reply, status: u16, error: &str, text: &str) {
    let seen = (reply.status.as_u16(), reply.header("x-amzn-errortype"), reply.json());
    assert_eq!(seen, (status, error, message(text)));
}

#[tokio::test]
async fn a_key_opens_until_it_is_disabled_or_removed() {
    let server = InProcess::start("").await;
    let root = server.root();
    let (key, user) = create(&server, "ci").await;
    let id = user.credentials.access_key_id.as_str();
    assert_eq!((&key["userName"], &key["status"]), (&json!("ci"), &json!("Active")));
    assert_eq!(user.credentials.secret_access_key.len(), 40);
    assert_eq!(status(&server, &user).await, 200);

    // At once, although the key was used a moment ago.
    let disabled = ask(&server, &root, "POST", &format!("/{id}/disable"), "").await.json();
    assert_eq!((&disabled["status"], disabled.get("secretAccessKey")), (&json!("Inactive"), None));
    assert_eq!(status(&server, &user).await, 403);
    let enabled = ask(&server, &root, "POST", &format!("/{id}/enable"), "").await.json();
    assert_eq!(enabled["status"], "Active");
    assert_eq!(status(&server, &user).await, 200);

    let removed = ask(&server, &root, "DELETE", &format!("/{id}"), "").await;
    assert_eq!((removed.status.as_u16(), removed.body.len()), (204, 0));
    assert_eq!(status(&server, &user).await, 403);
    for (method, rest) in [("DELETE", ""), ("POST", "/enable"), ("POST", "/disable")] {
        let reply = ask(&server, &root, method, &format!("/{id}{rest}"), "").await;
        refused(&reply, 404, "ResourceNotFoundException", "Access key not found");
    }
}

#[tokio::test]
async fn the_secret_is_told_once() {
    let server = InProcess::start("").await;
    let root = server.root();
    let (_, user) = create(&server, "ci").await;
    let secrets = [&user.credentials.secret_access_key, &root.credentials.secret_access_key];
    for (method, rest) in
        [("GET", String::new()), ("POST", format!("/{}/disable", user.credentials.access_key_id))]
    {
        let reply = ask(&server, &root, method, &rest, "").await;
        let text = String::from_utf8(reply.body.to_vec()).unwrap();
        assert!(text.contains(&user.credentials.access_key_id), "{text}");
        assert!(!text.contains("secretAccessKey"), "{text}");
        assert!(secrets.iter().all(|secret| !text.contains(secret.as_str())), "{text}");
    }
    let listed = ask(&server, &root, "GET", "", "").await.json();
    let names: Vec<&Value> = listed["keys"].as_array().unwrap().iter().map(|key| &key["userName"]).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&&json!("root")) && names.contains(&&json!("ci")), "{names:?}");
}

#[tokio::test]
async fn the_last_active_key_stays() {
    let server = InProcess::start("").await;
    let root = server.root();
    let root_id = root.credentials.access_key_id.clone();
    let text = "The last active access key can be neither disabled nor removed";
    let both = [("POST", format!("/{root_id}/disable")), ("DELETE", format!("/{root_id}"))];
    for (method, rest) in &both {
        refused(&ask(&server, &root, method, rest, "").await, 409, "ConflictException", text);
    }
    assert_eq!(status(&server, &root).await, 200);
    // A disabled key beside it is no reason to let it go.
    let (_, user) = create(&server, "ci").await;
    let user_id = &user.credentials.access_key_id;
    assert_eq!(ask(&server, &root, "POST", &format!("/{user_id}/disable"), "").await.status, 200);
    for (method, rest) in &both {
        refused(&ask(&server, &root, method, rest, "").await, 409, "ConflictException", text);
    }
    // With another active one even root may go, and then that one is the last.
    assert_eq!(ask(&server, &root, "POST", &format!("/{user_id}/enable"), "").await.status, 200);
    assert_eq!(ask(&server, &root, "DELETE", &format!("/{root_id}"), "").await.status, 204);
    assert_eq!(status(&server, &root).await, 403);
    let reply = ask(&server, &user, "DELETE", &format!("/{user_id}"), "").await;
    refused(&reply, 409, "ConflictException", text);
    assert_eq!(status(&server, &user).await, 200);
}

#[tokio::test]
async fn a_key_in_use_is_refused_once_it_is_disabled() {
    let server = InProcess::start("").await;
    let root = server.root();
    let (_, user) = create(&server, "ci").await;
    let id = &user.credentials.access_key_id;
    for round in 0..20 {
        let disable = format!("/{id}/disable");
        // Requests that look the key up while it is disabled must not bring it back.
        let (disabled, ..) = tokio::join!(
            ask(&server, &root, "POST", &disable, ""),
            status(&server, &user),
            status(&server, &user),
            status(&server, &user),
        );
        assert_eq!(disabled.status, 200);
        assert_eq!(status(&server, &user).await, 403, "round {round}");
        assert_eq!(ask(&server, &root, "POST", &format!("/{id}/enable"), "").await.status, 200);
    }
}

/// A clock that the test sets.
struct SetClock(AtomicU64);

impl Clock for SetClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Invented ids are refused from memory: what is put into the store behind the server's back is not seen for a while.
#[tokio::test]
async fn unknown_keys_are_not_looked_up_each_time() {
    let clock = Arc::new(SetClock(AtomicU64::new(NOW_MS)));
    let server = InProcess::start_at("", clock.clone()).await;
    let store = Store::open(&server.data_dir().join("clamshell.db")).await.unwrap();
    let master = MasterKey::load_or_create(&server.data_dir().join("master.key"), &SystemEntropy).unwrap();
    let secret = "behindbehindbehindbehindbehindbehindbehi";
    let key = AccessKey {
        access_key_id: AccessKeyId::generate(&SystemEntropy),
        user_name: "root".to_owned(),
        status: AccessKeyStatus::Active,
        created_at_ms: NOW_MS,
        last_used_at_ms: None,
    };
    let status_of_it =
        async || status(&server, &server.root().with_key(key.access_key_id.as_str(), secret)).await;
    assert_eq!(status_of_it().await, 403);
    store.insert_access_key(&master, &key, &Secret::new(secret.to_owned())).await.unwrap();
    assert_eq!(status_of_it().await, 403, "it is remembered that there is none");
    clock.0.fetch_add(5_000, Ordering::SeqCst);
    assert_eq!(status_of_it().await, 200);
    // One that is made through the server is known at once.
    let (_, user) = create(&server, "ci").await;
    assert_eq!(status(&server, &user).await, 200);
}

#[tokio::test]
async fn open_connections_end_with_their_key() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let root = server.root();
    let (_, user) = create(&server, "ci").await;
    let id = user.credentials.access_key_id.clone();
    let mut client = server.client.clone();
    client.credentials = user.credentials.clone();
    let mut own = server.client.shell(SESSION, "own").await.unwrap();
    for (method, rest) in [("POST", format!("/{id}/disable")), ("DELETE", format!("/{id}"))] {
        let mut shell = client.shell(SESSION, "main").await.unwrap();
        let mut watcher = client.attach(SESSION, "main", "access=watch").await.unwrap();
        assert!(ask(&server, &root, method, &rest, "").await.status.is_success());
        for socket in [&mut shell, &mut watcher] {
            assert_eq!(until_closed(socket).await, 1008, "{method}");
        }
        assert!(client.shell(SESSION, "main").await.is_err());
        // Gone for good after the second round.
        if method == "POST" {
            assert_eq!(ask(&server, &root, "POST", &format!("/{id}/enable"), "").await.status, 200);
        }
    }
    own.input(b"echo st''ill\n").await.unwrap();
    own.read_until("still\r\n").await.unwrap();
}

async fn until_closed(socket: &mut ShellSocket) -> u16 {
    loop {
        if let ShellEvent::Closed(code) = within("socket closes", LIMIT, socket.next()).await.unwrap() {
            return code;
        }
    }
}

#[tokio::test]
async fn two_keys_cannot_lock_each_other_out() {
    let server = InProcess::start("").await;
    let root = server.root();
    let (_, user) = create(&server, "ci").await;
    let ids = [&root, &user].map(|signer| signer.credentials.access_key_id.clone());
    for round in 0..10 {
        let [first, second] = ids.each_ref().map(|id| format!("/{id}/disable"));
        tokio::join!(ask(&server, &user, "POST", &first, ""), ask(&server, &root, "POST", &second, ""));
        let open = [status(&server, &root).await, status(&server, &user).await];
        assert!(open == [200, 403] || open == [403, 200], "round {round}: {open:?}");
        let (left, other) = if open[0] == 200 { (&root, &ids[1]) } else { (&user, &ids[0]) };
        assert_eq!(ask(&server, left, "POST", &format!("/{other}/enable"), "").await.status, 200);
    }
}

#[tokio::test]
async fn no_file_of_the_server_tells_a_secret() {
    let server = InProcess::start("").await;
    let (_, user) = create(&server, "ci").await;
    assert_eq!(status(&server, &user).await, 200);
    let mut files = Vec::new();
    read_tree(server.data_dir(), &mut files);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"clamshell.db") && names.contains(&"clamshell.db-wal"), "{names:?}");
    for signer in [server.root(), user] {
        let secret = signer.credentials.secret_access_key;
        let id = signer.credentials.access_key_id;
        let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(
            files.iter().any(|(_, bytes)| has(bytes, &id)),
            "the id is stored, or this test looks at nothing"
        );
        for (name, bytes) in &files {
            assert!(!has(bytes, &secret), "{name}");
        }
    }
}

fn read_tree(folder: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            read_tree(&entry.path(), files);
        } else if kind.is_file() {
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push((name, std::fs::read(entry.path()).unwrap()));
        }
    }
}
