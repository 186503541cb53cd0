//! Opening: modes, odd paths, what survives.

use std::{os::unix::fs::MetadataExt, path::Path};

use clamshell_domain::{Region, StorageId, SystemEntropy};
use clamshell_store::{SessionFilter, Store, StoreError};

use crate::{FixedClock, Fixture, session_key};

fn region(text: &str) -> Region {
    Region::parse(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_files_are_private() {
    let fixture = Fixture::new().await;
    fixture.store.ensure_account(&FixedClock(1), &SystemEntropy, region("us-west-2")).await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(fixture.folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().mode() & 0o777, 0o600, "{:?}", entry.file_name());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["state.db", "state.db-shm", "state.db-wal"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_paths_are_taken_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b?mode=memory#%41").join("..odd é.db");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    let store = Store::open(&path).await.unwrap();
    store.ensure_account(&FixedClock(1), &SystemEntropy, region("us-west-2")).await.unwrap();
    store.close().await;
    assert!(std::fs::metadata(&path).unwrap().len() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_folder_or_a_damaged_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = Store::open(&folder.path().join("missing/state.db")).await.unwrap_err();
    assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
    let error = Store::open(Path::new("/")).await.unwrap_err();
    assert!(matches!(error, StoreError::Path { .. }), "{error:?}");
    let path = folder.path().join("damaged.db");
    std::fs::write(&path, "this is no database, and long enough to be looked at. ".repeat(100)).unwrap();
    let error = Store::open(&path).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Database(cause) if cause.to_string().contains("not a database")),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_is_made_once() {
    let mut fixture = Fixture::new().await;
    let first =
        fixture.store.ensure_account(&FixedClock(5), &SystemEntropy, region("us-west-2")).await.unwrap();
    assert_eq!((first.created_at_ms, first.region.as_str()), (5, "us-west-2"));
    fixture.reopen().await;
    let second =
        fixture.store.ensure_account(&FixedClock(9), &SystemEntropy, region("eu-west-1")).await.unwrap();
    assert_eq!(first, second);
}

/// The files alone, copied as `kill -9` would leave them, hold everything that was acknowledged: no
/// promise lives in the memory of the process.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_the_files() {
    let fixture = Fixture::new().await;
    let runtime = fixture.add_runtime("alpha").await;
    for number in 0..50 {
        let storage_id = StorageId::generate(&SystemEntropy);
        let key = session_key(&runtime, number);
        let created = fixture.store.create_session(&key, &storage_id, 1, 1, "native").await.unwrap();
        if number % 10 == 9 {
            let copy = tempfile::tempdir().unwrap();
            for name in ["state.db", "state.db-wal"] {
                std::fs::copy(fixture.folder.path().join(name), copy.path().join(name)).unwrap();
            }
            let survivor = Store::open(&copy.path().join("state.db")).await.unwrap();
            assert_eq!(survivor.session(&key).await.unwrap(), Some(created));
            let sessions = survivor.list_sessions(&SessionFilter::default()).await.unwrap();
            assert_eq!(sessions.len(), number + 1);
        }
    }
}
