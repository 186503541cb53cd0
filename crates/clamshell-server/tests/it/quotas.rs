//! How many runtimes an account has, and versions a runtime: the last one is made, the next one refused, and nothing changes.

use clamshell_domain::{
    Artifact, Clock, LifecycleConfiguration, Limits, NetworkMode, Runtime, RuntimeId, RuntimeName,
    SystemClock, SystemEntropy,
};
use clamshell_store::Store;
use serde_json::{Value, json};

use crate::{
    calls::message,
    control_changes::{definition, named, ok, ready, refused, settled},
    in_process::InProcess,
};

const MOST: usize = 1000;
const QUOTA: &str = "ServiceQuotaExceededException";

fn runtime(number: usize) -> Runtime {
    let name = RuntimeName::parse(format!("filler_{number}").as_str()).unwrap();
    Runtime {
        runtime_id: RuntimeId::generate(&name, &SystemEntropy),
        name,
        version: 1,
        description: String::new(),
        artifact: Artifact::Host,
        environment: Default::default(),
        lifecycle: LifecycleConfiguration::default(),
        limits: Limits::default(),
        network: NetworkMode::Sandbox,
        driver: None,
        hosting: None,
        created_at_ms: SystemClock.now_ms(),
    }
}

async fn store(server: &InProcess) -> Store {
    Store::open(&server.data_dir().join("clamshell.db")).await.unwrap()
}

/// Items of a list, over all its pages.
async fn all(server: &InProcess, path: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut next = format!("{path}?maxResults=100");
    loop {
        let page = ok(server, "POST", &next, &Value::Null, 200).await;
        items.extend(page["agentRuntimes"].as_array().unwrap().iter().cloned());
        match page["nextToken"].as_str() {
            Some(token) => next = format!("{path}?maxResults=100&nextToken={token}"),
            None => return items,
        }
    }
}

#[tokio::test]
async fn an_account_has_at_most_1000_runtimes() {
    let server = InProcess::start("").await;
    let store = store(&server).await;
    // Beside `default`; the last one is made by a call.
    for number in 0..MOST - 2 {
        store.insert_runtime(&runtime(number)).await.unwrap();
    }
    let (id, _) = ready(&server, "last", &json!({})).await;
    let before = all(&server, "/runtimes/").await;
    assert_eq!(before.len(), MOST);
    let expect = message("The number of agent runtimes has reached the limit of 1000");
    refused(&server, "PUT", "/runtimes/", &named("over", &json!({})), 402, QUOTA, &expect).await;
    assert_eq!(all(&server, "/runtimes/").await, before);
    // A version is none more, and one that goes makes room.
    ok(&server, "PUT", &format!("/runtimes/{id}/"), &definition(&json!({})), 202).await;
    settled(&server, &format!("/runtimes/{id}/")).await;
    let gone = before.iter().find(|one| one["agentRuntimeName"] == "filler_0").unwrap();
    let gone =
        store.runtime_by_name(&RuntimeName::parse("filler_0").unwrap()).await.unwrap().map(|_| gone).unwrap();
    let path = format!("/runtimes/{}/", gone["agentRuntimeId"].as_str().unwrap());
    store.delete_runtime(&RuntimeId::parse(path.split('/').nth(2).unwrap()).unwrap(), "").await.unwrap();
    ready(&server, "over", &json!({})).await;
    refused(&server, "PUT", "/runtimes/", &named("more", &json!({})), 402, QUOTA, &expect).await;
    store.close().await;
}

#[tokio::test]
async fn a_runtime_has_at_most_1000_versions() {
    let server = InProcess::start("").await;
    let (id, _) = ready(&server, "many", &json!({})).await;
    let store = store(&server).await;
    let first = store.runtime(&RuntimeId::parse(&id).unwrap(), None).await.unwrap().unwrap();
    for _ in 0..MOST - 2 {
        store.add_runtime_version(&first, SystemClock.now_ms()).await.unwrap();
    }
    store.close().await;
    let path = format!("/runtimes/{id}/");
    let made = ok(&server, "PUT", &path, &definition(&json!({})), 202).await;
    assert_eq!(made["agentRuntimeVersion"], "1000");
    let last = settled(&server, &path).await;
    assert_eq!((&last["status"], &last["agentRuntimeVersion"]), (&json!("READY"), &json!("1000")));
    let expect = message("The number of versions of an agent runtime has reached the limit of 1000");
    refused(&server, "PUT", &path, &definition(&json!({})), 402, QUOTA, &expect).await;
    assert_eq!(settled(&server, &path).await, last);
    assert_eq!(all(&server, &format!("{path}versions/")).await.len(), MOST);
    // One that is deleted makes room, and its number is not used again.
    ok(&server, "DELETE", &format!("{path}?version=1"), &Value::Null, 202).await;
    let made = ok(&server, "PUT", &path, &definition(&json!({})), 202).await;
    assert_eq!(made["agentRuntimeVersion"], "1001");
}
