//! One session that is stopped and woken again and again, while its server is killed at random moments: its workspace is
//! the same each time, byte for byte.
//!
//! Sixty cycles; a thousand with `CLAMSHELL_TEST_WAKES=1000 cargo nextest run -p clamshell-cli wakes`. A run is repeated with
//! the `CLAMSHELL_TEST_SEED` that it prints.

use std::{fmt::Write, time::Duration};

use clamshell_testkit::{Client, ServerProcess, eventually};

use super::{PATIENCE, run, session_id, start, stop};

/// Taken when `CLAMSHELL_TEST_SEED` is not set.
const SEED: u64 = 20_261_121;

/// Enough for each way of stopping to come a dozen times; `CLAMSHELL_TEST_WAKES` sets another number.
const WAKES: u64 = 60;

/// Longest time between the beginning of a step and the kill, milliseconds: most steps are over by then.
const KILL_WITHIN_MS: u64 = 400;

/// Names, kinds, modes, link targets and contents of all there is.
const HASH: &str = "cd /mnt/workspace && { find . -printf '%P %y %m %s %l\\n' | grep -v '^ d' | sort; \
                    find . -type f -print0 | sort -z | xargs -0 -r sha256sum; } | sha256sum";

/// SplitMix64: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// What happens between two looks at the workspace.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// Stopped by a call.
    Stop,
    /// The server is killed while it stops the session.
    KillWhileStopping,
    /// The server is killed while the session runs a command, and the session stopped by the next one.
    KillWhileRunning,
    /// The server is killed after a stop, and again while it wakes the session.
    KillWhileWaking,
    /// The whole machine, as far as a test can: server, keeper and guest at once.
    KillAll,
}

const WAYS: [Way; 5] =
    [Way::Stop, Way::KillWhileStopping, Way::KillWhileRunning, Way::KillWhileWaking, Way::KillAll];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Runs a command as often as it takes; so it must be one that may be run twice.
async fn surely(client: &Client, session: &str, command: &str) -> String {
    let outcome =
        eventually("command runs", PATIENCE, async || match client.command(session, command, 60).await {
            Ok(outcome) if outcome.stop == Some((0, "COMPLETED".to_owned())) => Ok(outcome.stdout),
            other => Err(format!("{other:?}")),
        });
    outcome.await
}

/// A change that gives the same when it is made twice, and the hash of everything after it.
fn change(random: &mut Random, cycle: u64) -> String {
    let mut script = "cd /mnt/workspace".to_owned();
    let folder = format!("d{}", random.below(8));
    let bytes = random.below(200_000);
    let _ = match random.below(5) {
        0 => write!(script, " && mkdir -p {folder}/deep && ln -sfn ../{folder} {folder}/deep/link-{cycle}"),
        1 => write!(script, " && rm -rf {folder}"),
        2 => write!(
            script,
            " && mkdir -p {folder} && : > {folder}/empty-{cycle} && chmod 6{}5 {folder}/empty-{cycle}",
            cycle % 8
        ),
        _ => write!(
            script,
            " && mkdir -p {folder} && awk 'BEGIN {{ for (i = 0; i < {bytes}; i += 8) printf \"%08d\", i + {cycle} }}' > \
             {folder}/file-{} && sync {folder}/file-{}",
            cycle % 20,
            cycle % 20
        ),
    };
    format!("{script} && {HASH}")
}

async fn again(server: &mut ServerProcess) {
    server.kill_9().unwrap();
    server.start_again().await.unwrap();
}

#[tokio::test]
async fn wakes_find_the_same_workspace() {
    let (seed, wakes) = (number("CLAMSHELL_TEST_SEED", SEED), number("CLAMSHELL_TEST_WAKES", WAKES));
    eprintln!("CLAMSHELL_TEST_SEED={seed} CLAMSHELL_TEST_WAKES={wakes}");
    let mut random = Random(seed);
    let (mut server, client) = start("").await;
    let session = session_id("wakes");
    let mut hash = run(&client, &session, HASH).await;
    for cycle in 0..wakes {
        let way = WAYS[usize::try_from(random.below(5)).unwrap()];
        let moment = Duration::from_micros(random.below(KILL_WITHIN_MS * 1000));
        eprintln!("{cycle}: {way:?}, {moment:?}");
        match way {
            Way::Stop => {
                let reply = stop(&client, &session).await;
                assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
            }
            Way::KillWhileStopping => {
                // Whether it was done by then is as it may be.
                let _ = tokio::time::timeout(moment, stop(&client, &session)).await;
                again(&mut server).await;
            }
            Way::KillWhileRunning => {
                let _ = tokio::time::timeout(moment, client.command(&session, HASH, 60)).await;
                again(&mut server).await;
                let reply = stop(&client, &session).await;
                assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
            }
            Way::KillWhileWaking => {
                assert_eq!(stop(&client, &session).await.status, 200);
                again(&mut server).await;
                let _ = tokio::time::timeout(moment, client.command(&session, "true", 60)).await;
                again(&mut server).await;
            }
            Way::KillAll => {
                server.kill_9_sandboxes().await.unwrap();
                again(&mut server).await;
            }
        }
        let found = surely(&client, &session, HASH).await;
        assert_eq!(found, hash, "cycle {cycle} of seed {seed}: {way:?}");
        hash = surely(&client, &session, &change(&mut random, cycle)).await;
    }
}
