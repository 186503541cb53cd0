//! Runtimes, versions and endpoints.

use clamshell_domain::{EndpointName, Runtime, RuntimeName};
use clamshell_store::InsertRuntimeError;

use crate::{Fixture, runtime};

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_comes_with_version_1_and_its_default_endpoint() {
    let mut fixture = Fixture::new().await;
    let runtime = fixture.add_runtime("alpha").await;
    fixture.reopen().await;
    let store = &fixture.store;
    assert_eq!(store.runtime(&runtime.runtime_id, None).await.unwrap().as_ref(), Some(&runtime));
    assert_eq!(store.runtime(&runtime.runtime_id, Some(1)).await.unwrap().as_ref(), Some(&runtime));
    assert_eq!(store.runtime(&runtime.runtime_id, Some(2)).await.unwrap(), None);
    assert_eq!(store.runtime_by_name(&runtime.name).await.unwrap().as_ref(), Some(&runtime));
    let other = RuntimeName::parse("beta").unwrap();
    assert_eq!(store.runtime_by_name(&other).await.unwrap(), None);

    let endpoints = store.list_endpoints(&runtime.runtime_id).await.unwrap();
    let endpoint =
        store.endpoint(&runtime.runtime_id, &EndpointName::default_endpoint()).await.unwrap().unwrap();
    assert_eq!(endpoints, std::slice::from_ref(&endpoint));
    assert_eq!(
        (endpoint.name.as_str(), endpoint.version, endpoint.created_at_ms),
        ("DEFAULT", 1, runtime.created_at_ms)
    );
    let missing = EndpointName::parse("prod").unwrap();
    assert_eq!(store.endpoint(&runtime.runtime_id, &missing).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_unique_and_a_refused_insert_leaves_nothing() {
    let fixture = Fixture::new().await;
    let first = fixture.add_runtime("alpha").await;
    let again = runtime("alpha");
    let error = fixture.store.insert_runtime(&again).await.unwrap_err();
    assert!(matches!(error, InsertRuntimeError::NameTaken { .. }), "{error:?}");
    assert_eq!(fixture.store.list_endpoints(&again.runtime_id).await.unwrap(), []);
    let later = Runtime { version: 2, ..runtime("beta") };
    let error = fixture.store.insert_runtime(&later).await.unwrap_err();
    assert!(matches!(error, InsertRuntimeError::NotFirstVersion { version: 2 }), "{error:?}");

    let mut second = runtime("gamma");
    second.created_at_ms -= 1;
    fixture.store.insert_runtime(&second).await.unwrap();
    assert_eq!(fixture.store.list_runtimes().await.unwrap(), [second, first]);
}
