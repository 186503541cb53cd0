//! Signatures that do not hold, each with AWS's words, and those at the edge that do.

use clamshell_wire::{headers, percent_encode};
use serde_json::{Value, json};

use crate::{
    calls::{Call, Refusal, SESSION, Signer, command, message, server_with_session, state},
    in_process::InProcess,
};

const PATH: &str = "/clamshell/v1/sessions";
const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS \
    Secret Access Key and signing method. Consult the service documentation for details.";
const UNKNOWN_KEY: &str = "The security token included in the request is invalid.";
const MISSING: &str = "Missing Authentication Token";
const MALFORMED: &str = "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters, each of them once.";
const MALFORMED_QUERY: &str = "AWS query-string parameters must include 'X-Amz-Algorithm', 'X-Amz-Credential', \
    'X-Amz-Signature', 'X-Amz-SignedHeaders', 'X-Amz-Date' and 'X-Amz-Expires', each of them once. \
    Re-examine the query-string parameters.";

fn list() -> Call {
    Call::new("GET", PATH)
}

/// All rows are 403 `AccessDeniedException`.
async fn check(server: &InProcess, rows: Vec<(&str, Call, &str)>) {
    let before = state(server).await;
    for (name, call, text) in rows {
        let refusal = Refusal {
            name: name.to_owned(),
            call,
            status: 403,
            error: "AccessDeniedException",
            body: message(text),
        };
        refusal.check(server).await;
    }
    assert_eq!(state(server).await, before);
}

async fn check_ok(server: &InProcess, name: &str, call: Call) {
    let reply = call.send(&server.client).await;
    assert_eq!(reply.status, 200, "{name}: {}", String::from_utf8_lossy(&reply.body));
}

#[tokio::test]
async fn tampered_and_malformed_headers_are_refused() {
    let server = server_with_session().await;
    let root = server.root();
    let signed = || list().signed(&root);
    let last = |call: &Call| {
        let (_, value) = call.headers.iter().find(|(name, _)| name == "authorization").unwrap();
        value.rsplit_once("Signature=").unwrap().1.to_owned()
    };
    let flipped = {
        let call = signed();
        let digits = last(&call);
        let other = if digits.starts_with('0') { "1" } else { "0" };
        call.edit(
            "authorization",
            &format!("Signature={digits}"),
            &format!("Signature={other}{}", &digits[1..]),
        )
    };
    let truncated = {
        let call = signed();
        let digits = last(&call);
        call.edit("authorization", &digits, &digits[..63])
    };
    let run = command(&server, SESSION, "true").signed(&root);
    let other_body = run.clone().body("{\"command\":\"false\"}");
    let other_session = run.edit(headers::SESSION_ID, SESSION, "session-of-the-server-tests-000000002");
    let date = "20270115";
    check(
        &server,
        vec![
            ("flipped bit", flipped, MISMATCH),
            ("truncated", truncated, "The signature must have 64 hexadecimal digits."),
            ("wrong secret", list().signed(&root.with_wrong_secret()), MISMATCH),
            ("other body", other_body, MISMATCH),
            ("other session", other_session, MISMATCH),
            ("other path", signed().edit_path("sessions", "shells"), MISMATCH),
            ("more query", signed().edit_path("sessions", "sessions?state=Active"), MISMATCH),
            ("other host", signed().edit("host", "127.0.0.1", "127.0.0.2"), MISMATCH),
            ("other date", signed().edit("x-amz-date", "T080000Z", "T080001Z"), MISMATCH),
            ("no date", signed().edit("x-amz-date", "T080000Z", ""), "Date must be in ISO-8601 'basic format'."),
            ("no signature", signed().edit("authorization", ", Signature=", ", Sig="), MALFORMED),
            ("two signatures", signed().edit("authorization", "SignedHeaders=", "Signature="), MALFORMED),
            (
                "other algorithm",
                signed().edit("authorization", "SHA256", "SHA512"),
                "Unsupported AWS 'algorithm': use AWS4-HMAC-SHA256.",
            ),
            (
                "four parts",
                signed().edit("authorization", "/aws4_request", ""),
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.",
            ),
            (
                "other service",
                signed().edit("authorization", "bedrock-agentcore/", "execute-api/"),
                "Credential should be scoped to correct service: 'bedrock-agentcore'.",
            ),
            (
                "control plane's host name as service",
                signed().edit("authorization", "bedrock-agentcore/", "bedrock-agentcore-control/"),
                "Credential should be scoped to correct service: 'bedrock-agentcore'.",
            ),
            (
                "other region",
                list().signed(&Signer { region: "eu-west-1".to_owned(), ..root.clone() }),
                "Credential should be scoped to a valid region, not the one of the request. Use 'us-west-2'.",
            ),
            (
                "other terminator",
                signed().edit("authorization", "aws4_request", "aws5_request"),
                "Credential should be scoped with a valid terminator: 'aws4_request'.",
            ),
            (
                "other day",
                signed().edit("authorization", date, "20270114"),
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP",
            ),
            (
                "host not signed",
                signed().edit("authorization", "SignedHeaders=host;", "SignedHeaders="),
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.",
            ),
            (
                "header not sent",
                signed().edit("authorization", "host;", "host;x-aaa;"),
                "'x-aaa' is a 'SignedHeader' in the AWS Authorization but is missing from the request.",
            ),
            (
                "unsorted",
                signed().edit("authorization", "host;x-amz-date", "x-amz-date;host"),
                "'SignedHeaders' must be lower-case header names, sorted, without repetition, joined by semicolons.",
            ),
            (
                "token not signed",
                signed().header("x-amz-security-token", "token"),
                "'X-Amz-Security-Token' must be a 'SignedHeader' in the AWS Authorization.",
            ),
            (
                "unsigned payload",
                list().header("x-amz-content-sha256", "UNSIGNED-PAYLOAD").signed(&root),
                "The payload must be signed: UNSIGNED-PAYLOAD and streaming signatures are not supported.",
            ),
            (
                "other payload",
                list().header("x-amz-content-sha256", "0".repeat(64)).signed(&root),
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            ),
        ],
    )
    .await;
    check_ok(&server, "right", signed()).await;
}

#[tokio::test]
async fn times_beyond_five_minutes_are_refused() {
    let server = server_with_session().await;
    let root = server.root();
    check(
        &server,
        vec![
            (
                "six minutes late",
                list().signed(&root.at(-360)),
                "Signature expired: 20270115T075400Z is now earlier than 20270115T075500Z \
                 (20270115T080000Z - 300 s.)",
            ),
            (
                "a second too late",
                list().signed(&root.at(-301)),
                "Signature expired: 20270115T075459Z is now earlier than 20270115T075500Z \
                 (20270115T080000Z - 300 s.)",
            ),
            (
                "six minutes early",
                list().signed(&root.at(360)),
                "Signature not yet current: 20270115T080600Z is still later than 20270115T080000Z + 5 min.",
            ),
        ],
    )
    .await;
    check_ok(&server, "five minutes late", list().signed(&root.at(-300))).await;
    check_ok(&server, "five minutes early", list().signed(&root.at(300))).await;
}

#[tokio::test]
async fn presigned_requests_live_one_to_three_hundred_seconds() {
    let server = server_with_session().await;
    let root = server.root();
    let presigned = || list().presigned(&root, 300);
    let range = "X-Amz-Expires must be between 1 and 300 seconds";
    let mut both = presigned();
    both.headers.extend(list().signed(&root).headers.into_iter().filter(|(name, _)| name != "host"));
    let expires = |value: &str| presigned().edit_path("X-Amz-Expires=300", &format!("X-Amz-Expires={value}"));
    check(
        &server,
        vec![
            ("0 s", expires("0"), range),
            ("301 s", expires("301"), range),
            ("a week", expires("604800"), range),
            ("signed number", expires("%2B60"), range),
            ("no number", expires("x"), range),
            ("longer life than signed", expires("299"), MISMATCH),
            ("without a life", presigned().edit_path("X-Amz-Expires=300&", ""), MALFORMED_QUERY),
            (
                "two lives",
                presigned().edit_path("X-Amz-Expires=", "X-Amz-Expires=1&X-Amz-Expires="),
                MALFORMED_QUERY,
            ),
            (
                "over",
                list().presigned(&root.at(-301), 300),
                "Signature expired: 20270115T075459Z is now earlier than 20270115T075500Z \
                 (20270115T080000Z - 300 s.)",
            ),
            (
                "over after a second",
                list().presigned(&root.at(-2), 1),
                "Signature expired: 20270115T075958Z is now earlier than 20270115T075959Z \
                 (20270115T080000Z - 1 s.)",
            ),
            ("other query", presigned().edit_path("?", "?state=Active&"), MISMATCH),
            (
                "other method",
                Call {
                    method: "POST".to_owned(),
                    path: format!("{PATH}/{SESSION}/stop?{}", presigned().path.split_once('?').unwrap().1),
                    ..presigned()
                },
                MISMATCH,
            ),
            (
                "both ways",
                both,
                "Only one authentication mechanism is allowed: the Authorization header or the query string.",
            ),
        ],
    )
    .await;
    check_ok(&server, "presigned", presigned()).await;
    check_ok(&server, "presigned at the end of its life", list().presigned(&root.at(-300), 300)).await;
    // The SDK signs the bare host name and connects with a port.
    let (host, port) = root.authority.split_once(':').unwrap();
    let bare = list().presigned(&Signer { authority: host.to_owned(), ..root.clone() }, 60);
    check_ok(&server, "presigned without port", bare.edit("host", host, &format!("{host}:{port}"))).await;
}

/// Who was given a URL for one session must not choose another by a header of their own.
#[tokio::test]
async fn a_presigned_url_opens_the_session_that_it_names() {
    let server = server_with_session().await;
    let path = format!("{}?{}={SESSION}", server.client.runtime_path("ws/shells"), headers::SESSION_ID);
    let call = Call::new("GET", path).upgrade_without("").presigned(&server.root(), 300);
    let other = call.header(headers::SESSION_ID, "session-of-somebody-else-0000000000001");
    let reply = other.send(&server.client).await;
    assert_eq!(reply.status, 403);
    let message =
        format!("There were headers present in the request which were not signed: {}", headers::SESSION_ID);
    assert_eq!(reply.json()["message"], message);
}

#[tokio::test]
async fn other_credentials_are_refused() {
    let server = server_with_session().await;
    let root = server.root();
    let made = Call::new("POST", "/clamshell/v1/keys").signed(&root).send(&server.client).await.json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let user = root.with_key(&text("accessKeyId"), &text("secretAccessKey"));
    check_ok(&server, "fresh key", list().signed(&user)).await;
    let disable = Call::new("POST", format!("/clamshell/v1/keys/{}/disable", text("accessKeyId")));
    check_ok(&server, "disable", disable.signed(&root)).await;
    let unknown = root.with_key("AKIAAAAAAAAAAAAAAAAA", "wrongwrongwrongwrongwrongwrongwrongwrong");
    let mismatch = "Authorization method mismatch. The agent is configured for a different authorization method \
        than what was used in your request.";
    let run = || command(&server, SESSION, "true");
    let shell = || {
        Call::new("GET", format!("{}?shellId=a", server.client.runtime_path("ws/shells"))).upgrade_without("")
    };
    check(
        &server,
        vec![
            ("disabled key", list().signed(&user), UNKNOWN_KEY),
            ("disabled key, presigned", list().presigned(&user, 60), UNKNOWN_KEY),
            ("unknown key", list().signed(&unknown), UNKNOWN_KEY),
            ("short key", list().signed(&root.with_key("AKIA", "x")), UNKNOWN_KEY),
            ("nothing", list(), MISSING),
            ("basic", list().header("authorization", "Basic cm9vdDpyb290"), MISSING),
            ("bearer", run().header("authorization", "Bearer eyJhbGciOiJub25lIn0.e30."), mismatch),
            ("bearer, other case", run().header("authorization", "bEARER x"), mismatch),
            ("bearer for a shell", shell().header("authorization", "Bearer x"), mismatch),
            (
                "bearer by subprotocol",
                shell().header(
                    "sec-websocket-protocol",
                    "base64UrlBearerAuthorization.ZXlK, base64UrlBearerAuthorization",
                ),
                mismatch,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn only_a_valid_signature_learns_what_is_there() {
    let server = server_with_session().await;
    let arn = &server.client.runtime_arn;
    let foreign = arn.replace(&server.info.account_id, "111111111111");
    let before = state(&server).await;
    for path in [
        format!("/runtimes/{}/commands", percent_encode(arn)),
        format!("/runtimes/{}/commands", percent_encode(&foreign)),
        "/runtimes/garbage/commands?qualifier=%zz".to_owned(),
        format!("/clamshell/v1/sessions/{SESSION}/stop"),
        "/clamshell/v1/sessions/none/stop".to_owned(),
    ] {
        let reply = Call::new("POST", path.as_str()).body("{").send(&server.client).await;
        let seen: (u16, Value) = (reply.status.as_u16(), reply.json());
        assert_eq!(seen, (403, json!({ "message": MISSING })), "{path}");
    }
    assert_eq!(state(&server).await, before);
}
