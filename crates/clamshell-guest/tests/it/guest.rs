//! A guest of one's own for a test, and connections to it.

use std::{
    io::{ErrorKind, Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clamshell_protocol::{
    Access, AttachFrom, CommandSpec, Decoder, Frame, GuestConfig, Reply, Request, ShellOpened, ShellSpec,
    User,
};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Guest {
    child: Child,
    folder: tempfile::TempDir,
}

impl Guest {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("shells")).unwrap();
        let child = launch(folder.path(), None);
        Self { child, folder }
    }

    /// A guest that becomes the users asked for; `None` where the tests do not run as root.
    pub(crate) fn that_switches_users() -> Option<Self> {
        use std::os::unix::fs::PermissionsExt;
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("shells")).unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let config = GuestConfig { switch_user: true, metadata: false, ..GuestConfig::default() };
        let child = launch_with(folder.path(), None, &config);
        Some(Self { child, folder })
    }

    /// A guest of an ordinary user: of another one where the tests run as root.
    pub(crate) fn of_ordinary_user() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("shells")).unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        // Where it was built, an ordinary user may not come.
        std::fs::copy(PROGRAM, folder.path().join("guest")).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        let child = launch(folder.path(), is_root.then_some(1000));
        Self { child, folder }
    }

    /// Ends the guest as a crash would, and starts another one on the same folder.
    pub(crate) fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = launch(self.folder.path(), None);
    }

    pub(crate) fn shells(&self) -> PathBuf {
        self.folder.path().join("shells")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn connect(&self) -> Connection {
        let stream = UnixStream::connect(self.folder.path().join("guest.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Connection { stream, decoder: Decoder::new() }
    }

    pub(crate) fn ask(&self, request: Request) -> Reply {
        let mut connection = self.connect();
        connection.send(&Frame::Request(Box::new(request)));
        connection.reply()
    }

    pub(crate) fn run(&self, spec: CommandSpec) -> Connection {
        let mut connection = self.connect();
        connection.send(&Frame::Request(Box::new(Request::Command(spec))));
        connection
    }

    pub(crate) fn attach(
        &self,
        shell_id: &str,
        create: Option<ShellSpec>,
        from: AttachFrom,
        access: Access,
    ) -> (ShellOpened, Connection) {
        self.attach_led(shell_id, create, from, access, None)
    }

    pub(crate) fn attach_led(
        &self,
        shell_id: &str,
        create: Option<ShellSpec>,
        from: AttachFrom,
        access: Access,
        lead_bytes_max: Option<u64>,
    ) -> (ShellOpened, Connection) {
        let mut connection = self.connect();
        connection.send(&Frame::Request(Box::new(Request::Shell {
            shell_id: shell_id.to_owned(),
            create: create.map(Box::new),
            from,
            access,
            lead_bytes_max,
            answers_when_told: false,
        })));
        match connection.reply() {
            Reply::Shell(opened) => (opened, connection),
            other => panic!("{other:?}"),
        }
    }

    /// A writer that answers what the program asks only while it is told to.
    pub(crate) fn attach_discreet(&self, shell_id: &str, create: Option<ShellSpec>) -> Connection {
        let mut connection = self.connect();
        connection.send(&Frame::Request(Box::new(Request::Shell {
            shell_id: shell_id.to_owned(),
            create: create.map(Box::new),
            from: AttachFrom::End,
            access: Access::Write,
            lead_bytes_max: None,
            answers_when_told: true,
        })));
        match connection.reply() {
            Reply::Shell(opened) => assert!(opened.tells_answers),
            other => panic!("{other:?}"),
        }
        connection
    }

    pub(crate) fn wait_for_end(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            std::thread::yield_now();
        }
        panic!("the guest did not end");
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Politely, so that what it started ends with it.
        if self.child.try_wait().unwrap().is_none() {
            let stream = UnixStream::connect(self.folder.path().join("guest.sock"));
            if let Ok(mut stream) = stream {
                let request = Frame::Request(Box::new(Request::Shutdown { grace_ms: 0 }));
                let _ = stream.write_all(&request.to_bytes());
                let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
                let _ = stream.read(&mut [0; 64]);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The guest, as built.
const PROGRAM: &str = env!("CARGO_BIN_EXE_clamshell-guest");

fn launch(folder: &Path, user: Option<u32>) -> Child {
    let config = GuestConfig { switch_user: false, metadata: false, ..GuestConfig::default() };
    launch_with(folder, user, &config)
}

fn launch_with(folder: &Path, user: Option<u32>, config: &GuestConfig) -> Child {
    let socket = folder.join("guest.sock");
    let _ = std::fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket).unwrap();
    let shells: OwnedFd = std::fs::File::open(folder.join("shells")).unwrap().into();
    let (listener_fd, shells_fd) = (listener.as_raw_fd(), shells.as_raw_fd());
    let copy = folder.join("guest");
    let mut command = Command::new(if copy.exists() { copy.as_path() } else { Path::new(PROGRAM) });
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command
        .args(["guest", &serde_json::to_string(config).unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    // SAFETY: only dup, fcntl and close between fork and exec; high copies first, so that neither
    // target is overwritten while it is still a source.
    unsafe {
        command.pre_exec(move || {
            let listener = libc::fcntl(listener_fd, libc::F_DUPFD, 100);
            let shells = libc::fcntl(shells_fd, libc::F_DUPFD, 100);
            if libc::dup2(listener, 3) < 0 || libc::dup2(shells, 4) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            libc::close(listener);
            libc::close(shells);
            Ok(())
        });
    }
    command.spawn().unwrap()
}

pub(crate) struct Connection {
    pub(crate) stream: UnixStream,
    decoder: Decoder,
}

impl Connection {
    pub(crate) fn send(&mut self, frame: &Frame) {
        self.stream.write_all(&frame.to_bytes()).unwrap();
    }

    pub(crate) fn input(&mut self, text: &str) {
        self.send(&Frame::Input(text.as_bytes().to_vec()));
    }

    /// The next frame; `None` when the guest hung up.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.decoder.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("waiting for a frame: {error}"),
            }
        }
    }

    pub(crate) fn reply(&mut self) -> Reply {
        match self.next() {
            Some(Frame::Reply(reply)) => *reply,
            other => panic!("{other:?}"),
        }
    }

    /// All frames until the guest hangs up.
    pub(crate) fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Output until it contains `text`, checked for offsets that join; returns it and where it ends.
    pub(crate) fn until(&mut self, text: &str, mut at: u64) -> (String, u64) {
        let mut seen = Vec::new();
        loop {
            if String::from_utf8_lossy(&seen).contains(text) {
                return (String::from_utf8_lossy(&seen).into_owned(), at);
            }
            match self.next() {
                Some(Frame::Output { offset, bytes }) => {
                    assert_eq!(offset, at, "output has a hole");
                    at += bytes.len() as u64;
                    seen.extend_from_slice(&bytes);
                }
                Some(Frame::CaughtUp { .. } | Frame::Resized { .. }) => {}
                other => {
                    let newest = &seen[seen.len().saturating_sub(200)..];
                    panic!("waiting for {text:?}: {other:?} after {:?}", String::from_utf8_lossy(newest))
                }
            }
        }
    }
}

pub(crate) fn environment() -> Vec<(String, String)> {
    [("PATH", "/usr/bin:/bin"), ("TERM", "xterm-256color"), ("PS1", "$ "), ("HISTFILE", "/dev/null")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

pub(crate) fn command(script: &str) -> CommandSpec {
    CommandSpec {
        argv: ["sh", "-c", script].map(str::to_owned).into(),
        env: environment(),
        cwd: "/".to_owned(),
        user: User::Root,
        timeout_ms: None,
        stdin: false,
        keep_running: false,
    }
}

pub(crate) fn shell(script: &str) -> ShellSpec {
    let argv: &[&str] =
        if script.is_empty() { &["/bin/bash", "--norc", "--noprofile"] } else { &["/bin/sh", "-c", script] };
    ShellSpec {
        argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
        env: environment(),
        cwd: "/".to_owned(),
        user: User::Root,
        cols: 80,
        rows: 24,
        log_bytes_max: 64 << 20,
        shells_max: 10,
        detached_timeout_ms: None,
        keep: false,
        secrets: Vec::new(),
    }
}

/// Waits for a condition of the machine; the last state is in the message.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match condition() {
            Ok(()) => return,
            Err(state) if Instant::now() > deadline => panic!("{what}: {state}"),
            Err(_) => std::thread::yield_now(),
        }
    }
}

pub(crate) fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}
