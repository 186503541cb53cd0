//! Guests that lie, stay mute or leave traps in their folders, and callers that hang up half-way: the server and every
//! other session go on.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Instant,
};

use clamshell_protocol::{Decoder, ErrorCode, Frame, Reply, Request, ShellInfo, ShellOpened, WireError};
use clamshell_testkit::{ShellEvent, eventually, within};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixListener, UnixStream},
    task::JoinSet,
};

use crate::{
    calls::{Call, command},
    in_process::{InProcess, LIMIT, sandboxes},
};

fn session_id(number: usize) -> String {
    format!("session-of-a-hostile-guest-{number:010}")
}

/// Starts a session and gives its folder.
async fn session(server: &InProcess, number: usize) -> PathBuf {
    let id = session_id(number);
    let outcome = server.client.command(&id, &format!("touch /mnt/workspace/{id}"), 60).await.unwrap();
    assert_eq!(outcome.stop, Some((0, "COMPLETED".to_owned())));
    // Beside those of sessions lies one that was made ahead.
    let folders = std::fs::read_dir(server.data_dir().join("sessions")).unwrap().flatten();
    folders.map(|entry| entry.path()).find(|folder| folder.join("workspace").join(&id).exists()).unwrap()
}

/// What a guest of the test says to a request; then it says nothing, and does not hang up.
type Answers = fn(&Request) -> Vec<Frame>;

/// Takes the place of a session's guest.
fn replace_guest(folder: &Path, answers: Answers) -> JoinSet<()> {
    let socket = folder.join("run/guest.sock");
    std::fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(answer(stream, answers));
        }
    });
    tasks
}

async fn answer(mut stream: UnixStream, answers: Answers) {
    let mut decoder = Decoder::new();
    let mut buffer = vec![0; 65_536];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        decoder.extend(&buffer[..count]);
        while let Ok(Some(frame)) = decoder.next_frame() {
            let Frame::Request(request) = frame else { continue };
            for frame in answers(&request) {
                let _ = stream.write_all(&frame.to_bytes()).await;
            }
        }
    }
}

fn extension(method: &str, path: &str) -> Call {
    Call::new(method, format!("/clamshell/v1{path}"))
}

async fn status(server: &InProcess, method: &str, path: &str) -> u16 {
    let call = extension(method, path).signed(&server.root());
    within(path, LIMIT, call.send(&server.client)).await.status.as_u16()
}

#[tokio::test]
async fn mute_guests_keep_nobody_waiting_for_long() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let mut guests = Vec::new();
    for number in 0..3 {
        guests.push(replace_guest(&session(&server, number).await, |_| Vec::new()));
    }
    let start = Instant::now();
    assert_eq!(status(&server, "GET", "/shells").await, 200);
    assert!(start.elapsed().as_secs() < 20, "three that do not answer cost one wait: {:?}", start.elapsed());
    assert_eq!(status(&server, "POST", &format!("/sessions/{}/stop", session_id(0))).await, 200);
    assert_eq!(status(&server, "DELETE", &format!("/sessions/{}", session_id(1))).await, 204);
    assert_eq!(status(&server, "GET", &format!("/sessions/{}", session_id(1))).await, 404);
    drop(guests);
}

fn lies(request: &Request) -> Vec<Frame> {
    let opened = ShellOpened {
        created: false,
        run_offset: u64::MAX,
        start_offset: u64::MAX,
        end_offset: 0,
        from_offset: u64::MAX,
        seen_offset: 0,
        dropped_bytes: u64::MAX,
        cols: 0,
        rows: u16::MAX,
        tells_answers: false,
    };
    let shell = |shell_id: &str| ShellInfo {
        shell_id: shell_id.to_owned(),
        pid: u32::MAX,
        argv: vec!["\u{1b}[2J".repeat(1000)],
        cols: 0,
        rows: 0,
        created_at_ms: u64::MAX,
        last_output_at_ms: u64::MAX,
        start_offset: u64::MAX,
        run_offset: u64::MAX,
        end_offset: 0,
        writers: u32::MAX,
        watchers: u32::MAX,
        detached_at_ms: Some(u64::MAX),
        keep: true,
        exit: None,
    };
    let reply = |reply| Frame::Reply(Box::new(reply));
    match request {
        Request::Shell { create: None, .. } => vec![reply(Reply::Shell(opened))],
        Request::Shell { .. } => {
            let gap = Frame::Gap { from: 0, to: u64::MAX };
            vec![reply(Reply::Shell(opened)), gap.clone(), gap, Frame::Stdout(b"lie".to_vec())]
        }
        Request::ShellList => {
            let ids = ["../../../etc", "", "fine", "fine"].map(shell).into_iter();
            let many = (0..1000)
                .map(|number| shell(&format!("many-{number}")))
                .map(|shell| ShellInfo { argv: Vec::new(), ..shell });
            vec![reply(Reply::Shells { shells: ids.chain(many).collect() })]
        }
        Request::Command(_) => {
            let message = "\u{1b}]0;owned\u{7}".repeat(10_000);
            vec![reply(Reply::Error(WireError { code: ErrorCode::Internal, message }))]
        }
        Request::Hello
        | Request::ShellClose { .. }
        | Request::Shutdown { .. }
        | Request::SetRoleCredentials(_)
        | Request::AgentStart(_)
        | Request::AgentShow
        | Request::AgentLog { .. }
        | Request::Connect { .. } => {
            vec![Frame::Input(b"a guest asks nothing".to_vec())]
        }
    }
}

#[tokio::test]
async fn a_guest_that_lies_is_believed_nothing() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let _guest = replace_guest(&session(&server, 0).await, lies);
    let id = session_id(0);
    let shells = extension("GET", &format!("/sessions/{id}/shells")).signed(&server.root());
    let shells = shells.send(&server.client).await;
    let shells = shells.json()["shells"].as_array().unwrap().clone();
    assert!(shells.len() <= 256, "{}", shells.len());
    assert_eq!(shells.iter().filter(|shell| shell["shellId"] == "fine").count(), 1);
    assert!(shells.iter().all(|shell| shell["shellId"] != "../../../etc" && shell["shellId"] != ""));
    // It says that it has a screen and sends none.
    let start = Instant::now();
    assert_eq!(status(&server, "GET", &format!("/sessions/{id}/shells/fine/screen")).await, 424);
    assert!(start.elapsed().as_secs() < 30);
    let refused = command(&server, &id, "true").signed(&server.root()).send(&server.client).await;
    assert_eq!(refused.status, 424);
    let told = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(!told.contains("owned"), "{told}");
    let mut shell = server.client.shell(&id, "fine").await.unwrap();
    loop {
        match within("shell ends", LIMIT, shell.next()).await.unwrap() {
            ShellEvent::Closed(code) => break assert_eq!(code, 1011),
            ShellEvent::Status(_) => {}
            other => unreachable!("{other:?}"),
        }
    }
    assert_eq!(status(&server, "DELETE", &format!("/sessions/{id}")).await, 204);
}

#[tokio::test]
async fn a_client_that_the_guest_refuses_takes_nobodys_place() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let folder = session(&server, 0).await;
    let id = session_id(0);
    let mut first = server.client.shell(&id, "main").await.unwrap();
    first.input(b"echo fi''rst\n").await.unwrap();
    first.read_until("first\r\n").await.unwrap();
    let _guest = replace_guest(&folder, |_| {
        let error = WireError { code: ErrorCode::Busy, message: String::new() };
        vec![Frame::Reply(Box::new(Reply::Error(error)))]
    });
    assert!(server.client.shell(&id, "main").await.is_err());
    first.input(b"echo st''ill\n").await.unwrap();
    first.read_until("still\r\n").await.unwrap();
}

#[tokio::test]
async fn traps_in_the_folder_of_shells_catch_nobody() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let folder = session(&server, 0).await;
    let shells = folder.join("shells");
    let make = |id: &str| {
        let shell = shells.join(id);
        std::fs::create_dir_all(&shell).unwrap();
        shell
    };
    let fifo =
        |path: PathBuf| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    let meta = json!({
        "argv": ["x"], "pid": 1, "created_at_ms": u64::MAX, "run_offset": u64::MAX, "cols": 0, "rows": 0,
        "keep": false, "exit": null, "ended_at_ms": u64::MAX,
    });
    let piped = make("piped");
    for name in ["meta.json", "00000000000000000000.log", "00000000000000000000.events"] {
        fifo(piped.join(name));
    }
    let linked = make("linked");
    symlink("/etc/passwd", linked.join("00000000000000000000.log")).unwrap();
    std::fs::write(linked.join("meta.json"), meta.to_string()).unwrap();
    symlink(&linked, shells.join("link")).unwrap();
    let sparse = make("sparse");
    std::fs::write(sparse.join("meta.json"), meta.to_string()).unwrap();
    std::fs::write(sparse.join("00000000000000000000.log"), "output").unwrap();
    let events = std::fs::File::create(sparse.join("00000000000000000000.events")).unwrap();
    events.set_len(1 << 40).unwrap();
    let huge = make("huge");
    std::fs::File::create(huge.join("meta.json")).unwrap().set_len(1 << 40).unwrap();

    let id = session_id(0);
    assert_eq!(status(&server, "GET", &format!("/sessions/{id}/shells")).await, 200);
    for shell in ["piped", "linked", "link", "sparse", "huge"] {
        for what in ["log", "export"] {
            let path = format!("/sessions/{id}/shells/{shell}/{what}");
            let call = extension("GET", &path).signed(&server.root());
            let reply = within(&path, LIMIT, call.send(&server.client)).await;
            assert!(!String::from_utf8_lossy(&reply.body).contains("root:"), "{path}");
        }
    }
    assert_eq!(status(&server, "DELETE", &format!("/sessions/{id}")).await, 204);
}

#[tokio::test]
async fn what_was_begun_is_done_although_the_caller_hangs_up() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let id = session_id(0);
    let path = format!("/sessions/{id}");
    // Its end takes seconds.
    let guest = replace_guest(&session(&server, 0).await, |_| Vec::new());
    let removal = send_only(&server, &extension("DELETE", &path).signed(&server.root())).await;
    wait_for(&server, &path, |status, state| status == 200 && state == "Stopping").await;
    drop(removal);
    wait_for(&server, &path, |status, _| status == 404).await;
    drop(guest);

    let creation = send_only(&server, &command(&server, &id, "true").signed(&server.root())).await;
    wait_for(&server, &path, |status, _| status == 200).await;
    drop(creation);
    let usable = async || match server.client.command(&id, "true", 60).await {
        Ok(outcome) if outcome.stop == Some((0, "COMPLETED".to_owned())) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    eventually("session is usable", LIMIT, usable).await;
}

#[tokio::test]
async fn what_a_stop_could_not_end_is_ended_at_the_next_start() {
    let Some(()) = sandboxes() else { return };
    let server = InProcess::start("").await;
    let folder = session(&server, 0).await;
    let path = format!("/sessions/{}", session_id(0));
    // Leftovers have nowhere to go.
    let trash = server.data_dir().join("trash");
    let _ = std::fs::remove_dir(&trash);
    std::fs::write(&trash, "").unwrap();
    assert_eq!(status(&server, "POST", &format!("{path}/stop")).await, 500);
    wait_for(&server, &path, |status, state| status == 200 && state == "Stopping").await;
    assert!(folder.join("run").exists());
    std::fs::remove_file(&trash).unwrap();
    let server = server.start_again("").await;
    wait_for(&server, &path, |status, state| status == 200 && state == "Stopped").await;
    assert!(!folder.join("run").exists());
    let outcome = server.client.command(&session_id(0), "true", 60).await.unwrap();
    assert_eq!(outcome.stop, Some((0, "COMPLETED".to_owned())));
}

/// Waits until a session shows a status and a state.
async fn wait_for(server: &InProcess, path: &str, expect: fn(u16, &str) -> bool) {
    eventually("session gets there", LIMIT, async || {
        let reply = extension("GET", path).signed(&server.root()).send(&server.client).await;
        let (status, state) = (reply.status.as_u16(), reply.json()["state"].clone());
        if expect(status, state.as_str().unwrap_or_default()) { Ok(()) } else { Err((status, state)) }
    })
    .await;
}

/// Sends a request and waits for nothing; dropping the stream hangs up.
async fn send_only(server: &InProcess, call: &Call) -> TcpStream {
    let mut stream = TcpStream::connect(&server.client.authority).await.unwrap();
    let headers: String = call.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = call.body.len();
    let head = format!("{} {} HTTP/1.1\r\n{headers}content-length: {length}\r\n\r\n", call.method, call.path);
    stream.write_all(&[head.as_bytes(), &call.body].concat()).await.unwrap();
    stream
}
