//! What sessions use is counted once, whatever happens to their server and to them.

use std::{os::unix::fs::PermissionsExt, process::Command};

use clamshell_testkit::{Client, ServerProcess, eventually};
use serde_json::{Value, json};

use super::{PATIENCE, binary, get_json, run, session_id, start, stop};

/// A processor's second costs 1, so does a hundred seconds of a GB.
const RATES: &str = "[cost]\ncurrency = \"EUR\"\nvcpu_hour = 3600\ngb_hour = 36.0\n";

/// Burns CPU time and tells how much, in the guest's own count: utime and stime of `/proc/PID/stat`, hundredths of a second.
const BURN: &str = "i=0; while [ $((i=i+1)) -lt 400000 ]; do :; done; \
                    read -r line < /proc/$$/stat; set -- ${line##*) }; echo $((${12} + ${13}))";

/// What else runs in a sandbox: its guest, and what programs take to start and end.
const BESIDE_S: f64 = 1.5;

fn seconds(ticks: &str) -> f64 {
    f64::from(ticks.trim().parse::<u32>().unwrap()) / 100.0
}

async fn usage(client: &Client, session: &str) -> Value {
    get_json(client, &format!("/sessions/{session}")).await["usage"].clone()
}

/// The CPU time that a session is told to have used, at least `burned` and not much more.
async fn until_counted(client: &Client, session: &str, burned: f64) -> f64 {
    eventually("the CPU time is counted", PATIENCE, async || {
        let usage = usage(client, session).await;
        let used = usage["cpuSeconds"].as_f64().unwrap();
        assert!(used <= burned * 1.3 + BESIDE_S, "{used} s were counted, {burned} s were used: {usage}");
        // The guest counts ticks, of which it may give a program one too many.
        if used >= burned * 0.95 - 0.05 { Ok(used) } else { Err(usage) }
    })
    .await
}

#[tokio::test]
async fn cpu_time_is_counted_over_kills_and_stops_and_never_twice() {
    let (mut server, client) = start(RATES).await;
    let session = session_id("cost");
    let mut burned = seconds(&run(&client, &session, BURN).await);
    assert!(burned > 0.1, "{burned}");
    if usage(&client, &session).await["cpuUsageUs"].is_null() {
        println!("skipped: nothing counts CPU time on this machine");
        assert!(usage(&client, &session).await["cpuSeconds"].is_null());
        return;
    }
    let first = until_counted(&client, &session, burned).await;

    // The server is killed while a program burns on, and what burned meanwhile is counted by the next one.
    let later = format!(
        "(bash -c '{BURN}' > /mnt/workspace/ticks.new; mv /mnt/workspace/ticks.new /mnt/workspace/ticks) > /dev/null 2>&1 &"
    );
    run(&client, &session, &later).await;
    server.kill_9().unwrap();
    server.start_again().await.unwrap();
    let client = server.client().await.unwrap();
    let after_kill = usage(&client, &session).await["cpuSeconds"].as_f64().unwrap();
    assert!(after_kill >= first, "{after_kill} s are less than the {first} s that were told before");
    let ticks =
        run(&client, &session, "until cat /mnt/workspace/ticks 2> /dev/null; do sleep 0.1; done").await;
    burned += seconds(&ticks);
    let second = until_counted(&client, &session, burned).await;
    assert!(second > first);

    // Stopped, what was told stays, with all that the compute used up to its end.
    assert_eq!(stop(&client, &session).await.status, 200);
    let stopped = usage(&client, &session).await;
    let at_stop = stopped["cpuSeconds"].as_f64().unwrap();
    assert!(at_stop >= second, "{stopped}");
    assert!(stopped["memoryGbSeconds"].as_f64().unwrap() > 0.0, "{stopped}");
    assert_eq!(usage(&client, &session).await, stopped);
    let parts = at_stop + stopped["memoryGbSeconds"].as_f64().unwrap() / 100.0;
    let cost = &stopped["cost"];
    assert!((cost["amount"].as_f64().unwrap() - parts).abs() < 1e-5, "{stopped}");
    assert_eq!((&cost["currency"], &stopped["notes"]), (&"EUR".into(), &Value::Array(Vec::new())));
    server.kill_9().unwrap();
    server.start_again().await.unwrap();
    let client = server.client().await.unwrap();
    let listed = get_json(&client, "/sessions").await["sessions"][0]["usage"].clone();
    for name in ["cpuSeconds", "memoryGbSeconds", "cost", "notes"] {
        assert_eq!(listed[name], stopped[name], "{name} after another kill");
    }

    // Another compute adds to it; its counter starts anew.
    burned += seconds(&run(&client, &session, BURN).await);
    let third = until_counted(&client, &session, burned).await;
    assert!(third > at_stop);

    // A sandbox that ends while no server runs has its last words counted, too.
    burned += seconds(&run(&client, &session, BURN).await);
    server.kill_9().unwrap();
    server.kill_9_sandboxes().await.unwrap();
    server.start_again().await.unwrap();
    let client = server.client().await.unwrap();
    until_counted(&client, &session, burned).await;
}

#[tokio::test]
async fn without_rates_the_use_is_told_and_the_cost_is_not() {
    let (_server, client) = start("").await;
    let session = session_id("no-rates");
    run(&client, &session, "true").await;
    let usage = usage(&client, &session).await;
    assert_eq!(usage["cost"], Value::Null);
    assert!(usage["notes"].to_string().contains("[cost]"), "{usage}");
}

/// What is held while the test looks, bytes.
const HELD: f64 = 200.0 * 1_048_576.0;

/// Sums are told up to a second late, and programs take a moment to begin and to be gone.
const LATE_S: f64 = 2.0;

#[tokio::test]
async fn memory_is_counted_by_the_time_that_it_is_held() {
    let (_server, client) = start(RATES).await;
    let session = session_id("memory");
    if run(&client, &session, "command -v perl || true").await.is_empty() {
        println!("skipped: needs perl in the sandbox");
        return;
    }
    let hold = r#"perl -e '$held = "a" x (200 << 20); sleep 600' > /dev/null 2>&1 &"#;
    run(&client, &session, hold).await;
    let path = format!("/sessions/{session}");
    let first = eventually("the memory is held", PATIENCE, async || {
        let usage = usage(&client, &session).await;
        let has = usage["memoryBytes"].is_null() || usage["memoryBytes"].as_f64() >= Some(HELD);
        if has { Ok(usage) } else { Err(usage) }
    })
    .await;
    if first["memoryBytes"].is_null() {
        println!("skipped: nothing counts memory on this machine");
        assert!(first["memoryGbSeconds"].is_null());
        return;
    }
    let began = std::time::Instant::now();
    let last = eventually("some seconds have passed", PATIENCE, async || {
        let usage = get_json(&client, &path).await["usage"].clone();
        if began.elapsed().as_secs_f64() >= 5.0 { Ok(usage) } else { Err(usage) }
    })
    .await;
    let held_s = began.elapsed().as_secs_f64();
    let sum = |usage: &Value| usage["memoryGbSeconds"].as_f64().unwrap();
    let counted = sum(&last) - sum(&first);
    let per_s = last["memoryBytes"].as_f64().unwrap() / 1_073_741_824.0;
    let (least, most) = ((held_s - LATE_S) * per_s * 0.9, (held_s + LATE_S) * per_s * 1.1);
    assert!((least..=most).contains(&counted), "{counted} GB s in {held_s} s: {first}, then {last}");

    // Nothing is held while it is stopped.
    assert_eq!(stop(&client, &session).await.status, 200);
    let stopped = usage(&client, &session).await;
    assert!(sum(&stopped) >= sum(&last) && sum(&stopped) <= sum(&last) + 60.0 * per_s, "{stopped}");
    assert_eq!(usage(&client, &session).await, stopped);
}

/// Takes the control groups out of the sight of a program and starts it.
const WITHOUT_GROUPS: &str = "umount --recursive --lazy /sys/fs/cgroup && exec \"$0\" \"$@\"";

#[tokio::test]
async fn where_nothing_counts_what_is_used_it_is_not_known() {
    let works = Command::new("unshare").args(["--mount", "sh", "-c", WITHOUT_GROUPS, "true"]).output();
    if !works.is_ok_and(|works| works.status.success()) {
        println!("skipped: control groups cannot be hidden from a server here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("clamshell");
    let script =
        format!("#!/bin/sh\nexec unshare --mount sh -c '{WITHOUT_GROUPS}' {} \"$@\"\n", binary().display());
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = ServerProcess::start(&program, RATES).await.unwrap();
    let client = server.client().await.unwrap();
    let doctor = get_json(&client, "/doctor").await;
    let capabilities = doctor["reports"][0]["capabilities"].as_array().unwrap();
    for name in ["CPU accounting", "memory accounting"] {
        let found = capabilities.iter().find(|one| one["name"] == name).unwrap();
        assert_eq!(found["available"], false, "{found}");
        assert!(found["hint"].as_str().unwrap().contains("not known"), "{found}");
    }
    let session = session_id("uncounted");
    run(&client, &session, "true").await;
    let unknown = |usage: &Value, when: &str| {
        for name in ["cpuSeconds", "memoryGbSeconds", "cost"] {
            assert_eq!(usage[name], Value::Null, "{when}: {usage}");
        }
        assert!(usage["notes"].to_string().contains("clamshell doctor"), "{when}: {usage}");
    };
    unknown(&usage(&client, &session).await, "at once");
    unknown(&get_json(&client, "/sessions").await["sessions"][0]["usage"], "in the list");
    assert_eq!(stop(&client, &session).await.status, 200);
    unknown(&usage(&client, &session).await, "stopped");
    assert_eq!(usage(&client, &session).await["cpuUsageUs"], json!(null));
}
