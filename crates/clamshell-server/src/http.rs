//! HTTP: from a connection to a handler and back. Both AWS planes and the extension API share one
//! listener; routing happens on the raw path, because ARNs arrive as one escaped segment.

mod access;
mod agent_card;
mod auth;
mod commands;
mod control_error;
mod endpoints;
mod envelope;
mod error;
mod events;
mod extension;
mod idempotency;
mod invocations;
mod login;
mod objects;
mod page;
mod pages;
mod protected_resource;
mod relay;
mod request_ids;
mod resource_policies;
mod response;
mod runtimes;
mod shells;
mod spool;
mod stop;
mod tags;
mod trail;
mod upgrade;
mod websocket;

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use clamshell_wire::{
    Input, Operation, RequestParts, decode,
    route::{self, PathParams, Route, RouteError},
};
use http::{HeaderValue, Method, Request, Response, header, request::Parts};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tracing::Instrument;
use uuid::Uuid;

use access::{Asked, Caller};
pub(crate) use access::{Peer, PolicyCache, share::is_backed};
pub(crate) use control_error::ControlError;
pub(crate) use error::{ApiError, chain};
pub use extension::EXTENSION_ROUTES;
pub(crate) use extension::generate_key;
pub(crate) use idempotency::ANSWER_MS;
pub(crate) use request_ids::RequestIds;
use response::Body;
pub(crate) use spool::Spool;

use crate::{
    app::{App, Target},
    connections::Connection,
};

/// Largest body of an operation that takes JSON: a command of 64 KiB, every character of it escaped, with room.
const JSON_BODY_BYTES_MAX: usize = 512 * 1024;

/// A longer body is read and thrown away up to here, because a client that is still sending when the connection closes
/// never sees why.
const DISCARDED_BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A body has this long to arrive: the longest one at 17 KB/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers one request; never fails.
pub(crate) async fn handle(
    app: Arc<App>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let request_id = app.request_ids.next();
    let trail = trail::Trail::default();
    request.extensions_mut().insert(trail.clone());
    let recorder = trail::Recorder::new(&app, trail, request_id);
    let of_own_page = login::is_offered(request.headers()) || access::share::is_offered(request.headers());
    let mut code = None;
    let span = tracing::info_span!("request", id = %request_id, method = %request.method());
    let response = dispatch(&app, request, request_id).instrument(span.clone()).await;
    let response = response.unwrap_or_else(|error| {
        let _entered = span.enter();
        let aws = error.to_aws();
        code = Some(aws.code.name());
        let challenge = error.challenge().and_then(|challenge| HeaderValue::from_str(challenge).ok());
        if aws.code.status() >= 500 {
            tracing::error!(error = chain(&error), "request failed");
        } else {
            tracing::debug!(error = chain(&error), code = aws.code.name(), "request refused");
        }
        let retry_after_s = error.retry_after_s();
        let mut response = error.envelope().response(&aws);
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = challenge {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    });
    recorder.answered(response.status(), code).await;
    let response = if of_own_page { response::of_own_page(response) } else { response };
    Ok(response::finish(response, request_id))
}

async fn dispatch(
    app: &Arc<App>,
    request: Request<Incoming>,
    request_id: Uuid,
) -> Result<Response<Body>, ApiError> {
    if request.method() == Method::OPTIONS {
        return Ok(response::preflight(request.headers()));
    }
    let (parts, body) = request.into_parts();
    if let Some(page) = page::serve(&parts) {
        crate::console::guard::for_this_server(app, &parts)?;
        return Ok(page);
    }
    if app.web.is_some() && !parts.uri.path().starts_with(route::EXTENSION_PREFIX) {
        // Sandboxes are elsewhere, and nobody gets there through here but by the calls of the extension API.
        return Ok(refuse_route(&RouteError::UnknownOperation));
    }
    if objects::is_for_objects(&parts) {
        return Ok(objects::serve(app, Request::from_parts(parts, body)).await);
    }
    let route = match route::route(parts.method.as_str(), parts.uri.path()) {
        Ok(route) => route,
        Err(error) => return Ok(refuse_route(&error)),
    };
    match route {
        Route::Extension(rest) => {
            let rest = rest.to_owned();
            extension::handle(app, &rest, parts, body).await
        }
        Route::Operation(operation, params) => {
            let request = ApiRequest { app, parts, request_id, params, operation, caller: None };
            request.serve(operation, body).await
        }
    }
}

fn refuse_route(error: &RouteError) -> Response<Body> {
    let mut response = response::aws_error(&error.aws_error());
    if let Some(allow) = error.allow().and_then(|allow| HeaderValue::from_str(&allow).ok()) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

/// A request of an AWS operation, on its way to the handler.
pub(crate) struct ApiRequest<'a> {
    pub(crate) app: &'a Arc<App>,
    pub(crate) parts: Parts,
    pub(crate) request_id: Uuid,
    pub(crate) params: PathParams,
    pub(crate) operation: Operation,
    /// Who asks, and may; known once the request's body or connection was taken.
    caller: Option<Caller>,
}

/// Takes the body of a signed request whole, once its caller may make it, and gives both to the handler.
macro_rules! signed {
    ($request:ident, $body:ident, $handler:path) => {{
        let body = $request.signed_body($body).await?;
        $handler($request, &body).await
    }};
}

impl ApiRequest<'_> {
    async fn serve(mut self, operation: Operation, body: Incoming) -> Result<Response<Body>, ApiError> {
        match operation {
            Operation::InvokeAgentRuntimeCommandShell => {
                let connection = self.admitted_connection().await?;
                shells::upgrade(self, connection).await
            }
            Operation::InvokeAgentRuntimeCommand => signed!(self, body, commands::run),
            Operation::StopRuntimeSession => signed!(self, body, stop::stop),
            Operation::CreateAgentRuntime => signed!(self, body, runtimes::create),
            Operation::GetAgentRuntime => signed!(self, body, runtimes::get),
            Operation::UpdateAgentRuntime => signed!(self, body, runtimes::update),
            Operation::DeleteAgentRuntime => signed!(self, body, runtimes::delete),
            Operation::ListAgentRuntimes => signed!(self, body, runtimes::list),
            Operation::ListAgentRuntimeVersions => signed!(self, body, runtimes::list_versions),
            Operation::CreateAgentRuntimeEndpoint => signed!(self, body, endpoints::create),
            Operation::GetAgentRuntimeEndpoint => signed!(self, body, endpoints::get),
            Operation::UpdateAgentRuntimeEndpoint => signed!(self, body, endpoints::update),
            Operation::DeleteAgentRuntimeEndpoint => signed!(self, body, endpoints::delete),
            Operation::ListAgentRuntimeEndpoints => signed!(self, body, endpoints::list),
            Operation::TagResource => signed!(self, body, tags::tag),
            Operation::UntagResource => signed!(self, body, tags::untag),
            Operation::ListTagsForResource => signed!(self, body, tags::list),
            Operation::PutResourcePolicy => signed!(self, body, resource_policies::put),
            Operation::GetResourcePolicy => signed!(self, body, resource_policies::get),
            Operation::DeleteResourcePolicy => signed!(self, body, resource_policies::delete),
            Operation::InvokeAgentRuntime => {
                let payload = match self.admitted_payload(body).await {
                    Ok(payload) => payload,
                    Err(error) => return Err(invocations::refused(&self, error).await),
                };
                invocations::invoke(self, &payload).await
            }
            Operation::GetAgentCard => {
                if let Err(error) = self.signed_body(body).await {
                    return Err(invocations::refused(&self, error).await);
                }
                agent_card::get(self).await
            }
            Operation::InvokeAgentRuntimeWithWebSocketStream => {
                let connection = self.admitted_connection().await?;
                websocket::upgrade(self, connection).await
            }
            // Open to everybody.
            Operation::GetRuntimeProtectedResourceMetadata => protected_resource::get(self).await,
        }
    }

    async fn signed_body(&mut self, body: Incoming) -> Result<Bytes, ApiError> {
        let asked = Asked::Operation(self.operation, &self.params);
        let (caller, body) = auth::authenticate_body(self.app, &self.parts, body, &asked).await?;
        self.caller = Some(caller);
        Ok(body)
    }

    async fn admitted_payload(&mut self, body: Incoming) -> Result<spool::Payload, ApiError> {
        let asked = Asked::Operation(self.operation, &self.params);
        let (caller, payload) = spool::authenticate_payload(self.app, &self.parts, body, &asked).await?;
        self.caller = Some(caller);
        Ok(payload)
    }

    async fn admitted_connection(&mut self) -> Result<Connection, ApiError> {
        let asked = Asked::Operation(self.operation, &self.params);
        let (caller, connection) = auth::authenticate_connection(self.app, &self.parts, &asked).await?;
        self.caller = Some(caller);
        Ok(connection)
    }

    /// The runtime and endpoint that a call of the data plane names: those that its caller was allowed to call.
    ///
    /// # Errors
    /// As [`App::called_target`].
    pub(crate) async fn target(&self, query: &[(String, String)]) -> Result<Target, ApiError> {
        if let Some(target) = self.caller.as_ref().and_then(Caller::target) {
            return Ok(target.clone());
        }
        let find = |name| clamshell_wire::query::find(query, name);
        self.app.called_target(&self.params.runtime, find("qualifier"), find("accountId")).await
    }

    /// Who asks, and may.
    ///
    /// # Errors
    /// [`ApiError::Internal`] before the request's body or connection was taken.
    pub(crate) fn caller(&self) -> Result<&Caller, ApiError> {
        self.caller.as_ref().ok_or(ApiError::Internal("a request was served before it was allowed"))
    }

    /// The session id as the caller sent it, if at all.
    ///
    /// # Errors
    /// A `ValidationException` for bytes that are no text: taken for absent they would mean a new session.
    pub(crate) fn session_header(&self) -> Result<Option<&str>, ApiError> {
        let Some(value) = self.parts.headers.get(clamshell_wire::headers::SESSION_ID) else {
            return Ok(None);
        };
        std::str::from_utf8(value.as_bytes()).map(Some).map_err(|_| {
            clamshell_wire::AwsError::invalid_field("runtimeSessionId", "Member must be UTF-8 text").into()
        })
    }

    /// The input of the operation, held to every limit of the model.
    ///
    /// # Errors
    /// A `ValidationException` that names what is wrong.
    fn input<T: Input>(&self, body: &Bytes) -> Result<T, ApiError> {
        let query = self.query()?;
        let header = |name: &str| self.parts.headers.get(name).map(HeaderValue::as_bytes);
        let parts = RequestParts { path: &self.params, query: &query, header: &header, body };
        decode(&parts).map_err(|error| ApiError::Wire(error.aws_error()))
    }

    /// The query, decoded.
    pub(crate) fn query(&self) -> Result<Vec<(String, String)>, ApiError> {
        query(&self.parts)
    }
}

/// The decoded query of a request.
pub(crate) fn query(parts: &Parts) -> Result<Vec<(String, String)>, ApiError> {
    clamshell_wire::query::parse(parts.uri.query().unwrap_or_default())
        .map_err(|_| ApiError::Wire(clamshell_wire::AwsError::cannot_parse("The query string is not valid.")))
}

/// Reads a bounded body.
async fn read_body(body: Incoming) -> Result<Bytes, ApiError> {
    let mut kept = BytesMut::new();
    let read = receive(body, |seen, data| {
        if seen <= JSON_BODY_BYTES_MAX {
            kept.extend_from_slice(data);
        } else {
            kept.clear();
        }
    });
    let seen = tokio::time::timeout(BODY_TIMEOUT, read).await.unwrap_or(Err(ApiError::BodyIncomplete))?;
    if seen > JSON_BODY_BYTES_MAX { Err(ApiError::BodyTooLong) } else { Ok(kept.freeze()) }
}

/// Reads a body of somebody unknown, of at most `bytes_max`.
async fn read_short_body(body: Incoming, bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut kept = BytesMut::new();
    let read = receive(body, |seen, data| {
        if seen <= bytes_max {
            kept.extend_from_slice(data);
        }
    });
    let seen = tokio::time::timeout(BODY_TIMEOUT, read).await.unwrap_or(Err(ApiError::BodyIncomplete))?;
    if seen > bytes_max { Err(ApiError::BodyTooLong) } else { Ok(kept.freeze()) }
}

/// Takes the body of a request that is refused whatever it says.
async fn discard_body(body: Incoming) {
    // A body that stops in the middle changes nothing about the refusal.
    let _ = tokio::time::timeout(BODY_TIMEOUT, receive(body, |_, _| {})).await;
}

/// Feeds a body to `sink`, piece by piece with the bytes seen so far, and gives their number.
async fn receive(mut body: Incoming, mut sink: impl FnMut(usize, &[u8])) -> Result<usize, ApiError> {
    let mut seen = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| ApiError::BodyIncomplete)?.into_data() else { continue };
        seen = seen.saturating_add(data.len());
        sink(seen, &data);
        if seen > DISCARDED_BODY_BYTES_MAX {
            break;
        }
    }
    Ok(seen)
}
