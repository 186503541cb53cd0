//! What the tests need: a driver in a folder of its own, and a client of the guest protocol.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clamshell_domain::{
    Artifact, IdRange, Limits, Sandbox, SandboxDriver, SandboxSpec, StorageId, SystemEntropy,
};
use clamshell_protocol::{CommandSpec, Decoder, Exit, Frame, Reply, Request, User};
use clamshell_sandbox::{NativeDriver, NativeOptions};

/// A driver, a session folder and, once created, a sandbox. Destroyed at the end of the test, passed or not.
pub(crate) struct Session {
    folder: tempfile::TempDir,
    pub(crate) driver: NativeDriver,
    pub(crate) spec: SandboxSpec,
    runtime: tokio::runtime::Runtime,
}

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Session {
    /// A session on the host image; `None`, with the reason printed, where the machine cannot.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped {test}: needs root");
            return None;
        }
        Some(Self::anywhere())
    }

    /// A session with whatever rights this process has.
    pub(crate) fn anywhere() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let storage_id = StorageId::generate(&SystemEntropy);
        // As long as a real one may be: socket addresses hold 107 bytes.
        let session_dir =
            folder.path().join("a-folder-with-a-long-name-".repeat(5)).join(storage_id.as_str());
        std::fs::create_dir_all(&session_dir).unwrap();
        private(&session_dir);
        Self {
            driver: NativeDriver::new(NativeOptions::new(folder.path().join("data"))),
            spec: SandboxSpec {
                storage_id,
                session_dir,
                artifact: Artifact::Host,
                id_range: IdRange(std::process::id() % 1_000),
                limits: Limits { memory_bytes: 256 << 20, pids_max: 64, ..Limits::default() },
                region: "us-west-2".to_owned(),
                instance_id: "ai-00000000000000000".to_owned(),
                environment: BTreeMap::new(),
                mounts: Vec::new(),
            },
            runtime: runtime.unwrap(),
            folder,
        }
    }

    pub(crate) fn restart_server(&mut self) {
        self.driver = NativeDriver::new(NativeOptions::new(self.folder.path().join("data")));
    }

    pub(crate) fn take_walls_down(&mut self) {
        let mut options = NativeOptions::new(self.folder.path().join("data"));
        options.guard = clamshell_protocol::Guard::Off;
        self.driver = NativeDriver::new(options);
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn create(&self) -> Sandbox {
        self.runtime.block_on(self.driver.create(&self.spec)).unwrap()
    }

    pub(crate) fn find(&self) -> Option<Sandbox> {
        self.runtime.block_on(self.driver.find(&self.spec))
    }

    pub(crate) fn destroy(&self) {
        self.runtime.block_on(self.driver.destroy(&self.spec)).unwrap();
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Runs a shell script inside.
    pub(crate) fn sh(&self, user: User, script: &str) -> Output {
        self.run(user, &["/bin/sh", "-c", script])
    }

    pub(crate) fn run(&self, user: User, argv: &[&str]) -> Output {
        let home = match user {
            User::Root => "/root",
            User::Agent => "/home/agentcore-runtime-user",
        };
        let command = CommandSpec {
            argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
            env: vec![
                ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".to_owned()),
                ("HOME".to_owned(), home.to_owned()),
            ],
            cwd: "/".to_owned(),
            user,
            timeout_ms: Some(30_000),
            stdin: false,
            keep_running: false,
        };
        let mut stream = connect(&self.spec.session_dir);
        stream.write_all(&Frame::Request(Box::new(Request::Command(command))).to_bytes()).unwrap();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let exit = frames(&mut stream, |frame| match frame {
            Frame::Stdout(bytes) => {
                stdout.extend(bytes);
                None
            }
            Frame::Stderr(bytes) => {
                stderr.extend(bytes);
                None
            }
            Frame::Exit(exit) => Some(exit),
            Frame::Reply(reply) => match *reply {
                Reply::Started { .. } => None,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        });
        let Exit { code, .. } = exit;
        Output {
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            code,
        }
    }

    /// Control groups of this sandbox that exist.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let mut found = Vec::new();
        for mount in mounts.lines().filter(|line| line.contains(" - cgroup")) {
            let mount = Path::new(mount.split(' ').nth(4).unwrap());
            for own in own.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
                let group = mount
                    .join(own.trim_start_matches('/'))
                    .join("clamshell")
                    .join(self.spec.storage_id.as_str());
                if group.is_dir() && !found.contains(&group) {
                    found.push(group);
                }
            }
        }
        found
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.driver.destroy(&self.spec));
        // The remover works in the background; the folder under it is removed only when it is done.
        let trash = self.folder.path().join("data/trash");
        let _ = until(|| std::fs::read_dir(&trash).map_or(true, |mut dir| dir.next().is_none()));
    }
}

/// Waits for a condition; whether it came true in time.
pub(crate) fn until(condition: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
    false
}

pub(crate) fn alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .ok()
        .and_then(|stat| clamshell_protocol::parse_process_stat(&stat))
        .is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

fn connect(session_dir: &Path) -> UnixStream {
    let run = std::fs::File::open(session_dir.join("run")).unwrap();
    let stream = UnixStream::connect(format!("/proc/self/fd/{}/guest.sock", run.as_raw_fd())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    stream
}

fn frames<T>(stream: &mut UnixStream, mut take: impl FnMut(Frame) -> Option<T>) -> T {
    let mut decoder = Decoder::new();
    let mut buffer = [0; 65_536];
    loop {
        while let Some(frame) = decoder.next_frame().unwrap() {
            if let Some(result) = take(frame) {
                return result;
            }
        }
        let length = match stream.read(&mut buffer) {
            // A read with a time limit is not taken up again after a signal, such as that of a keeper that ended.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.unwrap(),
        };
        assert_ne!(length, 0, "the guest hung up");
        decoder.extend(&buffer[..length]);
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// Any user that is not root; need not have an account.
const ORDINARY: &str = "1000";

/// Runs a test of this program again, as an ordinary user who has these subordinate ids (one line of `/etc/subuid`),
/// in a mount namespace that `prepare` may change as root.
pub(crate) fn again_as_ordinary_user(test: &str, subordinate: &str, prepare: &str) {
    use std::{fs, os::unix::fs::PermissionsExt, process::Command};
    let folder = tempfile::Builder::new().prefix("ordinary").tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(folder.path().join("ids"), format!("{subordinate}\n")).unwrap();
    let program = folder.path().join("it");
    // Where it was built, an ordinary user may not come.
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let script = format!(
        "{prepare} || exit 77
         for file in subuid subgid; do test -e /etc/$file && mount --bind {ids} /etc/$file || exit 77; done
         TMPDIR={folder} exec setpriv --reuid {ORDINARY} --regid {ORDINARY} --clear-groups \
             {program} --exact {test} --nocapture",
        ids = folder.path().join("ids").display(),
        folder = folder.path().display(),
        program = program.display(),
    );
    let Ok(ran) = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output() else {
        println!("skipped {test}: needs unshare and setpriv");
        return;
    };
    if ran.status.code() == Some(77) || ran.status.code() == Some(127) {
        println!("skipped {test}: {}", String::from_utf8_lossy(&ran.stderr));
        return;
    }
    let said = format!("{}\n{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}
