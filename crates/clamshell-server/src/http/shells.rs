//! InvokeAgentRuntimeCommandShell: the upgrade (`runtime.md` 6.8). The connection itself is `relay.rs`.

use std::sync::Arc;

use clamshell_domain::ShellId;
use clamshell_protocol::{Access, AttachFrom, Reply, Request};
use clamshell_wire::{headers, shell_request::ShellRequest};
use http::{HeaderName, HeaderValue, Response};
use uuid::Uuid;

use super::{
    ApiError, ApiRequest,
    commands::session_id,
    relay::{Relay, Style},
    response::Body,
    upgrade,
};
use crate::{connections::Connection, environment, terminals};

/// What a returning client gets of the past (`runtime.md` section 10).
const REPLAY_BYTES: u64 = 256 * 1024;

/// Tells a client that it talks to Clamshell, and where the first replayed byte lies in the log.
pub(super) const SHELL_OFFSET: &str = "x-clamshell-shell-offset";

/// Serves the operation up to the 101.
pub(super) async fn upgrade(
    request: ApiRequest<'_>,
    connection: Connection,
) -> Result<Response<Body>, ApiError> {
    let ApiRequest { app, parts, request_id, params, .. } = request;
    let query = super::query(&parts)?;
    let named: Vec<(&str, &[u8])> =
        parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let asked = ShellRequest::parse(parts.uri.query().unwrap_or_default(), &named)?;
    let handshake = upgrade::handshake(parts)?;
    let session_id = session_id(asked.session_id.as_deref())?;
    let shell_id = match asked.shell_id {
        None => ShellId::parse(Uuid::new_v4().to_string())
            .map_err(|_| ApiError::Internal("a UUID is a shell id"))?,
        Some(text) => ShellId::parse(text)
            .map_err(|_| ApiError::Internal("the wire layer checks shell ids by the same rule"))?,
    };
    let target = app
        .called_target(
            &params.runtime,
            asked.qualifier.as_deref(),
            clamshell_wire::query::find(&query, "accountId"),
        )
        .await?;
    let key = target.session_key(session_id);
    tracing::info!(request = %request_id, session = %key.session_id, shell = %shell_id, "shell");

    let call = app.registry.call(key, Arc::clone(&target.runtime)).await?;
    let session = Arc::clone(call.session());
    let claim = session.claims().claim(&shell_id)?;
    let ask = |create| Request::Shell {
        shell_id: shell_id.to_string(),
        create,
        from: AttachFrom::Tail(REPLAY_BYTES),
        access: Access::Write,
        lead_bytes_max: None,
        answers_when_told: false,
    };
    let spec = environment::shell(&app.region, &app.config.shells, false);
    let settings = terminals::settings(app, &target.runtime.runtime_id, true).await?;
    let (reply, guest) = terminals::open(app, &call.compute.guest, Some(spec), settings, ask).await?;
    let Reply::Shell(opened) = reply else {
        return Err(ApiError::Internal("guest answered a shell with something else"));
    };
    // Bytes that no client was sent and that the replay does not reach back to.
    let lost = opened.from_offset.saturating_sub(opened.seen_offset.max(opened.run_offset));
    let lost = if opened.created { 0 } else { lost };
    claim.connected();
    let from_offset = opened.from_offset;
    let relay = Relay {
        app: Arc::clone(app),
        session: Arc::clone(&session),
        compute: call.compute.clone(),
        shell_id: shell_id.clone(),
        opened,
        access: Access::Write,
        style: Style::Aws { claim, lost },
        connection,
        writer: None,
    };
    let mut response = handshake.accept(app, move |socket| relay.run(socket, guest));
    let out = response.headers_mut();
    for (name, value) in [
        (headers::SHELL_ID, shell_id.to_string()),
        (headers::SESSION_ID, session.key().session_id.to_string()),
        (SHELL_OFFSET, from_offset.to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            out.insert(HeaderName::from_static(name), value);
        }
    }
    if asked.subprotocols.answer {
        out.insert(
            http::header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(clamshell_wire::subprotocol::BEARER_SUBPROTOCOL),
        );
    }
    Ok(response)
}
