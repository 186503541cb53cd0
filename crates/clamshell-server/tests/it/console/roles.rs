//! What each role may do: a row for every call of both APIs.

use clamshell_server::EXTENSION_ROUTES;
use clamshell_wire::Operation;
use serde_json::{Value, json};

use super::{CONSOLE, PASSWORD, by, login, set_password};
use crate::{
    access::user,
    calls::{Call, SESSION},
    in_process::InProcess,
    unsigned,
};

/// The least role that may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Least {
    /// It is no matter of policies.
    Anybody,
    Viewer,
    Operator,
    Admin,
}

use Least::{Admin, Anybody, Operator, Viewer};

const SESSION_PATH: &str = "/sessions/{sessionId}";
const SHELL_PATH: &str = "/sessions/{sessionId}/shells/{shellId}";

/// Row of a call; panics for a call without one.
fn least(method: &str, path: &str) -> Least {
    if let Some(rest) = path.strip_prefix(SHELL_PATH) {
        return match (method, rest) {
            ("GET", "" | "/log" | "/screen" | "/export") => Viewer,
            ("GET", "/attach" | "/shares") | ("DELETE", "") | ("PUT", "/title") | ("POST", "/shares") => {
                Operator
            }
            _ => unreachable!("{method} {path} has no row in this table"),
        };
    }
    if let Some(rest) = path.strip_prefix(SESSION_PATH) {
        return match (method, rest) {
            ("GET", "" | "/shells" | "/files") => Viewer,
            ("POST", "/stop" | "/commands" | "/files/directory" | "/files/move")
            | ("DELETE", "" | "/files")
            | ("GET" | "PUT", "/files/content") => Operator,
            _ => unreachable!("{method} {path} has no row in this table"),
        };
    }
    match (method, path) {
        (_, "/health") => Anybody,
        (_, path) if path.starts_with("/console/") && path != "/console/links" => Anybody,
        (
            "GET",
            "/server"
            | "/doctor"
            | "/sessions"
            | "/shells"
            | "/logs"
            | "/runtimes/{runtime}/terminal"
            | "/events",
        ) => Viewer,
        ("DELETE", "/shares/{shareId}") => Operator,
        // A login makes no links, whoever it is of.
        // Nor is it a share, of which the third tells.
        (_, "/console/links" | "/audit" | "/shares/current") => Admin,
        (_, path)
            if ["/keys", "/users", "/roles", "/secrets", "/runtimes"]
                .iter()
                .any(|at| path.starts_with(at)) =>
        {
            Admin
        }
        _ => unreachable!("{method} {path} has no row in this table"),
    }
}

fn of_aws(operation: Operation) -> Least {
    use Operation as Op;
    match operation {
        Op::GetRuntimeProtectedResourceMetadata => Anybody,
        Op::GetAgentRuntime
        | Op::ListAgentRuntimes
        | Op::ListAgentRuntimeVersions
        | Op::GetAgentRuntimeEndpoint
        | Op::ListAgentRuntimeEndpoints
        | Op::ListTagsForResource
        | Op::GetResourcePolicy
        | Op::GetAgentCard => Viewer,
        Op::InvokeAgentRuntime
        | Op::InvokeAgentRuntimeWithWebSocketStream
        | Op::InvokeAgentRuntimeCommand
        | Op::InvokeAgentRuntimeCommandShell
        | Op::StopRuntimeSession => Operator,
        Op::CreateAgentRuntime
        | Op::UpdateAgentRuntime
        | Op::DeleteAgentRuntime
        | Op::CreateAgentRuntimeEndpoint
        | Op::UpdateAgentRuntimeEndpoint
        | Op::DeleteAgentRuntimeEndpoint
        | Op::TagResource
        | Op::UntagResource
        | Op::PutResourcePolicy
        | Op::DeleteResourcePolicy => Admin,
    }
}

/// Whether a call is allowed; what comes of it does not matter.
async fn is_allowed(server: &InProcess, cookie: &str, call: Call) -> bool {
    let path = call.path.clone();
    let mut by = by(server, cookie, &call.method, &path).body(call.body);
    by.headers.extend(call.headers);
    let reply = by.send(&server.client).await;
    let text = reply.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(reply.status != 401, "{path}: {text}");
    !(reply.status == 403 && text.contains("is not authorized to perform"))
}

#[tokio::test]
async fn every_call_is_decided_for_every_role() {
    let server = InProcess::start("").await;
    // Of a runtime that is not there, so that even what is allowed changes nothing.
    let arn = server
        .client
        .runtime_arn
        .replace(server.client.runtime_arn.rsplit('/').next().unwrap(), "nothing-AbCdE12345");
    for (role, name) in [(Viewer, "viewer"), (Operator, "operator"), (Admin, "admin")] {
        user(&server, name, &Value::Null).await;
        set_password(&server, name).await;
        let put = Call::new("PUT", format!("/clamshell/v1/users/{name}/console-role"));
        let put = put.body(json!({ "role": name }).to_string()).signed(&server.root());
        assert_eq!(put.send(&server.client).await.status, 200);
        let cookie = login(&server, &json!({ "userName": name, "password": PASSWORD })).await;
        let me = by(&server, &cookie, "GET", &format!("{CONSOLE}/me")).send(&server.client).await.json();
        assert_eq!(me["role"], name);
        for operation in Operation::ALL.iter().copied().filter(|it| unsigned::is_served(*it)) {
            let call = unsigned::call(&server, operation, &arn, Some("nothing-AbCdE12345"));
            // Nothing that would be made.
            let call = if operation == Operation::CreateAgentRuntime { call.body("{}") } else { call };
            let expect = role >= of_aws(operation);
            assert_eq!(is_allowed(&server, &cookie, call).await, expect, "{name} {}", operation.name());
        }
        for (method, template) in EXTENSION_ROUTES.iter().filter(|(_, path)| !path.starts_with("/console/")) {
            let path = template
                .replace("{sessionId}", SESSION)
                .replace("{shellId}", "none")
                .replace("{accessKeyId}", "AKIAAAAAAAAAAAAAAAAA")
                .replace("{userName}", "none")
                .replace("{roleName}", "none")
                .replace("{policyName}", "none")
                .replace("{secretName}", "none")
                .replace("{shareId}", "none")
                .replace("{runtime}", "none");
            let call = Call::new(method, format!("/clamshell/v1{path}?runtime=none"));
            let call = match (*method, *template) {
                (_, path) if path.ends_with("/attach") => call.upgrade_without(""),
                // Streams do not end; only those who may not are told at once.
                (_, "/events") if role >= Viewer => continue,
                _ => call,
            };
            let expect = role >= least(method, template);
            assert_eq!(is_allowed(&server, &cookie, call).await, expect, "{name} {method} {template}");
        }
        let watch = Call::new(
            "GET",
            format!("/clamshell/v1/sessions/{SESSION}/shells/none/attach?access=watch&runtime=none"),
        );
        assert!(is_allowed(&server, &cookie, watch.upgrade_without("")).await, "{name} watches");
    }
}
