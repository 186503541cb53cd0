//! Runtimes with a JWT authorizer.

use clamshell_domain::{Clock, SystemClock};
use clamshell_testkit::within;
use clamshell_wire::{headers, percent_encode, subprotocol::Subprotocols};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Fixture, idp::Idp, root};
use crate::{calls::Call, in_process::LIMIT};

const SESSION: &str = "session-of-a-caller-with-a-token-00001";

async fn fixture(idp: &Idp) -> Option<Fixture> {
    let authorizer = json!({
        "discoveryUrl": idp.discovery_url(), "allowedAudience": ["agents"], "allowedClients": ["app"],
        "allowedScopes": ["read"],
    });
    let configuration = "allow_private_identity_providers = true\n";
    Fixture::start(configuration, "clamshell-agent", |hosting| {
        hosting.authorizer = Some(authorizer.to_string())
    })
    .await
}

fn stop(fixture: &Fixture) -> Call {
    Call::new("POST", fixture.client.runtime_path("stopruntimesession"))
        .header(headers::SESSION_ID, SESSION)
        .body("{}")
}

fn with_token(call: Call, token: &str) -> Call {
    call.header("authorization", format!("Bearer {token}"))
}

#[tokio::test]
async fn tokens_open_their_runtime_and_nothing_else() {
    let idp = Idp::start().await;
    let Some(fixture) = fixture(&idp).await else { return };
    let now_s = SystemClock.now_ms() / 1000;
    let claims = |changes: Value| idp.claims(now_s, &changes);
    let good = idp.token(&claims(json!({})));
    let base = format!("http://{}", fixture.client.authority);
    let escaped = percent_encode(&fixture.client.runtime_arn);
    let metadata = format!(
        "{base}/runtimes/{escaped}/invocations/.well-known/oauth-protected-resource?qualifier=DEFAULT"
    );
    let challenge = format!("Bearer resource_metadata=\"{metadata}\", scope=\"read\"");
    let invalid = "Bearer error=\"invalid_token\"".to_owned();
    let mismatch = "Authorization method mismatch. The agent is configured for a different authorization method \
                    than what was used in your request.";
    let claim = |name: &str| format!("Claim '{name}' value mismatch with configuration.");
    let parse = "OAuth authorization failed: Failed to parse token";
    let unauthorized = "UnauthorizedException";
    let denied = "AccessDeniedException";
    let bearer = |token: &str| with_token(stop(&fixture), token);
    let signed = |changes: Value| bearer(&idp.token(&claims(changes)));
    let rows = [
        (
            "none",
            stop(&fixture),
            401,
            unauthorized,
            "Missing Authentication Token".to_owned(),
            challenge.clone(),
        ),
        ("no JWT", bearer("x.y"), 403, denied, parse.to_owned(), String::new()),
        ("audience", signed(json!({ "aud": ["other"] })), 401, unauthorized, claim("aud"), challenge.clone()),
        (
            "client",
            signed(json!({ "client_id": "x" })),
            401,
            unauthorized,
            claim("client_id"),
            challenge.clone(),
        ),
        ("scope", signed(json!({ "scope": "write" })), 401, unauthorized, claim("scope"), challenge.clone()),
        (
            "expired",
            signed(json!({ "exp": now_s - 120 })),
            401,
            unauthorized,
            "Invalid Bearer token".to_owned(),
            invalid.clone(),
        ),
        (
            "issuer",
            signed(json!({ "iss": "http://x" })),
            401,
            unauthorized,
            "Invalid Bearer token".to_owned(),
            invalid.clone(),
        ),
        (
            "forged",
            bearer(&Idp::forged(&claims(json!({})))),
            401,
            unauthorized,
            "Invalid Bearer token".to_owned(),
            invalid,
        ),
        (
            "signed",
            stop(&fixture).signed(&fixture.server.root()),
            403,
            denied,
            mismatch.to_owned(),
            String::new(),
        ),
        (
            "other runtime",
            with_token(super::stop(&fixture.server), &good),
            403,
            denied,
            mismatch.to_owned(),
            String::new(),
        ),
        (
            "control plane",
            with_token(Call::new("POST", "/runtimes/"), &good),
            403,
            denied,
            mismatch.to_owned(),
            String::new(),
        ),
        (
            "good",
            bearer(&good),
            404,
            "ResourceNotFoundException",
            "Session not found".to_owned(),
            String::new(),
        ),
    ];
    for (name, call, status, error, text, challenge) in rows {
        let reply = call.send(&fixture.server.client).await;
        let seen = (
            reply.status.as_u16(),
            reply.header(headers::ERROR_TYPE).to_owned(),
            reply.json()["message"].as_str().unwrap_or_default().to_owned(),
            reply.header("www-authenticate").to_owned(),
        );
        assert_eq!(seen, (status, error.to_owned(), text, challenge), "{name}");
    }

    // Where to get one is told to everybody.
    let path = format!("/runtimes/{escaped}/invocations/.well-known/oauth-protected-resource");
    let reply = Call::new("GET", &path).send(&fixture.server.client).await;
    let expect = json!({
        "resource": format!("{base}/runtimes/{escaped}/invocations?qualifier=DEFAULT"),
        "authorization_servers": [idp.issuer()],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["read"],
    });
    assert_eq!((reply.status.as_u16(), reply.json()), (200, expect));
    let default = percent_encode(&fixture.server.client.runtime_arn);
    let path = format!("/runtimes/{default}/invocations/.well-known/oauth-protected-resource");
    assert_eq!(Call::new("GET", &path).send(&fixture.server.client).await.status, 404);

    // A policy of the resource counts for them too.
    let arn = &fixture.client.runtime_arn;
    let policy = |effect: &str, condition: Value| {
        let statement = json!({
            "Effect": effect, "Principal": "*", "Action": "bedrock-agentcore:*", "Resource": arn,
            "Condition": condition,
        });
        json!({ "policy": json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string() })
    };
    let subject = |name: &str| json!({ "StringEquals": { "bedrock-agentcore:InboundJwtClaim/sub": name } });
    for (effect, condition, status) in
        [("Allow", subject("alice"), 404), ("Allow", subject("bob"), 403), ("Deny", subject("alice"), 403)]
    {
        let path = format!("/resourcepolicy/{}", percent_encode(arn));
        root(&fixture.server, "PUT", &path, &policy(effect, condition.clone())).await;
        let reply = bearer(&good).send(&fixture.server.client).await;
        assert_eq!(reply.status, status, "{effect} {condition}");
    }
}

/// Browsers send the token as a subprotocol, and fail the connection unless its name comes back.
#[tokio::test]
async fn a_shell_opens_with_a_token_in_the_subprotocol() {
    let idp = Idp::start().await;
    let Some(fixture) = fixture(&idp).await else { return };
    let now_s = SystemClock.now_ms() / 1000;
    let good = idp.token(&idp.claims(now_s, &json!({})));
    let forged = Idp::forged(&idp.claims(now_s, &json!({})));
    let upgrade = |more: &[(&str, String)]| {
        let call = Call::new("GET", fixture.client.runtime_path("ws/shells"))
            .header(headers::SESSION_ID, SESSION)
            .upgrade_without("");
        more.iter().fold(call, |call, (name, value)| call.header(name, value.clone()))
    };
    let protocol = |token: &str| ("sec-websocket-protocol", Subprotocols::offer(token));
    for (name, more, status, answer) in [
        ("none", vec![], "401", None),
        ("forged", vec![protocol(&forged)], "401", None),
        ("subprotocol", vec![protocol(&good)], "101", Some("base64UrlBearerAuthorization")),
        ("header", vec![("authorization", format!("Bearer {good}"))], "101", None),
    ] {
        let head = within(name, LIMIT, head(&fixture.client.authority, &upgrade(&more))).await;
        let mut lines = head.lines();
        assert_eq!(lines.next().unwrap().split(' ').nth(1), Some(status), "{name}: {head}");
        let seen = lines.find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        assert_eq!(seen, answer, "{name}: {head}");
    }
}

/// The head of an answer, its names in lower case as they come. The connection ends with it.
async fn head(authority: &str, call: &Call) -> String {
    let mut stream = TcpStream::connect(authority).await.unwrap();
    let headers: String = call.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!("{} {} HTTP/1.1\r\nhost: {authority}\r\n{headers}\r\n", call.method, call.path);
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}
