//! Calls that come while their session is being made.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clamshell_testkit::{eventually, within};
use rustix::fs::{Mode, OFlags};

use crate::{
    calls::{Call, SESSION, check_envelope, message},
    in_process::{InProcess, LIMIT, sandboxes},
};

/// An image that takes as long to open as the test likes, and then is none.
struct SlowImage(PathBuf);

impl SlowImage {
    fn new(folder: &Path) -> Self {
        let path = folder.join("slow.tar");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        Self(path)
    }

    fn go_on(&self) {
        // Refused when nobody waits, and then there is nothing to do.
        let _ = rustix::fs::open(&self.0, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
    }
}

impl Drop for SlowImage {
    fn drop(&mut self) {
        self.go_on();
    }
}

#[tokio::test]
async fn a_call_waits_two_seconds_and_is_then_told_to_retry() {
    let Some(()) = sandboxes() else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = SlowImage::new(folder.path());
    let server = InProcess::start(&format!("[runtimes.slow]\nimage = \"oci:{}\"\n", image.0.display())).await;
    let call = |method: &str, rest: &str, body: &str| {
        let path = format!("/clamshell/v1/sessions/{SESSION}{rest}?runtime=slow");
        Call::new(method, path).body(body).signed(&server.root())
    };
    let run = call("POST", "/commands", "{\"command\":\"true\"}");
    let second = async {
        eventually("session is being made", LIMIT, async || {
            let reply = call("GET", "", "").send(&server.client).await;
            let state = reply.json()["state"].clone();
            if state == "Provisioning" { Ok(()) } else { Err(state) }
        })
        .await;
        let start = Instant::now();
        let reply = within("second call", LIMIT, run.clone().send(&server.client)).await;
        assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
        check_envelope("second call", &reply);
        assert_eq!(
            (reply.status.as_u16(), reply.header("x-amzn-errortype")),
            (409, "RetryableConflictException")
        );
        assert_eq!(reply.json(), message("Session operation in progress, please retry"));
        image.go_on();
    };
    let first = run.clone();
    let (first, ()) = tokio::join!(within("first call", LIMIT, first.send(&server.client)), second);
    assert_eq!(first.status, 424, "{}", String::from_utf8_lossy(&first.body));
}
