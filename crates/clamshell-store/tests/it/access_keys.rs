//! Access keys and their secrets.

use clamshell_domain::{AccessKey, AccessKeyId, AccessKeyStatus, SystemEntropy};
use clamshell_store::{
    AccessKeySecretError, ChangeAccessKeyError, InsertAccessKeyError, MasterKey, OpenSecretError, Secret,
};

use crate::Fixture;

const SECRET: &str = "wJalrXUtnFEMIbPxRfiCYEXAMPLEKEYhush";

fn master_key(fixture: &Fixture, name: &str) -> MasterKey {
    MasterKey::load_or_create(&fixture.folder.path().join(name), &SystemEntropy).unwrap()
}

fn key(created_at_ms: u64) -> AccessKey {
    AccessKey {
        access_key_id: AccessKeyId::generate(&SystemEntropy),
        user_name: "root".to_owned(),
        status: AccessKeyStatus::Active,
        created_at_ms,
        last_used_at_ms: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_the_files_does_not_tell_the_secret() {
    let mut fixture = Fixture::new().await;
    let master = master_key(&fixture, "master.key");
    let key = key(1);
    fixture.store.insert_access_key(&master, &key, &Secret::new(SECRET)).await.unwrap();
    let check_files = |expect_id: bool| {
        let mut seen_id = false;
        for suffix in ["", "-wal", "-shm"] {
            let path = fixture.folder.path().join(format!("state.db{suffix}"));
            let bytes = std::fs::read(path).unwrap_or_default();
            let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!has(SECRET) && !has(&SECRET[..12]), "secret in state.db{suffix}");
            seen_id |= has(key.access_key_id.as_str());
        }
        assert_eq!(seen_id, expect_id, "the search finds what is there");
    };
    check_files(true);
    fixture.store.close().await;
    check_files(true);

    fixture.reopen().await;
    let (found, secret) = fixture.store.secret_of(&master, &key.access_key_id).await.unwrap().unwrap();
    assert_eq!((found, secret.expose_text()), (key.clone(), Some(SECRET)));
    let other = master_key(&fixture, "other.key");
    let error = fixture.store.secret_of(&other, &key.access_key_id).await.unwrap_err();
    assert!(
        matches!(error, AccessKeySecretError::Sealed { source: OpenSecretError::OtherKey, .. }),
        "{error:?}"
    );
    let unknown = AccessKeyId::generate(&SystemEntropy);
    assert_eq!(fixture.store.secret_of(&master, &unknown).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_active_key_stays_unless_forced() {
    let fixture = Fixture::new().await;
    let master = master_key(&fixture, "master.key");
    let (first, second) = (key(1), key(2));
    let store = &fixture.store;
    for key in [&second, &first] {
        store.insert_access_key(&master, key, &Secret::new(SECRET)).await.unwrap();
    }
    let error = store.insert_access_key(&master, &first, &Secret::new("other")).await.unwrap_err();
    assert!(matches!(error, InsertAccessKeyError::AlreadyExists { .. }), "{error:?}");
    assert_eq!(store.list_access_keys().await.unwrap(), [first.clone(), second.clone()]);

    let inactive = AccessKeyStatus::Inactive;
    store.set_access_key_status(&first.access_key_id, inactive, false).await.unwrap();
    let error = store.set_access_key_status(&second.access_key_id, inactive, false).await.unwrap_err();
    assert!(matches!(error, ChangeAccessKeyError::LastActive { .. }), "{error:?}");
    let error = store.remove_access_key(&second.access_key_id, false).await.unwrap_err();
    assert!(matches!(error, ChangeAccessKeyError::LastActive { .. }), "{error:?}");
    store.remove_access_key(&first.access_key_id, false).await.unwrap();
    let error = store.remove_access_key(&first.access_key_id, false).await.unwrap_err();
    assert!(matches!(error, ChangeAccessKeyError::NotFound { .. }), "{error:?}");
    store.set_access_key_status(&second.access_key_id, inactive, true).await.unwrap();
    let error = store.set_access_key_status(&first.access_key_id, AccessKeyStatus::Active, false).await;
    assert!(matches!(error, Err(ChangeAccessKeyError::NotFound { .. })), "{error:?}");
    assert_eq!(store.list_access_keys().await.unwrap(), [AccessKey { status: inactive, ..second.clone() }]);
    store.remove_access_key(&second.access_key_id, true).await.unwrap();
    assert_eq!(store.list_access_keys().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn use_is_noted_to_the_minute_and_never_goes_back() {
    let fixture = Fixture::new().await;
    let master = master_key(&fixture, "master.key");
    let key = key(1);
    let store = &fixture.store;
    store.insert_access_key(&master, &key, &Secret::new(SECRET)).await.unwrap();
    for (now_ms, expect) in
        [(119_999, 60_000), (120_000, 120_000), (60_500, 120_000), (240_001, 240_000), (240_002, 240_000)]
    {
        store.touch_access_key(&key.access_key_id, now_ms).await.unwrap();
        let listed = store.list_access_keys().await.unwrap();
        assert_eq!(listed, [AccessKey { last_used_at_ms: Some(expect), ..key.clone() }], "{now_ms}");
    }
    store.touch_access_key(&AccessKeyId::generate(&SystemEntropy), 1).await.unwrap();
}
