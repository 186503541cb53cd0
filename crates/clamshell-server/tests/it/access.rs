//! Who may do what: users by their policies, resources by theirs, tokens by their provider, roles of agents by their
//! credentials.

mod idp;
mod roles;
mod tokens;

use clamshell_domain::{Hosting, ServerProtocol};
use clamshell_server::EXTENSION_ROUTES;
use clamshell_testkit::{
    Client, Reply,
    hosted::{CodeBucket, agent_runtime, host},
};
use clamshell_wire::{Operation, headers, percent_encode};
use serde_json::{Value, json};

use crate::{
    calls::{Call, SESSION, Signer, check_envelope, message, server_with_session, state},
    in_process::{InProcess, sandboxes},
    unsigned,
};

const AGENT: &str = include_str!("access/agent.py");

/// A call of root that must succeed.
async fn root(server: &InProcess, method: &str, path: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let call = Call::new(method, path).header("content-type", "application/json").body(body);
    let reply = call.signed(&server.root()).send(&server.client).await;
    assert!(reply.status.is_success(), "{method} {path}: {}", String::from_utf8_lossy(&reply.body));
    if reply.body.is_empty() { Value::Null } else { reply.json() }
}

/// A new user with these statements as its policy, and a key of it.
pub(crate) async fn user(server: &InProcess, name: &str, statements: &Value) -> Signer {
    root(server, "POST", "/clamshell/v1/users", &json!({ "userName": name })).await;
    if !statements.is_null() {
        let path = format!("/clamshell/v1/users/{name}/policies/test");
        let policy = json!({ "Version": "2012-10-17", "Statement": statements });
        root(server, "PUT", &path, &policy).await;
    }
    let key = json!({ "userName": name, "existingUser": true });
    let key = root(server, "POST", "/clamshell/v1/keys", &key).await;
    server.root().with_key(key["accessKeyId"].as_str().unwrap(), key["secretAccessKey"].as_str().unwrap())
}

fn user_arn(server: &InProcess, name: &str) -> String {
    format!("arn:aws:iam::{}:user/{name}", server.info.account_id)
}

fn not_authorized(who: &str, action: &str, resource: &str) -> Value {
    message(format!("User: {who} is not authorized to perform: {action} on resource: {resource}"))
}

/// That a reply is the refusal of a caller who may not do it.
fn refused(name: &str, reply: &Reply, who: &str, action: &str, resource: &str) {
    let seen = (reply.status.as_u16(), reply.header(headers::ERROR_TYPE), reply.json());
    let expect = (403, "AccessDeniedException", not_authorized(who, action, resource));
    assert_eq!(seen, expect, "{name}");
    check_envelope(name, reply);
}

fn stop(server: &InProcess) -> Call {
    Call::new("POST", server.client.runtime_path("stopruntimesession"))
        .header(headers::SESSION_ID, "session-that-nobody-ever-started-0001")
        .body("{}")
}

/// A server with a runtime whose agent only says that it is well, and the client for that runtime.
pub(super) struct Fixture {
    pub(super) server: InProcess,
    pub(super) client: Client,
    _bucket: CodeBucket,
}

impl Fixture {
    /// `None`, with the reason printed, where it cannot be. `hosting` may change what the runtime is.
    pub(super) async fn start(
        configuration: &str,
        role: &str,
        change: impl FnOnce(&mut Hosting),
    ) -> Option<Self> {
        sandboxes()?;
        let bucket = CodeBucket::with_agent(AGENT).unwrap()?;
        let configuration = format!("standby = false\n{configuration}{}", bucket.configuration());
        let server = InProcess::start(&configuration).await;
        let mut runtime = agent_runtime("agent", bucket.artifact(), ServerProtocol::Http).unwrap();
        let hosting = runtime.hosting.as_mut().unwrap();
        hosting.role_arn = format!("arn:aws:iam::{}:role/{role}", server.info.account_id);
        change(hosting);
        let client = host(server.data_dir(), &server.client, &runtime).await.unwrap();
        Some(Self { server, client, _bucket: bucket })
    }
}

#[tokio::test]
async fn every_operation_is_refused_to_a_user_without_a_policy() {
    let server = server_with_session().await;
    let nobody = user(&server, "nobody", &Value::Null).await;
    let who = user_arn(&server, "nobody");
    let arn = server.client.runtime_arn.clone();
    let before = state(&server).await;
    let open = Operation::GetRuntimeProtectedResourceMetadata;
    for operation in Operation::ALL.iter().copied().filter(|it| unsigned::is_served(*it) && *it != open) {
        let reply = unsigned::call(&server, operation, &arn, None).signed(&nobody).send(&server.client).await;
        let resource = match operation {
            Operation::CreateAgentRuntime | Operation::ListAgentRuntimes => "*".to_owned(),
            _ if operation.path_template().contains("{endpointName}") => {
                // Of the runtime, which comes first.
                arn.clone()
            }
            _ => arn.clone(),
        };
        let action = format!("bedrock-agentcore:{}", operation.name());
        refused(operation.name(), &reply, &who, &action, &resource);
        // Nor is it told whether something is there.
        let foreign = arn.replace(&server.info.account_id, "111111111111");
        let strange = unsigned::call(&server, operation, &foreign, Some("foreign-AbCdE12345"));
        let reply = strange.signed(&nobody).send(&server.client).await;
        assert_eq!(reply.status, 403, "{}", operation.name());
    }
    for (method, template) in
        EXTENSION_ROUTES.iter().filter(|(_, path)| *path != "/health" && !is_own_matter(path))
    {
        let path = template
            .replace("{sessionId}", SESSION)
            .replace("{shellId}", "build")
            .replace("{accessKeyId}", &server.client.credentials.access_key_id)
            .replace("{userName}", "nobody")
            .replace("{roleName}", "clamshell-agent")
            .replace("{policyName}", "all")
            .replace("{runtime}", &percent_encode(&arn))
            .replace("{secretName}", "KEY");
        let call = Call::new(method, format!("/clamshell/v1{path}?runtime={}", percent_encode(&arn)));
        let call = match *template {
            "/users" if *method == "POST" => call.body(json!({ "userName": "more" }).to_string()),
            "/roles" if *method == "POST" => call.body(json!({ "roleName": "more" }).to_string()),
            "/keys" if *method == "POST" => call.body(json!({ "userName": "root" }).to_string()),
            _ if template.ends_with("/attach") => call.upgrade_without(""),
            _ if template.ends_with("/commands") => call.body("{\"command\":\"true\"}"),
            _ => call,
        };
        let reply = call.signed(&nobody).send(&server.client).await;
        let name = format!("{method} {template}");
        assert_eq!(
            (reply.status.as_u16(), reply.header(headers::ERROR_TYPE)),
            (403, "AccessDeniedException"),
            "{name}"
        );
        let text = reply.json()["message"].as_str().unwrap().to_owned();
        assert!(
            text.starts_with(&format!("User: {who} is not authorized to perform: clamshell:")),
            "{name}: {text}"
        );
    }
    assert_eq!(state(&server).await, before);
}

/// What is about the caller alone asks no policy.
fn is_own_matter(path: &str) -> bool {
    path.starts_with("/console/") && path != "/console/links"
}

/// Policies on both sides of one call, and whether it is allowed.
#[tokio::test]
async fn policies_of_users_and_resources_decide_together() {
    let server = InProcess::start("").await;
    let arn = server.client.runtime_arn.clone();
    let endpoint = format!("{arn}/runtime-endpoint/DEFAULT");
    let action = "bedrock-agentcore:StopRuntimeSession";
    let of_user =
        |effect: &str, resource: Value| json!([{ "Effect": effect, "Action": action, "Resource": resource }]);
    let conditional = |condition: Value| json!([{ "Effect": "Allow", "Action": "bedrock-agentcore:*", "Resource": "*", "Condition": condition }]);
    let allow_all = || of_user("Allow", json!("*"));
    let of_resource = |effect: &str, principal: Value, resource: &str| {
        let statement =
            json!({ "Effect": effect, "Principal": principal, "Action": action, "Resource": resource });
        json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string()
    };
    let account = json!({ "AWS": server.info.account_id });
    // Name, statements of the user, policy of the runtime and of its endpoint, and who refuses.
    struct Row<'a> {
        name: &'a str,
        user: Value,
        runtime: Option<String>,
        endpoint: Option<String>,
        refused: Option<&'a str>,
    }
    let (on_runtime, on_endpoint) = (Some(arn.as_str()), Some(endpoint.as_str()));
    let row = |name, user, runtime, endpoint, refused| Row { name, user, runtime, endpoint, refused };
    let me = |name: &str| json!({ "AWS": user_arn(&server, name) });
    let rows = [
        row("nothing", Value::Null, None, None, on_runtime),
        row("identity", allow_all(), None, None, None),
        row("identity-runtime", of_user("Allow", json!(arn)), None, None, on_endpoint),
        row("identity-endpoint", of_user("Allow", json!(endpoint)), None, None, on_runtime),
        row("identity-both", of_user("Allow", json!([arn, endpoint])), None, None, None),
        row(
            "mixed",
            of_user("Allow", json!(arn)),
            None,
            Some(of_resource("Allow", me("mixed"), &endpoint)),
            None,
        ),
        row(
            "resource-both",
            Value::Null,
            Some(of_resource("Allow", me("resource-both"), &arn)),
            Some(of_resource("Allow", me("resource-both"), &endpoint)),
            None,
        ),
        row(
            "resource-runtime",
            Value::Null,
            Some(of_resource("Allow", me("resource-runtime"), &arn)),
            None,
            on_endpoint,
        ),
        row(
            "resource-other",
            Value::Null,
            Some(of_resource("Allow", me("identity"), &arn)),
            Some(of_resource("Allow", me("identity"), &endpoint)),
            on_runtime,
        ),
        row(
            "resource-account",
            Value::Null,
            Some(of_resource("Allow", account.clone(), &arn)),
            Some(of_resource("Allow", account, &endpoint)),
            on_runtime,
        ),
        row(
            "deny-endpoint",
            allow_all(),
            None,
            Some(of_resource("Deny", json!("*"), &endpoint)),
            on_endpoint,
        ),
        row(
            "deny-runtime",
            allow_all(),
            Some(of_resource("Deny", me("deny-runtime"), &arn)),
            None,
            on_runtime,
        ),
        row(
            "deny-identity",
            of_user("Deny", json!(endpoint)),
            Some(of_resource("Allow", json!("*"), &arn)),
            Some(of_resource("Allow", json!("*"), &endpoint)),
            on_endpoint,
        ),
        row("near", conditional(json!({ "IpAddress": { "aws:SourceIp": "127.0.0.0/8" } })), None, None, None),
        row(
            "far",
            conditional(json!({ "IpAddress": { "aws:SourceIp": "10.0.0.0/8" } })),
            None,
            None,
            on_runtime,
        ),
        row("plain", conditional(json!({ "Bool": { "aws:SecureTransport": "false" } })), None, None, None),
        row("tls", conditional(json!({ "Bool": { "aws:SecureTransport": "true" } })), None, None, on_runtime),
        row("named", conditional(json!({ "StringEquals": { "aws:username": "named" } })), None, None, None),
        row(
            "past",
            conditional(json!({ "DateLessThan": { "aws:CurrentTime": "2020-01-01T00:00:00Z" } })),
            None,
            None,
            on_runtime,
        ),
    ];
    let path = |arn: &str| format!("/resourcepolicy/{}", percent_encode(arn));
    for Row { name, user: statements, runtime, endpoint: of_endpoint, refused: by } in rows {
        let signer = user(&server, name, &statements).await;
        let attached = [(&arn, runtime), (&endpoint, of_endpoint)];
        for (at, policy) in &attached {
            if let Some(policy) = policy {
                root(&server, "PUT", &path(at), &json!({ "policy": policy })).await;
            }
        }
        let reply = stop(&server).signed(&signer).send(&server.client).await;
        match by {
            Some(resource) => refused(name, &reply, &user_arn(&server, name), action, resource),
            None => assert_eq!(
                (reply.status.as_u16(), reply.json()),
                (404, message("Session not found")),
                "{name}"
            ),
        }
        for (at, policy) in &attached {
            if policy.is_some() {
                root(&server, "DELETE", &path(at), &Value::Null).await;
            }
        }
    }
    // Not even root gets around a deny.
    let deny = of_resource("Deny", json!("*"), &arn);
    root(&server, "PUT", &path(&arn), &json!({ "policy": deny })).await;
    let reply = stop(&server).signed(&server.root()).send(&server.client).await;
    let account = format!("arn:aws:iam::{}:root", server.info.account_id);
    refused("root", &reply, &account, action, &arn);
    // And not by the other API.
    let path = format!("/clamshell/v1/sessions/{SESSION}/stop");
    let reply = Call::new("POST", path).signed(&server.root()).send(&server.client).await;
    refused("extension", &reply, &account, action, &arn);
}

#[tokio::test]
async fn tags_and_further_actions_count() {
    let server = InProcess::start("").await;
    let arn = server.client.runtime_arn.clone();
    let tagged = json!([
        { "Effect": "Allow", "Action": "bedrock-agentcore:GetAgentRuntime", "Resource": "*",
          "Condition": { "StringEquals": { "aws:ResourceTag/team": "blue" } } },
        { "Effect": "Allow", "Action": "bedrock-agentcore:TagResource", "Resource": "*",
          "Condition": { "ForAllValues:StringEquals": { "aws:TagKeys": ["team"] } } },
        { "Effect": "Allow", "Action": "bedrock-agentcore:CreateAgentRuntime", "Resource": "*" },
    ]);
    let signer = user(&server, "blue", &tagged).await;
    let id = arn.rsplit('/').next().unwrap();
    let get = || Call::new("GET", format!("/runtimes/{id}/"));
    let tag = |key: &str| {
        let body = json!({ "tags": { key: "blue" } }).to_string();
        Call::new("POST", format!("/tags/{}", percent_encode(&arn))).body(body)
    };
    let status = async |call: Call| call.signed(&signer).send(&server.client).await.status.as_u16();
    assert_eq!(status(get()).await, 403);
    assert_eq!(status(tag("owner")).await, 403);
    assert_eq!(status(tag("team")).await, 204);
    assert_eq!(status(get()).await, 200, "at once");

    // Whoever gives a role away must be allowed to.
    let role = format!("arn:aws:iam::{}:role/clamshell-agent", server.info.account_id);
    let create = json!({
        "agentRuntimeName": "powerful", "roleArn": role,
        "agentRuntimeArtifact": { "containerConfiguration": { "containerUri": "127.0.0.1:9/nothing:1" } },
        "networkConfiguration": { "networkMode": "PUBLIC" },
    });
    let create = Call::new("PUT", "/runtimes/").body(create.to_string());
    let reply = create.clone().signed(&signer).send(&server.client).await;
    refused("role", &reply, &user_arn(&server, "blue"), "iam:PassRole", &role);
    let pass = json!({ "Statement": { "Effect": "Allow", "Action": "iam:PassRole", "Resource": role } });
    root(&server, "PUT", "/clamshell/v1/users/blue/policies/pass", &pass).await;
    let reply = create.signed(&signer).send(&server.client).await;
    assert_eq!(reply.status, 202, "{}", String::from_utf8_lossy(&reply.body));
}

#[tokio::test]
async fn users_and_roles_are_made_changed_and_removed() {
    let server = InProcess::start("").await;
    let users = "/clamshell/v1/users";
    let made = root(&server, "POST", users, &json!({ "userName": "ci", "description": "of CI" })).await;
    let expect = json!({
        "userName": "ci", "arn": user_arn(&server, "ci"), "description": "of CI", "createdAt": made["createdAt"],
        "policies": {},
    });
    assert_eq!(made, expect);
    let policy = json!({ "Statement": { "Effect": "Allow", "Action": "*", "Resource": "*" } });
    let shown = root(&server, "PUT", &format!("{users}/ci/policies/all"), &policy).await;
    assert_eq!(shown["policies"], json!({ "all": policy }));
    let key =
        root(&server, "POST", "/clamshell/v1/keys", &json!({ "userName": "ci", "existingUser": true })).await;
    let ci = server
        .root()
        .with_key(key["accessKeyId"].as_str().unwrap(), key["secretAccessKey"].as_str().unwrap());
    let list = Call::new("GET", users);
    let listed = list.clone().signed(&ci).send(&server.client).await;
    assert_eq!((listed.status.as_u16(), listed.json()["users"].clone()), (200, json!([shown])));
    // Taken away, it counts at once.
    root(&server, "DELETE", &format!("{users}/ci/policies/all"), &Value::Null).await;
    assert_eq!(list.clone().signed(&ci).send(&server.client).await.status, 403);

    // What is made by its first key alone may do everything.
    let key = root(&server, "POST", "/clamshell/v1/keys", &json!({ "userName": "old" })).await;
    let old = server
        .root()
        .with_key(key["accessKeyId"].as_str().unwrap(), key["secretAccessKey"].as_str().unwrap());
    assert_eq!(list.signed(&old).send(&server.client).await.status, 200);
    let shown = root(&server, "GET", &format!("{users}/old"), &Value::Null).await;
    assert_eq!(shown["policies"]["AdministratorAccess"]["Statement"][0]["Action"], "*");

    let roles = root(&server, "GET", "/clamshell/v1/roles", &Value::Null).await;
    assert_eq!(roles["roles"][0]["roleName"], "clamshell-agent");
    root(&server, "DELETE", "/clamshell/v1/roles/clamshell-agent", &Value::Null).await;
    root(&server, "POST", "/clamshell/v1/roles", &json!({ "roleName": "reader" })).await;
    let server = server.start_again("").await;
    let roles = root(&server, "GET", "/clamshell/v1/roles", &Value::Null).await;
    let names: Vec<&Value> =
        roles["roles"].as_array().unwrap().iter().map(|role| &role["roleName"]).collect();
    assert_eq!(names, ["reader"], "what was removed is not made again");

    for (method, path, body, status) in [
        ("POST", users.to_owned(), json!({ "userName": "ci" }), 409),
        ("POST", users.to_owned(), json!({ "userName": "root" }), 409),
        ("POST", users.to_owned(), json!({ "userName": "a/b" }), 400),
        ("POST", users.to_owned(), json!({ "roleName": "x" }), 400),
        ("POST", users.to_owned(), json!({ "userName": "x", "roleName": "y" }), 400),
        ("POST", users.to_owned(), json!({}), 400),
        ("DELETE", format!("{users}/ci"), Value::Null, 409),
        ("GET", format!("{users}/none"), Value::Null, 404),
        ("DELETE", format!("{users}/none"), Value::Null, 404),
        ("PUT", format!("{users}/none/policies/p"), policy.clone(), 404),
        ("PUT", format!("{users}/ci/policies/p"), json!({ "Statement": [] }), 400),
        ("PUT", format!("{users}/ci/policies/a%2Fb"), policy.clone(), 400),
        ("DELETE", format!("{users}/ci/policies/none"), Value::Null, 404),
        ("POST", "/clamshell/v1/keys".to_owned(), json!({ "userName": "none", "existingUser": true }), 404),
    ] {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let reply = Call::new(method, &path).body(text).signed(&server.root()).send(&server.client).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", String::from_utf8_lossy(&reply.body));
    }
}

/// Rights to make keys do not become rights to do everything.
#[tokio::test]
async fn who_makes_keys_does_not_gain_more() {
    let server = InProcess::start("").await;
    let key = |name: &str| user_arn(&server, name);
    let statements = json!([
        { "Effect": "Allow", "Action": "clamshell:CreateKey", "Resource": [key("dev-*"), key("nobody-yet")] },
    ]);
    let signer = user(&server, "dev-keys", &statements).await;
    let who = user_arn(&server, "dev-keys");
    let create = async |name: &str| {
        let body = json!({ "userName": name }).to_string();
        Call::new("POST", "/clamshell/v1/keys").body(body).signed(&signer).send(&server.client).await
    };
    let account = format!("arn:aws:iam::{}:root", server.info.account_id);
    refused("root", &create("root").await, &who, "clamshell:CreateKey", &account);
    refused("other", &create("ops").await, &who, "clamshell:CreateKey", &key("ops"));
    refused("new", &create("nobody-yet").await, &who, "clamshell:CreateUser", &key("nobody-yet"));
    assert_eq!(create("dev-keys").await.status, 201);
}
