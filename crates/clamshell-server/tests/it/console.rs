//! The console's logins, as a browser and those who abuse one see them.

mod oidc;
mod provider;
mod roles;
mod sockets;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use clamshell_domain::Clock;
use clamshell_testkit::Reply;
use serde_json::{Value, json};

use crate::{
    access::user,
    calls::{Call, NOW_MS, message},
    in_process::InProcess,
};

const CONSOLE: &str = "/clamshell/v1/console";
const SESSIONS: &str = "/clamshell/v1/sessions";
const PASSWORD: &str = "correct horse battery";

/// A clock that is set by hand.
struct HandClock(AtomicU64);

impl HandClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(NOW_MS)))
    }

    fn advance_s(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

impl Clock for HandClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A call as our page makes it.
fn page(server: &InProcess, method: &str, path: &str) -> Call {
    Call::new(method, path)
        .header("origin", &server.info.endpoint)
        .header("x-clamshell-console", "1")
        .header("sec-fetch-site", "same-origin")
}

/// The same with the cookie of a login.
fn by(server: &InProcess, cookie: &str, method: &str, path: &str) -> Call {
    page(server, method, path).header("cookie", cookie)
}

fn without(call: &Call, name: &str) -> Call {
    let mut call = call.clone();
    call.headers.retain(|(known, _)| known != name);
    call
}

/// The same call with another value of a header.
fn with(call: &Call, name: &str, value: &str) -> Call {
    without(call, name).header(name, value)
}

/// A fresh link's token, made by the holder of a key.
async fn link(server: &InProcess) -> String {
    let call = Call::new("POST", format!("{CONSOLE}/links")).signed(&server.root());
    let reply = call.send(&server.client).await;
    assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
    let url = reply.json()["url"].as_str().unwrap().to_owned();
    let (page, token) = url.split_once("#link=").unwrap();
    assert_eq!(page, format!("{}/console/login", server.info.endpoint));
    token.to_owned()
}

/// Asks whom a link signs in.
async fn show_link(server: &InProcess, token: &str) -> Reply {
    let call = page(server, "POST", &format!("{CONSOLE}/link")).body(json!({ "link": token }).to_string());
    call.send(&server.client).await
}

async fn try_login(server: &InProcess, body: &Value) -> Reply {
    let call = page(server, "POST", &format!("{CONSOLE}/login")).body(body.to_string());
    call.send(&server.client).await
}

/// What a browser sends back of a `Set-Cookie`.
fn cookie_of(reply: &Reply) -> String {
    reply.header("set-cookie").split(';').next().unwrap().to_owned()
}

/// Signs in and gives the cookie.
async fn login(server: &InProcess, body: &Value) -> String {
    let reply = try_login(server, body).await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    cookie_of(&reply)
}

/// The cookie of a login of root.
async fn root_login(server: &InProcess) -> String {
    login(server, &json!({ "link": link(server).await })).await
}

async fn set_password(server: &InProcess, name: &str) {
    let call = Call::new("PUT", format!("/clamshell/v1/users/{name}/password"));
    let call = call.body(json!({ "password": PASSWORD }).to_string()).signed(&server.root());
    let reply = call.send(&server.client).await;
    assert_eq!(reply.status, 204, "{}", String::from_utf8_lossy(&reply.body));
}

async fn status(server: &InProcess, call: &Call) -> u16 {
    call.send(&server.client).await.status.as_u16()
}

async fn refused(server: &InProcess, call: Call, status: u16, text: &str) {
    let reply = call.send(&server.client).await;
    assert_eq!((reply.status.as_u16(), reply.json()), (status, message(text)), "{call:?}");
}

const ENDED: &str = "The login has ended; sign in again";
const WRONG: &str = "Wrong user name, password or link";

#[tokio::test]
async fn answers_to_a_login_are_for_our_page_and_no_answer_is_a_document() {
    let server = InProcess::start("").await;
    let cookie = root_login(&server).await;
    let headers = |reply: &Reply| {
        ["cache-control", "access-control-allow-origin", "cross-origin-resource-policy"]
            .map(|name| reply.header(name).to_owned())
    };
    for path in [SESSIONS, "/clamshell/v1/keys", "/clamshell/v1/nothing"] {
        let answer = by(&server, &cookie, "GET", path).send(&server.client).await;
        assert_eq!(headers(&answer), ["no-store", "", "same-origin"], "{path}");
    }
    // Where it was ended, and where another site made the request.
    let ended = by(&server, "__Host-clamshell=none", "GET", SESSIONS).send(&server.client).await;
    assert_eq!(headers(&ended), ["no-store", "", "same-origin"]);
    let signed = Call::new("GET", SESSIONS).signed(&server.root()).send(&server.client).await;
    assert_eq!(headers(&signed), ["", "*", ""], "what is signed may be asked for from everywhere");
    // Objects and agents' answers have types that their makers choose.
    for path in [SESSIONS, "/bucket/page.html", "/runtimes/none/invocations", "/favicon.ico", "/"] {
        let answer = Call::new("GET", path).send(&server.client).await;
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'; sandbox;"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    }
}

#[tokio::test]
async fn a_link_signs_in_once_and_its_cookie_is_as_good_as_a_signature() {
    let server = InProcess::start("").await;
    let me = page(&server, "GET", &format!("{CONSOLE}/me"));
    let stranger = me.send(&server.client).await;
    let expect =
        json!({ "signedIn": false, "methods": { "password": false, "oidc": null }, "mode": "serve" });
    assert_eq!((stranger.status.as_u16(), stranger.json()), (200, expect.clone()));
    assert_eq!(stranger.header("cache-control"), "no-store");

    let token = link(&server).await;
    // Whom it signs in is told as often as somebody asks, and signs nobody in.
    for _ in 0..2 {
        let told = show_link(&server, &token).await;
        assert_eq!((told.status.as_u16(), told.json()), (200, json!({ "userName": "root" })));
        assert_eq!((told.header("set-cookie"), told.header("cache-control")), ("", "no-store"));
    }
    let reply = try_login(&server, &json!({ "link": token })).await;
    let set = reply.header("set-cookie");
    assert!(set.starts_with("__Host-clamshell="), "{set}");
    assert!(set.contains("; Path=/; Max-Age=604"), "seven days: {set}");
    assert!(set.ends_with("; Secure; HttpOnly; SameSite=Strict"), "{set}");
    let cookie = cookie_of(&reply);
    let answer = by(&server, &cookie, "GET", &format!("{CONSOLE}/me")).send(&server.client).await.json();
    let without_end = |mut answer: Value| {
        answer["expiresAt"] = Value::Null;
        answer
    };
    assert_eq!(without_end(reply.json()), without_end(answer.clone()));
    assert_eq!(
        (&answer["userName"], &answer["role"], &answer["mode"]),
        (&json!("root"), &json!("admin"), &json!("serve"))
    );
    assert_eq!(answer["arn"], format!("arn:aws:iam::{}:root", server.info.account_id));
    for feature in ["sessions", "runtimes", "keys", "doctor", "recordings", "logs"] {
        assert!(answer["features"].as_array().unwrap().contains(&json!(feature)), "{feature}: {answer}");
    }
    refused(
        &server,
        page(&server, "POST", &format!("{CONSOLE}/login")).body(json!({ "link": token }).to_string()),
        403,
        WRONG,
    )
    .await;
    for bad in [token.as_str(), "", "A", &"A".repeat(43)] {
        let told = show_link(&server, bad).await;
        assert_eq!((told.status.as_u16(), told.json()), (403, message(WRONG)), "{bad}");
    }

    // Both APIs take it.
    assert_eq!(status(&server, &by(&server, &cookie, "GET", SESSIONS)).await, 200);
    assert_eq!(status(&server, &by(&server, &cookie, "POST", "/runtimes/")).await, 200);
    // It does not open what only a signature does.
    let links = by(&server, &cookie, "POST", &format!("{CONSOLE}/links"));
    refused(&server, links, 403, "Only a signed request may do this, not a login").await;
    // The service for objects knows signatures alone.
    assert!(status(&server, &by(&server, &cookie, "GET", "/bucket/key")).await >= 400);
    let scoped = by(
        &server,
        &cookie,
        "GET",
        "/bucket/key?X-Amz-Credential=AKIAAAAAAAAAAAAAAAAA%2F20270115%2Fus-west-2%2Fs3%2Faws4_request",
    );
    assert_eq!(status(&server, &scoped).await, 403);

    // It outlives the server, and nobody finds it in what lies on the disk.
    let server = server.start_again("").await;
    assert_eq!(status(&server, &by(&server, &cookie, "GET", SESSIONS)).await, 200);
    let token = cookie.split_once('=').unwrap().1;
    for file in ["clamshell.db", "clamshell.db-wal"] {
        let bytes = std::fs::read(server.data_dir().join(file)).unwrap_or_default();
        assert!(!bytes.windows(token.len()).any(|window| window == token.as_bytes()), "{file}");
    }
}

/// Every rule about requests with a cookie: what breaks it, and what the answer says.
#[tokio::test]
async fn only_our_page_can_use_a_cookie() {
    let server = InProcess::start("").await;
    let cookie = root_login(&server).await;
    let read = by(&server, &cookie, "GET", SESSIONS);
    let write =
        by(&server, &cookie, "POST", "/clamshell/v1/users").body(r#"{"userName":"made-by-strangers"}"#);
    let cross = |why: &str| format!("The request was not made by the page of this console: {why}");
    let other_origin = cross("Origin is another one");
    let no_origin = cross("Origin is missing");
    let no_header = cross("X-Clamshell-Console is missing");
    let neither = cross("X-Clamshell-Console and Sec-Fetch-Site are missing");
    let cross_site = cross("Sec-Fetch-Site is not same-origin");
    let host = "This server does not answer browsers under this name. [console] hosts in its configuration lists further names";
    let port = server.client.authority.rsplit(':').next().unwrap().to_owned();

    for origin in ["http://evil.example", "http://localhost:3000", "null", "https://127.0.0.1"] {
        refused(&server, with(&read, "origin", origin), 403, &other_origin).await;
        refused(&server, with(&write, "origin", origin), 403, &other_origin).await;
    }
    refused(&server, without(&write, "origin"), 403, &no_origin).await;
    refused(&server, without(&write, "x-clamshell-console"), 403, &no_header).await;
    refused(&server, with(&write, "x-clamshell-console", "2"), 403, &no_header).await;
    refused(&server, without(&without(&read, "x-clamshell-console"), "sec-fetch-site"), 403, &neither).await;
    for site in ["cross-site", "same-site", "none"] {
        refused(&server, with(&read, "sec-fetch-site", site), 403, &cross_site).await;
        refused(&server, with(&write, "sec-fetch-site", site), 403, &cross_site).await;
    }
    for name in [
        "evil.example".to_owned(),
        format!("evil.example:{port}"),
        "localhost.".to_owned(),
        "127.0.0.1:1".to_owned(),
    ] {
        let rebound = |call: &Call| with(call, "host", &name).header("origin", format!("http://{name}"));
        refused(&server, rebound(&without(&read, "origin")), 403, host).await;
        refused(&server, rebound(&without(&write, "origin")), 403, host).await;
        refused(&server, rebound(&page(&server, "GET", &format!("{CONSOLE}/me"))), 403, host).await;
        refused(&server, rebound(&page(&server, "GET", "/console")), 403, host).await;
    }
    let upgrade =
        by(&server, &cookie, "GET", &format!("{SESSIONS}/{}/shells/a/attach", crate::calls::SESSION))
            .upgrade_without("");
    refused(&server, without(&upgrade, "origin"), 403, &no_origin).await;
    refused(&server, with(&upgrade, "origin", "http://evil.example"), 403, &other_origin).await;
    refused(&server, with(&upgrade, "sec-fetch-site", "cross-site"), 403, &cross_site).await;
    let aws = by(&server, &cookie, "GET", &server.client.runtime_path("ws/shells")).upgrade_without("");
    refused(&server, without(&aws, "origin"), 403, &no_origin).await;

    // A page of elsewhere signs nobody in or out, and learns nothing.
    let sign_in = page(&server, "POST", &format!("{CONSOLE}/login"))
        .body(json!({ "link": link(&server).await }).to_string());
    refused(&server, with(&sign_in, "origin", "http://evil.example"), 403, &other_origin).await;
    refused(&server, without(&sign_in, "x-clamshell-console"), 403, &no_header).await;
    let show = page(&server, "POST", &format!("{CONSOLE}/link"))
        .body(json!({ "link": link(&server).await }).to_string());
    refused(&server, with(&show, "origin", "http://evil.example"), 403, &other_origin).await;
    refused(&server, without(&show, "x-clamshell-console"), 403, &no_header).await;
    refused(&server, with(&show, "sec-fetch-site", "cross-site"), 403, &cross_site).await;
    let sign_out = by(&server, &cookie, "POST", &format!("{CONSOLE}/logout"));
    refused(&server, with(&sign_out, "origin", "http://evil.example"), 403, &other_origin).await;
    let me = by(&server, &cookie, "GET", &format!("{CONSOLE}/me"));
    let told = with(&me, "origin", "http://evil.example").send(&server.client).await.json();
    assert_eq!(told["signedIn"], false);

    // Names of this server, and downloads and streams, which browsers send without our header.
    for name in [
        format!("localhost:{port}"),
        "localhost".to_owned(),
        format!("[::1]:{port}"),
        server.client.authority.clone(),
    ] {
        let call = with(&with(&write, "host", &name), "origin", &format!("http://{name}"));
        assert!([201, 409].contains(&status(&server, &call).await), "{name}");
    }
    assert_eq!(status(&server, &without(&without(&read, "x-clamshell-console"), "origin")).await, 200);
    assert_eq!(status(&server, &without(&read, "sec-fetch-site")).await, 200);
    // A signature beside it counts alone, and so does one that is wrong.
    assert_eq!(
        status(&server, &Call::new("GET", SESSIONS).header("cookie", &cookie).signed(&server.root())).await,
        200
    );
    let wrong = by(&server, &cookie, "GET", SESSIONS).signed(&server.root().with_wrong_secret());
    assert_eq!(status(&server, &wrong).await, 403);
    refused(&server, read.clone().header("authorization", "Bearer x"), 403, "Authorization method mismatch. The agent is configured for a different authorization method than what was used in your request.").await;
    refused(&server, read.clone().header("authorization", "Basic x"), 403, "Missing Authentication Token")
        .await;
    assert_eq!(status(&server, &with(&read, "cookie", &format!("{cookie}; {cookie}"))).await, 403);
    refused(&server, with(&read, "cookie", &format!("{cookie}x")), 401, ENDED).await;
}

#[tokio::test]
async fn who_signs_in_as_somebody_else_signs_out() {
    let server = InProcess::start("").await;
    user(&server, "ci", &Value::Null).await;
    set_password(&server, "ci").await;
    let password = json!({ "userName": "ci", "password": PASSWORD });
    let ci = login(&server, &password).await;
    let enter = async |cookie: &str, body: &Value| {
        let call = by(&server, cookie, "POST", &format!("{CONSOLE}/login")).body(body.to_string());
        let reply = call.send(&server.client).await;
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
        cookie_of(&reply)
    };
    let who = async |cookie: &str| {
        let me = by(&server, cookie, "GET", &format!("{CONSOLE}/me")).send(&server.client).await;
        me.json()["userName"].clone()
    };
    // As the same one, in another tab.
    let again = enter(&ci, &password).await;
    assert_eq!((who(&ci).await, who(&again).await), (json!("ci"), json!("ci")));
    let root = enter(&again, &json!({ "link": link(&server).await })).await;
    assert_eq!((who(&again).await, who(&root).await), (Value::Null, json!("root")));
    assert_eq!(who(&ci).await, json!("ci"), "another browser's");
    // What fails ends nothing.
    let call = by(&server, &root, "POST", &format!("{CONSOLE}/login"));
    refused(&server, call.body(json!({ "link": "x" }).to_string()), 403, WRONG).await;
    assert_eq!(who(&root).await, json!("root"));
}

#[tokio::test]
async fn logins_end_by_time_by_hand_and_with_their_user() {
    let clock = HandClock::new();
    let server = InProcess::start_at(
        "[console]\nlogin_idle_hours = 1\nlogin_max_days = 1\n",
        Arc::clone(&clock) as Arc<dyn Clock>,
    )
    .await;
    let cookie = root_login(&server).await;
    let read = |cookie: &str| by(&server, cookie, "GET", SESSIONS);
    for _ in 0..2 {
        clock.advance_s(3_599);
        assert_eq!(status(&server, &read(&cookie)).await, 200, "use keeps it");
    }
    clock.advance_s(3_600);
    refused(&server, read(&cookie), 401, ENDED).await;
    let cookie = root_login(&server).await;
    for _ in 0..24 {
        assert_eq!(status(&server, &read(&cookie)).await, 200);
        clock.advance_s(3_599);
    }
    clock.advance_s(24);
    refused(&server, read(&cookie), 401, "The login has ended; sign in again").await;

    // Logged out, a copy of it is worth nothing.
    let cookie = root_login(&server).await;
    let reply = by(&server, &cookie, "POST", &format!("{CONSOLE}/logout")).send(&server.client).await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("set-cookie")),
        (204, "__Host-clamshell=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict")
    );
    refused(&server, read(&cookie), 401, ENDED).await;
    assert_eq!(status(&server, &by(&server, &cookie, "POST", &format!("{CONSOLE}/logout"))).await, 204);

    // Of somebody else's logins a user sees and ends none.
    user(&server, "ci", &Value::Null).await;
    set_password(&server, "ci").await;
    let (one, two) = (root_login(&server).await, root_login(&server).await);
    let ci = login(&server, &json!({ "userName": "ci", "password": PASSWORD })).await;
    let logins = async |cookie: &str| {
        let reply = by(&server, cookie, "GET", &format!("{CONSOLE}/logins")).send(&server.client).await;
        reply.json()["logins"].as_array().unwrap().clone()
    };
    let (own, all) = (logins(&ci).await, logins(&one).await);
    assert_eq!((own.len(), all.len()), (1, 3));
    assert_eq!(
        (&own[0]["userName"], &own[0]["current"], &own[0]["sourceIp"]),
        (&json!("ci"), &json!(true), &json!("127.0.0.1"))
    );
    let current = all.iter().find(|login| login["current"] == true).unwrap()["loginId"].as_str().unwrap();
    let remove = |cookie: &str, id: &str| by(&server, cookie, "DELETE", &format!("{CONSOLE}/logins/{id}"));
    assert_eq!(status(&server, &remove(&ci, current)).await, 403);
    assert_eq!(status(&server, &remove(&ci, "login-none")).await, 403);
    assert_eq!(status(&server, &remove(&one, "login-none")).await, 404);
    assert_eq!(status(&server, &remove(&two, current)).await, 204);
    refused(&server, read(&one), 401, ENDED).await;
    // A user that is gone has no logins, nor has the next of its name.
    for key in Call::new("GET", "/clamshell/v1/keys").signed(&server.root()).send(&server.client).await.json()
        ["keys"]
        .as_array()
        .unwrap()
    {
        if key["userName"] == "ci" {
            let path = format!("/clamshell/v1/keys/{}", key["accessKeyId"].as_str().unwrap());
            assert_eq!(status(&server, &Call::new("DELETE", path).signed(&server.root())).await, 204);
        }
    }
    assert_eq!(status(&server, &by(&server, &two, "DELETE", "/clamshell/v1/users/ci")).await, 204);
    refused(&server, read(&ci), 401, ENDED).await;
    user(&server, "ci", &Value::Null).await;
    refused(&server, read(&ci), 401, ENDED).await;
    assert_eq!(try_login(&server, &json!({ "userName": "ci", "password": PASSWORD })).await.status, 403);
}

#[tokio::test]
async fn passwords_are_set_changed_and_guessed_slowly() {
    let clock = HandClock::new();
    let server = InProcess::start_at("", Arc::clone(&clock) as Arc<dyn Clock>).await;
    set_password(&server, "root").await;
    let sign_in = |name: &str, password: &str| json!({ "userName": name, "password": password });
    let cookie = login(&server, &sign_in("root", PASSWORD)).await;
    let change = |cookie: &str, current: &str, new: &str| {
        by(&server, cookie, "PUT", &format!("{CONSOLE}/password"))
            .body(json!({ "current": current, "new": new }).to_string())
    };
    let other = login(&server, &sign_in("root", PASSWORD)).await;
    refused(&server, change(&cookie, "wrong", "another good password"), 403, WRONG).await;
    assert_eq!(status(&server, &change(&cookie, PASSWORD, "short")).await, 400);
    assert_eq!(status(&server, &change(&cookie, PASSWORD, "another good password")).await, 204);
    assert_eq!(status(&server, &by(&server, &cookie, "GET", SESSIONS)).await, 200);
    refused(&server, by(&server, &other, "GET", SESSIONS), 401, ENDED).await;
    assert_eq!(try_login(&server, &sign_in("root", PASSWORD)).await.status, 403);
    let methods = page(&server, "GET", &format!("{CONSOLE}/me")).send(&server.client).await.json();
    assert_eq!(methods["methods"]["password"], true);

    // Whom nobody gave a password sets one soon after the link, and later not.
    user(&server, "ci", &Value::Null).await;
    let nobody = Call::new("PUT", "/clamshell/v1/users/none/password")
        .body(json!({ "password": PASSWORD }).to_string());
    assert_eq!(status(&server, &nobody.signed(&server.root())).await, 404);
    let signed = Call::new("PUT", format!("{CONSOLE}/password")).body(json!({ "new": PASSWORD }).to_string());
    refused(&server, signed.signed(&server.root()), 403, "Only a login of the console may do this").await;

    // Too many guesses: nobody signs in from here, not even with the right one, until the time is over.
    clock.advance_s(3_700);
    for _ in 0..5 {
        let reply = try_login(&server, &sign_in("ci", "a wrong password")).await;
        assert_eq!((reply.status.as_u16(), reply.json()), (403, message(WRONG)));
    }
    let locked = try_login(&server, &sign_in("root", "another good password")).await;
    assert_eq!((locked.status.as_u16(), locked.header("x-amzn-errortype")), (429, "ThrottlingException"));
    assert_eq!(locked.header("retry-after"), "30");
    // A link is nothing that anybody guesses: who waits for passwords opens one, and who tries links waits for nothing.
    root_login(&server).await;
    for _ in 0..70 {
        assert_eq!(show_link(&server, &"A".repeat(43)).await.status, 403);
        assert_eq!(try_login(&server, &json!({ "link": "A".repeat(43) })).await.status, 403);
    }
    let token = link(&server).await;
    login(&server, &json!({ "link": token })).await;
    // Nor does a restart let anybody guess on.
    let server = server.start_again("").await;
    clock.advance_s(29);
    let locked = try_login(&server, &sign_in("root", "another good password")).await;
    assert_eq!((locked.status.as_u16(), locked.header("retry-after")), (429, "1"));
    clock.advance_s(1);
    login(&server, &sign_in("root", "another good password")).await;

    for body in ["", "{}", "[]", r#"{"link":"a","userName":"b"}"#, r#"{"userName":"b"}"#, r#"{"link":1}"#] {
        let call = page(&server, "POST", &format!("{CONSOLE}/login")).body(body);
        assert_eq!(status(&server, &call).await, 400, "{body}");
    }
    let long = page(&server, "POST", &format!("{CONSOLE}/login")).body("x".repeat(20_000));
    assert_eq!(status(&server, &long).await, 400);
    // Neither is in what lies on the disk.
    for file in ["clamshell.db", "clamshell.db-wal"] {
        let bytes = std::fs::read(server.data_dir().join(file)).unwrap_or_default();
        for secret in [PASSWORD, "another good password", "a wrong password", token.as_str()] {
            assert!(
                !bytes.windows(secret.len()).any(|window| window == secret.as_bytes()),
                "{file}: {secret}"
            );
        }
    }
}

#[tokio::test]
async fn a_link_ends_after_ten_minutes_and_a_login_too_old_sets_no_first_password() {
    let clock = HandClock::new();
    let server = InProcess::start_at("", Arc::clone(&clock) as Arc<dyn Clock>).await;
    let late = link(&server).await;
    clock.advance_s(600);
    assert_eq!(try_login(&server, &json!({ "link": late })).await.status, 403);
    let cookie = root_login(&server).await;
    let first = by(&server, &cookie, "PUT", &format!("{CONSOLE}/password"))
        .body(json!({ "new": PASSWORD }).to_string());
    clock.advance_s(900);
    assert_eq!(status(&server, &first).await, 403);
    let cookie = root_login(&server).await;
    assert_eq!(status(&server, &with(&first, "cookie", &cookie)).await, 204);
}

#[tokio::test]
async fn further_names_are_configured_and_the_console_can_be_off() {
    let server = InProcess::start("[console]\nhosts = [\"agents.example.com\"]\n").await;
    let cookie = root_login(&server).await;
    let read = by(&server, &cookie, "GET", SESSIONS);
    // A proxy has taken TLS off.
    let proxied = with(&with(&read, "host", "agents.example.com"), "origin", "https://agents.example.com");
    assert_eq!(status(&server, &proxied).await, 200);
    assert_eq!(status(&server, &with(&proxied, "origin", "http://agents.example.com")).await, 403);
    assert_eq!(status(&server, &with(&proxied, "host", "www.agents.example.com")).await, 403);

    let server = server.start_again("[console]\nenabled = false\n").await;
    let off = "This server has no browser console: [console] enabled is false";
    refused(&server, page(&server, "GET", &format!("{CONSOLE}/me")), 404, off).await;
    refused(&server, page(&server, "POST", &format!("{CONSOLE}/login")).body("{}"), 404, off).await;
    refused(&server, Call::new("POST", format!("{CONSOLE}/links")).signed(&server.root()), 404, off).await;
    refused(&server, by(&server, &cookie, "GET", SESSIONS), 403, "Missing Authentication Token").await;
}
