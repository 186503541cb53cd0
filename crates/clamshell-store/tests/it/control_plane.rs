//! Steps in the life of runtimes and endpoints, tags, policies and remembered answers.

use std::collections::BTreeMap;

use clamshell_domain::{Artifact, Endpoint, EndpointName, ResourceStatus, Runtime, RuntimeId};
use clamshell_store::{ChangeRuntimeError, InsertRuntimeError, Receipt, Store, StoredAnswer, Unfinished};

use crate::{Fixture, runtime, session_key};

const ARN: &str = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/x-AbCdE12345";
const NOW_MS: u64 = 1_800_000_000_000;

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn receipt(token: &str) -> Receipt {
    Receipt {
        operation: "CreateAgentRuntime",
        token: token.to_owned(),
        digest: vec![1, 2, 3],
        answer: "{}".to_owned(),
        now_ms: NOW_MS,
    }
}

/// Status of the newest version and of `DEFAULT`, and the version and target of the latter.
async fn states(store: &Store, id: &RuntimeId) -> (ResourceStatus, ResourceStatus, u32, u32) {
    let version = store.runtime_version(id, None).await.unwrap().unwrap();
    let default = store.endpoint(id, &EndpointName::default_endpoint()).await.unwrap().unwrap();
    (version.status, default.status, default.version, default.target_version)
}

fn version(id: &RuntimeId, version: u32) -> Vec<Unfinished> {
    vec![Unfinished::Version { runtime_id: id.clone(), version }]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_begun_is_found_again_and_finished_once() {
    use ResourceStatus::{CreateFailed, Creating, Ready, UpdateFailed, Updating};
    let mut fixture = Fixture::new().await;
    let first = runtime("alpha");
    let id = first.runtime_id.clone();
    fixture.store.create_runtime(&first, ARN, &tags(&[("a", "b")]), Some(&receipt("t"))).await.unwrap();
    fixture.reopen().await;
    assert_eq!(states(&fixture.store, &id).await, (Creating, Creating, 1, 1));
    assert_eq!(fixture.store.unfinished_runtimes().await.unwrap(), version(&id, 1));

    // It fails, is replaced, and then gets what it is made of.
    fixture.store.finish_version(&first, Err("no image"), NOW_MS).await.unwrap();
    assert_eq!(states(&fixture.store, &id).await, (CreateFailed, CreateFailed, 1, 1));
    let failed = fixture.store.runtime_version(&id, None).await.unwrap().unwrap();
    assert_eq!(failed.failure_reason.as_deref(), Some("no image"));
    let again = fixture.store.finish_version(&first, Ok(&first.artifact), NOW_MS).await.unwrap_err();
    assert!(matches!(again, ChangeRuntimeError::OtherState));
    let second = Runtime { version: 2, ..first.clone() };
    fixture.store.update_runtime(&second, None).await.unwrap();
    assert_eq!(states(&fixture.store, &id).await, (Updating, Creating, 2, 2));
    let pinned = Artifact::Image { reference: "a".to_owned(), digest: Some("sha256:00".to_owned()) };
    fixture.store.finish_version(&second, Ok(&pinned), NOW_MS).await.unwrap();
    assert_eq!(states(&fixture.store, &id).await, (Ready, Ready, 2, 2));
    assert_eq!(fixture.store.runtime(&id, None).await.unwrap().unwrap().artifact, pinned);

    // A version that fails leaves DEFAULT where it was.
    let third = Runtime { version: 3, ..first.clone() };
    fixture.store.update_runtime(&third, None).await.unwrap();
    assert_eq!(states(&fixture.store, &id).await, (Updating, Updating, 2, 3));
    fixture.reopen().await;
    assert_eq!(fixture.store.unfinished_runtimes().await.unwrap(), version(&id, 3));
    fixture.store.finish_version(&third, Err("bad"), NOW_MS).await.unwrap();
    assert_eq!(states(&fixture.store, &id).await, (UpdateFailed, Ready, 2, 2));
    assert_eq!(fixture.store.unfinished_runtimes().await.unwrap(), []);

    // Numbers go on from the greatest that ever was.
    fixture.store.delete_version(&id, 3, None).await.unwrap();
    let newest = fixture.store.runtime_version(&id, None).await.unwrap().unwrap();
    assert_eq!((newest.runtime.version, newest.number_max, newest.status), (2, 3, Ready));
    let skipped = fixture.store.update_runtime(&third, None).await.unwrap_err();
    assert!(matches!(skipped, ChangeRuntimeError::OtherState));
    fixture.store.update_runtime(&Runtime { version: 4, ..first }, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_goes_with_all_that_is_its_own_and_not_before_its_sessions() {
    let mut fixture = Fixture::new().await;
    let (gone, stays) = (fixture.add_runtime("alpha").await, fixture.add_runtime("beta").await);
    let id = gone.runtime_id.clone();
    let endpoint_arn = format!("{ARN}/runtime-endpoint/prod");
    let neighbor = format!("{ARN}x");
    for arn in [ARN, &endpoint_arn, &neighbor] {
        fixture.store.put_tags(arn, &tags(&[("k", arn)])).await.unwrap();
        fixture.store.put_resource_policy(arn, arn, NOW_MS).await.unwrap();
    }
    let key = session_key(&gone, 1);
    let storage = clamshell_domain::StorageId::parse("a".repeat(20)).unwrap();
    fixture.store.create_session(&key, &storage, NOW_MS, 1, "native").await.unwrap();
    fixture.store.begin_runtime_deletion(&id, NOW_MS, Some(&receipt("d"))).await.unwrap();
    fixture.reopen().await;
    let deletion = vec![Unfinished::Deletion { runtime_id: id.clone() }];
    assert_eq!(fixture.store.unfinished_runtimes().await.unwrap(), deletion);
    let state = states(&fixture.store, &id).await;
    assert_eq!((state.0, state.1), (ResourceStatus::Deleting, ResourceStatus::Deleting));
    assert!(fixture.store.delete_runtime(&id, ARN).await.is_err(), "a session is left");
    assert_eq!(fixture.store.unfinished_runtimes().await.unwrap(), deletion, "nothing was half removed");
    fixture.store.fail_runtime_deletion(&id, "why", NOW_MS).await.unwrap();
    let failed = fixture.store.runtime_version(&id, None).await.unwrap().unwrap();
    assert_eq!(
        (failed.status, failed.failure_reason.as_deref()),
        (ResourceStatus::DeleteFailed, Some("why"))
    );
    fixture.store.remove_session(&key).await.unwrap();
    fixture.store.delete_runtime(&id, ARN).await.unwrap();
    assert_eq!(fixture.store.runtime(&id, None).await.unwrap(), None);
    assert_eq!(fixture.store.list_endpoints(&id).await.unwrap(), []);
    for (arn, left) in [(ARN, false), (&endpoint_arn, false), (&neighbor, true)] {
        assert_eq!(fixture.store.tags(arn).await.unwrap().is_empty(), !left, "{arn}");
        assert_eq!(fixture.store.resource_policy(arn).await.unwrap().is_some(), left, "{arn}");
    }
    assert_eq!(fixture.store.list_runtimes().await.unwrap(), [stays]);
    let again = fixture.store.begin_runtime_deletion(&id, NOW_MS, None).await.unwrap_err();
    assert!(matches!(again, ChangeRuntimeError::OtherState));
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_kept_whole() {
    let mut fixture = Fixture::new().await;
    let runtime = fixture.add_runtime("alpha").await;
    let name = EndpointName::parse("prod").unwrap();
    let mut endpoint = Endpoint {
        runtime_id: runtime.runtime_id.clone(),
        name: name.clone(),
        endpoint_id: "prod-0123456789".to_owned(),
        description: Some("mine".to_owned()),
        status: ResourceStatus::Creating,
        failure_reason: None,
        version: 1,
        target_version: 1,
        created_at_ms: NOW_MS,
        updated_at_ms: NOW_MS,
    };
    fixture.store.create_endpoint(&endpoint, "arn", &tags(&[("a", "b")]), None).await.unwrap();
    fixture.reopen().await;
    assert_eq!(fixture.store.unfinished_endpoints().await.unwrap(), std::slice::from_ref(&endpoint));
    endpoint.status = ResourceStatus::UpdateFailed;
    endpoint.failure_reason = Some("why".to_owned());
    endpoint.description = None;
    endpoint.updated_at_ms += 1;
    fixture.store.update_endpoint(&endpoint, None).await.unwrap();
    assert_eq!(fixture.store.endpoint(&runtime.runtime_id, &name).await.unwrap(), Some(endpoint));
    assert_eq!(fixture.store.unfinished_endpoints().await.unwrap(), []);
    assert!(fixture.store.delete_version(&runtime.runtime_id, 1, None).await.is_err(), "endpoints have it");
    fixture.store.delete_endpoint(&runtime.runtime_id, &name, "arn").await.unwrap();
    assert_eq!(fixture.store.endpoint(&runtime.runtime_id, &name).await.unwrap(), None);
    assert_eq!(fixture.store.tags("arn").await.unwrap(), BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_kept_with_their_change_for_a_while() {
    let mut fixture = Fixture::new().await;
    fixture.store.create_runtime(&runtime("alpha"), ARN, &tags(&[]), Some(&receipt("t"))).await.unwrap();
    // A change that is refused leaves no answer.
    let refused = fixture.store.create_runtime(&runtime("alpha"), ARN, &tags(&[]), Some(&receipt("u"))).await;
    assert!(matches!(refused, Err(InsertRuntimeError::NameTaken { .. })));
    fixture.reopen().await;
    let store = &fixture.store;
    let answer = StoredAnswer { digest: vec![1, 2, 3], answer: "{}".to_owned() };
    let ask = async |operation: &str, token: &str, since_ms: u64| {
        store.stored_answer(operation, token, since_ms).await.unwrap()
    };
    assert_eq!(ask("CreateAgentRuntime", "t", NOW_MS).await, Some(answer));
    assert_eq!(ask("CreateAgentRuntime", "t", NOW_MS + 1).await, None);
    assert_eq!(ask("UpdateAgentRuntime", "t", 0).await, None);
    assert_eq!(ask("CreateAgentRuntime", "u", 0).await, None);
    assert_eq!(store.forget_answers(NOW_MS).await.unwrap(), 0);
    assert_eq!(store.forget_answers(NOW_MS + 1).await.unwrap(), 1);
    assert_eq!(ask("CreateAgentRuntime", "t", 0).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_and_policies_are_replaced_and_removed() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    store.put_tags("a", &tags(&[("x", "1"), ("y", "2")])).await.unwrap();
    store.put_tags("a", &tags(&[("y", "3"), ("it's", "\"; DROP")])).await.unwrap();
    assert_eq!(store.tags("a").await.unwrap(), tags(&[("x", "1"), ("y", "3"), ("it's", "\"; DROP")]));
    store.remove_tags("a", &["x".to_owned(), "never".to_owned()]).await.unwrap();
    assert_eq!(store.tags("a").await.unwrap(), tags(&[("y", "3"), ("it's", "\"; DROP")]));
    assert_eq!(store.tags("b").await.unwrap(), tags(&[]));
    assert_eq!(store.resource_policy("a").await.unwrap(), None);
    store.put_resource_policy("a", "one", 1).await.unwrap();
    store.put_resource_policy("a", "two", 2).await.unwrap();
    assert_eq!(store.resource_policy("a").await.unwrap().as_deref(), Some("two"));
    assert!(store.delete_resource_policy("a").await.unwrap());
    assert!(!store.delete_resource_policy("a").await.unwrap());
}
