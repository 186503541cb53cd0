//! A new session by one signed command call: request to first byte of output; and 100 of them at once.

use std::{path::Path, time::Instant};

use anyhow::Result;
use clamshell_testkit::ServerProcess;

use crate::{Samples, commands::Connection, peers::Peer, report};

const ROUNDS: usize = 60;

pub(crate) async fn run(binary: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = ServerProcess::start_measured(binary, "").await?;
    let client = server.client().await?;
    let mut connection = Connection::open(&client).await?;
    let alone = ServerProcess::start_measured(binary, "standby = false\n").await?;
    let mut alone_connection = Connection::open(&alone.client().await?).await?;
    let mut crun = Peer::start("crun", "run", folder.path());
    let mut runc = Peer::start("runc", "run", folder.path());
    let (mut ours, mut theirs_crun, mut theirs_runc) =
        (Samples::new("clamshell: create to output"), Samples::new("crun run"), Samples::new("runc run"));
    let mut ours_alone = Samples::new("clamshell: with `standby = false`");
    // The first session of a server builds the host image's skeleton.
    connection.command(&session("warm", 0), "echo x").await?;
    alone_connection.command(&session("warm", 0), "echo x").await?;
    for round in 0..ROUNDS {
        ours.ms.push(connection.command(&session("create", round), "echo x").await?.first_output_ms);
        let made = alone_connection.command(&session("create", round), "echo x").await?;
        ours_alone.ms.push(made.first_output_ms);
        if let Some(peer) = &mut crun {
            theirs_crun.ms.push(peer.once()?);
        }
        if let Some(peer) = &mut runc {
            theirs_runc.ms.push(peer.once()?);
        }
    }
    report("new session, request to first output byte", &[ours, ours_alone, theirs_crun, theirs_runc]);
    drop((crun, runc, alone_connection, alone));

    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let client = client.clone();
        tasks.spawn(async move {
            let start = Instant::now();
            let mut connection = Connection::open(&client).await?;
            connection.command(&session("burst", number), "echo x").await?;
            anyhow::Ok(start.elapsed().as_secs_f64() * 1e3)
        });
    }
    let mut each = Samples::new("clamshell: each of 100 at once");
    let mut failed = 0;
    while let Some(done) = tasks.join_next().await {
        match done? {
            Ok(ms) => each.ms.push(ms),
            Err(error) => {
                failed += 1;
                eprintln!("failed: {error:#}");
            }
        }
    }
    report("100 new sessions at once", &[each]);
    println!("all answered after {:.0} ms, {failed} failed", start.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

pub(crate) fn session(name: &str, number: usize) -> String {
    format!("bench-{name}-{number:0>40}")
}
