//! Two hundred programs in four shells, with everything that can happen to their clients and their server.

use std::time::Instant;

use clamshell_term::status::Status;
use clamshell_testkit::{Client, ServerProcess, ShellEvent};

use super::{
    confirmed,
    follower::{Follower, assert_same},
    generate, log_bytes, next_event,
    plan::{Cycle, Trouble, plan},
    run, session_id, start,
};

/// Taken when `CLAMSHELL_TEST_SEED` is not set.
const SEED: u64 = 20_261_120;

const CYCLES: u64 = 200;

/// Two sessions with two shells each.
const SHELLS: usize = 4;

/// One shell: who follows it, and what it must have printed.
struct Lane {
    follower: Follower,
    expected: Vec<u8>,
}

/// Bytes that another client saw, and where they must lie in the log.
struct Sighting {
    who: &'static str,
    offset: usize,
    bytes: Vec<u8>,
}

#[tokio::test]
async fn two_hundred_cycles() {
    let seed = match std::env::var("CLAMSHELL_TEST_SEED") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => SEED,
    };
    eprintln!("CLAMSHELL_TEST_SEED={seed}");
    let began = Instant::now();
    let (mut server, client) = start("").await;
    let mut lanes = Vec::new();
    for number in 0..SHELLS {
        lanes.push(lane(&client, number).await);
    }
    for (number, cycle) in plan(seed, CYCLES, SHELLS).iter().enumerate() {
        eprintln!("{number}: {cycle:?}");
        step(&mut server, &client, &mut lanes, cycle).await;
    }
    let mut bytes = 0;
    for lane in &mut lanes {
        lane.follower.read(lane.expected.len()).await;
        assert_same("followed log", &lane.follower.log, &lane.expected);
        let stored = log_bytes(&client, &lane.follower.session, &lane.follower.shell).await;
        assert_same("stored log", &stored, &lane.expected);
        bytes += stored.len();
    }
    eprintln!("{CYCLES} cycles, {bytes} bytes, {:?}", began.elapsed());
}

/// A shell that reads lines and runs them, without echo and prompt.
async fn lane(client: &Client, number: usize) -> Lane {
    let session = session_id(&format!("cycles-{}", number % 2));
    let files = format!(
        "cat > /mnt/workspace/generate.awk <<'END'\n{}END\ncat > /mnt/workspace/loop <<'END'\n{}END\n\
         chmod a+r /mnt/workspace/*",
        generate::awk(),
        generate::LOOP
    );
    run(client, &session, &files).await;
    let mut follower = Follower::start(client, &session, &format!("shell-{number}")).await;
    follower.type_line("exec bash /mnt/workspace/loop").await;
    follower.read_to("READY").await;
    let expected = follower.log.clone();
    Lane { follower, expected }
}

async fn step(server: &mut ServerProcess, client: &Client, lanes: &mut [Lane], cycle: &Cycle) {
    let output = cycle.program.output();
    let share = |after: u64| output.len() * usize::try_from(after).unwrap() / 1000;
    let lane = &mut lanes[cycle.shell];
    let begin = lane.expected.len();
    lane.expected.extend_from_slice(&output);
    let end = lane.expected.len();
    let mut sightings = Vec::new();
    let line = cycle.program.line();
    match cycle.trouble {
        Trouble::None => lane.follower.type_line(&line).await,
        Trouble::SlowReader => return lane.follower.type_line(&line).await,
        Trouble::Disconnect { after } => {
            lane.follower.type_line(&line).await;
            // At least one byte, which proves that the line has arrived.
            lane.follower.read_exactly((begin + share(after)).max(begin + 1)).await;
            lane.follower.come_back(client).await;
        }
        Trouble::Resize { after, cols, rows } => {
            lane.follower.type_line(&line).await;
            lane.follower.read(begin + share(after)).await;
            lane.follower.resize(cols, rows).await;
        }
        Trouble::AwsClient { after } => {
            lane.follower.type_line(&line).await;
            lane.follower.read(begin + share(after)).await;
            sightings.push(as_aws_client(client, &lane.follower, begin + share(after)).await);
        }
        Trouble::Watcher { after } => {
            lane.follower.type_line(&line).await;
            lane.follower.read(begin + share(after)).await;
            sightings.push(as_watcher(client, &lane.follower, end).await);
        }
        Trouble::KillServer { after } => {
            // The second half waits for a line, which only a shell that lived on can read.
            lane.follower.type_line(&format!("{line}; IFS= read -r _; {line}")).await;
            lane.follower.read_exactly((begin + share(after)).max(begin + 1)).await;
            server.kill_9().unwrap();
            server.start_again().await.unwrap();
            for lane in lanes.iter_mut() {
                lane.follower.come_back(client).await;
            }
            let lane = &mut lanes[cycle.shell];
            lane.follower.type_line("").await;
            lane.expected.extend_from_slice(&output);
        }
    }
    let lane = &mut lanes[cycle.shell];
    lane.follower.read(lane.expected.len()).await;
    let (got, expected) = (&lane.follower.log[begin..], &lane.expected[begin..]);
    assert_same("output of this cycle", got, expected);
    for Sighting { who, offset, bytes } in sightings {
        assert_same(who, &bytes, &lane.expected[offset..offset + bytes.len()]);
    }
}

/// Attaches beside the follower, reads the replay and what follows at least up to `until`, and breaks off.
async fn as_aws_client(client: &Client, follower: &Follower, until: usize) -> Sighting {
    let mut socket = client.shell(&follower.session, &follower.shell).await.unwrap();
    let offset: usize = socket.headers["x-clamshell-shell-offset"].to_str().unwrap().parse().unwrap();
    assert!(offset + 256 * 1024 >= follower.log.len(), "the replay reaches back 256 KiB");
    assert!(confirmed(&mut socket).await, "the shell was there before");
    let mut bytes = Vec::new();
    while offset + bytes.len() < until {
        match next_event(&mut socket).await {
            ShellEvent::Output(more) => bytes.extend_from_slice(&more),
            other => panic!("{other:?}"),
        }
    }
    socket.cut();
    Sighting { who: "AWS client", offset, bytes }
}

/// Watches from the picture on, until `end`.
async fn as_watcher(client: &Client, follower: &Follower, end: usize) -> Sighting {
    let query = "from=screen&access=watch";
    let mut socket = client.attach(&follower.session, &follower.shell, query).await.unwrap();
    assert!(confirmed(&mut socket).await, "the shell was there before");
    let ShellEvent::Status(Status::Screen { offset, bytes: mut picture, .. }) = next_event(&mut socket).await
    else {
        panic!("no picture");
    };
    let offset = usize::try_from(offset).unwrap();
    let mut bytes = Vec::new();
    while offset + bytes.len() < end {
        match next_event(&mut socket).await {
            ShellEvent::Output(more) => {
                let painted = more.len().min(usize::try_from(picture).unwrap());
                picture -= painted as u64;
                bytes.extend_from_slice(&more[painted..]);
            }
            ShellEvent::Status(Status::Resized { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    Sighting { who: "watcher", offset, bytes }
}
