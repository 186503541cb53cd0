//! Sessions and their ranges of user ids.

use std::{collections::BTreeSet, time::Instant};

use clamshell_domain::{Phase, SessionRecord, SessionUsage, StopReason, StorageId, SystemEntropy};
use clamshell_store::{CreateSessionError, SessionFilter, Store, StoreError, UpdateSessionError};
use tokio::task::JoinSet;

use crate::{Fixture, runtime, session_key};

fn storage_id() -> StorageId {
    StorageId::generate(&SystemEntropy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_kept_whole() {
    let mut fixture = Fixture::new().await;
    let key = session_key(&fixture.add_runtime("alpha").await, 1);
    let created = fixture.store.create_session(&key, &storage_id(), 7, 1, "native").await.unwrap();
    assert_eq!((created.id_range, created.phase, created.last_activity_at_ms), (0, Phase::Provisioning, 7));
    fixture.reopen().await;
    assert_eq!(fixture.store.session(&key).await.unwrap().as_ref(), Some(&created));

    let stopped = SessionRecord {
        phase: Phase::Stopped,
        driver: "runc".to_owned(),
        runtime_version: 3,
        started_at_ms: Some(8),
        stopped_at_ms: Some(9),
        stop_reason: Some(StopReason::Lost),
        last_activity_at_ms: 9,
        ..created.clone()
    };
    fixture.store.update_session(&stopped).await.unwrap();
    fixture.reopen().await;
    assert_eq!(fixture.store.session(&key).await.unwrap(), Some(stopped));

    assert!(fixture.store.remove_session(&key).await.unwrap());
    assert!(!fixture.store.remove_session(&key).await.unwrap());
    assert_eq!(fixture.store.session(&key).await.unwrap(), None);
    fixture.store.create_session(&key, &storage_id(), 10, 1, "native").await.unwrap();
    let late = fixture.store.update_session(&created).await;
    assert!(matches!(late, Err(UpdateSessionError::NotFound)), "the key has another session now: {late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_use_of_a_session_is_kept_apart_from_its_row() {
    let mut fixture = Fixture::new().await;
    let key = session_key(&fixture.add_runtime("alpha").await, 1);
    let created = fixture.store.create_session(&key, &storage_id(), 7, 1, "native").await.unwrap();
    let listed = fixture.store.list_session_usages().await.unwrap();
    assert_eq!(listed, [(created.storage_id.clone(), SessionUsage::new(7))]);
    let usage = SessionUsage {
        since_ms: Some(7),
        cpu_us: 5,
        cpu_seen_us: 4,
        memory_kib_ms: u64::from(u32::MAX),
        cpu_missing: false,
        memory_missing: true,
    };
    let written = [(created.storage_id.clone(), usage), (storage_id(), usage)];
    fixture.store.write_session_usages(&written).await.unwrap();
    fixture.store.update_session(&created).await.unwrap();
    fixture.reopen().await;
    assert_eq!(fixture.store.list_session_usages().await.unwrap(), [(created.storage_id, usage)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_needs_a_key_of_its_own_and_a_runtime() {
    let fixture = Fixture::new().await;
    let key = session_key(&fixture.add_runtime("alpha").await, 1);
    fixture.store.create_session(&key, &storage_id(), 1, 1, "native").await.unwrap();
    let error = fixture.store.create_session(&key, &storage_id(), 1, 1, "native").await.unwrap_err();
    assert!(matches!(error, CreateSessionError::AlreadyExists), "{error:?}");
    let orphan = session_key(&runtime("missing"), 1);
    let error = fixture.store.create_session(&orphan, &storage_id(), 1, 1, "native").await.unwrap_err();
    assert!(matches!(error, CreateSessionError::Store(StoreError::Database(_))), "{error:?}");
    assert_eq!(fixture.store.list_sessions(&SessionFilter::default()).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lowest_free_range_is_used_again() {
    let fixture = Fixture::new().await;
    let runtime = fixture.add_runtime("alpha").await;
    let create = async |number: usize| {
        let key = session_key(&runtime, number);
        fixture.store.create_session(&key, &storage_id(), 1, 1, "native").await.unwrap().id_range
    };
    for number in 0..5 {
        assert_eq!(u32::try_from(number).unwrap(), create(number).await);
    }
    for number in [3, 0] {
        fixture.store.remove_session(&session_key(&runtime, number)).await.unwrap();
    }
    assert_eq!((create(10).await, create(11).await, create(12).await), (0, 3, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_creates_never_share_a_range() {
    let fixture = Fixture::new().await;
    let runtime = fixture.add_runtime("alpha").await;
    // Two stores on one file stand for two processes.
    let stores = [fixture.store.clone(), Store::open(&fixture.path()).await.unwrap()];
    let mut tasks = JoinSet::new();
    for number in 0..200 {
        let (store, key) = (stores[number % 2].clone(), session_key(&runtime, number));
        tasks.spawn(async move {
            store.create_session(&key, &storage_id(), 1, 1, "native").await.unwrap().id_range
        });
    }
    let ranges: BTreeSet<u32> = tasks.join_all().await.into_iter().collect();
    assert_eq!(ranges, (0..200).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_filtered_ordered_and_fast() {
    let fixture = Fixture::new().await;
    let (alpha, beta) = (fixture.add_runtime("alpha").await, fixture.add_runtime("beta").await);
    let store = &fixture.store;
    let mut records = Vec::new();
    for number in 0..1_000_usize {
        let key = session_key(if number % 2 == 0 { &alpha } else { &beta }, number);
        let created_at_ms = u64::try_from(2_000 - number).unwrap();
        let mut record = store.create_session(&key, &storage_id(), created_at_ms, 1, "native").await.unwrap();
        if number % 10 == 0 {
            record.phase = Phase::Running;
            store.update_session(&record).await.unwrap();
        }
        records.insert(0, record);
    }
    let check = async |filter: SessionFilter, expect: Vec<SessionRecord>| {
        assert_eq!(store.list_sessions(&filter).await.unwrap(), expect);
    };
    let of = |keep: &dyn Fn(&SessionRecord) -> bool| records.iter().filter(|r| keep(r)).cloned().collect();
    let alpha_id = || Some(alpha.runtime_id.clone());
    let running = Some(Phase::Running);
    check(SessionFilter::default(), records.clone()).await;
    check(
        SessionFilter { runtime_id: alpha_id(), phase: None },
        of(&|r| r.key.runtime_id == alpha.runtime_id),
    )
    .await;
    check(SessionFilter { runtime_id: None, phase: running }, of(&|r| r.phase == Phase::Running)).await;
    check(SessionFilter { runtime_id: Some(beta.runtime_id), phase: running }, vec![]).await;

    let start = Instant::now();
    assert_eq!(store.list_sessions(&SessionFilter::default()).await.unwrap().len(), 1_000);
    // A few milliseconds when optimized; the bound only catches a list that grew quadratic.
    assert!(start.elapsed().as_millis() < 1_000, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn activity_is_noted_in_a_batch_and_never_goes_back() {
    let fixture = Fixture::new().await;
    let runtime = fixture.add_runtime("alpha").await;
    let keys: Vec<_> = (0..3).map(|number| session_key(&runtime, number)).collect();
    for key in &keys[..2] {
        fixture.store.create_session(key, &storage_id(), 50, 1, "native").await.unwrap();
    }
    let batch: Vec<_> = keys.iter().cloned().zip([40, 60, 70]).collect();
    fixture.store.touch_sessions(&batch).await.unwrap();
    fixture.store.touch_sessions(&[]).await.unwrap();
    let mut activity = Vec::new();
    for key in &keys {
        activity.push(fixture.store.session(key).await.unwrap().map(|record| record.last_activity_at_ms));
    }
    assert_eq!(activity, [Some(50), Some(60), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_no_session_until_it_is_claimed() {
    let mut fixture = Fixture::new().await;
    let runtime = fixture.add_runtime("alpha").await;
    let key = session_key(&runtime, 1);
    let standby =
        fixture.store.create_standby(&runtime.runtime_id, 1, &storage_id(), "native", 5).await.unwrap();
    assert_eq!(standby.id_range, 0);
    assert_eq!(fixture.store.list_sessions(&SessionFilter::default()).await.unwrap(), []);
    let other = fixture.store.create_session(&key, &storage_id(), 6, 1, "native").await.unwrap();
    assert_eq!(other.id_range, 1, "the standby has range 0");
    let taken = fixture.store.claim_standby(&standby, &key, 7).await;
    assert!(matches!(taken, Err(CreateSessionError::AlreadyExists)), "{taken:?}");

    fixture.reopen().await;
    assert_eq!(fixture.store.list_standbys().await.unwrap(), std::slice::from_ref(&standby));
    let claimed = fixture.store.claim_standby(&standby, &session_key(&runtime, 2), 8).await.unwrap();
    assert_eq!((claimed.phase, claimed.started_at_ms, claimed.created_at_ms), (Phase::Running, Some(8), 8));
    assert_eq!(fixture.store.session(&claimed.key).await.unwrap(), Some(claimed));
    assert_eq!(fixture.store.list_standbys().await.unwrap(), []);
    let again = fixture.store.claim_standby(&standby, &session_key(&runtime, 3), 9).await;
    assert!(matches!(again, Err(CreateSessionError::Store(_))), "{again:?}");
    let removed = fixture.store.remove_standby(&standby.storage_id).await;
    assert!(matches!(removed, Err(UpdateSessionError::NotFound)), "a session is not removed as a standby");

    let unused =
        fixture.store.create_standby(&runtime.runtime_id, 1, &storage_id(), "native", 5).await.unwrap();
    fixture.store.remove_standby(&unused.storage_id).await.unwrap();
    assert_eq!(fixture.store.list_standbys().await.unwrap(), []);
}
