//! Paths and methods, CORS, and what every answer carries.

use clamshell_server::EXTENSION_ROUTES;
use clamshell_wire::{Operation, headers};
use serde_json::json;

use crate::{
    calls::{Call, FixedClock, Refusal, check_envelope, message, state, unreadable},
    in_process::InProcess,
};

const UNKNOWN: &str = "The requested operation is not recognized by the service.";

async fn server() -> InProcess {
    InProcess::start_at("", std::sync::Arc::new(FixedClock)).await
}

#[tokio::test]
async fn wrong_methods_name_the_right_ones() {
    let server = server().await;
    let before = state(&server).await;
    let runtime = |suffix: &str| server.client.runtime_path(suffix);
    let table = [
        ("GET", runtime("commands"), "POST"),
        ("PUT", runtime("stopruntimesession"), "POST"),
        ("GET", runtime("invocations"), "POST"),
        ("POST", runtime("ws/shells"), "GET"),
        ("DELETE", runtime("ws"), "GET"),
        ("PATCH", "/runtimes/".to_owned(), "PUT, POST"),
        ("GET", "/runtimes".to_owned(), "PUT, POST"),
        ("POST", "/runtimes/default-AbCdE12345/".to_owned(), "GET, PUT, DELETE"),
        ("GET", "/runtimes/default-AbCdE12345/versions/".to_owned(), "POST"),
        ("PUT", "/tags/arn".to_owned(), "GET, POST, DELETE"),
        ("TRACE", "/runtimes/default-AbCdE12345/runtime-endpoints/".to_owned(), "PUT, POST"),
        ("BREW", runtime("commands"), "POST"),
        ("POST", "/clamshell/v1/health".to_owned(), "GET"),
        ("PUT", "/clamshell/v1/keys".to_owned(), "GET, POST"),
        ("GET", "/clamshell/v1/keys/AKIAAAAAAAAAAAAAAAAA/enable".to_owned(), "POST"),
        ("PATCH", "/clamshell/v1/sessions/s/shells/t".to_owned(), "GET, DELETE"),
    ];
    for (method, path, allow) in table {
        for call in
            [Call::new(method, path.as_str()), Call::new(method, path.as_str()).signed(&server.root())]
        {
            let reply = call.send(&server.client).await;
            assert_eq!(reply.header("allow"), allow, "{method} {path}");
            let body = message(format!("Method Not Allowed. Use {allow}."));
            let name = format!("{method} {path}");
            Refusal { name, call, status: 405, error: "MethodNotAllowed", body }.check(&server).await;
        }
    }
    let head = Call::new("HEAD", runtime("commands")).send(&server.client).await;
    assert_eq!((head.status.as_u16(), head.header("allow"), head.body.len()), (405, "POST", 0));
    assert_eq!(state(&server).await, before);
}

#[tokio::test]
async fn unknown_paths_are_unknown_operations() {
    let server = server().await;
    let long = format!("/runtimes/{}/commands", "a".repeat(9000));
    let paths = [
        "/",
        "//",
        "/nothing",
        "/runtime",
        "/runtimes//commands",
        "/runtimes/x/y",
        "/runtimes/x/ws/shells/y",
        "/runtimes/x/y/commands",
        "/tags",
        "/tags/",
        "/resourcepolicy/",
        "/clamshell",
        "/clamshell/v1",
        "/clamshell/v1/",
        "/clamshell/v2/health",
        "/clamshell/v1health",
        "/clamshell/v1/nothing",
        "/clamshell/v1/health/x",
        "/clamshell/v1/keys/a/b",
        "/clamshell/v1/sessions/s/shells/t/u",
        "/CLAMSHELL/v1/health",
        "/.well-known/x",
        "/runtimes/../clamshell/v1/health",
        "/robots.txt",
    ];
    for path in paths {
        for method in ["GET", "POST", "DELETE"] {
            let name = format!("{method} {path}");
            let call = Call::new(method, path);
            let body = message(UNKNOWN);
            Refusal { name, call, status: 404, error: "UnknownOperationException", body }
                .check(&server)
                .await;
        }
    }
    for path in ["/runtimes/%zz/commands", "/runtimes/%00/commands", "/runtimes/%ff/commands", &long] {
        let body = unreadable("The path of the request is not valid.");
        let (name, call) = (path.to_owned(), Call::new("POST", path));
        Refusal { name, call, status: 400, error: "ValidationException", body }.check(&server).await;
    }
    let call = Call::new("GET", "/clamshell/v1/sessions/%zz");
    let body = unreadable("The path of the request is not valid.");
    let name = "extension".to_owned();
    Refusal { name, call, status: 400, error: "ValidationException", body }.check(&server).await;
}

#[tokio::test]
async fn slashes_at_the_end_and_unescaped_arns_are_taken() {
    let server = server().await;
    let id = server.client.runtime_arn.rsplit('/').next().unwrap();
    for path in [format!("/runtimes/{id}"), format!("/runtimes/{id}/"), "/clamshell/v1/sessions/".to_owned()]
    {
        let reply = Call::new("GET", path.as_str()).signed(&server.root()).send(&server.client).await;
        assert_eq!(reply.status, 200, "{path}");
    }
    // An ARN with its slash and colons as they are, as browsers send it: it is found, the session is not.
    let call = Call::new("POST", format!("/runtimes/{}/stopruntimesession", server.client.runtime_arn))
        .header(headers::SESSION_ID, "no-such-session-0000000000000000000001")
        .signed(&server.root());
    let (name, body) = ("unescaped".to_owned(), message("Session not found"));
    Refusal { name, call, status: 404, error: "ResourceNotFoundException", body }.check(&server).await;
}

#[tokio::test]
async fn browsers_may_ask_from_anywhere() {
    let server = server().await;
    let exposed = "x-amzn-RequestId, x-amzn-ErrorType, x-amzn-ErrorMessage, \
        X-Amzn-Bedrock-AgentCore-Runtime-Session-Id, X-Amzn-Bedrock-AgentCore-Shell-Id, Mcp-Session-Id, \
        Mcp-Protocol-Version, WWW-Authenticate, X-Amzn-Trace-Id, traceparent, tracestate, baggage, Date";
    let commands = server.client.runtime_path("commands");
    for path in [commands.as_str(), "/clamshell/v1/keys", "/nothing"] {
        let asked = "authorization,x-amz-date,x-amzn-bedrock-agentcore-runtime-session-id";
        let reply = Call::new("OPTIONS", path)
            .header("origin", "https://example.com")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", asked)
            .send(&server.client)
            .await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 0), "{path}");
        assert_eq!(reply.header("access-control-allow-methods"), "POST");
        assert_eq!(reply.header("access-control-allow-headers"), asked);
        assert_eq!(reply.header("access-control-max-age"), "172800");
        check_envelope(path, &reply);
    }
    for call in [Call::new("GET", "/clamshell/v1/health"), Call::new("POST", commands)] {
        let reply = call.header("origin", "https://example.com").send(&server.client).await;
        assert_eq!(reply.header("access-control-expose-headers"), exposed);
        // Credentials of a browser are never sent along: every request is signed.
        assert_eq!(reply.header("access-control-allow-credentials"), "");
        check_envelope("answer", &reply);
    }
}

#[tokio::test]
async fn health_needs_no_signature_and_request_ids_differ() {
    let server = server().await;
    let mut ids = std::collections::HashSet::new();
    for _ in 0..5 {
        let reply = Call::new("GET", "/clamshell/v1/health").send(&server.client).await;
        assert_eq!(reply.json(), json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }));
        check_envelope("health", &reply);
        assert!(ids.insert(reply.header(headers::REQUEST_ID).to_owned()));
    }
}

#[tokio::test]
async fn operations_that_are_not_served_say_so() {
    let server = server().await;
    let before = state(&server).await;
    for operation in Operation::ALL.iter().filter(|operation| !crate::unsigned::is_served(**operation)) {
        let call = crate::unsigned::call(&server, *operation, &server.client.runtime_arn, None);
        for call in [call.clone(), call.signed(&server.root())] {
            let (name, body) = (operation.name().to_owned(), message(UNKNOWN));
            Refusal { name, call, status: 404, error: "UnknownOperationException", body }
                .check(&server)
                .await;
        }
    }
    assert_eq!(state(&server).await, before);
}

#[test]
fn the_documentation_names_every_call_of_the_extension_api() {
    let text = include_str!("../../../../docs/api.md");
    for (method, path) in EXTENSION_ROUTES {
        let shortened = path.strip_prefix("/keys/{accessKeyId}/disable").map(|_| ".../disable");
        let shortened = shortened.map_or(format!("{method} {path}"), str::to_owned);
        assert!(text.contains(&format!("`{shortened}")), "docs/api.md lacks {method} {path}");
    }
}
