//! What is remembered between calls is forgotten when it changes: a change counts from the moment its caller was told of it,
//! also for those who call without a pause meanwhile.

use std::cell::Cell;

use clamshell_testkit::{Reply, eventually};
use clamshell_wire::{headers, percent_encode};
use serde_json::{Value, json};

use crate::{
    access::user,
    calls::{Call, SESSION, Signer},
    control_changes::{definition, ok, ready, settled},
    in_process::{InProcess, LIMIT},
};

/// Callers at the same time.
const CALLERS: usize = 4;

/// Calls of each that begin after the change was told.
const CALLS_AFTER: usize = 3;

/// A call that shows which version, policies and tags count, and leaves no session.
fn call(arn: &str, qualifier: &str) -> Call {
    let path = format!("/runtimes/{}/stopruntimesession?qualifier={qualifier}", percent_encode(arn));
    Call::new("POST", path).header(headers::SESSION_ID, SESSION).body("{}")
}

/// Whether a call came as far as to a session, which was never there.
fn reached(reply: &Reply) -> bool {
    let text = String::from_utf8_lossy(&reply.body);
    assert!(reply.status.is_client_error(), "{}: {text}", reply.status);
    reply.status == 404 && text.contains("Session not found")
}

/// Makes a change under calls that reach their session before it, and do not after it, or the other way round.
async fn check(
    name: &str,
    server: &InProcess,
    signer: &Signer,
    call: Call,
    change: impl AsyncFnOnce() -> bool,
) {
    let send = async || reached(&call.clone().signed(signer).send(&server.client).await);
    let before = send().await;
    assert_eq!(send().await, before, "{name}: it is remembered");
    let told = Cell::new(false);
    let caller = async || {
        let (mut after, mut seen) = (0, before);
        while after < CALLS_AFTER {
            let must = told.get();
            let now = send().await;
            assert!(!must || now != before, "{name}: a change that was told does not count");
            assert!(now != before || seen == before, "{name}: what was before is back");
            seen = now;
            after += usize::from(must);
        }
    };
    let callers = futures_util::future::join_all((0..CALLERS).map(|_| caller()));
    let changed = async {
        let expect = change().await;
        assert_eq!(expect, !before, "{name}: the change is none");
        told.set(true);
        assert_eq!(send().await, expect, "{name}: the very next call");
    };
    futures_util::future::join(callers, changed).await;
}

/// With it a signed call is refused.
fn authorizer() -> Value {
    json!({ "authorizerConfiguration": { "customJWTAuthorizer": {
        "discoveryUrl": "https://example.com/.well-known/openid-configuration",
        "allowedAudience": ["me"],
    } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_move_and_runtimes_that_go_count_at_once() {
    let server = InProcess::start("").await;
    let (root, null) = (server.root(), Value::Null);
    let (id, arn) = ready(&server, "moving", &json!({})).await;
    let path = format!("/runtimes/{id}/");
    let endpoints = format!("{path}runtime-endpoints/");
    let live = format!("{endpoints}live/");
    let points_to = async |version: &str| {
        eventually("the endpoint has moved", LIMIT, async || {
            let found = ok(&server, "GET", &live, &null, 200).await;
            let there = found["status"] == "READY" && found["liveVersion"] == version;
            if there { Ok(()) } else { Err(found) }
        })
        .await;
    };
    let made = json!({ "name": "live", "agentRuntimeVersion": "1" });
    check("endpoint made", &server, &root, call(&arn, "live"), async || {
        ok(&server, "PUT", &endpoints, &made, 202).await;
        points_to("1").await;
        true
    })
    .await;
    check("DEFAULT follows", &server, &root, call(&arn, "DEFAULT"), async || {
        ok(&server, "PUT", &path, &definition(&authorizer()), 202).await;
        assert_eq!(settled(&server, &path).await["status"], "READY");
        false
    })
    .await;
    for (name, version, reaches) in [("endpoint moved", "2", false), ("endpoint moved back", "1", true)] {
        let moved = json!({ "agentRuntimeVersion": version });
        check(name, &server, &root, call(&arn, "live"), async || {
            ok(&server, "PUT", &live, &moved, 202).await;
            points_to(version).await;
            reaches
        })
        .await;
    }
    check("endpoint deleted", &server, &root, call(&arn, "live"), async || {
        ok(&server, "DELETE", &live, &null, 202).await;
        false
    })
    .await;
    let (id, arn) = ready(&server, "going", &json!({})).await;
    check("runtime deleted", &server, &root, call(&arn, "DEFAULT"), async || {
        ok(&server, "DELETE", &format!("/runtimes/{id}/"), &null, 202).await;
        false
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_and_tags_that_change_count_at_once() {
    let server = InProcess::start("").await;
    let (root, null) = (server.root(), Value::Null);
    let (_, arn) = ready(&server, "guarded", &json!({})).await;
    let action = "bedrock-agentcore:StopRuntimeSession";
    let statement = json!([{
        "Effect": "Allow", "Action": action, "Resource": "*",
        "Condition": { "StringEquals": { "aws:ResourceTag/team": "blue" } },
    }]);
    let blue = user(&server, "blue", &statement).await;
    let tags = format!("/tags/{}", percent_encode(&arn));
    let endpoint_tags = format!("/tags/{}", percent_encode(&format!("{arn}/runtime-endpoint/DEFAULT")));
    let team = |name: &str| json!({ "tags": { "team": name } });
    ok(&server, "POST", &endpoint_tags, &team("blue"), 204).await;
    for (name, color, reaches) in [("tag put", "blue", true), ("tag changed", "red", false)] {
        check(name, &server, &blue, call(&arn, "DEFAULT"), async || {
            ok(&server, "POST", &tags, &team(color), 204).await;
            reaches
        })
        .await;
    }
    ok(&server, "POST", &tags, &team("blue"), 204).await;
    check("tag removed", &server, &blue, call(&arn, "DEFAULT"), async || {
        ok(&server, "DELETE", &format!("{tags}?tagKeys=team"), &null, 204).await;
        false
    })
    .await;
    let policies = "/clamshell/v1/users/blue/policies";
    let all = json!({ "Statement": { "Effect": "Allow", "Action": "*", "Resource": "*" } });
    check("policy of the user put", &server, &blue, call(&arn, "DEFAULT"), async || {
        ok(&server, "PUT", &format!("{policies}/all"), &all, 200).await;
        true
    })
    .await;
    check("policy of the user removed", &server, &blue, call(&arn, "DEFAULT"), async || {
        ok(&server, "DELETE", &format!("{policies}/all"), &null, 204).await;
        false
    })
    .await;
    let of_runtime = format!("/resourcepolicy/{}", percent_encode(&arn));
    let deny =
        json!({ "Statement": [{ "Effect": "Deny", "Principal": "*", "Action": action, "Resource": arn }] });
    let deny = json!({ "policy": deny.to_string() });
    check("policy of the runtime put", &server, &root, call(&arn, "DEFAULT"), async || {
        ok(&server, "PUT", &of_runtime, &deny, 201).await;
        false
    })
    .await;
    check("policy of the runtime removed", &server, &root, call(&arn, "DEFAULT"), async || {
        ok(&server, "DELETE", &of_runtime, &null, 204).await;
        true
    })
    .await;
}
