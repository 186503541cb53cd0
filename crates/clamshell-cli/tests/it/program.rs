//! The program under test: run to its end, or at a terminal of its own.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::{Duration, Instant},
};

use clamshell_testkit::{ServerProcess, is_root, skip};
use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};
use serde_json::Value;

/// How long anything may take; generous, because test machines are shared.
const LIMIT: Duration = Duration::from_secs(60);

/// The program.
pub(super) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_clamshell"))
}

/// A server; `None`, with a printed reason, where sandboxes cannot be made.
pub(super) async fn server(configuration: &str) -> Option<ServerProcess> {
    if !is_root() {
        return skip("sandboxes of this test are made by root");
    }
    Some(ServerProcess::start(binary(), configuration).await.unwrap())
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ended {
    /// The one JSON object on stdout.
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{self:?}");
        serde_json::from_str(&self.stdout).unwrap()
    }

    /// Asserts success and gives stdout.
    pub(super) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }
}

/// The program with these arguments, for this data directory, in an environment of its own.
pub(super) fn command(data_dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", data_dir)
        .env("TERM", "xterm-256color")
        .env("CLAMSHELL_DATA_DIR", data_dir)
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// Runs to the end without a terminal.
pub(super) fn run(data_dir: &Path, args: &[&str]) -> Ended {
    finish(command(data_dir, args))
}

/// Runs to the end without a terminal.
pub(super) fn finish(mut command: Command) -> Ended {
    let output = command.stdin(Stdio::null()).output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Waits for a child, with a deadline.
pub(super) fn wait(child: &mut Child) -> Option<i32> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(Instant::now() < deadline, "the program does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to a child.
pub(super) fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// The program at a terminal. What it shows is matched in order, as `expect` does.
pub(super) struct Terminal {
    pub(super) child: Child,
    master: File,
    device: PathBuf,
    incoming: Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Terminal {
    /// Starts the program at a terminal of 120 columns and 40 rows.
    pub(super) fn start(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let device = PathBuf::from(ptsname(&master, Vec::new()).unwrap().into_string().unwrap());
        let open = || File::options().read(true).write(true).open(&device).unwrap();
        let child = command.stdin(open()).stdout(open()).stderr(open()).spawn().unwrap();
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        // A test that does not read must stop the program as a stopped terminal would: a short queue.
        let (sender, incoming) = sync_channel(4);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        let terminal = Self { child, master, device, incoming, seen: Vec::new() };
        terminal.resize(120, 40);
        terminal
    }

    /// Changes the size and says so.
    pub(super) fn resize(&self, cols: u16, rows: u16) {
        let size = Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
        signal(&self.child, Signal::WINCH);
    }

    /// Types.
    pub(super) fn send(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a text; gives everything up to its end, and forgets it.
    pub(super) fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let found = self.seen.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                let rest = self.seen.split_off(at + text.len());
                let before = std::mem::replace(&mut self.seen, rest);
                return String::from_utf8_lossy(&before).into_owned();
            }
            match self.incoming.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.seen.extend_from_slice(&bytes),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    unreachable!("no {text:?} in {:?}", String::from_utf8_lossy(&self.seen));
                }
            }
        }
    }

    /// Waits for the end; gives the exit code and what else was shown.
    pub(super) fn end(mut self) -> (Option<i32>, String) {
        let code = wait(&mut self.child);
        while let Ok(bytes) = self.incoming.recv_timeout(Duration::from_millis(50)) {
            self.seen.extend_from_slice(&bytes);
        }
        (code, String::from_utf8_lossy(&self.seen).into_owned())
    }

    /// Whether the terminal edits lines, which raw mode switches off.
    pub(super) fn is_cooked(&self) -> bool {
        let device: OwnedFd = File::options().read(true).open(&self.device).unwrap().into();
        tcgetattr(device.as_fd()).unwrap().local_modes.contains(LocalModes::ICANON)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // After `end` it has gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
