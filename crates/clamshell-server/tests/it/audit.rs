//! The audit trail: who did what is in it when they are told, and nothing of what they said.

use clamshell_testkit::Reply;
use clamshell_wire::percent_encode;
use serde_json::{Value, json};

use crate::{
    calls::{Call, SESSION},
    in_process::InProcess,
};

pub(crate) async fn records(server: &InProcess, query: &str) -> Value {
    let call = Call::new("GET", format!("/clamshell/v1/audit{query}")).signed(&server.root());
    let reply = call.send(&server.client).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    reply.json()
}

async fn root(server: &InProcess, method: &str, path: &str, body: &Value) -> Reply {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    Call::new(method, path).body(text).signed(&server.root()).send(&server.client).await
}

#[tokio::test]
async fn what_was_done_is_in_the_trail_and_nothing_secret() {
    let server = InProcess::start("").await;
    let account = server.info.account_id.clone();
    let users = "/clamshell/v1/users";
    let canary = "canary-of-the-audit-trail";
    root(&server, "POST", users, &json!({ "userName": "ci", "description": canary })).await;
    let of_ci = json!({ "userName": "ci", "existingUser": true });
    let key = root(&server, "POST", "/clamshell/v1/keys", &of_ci).await.json();
    let secret = key["secretAccessKey"].as_str().unwrap().to_owned();
    let ci = server.root().with_key(key["accessKeyId"].as_str().unwrap(), &secret);
    // Refused, failed, and read.
    let arn = server.client.runtime_arn.clone();
    let stop = format!("/clamshell/v1/sessions/{SESSION}/stop?runtime={}", percent_encode(&arn));
    assert_eq!(Call::new("POST", &stop).signed(&ci).send(&server.client).await.status, 403);
    assert_eq!(root(&server, "POST", &stop, &Value::Null).await.status, 404);
    assert_eq!(root(&server, "GET", users, &Value::Null).await.status, 200);
    let tag = format!("/tags/{}", percent_encode(&arn));
    assert_eq!(root(&server, "POST", &tag, &json!({ "tags": { "a": canary } })).await.status, 204);
    // Strangers leave nothing.
    for call in
        [Call::new("POST", users), Call::new("POST", users).signed(&server.root().with_wrong_secret())]
    {
        assert_eq!(call.send(&server.client).await.status, 403);
    }

    let all = records(&server, "").await;
    let row = |record: &Value| {
        json!([record["userName"], record["action"], record["outcome"], record["status"], record["resource"]])
    };
    let rows: Vec<Value> = all["records"].as_array().unwrap().iter().map(row).collect();
    let user = format!("arn:aws:iam::{account}:user/ci");
    let endpoint = format!("{arn}/runtime-endpoint/DEFAULT");
    let expect = [
        json!(["root", "bedrock-agentcore:TagResource", "allowed", 204, arn]),
        json!(["root", "clamshell:StopSession", "failed", 404, endpoint]),
        json!(["ci", "clamshell:StopSession", "denied", 403, endpoint]),
        json!(["root", "clamshell:CreateKey", "allowed", 201, user]),
        json!(["root", "clamshell:CreateUser", "allowed", 201, user]),
    ];
    assert_eq!(rows, expect);
    assert_eq!(all["nextBefore"], Value::Null);
    let denied = &all["records"][2];
    assert_eq!(denied["principal"], user);
    assert_eq!((&denied["sourceIp"], &denied["via"]), (&json!("127.0.0.1"), &json!("signature")));
    assert_eq!(denied["detail"]["error"], "AccessDeniedException");
    assert_eq!(denied["detail"]["path"], format!("/clamshell/v1/sessions/{SESSION}/stop"));
    assert!(uuid::Uuid::parse_str(denied["requestId"].as_str().unwrap()).is_ok());
    let text = all.to_string();
    for hidden in [canary, secret.as_str(), "Signature"] {
        assert!(!text.contains(hidden), "{hidden}");
    }

    // Pages and filters.
    let page = records(&server, "?limit=2").await;
    assert_eq!(page["records"].as_array().unwrap().len(), 2);
    let next = page["nextBefore"].as_u64().unwrap();
    let rest = records(&server, &format!("?limit=10&before={next}")).await;
    assert_eq!(rest["records"].as_array().unwrap().len(), 3);
    let of =
        |query: &'static str| async { records(&server, query).await["records"].as_array().unwrap().len() };
    assert_eq!(of("?user=ci").await, 1);
    assert_eq!(of("?action=clamshell:StopSession").await, 2);
    assert_eq!(of("?action=clamshell:StopSession&user=root").await, 1);
    for bad in ["?limit=0", "?limit=1001", "?limit=x", "?before=-1"] {
        let path = format!("/clamshell/v1/audit{bad}");
        assert_eq!(root(&server, "GET", &path, &Value::Null).await.status, 400, "{bad}");
    }
    // Ids go on where they were.
    let newest = all["records"][0]["id"].as_u64().unwrap();
    let server = server.start_again("").await;
    root(&server, "DELETE", &format!("{users}/nobody"), &Value::Null).await;
    assert_eq!(records(&server, "?limit=1").await["records"][0]["id"], newest + 1);
}
