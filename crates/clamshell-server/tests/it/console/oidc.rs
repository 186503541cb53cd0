//! Signing in at an identity provider.

use std::sync::Arc;

use clamshell_domain::Clock;
use clamshell_testkit::Reply;
use serde_json::{Value, json};

use super::{
    CONSOLE, HandClock, SESSIONS, by, page,
    provider::{CLIENT, Provider, SECRET},
    status,
};
use crate::{
    access::user,
    calls::{Call, message},
    in_process::InProcess,
};

struct Fixture {
    provider: Provider,
    server: InProcess,
    clock: Arc<HandClock>,
}

impl Fixture {
    async fn start(more: &str) -> Self {
        let provider = Provider::start().await;
        let clock = HandClock::new();
        let configuration = format!(
            "[console.oidc]\nissuer = \"{}\"\nclient_id = \"{CLIENT}\"\nclient_secret_file = \"oidc-secret\"\nlabel = \"Example\"\n\
             role_claim = \"groups\"\nroles = {{ dev = \"operator\", ops = \"admin\" }}\n{more}",
            provider.issuer
        );
        let server = InProcess::start_at(&configuration, Arc::clone(&clock) as Arc<dyn Clock>).await;
        std::fs::write(server.data_dir().join("oidc-secret"), format!("{SECRET}\n")).unwrap();
        Self { provider, server, clock }
    }

    /// Goes to the provider: its URL, and the cookie that comes back with the browser.
    async fn begin(&self) -> (String, String) {
        let start = Call::new("GET", format!("{CONSOLE}/oidc/start")).header("sec-fetch-site", "same-origin");
        let reply = start.send(&self.server.client).await;
        assert_eq!(reply.status, 302, "{}", String::from_utf8_lossy(&reply.body));
        let set = reply.header("set-cookie").to_owned();
        assert!(set.starts_with("__Host-clamshell-oidc="), "{set}");
        assert!(set.ends_with("; Path=/; Max-Age=600; Secure; HttpOnly; SameSite=Lax"), "{set}");
        (reply.header("location").to_owned(), set.split(';').next().unwrap().to_owned())
    }

    fn now_s(&self) -> u64 {
        self.clock.now_ms() / 1000
    }

    /// Comes back from the provider.
    async fn back(&self, path: &str, cookie: &str) -> Reply {
        let call = Call::new("GET", path).header("cookie", cookie).header("sec-fetch-site", "cross-site");
        call.send(&self.server.client).await
    }

    /// All of it.
    async fn sign_in(&self, claims: &Value) -> Reply {
        let (url, cookie) = self.begin().await;
        self.back(&self.provider.sign_in(&url, claims, false, self.now_s()), &cookie).await
    }
}

fn login_of(reply: &Reply) -> String {
    let all: Vec<&str> =
        reply.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    let set = all.iter().find(|set| set.starts_with("__Host-clamshell=")).unwrap();
    assert!(set.ends_with("; Secure; HttpOnly; SameSite=Strict"), "{set}");
    assert!(all.iter().any(|set| set.starts_with("__Host-clamshell-oidc=; Path=/; Max-Age=0;")));
    set.split(';').next().unwrap().to_owned()
}

fn refused(name: &str, reply: &Reply, status: u16, text: &str) {
    let body = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.status, status, "{name}: {body}");
    assert!(body.contains(text), "{name}: {body}");
    assert_eq!(reply.header("content-type"), "text/html; charset=utf-8", "{name}");
    let no_login = reply
        .headers
        .get_all("set-cookie")
        .iter()
        .all(|set| !set.to_str().unwrap().starts_with("__Host-clamshell="));
    assert!(no_login, "{name}");
}

#[tokio::test]
async fn somebody_of_the_provider_becomes_a_user_with_a_role() {
    let fixture = Fixture::start("").await;
    let server = &fixture.server;
    let me = page(server, "GET", &format!("{CONSOLE}/me"));
    assert_eq!(me.send(&server.client).await.json()["methods"]["oidc"], json!({ "label": "Example" }));
    let reply = fixture.sign_in(&json!({})).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    // Not by a redirect, whose request would be the provider's and lose the cookie.
    assert!(
        String::from_utf8_lossy(&reply.body).contains("http-equiv=\"refresh\" content=\"0;url=/console\"")
    );
    assert!(reply.header("content-security-policy").starts_with("default-src 'none'"));
    let cookie = login_of(&reply);
    let told = by(server, &cookie, "GET", &format!("{CONSOLE}/me")).send(&server.client).await.json();
    assert_eq!((&told["userName"], &told["role"]), (&json!("alice"), &json!("operator")));
    assert_eq!(status(server, &by(server, &cookie, "GET", SESSIONS)).await, 200);
    assert_eq!(status(server, &by(server, &cookie, "GET", "/clamshell/v1/users")).await, 403);

    // Another name does not make another user of the same person, and another group another role.
    let again = fixture.sign_in(&json!({ "preferred_username": "bob", "groups": ["x", "ops"] })).await;
    let other = login_of(&again);
    let told = by(server, &other, "GET", &format!("{CONSOLE}/me")).send(&server.client).await.json();
    assert_eq!((&told["userName"], &told["role"]), (&json!("alice"), &json!("admin")));
    assert_eq!(status(server, &by(server, &cookie, "GET", "/clamshell/v1/users")).await, 200);
    // Who has no role any more has no login either.
    let gone = fixture.sign_in(&json!({ "groups": [] })).await;
    refused("no role", &gone, 403, "Your account at Example has no role here");
    for login in [&cookie, &other] {
        assert_eq!(status(server, &by(server, login, "GET", SESSIONS)).await, 401);
    }
    let user =
        Call::new("GET", "/clamshell/v1/users/alice").signed(&server.root()).send(&server.client).await;
    assert_eq!(user.json()["policies"], json!({}));
}

#[tokio::test]
async fn nobody_gets_in_with_what_the_provider_did_not_say() {
    let fixture = Fixture::start("").await;
    user(&fixture.server, "taken", &Value::Null).await;
    let not_accepted = "The identity provider's answer was not accepted";
    for (name, claims, text) in [
        ("nonce", json!({ "nonce": "another" }), not_accepted),
        ("no nonce", json!({ "nonce": null }), not_accepted),
        ("issuer", json!({ "iss": "http://127.0.0.1/realms/y" }), not_accepted),
        ("audience", json!({ "aud": "another" }), not_accepted),
        ("audiences without a party", json!({ "aud": [CLIENT, "another"] }), not_accepted),
        ("party", json!({ "aud": [CLIENT, "another"], "azp": "another" }), not_accepted),
        ("party of one", json!({ "azp": "another" }), not_accepted),
        ("expired", json!({ "exp": crate::calls::NOW_MS / 1000 }), not_accepted),
        ("no end", json!({ "exp": null }), not_accepted),
        ("no subject", json!({ "sub": null }), not_accepted),
        ("root", json!({ "sub": "r", "preferred_username": "root" }), "no name that can be a user"),
        ("taken", json!({ "sub": "t", "preferred_username": "taken" }), "There is another user taken here"),
        ("no role", json!({ "sub": "n", "groups": ["x"] }), "has no role here"),
    ] {
        // Failures are counted, and forgotten after an hour.
        fixture.clock.advance_s(3_600);
        refused(name, &fixture.sign_in(&claims).await, 403, text);
    }
    let (url, cookie) = fixture.begin().await;
    let path = fixture.provider.sign_in(&url, &json!({}), true, fixture.now_s());
    refused("forged", &fixture.back(&path, &cookie).await, 403, not_accepted);
    let server = &fixture.server;
    let users = Call::new("GET", "/clamshell/v1/users").signed(&server.root()).send(&server.client).await;
    let names: Vec<Value> =
        users.json()["users"].as_array().unwrap().iter().map(|user| user["userName"].clone()).collect();
    assert_eq!(names, ["taken"]);
}

#[tokio::test]
async fn a_flow_belongs_to_the_browser_that_began_it() {
    let fixture = Fixture::start("").await;
    let server = &fixture.server;
    let not_begun = "This sign-in was not begun here";
    let (url, cookie) = fixture.begin().await;
    let (_, other) = fixture.begin().await;
    let path = fixture.provider.sign_in(&url, &json!({}), false, fixture.now_s());
    refused("no cookie", &fixture.back(&path, "x=y").await, 403, not_begun);
    refused("of another", &fixture.back(&path, &other).await, 403, not_begun);
    refused("no state", &fixture.back(path.split("&state").next().unwrap(), &cookie).await, 403, not_begun);
    let mixed_up = format!("{path}&iss=https%3A%2F%2Fother.example");
    refused("of another provider", &fixture.back(&mixed_up, &cookie).await, 403, not_begun);
    let denied = format!(
        "{}?error=access_denied&state={}",
        path.split('?').next().unwrap(),
        path.split("state=").nth(1).unwrap()
    );
    refused("denied", &fixture.back(&denied, &cookie).await, 403, "did not sign you in");
    assert_eq!(fixture.back(&path, &cookie).await.status, 200);
    refused("a second time", &fixture.back(&path, &cookie).await, 403, "was not accepted");
    // Codes that nobody gave out: this server does not tire the provider with them, and lets people in with passwords.
    for _ in 1..30 {
        refused("made up", &fixture.back(&path, &cookie).await, 403, "was not accepted");
    }
    refused("too often", &fixture.back(&path, &cookie).await, 429, "Too many sign-ins have failed");
    super::set_password(server, "root").await;
    super::login(server, &json!({ "userName": "root", "password": super::PASSWORD })).await;
    fixture.clock.advance_s(2);
    assert_eq!(fixture.sign_in(&json!({})).await.status, 200);

    // Another page sends nobody there, and no other name of this server is told to the provider.
    let start = Call::new("GET", format!("{CONSOLE}/oidc/start"));
    assert_eq!(status(server, &start.clone().header("sec-fetch-site", "cross-site")).await, 403);
    assert_eq!(status(server, &start.clone().header("host", "evil.example")).await, 403);
    let server = InProcess::start("").await;
    let off = start.send(&server.client).await;
    let text = "This server has no browser console: no identity provider is configured";
    assert_eq!((off.status.as_u16(), off.json()), (404, message(text)));
}
