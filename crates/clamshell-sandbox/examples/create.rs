//! How long sandboxes take: creates and destroys a number of them, one after the other, and prints the middle times.
//!
//! `cargo run --release --example create -- 100`

#![expect(clippy::print_stdout, reason = "a measurement is there to be read")]

use std::time::{Duration, Instant};

use clamshell_domain::{Artifact, IdRange, Limits, SandboxDriver, SandboxSpec, StorageId, SystemEntropy};
use clamshell_sandbox::{NativeDriver, NativeOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u32 = std::env::args().nth(1).map_or(Ok(50), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let driver = NativeDriver::new(NativeOptions::new(folder.path().join("data")));
    let mut creates = Vec::new();
    let mut destroys = Vec::new();
    for number in 0..=count {
        let storage_id = StorageId::generate(&SystemEntropy);
        let session_dir = folder.path().join("sessions").join(storage_id.as_str());
        std::fs::create_dir_all(&session_dir)?;
        let spec = SandboxSpec {
            storage_id,
            session_dir,
            artifact: Artifact::Host,
            id_range: IdRange(number),
            limits: Limits::default(),
            region: "us-west-2".to_owned(),
            instance_id: "ai-00000000000000000".to_owned(),
            environment: std::collections::BTreeMap::new(),
            mounts: Vec::new(),
        };
        let start = Instant::now();
        let sandbox = driver.create(&spec).await?;
        let created = start.elapsed();
        if number == 0 {
            // The first one also builds the host image.
            println!("first: {created:?}; does not hold: {:?}", sandbox.degraded);
        }
        let start = Instant::now();
        driver.destroy(&spec).await?;
        if number > 0 {
            creates.push(created);
            destroys.push(start.elapsed());
        }
    }
    show("create until the guest answers", creates);
    show("destroy", destroys);
    Ok(())
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    println!("{what}: least {:?}, p50 {:?}, p90 {:?}, p99 {:?}", at(0), at(50), at(90), at(99));
}
