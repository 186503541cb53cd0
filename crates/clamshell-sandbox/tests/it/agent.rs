//! `e2e_agent_*`: a program hosted in sandboxes of every driver, and connections to it.

use std::{
    collections::BTreeMap,
    fs,
    io::{IoSliceMut, Read, Write},
    mem::MaybeUninit,
    net::{Shutdown, TcpStream},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use clamshell_domain::{Artifact, IdRange, Limits, SandboxDriver, SandboxSpec, StorageId, SystemEntropy};
use clamshell_protocol::{AgentInfo, AgentSpec, CommandSpec, Decoder, Frame, Reply, Request, User};
use clamshell_sandbox::{NativeDriver, NativeOptions, OciDriver, OciOptions};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// Says who it is, then answers each connection with what it was sent, once that has ended.
const PROGRAM: &str = r#"
    use IO::Socket::INET;
    $| = 1;
    my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 8080, Listen => 20) or die $!;
    $SIG{TERM} = sub { print "stopped\n"; exit 4 };
    print "$< $ENV{HOME} ", `pwd`;
    while (my $peer = $listener->accept) {
        local $/;
        my $said = <$peer>;
        print $peer $said;
        close $peer;
    }
"#;

/// A connection to the guest whose answers are read to their last byte and no further.
struct Asked {
    stream: UnixStream,
    passed: Vec<OwnedFd>,
}

impl Asked {
    fn new(spec: &SandboxSpec, request: Request) -> Self {
        let run = fs::File::open(spec.session_dir.join("run")).unwrap();
        let path = format!("/proc/self/fd/{}/guest.sock", run.as_raw_fd());
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&Frame::Request(Box::new(request)).to_bytes()).unwrap();
        Self { stream, passed: Vec::new() }
    }

    fn next(&mut self) -> Frame {
        let mut decoder = Decoder::new();
        loop {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let (mut byte, flags) = ([0], RecvFlags::CMSG_CLOEXEC);
            match recvmsg(&self.stream, &mut [IoSliceMut::new(&mut byte)], &mut control, flags) {
                Err(rustix::io::Errno::INTR) => continue,
                received => assert_eq!(received.unwrap().bytes, 1, "the guest hung up"),
            }
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    self.passed.extend(rights);
                }
            }
            decoder.extend(&byte);
            if let Some(frame) = decoder.next_frame().unwrap() {
                return frame;
            }
        }
    }

    fn reply(&mut self) -> Reply {
        match self.next() {
            Frame::Reply(reply) => *reply,
            other => panic!("{other:?}"),
        }
    }

    fn agent(&mut self) -> AgentInfo {
        match self.reply() {
            Reply::Agent(info) => info,
            other => panic!("{other:?}"),
        }
    }

    /// Output until it contains `text`.
    fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            match self.next() {
                Frame::Output { bytes, .. } | Frame::Stdout(bytes) => {
                    seen.push_str(&String::from_utf8_lossy(&bytes));
                }
                other => panic!("{other:?} after {seen:?}"),
            }
        }
        seen
    }
}

fn exchange(mut stream: impl Read + Write, end: impl FnOnce()) {
    let data: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
    stream.write_all(&data).unwrap();
    end();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert!(back == data, "{} bytes came back", back.len());
}

async fn hosts_an_agent<D: SandboxDriver>(name: &str, driver: D, number: u32, own_kernel: bool) {
    let report = driver.probe().await;
    if !report.usable {
        println!("skipped: {name} cannot be used here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let storage_id = StorageId::generate(&SystemEntropy);
    let session_dir = folder.path().join(storage_id.as_str());
    fs::create_dir(&session_dir).unwrap();
    let spec = SandboxSpec {
        storage_id,
        session_dir,
        artifact: Artifact::Host,
        id_range: IdRange(21_000 + number),
        limits: Limits { pids_max: 60, memory_bytes: 256 << 20, ..Limits::default() },
        region: "us-west-2".into(),
        instance_id: "ai-0123456789abcdef0".into(),
        environment: BTreeMap::new(),
        mounts: Vec::new(),
    };
    driver.create(&spec).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    let agent = AgentSpec {
        argv: ["perl", "-e", PROGRAM].map(str::to_owned).into(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("TOKEN".into(), "not-for-everybody".into())],
        cwd: "/mnt/workspace/made/for/it".into(),
        user: "agentcore-runtime-user".into(),
        log_bytes_max: 1 << 20,
        stop_signal: None,
    };
    let info = Asked::new(&spec, Request::AgentStart(Box::new(agent))).agent();
    assert_eq!(info.exit, None, "{name}");
    let mut log = Asked::new(&spec, Request::AgentLog { from_offset: 0 });
    log.agent();
    assert_eq!(log.until("\n"), "1000 /home/agentcore-runtime-user /mnt/workspace/made/for/it\n", "{name}");

    for pass in [true, false] {
        let mut asked = Asked::new(&spec, Request::Connect { port: 8080, pass });
        let expect = pass && !own_kernel;
        assert_eq!(asked.reply(), Reply::Connected { passed: expect }, "{name}");
        assert_eq!(asked.passed.len(), usize::from(expect), "{name}");
        if let Some(socket) = asked.passed.pop() {
            let stream = TcpStream::from(socket);
            stream.set_nonblocking(false).unwrap();
            exchange(&stream, || stream.shutdown(Shutdown::Write).unwrap());
        } else {
            exchange(&asked.stream, || asked.stream.shutdown(Shutdown::Write).unwrap());
        }
    }
    let refused = Asked::new(&spec, Request::Connect { port: 8081, pass: true }).reply();
    assert!(
        matches!(refused, Reply::Error(ref error) if error.code == clamshell_protocol::ErrorCode::Refused)
    );

    // What the agent is told, those who own the guest's view of the sandbox are not.
    let look = "(tr '\\0' '\\n' < /proc/1/environ; tr '\\0' '\\n' < /proc/1/cmdline) 2>&1; echo end-of-look";
    let mut looked = Asked::new(
        &spec,
        Request::Command(CommandSpec {
            argv: ["sh", "-c", look].map(str::to_owned).into(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            cwd: "/".into(),
            user: User::Root,
            timeout_ms: Some(20_000),
            stdin: false,
            keep_running: false,
        }),
    );
    assert!(matches!(looked.reply(), Reply::Started { .. }));
    let seen = looked.until("end-of-look");
    assert!(!seen.contains("TOKEN") && !seen.contains("not-for-everybody"), "{name}: {seen}");

    let mut shutdown = Asked::new(&spec, Request::Shutdown { grace_ms: 10_000 });
    assert_eq!(log.until("\n"), "stopped\n", "{name}");
    assert!(matches!(log.next(), Frame::Exit(exit) if exit.code == 4), "{name}");
    assert_eq!(shutdown.reply(), Reply::Done, "{name}");
    driver.destroy(&spec).await.unwrap();
}

fn native(folder: &tempfile::TempDir) -> NativeDriver {
    NativeDriver::new(NativeOptions::new(folder.path().join("data")))
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_agent_in_a_native_sandbox() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    hosts_an_agent("native", native(&folder), 0, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_agent_in_oci_sandboxes() {
    for (number, runtime) in (1..).zip(["runc", "crun", "runsc"]) {
        let folder = tempfile::tempdir().unwrap();
        let driver = OciDriver::new(runtime, OciOptions::new(folder.path().join("data")));
        hosts_an_agent(runtime, driver, number, runtime == "runsc").await;
    }
}
