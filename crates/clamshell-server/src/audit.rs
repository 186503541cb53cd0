//! The audit trail: one task writes what handlers tell it, many records in one transaction.
//!
//! Whoever tells something waits until it is stored: so what a client was told is in the trail, also after `kill -9` of the
//! server at the next instant. What was done and not yet told to anybody may be missing then. A full queue makes the
//! tellers wait; nothing is ever left out. A record holds names and numbers, and never a body, a secret or a token.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clamshell_domain::Clock;
use clamshell_store::{AuditOutcome, AuditRecord, AuditVia, Store};
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::time::rfc3339;

/// Records that wait for the writer: some thousand writes a second fit into the time of one transaction many times over.
const QUEUE_MAX: usize = 1024;

/// Records of one transaction: beyond this it takes longer without being worth more.
const BATCH_MAX: usize = 256;

/// Characters of a name, an action, a resource or the like.
const TEXT_CHARS_MAX: usize = 512;

/// Bytes of a detail; ours have some hundred.
const DETAIL_BYTES_MAX: usize = 4096;

/// Records are kept for so long.
pub(crate) const KEEP_MS: u64 = 90 * 24 * 3_600_000;

/// And so many at most: some hundred MB.
pub(crate) const KEEP_ROWS: u64 = 1_000_000;

/// Records removed in one transaction, so that no write waits long for it.
const TRIM_AT_ONCE: u32 = 5_000;

/// How often old records are removed.
const TRIM_EVERY: Duration = Duration::from_secs(600);

/// What somebody did, before it has a place in the trail.
#[derive(Debug, Clone)]
pub(crate) struct AuditEntry {
    /// ARN of the caller; empty when nobody is known.
    pub(crate) principal: String,
    /// Name of the user, role session or token's subject. What a stranger calls itself is cut and cleaned.
    pub(crate) user_name: String,
    /// Address of the caller.
    pub(crate) source_ip: String,
    /// How it proved who it is.
    pub(crate) via: AuditVia,
    /// For instance `clamshell:StopSession`.
    pub(crate) action: String,
    /// ARN, or `*`.
    pub(crate) resource: String,
    /// HTTP status of the answer; says how it came out.
    pub(crate) status: u16,
    /// Id of the request.
    pub(crate) request_id: String,
    /// What else matters: names and numbers only.
    pub(crate) detail: Map<String, Value>,
}

struct Queued {
    record: AuditRecord,
    stored: oneshot::Sender<()>,
}

/// The trail's end for handlers.
pub(crate) struct Audit {
    store: Store,
    clock: Arc<dyn Clock>,
    /// Id of the newest record.
    last_id: AtomicU64,
    queue: mpsc::Sender<Queued>,
    waiting: std::sync::Mutex<Option<mpsc::Receiver<Queued>>>,
}

impl std::fmt::Debug for Queued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queued").field("action", &self.record.action).finish_non_exhaustive()
    }
}

impl Audit {
    /// The trail in this store, whose newest record has the id `last_id`.
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>, last_id: u64) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        Self {
            store,
            clock,
            last_id: AtomicU64::new(last_id),
            queue,
            waiting: std::sync::Mutex::new(Some(waiting)),
        }
    }

    /// Adds an entry and returns when it is stored; waits while the queue is full. A store that fails is logged: what was
    /// done is done.
    pub(crate) async fn record(&self, entry: AuditEntry) {
        let (stored, is_stored) = oneshot::channel();
        let queued = Queued { record: self.record_of(entry), stored };
        match self.queue.send(queued).await {
            Ok(()) => {
                // The writer drops what it could not store, and says why.
                let _ = is_stored.await;
            }
            // The writer has ended with the server; what is still being served is written here.
            Err(mpsc::error::SendError(mut queued)) => {
                queued.record.id = self.next_id();
                self.store_all(&[queued.record]).await;
            }
        }
    }

    /// Writes what is told until the server shuts down, and removes what is old. `told` is called with each record after it
    /// was stored.
    pub(crate) async fn write(&self, shutdown: CancellationToken, told: impl Fn(&AuditRecord)) {
        let waiting = self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(mut waiting) = waiting else { return };
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let mut trims = tokio::time::interval(TRIM_EVERY);
        trims.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                count = waiting.recv_many(&mut batch, BATCH_MAX) => {
                    if count == 0 {
                        return;
                    }
                }
                () = shutdown.cancelled(), if !waiting.is_closed() => {
                    waiting.close();
                    continue;
                }
                _ = trims.tick() => {
                    self.trim().await;
                    continue;
                }
            }
            let (mut records, mut tellers) =
                (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
            for Queued { mut record, stored } in batch.drain(..) {
                record.id = self.next_id();
                records.push(record);
                tellers.push(stored);
            }
            if self.store_all(&records).await {
                for (record, teller) in records.iter().zip(tellers) {
                    told(record);
                    // A client that hung up does not wait any more.
                    let _ = teller.send(());
                }
            }
        }
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::AcqRel) + 1
    }

    async fn store_all(&self, records: &[AuditRecord]) -> bool {
        match self.store.insert_audit(records).await {
            Ok(()) => true,
            Err(error) => {
                let records = records.len();
                tracing::error!(
                    error = crate::http::chain(&error),
                    records,
                    "audit records were not written"
                );
                false
            }
        }
    }

    async fn trim(&self) {
        let before_ms = self.clock.now_ms().saturating_sub(KEEP_MS);
        match self.store.trim_audit(before_ms, KEEP_ROWS, TRIM_AT_ONCE).await {
            Ok(_) => {}
            Err(error) => tracing::warn!(error = crate::http::chain(&error), "old audit records stay"),
        }
    }

    fn record_of(&self, entry: AuditEntry) -> AuditRecord {
        let outcome = match entry.status {
            ..=399 => AuditOutcome::Allowed,
            401 | 403 => AuditOutcome::Denied,
            _ => AuditOutcome::Failed,
        };
        let detail = match Value::Object(entry.detail).to_string() {
            long if long.len() > DETAIL_BYTES_MAX => r#"{"cut":true}"#.to_owned(),
            detail => detail,
        };
        AuditRecord {
            id: 0,
            at_ms: self.clock.now_ms(),
            principal: plain(&entry.principal),
            user_name: plain(&entry.user_name),
            source_ip: plain(&entry.source_ip),
            via: entry.via,
            action: plain(&entry.action),
            resource: plain(&entry.resource),
            outcome,
            status: entry.status,
            request_id: plain(&entry.request_id),
            detail,
        }
    }
}

/// A text as it is kept: short, and without what a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(TEXT_CHARS_MAX).collect()
}

/// A record as `docs/api.md` has it.
pub(crate) fn view(record: &AuditRecord) -> Value {
    json!({
        "id": record.id,
        "at": rfc3339(record.at_ms),
        "principal": record.principal,
        "userName": record.user_name,
        "sourceIp": record.source_ip,
        "via": match record.via {
            AuditVia::Signature => "signature",
            AuditVia::Cookie => "cookie",
            AuditVia::Share => "share",
            AuditVia::Token => "token",
            AuditVia::Nothing => "none",
        },
        "action": record.action,
        "resource": record.resource,
        "outcome": match record.outcome {
            AuditOutcome::Allowed => "allowed",
            AuditOutcome::Denied => "denied",
            AuditOutcome::Failed => "failed",
        },
        "status": record.status,
        "requestId": record.request_id,
        "detail": serde_json::from_str::<Value>(&record.detail).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Clock for Fixed {
        fn now_ms(&self) -> u64 {
            KEEP_MS + 1
        }
    }

    fn entry(action: &str, status: u16) -> AuditEntry {
        AuditEntry {
            principal: "arn:aws:iam::123456789012:user/a".to_owned(),
            user_name: "a\u{1b}[31m".to_owned(),
            source_ip: "127.0.0.1".to_owned(),
            via: AuditVia::Signature,
            action: action.to_owned(),
            resource: "x".repeat(10_000),
            status,
            request_id: "id".to_owned(),
            detail: Map::new(),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn records_are_stored_before_their_teller_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).await.unwrap();
        let audit = Arc::new(Audit::new(store.clone(), Arc::new(Fixed), 0));
        let shutdown = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        let (writer, stop) = (Arc::clone(&audit), shutdown.clone());
        let told = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&told);
        tasks.spawn(async move {
            let told = |_: &AuditRecord| {
                count.fetch_add(1, Ordering::AcqRel);
            };
            writer.write(stop, told).await;
        });
        // Far more at once than the queue takes.
        let mut tellers = tokio::task::JoinSet::new();
        for number in 0..3 * QUEUE_MAX {
            let (audit, store) = (Arc::clone(&audit), store.clone());
            tellers.spawn(async move {
                let action = format!("test:{number}");
                audit.record(entry(&action, 200)).await;
                let filter =
                    clamshell_store::AuditFilter { action: Some(action), limit: 2, ..Default::default() };
                assert_eq!(store.list_audit(&filter).await.unwrap().len(), 1);
            });
        }
        tellers.join_all().await;
        shutdown.cancel();
        tasks.join_all().await;
        assert_eq!(told.load(Ordering::Acquire), 3 * QUEUE_MAX as u64);
        // The writer has ended; nothing is lost.
        audit.record(entry("test:late", 403)).await;
        let all = clamshell_store::AuditFilter { limit: 10_000, ..Default::default() };
        let records = store.list_audit(&all).await.unwrap();
        assert_eq!(records.len(), 3 * QUEUE_MAX + 1);
        let newest = &records[0];
        assert_eq!((newest.action.as_str(), newest.outcome), ("test:late", AuditOutcome::Denied));
        assert_eq!((newest.user_name.as_str(), newest.resource.len()), ("a[31m", TEXT_CHARS_MAX));
        let ids: Vec<u64> = records.iter().map(|record| record.id).collect();
        assert!(ids.windows(2).all(|pair| pair[0] == pair[1] + 1), "without a gap");
    }
}
