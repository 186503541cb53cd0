//! The WebSocket handshake. Clients in the field send some headers twice; the first one counts
//! (`runtime.md` section 3).

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use super::{
    ApiError,
    relay::websocket_config,
    response::{self, Body},
};
use crate::app::App;

/// A checked upgrade request.
pub(super) struct Handshake {
    accept: HeaderValue,
    upgrade: OnUpgrade,
}

/// Checks the headers of a WebSocket upgrade.
///
/// # Errors
/// [`ApiError::Upgrade`].
pub(super) fn handshake(parts: Parts) -> Result<Handshake, ApiError> {
    let headers = &parts.headers;
    if parts.version != http::Version::HTTP_11 {
        return Err(ApiError::Upgrade("WebSocket upgrade needs HTTP/1.1"));
    }
    if !has_token(headers, header::CONNECTION, "upgrade") || !has_token(headers, header::UPGRADE, "websocket")
    {
        return Err(ApiError::Upgrade("Request must be a WebSocket upgrade"));
    }
    let version = headers.get(header::SEC_WEBSOCKET_VERSION);
    if version.is_none_or(|version| version.as_bytes() != b"13") {
        return Err(ApiError::Upgrade("WebSocket version must be 13"));
    }
    let key = headers.get(header::SEC_WEBSOCKET_KEY);
    let key = key.filter(|key| key.len() <= 64).ok_or(ApiError::Upgrade("Sec-WebSocket-Key is missing"))?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| ApiError::Internal("accept key is base64"))?;
    let mut request = Request::from_parts(parts, ());
    Ok(Handshake { accept, upgrade: hyper::upgrade::on(&mut request) })
}

impl Handshake {
    /// Answers 101 and, once the connection is a WebSocket, serves it in a task of the server.
    pub(super) fn accept<F, S>(self, app: &Arc<App>, serve: S) -> Response<Body>
    where
        F: Future<Output = ()> + Send + 'static,
        S: FnOnce(WebSocketStream<TokioIo<Upgraded>>) -> F + Send + 'static,
    {
        self.accept_raw(app, move |io| async move {
            let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(websocket_config()));
            serve(socket.await).await;
        })
    }

    /// As [`Handshake::accept`], for whoever reads and writes the frames itself.
    pub(super) fn accept_raw<F, S>(self, app: &Arc<App>, serve: S) -> Response<Body>
    where
        F: Future<Output = ()> + Send + 'static,
        S: FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
    {
        let upgrade = self.upgrade;
        app.tasks.spawn(async move {
            match upgrade.await {
                Ok(upgraded) => serve(TokioIo::new(upgraded)).await,
                Err(error) => tracing::debug!(%error, "client left during the upgrade"),
            }
        });
        let mut response = response::empty(StatusCode::SWITCHING_PROTOCOLS);
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept);
        response
    }
}

/// Whether a header that is a list has this member.
pub(super) fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}
