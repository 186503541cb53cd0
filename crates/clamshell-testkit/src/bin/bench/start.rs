//! Start of a server whose store holds 1,000 sessions.

use std::{path::Path, time::Instant};

use anyhow::Result;
use clamshell_domain::{EndpointName, Phase, RuntimeName, SessionId, SessionKey, StorageId, SystemEntropy};
use clamshell_store::Store;
use clamshell_testkit::ServerProcess;

use crate::{Samples, create::session, report};

const SESSIONS: usize = 1_000;
const ROUNDS: usize = 10;

pub(crate) async fn run(binary: &Path) -> Result<()> {
    let mut server = ServerProcess::start_measured(binary, "").await?;
    server.terminate().await?;
    let store = Store::open(&server.data_dir().join("clamshell.db")).await?;
    let runtime = store.runtime_by_name(&RuntimeName::parse("default")?).await?;
    let runtime = runtime.ok_or_else(|| anyhow::anyhow!("no default runtime"))?;
    for number in 0..SESSIONS {
        let key = SessionKey {
            runtime_id: runtime.runtime_id.clone(),
            endpoint: EndpointName::default_endpoint(),
            session_id: SessionId::parse(session("stored", number))?,
        };
        let now_ms = clamshell_domain::Clock::now_ms(&clamshell_domain::SystemClock);
        let storage_id = StorageId::generate(&SystemEntropy);
        let mut record = store.create_session(&key, &storage_id, now_ms, 1, "native").await?;
        record.phase = Phase::Stopped;
        store.update_session(&record).await?;
    }
    store.close().await;
    let mut ours = Samples::new("clamshell: spawn to listening");
    for _ in 0..ROUNDS {
        let start = Instant::now();
        server.start_again().await?;
        ours.ms.push(start.elapsed().as_secs_f64() * 1e3);
        server.kill_9()?;
    }
    server.start_again().await?;
    report("start with 1,000 sessions in the store", &[ours]);
    Ok(())
}
