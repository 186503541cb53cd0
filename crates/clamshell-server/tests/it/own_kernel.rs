//! Sessions on gVisor: the whole way of one through a server. Skipped where the machine has no usable `runsc`.

use clamshell_domain::SandboxDriver;
use clamshell_sandbox::{OciDriver, OciOptions};
use clamshell_testkit::skip;
use http::StatusCode;

use crate::in_process::InProcess;

const SESSION: &str = "session-on-a-kernel-of-its-own-0001";

async fn is_usable() -> bool {
    let folder = tempfile::tempdir().unwrap();
    let report = OciDriver::new("runsc", OciOptions::new(folder.path())).probe().await;
    let reasons = report.capabilities.iter().filter(|one| !one.available).map(|one| one.detail.as_str());
    report.usable || skip::<()>(&reasons.collect::<Vec<_>>().join("; ")).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn e2e_runsc_session_runs_stops_and_wakes() {
    if !is_usable().await {
        return;
    }
    let server = InProcess::start("driver = \"runsc\"\n").await;
    let client = &server.client;
    let kernel = client.command(SESSION, "uname -r; echo kept > /mnt/workspace/file", 30).await.unwrap();
    let of_the_machine = rustix::system::uname();
    assert_ne!(kernel.stdout.trim().as_bytes(), of_the_machine.release().to_bytes(), "{kernel:?}");
    assert_eq!(kernel.stop, Some((0, "COMPLETED".to_owned())), "{kernel:?}");

    let mut shell = client.shell(SESSION, "one").await.unwrap();
    shell.input(b"tty; id -u; echo $((6 * 7))\n").await.unwrap();
    let seen = String::from_utf8_lossy(&shell.read_until("42\r\n").await.unwrap()).into_owned();
    assert!(seen.contains("/dev/pts/") && seen.contains("1000\r\n"), "{seen}");
    // A program in the foreground of the terminal is told of signals.
    shell.input(b"sh -c 'echo re''ady; exec sleep 1000'\n").await.unwrap();
    shell.read_until("ready\r\n").await.unwrap();
    shell.input(b"\x03").await.unwrap();
    shell.read_until("$ ").await.unwrap();
    shell.input(b"echo e''nd\n").await.unwrap();
    shell.read_until("end\r\n").await.unwrap();
    shell.cut();
    // What the shell printed is on the machine's disk, written through the other kernel.
    let mut shell = client.attach(SESSION, "one", "from=offset:0").await.unwrap();
    shell.read_until("42\r\n").await.unwrap();
    shell.cut();

    let headers = [("x-amzn-bedrock-agentcore-runtime-session-id", SESSION)];
    let stop = client.request("POST", &client.runtime_path("stopruntimesession"), &headers, b"{}").await;
    assert_eq!(stop.unwrap().status, StatusCode::OK);
    let woken = client.command(SESSION, "cat /mnt/workspace/file; ls /tmp | wc -l", 30).await.unwrap();
    assert_eq!(woken.stdout, "kept\n0\n", "{woken:?}");
}
