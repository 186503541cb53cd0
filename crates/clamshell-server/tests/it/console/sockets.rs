//! WebSockets by cookie: opened by our page alone, closed with the login.

use std::sync::Arc;

use clamshell_domain::Clock;
use clamshell_testkit::within;
use futures_util::StreamExt;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use super::{CONSOLE, HandClock, by, login, root_login, set_password, status};
use crate::{
    access::user,
    calls::{Call, SESSION},
    in_process::{InProcess, LIMIT, sandboxes},
};

/// Sessions that outlive logins.
const CONFIGURATION: &str = "standby = false\n[console]\nlogin_max_days = 1\n[runtimes.default]\n\
    idle_timeout_s = 1000000\nmax_lifetime_s = 1000000\n";

async fn open(server: &InProcess, cookie: &str, path: &str) -> WebSocketStream<TcpStream> {
    let mut request = http::Request::builder()
        .uri(format!("ws://{}{path}", server.client.authority))
        .header("host", &server.client.authority)
        .header("origin", &server.info.endpoint)
        .header("cookie", cookie)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    if path.starts_with("/runtimes") {
        request = request.header("x-amzn-bedrock-agentcore-runtime-session-id", SESSION);
    }
    let stream = TcpStream::connect(&server.client.authority).await.unwrap();
    tokio_tungstenite::client_async(request.body(()).unwrap(), stream).await.unwrap().0
}

/// The code that a socket is closed with.
async fn closed(mut socket: WebSocketStream<TcpStream>) -> u16 {
    let code = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map_or(1005, |frame| frame.code.into()),
                Some(Ok(_)) => {}
                _ => return 1006,
            }
        }
    };
    within("socket is closed", LIMIT, code).await
}

#[tokio::test]
async fn sockets_end_with_their_login() {
    let Some(()) = sandboxes() else { return };
    let clock = HandClock::new();
    let server = InProcess::start_at(CONFIGURATION, Arc::clone(&clock) as Arc<dyn Clock>).await;
    let attach = |shell: &str| format!("/clamshell/v1/sessions/{SESSION}/shells/{shell}/attach?create=true");
    let shells = server.client.runtime_path("ws/shells");
    // Signed out: both kinds of sockets, and not those of another login.
    let (one, two) = (root_login(&server).await, root_login(&server).await);
    let sockets = [open(&server, &one, &attach("a")).await, open(&server, &one, &shells).await];
    let other = open(&server, &two, &attach("b")).await;
    assert_eq!(status(&server, &by(&server, &one, "POST", &format!("{CONSOLE}/logout"))).await, 204);
    for socket in sockets {
        assert_eq!(closed(socket).await, 1008);
    }
    // Ended by somebody else.
    let all = by(&server, &two, "GET", &format!("{CONSOLE}/logins")).send(&server.client).await.json();
    let id = all["logins"][0]["loginId"].as_str().unwrap();
    let remove = Call::new("DELETE", format!("{CONSOLE}/logins/{id}")).signed(&server.root());
    assert_eq!(status(&server, &remove).await, 204);
    assert_eq!(closed(other).await, 1008);

    // Taken back what the user may do: the login stays.
    user(&server, "ci", &json!([{ "Effect": "Allow", "Action": "*", "Resource": "*" }])).await;
    set_password(&server, "ci").await;
    let ci = login(&server, &json!({ "userName": "ci", "password": super::PASSWORD })).await;
    let socket = open(&server, &ci, &attach("c")).await;
    let role = Call::new("PUT", "/clamshell/v1/users/ci/console-role").body(r#"{"role":"viewer"}"#);
    assert_eq!(status(&server, &role.signed(&server.root())).await, 200);
    assert_eq!(closed(socket).await, 1008);
    let me = by(&server, &ci, "GET", &format!("{CONSOLE}/me")).send(&server.client).await.json();
    assert_eq!(me["signedIn"], true);

    // The time is over, although it was used all the time.
    let socket = open(&server, &ci, &attach("c")).await;
    clock.advance_s(86_400);
    assert_eq!(closed(socket).await, 1008);
}
