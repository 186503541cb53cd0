//! Terminals: echo of a key, bulk output, the screen after a million lines.
//!
//! The yardsticks run the same program on a bare pseudo-terminal, through tmux, and through sshd on loopback.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clamshell_term::status::Status;
use clamshell_testkit::{ServerProcess, ShellEvent, ShellSocket};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::{Samples, create::session, report};

const KEYS: usize = 400;
const BULK_BYTES: usize = 100 << 20;
const BULK_ROUNDS: usize = 3;
const REATTACHES: usize = 50;

/// A terminal program: says READY, then gives back every byte at once.
const ECHO: &str = "stty raw -echo; echo READY; exec cat";

/// A program on a pseudo-terminal of ours.
struct Local {
    terminal: File,
    child: Child,
}

impl Local {
    fn spawn(program: &str, arguments: &[&str]) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = || -> Result<OwnedFd> {
            Ok(rustix::fs::open(
                name.as_c_str(),
                rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY,
                rustix::fs::Mode::empty(),
            )?)
        };
        // `setsid --ctty` makes it the controlling terminal without code between fork and exec.
        let child = Command::new("setsid")
            .args(["--ctty", program])
            .args(arguments)
            .env("TERM", "xterm-256color")
            .stdin(Stdio::from(slave()?))
            .stdout(Stdio::from(slave()?))
            .stderr(Stdio::from(slave()?))
            .spawn()?;
        Ok(Self { terminal: File::from(master), child })
    }

    fn read_until(&mut self, text: &[u8]) -> Result<()> {
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while !seen.windows(text.len()).any(|window| window == text) {
            let count = self.terminal.read(&mut buffer)?;
            if count == 0 {
                bail!("program ended: {}", String::from_utf8_lossy(&seen));
            }
            seen.extend_from_slice(&buffer[..count]);
        }
        Ok(())
    }

    fn key(&mut self) -> Result<f64> {
        let start = Instant::now();
        self.terminal.write_all(b"k")?;
        self.read_until(b"k")?;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An sshd of our own on loopback.
struct Sshd {
    folder: tempfile::TempDir,
    server: Child,
    port: u16,
}

impl Sshd {
    fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        for key in ["host", "user"] {
            let status = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)])
                .status()?;
            if !status.success() {
                bail!("ssh-keygen failed");
            }
        }
        std::fs::copy(path("user.pub"), path("authorized"))?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        std::fs::create_dir_all("/run/sshd")?;
        let server = Command::new("/usr/sbin/sshd")
            .args(["-D", "-f", "/dev/null", "-p", &port.to_string(), "-h", &path("host")])
            .args(["-o", &format!("AuthorizedKeysFile={}", path("authorized"))])
            .args(["-o", "StrictModes=no", "-o", "UsePAM=no", "-o", "ListenAddress=127.0.0.1"])
            .args(["-o", "PermitRootLogin=yes"])
            .stderr(Stdio::null())
            .spawn()?;
        let sshd = Self { folder, server, port };
        let deadline = Instant::now() + Duration::from_secs(5);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            if Instant::now() > deadline {
                bail!("sshd does not listen");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(sshd)
    }

    fn arguments(&self, script: &str) -> Vec<String> {
        let key = self.folder.path().join("user").display().to_string();
        let port = self.port.to_string();
        [
            "-tt",
            "-q",
            "-i",
            &key,
            "-p",
            &port,
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]
        .into_iter()
        .chain(["127.0.0.1", script])
        .map(str::to_owned)
        .collect()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn sshd() -> Option<Sshd> {
    Sshd::start().map_err(|error| eprintln!("skipped: sshd: {error:#}")).ok()
}

fn local(what: &str, program: &str, arguments: &[&str]) -> Option<Local> {
    let started = Local::spawn(program, arguments).and_then(|mut one| {
        one.read_until(b"READY")?;
        Ok(one)
    });
    started.map_err(|error| eprintln!("skipped: {what}: {error:#}")).ok()
}

pub(crate) async fn echo(binary: &Path) -> Result<()> {
    let server = ServerProcess::start_measured(binary, "").await?;
    let client = server.client().await?;
    let mut shell = client.shell(&session("echo", 0), "echo").await?;
    shell.input(format!("{ECHO}\n").as_bytes()).await?;
    shell.read_until("READY\n").await?;

    let sshd = sshd();
    let mut bare = local("bare terminal", "/bin/sh", &["-c", ECHO]).context("a bare terminal must work")?;
    let script = format!("sh -c '{ECHO}'");
    let label = format!("clamshell-bench-{}", std::process::id());
    let mut tmux = local("tmux", "tmux", &["-f", "/dev/null", "-L", &label, "new-session", &script]);
    let mut ssh = sshd.as_ref().and_then(|sshd| {
        let arguments = sshd.arguments(ECHO);
        local("ssh", "ssh", &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let mut samples = ["clamshell shell", "bare terminal", "tmux", "sshd on loopback"].map(Samples::new);
    for _ in 0..KEYS {
        // The service allows 250 frames a second.
        tokio::time::sleep(Duration::from_millis(5)).await;
        samples[0].ms.push(key(&mut shell).await?);
        samples[1].ms.push(bare.key()?);
        if let Some(tmux) = &mut tmux {
            samples[2].ms.push(tmux.key()?);
        }
        if let Some(ssh) = &mut ssh {
            samples[3].ms.push(ssh.key()?);
        }
    }
    report("echo of a key", &samples);
    let added = |percent| samples[0].percentile(percent) - samples[1].percentile(percent);
    println!("added over the bare terminal: p50 {:.3} ms, p99 {:.3} ms", added(50), added(99));
    let _ = Command::new("tmux").args(["-L", &label, "kill-server"]).stderr(Stdio::null()).status();
    Ok(())
}

async fn key(shell: &mut ShellSocket) -> Result<f64> {
    let start = Instant::now();
    shell.input(b"k").await?;
    loop {
        match shell.next().await? {
            ShellEvent::Output(bytes) if bytes.contains(&b'k') => {
                return Ok(start.elapsed().as_secs_f64() * 1e3);
            }
            ShellEvent::Output(_) | ShellEvent::Status(_) | ShellEvent::Heartbeat => {}
            other => bail!("{other:?}"),
        }
    }
}

/// Writes `BULK_BYTES` of lines once told to.
fn bulk_script() -> String {
    format!(
        "stty -echo; echo READY; read -r go; yes 'the quick brown fox jumps over the lazy dog' | head -c {BULK_BYTES}"
    )
}

pub(crate) async fn bulk(binary: &Path) -> Result<()> {
    let server = ServerProcess::start_measured(binary, "").await?;
    let client = server.client().await?;
    let sshd = sshd();
    let mut samples = ["clamshell, offset client", "bare terminal", "sshd on loopback"].map(Samples::new);
    for round in 0..BULK_ROUNDS {
        let shell_id = format!("bulk{round}");
        let mut shell = client.attach(&session("bulk", 0), &shell_id, "create=true&from=offset:0").await?;
        shell.input(format!("stty -echo; {}\n", bulk_script()).as_bytes()).await?;
        shell.read_until("READY\r\n").await?;
        let start = Instant::now();
        shell.input(b"go\n").await?;
        let mut left = BULK_BYTES;
        while left > 0 {
            match shell.next().await? {
                ShellEvent::Output(bytes) => left = left.saturating_sub(bytes.len()),
                ShellEvent::Status(Status::Gap { .. }) => bail!("a client that reads lost output"),
                ShellEvent::Status(_) | ShellEvent::Heartbeat => {}
                other => bail!("{other:?}"),
            }
        }
        samples[0].ms.push(start.elapsed().as_secs_f64() * 1e3);
        if let Some(one) = local("bare terminal", "/bin/bash", &["-c", &bulk_script()]) {
            samples[1].ms.push(drain(one)?);
        }
        if let Some(sshd) = &sshd {
            let arguments = sshd.arguments(&bulk_script());
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            if let Some(one) = local("ssh", "ssh", &arguments) {
                samples[2].ms.push(drain(one)?);
            }
        }
    }
    report("100 MiB of output", &samples);
    let rate = |samples: &Samples| BULK_BYTES as f64 / 1e6 / (samples.percentile(50) / 1e3);
    println!("clamshell {:.0} MB/s, bare terminal {:.0} MB/s", rate(&samples[0]), rate(&samples[1]));
    println!("throughput over the bare terminal's: {:.2}", rate(&samples[0]) / rate(&samples[1]));
    Ok(())
}

fn drain(mut one: Local) -> Result<f64> {
    let start = Instant::now();
    one.terminal.write_all(b"go\n")?;
    let mut buffer = vec![0; 64 * 1024];
    let mut left = BULK_BYTES;
    while left > 0 {
        match one.terminal.read(&mut buffer) {
            Ok(count) if count > 0 => left = left.saturating_sub(count),
            // The terminal reports an error once its program is gone.
            Ok(_) | Err(_) => bail!("terminal ended {left} bytes early"),
        }
    }
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

pub(crate) async fn reattach(binary: &Path) -> Result<()> {
    let server = ServerProcess::start_measured(binary, "").await?;
    let client = server.client().await?;
    let session = session("reattach", 0);
    let mut shell = client.attach(&session, "history", "create=true&from=offset:0").await?;
    shell.input(b"stty -echo; seq 1 1000000; echo DO''NE\n").await?;
    let mut tail = Vec::new();
    while !tail.windows(4).any(|window| window == b"DONE") {
        match shell.next().await? {
            ShellEvent::Output(bytes) => {
                tail.drain(..tail.len().saturating_sub(16));
                tail.extend_from_slice(&bytes);
            }
            ShellEvent::Status(_) | ShellEvent::Heartbeat => {}
            other => bail!("{other:?}"),
        }
    }
    drop(shell);
    let mut ours = Samples::new("clamshell: connect to painted screen");
    for _ in 0..REATTACHES {
        let start = Instant::now();
        let mut shell = client.attach(&session, "history", "from=screen").await?;
        let mut bytes = 0;
        let mut wanted = None;
        while wanted.is_none_or(|wanted| bytes < wanted) {
            match shell.next().await? {
                ShellEvent::Status(Status::Screen { bytes, .. }) => wanted = Some(bytes),
                ShellEvent::Output(output) => bytes += output.len() as u64,
                ShellEvent::Status(_) | ShellEvent::Heartbeat => {}
                other => bail!("{other:?}"),
            }
        }
        ours.ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    report("screen after 1,000,000 lines of history", &[ours]);
    Ok(())
}
