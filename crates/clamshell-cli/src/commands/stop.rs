//! `clamshell stop`: ends the local server. Sandboxes and their shells go on.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::{failure::Failure, local, output};

/// The server drains open connections first; this is well above what it allows itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(25);

/// Stop the local server; sandboxes and shells go on
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  clamshell stop\n  clamshell stop --json")]
pub(crate) struct StopArgs {
    /// Data directory of the local server [env: CLAMSHELL_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print one JSON object on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

/// Sends SIGTERM and waits.
pub(crate) async fn run(args: StopArgs) -> Result<i32, Failure> {
    let data_dir = local::data_dir(args.data_dir.as_deref());
    // A server that does not answer is not signaled: its number may belong to another process by now.
    let Some(info) = local::running(&data_dir).await? else {
        report(args.json, None);
        return Ok(0);
    };
    let pid = i32::try_from(info.pid).ok().and_then(Pid::from_raw);
    let cannot = || Failure::new(format!("cannot stop the server (process {})", info.pid));
    let pid = pid.ok_or_else(|| cannot().because("not a process number"))?;
    kill_process(pid, Signal::TERM).map_err(|error| cannot().because(error))?;
    let deadline = Instant::now() + STOP_TIMEOUT;
    while test_kill_process(pid).is_ok() && !is_zombie(info.pid) {
        if Instant::now() > deadline {
            return Err(cannot().because(format!("it still runs after {} s", STOP_TIMEOUT.as_secs())));
        }
        tokio::time::sleep(POLL).await;
    }
    report(args.json, Some(info.pid));
    Ok(0)
}

/// Ended, but its parent has not looked yet.
fn is_zombie(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

fn report(json: bool, pid: Option<u32>) {
    if json {
        output::print_json(&serde_json::json!({"success": true, "stopped": pid.is_some(), "pid": pid}));
    } else {
        match pid {
            Some(pid) => eprintln!("Stopped the server (process {pid}). Sandboxes and shells go on."),
            None => eprintln!("No local server is running."),
        }
    }
}
