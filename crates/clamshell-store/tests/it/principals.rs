//! Users, roles and their policies.

use std::collections::BTreeMap;

use clamshell_domain::{AccessKey, AccessKeyId, AccessKeyStatus, SystemEntropy};
use clamshell_store::{
    ChangePrincipalError, MasterKey, POLICIES_MAX, PrincipalKind, PrincipalRecord, Secret,
};

use crate::Fixture;

fn record(kind: PrincipalKind, name: &str) -> PrincipalRecord {
    PrincipalRecord {
        kind,
        name: name.to_owned(),
        description: "of a test".to_owned(),
        created_at_ms: 7,
        policies: BTreeMap::from([("first".to_owned(), "{}".to_owned())]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_roles_are_apart_and_survive() {
    let mut fixture = Fixture::new().await;
    let (user, role) = (record(PrincipalKind::User, "ci"), record(PrincipalKind::Role, "ci"));
    let before = fixture.store.changes();
    fixture.store.insert_principal(&user).await.unwrap();
    fixture.store.insert_principal(&role).await.unwrap();
    let taken = fixture.store.insert_principal(&user).await.unwrap_err();
    assert!(matches!(taken, ChangePrincipalError::AlreadyExists), "{taken:?}");
    assert!(fixture.store.changes() > before, "what is remembered must be read again");
    let put = fixture.store.put_principal_policy(PrincipalKind::User, "ci", "second", "{2}", 8);
    put.await.unwrap();
    let again = fixture.store.put_principal_policy(PrincipalKind::User, "ci", "second", "{3}", 9);
    again.await.unwrap();
    fixture.reopen().await;
    let mut changed = user.clone();
    changed.policies.insert("second".to_owned(), "{3}".to_owned());
    let found = fixture.store.principal(PrincipalKind::User, "ci").await.unwrap();
    assert_eq!(found.as_ref(), Some(&changed));
    assert_eq!(fixture.store.list_principals(PrincipalKind::User).await.unwrap(), [changed]);
    assert_eq!(fixture.store.list_principals(PrincipalKind::Role).await.unwrap(), [role]);

    fixture.store.remove_principal(PrincipalKind::User, "ci").await.unwrap();
    assert_eq!(fixture.store.principal(PrincipalKind::User, "ci").await.unwrap(), None);
    assert!(fixture.store.principal(PrincipalKind::Role, "ci").await.unwrap().is_some());
    // Its policies went along.
    let fresh = PrincipalRecord { policies: BTreeMap::new(), ..user };
    fixture.store.insert_principal(&fresh).await.unwrap();
    assert_eq!(fixture.store.principal(PrincipalKind::User, "ci").await.unwrap(), Some(fresh));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_is_refused() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let master =
        MasterKey::load_or_create(&fixture.folder.path().join("master.key"), &SystemEntropy).unwrap();
    store.insert_principal(&record(PrincipalKind::User, "ci")).await.unwrap();
    let key = AccessKey {
        access_key_id: AccessKeyId::generate(&SystemEntropy),
        user_name: "ci".to_owned(),
        status: AccessKeyStatus::Inactive,
        created_at_ms: 1,
        last_used_at_ms: None,
    };
    store.insert_access_key(&master, &key, &Secret::new("secret")).await.unwrap();
    let error = store.remove_principal(PrincipalKind::User, "ci").await.unwrap_err();
    assert!(matches!(error, ChangePrincipalError::HasKeys), "{error:?}");
    for error in [
        store.remove_principal(PrincipalKind::Role, "ci").await.unwrap_err(),
        store.put_principal_policy(PrincipalKind::Role, "ci", "p", "{}", 1).await.unwrap_err(),
        store.remove_principal_policy(PrincipalKind::User, "ci", "other").await.unwrap_err(),
    ] {
        assert!(matches!(error, ChangePrincipalError::NotFound), "{error:?}");
    }
    for number in 1..POLICIES_MAX {
        let name = format!("p{number}");
        store.put_principal_policy(PrincipalKind::User, "ci", &name, "{}", 1).await.unwrap();
    }
    let error = store.put_principal_policy(PrincipalKind::User, "ci", "more", "{}", 1).await.unwrap_err();
    assert!(matches!(error, ChangePrincipalError::TooManyPolicies), "{error:?}");
    store.put_principal_policy(PrincipalKind::User, "ci", "first", "{}", 1).await.unwrap();
    store.remove_principal_policy(PrincipalKind::User, "ci", "first").await.unwrap();
    store.put_principal_policy(PrincipalKind::User, "ci", "more", "{}", 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_the_server_is_made_once() {
    let mut fixture = Fixture::new().await;
    let master =
        MasterKey::load_or_create(&fixture.folder.path().join("master.key"), &SystemEntropy).unwrap();
    assert!(!fixture.store.has_server_secret("a").await.unwrap());
    let first = fixture.store.server_secret(&master, "a", &SystemEntropy).await.unwrap();
    assert!(fixture.store.has_server_secret("a").await.unwrap());
    assert_ne!(fixture.store.server_secret(&master, "b", &SystemEntropy).await.unwrap(), first);
    fixture.reopen().await;
    assert_eq!(fixture.store.server_secret(&master, "a", &SystemEntropy).await.unwrap(), first);
}
