//! What the control plane changes and what it refuses to: every rule that the model does not say, states, quotas,
//! and what becomes of sessions.

use clamshell_testkit::{Reply, eventually};
use clamshell_wire::{headers, percent_encode};
use serde_json::{Value, json};

use crate::{
    calls::{Call, SESSION, invalid, message, state},
    in_process::{InProcess, LIMIT, sandboxes},
};

const ROLE: &str = "arn:aws:iam::123456789012:role/agent";

async fn send(server: &InProcess, method: &str, path: &str, body: &Value) -> Reply {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    Call::new(method, path).body(body).signed(&server.root()).send(&server.client).await
}

pub(crate) async fn ok(server: &InProcess, method: &str, path: &str, body: &Value, status: u16) -> Value {
    let reply = send(server, method, path, body).await;
    assert_eq!(reply.status, status, "{method} {path}: {}", String::from_utf8_lossy(&reply.body));
    reply.json()
}

pub(crate) async fn refused(
    server: &InProcess,
    method: &str,
    path: &str,
    body: &Value,
    status: u16,
    error: &str,
    expect: &Value,
) {
    let reply = send(server, method, path, body).await;
    let seen = (reply.status.as_u16(), reply.header(headers::ERROR_TYPE), reply.json());
    assert_eq!(seen, (status, error, expect.clone()), "{method} {path} {body}");
}

pub(crate) fn definition(more: &Value) -> Value {
    let mut body = json!({
        "agentRuntimeArtifact": { "containerConfiguration": { "containerUri": "host" } },
        "roleArn": ROLE,
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

pub(crate) fn named(name: &str, more: &Value) -> Value {
    let mut body = definition(more);
    body["agentRuntimeName"] = json!(name);
    body
}

/// Waits until nothing goes on with a runtime.
pub(crate) async fn settled(server: &InProcess, path: &str) -> Value {
    eventually("the change is finished", LIMIT, async || {
        let value = ok(server, "GET", path, &Value::Null, 200).await;
        let status = value["status"].as_str().unwrap_or_default().to_owned();
        if status.ends_with("ING") { Err(status) } else { Ok(value) }
    })
    .await
}

/// A runtime that is ready: its id and ARN.
pub(crate) async fn ready(server: &InProcess, name: &str, more: &Value) -> (String, String) {
    let made = ok(server, "PUT", "/runtimes/", &named(name, more), 202).await;
    let id = made["agentRuntimeId"].as_str().unwrap().to_owned();
    let found = settled(server, &format!("/runtimes/{id}/")).await;
    assert_eq!(found["status"], "READY", "{found}");
    (id, made["agentRuntimeArn"].as_str().unwrap().to_owned())
}

async fn command(server: &InProcess, arn: &str, text: &str) -> (u16, String) {
    let reply = Call::new("POST", format!("/runtimes/{}/commands", percent_encode(arn)))
        .header(headers::SESSION_ID, SESSION)
        .header("content-type", "application/json")
        .body(json!({ "command": text }).to_string())
        .signed(&server.root())
        .send(&server.client)
        .await;
    (reply.status.as_u16(), String::from_utf8_lossy(&reply.body).into_owned())
}

async fn stop(server: &InProcess, arn: &str) {
    let reply = Call::new("POST", format!("/runtimes/{}/stopruntimesession", percent_encode(arn)))
        .header(headers::SESSION_ID, SESSION)
        .body("{}")
        .signed(&server.root())
        .send(&server.client)
        .await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
}

#[tokio::test]
async fn rules_that_the_model_does_not_say() {
    let server = InProcess::start("").await;
    let (id, _) = ready(&server, "rules", &json!({})).await;
    let before = state(&server).await;
    let authorizer = |claims: Value| {
        json!({ "authorizerConfiguration": { "customJWTAuthorizer": {
            "discoveryUrl": "https://example.com/.well-known/openid-configuration",
            "customClaims": claims,
        } } })
    };
    let claim = |kind: &str, operator: &str, value: Value| {
        authorizer(json!([{
            "inboundTokenClaimName": "team",
            "inboundTokenClaimValueType": kind,
            "authorizingClaimMatchValue": { "claimMatchValue": value, "claimMatchOperator": operator },
        }]))
    };
    let one = json!({ "matchValueString": "blue" });
    let storage = json!({ "sessionStorage": { "mountPath": "/mnt/a" } });
    let access = json!({ "efsAccessPoint": {
        "accessPointArn": "arn:aws:elasticfilesystem:us-west-2:123456789012:access-point/fsap-00000000",
        "mountPath": "/mnt/b",
    } });
    let image =
        |uri: &str| json!({ "agentRuntimeArtifact": { "containerConfiguration": { "containerUri": uri } } });
    let rules = [
        (
            "capacityProviderConfiguration",
            json!({ "capacityProviderConfiguration": {
            "capacityProviderArn": "arn:aws:bedrock-agentcore:us-west-2:123456789012:capacity-provider/cp-AbCdE12345",
        } }),
        ),
        ("platformVersion", json!({ "platformVersion": "V3" })),
        (
            "lifecycleConfiguration.idleRuntimeSessionTimeout",
            json!({ "lifecycleConfiguration": {
            "idleRuntimeSessionTimeout": 120, "maxLifetime": 119,
        } }),
        ),
        ("environmentVariables", json!({ "environmentVariables": { "A": "v".repeat(4096) } })),
        ("environmentVariables", json!({ "environmentVariables": { "A=B": "v" } })),
        (
            "protocolConfiguration.port",
            json!({ "protocolConfiguration": { "serverProtocol": "HTTP", "port": 8443 } }),
        ),
        ("allowedPorts", json!({ "allowedPorts": [{ "port": 8443 }] })),
        (
            "allowedPorts",
            json!({ "allowedPorts": [{ "port": 9000 }, { "portRange": { "from": 8900, "to": 9100 } }] }),
        ),
        (
            "requestHeaderConfiguration.requestHeaderAllowlist",
            json!({ "requestHeaderConfiguration": { "requestHeaderAllowlist": ["Authorization"] } }),
        ),
        (
            "requestHeaderConfiguration.requestHeaderAllowlist",
            json!({ "requestHeaderConfiguration": { "requestHeaderAllowlist": ["Cookie"] } }),
        ),
        ("filesystemConfigurations", json!({ "filesystemConfigurations": [storage, storage] })),
        ("filesystemConfigurations", json!({ "filesystemConfigurations": [access] })),
        (
            "networkConfiguration.networkModeConfig",
            json!({ "networkConfiguration": { "networkMode": "VPC" } }),
        ),
        (
            "resourceConfigurations.1.member.minimumMemoryInMiB",
            json!({ "resourceConfigurations": [{ "minimumMemoryInMiB": 1_000_000 }] }),
        ),
        (
            "authorizerConfiguration.customJWTAuthorizer",
            json!({ "authorizerConfiguration": { "customJWTAuthorizer": {
                "discoveryUrl": "https://example.com/.well-known/openid-configuration",
            } } }),
        ),
        (
            "authorizerConfiguration.customJWTAuthorizer.claimMatchOperator",
            claim("STRING", "CONTAINS", one.clone()),
        ),
        (
            "authorizerConfiguration.customJWTAuthorizer.claimMatchOperator",
            claim("STRING_ARRAY", "EQUALS", one.clone()),
        ),
        ("agentRuntimeArtifact.containerConfiguration.containerUri", image("UPPER/case")),
        ("agentRuntimeArtifact.containerConfiguration.containerUri", image("dir:relative")),
    ];
    for (field, more) in rules {
        for (method, path, body) in [
            ("PUT", "/runtimes/".to_owned(), named("refused", &more)),
            ("PUT", format!("/runtimes/{id}/"), definition(&more)),
        ] {
            let reply = send(&server, method, &path, &body).await;
            let seen = reply.json();
            assert_eq!(
                (reply.status.as_u16(), &seen["fieldList"][0]["name"]),
                (400, &json!(field)),
                "{seen}"
            );
            assert_eq!(reply.header(headers::ERROR_TYPE), "ValidationException");
        }
    }
    let vpc = json!({ "networkConfiguration": { "networkMode": "VPC", "networkModeConfig": {
        "subnets": ["subnet-00000000"], "securityGroups": ["sg-00000000"], "requireServiceS3Endpoint": true,
    } } });
    let field = "networkConfiguration.networkModeConfig.requireServiceS3Endpoint";
    let expect = invalid(field, "Member must be null when an agent runtime is created");
    refused(&server, "PUT", "/runtimes/", &named("refused", &vpc), 400, "ValidationException", &expect).await;
    assert_eq!(state(&server).await, before);
    let fine = claim("STRING_ARRAY", "CONTAINS_ANY", json!({ "matchValueStringList": ["a", "b"] }));
    ready(&server, "fine", &fine).await;
}

#[tokio::test]
async fn local_images_need_a_word_on_servers_that_others_reach() {
    let server = InProcess::start("allow_local_images = false\n").await;
    let field = "agentRuntimeArtifact.containerConfiguration.containerUri";
    let rule = "Member must name an image of a registry: local images are not allowed to this caller (allow_local_images)";
    for uri in ["host", "dir:/etc", "oci:/images/a.tar"] {
        let more = json!({ "agentRuntimeArtifact": { "containerConfiguration": { "containerUri": uri } } });
        let body = named("refused", &more);
        let expect = invalid(field, rule);
        refused(&server, "PUT", "/runtimes/", &body, 400, "ValidationException", &expect).await;
    }
}

#[tokio::test]
async fn declared_runtimes_are_changed_in_the_configuration() {
    let server = InProcess::start("[runtimes.mine]\n").await;
    let listed = ok(&server, "POST", "/runtimes/", &Value::Null, 200).await;
    for item in listed["agentRuntimes"].as_array().unwrap() {
        let (name, id) =
            (item["agentRuntimeName"].as_str().unwrap(), item["agentRuntimeId"].as_str().unwrap());
        let expect = message(format!(
            "The agent runtime '{name}' is declared in the configuration of this server and is changed there"
        ));
        let path = format!("/runtimes/{id}/");
        let version = format!("{path}?version=1");
        let update = definition(&json!({}));
        for (method, path, body) in
            [("PUT", &path, &update), ("DELETE", &path, &Value::Null), ("DELETE", &version, &Value::Null)]
        {
            refused(&server, method, path, body, 409, "ConflictException", &expect).await;
        }
        // Their names are taken.
        let expect = message(format!("An agent runtime with the name '{name}' already exists"));
        let body = named(name, &json!({}));
        refused(&server, "PUT", "/runtimes/", &body, 409, "ConflictException", &expect).await;
    }
}

#[tokio::test]
async fn versions_and_endpoints_hold_each_other() {
    let server = InProcess::start("").await;
    let (id, arn) = ready(&server, "holding", &json!({})).await;
    let path = format!("/runtimes/{id}/");
    let version = |number: u32| format!("{path}?version={number}");
    let conflict = "ConflictException";
    let only = message("The only version of an agent runtime cannot be deleted; delete the agent runtime");
    refused(&server, "DELETE", &version(1), &Value::Null, 409, conflict, &only).await;
    ok(&server, "PUT", &path, &definition(&json!({})), 202).await;
    assert_eq!(settled(&server, &path).await["agentRuntimeVersion"], "2");
    let held = message("Version 2 is the version of endpoint 'DEFAULT'");
    refused(&server, "DELETE", &version(2), &Value::Null, 409, conflict, &held).await;
    let default = format!("{path}runtime-endpoints/DEFAULT/");
    let follows = message("The DEFAULT endpoint follows the newest version of its agent runtime");
    let older = json!({ "agentRuntimeVersion": "1" });
    refused(&server, "PUT", &default, &older, 409, conflict, &follows).await;
    let stays = message("The DEFAULT endpoint is deleted together with its agent runtime");
    refused(&server, "DELETE", &default, &Value::Null, 409, conflict, &stays).await;
    let described = ok(&server, "PUT", &default, &json!({ "description": "mine" }), 202).await;
    assert_eq!((&described["status"], &described["liveVersion"]), (&json!("READY"), &json!("2")));

    if sandboxes().is_some() {
        let (status, text) = command(&server, &arn, "true").await;
        assert_eq!(status, 200, "{text}");
        ok(&server, "PUT", &path, &definition(&json!({})), 202).await;
        settled(&server, &path).await;
        let runs = message("Sessions are running with version 2; stop them first");
        refused(&server, "DELETE", &version(2), &Value::Null, 409, conflict, &runs).await;
        stop(&server, &arn).await;
        ok(&server, "DELETE", &version(2), &Value::Null, 202).await;
        // The session lost its version and goes on with the next one, after a restart of the server too.
        let server = server.start_again("").await;
        let (status, text) = command(&server, &arn, "true").await;
        assert_eq!(status, 200, "{text}");
        ok(&server, "DELETE", &path, &Value::Null, 202).await;
        eventually("the runtime is gone", LIMIT, async || {
            let reply = send(&server, "GET", &path, &Value::Null).await;
            if reply.status == 404 { Ok(()) } else { Err(reply.json()) }
        })
        .await;
        let left = std::fs::read_dir(server.data_dir().join("sessions")).unwrap().count();
        assert_eq!(left, 0, "no session, no standby");
        let (status, text) = command(&server, &arn, "true").await;
        assert_eq!(status, 404, "{text}");
    }
}

#[tokio::test]
async fn a_workspace_is_kept_or_wiped_when_the_version_changes() {
    if sandboxes().is_none() {
        return;
    }
    for (configuration, expect) in [("", true), ("keep_workspace_across_versions = false\n", false)] {
        let server = InProcess::start(configuration).await;
        let (id, arn) = ready(&server, "workspace", &json!({})).await;
        let path = format!("/runtimes/{id}/");
        command(&server, &arn, "echo kept > /mnt/workspace/f").await;
        stop(&server, &arn).await;
        let (_, text) = command(&server, &arn, "cat /mnt/workspace/f").await;
        assert!(text.contains("kept"), "the same version: {text}");
        ok(&server, "PUT", &path, &definition(&json!({})), 202).await;
        settled(&server, &path).await;
        let (_, text) = command(&server, &arn, "cat /mnt/workspace/f").await;
        assert!(text.contains("kept"), "a live session keeps its version: {text}");
        stop(&server, &arn).await;
        let (_, text) = command(&server, &arn, "cat /mnt/workspace/f").await;
        assert_eq!(text.contains("kept"), expect, "{configuration}: {text}");
        stop(&server, &arn).await;
        command(&server, &arn, "echo again > /mnt/workspace/g").await;
        stop(&server, &arn).await;
        let (_, text) = command(&server, &arn, "cat /mnt/workspace/g").await;
        assert!(text.contains("again"), "the new version stays: {text}");
    }
}

#[tokio::test]
async fn a_jwt_runtime_takes_policies_for_anybody_only() {
    let server = InProcess::start("").await;
    let authorizer = json!({ "authorizerConfiguration": { "customJWTAuthorizer": {
        "discoveryUrl": "https://example.com/.well-known/openid-configuration",
        "allowedAudience": ["me"],
    } }, "requestHeaderConfiguration": { "requestHeaderAllowlist": ["Authorization"] } });
    let (id, arn) = ready(&server, "bearer", &authorizer).await;
    let found = ok(&server, "GET", &format!("/runtimes/{id}/"), &Value::Null, 200).await;
    assert_eq!(found["authorizerConfiguration"], authorizer["authorizerConfiguration"]);
    let policy = |principal: Value| {
        let statement = json!({
            "Effect": "Allow", "Principal": principal, "Action": "bedrock-agentcore:InvokeAgentRuntime",
            "Resource": arn,
        });
        json!({ "policy": json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string() })
    };
    let path = format!("/resourcepolicy/{}", percent_encode(&arn));
    ok(&server, "PUT", &path, &policy(json!("*")), 201).await;
    let rule = "Statement[0]: Principal must be * for a runtime with a JWT authorizer";
    let expect = invalid("policy", rule);
    let someone = policy(json!({ "AWS": "arn:aws:iam::123456789012:root" }));
    refused(&server, "PUT", &path, &someone, 400, "ValidationException", &expect).await;
}

/// A zip with one file, as it is.
pub(crate) fn zip(name: &str, content: &str) -> Vec<u8> {
    let (name, content) = (name.as_bytes(), content.as_bytes());
    let mut crc = !0_u32;
    for byte in content {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    let size = u32::try_from(content.len()).unwrap().to_le_bytes();
    let name_size = u16::try_from(name.len()).unwrap().to_le_bytes();
    let fields =
        [&[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0][..], &(!crc).to_le_bytes(), &size, &size, &name_size].concat();
    let mut out = [b"PK\x03\x04".as_slice(), &fields, &[0, 0], name, content].concat();
    let start = u32::try_from(out.len()).unwrap().to_le_bytes();
    let entry = [b"PK\x01\x02\x14\x00", &fields[..], &[0; 16], name].concat();
    // The external attributes and the offset are the last eight of the zeros: a file at the start.
    let entry_size = u32::try_from(entry.len()).unwrap().to_le_bytes();
    out.extend(entry);
    out.extend([b"PK\x05\x06\0\0\0\0\x01\0\x01\0".as_slice(), &entry_size, &start, &[0, 0]].concat());
    out
}

#[tokio::test]
async fn code_is_fetched_and_looked_at_before_its_version_is_ready() {
    let bucket = tempfile::tempdir().unwrap();
    std::fs::write(bucket.path().join("good.zip"), zip("app.js", "1")).unwrap();
    std::fs::write(bucket.path().join("bad.zip"), "no zip").unwrap();
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("usr/bin")).unwrap();
    std::fs::write(root.path().join("usr/bin/node"), "#!/bin/sh\n").unwrap();
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(root.path().join("usr/bin/node"), mode).unwrap();
    }
    let configuration = format!(
        "code_base_image = \"dir:{}\"\n[buckets.code]\npath = \"{}\"\n",
        root.path().display(),
        bucket.path().display()
    );
    let server = InProcess::start(&configuration).await;
    let code = |name: &str, bucket: &str, key: &str, runtime: &str, file: &str| {
        let code = json!({ "agentRuntimeArtifact": { "codeConfiguration": {
            "code": { "s3": { "bucket": bucket, "prefix": key } },
            "runtime": runtime,
            "entryPoint": [file],
        } } });
        named(name, &code)
    };
    let rows = [
        ("good", "code", "good.zip", "NODE_22", "app.js", ""),
        ("no_bucket", "nowhere", "good.zip", "NODE_22", "app.js", "no bucket named nowhere"),
        ("no_object", "code", "none.zip", "NODE_22", "app.js", "has no object none.zip"),
        ("no_zip", "code", "bad.zip", "NODE_22", "app.js", "zip"),
        ("no_interpreter", "code", "good.zip", "PYTHON_3_12", "app.js", "python3.12"),
        ("no_entry", "code", "good.zip", "NODE_22", "other.js", "entry point"),
    ];
    for (name, bucket, key, runtime, file, reason) in rows {
        let body = code(name, bucket, key, runtime, file);
        let made = ok(&server, "PUT", "/runtimes/", &body, 202).await;
        let path = format!("/runtimes/{}/", made["agentRuntimeId"].as_str().unwrap());
        let found = settled(&server, &path).await;
        let expect = if reason.is_empty() { "READY" } else { "CREATE_FAILED" };
        assert_eq!(found["status"], expect, "{name}: {found}");
        assert!(found["failureReason"].as_str().unwrap_or_default().contains(reason), "{name}: {found}");
        assert_eq!(found["agentRuntimeArtifact"], body["agentRuntimeArtifact"]);
    }
}
