//! Other container runtimes on the same root file system.
//!
//! Each peer runs in a process of its own that does one run per line on its standard input and answers with the
//! milliseconds it took. crun refuses machines with both versions of control groups mounted, so its process has a mount
//! namespace with version 2 only.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use serde_json::json;

/// A peer's process.
pub(crate) struct Peer {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts a peer: `run` measures create to first output, `exec` a process in a running container.
    /// `None` with the reason printed when this machine cannot run it.
    pub(crate) fn start(runtime: &str, mode: &str, folder: &Path) -> Option<Self> {
        match Self::try_start(runtime, mode, folder) {
            Ok(peer) => Some(peer),
            Err(error) => {
                eprintln!("skipped: {runtime} {mode}: {error:#}");
                None
            }
        }
    }

    fn try_start(runtime: &str, mode: &str, folder: &Path) -> Result<Self> {
        let own = std::env::current_exe()?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]).arg(own);
        command.args(["--peer", runtime, mode]).arg(folder);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let input = child.stdin.take().context("piped")?;
        let output = BufReader::new(child.stdout.take().context("piped")?);
        let mut peer = Self { child, input, output };
        peer.once().context("first run failed")?;
        Ok(peer)
    }

    /// One run, in milliseconds.
    pub(crate) fn once(&mut self) -> Result<f64> {
        writeln!(self.input, "go")?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        line.trim().parse().with_context(|| format!("peer said {line:?}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = writeln!(self.input, "end");
        let _ = self.input.flush();
        let _ = self.child.wait();
    }
}

/// The peer's side.
pub(crate) fn serve(arguments: &[String]) -> Result<()> {
    let [runtime, mode, folder] = arguments else { bail!("usage: --peer RUNTIME run|exec FOLDER") };
    if runtime == "crun" {
        let status = Command::new("mount")
            .args(["-t", "cgroup2", "none", "/sys/fs/cgroup"])
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            bail!("cannot mount cgroup2");
        }
    }
    let folder = PathBuf::from(folder).join(format!("{runtime}-{mode}"));
    let bundle = make_bundle(&folder, mode)?;
    let state = folder.join("state");
    let warm = format!("bench-{runtime}-{}", std::process::id());
    if mode == "exec" {
        let status = Command::new(runtime)
            .arg("--root")
            .arg(&state)
            .args(["run", "--detach", "--bundle"])
            .arg(&bundle)
            .arg(&warm)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()?;
        if !status.success() {
            bail!("{runtime} run --detach failed");
        }
    }
    let mut count = 0;
    for line in std::io::stdin().lines() {
        if line? != "go" {
            break;
        }
        count += 1;
        let mut command = Command::new(runtime);
        command.arg("--root").arg(&state);
        if mode == "run" {
            command.args(["run", "--bundle"]).arg(&bundle).arg(format!("{warm}-{count}"));
        } else {
            command.args(["exec", &warm, "/bin/bash", "-c", "echo x"]);
        }
        let start = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut byte = [0; 1];
        let read = child.stdout.take().context("piped")?.read(&mut byte)?;
        let first = start.elapsed();
        let status = child.wait()?;
        // A warm command is a whole request for us, so it is a whole run for the peer.
        let took = if mode == "run" { first } else { start.elapsed() };
        if read == 0 || !status.success() {
            bail!("{runtime} {mode} failed: {status}");
        }
        println!("{}", took.as_secs_f64() * 1e3);
    }
    let _ = Command::new(runtime).arg("--root").arg(&state).args(["delete", "--force", &warm]).status();
    Ok(())
}

/// A bundle with this machine's system as its root, as our `host` image has it, and the mounts, masks and namespaces that
/// the runtimes' own template (`runc spec`) asks for. Less than our sandboxes have: no user namespace, no filter of system
/// calls, no writable layer of its own, no limits.
fn make_bundle(folder: &Path, mode: &str) -> Result<PathBuf> {
    let root = folder.join("rootfs");
    for name in ["proc", "sys", "dev", "usr", "tmp", "etc", "run", "mnt/workspace"] {
        std::fs::create_dir_all(root.join(name))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        let _ = std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name));
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/bash\n")?;
    let script = if mode == "run" { "echo x" } else { "exec sleep 100000" };
    let caps = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"];
    let config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": root, "readonly": false },
        "hostname": "localhost",
        "process": {
            "terminal": false, "cwd": "/", "user": { "uid": 0, "gid": 0 }, "noNewPrivileges": true,
            "args": ["/bin/bash", "-c", script],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/usr", "type": "bind", "source": "/usr", "options": ["bind", "ro", "nosuid", "nodev"] },
        ],
        "linux": {
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
                { "type": "cgroup" },
            ],
        },
    });
    std::fs::write(folder.join("config.json"), config.to_string())?;
    Ok(folder.to_owned())
}
