//! The table of bad input: for each row the exact status, error type and body, and a server that is as before.

use clamshell_testkit::Reply;
use clamshell_wire::{headers::SESSION_ID, percent_encode};
use serde_json::{Value, json};

use crate::{
    calls::{
        Call, Refusal, SESSION, check_envelope, command, invalid, message, no_runtime, server_with_session,
        state, unreadable,
    },
    in_process::InProcess,
};

const TOO_SHORT: &str = "Member must have length greater than or equal to 33";
const TOO_LONG: &str = "Member must have length less than or equal to 256";
const CONTROL: &str = "Member must not contain control characters";
const QUALIFIER: &str = "Member must satisfy regular expression pattern: [a-zA-Z][a-zA-Z0-9_]{0,47}";

/// Rows, to be signed by root.
struct Table<'a> {
    server: &'a InProcess,
    rows: Vec<Refusal>,
}

impl Table<'_> {
    fn add(&mut self, name: &str, call: Call, status: u16, error: &'static str, body: Value) {
        let call = call.signed(&self.server.root());
        self.rows.push(Refusal { name: name.to_owned(), call, status, error, body });
    }

    fn invalid(&mut self, name: &str, call: Call, body: Value) {
        self.add(name, call, 400, "ValidationException", body);
    }

    fn not_found(&mut self, name: &str, call: Call, body: Value) {
        self.add(name, call, 404, "ResourceNotFoundException", body);
    }

    async fn check(self) {
        let before = state(self.server).await;
        for row in &self.rows {
            row.check(self.server).await;
        }
        assert_eq!(state(self.server).await, before);
    }
}

fn upgrade(server: &InProcess, query: &str) -> Call {
    Call::new("GET", format!("{}?{query}", server.client.runtime_path("ws/shells"))).upgrade_without("")
}

fn raw_command(server: &InProcess, body: impl Into<Vec<u8>>) -> Call {
    command(server, SESSION, "").body(body)
}

fn stop(server: &InProcess) -> Call {
    Call::new("POST", server.client.runtime_path("stopruntimesession"))
}

#[tokio::test]
async fn session_ids_are_refused_exactly() {
    let server = server_with_session().await;
    let mut table = Table { server: &server, rows: Vec::new() };
    let with_tab = format!("{}\t{}", "s".repeat(20), "s".repeat(20));
    let ids = [
        ("", TOO_SHORT),
        ("short", TOO_SHORT),
        (&"s".repeat(32), TOO_SHORT),
        // Characters count, not bytes, and a header may hold bytes that are not ASCII.
        (&"é".repeat(32), TOO_SHORT),
        (&"s".repeat(257), TOO_LONG),
        (&with_tab, CONTROL),
    ];
    for (id, rule) in ids {
        let body = invalid("runtimeSessionId", rule);
        table.invalid(&format!("command in {id:?}"), command(&server, id, "true"), body.clone());
        table.invalid(&format!("stop of {id:?}"), stop(&server).header(SESSION_ID, id), body.clone());
        let shell = upgrade(&server, "shellId=a").header(SESSION_ID, id);
        table.invalid(&format!("shell in {id:?}"), shell, body.clone());
        if !id.is_empty() {
            let id = percent_encode(id);
            let shell =
                upgrade(&server, &format!("shellId=a&X-Amzn-Bedrock-AgentCore-Runtime-Session-Id={id}"));
            table.invalid(&format!("shell in query {id:?}"), shell, body.clone());
            for (method, rest) in [("GET", ""), ("POST", "/stop"), ("GET", "/shells"), ("DELETE", "")] {
                let call = Call::new(method, format!("/clamshell/v1/sessions/{id}{rest}"));
                table.invalid(&format!("extension {method} {id:?}{rest}"), call, body.clone());
            }
        }
    }
    table.invalid(
        "stop without an id",
        stop(&server),
        invalid("runtimeSessionId", "Member must not be null"),
    );
    table.check().await;
}

#[tokio::test]
async fn a_session_id_that_is_no_text_is_not_taken_for_a_new_session() {
    use clamshell_wire::sigv4::{PayloadHash, SignedRequest, sign_headers};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let server = server_with_session().await;
    let before = state(&server).await;
    let root = server.root();
    let path = server.client.runtime_path("commands");
    let (body, id) = (br#"{"command":"true"}"#, [0xff_u8; 40]);
    let authority = root.authority.as_bytes();
    let headers = [("host", authority), (SESSION_ID, &id[..])];
    let request = SignedRequest {
        method: "POST",
        raw_path: &path,
        raw_query: "",
        headers: &headers,
        payload_hash: PayloadHash::Body(body),
    };
    let signature = sign_headers(&request, &root.credentials, &root.region, root.now_ms).unwrap();
    let mut bytes =
        format!("POST {path} HTTP/1.1\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    for (name, value) in signature {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut bytes = bytes.into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    let mut stream = tokio::net::TcpStream::connect(&root.authority).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("Value at 'runtimeSessionId' failed to satisfy constraint"), "{answer}");
    assert_eq!(state(&server).await, before);
}

#[tokio::test]
async fn shell_ids_and_upgrades_are_refused_exactly() {
    let server = server_with_session().await;
    let mut table = Table { server: &server, rows: Vec::new() };
    let bad = json!({
        "message": "The shell id must match [a-zA-Z0-9][a-zA-Z0-9_-]{0,127}.",
        "error": "InvalidShellId",
    });
    let rule = "Member must satisfy regular expression pattern: [a-zA-Z0-9][a-zA-Z0-9_-]{0,127}";
    for id in ["-a", "a%2Fb", "..%2F..", "a%20b", "a%00", "%C3%A9", &"a".repeat(129)] {
        let shell = upgrade(&server, &format!("shellId={id}")).header(SESSION_ID, SESSION);
        table.add(&format!("shell {id}"), shell, 424, "RuntimeClientError", bad.clone());
        let attach =
            Call::new("GET", format!("/clamshell/v1/sessions/{SESSION}/shells/{id}/attach?create=true"))
                .upgrade_without("");
        table.invalid(&format!("attach {id}"), attach, invalid("shellId", rule));
    }
    let needs_upgrade = unreadable("Request must be a WebSocket upgrade");
    for (missing, body) in [
        ("connection", needs_upgrade.clone()),
        ("upgrade", needs_upgrade.clone()),
        ("sec-websocket-version", unreadable("WebSocket version must be 13")),
        ("sec-websocket-key", unreadable("Sec-WebSocket-Key is missing")),
    ] {
        let path = format!("{}?shellId=a", server.client.runtime_path("ws/shells"));
        let shell = Call::new("GET", path).upgrade_without(missing).header(SESSION_ID, SESSION);
        table.invalid(&format!("shell without {missing}"), shell, body.clone());
        let attach =
            Call::new("GET", format!("/clamshell/v1/sessions/{SESSION}/shells/a/attach?create=true"));
        table.invalid(&format!("attach without {missing}"), attach.upgrade_without(missing), body);
    }
    let old = upgrade(&server, "shellId=a").edit("sec-websocket-version", "13", "8");
    table.invalid("old WebSocket", old, unreadable("WebSocket version must be 13"));
    let chat = upgrade(&server, "shellId=a").header("sec-websocket-protocol", "chat");
    let text = "Unsupported WebSocket subprotocol. Supported: base64UrlBearerAuthorization.";
    let body = json!({ "message": text, "reason": "FieldValidationFailed" });
    table.invalid("foreign subprotocol", chat, body);
    for (query, field, rule) in [
        ("from=offset:-1", "from", "Member must be offset:N, tail:N, screen or end"),
        ("access=own", "access", "Member must be one of: [write, watch]"),
        ("create=yes", "create", "Member must be one of: [true, false]"),
        ("keep=1", "keep", "Member must be one of: [true, false]"),
        ("window=65535", "window", "Member must be a number between 65536 and 16777216"),
        ("window=-1", "window", "Member must be a number between 65536 and 16777216"),
    ] {
        let path = format!("/clamshell/v1/sessions/{SESSION}/shells/a/attach?{query}");
        table.invalid(query, Call::new("GET", path).upgrade_without(""), invalid(field, rule));
    }
    table.check().await;
}

#[tokio::test]
async fn runtimes_and_qualifiers_are_refused_exactly() {
    let server = server_with_session().await;
    let mut table = Table { server: &server, rows: Vec::new() };
    let arn = server.client.runtime_arn.clone();
    let (account, id) = (server.info.account_id.clone(), arn.rsplit('/').next().unwrap().to_owned());
    let other_account = if account == "111111111111" { "222222222222" } else { "111111111111" };
    let calls = |runtime: &str, query: &str| {
        let path = |suffix: &str| format!("/runtimes/{}/{suffix}", percent_encode(runtime));
        [
            Call::new("POST", format!("{}?{query}", path("commands")))
                .header(SESSION_ID, SESSION)
                .body(r#"{"command":"true"}"#),
            Call::new("POST", format!("{}?{query}", path("stopruntimesession"))).header(SESSION_ID, SESSION),
            Call::new("GET", format!("{}?shellId=a&{query}", path("ws/shells")))
                .upgrade_without("")
                .header(SESSION_ID, SESSION),
        ]
    };
    let foreign = [
        arn.replace(&account, other_account),
        arn.replace("us-west-2", "eu-west-1"),
        arn.replace("arn:aws:", "arn:aws-cn:"),
        format!("{}-0000000000", arn.rsplit_once('-').unwrap().0),
    ];
    for runtime in &foreign {
        for call in calls(runtime, "") {
            table.not_found(runtime, call, no_runtime(runtime, "DEFAULT"));
        }
    }
    let rule = "Member must be the ARN or the id of an agent runtime";
    for runtime in [
        arn.replace("bedrock-agentcore", "s3"),
        arn.replace("arn:aws:", "arn:nobody:"),
        arn.replace(&account, "12"),
        arn.replace(":runtime/", ":gateway/"),
        format!("{arn}/more"),
        format!("arn:{}", "a".repeat(1500)),
        "arn:".to_owned(),
        "arn:aws:bedrock-agentcore:us-west-2".to_owned(),
    ] {
        for call in calls(&runtime, "") {
            table.invalid(&runtime, call, invalid("agentRuntimeArn", rule));
        }
    }
    // An id needs the account beside it.
    for call in calls(&id, "") {
        table.invalid("id alone", call, invalid("accountId", "Member must not be null"));
    }
    let twelve = "Member must satisfy regular expression pattern: [0-9]{12}";
    for call in calls(&id, "accountId=12") {
        table.invalid("id and a wrong account id", call, invalid("accountId", twelve));
    }
    for call in calls(&id, &format!("accountId={other_account}")) {
        table.not_found("id of another account", call, no_runtime(&id, "DEFAULT"));
    }
    for call in calls("no such id", &format!("accountId={account}")) {
        table.invalid("no id", call, invalid("agentRuntimeArn", rule));
    }
    for call in calls(&arn, "qualifier=prod") {
        table.not_found("unknown qualifier", call, no_runtime(&arn, "prod"));
    }
    for qualifier in ["1st", "a-b", "a%20b", "%C3%A9", &"q".repeat(49)] {
        for call in calls(&arn, &format!("qualifier={qualifier}")) {
            table.invalid(qualifier, call, invalid("qualifier", QUALIFIER));
        }
    }
    // The ARN of an endpoint names the endpoint; another qualifier beside it is a contradiction.
    let endpoint = format!("{arn}/runtime-endpoint/prod");
    for call in calls(&endpoint, "") {
        table.not_found("unknown endpoint", call, no_runtime(&endpoint, "prod"));
    }
    let endpoint = format!("{arn}/runtime-endpoint/DEFAULT");
    for call in calls(&endpoint, "qualifier=prod") {
        table.not_found("two endpoints", call, no_runtime(&endpoint, "prod"));
    }
    // What is right gets as far as the session, which is not there.
    let session = "no-such-session-0000000000000000000001";
    for (runtime, query) in [
        (&arn, String::new()),
        (&arn, "qualifier=DEFAULT".to_owned()),
        (&endpoint, String::new()),
        (&id, format!("accountId={account}")),
    ] {
        let path = format!("/runtimes/{}/stopruntimesession?{query}", percent_encode(runtime));
        let call = Call::new("POST", path).header(SESSION_ID, session);
        table.not_found("unknown session", call, message("Session not found"));
    }
    table.check().await;
}

#[tokio::test]
async fn control_plane_reads_are_refused_exactly() {
    let server = server_with_session().await;
    let mut table = Table { server: &server, rows: Vec::new() };
    let id = server.client.runtime_arn.rsplit('/').next().unwrap().to_owned();
    let pattern =
        "Member must satisfy regular expression pattern: [a-zA-Z][a-zA-Z0-9_]{0,99}-[a-zA-Z0-9]{10}";
    let version = "Member must satisfy regular expression pattern: ([1-9][0-9]{0,4})";
    let unknown = "nobody-AbCdE12345";
    // All that name a runtime.
    const READS: [(&str, &str); 4] = [
        ("GET", ""),
        ("POST", "versions/"),
        ("POST", "runtime-endpoints/"),
        ("GET", "runtime-endpoints/DEFAULT/"),
    ];
    for bad in ["default", "..", "a%2Fb-AbCdE12345", "%C3%A9-AbCdE12345"] {
        for (method, rest) in READS {
            let call = Call::new(method, format!("/runtimes/{bad}/{rest}"));
            table.invalid(bad, call, invalid("agentRuntimeId", pattern));
        }
    }
    for (method, rest) in READS {
        let call = Call::new(method, format!("/runtimes/{unknown}/{rest}"));
        table.not_found(rest, call, no_runtime(unknown, "DEFAULT"));
    }
    for text in ["0", "x", "-1", "%2B1", "01", "1.0"] {
        let call = Call::new("GET", format!("/runtimes/{id}/?version={text}"));
        table.invalid(text, call, invalid("agentRuntimeVersion", version));
    }
    let call = Call::new("GET", format!("/runtimes/{id}/?version=100000"));
    let longest = "Member must have length less than or equal to 5";
    table.invalid("long version", call, invalid("agentRuntimeVersion", longest));
    for path in
        ["/runtimes/", &format!("/runtimes/{id}/versions/"), &format!("/runtimes/{id}/runtime-endpoints/")]
    {
        for (query, field, rule) in [
            ("maxResults=0", "maxResults", "Member must have value greater than or equal to 1"),
            ("maxResults=101", "maxResults", "Member must have value less than or equal to 100"),
            ("nextToken=x", "nextToken", "Member must be a token of an earlier answer"),
        ] {
            let call = Call::new("POST", format!("{path}?{query}"));
            table.invalid(&format!("{path} {query}"), call, invalid(field, rule));
        }
        let call = Call::new("POST", format!("{path}?maxResults=x"));
        let expect = json!({
            "message": "Member 'maxResults' must be an integer.",
            "reason": "CannotParse",
            "fieldList": [{ "name": "maxResults", "message": "Member must be an integer" }],
        });
        table.invalid(&format!("{path} x"), call, expect);
    }
    let call = Call::new("GET", format!("/runtimes/{id}/?version=99999"));
    table.not_found("version", call, message("The agent runtime has no version 99999"));
    let call = Call::new("GET", format!("/runtimes/{id}/runtime-endpoints/prod/"));
    table.not_found("endpoint", call, no_runtime(&id, "prod"));
    let call = Call::new("GET", format!("/runtimes/{id}/runtime-endpoints/a-b/"));
    table.invalid("endpoint name", call, invalid("endpointName", QUALIFIER));
    table.check().await;
}

#[tokio::test]
async fn bodies_are_refused_exactly() {
    let server = server_with_session().await;
    let mut table = Table { server: &server, rows: Vec::new() };
    let no_object = unreadable("The body must be a JSON object.");
    for body in ["", " ", "{", "[]", "null", "\"a\"", "{\"command\":\"a\"} x", "\u{feff}{}", "{'command':1}"]
    {
        table.invalid(body, raw_command(&server, body), no_object.clone());
    }
    table.invalid("not UTF-8", raw_command(&server, *b"{\"command\":\"\xff\"}"), no_object.clone());
    table.invalid("deep", raw_command(&server, "[".repeat(100_000)), no_object.clone());
    let wrong_type = |member: &str, kind: &str| {
        json!({
            "message": format!("Member '{member}' must be {kind}."),
            "reason": "CannotParse",
            "fieldList": [{ "name": member, "message": format!("Member must be {kind}") }],
        })
    };
    for value in ["1", "true", "[\"ls\"]", "{}"] {
        let call = raw_command(&server, format!("{{\"command\":{value}}}"));
        table.invalid(value, call, wrong_type("command", "a string"));
    }
    for value in ["\"5\"", "1.5", "1e2", "true", "[1]"] {
        let call = raw_command(&server, format!("{{\"command\":\"true\",\"timeout\":{value}}}"));
        table.invalid(value, call, wrong_type("timeout", "an integer"));
    }
    for body in ["{}", "{\"command\":null}", "{\"Command\":\"ls\"}"] {
        table.invalid(body, raw_command(&server, body), invalid("command", "Member must not be null"));
    }
    let at_least = "Member must have length greater than or equal to 1";
    table.invalid("empty", raw_command(&server, "{\"command\":\"\"}"), invalid("command", at_least));
    let at_most = "Member must have length less than or equal to 65536";
    for long in ["a".repeat(65_537), "é".repeat(32_769)] {
        table.invalid("65537 bytes", command(&server, SESSION, &long), invalid("command", at_most));
    }
    let nul = "Member must not contain a NUL character";
    table.invalid("NUL", command(&server, SESSION, "a\0b"), invalid("command", nul));
    for (value, rule) in [
        ("0", "Member must have value greater than or equal to 1"),
        ("-1", "Member must have value greater than or equal to 1"),
        ("3601", "Member must have value less than or equal to 3600"),
        ("18446744073709551615", "Member must have value less than or equal to 3600"),
    ] {
        let call = raw_command(&server, format!("{{\"command\":\"true\",\"timeout\":{value}}}"));
        table.invalid(value, call, invalid("timeout", rule));
    }
    let two = json!({
        "message": "2 validation errors detected: \
            Value at 'command' failed to satisfy constraint: Member must have length greater than or equal to 1; \
            Value at 'timeout' failed to satisfy constraint: Member must have value greater than or equal to 1",
        "reason": "FieldValidationFailed",
        "fieldList": [
            { "name": "command", "message": "Member must have length greater than or equal to 1" },
            { "name": "timeout", "message": "Member must have value greater than or equal to 1" },
        ],
    });
    table.invalid("two", raw_command(&server, "{\"command\":\"\",\"timeout\":0}"), two);
    let padded = |bytes: usize| format!("{{\"command\":\"true\"{}}}", " ".repeat(bytes - 18));
    let longer = unreadable("The body must have at most 409600 bytes.");
    table.invalid("409601 bytes", raw_command(&server, padded(409_601)), longer);
    for bytes in [512 * 1024 + 1, 4 * 1024 * 1024] {
        let call = raw_command(&server, padded(bytes));
        table.invalid("too long", call, unreadable("Request body is too long"));
    }
    let stop = |body: &str| stop(&server).header(SESSION_ID, SESSION).body(body);
    table.invalid("stop", stop("x"), no_object.clone());
    table.invalid("stop", stop("{\"clientToken\":5}"), wrong_type("clientToken", "a string"));
    table.invalid("stop", stop("{\"clientToken\":\"short\"}"), invalid("clientToken", TOO_SHORT));
    let token = format!("{{\"clientToken\":\"{}\"}}", "_".repeat(40));
    let rule = "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,256}";
    table.invalid("stop", stop(&token), invalid("clientToken", rule));
    let key = |body: &str| Call::new("POST", "/clamshell/v1/keys").body(body);
    for body in ["x", "null", "{\"userName\":5}"] {
        table.invalid(body, key(body), unreadable("The body is not valid JSON"));
    }
    let rule = "Member must be one of: [Provisioning, Active, Idle, Stopping, Stopped]";
    for state in ["bogus", "active", ""] {
        let call = Call::new("GET", format!("/clamshell/v1/sessions?state={state}"));
        table.invalid(state, call, invalid("state", rule));
    }
    let rule = "Member must have 1 to 128 printable characters";
    for name in ["", &"n".repeat(129), "a\\nb"] {
        let call = key(&format!("{{\"userName\":\"{name}\"}}"));
        table.invalid(name, call, invalid("userName", rule));
    }
    table.check().await;
}

#[tokio::test]
async fn sessions_shells_and_names_that_are_not_there_are_not_found() {
    let server = server_with_session().await;
    let mut table = Table { server: &server, rows: Vec::new() };
    let none = "no-such-session-0000000000000000000001";
    let calls = [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/log"),
        ("GET", "/log?from=0"),
        ("GET", "/screen"),
        ("GET", "/export"),
        ("GET", "/attach"),
        ("GET", "/attach?access=watch&create=true"),
    ];
    for (method, rest) in calls {
        for (session, text) in [(none, "Session not found"), (SESSION, "Shell not found")] {
            let path = format!("/clamshell/v1/sessions/{session}/shells/nothing{rest}");
            if session == none || clamshell_testkit::is_root() && !rest.contains("watch") {
                table.not_found(&path, Call::new(method, path.as_str()).upgrade_without(""), message(text));
            }
        }
    }
    for (method, rest) in [("GET", ""), ("GET", "/shells"), ("POST", "/stop"), ("DELETE", "")] {
        let call = Call::new(method, format!("/clamshell/v1/sessions/{none}{rest}"));
        table.not_found(rest, call, message("Session not found"));
    }
    for path in ["sessions", "shells", &format!("sessions/{SESSION}"), &format!("sessions/{SESSION}/shells")]
    {
        let call = Call::new("GET", format!("/clamshell/v1/{path}?runtime=nobody"));
        table.not_found(path, call, no_runtime("nobody", "DEFAULT"));
    }
    let call = Call::new("GET", format!("/clamshell/v1/sessions/{SESSION}?qualifier=prod"));
    let id = server.client.runtime_arn.rsplit('/').next().unwrap();
    table.not_found("qualifier", call, no_runtime(id, "prod"));
    let path = format!("/clamshell/v1/sessions/{SESSION}/commands?runtime=nobody");
    let call = Call::new("POST", path).body("{\"command\":\"true\"}");
    table.not_found("command", call, no_runtime("nobody", "DEFAULT"));
    table.check().await;
}

#[tokio::test]
async fn strangers_are_told_so_whatever_their_body() {
    let server = server_with_session().await;
    let before = state(&server).await;
    for bytes in [0, 65_537, 4 << 20] {
        let call = raw_command(&server, vec![b'a'; bytes]);
        let (name, body) = (format!("{bytes} bytes"), message("Missing Authentication Token"));
        Refusal { name, call, status: 403, error: "AccessDeniedException", body }.check(&server).await;
    }
    assert_eq!(state(&server).await, before);
}

#[tokio::test]
async fn unknown_members_and_headers_are_ignored() {
    let server = server_with_session().await;
    let call = Call::new("POST", "/clamshell/v1/keys")
        .header("x-amzn-bedrock-agentcore-runtime-user-id", "default-user")
        .body("{\"userName\":null,\"more\":{\"a\":[1]}}")
        .signed(&server.root())
        .header("amz-sdk-invocation-id", "0b1b2d3c-1111-2222-3333-444455556666")
        .header("amz-sdk-request", "attempt=1; max=3")
        .header("user-agent", "made by a test")
        .header("x-amzn-trace-id", "Root=1");
    let reply: Reply = call.send(&server.client).await;
    assert_eq!((reply.status.as_u16(), reply.json()["userName"].clone()), (201, json!("user")));
    check_envelope("key", &reply);
    if clamshell_testkit::is_root() {
        let call = raw_command(&server, "{\"command\":\"echo out\",\"timeout\":null,\"more\":[{}]}")
            .signed(&server.root())
            .header("amz-sdk-request", "attempt=3; max=3")
            .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let reply = call.send(&server.client).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header(SESSION_ID), SESSION);
        assert_eq!(reply.header("traceparent"), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        check_envelope("command", &reply);
    }
}
