//! A sandbox of any driver to attack, and a program that runs a line of attack inside or on the machine.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use clamshell_domain::{
    Artifact, IdRange, Limits, MountSpec, Sandbox, SandboxDriver, SandboxSpec, StorageId, SystemEntropy,
};
use clamshell_protocol::{CommandSpec, Decoder, Exit, Frame, Guard, Reply, Request, User};
use clamshell_sandbox::{NativeDriver, NativeOptions, OciDriver, OciOptions};

use crate::sandbox::until;

/// Environment of an attack.
pub(super) type Facts = BTreeMap<String, String>;

/// Who makes the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    Native(Guard),
    Oci(&'static str),
}

/// A live sandbox in a folder of its own; destroyed at the end of the test, passed or not.
pub(super) struct Target {
    folder: tempfile::TempDir,
    driver: Box<dyn SandboxDriver>,
    pub(super) spec: SandboxSpec,
    pub(super) sandbox: Sandbox,
    runtime: tokio::runtime::Runtime,
}

/// What a command did.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) stdout: String,
    #[expect(dead_code, reason = "shown when an attempt is broken")]
    pub(super) stderr: String,
    pub(super) code: i32,
}

impl Target {
    /// A sandbox on the host image; `None`, with the reason printed, where the machine cannot.
    pub(super) fn new(test: &str, maker: Maker, limits: Limits) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped {test}: needs root");
            return None;
        }
        Self::anywhere(test, maker, limits)
    }

    /// The same with whatever rights this process has.
    pub(super) fn anywhere(test: &str, maker: Maker, limits: Limits) -> Option<Self> {
        Self::with_mounts(test, maker, limits, Vec::new())
    }

    /// The same, and it shows these folders.
    pub(super) fn with_mounts(
        test: &str,
        maker: Maker,
        limits: Limits,
        mounts: Vec<MountSpec>,
    ) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !Path::new("/usr/bin/perl").exists() {
            println!("skipped {test}: needs perl");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let driver: Box<dyn SandboxDriver> = match maker {
            Maker::Native(guard) => {
                Box::new(NativeDriver::new(NativeOptions { guard, ..NativeOptions::new(data) }))
            }
            Maker::Oci(name) => Box::new(OciDriver::new(name, OciOptions::new(data))),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let report = runtime.block_on(driver.probe());
        if !report.usable {
            println!("skipped {test}: {} cannot be used here", report.driver);
            return None;
        }
        let storage_id = StorageId::generate(&SystemEntropy);
        let session_dir = folder.path().join(storage_id.as_str());
        std::fs::create_dir(&session_dir).unwrap();
        // Above those of the other tests, which may run at the same time.
        let range = 30_000 + std::process::id() % 1_000 * 16 + NEXT.fetch_add(1, Ordering::Relaxed) % 16;
        let spec = SandboxSpec {
            storage_id,
            session_dir,
            artifact: Artifact::Host,
            id_range: IdRange(range),
            limits,
            region: "us-west-2".to_owned(),
            instance_id: "ai-00000000000000000".to_owned(),
            environment: BTreeMap::new(),
            mounts,
        };
        let sandbox = runtime.block_on(driver.create(&spec)).unwrap();
        Some(Self { folder, driver, spec, sandbox, runtime })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn workspace(&self) -> PathBuf {
        self.spec.session_dir.join("workspace")
    }

    /// Ends the sandbox and makes it again on the same storage.
    pub(super) fn recreate(&mut self) {
        self.destroy();
        self.sandbox = self.runtime.block_on(self.driver.create(&self.spec)).unwrap();
    }

    pub(super) fn destroy(&self) {
        self.runtime.block_on(self.driver.destroy(&self.spec)).unwrap();
    }

    /// Whether everything that was thrown away is gone.
    pub(super) fn trash_is_empty(&self) -> bool {
        let trash = self.folder.path().join("data/trash");
        until(|| std::fs::read_dir(&trash).map_or(true, |mut dir| dir.next().is_none()))
    }

    pub(super) fn sh(&self, user: User, script: &str) -> Said {
        self.run(user, &["/bin/sh", "-c", script], &Facts::new())
    }

    pub(super) fn perl(&self, user: User, script: &str, facts: &Facts) -> Said {
        self.run(user, &["/usr/bin/perl", "-e", script], facts)
    }

    fn run(&self, user: User, argv: &[&str], facts: &Facts) -> Said {
        let path = ("PATH".to_owned(), "/usr/bin:/bin:/usr/sbin:/sbin".to_owned());
        let facts = facts.iter().map(|(key, value)| (key.clone(), value.clone()));
        let command = CommandSpec {
            argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
            env: std::iter::once(path).chain(facts).collect(),
            cwd: "/".to_owned(),
            user,
            timeout_ms: Some(30_000),
            stdin: false,
            keep_running: false,
        };
        let folder = std::fs::File::open(self.spec.session_dir.join("run")).unwrap();
        let path = format!("/proc/self/fd/{}/guest.sock", folder.as_raw_fd());
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
        stream.write_all(&Frame::Request(Box::new(Request::Command(command))).to_bytes()).unwrap();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let (mut decoder, mut buffer) = (Decoder::new(), [0; 65_536]);
        let exit: Exit = loop {
            match decoder.next_frame().unwrap() {
                Some(Frame::Stdout(bytes)) => stdout.extend(bytes),
                Some(Frame::Stderr(bytes)) => stderr.extend(bytes),
                Some(Frame::Exit(exit)) => break exit,
                Some(Frame::Reply(reply)) => assert!(matches!(*reply, Reply::Started { .. }), "{reply:?}"),
                Some(other) => panic!("{other:?}"),
                None => {
                    let length = match stream.read(&mut buffer) {
                        // A read with a time limit is not taken up again after a signal.
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                        read => read.unwrap(),
                    };
                    assert_ne!(length, 0, "the guest hung up during {argv:?}");
                    decoder.extend(&buffer[..length]);
                }
            }
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { stdout: text(stdout), stderr: text(stderr), code: exit.code }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.driver.destroy(&self.spec));
        // The remover works in the background; the folder under it is removed only when it is done.
        let _ = self.trash_is_empty();
    }
}

/// Runs a script on the machine itself.
pub(super) fn perl_outside(script: &str, facts: &Facts) -> Said {
    let output = Command::new("/usr/bin/perl").args(["-e", script]).envs(facts).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said {
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        code: output.status.code().unwrap_or(-1),
    }
}
