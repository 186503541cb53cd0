//! `/ws`: frames to an agent and back, limits, ends.

use clamshell_domain::ServerProtocol;
use clamshell_testkit::{eventually, within};
use clamshell_wire::headers;
use futures_util::{SinkExt, StreamExt};
use http::Request;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        handshake::client::{Response, generate_key},
        protocol::frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};

use super::{FAILED, Fixture, session};
use crate::in_process::LIMIT;

type Socket = WebSocketStream<TcpStream>;

/// Upgrades with these headers and this query.
async fn open(fixture: &Fixture, query: &str, headers: &[(&str, &str)]) -> Result<(Socket, Response), Error> {
    let path = format!("{}{query}", fixture.client.runtime_path("ws"));
    let mut request =
        Request::builder().method("GET").uri(format!("ws://{}{path}", fixture.client.authority));
    for (name, value) in fixture.client.signed("GET", &path, headers, b"").unwrap() {
        request = request.header(name, value);
    }
    let key = generate_key();
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", key.as_str()),
    ] {
        request = request.header(name, value);
    }
    let stream = TcpStream::connect(&fixture.client.authority).await.unwrap();
    let opened = tokio_tungstenite::client_async(request.body(()).unwrap(), stream);
    within("upgrade", LIMIT, opened).await
}

async fn next(socket: &mut Socket) -> Message {
    within("message", LIMIT, socket.next()).await.unwrap().unwrap()
}

/// Reads until the close frame, and gives its code.
async fn close_code(socket: &mut Socket) -> u16 {
    loop {
        if let Message::Close(frame) = next(socket).await {
            return frame.map_or(1005, |frame| frame.code.into());
        }
    }
}

#[tokio::test]
async fn e2e_frames_go_through_as_they_are() {
    let Some(fixture) = Fixture::start(ServerProtocol::Http).await else { return };
    let id = session("ws");
    let query = format!(
        "?X-Amzn-Bedrock-AgentCore-Runtime-Session-Id={id}\
         &X-Amzn-Bedrock-AgentCore-Runtime-Custom-Team=b%20c&X-Amzn-Bedrock-AgentCore-Runtime-Custom-No=x&other=y"
    );
    let (mut socket, response) = open(&fixture, &query, &[]).await.unwrap();
    assert_eq!(response.headers()[headers::SESSION_ID], id);
    socket.send(Message::text("headers")).await.unwrap();
    let Message::Text(text) = next(&mut socket).await else { unreachable!("a text was asked for") };
    let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(seen["path"], "/ws");
    assert_eq!(seen["headers"]["x-amzn-bedrock-agentcore-runtime-custom-team"], "b c");
    assert_eq!(seen["headers"]["x-amzn-bedrock-agentcore-runtime-custom-no"], serde_json::Value::Null);
    assert_eq!(seen["headers"][headers::SESSION_ID], id.as_str());
    assert_eq!(seen["headers"]["authorization"], serde_json::Value::Null);

    socket.send(Message::binary(vec![1; 65_536])).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::text("82:65536"));
    let part =
        |bytes: &'static [u8], code, last| Message::Frame(Frame::message(bytes, OpCode::Data(code), last));
    socket.send(part(b"one", Data::Text, false)).await.unwrap();
    socket.send(Message::Ping("p".into())).await.unwrap();
    socket.send(part(b"two", Data::Continue, false)).await.unwrap();
    socket.send(part(b"", Data::Continue, true)).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Pong("p".into()));
    assert_eq!(next(&mut socket).await, Message::text("01:3 00:3 80:0"));
    socket.send(Message::text("parts")).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Ping("between".into()));
    assert_eq!(next(&mut socket).await, Message::text("ab"));
    socket.send(Message::text("bye")).await.unwrap();
    assert_eq!(close_code(&mut socket).await, 1000);
}

#[tokio::test]
async fn e2e_connections_have_limits() {
    let Some(fixture) = Fixture::start(ServerProtocol::AgUi).await else { return };
    let id = session("wslimits");
    let own = [(headers::SESSION_ID, id.as_str())];
    let (mut socket, _) = open(&fixture, "", &own).await.unwrap();
    socket.send(Message::binary(vec![0; 65_537])).await.unwrap();
    assert_eq!(close_code(&mut socket).await, 1009);
    let (mut socket, _) = open(&fixture, "", &own).await.unwrap();
    socket.send(Message::text("long")).await.unwrap();
    assert_eq!(close_code(&mut socket).await, 1009);
    let (mut socket, _) = open(&fixture, "", &own).await.unwrap();
    for _ in 0..300 {
        socket.feed(Message::text("x")).await.unwrap();
    }
    let _ = socket.flush().await;
    assert_eq!(close_code(&mut socket).await, 1008);
    // Who leaves is missed.
    let before = fixture.state(&id).await["gone"].as_u64().unwrap();
    let (socket, _) = open(&fixture, "", &own).await.unwrap();
    drop(socket);
    let gone = async || match fixture.state(&id).await["gone"].as_u64().unwrap() {
        count if count > before => Ok(()),
        count => Err(count),
    };
    eventually("the agent notices", LIMIT, gone).await;
    // A stop ends them all.
    let (mut socket, _) = open(&fixture, "", &own).await.unwrap();
    let path = fixture.client.runtime_path("stopruntimesession");
    let stop = async { fixture.client.request("POST", &path, &own, b"").await.unwrap().status };
    let (status, code) = tokio::join!(stop, close_code(&mut socket));
    assert_eq!((status.as_u16(), code), (200, 1001));
}

#[tokio::test]
async fn e2e_upgrades_that_nobody_takes_are_errors() {
    let Some(fixture) = Fixture::start(ServerProtocol::Http).await else { return };
    let id = session("wsrefuse");
    let check = async |headers: &[(&str, &str)], status: u16, text: &str| {
        let Err(Error::Http(response)) = open(&fixture, "", headers).await else {
            unreachable!("the upgrade is refused")
        };
        let body: serde_json::Value =
            serde_json::from_slice(response.body().as_deref().unwrap_or_default()).unwrap();
        assert_eq!((response.status().as_u16(), body["message"].as_str()), (status, Some(text)));
    };
    let refused = format!("Received error (403) {FAILED}");
    check(&[(headers::SESSION_ID, &id), ("x-mode", "refuse")], 424, &refused).await;
    let rule = "1 validation error detected: Value at 'runtimeSessionId' failed to satisfy constraint: \
        Member must have length greater than or equal to 33";
    check(&[(headers::SESSION_ID, "short")], 400, rule).await;
}
