//! Share links: good for one shell, for as long as they are there, and never for more than their maker may do. Taking a
//! shell over.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use clamshell_domain::{Clock, SystemClock};
use clamshell_testkit::{Client, ShellEvent, ShellSocket, within};
use clamshell_wire::headers;
use serde_json::{Value, json};

use crate::{
    access::user,
    calls::{Call, SESSION},
    in_process::{InProcess, LIMIT, sandboxes},
};

/// The machine's clock, and so much later.
#[derive(Default)]
struct LaterClock(AtomicU64);

impl Clock for LaterClock {
    fn now_ms(&self) -> u64 {
        SystemClock.now_ms() + self.0.load(Ordering::Acquire)
    }
}

async fn closed(socket: &mut ShellSocket) -> u16 {
    let wait = async {
        loop {
            if let ShellEvent::Closed(code) = socket.next().await.unwrap() {
                return code;
            }
        }
    };
    within("close", LIMIT, wait).await
}

fn shell_path(tail: &str) -> String {
    format!("/clamshell/v1/sessions/{SESSION}/shells/build{tail}")
}

/// A link and its token.
async fn share(server: &InProcess, body: &Value) -> (String, String) {
    let call = Call::new("POST", shell_path("/shares")).body(body.to_string()).signed(&server.root());
    let reply = call.send(&server.client).await;
    assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
    let share = reply.json();
    let url = share["url"].as_str().unwrap();
    let token = url.strip_prefix(&format!("http://{}/console/share#", server.client.authority)).unwrap();
    assert_eq!(token.len(), 43);
    (share["shareId"].as_str().unwrap().to_owned(), token.to_owned())
}

/// An upgrade as a browser makes it: the token is a subprotocol. Whose signature comes along does not matter.
async fn open(server: &InProcess, token: &str, query: &str) -> Result<ShellSocket, String> {
    let protocols = format!("clamshell.v1, clamshell.share.{token}");
    let path = shell_path(&format!("/attach?{query}"));
    let opened = server.client.upgrade(&path, &[("sec-websocket-protocol", &protocols)]).await;
    opened.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_link_is_good_for_its_shell_and_nothing_else() {
    if sandboxes().is_none() {
        return;
    }
    let clock = Arc::new(LaterClock::default());
    let server = InProcess::start_at("", Arc::clone(&clock) as Arc<dyn Clock>).await;
    let mut owner = server.client.attach(SESSION, "build", "create=true").await.unwrap();
    owner.input(b"echo o''ne\n").await.unwrap();
    owner.read_until("one").await.unwrap();
    let other = server.client.attach(SESSION, "other", "create=true").await.unwrap();
    let (watch_id, watch) = share(&server, &json!({ "access": "watch", "expiresInSeconds": 60 })).await;
    let (_, write) = share(&server, &json!({ "access": "write" })).await;

    // What its holder is told, and what it may call.
    let call =
        |method: &str, path: &str, token: &str| Call::new(method, path).header("x-clamshell-share", token);
    let current = call("GET", "/clamshell/v1/shares/current", &watch).send(&server.client).await;
    let mut told = current.json();
    assert!(told["expiresAt"].take().as_str().unwrap().ends_with('Z'));
    let expect = json!({
        "runtimeArn": server.client.runtime_arn, "runtimeName": "default", "qualifier": "DEFAULT",
        "sessionId": SESSION, "shellId": "build", "access": "watch",
        "expiresAt": null, "title": "default 1", "isDefaultTitle": true,
    });
    assert_eq!((current.status.as_u16(), told), (200, expect));
    let screen = call("GET", &shell_path("/screen"), &watch).send(&server.client).await;
    assert_eq!(screen.status, 200);
    assert!(String::from_utf8_lossy(&screen.body).contains("one"));
    let other_shell = format!("/clamshell/v1/sessions/{SESSION}/shells/other/screen");
    for (method, path) in [
        ("GET", other_shell.as_str()),
        ("GET", &shell_path("")),
        ("GET", &shell_path("/log")),
        ("DELETE", &shell_path("")),
        ("GET", &shell_path("/shares")),
        ("POST", &shell_path("/shares")),
        ("GET", "/clamshell/v1/sessions"),
        ("GET", "/clamshell/v1/events"),
        ("DELETE", &format!("/clamshell/v1/shares/{watch_id}")),
        ("POST", "/runtimes/"),
        ("GET", &shell_path("/screen?qualifier=other")),
        ("GET", &shell_path("/screen?runtime=nothing")),
    ] {
        let reply = call(method, path, &write).send(&server.client).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header(headers::ERROR_TYPE)),
            (403, "AccessDeniedException"),
            "{path}"
        );
    }
    for query in [
        "access=write",
        "",
        "access=watch&create=true",
        "access=watch&takeover=true",
        "access=watch&keep=true",
    ] {
        let reply = call("GET", &shell_path(&format!("/attach?{query}")), &watch).upgrade_without("");
        assert_eq!(reply.send(&server.client).await.status, 403, "{query}");
    }
    // Not from other pages, nor under other names.
    let authority = server.client.authority.clone();
    for (name, value, status) in [
        ("origin", "http://evil.example".to_owned(), 403),
        ("origin", "null".to_owned(), 403),
        ("host", "evil.example".to_owned(), 403),
        ("origin", format!("http://{authority}"), 200),
    ] {
        let call = call("GET", "/clamshell/v1/shares/current", &watch).header(name, &value);
        assert_eq!(call.send(&server.client).await.status, status, "{name}: {value}");
    }
    for token in ["", "x", &"A".repeat(43), &"A".repeat(100)] {
        let reply = call("GET", "/clamshell/v1/shares/current", token).send(&server.client).await;
        assert_eq!(reply.status, 403, "{token}");
    }

    // Watch and write.
    let mut watcher = open(&server, &watch, "access=watch").await.unwrap();
    assert_eq!(watcher.headers["sec-websocket-protocol"], "clamshell.v1");
    let mut writer = open(&server, &write, "access=write&from=end").await.unwrap();
    watcher.input(b"echo n''ever\n").await.unwrap();
    writer.input(b"echo t''wo\n").await.unwrap();
    let seen = watcher.read_until("two").await.unwrap();
    assert!(!String::from_utf8_lossy(&seen).contains("never"));

    // The list has no token, the trail neither.
    let listed =
        Call::new("GET", shell_path("/shares")).signed(&server.root()).send(&server.client).await.json();
    assert_eq!(listed["shares"].as_array().unwrap().len(), 2);
    let trail = crate::audit::records(&server, "?action=clamshell:AttachShell").await.to_string();
    for token in [&watch, &write] {
        assert!(!listed.to_string().contains(token.as_str()) && !trail.contains(token.as_str()));
    }
    assert!(trail.contains("\"via\":\"share\""), "{trail}");

    // Removed and expired.
    let remove = |id: &str| Call::new("DELETE", format!("/clamshell/v1/shares/{id}")).signed(&server.root());
    assert_eq!(remove(&watch_id).send(&server.client).await.status, 204);
    assert_eq!(closed(&mut watcher).await, 1008);
    assert_eq!(remove(&watch_id).send(&server.client).await.status, 404);
    assert!(open(&server, &watch, "access=watch").await.is_err());
    clock.0.fetch_add(3_600_000, Ordering::AcqRel);
    let reply = call("GET", "/clamshell/v1/shares/current", &write).send(&server.client).await;
    assert_eq!(reply.status, 403, "expired");
    // Looked at when a link is used next, at the latest after a minute.
    let (_, third) = share(&server, &json!({})).await;
    let third = open(&server, &third, "access=watch").await.unwrap();
    assert_eq!(closed(&mut writer).await, 1008);
    drop((third, other, owner));

    for (body, status) in [
        (json!({ "access": "own" }), 400),
        (json!({ "expiresInSeconds": 59 }), 400),
        (json!({ "expiresInSeconds": 2_592_001 }), 400),
        (json!({ "more": 1 }), 400),
    ] {
        let call = Call::new("POST", shell_path("/shares")).body(body.to_string()).signed(&server.root());
        assert_eq!(call.send(&server.client).await.status, status, "{body}");
    }
}

#[tokio::test]
async fn a_link_ends_with_the_rights_of_its_maker() {
    if sandboxes().is_none() {
        return;
    }
    let server = InProcess::start("").await;
    let owner = server.client.attach(SESSION, "build", "create=true").await.unwrap();
    let statements = json!([{
        "Effect": "Allow", "Resource": "*",
        "Action": ["clamshell:CreateShare", "clamshell:WatchShell", "clamshell:ListShells"],
    }]);
    let maker = user(&server, "maker", &statements).await;
    let make = async |body: Value| {
        let call = Call::new("POST", shell_path("/shares")).body(body.to_string()).signed(&maker);
        call.send(&server.client).await
    };
    let refused = make(json!({ "access": "write" })).await;
    assert_eq!(refused.status, 403, "nobody gives what they do not have");
    let made = make(json!({ "access": "watch" })).await;
    assert_eq!(made.status, 201);
    let url = made.json()["url"].as_str().unwrap().to_owned();
    let token = url.split_once('#').unwrap().1.to_owned();
    let mut watcher = open(&server, &token, "access=watch").await.unwrap();
    let path = "/clamshell/v1/users/maker/policies/test";
    let taken = Call::new("DELETE", path).signed(&server.root()).send(&server.client).await;
    assert_eq!(taken.status, 204);
    assert_eq!(closed(&mut watcher).await, 1008);
    assert!(open(&server, &token, "access=watch").await.is_err());
    let current = Call::new("GET", "/clamshell/v1/shares/current").header("x-clamshell-share", &token);
    assert_eq!(current.send(&server.client).await.status, 403);
    drop(owner);
}

#[tokio::test]
async fn who_only_watches_starts_nothing() {
    if sandboxes().is_none() {
        return;
    }
    let server = InProcess::start("").await;
    let owner = server.client.attach(SESSION, "build", "create=true").await.unwrap();
    let statements = json!([{ "Effect": "Allow", "Resource": "*", "Action": ["clamshell:WatchShell"] }]);
    let viewer = user(&server, "viewer", &statements).await;
    for (shell, query, status) in [
        ("build", "create=true", 403),
        ("other", "create=true", 403),
        ("other", "access=watch", 404),
        ("other", "access=watch&create=true", 404),
        ("other", "access=watch&create=true&command=shell&keep=true", 404),
    ] {
        let path = format!("/clamshell/v1/sessions/{SESSION}/shells/{shell}/attach?{query}");
        let call = Call::new("GET", path).signed(&viewer).upgrade_without("");
        assert_eq!(call.send(&server.client).await.status, status, "{shell} {query}");
    }
    let path = format!("/clamshell/v1/sessions/{SESSION}/shells");
    let listed = Call::new("GET", path).signed(&server.root()).send(&server.client).await.json();
    assert_eq!(listed["shells"].as_array().map(Vec::len), Some(1), "{listed}");
    drop(owner);
}

#[tokio::test]
async fn who_takes_over_is_alone() {
    if sandboxes().is_none() {
        return;
    }
    let server = InProcess::start("").await;
    let client: &Client = &server.client;
    let mut aws = client.shell(SESSION, "build").await.unwrap();
    let mut equal = client.attach(SESSION, "build", "").await.unwrap();
    let mut watcher = client.attach(SESSION, "build", "access=watch").await.unwrap();
    equal.input(b"echo e''qual\n").await.unwrap();
    aws.read_until("equal").await.unwrap();
    let mut taker = client.attach(SESSION, "build", "takeover=true").await.unwrap();
    assert_eq!(closed(&mut aws).await, 4000);
    assert_eq!(closed(&mut equal).await, 4000);
    taker.input(b"echo al''one\n").await.unwrap();
    watcher.read_until("alone").await.unwrap();
    taker.read_until("alone").await.unwrap();
    for (query, ok) in
        [("access=watch&takeover=true", false), ("takeover=maybe", false), ("takeover=false", true)]
    {
        assert_eq!(client.attach(SESSION, "build", query).await.is_ok(), ok, "{query}");
    }
    // One that fails evicts nobody.
    assert!(client.attach(SESSION, "nothing", "takeover=true").await.is_err());
    taker.input(b"echo st''ill\n").await.unwrap();
    taker.read_until("still").await.unwrap();
}
