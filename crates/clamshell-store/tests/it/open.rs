//! Opening: modes, odd paths, what survives.

use std::{os::unix::fs::MetadataExt, path::Path};

use clamshell_domain::{Region, SystemEntropy};
use clamshell_store::{Store, StoreError};

use crate::{FixedClock, Fixture};

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
