//! The audit trail: order, filters, removal; titles and share links, which go with their session.

use clamshell_domain::{ShellId, StorageId, SystemEntropy};
use clamshell_store::{
    AuditFilter, AuditOutcome, AuditRecord, AuditVia, InsertShareError, SHARES_MAX, ShareAccess, ShareRecord,
};

use crate::{Fixture, session_key};

fn record(id: u64, user: &str, action: &str) -> AuditRecord {
    AuditRecord {
        id,
        at_ms: id * 1_000,
        principal: format!("arn:aws:iam::123456789012:user/{user}"),
        user_name: user.to_owned(),
        source_ip: "::1".to_owned(),
        via: AuditVia::Cookie,
        action: action.to_owned(),
        resource: "*".to_owned(),
        outcome: AuditOutcome::Denied,
        status: 403,
        request_id: "r".to_owned(),
        detail: "{}".to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_found_newest_first_and_trimmed_oldest_first() {
    let mut fixture = Fixture::new().await;
    let records: Vec<AuditRecord> = (1..=20)
        .map(|id| record(id, if id % 2 == 0 { "a" } else { "b" }, if id % 5 == 0 { "x:Y" } else { "x:Z" }))
        .collect();
    fixture.store.insert_audit(&records).await.unwrap();
    // All or none.
    let twice = [record(21, "a", "x:Y"), record(3, "a", "x:Y")];
    fixture.store.insert_audit(&twice).await.unwrap_err();
    fixture.reopen().await;
    let store = &fixture.store;
    assert_eq!(store.last_audit_id().await.unwrap(), 20);
    let check = async |before, user: Option<&str>, action: Option<&str>, limit, expect: &[u64]| {
        let filter = AuditFilter {
            before,
            user_name: user.map(str::to_owned),
            action: action.map(str::to_owned),
            limit,
        };
        let found = store.list_audit(&filter).await.unwrap();
        assert_eq!(found.iter().map(|record| record.id).collect::<Vec<_>>(), expect, "{filter:?}");
    };
    check(None, None, None, 3, &[20, 19, 18]).await;
    check(Some(4), None, None, 9, &[3, 2, 1]).await;
    check(None, Some("a"), None, 2, &[20, 18]).await;
    check(None, None, Some("x:Y"), 9, &[20, 15, 10, 5]).await;
    check(Some(20), Some("a"), Some("x:Y"), 9, &[10]).await;
    check(None, Some("nobody"), None, 9, &[]).await;
    let filter = AuditFilter { limit: 1, ..Default::default() };
    assert_eq!(store.list_audit(&filter).await.unwrap(), [records[19].clone()]);
    // By age, then by number; never more at once than told.
    assert_eq!(store.trim_audit(4_000, 100, 2).await.unwrap(), 2);
    assert_eq!(store.trim_audit(4_000, 100, 2).await.unwrap(), 1);
    assert_eq!(store.trim_audit(0, 5, 100).await.unwrap(), 12);
    check(None, None, None, 99, &[20, 19, 18, 17, 16]).await;
    assert_eq!(store.trim_audit(4_000, 5, 100).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn titles_and_shares_go_with_their_session() {
    let mut fixture = Fixture::new().await;
    let runtime = fixture.add_runtime("one").await;
    let (key, other) = (session_key(&runtime, 1), session_key(&runtime, 2));
    for key in [&key, &other] {
        let storage_id = StorageId::generate(&SystemEntropy);
        fixture.store.create_session(key, &storage_id, 1, 1, "native").await.unwrap();
    }
    let shell = ShellId::parse("build").unwrap();
    for (key, title) in [(&key, "old"), (&key, "new \u{1F41A}"), (&other, "other")] {
        fixture.store.put_shell_title(key, &shell, Some(title), 5).await.unwrap();
    }
    let share = |number: usize, expires_at_ms| ShareRecord {
        share_id: format!("share-{number}"),
        key: key.clone(),
        shell_id: shell.clone(),
        access: ShareAccess::Write,
        made_by: "ci".to_owned(),
        created_at_ms: 10,
        expires_at_ms,
    };
    let hash = |number: usize| [u8::try_from(number).unwrap(); 32];
    for number in 0..SHARES_MAX {
        fixture.store.insert_share(&share(number, 100), &hash(number)).await.unwrap();
    }
    let one_more = fixture.store.insert_share(&share(200, 100), &hash(200)).await;
    assert!(matches!(one_more, Err(InsertShareError::TooMany)));
    fixture.reopen().await;
    let store = &fixture.store;
    assert_eq!(store.share_by_token(&hash(7)).await.unwrap(), Some(share(7, 100)));
    assert_eq!(store.share_by_token(&[255; 32]).await.unwrap(), None);
    assert_eq!(store.share("share-7").await.unwrap(), Some(share(7, 100)));
    assert_eq!(store.list_shares(&key, &shell, 99).await.unwrap().len(), SHARES_MAX);
    assert_eq!(store.list_shares(&key, &shell, 100).await.unwrap().len(), 0, "expired");
    assert!(store.remove_share("share-7").await.unwrap());
    assert!(!store.remove_share("share-7").await.unwrap());
    assert_eq!(store.share_by_token(&hash(7)).await.unwrap(), None);
    assert_eq!(store.remove_expired_shares(99).await.unwrap(), 0);
    let titles = store.list_shell_titles().await.unwrap();
    assert_eq!(titles.len(), 2);
    assert!(titles.contains(&(key.clone(), shell.clone(), "new \u{1F41A}".to_owned())));
    assert!(store.remove_session(&key).await.unwrap());
    assert_eq!(store.share_by_token(&hash(8)).await.unwrap(), None);
    let titles = store.list_shell_titles().await.unwrap();
    assert_eq!(titles, [(other.clone(), shell.clone(), "other".to_owned())]);
    store.put_shell_title(&other, &shell, None, 6).await.unwrap();
    assert_eq!(store.list_shell_titles().await.unwrap(), []);
    store.put_shell_title(&key, &shell, Some("gone"), 6).await.unwrap_err();
}
