//! `e2e_oci_*`: real sandboxes made by the OCI runtimes of this machine, and OCI images in sandboxes of
//! every driver. Skipped with a printed reason where the machine cannot.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use clamshell_domain::{Artifact, IdRange, Limits, SandboxDriver, SandboxSpec, StorageId, SystemEntropy};
use clamshell_protocol::{CommandSpec, Decoder, Exit, Frame, Request, User};
use clamshell_sandbox::{NativeDriver, NativeOptions, OciDriver, OciOptions};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// `runsc` has a kernel of its own, which shows here and there.
const RUNTIMES: [&str; 3] = ["runc", "crun", "runsc"];

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn oci(&self, runtime: &str) -> OciDriver {
        OciDriver::new(runtime, OciOptions::new(self.data_dir()))
    }

    fn spec(&self, artifact: Artifact, range: u32) -> SandboxSpec {
        let storage_id = StorageId::generate(&SystemEntropy);
        let session_dir = self.dir.path().join(storage_id.as_str());
        fs::create_dir(&session_dir).unwrap();
        let limits = Limits { pids_max: 60, memory_bytes: 256 << 20, ..Limits::default() };
        SandboxSpec {
            storage_id,
            session_dir,
            artifact,
            // Above those of the other tests, which may run at the same time.
            id_range: IdRange(20_000 + range),
            limits,
            region: "us-west-2".into(),
            instance_id: "ai-0123456789abcdef0".into(),
            environment: BTreeMap::new(),
            mounts: Vec::new(),
        }
    }
}

/// A driver that can work here; says why not otherwise.
async fn usable<D: SandboxDriver>(driver: D) -> Option<D> {
    let report = driver.probe().await;
    if report.usable {
        return Some(driver);
    }
    let reasons: Vec<_> =
        report.capabilities.iter().filter(|one| !one.available).map(|one| &one.detail).collect();
    println!("skipped: {} cannot be used here: {reasons:?}", report.driver);
    None
}

/// Runs a line of shell inside; what it wrote and how it ended.
async fn run(spec: &SandboxSpec, user: User, line: &str) -> (String, Exit) {
    run_in(spec, user, "/bin/bash", line).await
}

async fn run_in(spec: &SandboxSpec, user: User, shell: &str, line: &str) -> (String, Exit) {
    attempt(spec, user, shell, line).await.unwrap_or_else(|| panic!("the guest hung up during: {line}"))
}

/// The same; `None` when the guest hung up.
async fn attempt(spec: &SandboxSpec, user: User, shell: &str, line: &str) -> Option<(String, Exit)> {
    use std::os::fd::AsRawFd;
    let folder = fs::File::open(spec.session_dir.join("run")).unwrap();
    let path = format!("/proc/self/fd/{}/guest.sock", folder.as_raw_fd());
    let mut stream = UnixStream::connect(path).await.unwrap();
    let request = Request::Command(CommandSpec {
        argv: [shell, "-c", line].map(str::to_owned).to_vec(),
        env: vec![("PATH".into(), "/usr/bin:/bin:/usr/sbin:/sbin".into())],
        cwd: "/".into(),
        user,
        timeout_ms: Some(20_000),
        stdin: false,
        keep_running: false,
    });
    stream.write_all(&Frame::Request(Box::new(request)).to_bytes()).await.unwrap();
    let (mut decoder, mut said, mut buffer) = (Decoder::new(), Vec::new(), vec![0; 65_536]);
    loop {
        let length = stream.read(&mut buffer).await.unwrap_or(0);
        if length == 0 {
            return None;
        }
        decoder.extend(&buffer[..length]);
        while let Some(frame) = decoder.next_frame().unwrap() {
            match frame {
                Frame::Stdout(bytes) | Frame::Stderr(bytes) => said.extend(bytes),
                Frame::Exit(exit) => return Some((String::from_utf8_lossy(&said).into_owned(), exit)),
                Frame::Reply(reply) => {
                    assert!(!matches!(*reply, clamshell_protocol::Reply::Error(_)), "{reply:?}")
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

async fn says(spec: &SandboxSpec, user: User, line: &str) -> String {
    let (said, exit) = run(spec, user, line).await;
    assert_eq!(exit.code, 0, "{line}: {said}");
    said.trim().to_owned()
}

/// Whether a note says that a group could not be made or filled.
fn lacks_a_limit(note: &str) -> bool {
    note.starts_with("no control group for ") || note.contains(" does not hold: ")
}

/// Control groups whose name has the sandbox's in it.
fn groups_of(spec: &SandboxSpec) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut queue = vec![(PathBuf::from("/sys/fs/cgroup"), 0)];
    while let Some((folder, depth)) = queue.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().contains(spec.storage_id.as_str()) {
                found.push(entry.path());
            }
            if depth < 4 {
                queue.push((entry.path(), depth + 1));
            }
        }
    }
    found
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn e2e_oci_sandbox_has_the_same_walls() {
    for (range, runtime) in (0..).zip(RUNTIMES) {
        let place = Place::new();
        let Some(driver) = usable(place.oci(runtime)).await else { continue };
        let spec = place.spec(Artifact::Host, range);
        let sandbox = driver.create(&spec).await.unwrap_or_else(|error| panic!("{runtime}: {error:?}"));
        assert_eq!(driver.find(&spec).await.as_ref(), Some(&sandbox));

        assert_eq!(says(&spec, User::Root, "id -u; hostname").await, "0\nlocalhost");
        assert_eq!(
            says(&spec, User::Agent, "id -u; cd ~ && pwd").await,
            "1000\n/home/agentcore-runtime-user"
        );
        let own_kernel = runtime == "runsc";
        let map = says(&spec, User::Root, "cat /proc/self/uid_map").await;
        let map: Vec<_> = map.split_whitespace().collect();
        // Ids are mapped below the other kernel, which does not know of it.
        let base = spec.id_range.host_base().to_string();
        assert_eq!(map, if own_kernel { ["0", "0", "4294967295"] } else { ["0", &base, "65536"] });
        let status =
            says(&spec, User::Root, "grep -E '^(NoNewPrivs|Seccomp|CapBnd):' /proc/self/status").await;
        let status: Vec<_> =
            status.lines().filter(|line| !own_kernel || !line.starts_with("NoNew")).collect();
        let no_new_privs = if own_kernel { &[][..] } else { &["NoNewPrivs:\t1"] };
        assert_eq!(status, [&["CapBnd:\t00000000800005fb"][..], no_new_privs, &["Seccomp:\t2"]].concat());
        let mounts = says(&spec, User::Root, "cat /proc/mounts").await;
        let session = spec.session_dir.to_str().unwrap();
        assert!(
            !mounts.contains(session) && !mounts.contains(place.data_dir().to_str().unwrap()),
            "{mounts}"
        );

        for line in [
            "touch /usr/x",
            "mount -t tmpfs none /tmp",
            "unshare -Ur true",
            "mknod /tmp/null c 1 3",
            "echo 1 > /proc/sys/kernel/panic",
            "cat /proc/kcore",
            "hostname other",
            if own_kernel { "echo > /dev/.clamshell/guest" } else { "echo > /dev/.clamshell-guest" },
            "test -e /dev/.clamshell/run/guest.sock || test -e /dev/.clamshell/shells",
        ] {
            // There, a number of a device leads to a device of that kernel, whoever makes it, and never to one of the machine.
            if own_kernel && line.starts_with("mknod") {
                continue;
            }
            let (said, exit) = run(&spec, User::Root, line).await;
            assert!(exit.code != 0 || line.contains("kcore") && said.is_empty(), "{runtime}: {line}: {said}");
        }
        says(&spec, User::Agent, "echo kept > /mnt/workspace/file").await;
        says(&spec, User::Root, "echo lost > /etc/lost").await;
        // The metadata service answers on its usual address, whoever else may listen on all of them.
        let listen = "exec perl -e 'use Socket; socket(my $s, AF_INET, SOCK_STREAM, 0); setsockopt($s, SOL_SOCKET, 2, 1); \
                      bind($s, pack_sockaddr_in(80, INADDR_ANY)) && listen($s, 5) && sleep 1000' > /dev/null 2>&1 &";
        says(&spec, User::Agent, listen).await;
        let token = "exec 3<>/dev/tcp/169.254.169.254/80 && printf 'PUT /latest/api/token HTTP/1.1\\r\\nHost: x\\r\\n\
                     X-aws-ec2-metadata-token-ttl-seconds: 60\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n' >&3 \
                     && head -n 1 <&3";
        assert!(says(&spec, User::Agent, token).await.starts_with("HTTP/1.1 200"), "{runtime}");

        // What is counted of it outside is at least what its programs count, up to its end.
        let before = driver.cpu_usage_us(&spec).await;
        let burn = "i=0; while [ $((i=i+1)) -lt 200000 ]; do :; done; read -r line < /proc/$$/stat; set -- ${line##*) }; \
                    echo $((${12} + ${13}))";
        let burned_us = says(&spec, User::Agent, burn).await.trim().parse::<u64>().unwrap() * 10_000;
        let counted = driver.destroy(&spec).await.unwrap();
        match before {
            Some(before) => assert!(
                counted.is_some_and(|counted| counted + 50_000 >= before + burned_us),
                "{runtime}: {before} us, then {burned_us} us, and {counted:?} in all"
            ),
            None => println!("skipped a part: nothing counts CPU time on this machine"),
        }
        assert_eq!(names_in(&spec.session_dir), ["shells", "workspace"]);
        assert_eq!(groups_of(&spec), Vec::<PathBuf>::new());
        assert_eq!(driver.find(&spec).await, None);

        driver.create(&spec).await.unwrap();
        assert_eq!(
            says(&spec, User::Agent, "cat /mnt/workspace/file; ls /etc/lost 2>&1 | wc -l").await,
            "kept\n1"
        );
        assert_eq!(run(&spec, User::Agent, "test -e /etc/lost").await.1.code, 1);
        driver.destroy(&spec).await.unwrap();
    }
}

#[tokio::test]
async fn e2e_oci_limits_hold() {
    for (range, runtime) in (10..).zip(RUNTIMES) {
        let place = Place::new();
        let Some(driver) = usable(place.oci(runtime)).await else { continue };
        let spec = place.spec(Artifact::Host, range);
        let sandbox = driver.create(&spec).await.unwrap();
        if sandbox.degraded.iter().any(|line| lacks_a_limit(line)) {
            println!("skipped: no limits on this machine: {:?}", sandbox.degraded);
        } else if runtime == "runsc" {
            // Processes are counted by the kernel inside, which looks at the limit late: some more slip through.
            let forks = "exec perl -e 'while (defined(my $p = fork)) { $p or exec qw(sleep 1000); last if ++$n == 1000 } print $n'";
            let said = says(&spec, User::Agent, forks).await;
            assert!((50..200).contains(&said.parse::<u32>().unwrap()), "{said}");
            driver.destroy(&spec).await.unwrap();
            let sandbox = driver.create(&spec).await.unwrap();
            // The machine's kernel sees one program that is too large, and that is the sandbox.
            let memory = "head -c 600M /dev/zero | tail -c 600M | wc -c";
            assert_eq!(attempt(&spec, User::Agent, "/bin/bash", memory).await, None);
            tokio::time::timeout(PATIENCE, driver.wait(&sandbox)).await.unwrap();
            assert_eq!(driver.find(&spec).await, None);
            driver.create(&spec).await.unwrap();
            assert_eq!(says(&spec, User::Agent, "echo again").await, "again");
        } else {
            // Counted from outside: nothing more can be started inside to count them. A shell would wait half a minute
            // for a fork that is refused, and `xargs` waits for its children instead.
            let forks = "(seq 1001 1100 | xargs -P 100 -n 1 sleep) > /dev/null 2>&1 < /dev/null &";
            says(&spec, User::Agent, forks).await;
            let begun = Instant::now();
            loop {
                let pids = driver.stats(&sandbox).await.pids;
                assert!(pids.is_some_and(|count| count <= 60), "{runtime}: {pids:?}");
                if pids == Some(60) {
                    break;
                }
                assert!(begun.elapsed() < PATIENCE, "{runtime}: {pids:?}");
                tokio::task::yield_now().await;
            }
            // Those would be in the way of what comes next.
            driver.destroy(&spec).await.unwrap();
            let sandbox = driver.create(&spec).await.unwrap();
            let memory = "head -c 600M /dev/zero | tail -c 600M | wc -c";
            let (said, _) = run(&spec, User::Agent, memory).await;
            assert_eq!(said.lines().last(), Some("0"), "{runtime}: {said}");
            let stats = driver.stats(&sandbox).await;
            assert!(stats.memory_bytes.is_some_and(|bytes| bytes <= 256 << 20), "{runtime}: {stats:?}");
        }
        driver.destroy(&spec).await.unwrap();
    }
}

#[tokio::test]
async fn e2e_oci_sandbox_without_its_keeper_is_found_and_ended() {
    for (range, runtime) in (20..).zip(RUNTIMES) {
        let place = Place::new();
        let Some(driver) = usable(place.oci(runtime)).await else { continue };
        let spec = place.spec(Artifact::Host, range);
        let sandbox = driver.create(&spec).await.unwrap();
        let keeper = rustix::process::Pid::from_raw(i32::try_from(sandbox.keeper_pid).unwrap()).unwrap();
        rustix::process::kill_process(keeper, rustix::process::Signal::KILL).unwrap();
        // A new driver, as after a restart of the server.
        let driver = place.oci(runtime);
        assert_eq!(driver.find(&spec).await, Some(sandbox));
        assert_eq!(says(&spec, User::Agent, "echo alive").await, "alive");
        driver.destroy(&spec).await.unwrap();
        assert_eq!(names_in(&spec.session_dir), ["shells", "workspace"]);
        assert_eq!(groups_of(&spec), Vec::<PathBuf>::new());
    }
}

#[tokio::test]
async fn e2e_oci_image_runs_with_every_driver() {
    let place = Place::new();
    let Some(layout) = image_of_this_machine(place.dir.path()) else {
        println!("skipped: no bash whose libraries `ldd` can tell");
        return;
    };
    let artifact = Artifact::Oci { path: layout, reference: Some("tiny".into()) };
    let mut drivers: Vec<Box<dyn SandboxDriver>> = Vec::new();
    if let Some(native) = usable(NativeDriver::new(NativeOptions::new(place.data_dir()))).await {
        drivers.push(Box::new(native));
    }
    for runtime in RUNTIMES {
        if let Some(driver) = usable(place.oci(runtime)).await {
            drivers.push(Box::new(driver));
        }
    }
    for (range, driver) in (30..).zip(&drivers) {
        let spec = place.spec(artifact.clone(), range);
        let expect =
            [("PATH", "/tools:/bin"), ("EMPTY", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(driver.image_environment(&artifact).await, expect);
        driver.create(&spec).await.unwrap_or_else(|error| panic!("{}: {error:?}", driver.name()));
        let line = "echo /data/* /gone* /opaque/*; read -r who < /data/owned; echo $who $UID; \
                    [ -O /data/owned ]; echo $?; while IFS=: read -r name _ id _; do [ $id = 1000 ] && echo $name; done < /etc/passwd";
        let (said, _) = run_in(&spec, User::Agent, "/bin/bash", line).await;
        let expect = "/data/owned /gone* /opaque/new\nagent 1000\n0\nagentcore-runtime-user\n";
        assert_eq!(said, expect, "{}", driver.name());
        driver.destroy(&spec).await.unwrap();
    }
}

/// An OCI layout with bash and its libraries, and a second layer that hides parts of the first.
fn image_of_this_machine(folder: &Path) -> Option<PathBuf> {
    let bash = fs::canonicalize("/bin/bash").ok()?;
    let said = std::process::Command::new("ldd").arg(&bash).output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let libraries = said.split_whitespace().filter(|word| word.starts_with('/'));
    let mut bottom = tar::Builder::new(Vec::new());
    let mut add = |name: &str, content: &[u8], mode: u32, owner: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_size(content.len() as u64);
        bottom.append_data(&mut header, name, content).unwrap();
    };
    add("bin/bash", &fs::read(&bash).ok()?, 0o755, 0);
    for library in libraries {
        add(library.trim_start_matches('/'), &fs::read(library).ok()?, 0o755, 0);
    }
    add("data/owned", b"agent\n", 0o600, 1000);
    add("gone", b"", 0o644, 0);
    add("opaque/old", b"", 0o644, 0);
    let mut top = tar::Builder::new(Vec::new());
    for name in [".wh.gone", "opaque/.wh..wh..opq", "opaque/new"] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        top.append_data(&mut header, name, [].as_slice()).unwrap();
    }
    let layout = folder.join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let add_blob = |bytes: &[u8]| {
        let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(blobs.join(&hex), bytes).unwrap();
        serde_json::json!({ "digest": format!("sha256:{hex}"), "size": bytes.len() })
    };
    let layers = [bottom.into_inner().unwrap(), top.into_inner().unwrap()].map(|tar| add_blob(&tar));
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
    let config = serde_json::json!({
        "os": "linux",
        "config": { "Env": ["PATH=/tools:/bin", "EMPTY=", "no-variable"] },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = add_blob(config.to_string().as_bytes());
    let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": layers });
    let mut descriptor = add_blob(manifest.to_string().as_bytes());
    descriptor["annotations"] = serde_json::json!({ "org.opencontainers.image.ref.name": "tiny" });
    fs::write(layout.join("index.json"), serde_json::json!({ "manifests": [descriptor] }).to_string())
        .unwrap();
    Some(layout)
}
