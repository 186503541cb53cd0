//! InvokeAgentRuntimeWithWebSocketStream: a WebSocket between a client and an agent's `/ws` (`runtime.md` 6.7).
//!
//! The agent is asked first, so that its refusal is an ordinary error for the client. From the 101 on frames are relayed
//! as they are (`websocket/relay.rs`). An open connection on which nothing moves keeps no session alive.

mod frames;
mod relay;

use std::{sync::Arc, time::Duration};

use clamshell_domain::ServerProtocol;
use clamshell_wire::{
    AwsError, ErrorCode, headers,
    shell_request::{ShellRequest, custom_headers},
    subprotocol::BEARER_SUBPROTOCOL,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::{client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use self::relay::{End, Rules, relay};
use super::{
    ApiError, ApiRequest, commands,
    invocations::{self, add_custom, passes_authorization, reach, set, set_user, to_agent},
    response::Body,
    upgrade,
};
use crate::{
    app::App,
    connections::Connection,
    session::{AgentError, AgentHandle, Compute, Session},
};

/// Where an agent takes WebSockets.
const AGENT_PATH: &str = "/ws";

/// An agent that is ready has this long to answer an upgrade.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(30);

/// Last words, and the answer to a close frame, have this long.
const FAREWELL: Duration = Duration::from_secs(5);

/// Bytes of an agent's answer to an upgrade, at most.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Serves the operation up to the 101.
pub(super) async fn upgrade(
    request: ApiRequest<'_>,
    connection: Connection,
) -> Result<Response<Body>, ApiError> {
    let target = invocations::target(&request).await?;
    let Some(hosting) = &target.runtime.hosting else { return Err(AgentError::NoAgent.into()) };
    match hosting.protocol {
        ServerProtocol::Http | ServerProtocol::AgUi => {}
        ServerProtocol::Mcp | ServerProtocol::A2a => {
            let message = "Agent runtimes of the server protocols MCP and A2A have no WebSocket stream";
            return Err(AwsError::new(ErrorCode::Validation, message).into());
        }
    }
    let (app, request_id) = (request.app, request.request_id);
    let parts = &request.parts;
    let raw_query = parts.uri.query().unwrap_or_default();
    let named: Vec<(&str, &[u8])> =
        parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let asked = ShellRequest::parse(raw_query, &named)?;
    let session_id = commands::session_id(asked.session_id.as_deref())?;
    let mut passed = to_agent(&parts.headers, hosting, &session_id, request_id)?;
    add_custom(&mut passed, hosting, &custom_headers(raw_query)?)?;
    if let Some(token) = &asked.subprotocols.bearer
        && passes_authorization(hosting)
    {
        set(&mut passed, headers::AUTHORIZATION, &format!("Bearer {}", token.as_str()));
    }
    set_user(&request, &mut passed)?;
    let handshake = upgrade::handshake(request.parts)?;
    tracing::info!(request = %request_id, session = %session_id, "WebSocket stream");

    let (call, agent) = reach(app, &target, session_id).await?;
    let opened = tokio::time::timeout(UPGRADE_TIMEOUT, open(app, &agent, passed));
    let upstream = opened.await.unwrap_or(Err(ApiError::AgentFailed { status: 504 }))?;
    agent.mark_proven();
    let session = Arc::clone(call.session());
    let stream = Stream {
        app: Arc::clone(app),
        session: Arc::clone(&session),
        compute: call.compute.clone(),
        connection,
    };
    let mut response = handshake.accept_raw(app, move |client| stream.run(client, upstream));
    let out = response.headers_mut();
    set(out, headers::SESSION_ID, session.key().session_id.as_str());
    if asked.subprotocols.answer {
        out.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BEARER_SUBPROTOCOL));
    }
    Ok(response)
}

/// The agent's end of the connection, upgraded.
async fn open(app: &Arc<App>, agent: &AgentHandle, passed: HeaderMap) -> Result<TokioIo<Upgraded>, ApiError> {
    let stream = agent.connect().await?;
    let broken = |error: hyper::Error| {
        tracing::debug!(%error, "agent broke off an upgrade");
        ApiError::AgentFailed { status: 502 }
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(BUFFER_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // Ends when the upgrade has taken the connection over, or when `sender` is dropped.
    app.tasks.spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    let key = generate_key();
    let mut request = Request::new(Empty::<bytes::Bytes>::new().boxed_unsync());
    *request.uri_mut() = http::Uri::from_static(AGENT_PATH);
    let headers = request.headers_mut();
    *headers = passed;
    let host = format!("localhost:{}", agent.port());
    for (name, value) in [
        (header::HOST, host.as_str()),
        (header::CONNECTION, "Upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_VERSION, "13"),
        (header::SEC_WEBSOCKET_KEY, key.as_str()),
    ] {
        let value = HeaderValue::from_str(value).map_err(|_| ApiError::Internal("these are plain texts"))?;
        headers.insert(name, value);
    }
    let response = sender.send_request(request).await.map_err(broken)?;
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        agent.note(format!("upgrade of {AGENT_PATH} was answered with {}", status.as_u16()));
        return Err(ApiError::AgentFailed { status: status.as_u16() });
    }
    let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    let is_websocket = accepted.is_some_and(|value| value.as_bytes() == derive_accept_key(key.as_bytes()).as_bytes())
        // What was not offered cannot be agreed to.
        && !response.headers().contains_key(header::SEC_WEBSOCKET_EXTENSIONS);
    if !is_websocket {
        agent.note(format!("upgrade of {AGENT_PATH} was not answered with a WebSocket"));
        return Err(ApiError::AgentFailed { status: 502 });
    }
    hyper::upgrade::on(response).await.map(TokioIo::new).map_err(broken)
}

/// One connection.
struct Stream {
    app: Arc<App>,
    session: Arc<Session>,
    compute: Compute,
    connection: Connection,
}

impl Stream {
    async fn run(self, client: TokioIo<Upgraded>, agent: TokioIo<Upgraded>) {
        let app = &self.app;
        let rules = Rules {
            patience: Duration::from_millis(app.config.shells.stall_timeout_ms),
            farewell: FAREWELL,
            on_frame: || self.session.activity(app.now_ms()),
        };
        let time_to_live = Duration::from_millis(app.config.invocations.stream_timeout_ms);
        let stop = async {
            tokio::select! {
                () = tokio::time::sleep(time_to_live) => End::Close(1008, "connection time to live is over"),
                () = self.connection.revoked.cancelled() => End::Close(1008, "credentials are not active any more"),
                () = self.compute.ended.cancelled() => End::Close(1001, "session stopped"),
                () = app.shutdown.cancelled() => End::Close(1001, "server is restarting"),
            }
        };
        let end = relay(client, agent, rules, stop, &self.compute.ended).await;
        tracing::debug!(?end, "WebSocket stream ended");
        self.session.activity(app.now_ms());
    }
}
