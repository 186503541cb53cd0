//! Memory of an idle server and of idle sessions, and sizes of the programs.

use std::path::Path;

use anyhow::{Context, Result};
use clamshell_testkit::ServerProcess;

use crate::{commands::Connection, create::session};

const SESSIONS: usize = 500;

pub(crate) async fn run(binary: &Path) -> Result<()> {
    println!("\n## memory and sizes");
    println!("binary {:.1} MB", mb(std::fs::metadata(binary)?.len()));
    let server = ServerProcess::start_measured(binary, "").await?;
    for file in std::fs::read_dir(server.data_dir().join("libexec")).into_iter().flatten().flatten() {
        println!("guest {:.2} MB", mb(file.metadata()?.len()));
    }
    let client = server.client().await?;
    println!("idle server, no session: {:.1} MiB", mib(pss(server.pid()?)?));
    let mut connection = Connection::open(&client).await?;
    for number in 0..SESSIONS {
        connection
            .command(&session("idle", number), "echo x")
            .await
            .with_context(|| format!("session {number}"))?;
    }
    drop(connection);
    for file in std::fs::read_dir(server.data_dir().join("libexec")).into_iter().flatten().flatten() {
        println!("guest {:.2} MB", mb(file.metadata()?.len()));
    }
    println!("idle server, {SESSIONS} sessions: {:.1} MiB", mib(pss(server.pid()?)?));
    let mut total = 0;
    let mut processes = 0;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let ours = command.windows(15).any(|window| window == b"clamshell-guest")
            || command.starts_with(b"guest\0")
            || command.windows(7).any(|window| window == b"\0guest\0");
        if ours && let Ok(bytes) = pss(pid) {
            total += bytes;
            processes += 1;
        }
    }
    println!(
        "{processes} keepers and guests: {:.1} MiB, {:.3} MiB per session",
        mib(total),
        mib(total) / SESSIONS as f64
    );
    Ok(())
}

/// Proportional set size, bytes.
fn pss(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find(|line| line.starts_with("Pss:")).context("no Pss")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib * 1024)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
