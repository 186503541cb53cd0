//! What the control plane tells of runtimes, versions and endpoints, page by page.

use serde_json::{Value, json};

use crate::{calls::Call, in_process::InProcess};

const THREE: &str =
    "[runtimes.first]\ndescription = \"one\"\n[runtimes.second]\nidle_timeout_s = 60\n[runtimes.third]\n";

async fn get(server: &InProcess, method: &str, path: &str) -> Value {
    let reply = Call::new(method, path).signed(&server.root()).send(&server.client).await;
    assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
    reply.json()
}

fn texts(items: &Value, member: &str) -> Vec<String> {
    items.as_array().unwrap().iter().map(|item| item[member].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn runtimes_are_listed_page_by_page() {
    let server = InProcess::start(THREE).await;
    let all = get(&server, "POST", "/runtimes/").await;
    assert_eq!(all.get("nextToken"), None);
    let mut names = texts(&all["agentRuntimes"], "agentRuntimeName");
    names.sort();
    assert_eq!(names, ["default", "first", "second", "third"]);
    let mut paged = Vec::new();
    let mut path = "/runtimes/?maxResults=1".to_owned();
    for _ in 0..4 {
        let page = get(&server, "POST", &path).await;
        assert_eq!(page["agentRuntimes"].as_array().unwrap().len(), 1);
        paged.extend(page["agentRuntimes"].as_array().unwrap().clone());
        let Some(token) = page["nextToken"].as_str() else {
            path.clear();
            break;
        };
        path = format!("/runtimes/?maxResults=1&nextToken={token}");
    }
    assert_eq!((path.as_str(), Value::Array(paged)), ("", all["agentRuntimes"].clone()));
}

#[tokio::test]
async fn a_changed_declaration_is_a_new_version() {
    let server = InProcess::start(THREE).await;
    let listed = get(&server, "POST", "/runtimes/").await;
    let of_second =
        listed["agentRuntimes"].as_array().unwrap().iter().find(|item| item["agentRuntimeName"] == "second");
    let id = of_second.unwrap()["agentRuntimeId"].as_str().unwrap().to_owned();
    let server = server.start_again("[runtimes.second]\nidle_timeout_s = 61\n").await;

    let versions = format!("/runtimes/{id}/versions/");
    let all = get(&server, "POST", &versions).await;
    assert_eq!(texts(&all["agentRuntimes"], "agentRuntimeVersion"), ["2", "1"]);
    let page = get(&server, "POST", &format!("{versions}?maxResults=1")).await;
    assert_eq!(texts(&page["agentRuntimes"], "agentRuntimeVersion"), ["2"]);
    let next = format!("{versions}?maxResults=1&nextToken={}", page["nextToken"].as_str().unwrap());
    let page = get(&server, "POST", &next).await;
    assert_eq!(texts(&page["agentRuntimes"], "agentRuntimeVersion"), ["1"]);
    assert_eq!(page.get("nextToken"), None);

    for (query, version, idle) in [("", "2", 61), ("?version=2", "2", 61), ("?version=1", "1", 60)] {
        let runtime = get(&server, "GET", &format!("/runtimes/{id}/{query}")).await;
        let seen = (
            &runtime["agentRuntimeVersion"],
            &runtime["lifecycleConfiguration"]["idleRuntimeSessionTimeout"],
        );
        assert_eq!(seen, (&json!(version), &json!(idle)), "{query}");
    }
    let endpoints = get(&server, "POST", &format!("/runtimes/{id}/runtime-endpoints/")).await;
    assert_eq!(texts(&endpoints["runtimeEndpoints"], "name"), ["DEFAULT"]);
    assert_eq!(texts(&endpoints["runtimeEndpoints"], "liveVersion"), ["2"]);
    let endpoint = get(&server, "GET", &format!("/runtimes/{id}/runtime-endpoints/DEFAULT/")).await;
    assert_eq!(endpoint, endpoints["runtimeEndpoints"][0]);
}

#[tokio::test]
async fn a_declared_runtime_promises_no_network() {
    let server = InProcess::start("").await;
    let default = server.client.runtime_arn.rsplit('/').next().unwrap().to_owned();
    let shown = get(&server, "GET", &format!("/runtimes/{default}/")).await;
    assert_eq!(shown.get("networkConfiguration"), None, "{shown}");
    let (id, _) = crate::control_changes::ready(&server, "called", &json!({})).await;
    let shown = get(&server, "GET", &format!("/runtimes/{id}/")).await;
    assert_eq!(shown["networkConfiguration"], json!({ "networkMode": "PUBLIC" }), "{shown}");
}
