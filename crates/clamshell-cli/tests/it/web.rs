//! `clamshell web` in front of a real server: what its users see, and what they do not notice.

#![expect(clippy::panic, reason = "what should not come fails the test")]

use std::{path::Path, time::Duration};

use clamshell_term::{frame::ShellFrame, status::Status};
use clamshell_testkit::{Client, ServerProcess, ShellEvent, ShellSocket, eventually};
use clamshell_wire::sigv4::Credentials;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_clamshell");
const SESSION: &str = "web-session-of-the-tests-000000000001";
/// A line of the counter that most tests run.
const COUNT: &str =
    "i=0; while [ $i -lt 400 ]; do i=$((i+1)); echo \"line-$i.\"; sleep 0.02; done; echo all''done\n";

struct Scene {
    upstream: ServerProcess,
    web: ServerProcess,
    client: Client,
}

/// A server, and the web terminal in front of it; `configuration` is the server's.
async fn scene(configuration: &str) -> Scene {
    let upstream = ServerProcess::start(Path::new(PROGRAM), configuration).await.unwrap();
    let data_dir = upstream.data_dir().to_str().unwrap().to_owned();
    let flags = ["--data-dir", data_dir.as_str(), "--runtime", "default"];
    let web = ServerProcess::start_web(Path::new(PROGRAM), "", &flags).await.unwrap();
    let client = web.client().await.unwrap();
    Scene { upstream, web, client }
}

/// Attaches and reads what is said before the output: the first offset and that of the run.
async fn attach(client: &Client, shell: &str, query: &str) -> (ShellSocket, u64, u64) {
    let mut socket = client.attach(SESSION, shell, &format!("window=262144&{query}")).await.unwrap();
    let ShellEvent::Status(Status::Confirmed { offset: Some(offset), .. }) = socket.next().await.unwrap()
    else {
        panic!("no confirmation");
    };
    let ShellEvent::Status(Status::Run { offset: run, .. }) = socket.next().await.unwrap() else {
        panic!("the run was not told");
    };
    (socket, offset, run)
}

async fn open(client: &Client, shell: &str) -> ShellSocket {
    let (mut socket, ..) = attach(client, shell, "create=true&from=end").await;
    socket.input(b"stty -echo; PS1=; echo re''ady\n").await.unwrap();
    socket.read_until("ready\r\n").await.unwrap();
    socket
}

/// Reads to the end of the counter and checks that every line came once.
async fn count_all(socket: &mut ShellSocket, mut seen: Vec<u8>) {
    let mut consumed = seen.len() as u64;
    while !seen.windows(9).any(|window| window == b"alldone\r\n") {
        let event = tokio::time::timeout(Duration::from_secs(60), socket.next()).await;
        match event.unwrap_or_else(|_| panic!("nothing more after {}", tail(&seen))).unwrap() {
            ShellEvent::Output(bytes) => {
                seen.extend_from_slice(&bytes);
                consumed += bytes.len() as u64;
                socket.send(&ShellFrame::Consumed(consumed)).await.unwrap();
            }
            ShellEvent::Status(_) | ShellEvent::Notice(_) | ShellEvent::Heartbeat => {}
            other => panic!("{other:?} after {}", tail(&seen)),
        }
    }
    let text = String::from_utf8(seen).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("line-")).collect();
    let expect: Vec<String> = (1..=400).map(|number| format!("line-{number}.")).collect();
    assert_eq!(lines, expect, "every line once, in order");
}

fn tail(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(200)..]).into_owned()
}

async fn get(client: &Client, path: &str) -> (u16, Value) {
    let reply = client.request("GET", path, &[], b"").await.unwrap();
    (reply.status.as_u16(), reply.json())
}

async fn shells(client: &Client) -> Vec<Value> {
    let (status, body) = get(client, "/clamshell/v1/shells").await;
    assert_eq!(status, 200, "{body}");
    body["shells"].as_array().unwrap().clone()
}

#[tokio::test]
async fn e2e_web_brings_a_page_back_to_the_byte() {
    let Scene { client, upstream: _upstream, web: _web } = scene("").await;
    let mut socket = open(&client, "one").await;
    socket.input(b"echo $((6*7))-first\n").await.unwrap();
    let seen = socket.read_until("42-first\r\n").await.unwrap();
    assert!(!seen.is_empty());
    let shell = shells(&client).await.remove(0);
    assert_eq!(shell["state"], "Attached");
    let (offset, run) = (shell["endOffset"].as_u64().unwrap(), shell["runOffset"].as_u64().unwrap());
    socket.cut();
    // What is printed meanwhile is there when the page comes back, and nothing else.
    let (mut other, ..) = attach(&client, "one", "from=end").await;
    other.input(b"echo $((6*7))-second\n").await.unwrap();
    other.read_until("42-second\r\n").await.unwrap();
    let (mut back, first, its_run) = attach(&client, "one", &format!("from=offset:{offset}")).await;
    assert_eq!((first, its_run), (offset, run));
    let again = back.read_until("42-second\r\n").await.unwrap();
    assert!(!String::from_utf8_lossy(&again).contains("first"), "{}", tail(&again));
    // From nowhere known it is painted.
    let (mut painted, ..) = attach(&client, "one", "from=offset:5").await;
    assert!(matches!(painted.next().await.unwrap(), ShellEvent::Status(Status::Screen { .. })));
    painted.read_until("42-second").await.unwrap();
}

#[tokio::test]
async fn e2e_web_hides_the_end_of_a_connections_time() {
    let Scene { client, upstream, web: _web } = scene("[shells]\nconnection_ttl_s = 2\n").await;
    let mut socket = open(&client, "hour").await;
    socket.input(COUNT.as_bytes()).await.unwrap();
    count_all(&mut socket, Vec::new()).await;
    // It takes 8 s and more: the server has ended the connection several times.
    assert!(upstream.log_tail().matches("shell request").count() >= 3, "{}", upstream.log_tail());
}

#[tokio::test]
async fn e2e_web_outlives_its_endpoint() {
    let Scene { client, mut upstream, web: _web } = scene("").await;
    let mut socket = open(&client, "crash").await;
    socket.input(COUNT.as_bytes()).await.unwrap();
    let mut seen = socket.read_until("line-50.").await.unwrap();
    upstream.kill_9().unwrap();
    upstream.start_again().await.unwrap();
    // The last line may be cut where the connection was.
    let event = socket.next().await.unwrap();
    if let ShellEvent::Output(bytes) = event {
        seen.extend_from_slice(&bytes);
    }
    count_all(&mut socket, seen).await;
}

/// Numbers that look random, the same for the same seed (splitmix64).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }
}

/// What the endpoint itself has of a shell's output, from an offset of its own on.
async fn reference(upstream: &ServerProcess, shell: &str) -> Vec<u8> {
    let path = format!("/clamshell/v1/sessions/{SESSION}/shells/{shell}/log");
    let reply = upstream.client().await.unwrap().request("GET", &path, &[], b"").await.unwrap();
    assert_eq!(reply.status.as_u16(), 200);
    reply.body.to_vec()
}

#[tokio::test]
async fn e2e_web_goes_on_at_the_byte_wherever_it_is_killed() {
    const END: &[u8] = b"alldone\r\n";
    let Scene { client, upstream, mut web } = scene("").await;
    let mut random = Seeded(20);
    let (mut socket, first, first_run) = attach(&client, "killed", "create=true&from=end").await;
    assert_eq!(first, first_run, "nothing was printed before");
    // 1.5 MB, longer than a replay, in bursts, on the screen and beside it.
    let program = "stty -echo; PS1=; for i in $(seq 1 60); do seq $((i*10000)) $((i*10000+2999)); \
                   printf '\\033[2J\\033[3;4Hkilled %s' $i; sleep 0.1; done; echo all''done\n";
    socket.input(program.as_bytes()).await.unwrap();
    let (mut seen, mut kills) = (Vec::new(), 0);
    let mut next_kill = 1000;
    let is_over =
        |seen: &[u8]| seen[seen.len().saturating_sub(100)..].windows(END.len()).any(|last| last == END);
    while !is_over(&seen) {
        let mut consumed = 0;
        loop {
            let event = tokio::time::timeout(Duration::from_secs(60), socket.next()).await;
            match event.unwrap_or_else(|_| panic!("nothing more after {}", tail(&seen))).unwrap() {
                ShellEvent::Output(bytes) => {
                    seen.extend_from_slice(&bytes);
                    consumed += bytes.len() as u64;
                    socket.send(&ShellFrame::Consumed(consumed)).await.unwrap();
                }
                ShellEvent::Status(_) | ShellEvent::Heartbeat => {}
                other => panic!("{other:?} after {}", tail(&seen)),
            }
            if is_over(&seen) || (kills < 8 && seen.len() >= next_kill) {
                break;
            }
        }
        if is_over(&seen) {
            break;
        }
        web.kill_9().unwrap();
        web.start_again().await.unwrap();
        kills += 1;
        next_kill = seen.len() + random.below(300_000);
        let offset = first + seen.len() as u64;
        let (back, its_first, its_run) = attach(&client, "killed", &format!("from=offset:{offset}")).await;
        assert_eq!((its_first, its_run), (offset, first_run), "the count goes on after kill {kills}");
        socket = back;
    }
    assert!(kills >= 4, "{kills}");
    let expect = reference(&upstream, "killed").await;
    let differs = seen.iter().zip(&expect).position(|(mine, other)| mine != other);
    assert_eq!(differs, None, "every byte once, in order");
    assert!(seen.len() <= expect.len(), "and no more");
}

#[tokio::test]
async fn e2e_web_passes_input_on_once_wherever_it_is_killed() {
    const LINES: usize = 200;
    let Scene { client, upstream: _upstream, mut web } = scene("").await;
    let mut random = Seeded(21);
    let mut first = open(&client, "typed").await;
    // It says nothing while it is typed to.
    let program = "echo rea''ding; while read -r line && [ $line != end ]; do all=\"$all $line\"; done; echo got:$all.\n";
    first.input(program.as_bytes()).await.unwrap();
    first.read_until("reading\r\n").await.unwrap();
    first.cut();
    let typed: Vec<String> = (1..=LINES).map(|number| format!("{number}\n")).collect();
    let all = typed.concat();
    let mut told_of_doubt = false;
    let mut sent = 0;
    let mut socket = None;
    while sent < typed.len() || socket.is_none() {
        let page = match &mut socket {
            Some(page) => page,
            None => {
                let query = "window=262144&from=end&writer=the-page";
                let mut page = client.attach(SESSION, "typed", query).await.unwrap();
                // Where to go on is said before anything is sent.
                loop {
                    match page.next().await.unwrap() {
                        ShellEvent::Status(Status::Typed { bytes, .. }) => {
                            let bytes = usize::try_from(bytes).unwrap();
                            page.input(&all.as_bytes()[bytes..typed[..sent].concat().len()]).await.unwrap();
                        }
                        ShellEvent::Status(Status::Run { .. }) => break,
                        ShellEvent::Status(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
                // A notice, if there is one, comes at once.
                if let Ok(Ok(ShellEvent::Notice(text))) =
                    tokio::time::timeout(Duration::from_millis(100), page.next()).await
                {
                    told_of_doubt |= text.contains("may be lost");
                }
                socket.insert(page)
            }
        };
        let count = (1 + random.below(12)).min(typed.len() - sent);
        for line in &typed[sent..sent + count] {
            page.input(line.as_bytes()).await.unwrap();
        }
        sent += count;
        if random.below(3) == 0 && sent < typed.len() {
            web.kill_9().unwrap();
            web.start_again().await.unwrap();
            socket = None;
        }
    }
    let mut page = socket.unwrap();
    page.input(b"end\n").await.unwrap();
    let seen = String::from_utf8(page.read_until(".\r\n").await.unwrap()).unwrap();
    let got: Vec<usize> = seen
        .split_once("got:")
        .and_then(|(_, rest)| rest.split_once(".\r\n"))
        .unwrap()
        .0
        .split_whitespace()
        .map(|line| line.parse().unwrap_or_else(|_| panic!("{seen:?}")))
        .collect();
    if told_of_doubt {
        // A kill between the note and the socket: nothing comes twice, and the gap was told.
        assert!(got.is_sorted_by(|a, b| a < b), "{got:?}");
    } else {
        assert_eq!(got, (1..=LINES).collect::<Vec<_>>(), "every line once, in order");
    }
}

#[tokio::test]
async fn e2e_web_comes_back_after_its_own_end() {
    let Scene { client, upstream, mut web } = scene("").await;
    let mut socket = open(&client, "mine").await;
    socket.input(b"kept=$((40+2))\n").await.unwrap();
    socket.input(b"echo x-$kept\n").await.unwrap();
    socket.read_until("x-42\r\n").await.unwrap();
    let (_, _, run) = attach(&client, "mine", "from=end").await;
    web.kill_9().unwrap();
    web.start_again().await.unwrap();
    let listed = shells(&client).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["state"], "Detached");
    assert_eq!((&listed[0]["title"], &listed[0]["isDefaultTitle"]), (&json!("default 1"), &json!(true)));
    let (mut back, _, its_run) = attach(&client, "mine", "from=screen").await;
    assert_eq!(its_run, run, "the program is the same");
    back.input(b"echo y-$kept\n").await.unwrap();
    back.read_until("y-42\r\n").await.unwrap();

    // With what it knew gone, it counts anew, and pages are told that by the run.
    web.kill_9().unwrap();
    for file in std::fs::read_dir(web.data_dir().join("shells")).unwrap() {
        std::fs::remove_file(file.unwrap().path()).unwrap();
    }
    web.start_again().await.unwrap();
    let (mut back, _, its_run) = attach(&client, "mine", "from=screen").await;
    assert!(its_run > run, "offsets of another process are others");
    back.input(b"echo z-$kept\n").await.unwrap();
    back.read_until("z-42\r\n").await.unwrap();

    // The trail names what was attached to by the endpoint's names.
    let (_, audit) = get(&client, "/clamshell/v1/audit").await;
    let runtime = upstream.info().unwrap().default_runtime_arn;
    let attached: Vec<&Value> = audit["records"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|record| record["action"] == "clamshell:AttachShell")
        .collect();
    assert!(!attached.is_empty(), "{audit}");
    for record in attached {
        assert_eq!(record["resource"], format!("{runtime}/runtime-endpoint/DEFAULT"), "{record}");
    }
}

#[tokio::test]
async fn e2e_web_does_not_start_a_stopped_session_again() {
    let Scene { client, upstream, web: _web } = scene("").await;
    let _page = open(&client, "stopped").await;
    let path = format!("/clamshell/v1/sessions/{SESSION}/stop");
    let stopped = client.request("POST", &path, &[], b"").await.unwrap();
    assert_eq!(stopped.status.as_u16(), 200, "{}", stopped.json());
    eventually("nothing connects to it any more", Duration::from_secs(20), async || {
        let shell = shells(&client).await.remove(0);
        if shell["state"] == "Ended" && shell["connected"] == false { Ok(()) } else { Err(shell) }
    })
    .await;
    let there = upstream.client().await.unwrap();
    let (status, session) = get(&there, &format!("/clamshell/v1/sessions/{SESSION}")).await;
    assert_eq!((status, &session["state"]), (200, &json!("Stopped")), "{session}");
}

#[tokio::test]
async fn e2e_web_leaves_room_for_others() {
    let upstream = ServerProcess::start(Path::new(PROGRAM), "").await.unwrap();
    let data_dir = upstream.data_dir().to_str().unwrap().to_owned();
    let flags = ["--data-dir", data_dir.as_str(), "--runtime", "default"];
    for (limits, expect) in [
        (
            "connected_per_user = 2\nshells_per_user = 3",
            ["2 of your shells are connected", "connected_per_user"],
        ),
        ("connected_per_user = 3\nshells_per_user = 2", ["You have 2 shells", "shells_per_user"]),
    ] {
        let configuration = format!("[web]\n{limits}\n");
        let web = ServerProcess::start_web(Path::new(PROGRAM), &configuration, &flags).await.unwrap();
        let client = web.client().await.unwrap();
        let (_one, _two) = (open(&client, "one").await, open(&client, "two").await);
        for shell in ["three", "four"] {
            let error = client.attach(SESSION, shell, "create=true").await.unwrap_err().to_string();
            assert!(expect.iter().all(|part| error.contains(part)), "{limits}: {error}");
        }
        assert_eq!(shells(&client).await.len(), 2, "what was refused is no shell");
    }
}

#[tokio::test]
async fn e2e_web_tells_how_a_shell_ended_and_closes_those_that_are_left() {
    let Scene { client, upstream, web: _web } = scene("").await;
    let mut socket = open(&client, "ends").await;
    socket.input(b"exit 7\n").await.unwrap();
    let mut seen = Vec::new();
    loop {
        match socket.next().await.unwrap() {
            ShellEvent::Closed(code) => {
                seen.push(format!("{code}"));
                break;
            }
            ShellEvent::Status(Status::Exited { code, .. }) => seen.push(format!("exit {code}")),
            _ => {}
        }
    }
    assert_eq!(seen, ["exit 7", "1000"]);
    eventually("the end is noted", Duration::from_secs(10), async || {
        let shell = shells(&client).await.remove(0);
        if shell["state"] == "Ended" && shell["exitCode"] == 7 { Ok(()) } else { Err(shell) }
    })
    .await;
    // One that nobody looks at any more is ended by its owner.
    open(&client, "orphan").await.cut();
    let path = format!("/clamshell/v1/sessions/{SESSION}/shells/orphan");
    let closed = client.request("DELETE", &path, &[], b"").await.unwrap();
    assert_eq!(closed.status.as_u16(), 204);
    let there = upstream.client().await.unwrap();
    eventually("the endpoint's shell ends", Duration::from_secs(20), async || {
        let (_, body) = get(&there, &path).await;
        if body["state"] == "Ended" { Ok(()) } else { Err(body) }
    })
    .await;
}

#[tokio::test]
async fn e2e_web_keeps_users_apart_and_lets_one_write_at_a_time_when_asked() {
    let Scene { client, upstream: _upstream, web: _web } = scene("").await;
    let mut mine = open(&client, "mine").await;
    let made =
        client.request("POST", "/clamshell/v1/keys", &[], br#"{"userName":"eve"}"#).await.unwrap().json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let credentials = Credentials {
        access_key_id: text("accessKeyId"),
        secret_access_key: text("secretAccessKey"),
        session_token: None,
    };
    let eve = Client { credentials, ..client.clone() };
    assert_eq!(shells(&eve).await, Vec::<Value>::new());
    for (shell, query) in [("mine", "access=watch"), ("mine", "create=true"), ("other", "create=true")] {
        let error = eve.attach(SESSION, shell, query).await.unwrap_err().to_string();
        assert!(error.starts_with("404"), "{shell} {query}: {error}");
    }
    for (method, path) in [
        ("DELETE", format!("/clamshell/v1/sessions/{SESSION}/shells/mine")),
        ("POST", format!("/clamshell/v1/sessions/{SESSION}/stop")),
    ] {
        let reply = eve.request(method, &path, &[], b"").await.unwrap();
        assert_eq!(reply.status.as_u16(), 404, "{method} {path}");
    }

    // Whoever watches cannot type; whoever takes over sends the others away.
    let (mut watcher, ..) = attach(&client, "mine", "from=end&access=watch").await;
    watcher.input(b"echo from-the-watcher\n").await.unwrap();
    mine.input(b"echo from-the-''writer\n").await.unwrap();
    let seen = watcher.read_until("from-the-writer\r\n").await.unwrap();
    assert!(!String::from_utf8_lossy(&seen).contains("watcher"), "{}", tail(&seen));
    let (mut second, ..) = attach(&client, "mine", "from=end&takeover=true").await;
    let code = loop {
        if let ShellEvent::Closed(code) = mine.next().await.unwrap() {
            break code;
        }
    };
    assert_eq!(code, 4000);
    second.input(b"echo still-''there\n").await.unwrap();
    second.read_until("still-there\r\n").await.unwrap();
}

#[tokio::test]
async fn e2e_web_serves_nothing_but_terminals() {
    let Scene { client, upstream: _upstream, web: _web } = scene("").await;
    let (status, server) = get(&client, "/clamshell/v1/server").await;
    assert_eq!((status, &server["driver"]), (200, &json!("web")));
    for (method, path) in [
        ("POST", client.runtime_path("invocations")),
        ("GET", client.runtime_path("ws/shells")),
        ("POST", "/runtimes/".to_owned()),
        ("GET", "/clamshell/v1/sessions".to_owned()),
        ("GET", format!("/clamshell/v1/sessions/{SESSION}/files?path=/")),
        ("POST", format!("/clamshell/v1/sessions/{SESSION}/commands")),
    ] {
        let reply = client.request(method, &path, &[], b"").await.unwrap();
        assert_eq!(reply.status.as_u16(), 404, "{method} {path}: {}", reply.json());
    }
}
