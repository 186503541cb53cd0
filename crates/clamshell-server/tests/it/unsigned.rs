//! Every operation of AWS and every call of the extension API: unsigned, wrongly signed, expired, with a key of
//! nobody, for another account. Each is refused the right way and changes nothing.
//!
//! The tables come from the program: an operation without its row does not compile, a call of the extension API
//! without its row fails.

use clamshell_server::EXTENSION_ROUTES;
use clamshell_wire::{Operation, headers, percent_encode};
use serde_json::{Value, json};

use crate::{
    calls::{Call, Refusal, SESSION, message, no_runtime, server_with_session, state},
    in_process::InProcess,
};

/// Whether this server does what the operation says; the others are unknown operations, signed or not.
pub(crate) fn is_served(operation: Operation) -> bool {
    operation.is_executed()
}

/// A request that would be served: of the runtime of this ARN, or of the given id.
pub(crate) fn call(server: &InProcess, operation: Operation, arn: &str, id: Option<&str>) -> Call {
    let own = server.client.runtime_arn.rsplit('/').next().unwrap();
    let path = operation
        .path_template()
        .replace("{agentRuntimeId}", id.unwrap_or(own))
        .replace("{endpointName}", "DEFAULT")
        .replace("{agentRuntimeArn}", &percent_encode(arn))
        .replace("{resourceArn}", &percent_encode(arn));
    let call = Call::new(operation.method(), path).header(headers::SESSION_ID, SESSION);
    match operation {
        Operation::InvokeAgentRuntimeCommand => call.body("{\"command\":\"true\"}"),
        Operation::CreateAgentRuntime => call.body(runtime_body(Some("made_by_strangers"))),
        Operation::UpdateAgentRuntime => call.body(runtime_body(None)),
        Operation::CreateAgentRuntimeEndpoint => call.body(json!({ "name": "prod" }).to_string()),
        Operation::UpdateAgentRuntimeEndpoint => call.body("{}"),
        Operation::TagResource => call.body(json!({ "tags": { "a": "b" } }).to_string()),
        Operation::UntagResource => Call { path: format!("{}?tagKeys=a", call.path), ..call },
        Operation::PutResourcePolicy => call.body(json!({ "policy": "{}" }).to_string()),
        Operation::InvokeAgentRuntimeCommandShell | Operation::InvokeAgentRuntimeWithWebSocketStream => {
            call.upgrade_without("")
        }
        _ => call,
    }
}

/// Everything that a create or update call needs.
fn runtime_body(name: Option<&str>) -> String {
    json!({
        "agentRuntimeName": name,
        "agentRuntimeArtifact": { "containerConfiguration": { "containerUri": "host" } },
        "roleArn": "arn:aws:iam::123456789012:role/agent",
    })
    .to_string()
}

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS \
    Secret Access Key and signing method. Consult the service documentation for details.";
const EXPIRED: &str = "Signature expired: 20270115T075400Z is now earlier than 20270115T075500Z \
    (20270115T080000Z - 300 s.)";

/// The four ways in which a request is nobody's.
async fn check_credentials(server: &InProcess, name: &str, call: &Call) {
    let root = server.root();
    let nobody = root.with_key("AKIAAAAAAAAAAAAAAAAA", "wrongwrongwrongwrongwrongwrongwrongwrong");
    let forms = [
        ("unsigned", call.clone(), "Missing Authentication Token"),
        ("wrongly signed", call.clone().signed(&root.with_wrong_secret()), MISMATCH),
        ("expired", call.clone().signed(&root.at(-360)), EXPIRED),
        (
            "key of another account",
            call.clone().signed(&nobody),
            "The security token included in the request is invalid.",
        ),
    ];
    for (how, call, text) in forms {
        let name = format!("{name}, {how}");
        let (error, body) = ("AccessDeniedException", message(text));
        Refusal { name, call, status: 403, error, body }.check(server).await;
    }
}

async fn check_not_found(server: &InProcess, name: &str, call: Call, body: Value) {
    let call = call.signed(&server.root());
    let (name, error) = (format!("{name}, foreign"), "ResourceNotFoundException");
    Refusal { name, call, status: 404, error, body }.check(server).await;
}

#[tokio::test]
async fn every_operation_is_refused_to_strangers() {
    let server = server_with_session().await;
    let before = state(&server).await;
    let arn = &server.client.runtime_arn;
    let foreign = arn.replace(&server.info.account_id, "111111111111");
    let unknown = "foreign-AbCdE12345";
    for operation in Operation::ALL.iter().copied().filter(|operation| is_served(*operation)) {
        // Those who look for the place where tokens come from have none.
        if operation != Operation::GetRuntimeProtectedResourceMetadata {
            check_credentials(&server, operation.name(), &call(&server, operation, arn, None)).await;
        }
        let template = operation.path_template();
        let strange = call(&server, operation, &foreign, Some(unknown));
        if template.contains("{agentRuntimeArn}") {
            check_not_found(&server, operation.name(), strange, no_runtime(&foreign, "DEFAULT")).await;
        } else if template.contains("{agentRuntimeId}") {
            check_not_found(&server, operation.name(), strange, no_runtime(unknown, "DEFAULT")).await;
        } else if template.contains("{resourceArn}") {
            let body = message(format!("Resource '{foreign}' not found"));
            check_not_found(&server, operation.name(), strange, body).await;
        } else {
            let nothing = [Operation::ListAgentRuntimes, Operation::CreateAgentRuntime];
            assert!(nothing.contains(&operation), "a foreign form is missing");
        }
    }
    assert_eq!(state(&server).await, before);
}

/// How a call of the extension API meets another account.
enum Foreign {
    /// Its `runtime` is not found.
    Runtime,
    /// It names a key, and the key is not found.
    Key,
    /// It names nothing that could be foreign.
    Nothing,
    /// It needs no signature.
    Open,
}

/// Row of a call; panics for a call without one.
fn foreign(method: &str, path: &str) -> Foreign {
    match (method, path) {
        ("GET", "/health") => Foreign::Open,
        // Strangers sign in here; what they learn by it is `console.rs`.
        ("GET", "/console/me" | "/console/oidc/start" | "/console/oidc/callback")
        | ("POST", "/console/login" | "/console/link" | "/console/logout") => Foreign::Open,
        (_, path) if path.starts_with("/console/") => Foreign::Nothing,
        ("GET", "/server" | "/doctor" | "/keys" | "/audit" | "/events" | "/shares/current")
        | ("POST", "/keys") => Foreign::Nothing,
        ("DELETE", "/shares/{shareId}") => Foreign::Nothing,
        // Users and roles are those of this account; what of another one may do is `access.rs`.
        (_, path) if path.starts_with("/users") || path.starts_with("/roles") => Foreign::Nothing,
        ("GET", "/secrets") | ("PUT" | "DELETE", "/secrets/{secretName}") => Foreign::Nothing,
        ("GET" | "PUT" | "DELETE", "/runtimes/{runtime}/terminal") => Foreign::Runtime,
        ("GET" | "DELETE", "/sessions/{sessionId}/files")
        | ("GET" | "PUT", "/sessions/{sessionId}/files/content")
        | ("POST", "/sessions/{sessionId}/files/directory" | "/sessions/{sessionId}/files/move") => {
            Foreign::Runtime
        }
        ("POST", "/keys/{accessKeyId}/enable" | "/keys/{accessKeyId}/disable")
        | ("DELETE", "/keys/{accessKeyId}") => Foreign::Key,
        ("PUT", "/sessions/{sessionId}/shells/{shellId}/title")
        | ("GET" | "POST", "/sessions/{sessionId}/shells/{shellId}/shares")
        | (
            "GET",
            "/logs" | "/sessions" | "/shells" | "/sessions/{sessionId}" | "/sessions/{sessionId}/shells",
        )
        | ("POST", "/sessions/{sessionId}/stop" | "/sessions/{sessionId}/commands")
        | ("DELETE", "/sessions/{sessionId}" | "/sessions/{sessionId}/shells/{shellId}")
        | (
            "GET",
            "/sessions/{sessionId}/shells/{shellId}"
            | "/sessions/{sessionId}/shells/{shellId}/log"
            | "/sessions/{sessionId}/shells/{shellId}/screen"
            | "/sessions/{sessionId}/shells/{shellId}/export"
            | "/sessions/{sessionId}/shells/{shellId}/attach",
        ) => Foreign::Runtime,
        _ => unreachable!("{method} {path} has no row in this table"),
    }
}

#[tokio::test]
async fn every_call_of_the_extension_api_is_refused_to_strangers() {
    let server = server_with_session().await;
    let before = state(&server).await;
    let root_key = server.client.credentials.access_key_id.clone();
    let arn = server.client.runtime_arn.replace(&server.info.account_id, "111111111111");
    for (method, template) in EXTENSION_ROUTES {
        let row = foreign(method, template);
        let with_key = |key: &str| {
            let path = template
                .replace("{sessionId}", SESSION)
                .replace("{shellId}", "build")
                .replace("{runtime}", &percent_encode(&arn))
                .replace("{secretName}", "STRANGE")
                .replace("{accessKeyId}", key);
            let call = Call::new(method, format!("/clamshell/v1{path}?runtime={}", percent_encode(&arn)));
            match *template {
                "/sessions/{sessionId}/commands" => call.body("{\"command\":\"true\"}"),
                "/sessions/{sessionId}/shells/{shellId}/title" => call.body("{\"title\":\"x\"}"),
                "/sessions/{sessionId}/shells/{shellId}/attach" => call.upgrade_without(""),
                _ => call,
            }
        };
        let name = format!("{method} {template}");
        if !matches!(row, Foreign::Open) {
            // Without the foreign runtime: what is asked for is there.
            let call = with_key(&root_key);
            let path = call.path.split('?').next().unwrap().to_owned();
            check_credentials(&server, &name, &Call { path, ..call }).await;
        }
        match row {
            Foreign::Open | Foreign::Nothing => {}
            Foreign::Key => {
                let call = with_key("AKIAAAAAAAAAAAAAAAAA");
                check_not_found(&server, &name, call, message("Access key not found")).await;
            }
            Foreign::Runtime => {
                check_not_found(&server, &name, with_key(""), no_runtime(&arn, "DEFAULT")).await;
            }
        }
    }
    assert_eq!(state(&server).await, before);
}
