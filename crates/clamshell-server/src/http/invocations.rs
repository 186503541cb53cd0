//! InvokeAgentRuntime: a request to an agent and its answer, byte for byte (`runtime.md` 6.2).
//!
//! The request is taken in whole, because its signature covers all of it; the answer is passed on piece by piece. An agent
//! that answers with an error is told of as one error, whatever it said: its words are in the runtime's log.

mod answer;
mod mcp;
mod passed;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use clamshell_domain::{Artifact, Hosting, Runtime, ServerProtocol, SessionId};
use clamshell_wire::{generated::data::InvokeAgentRuntimeRequest, headers};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use hyper::body::Body as _;
use tokio::time::Instant;

pub(super) use self::passed::{TRACE, add_content, add_custom, passes_authorization, set, to_agent};
use self::{
    answer::{ANSWER_BYTES_MAX, Answer, AnswerRules},
    mcp::McpSession,
};
use super::{
    ApiError, ApiRequest,
    access::Caller,
    envelope::{EVENT_STREAM, Envelope},
    response::Body,
    spool::Payload,
};
use crate::{
    app::{App, Target},
    session::{AgentAnswer, AgentError, AgentHandle, Call, CallError},
};

/// Between two attempts on an agent that has not finished starting (`runtime.md` 6.2).
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Serves the operation. The payload belongs to a request whose caller is known.
pub(super) async fn invoke(request: ApiRequest<'_>, payload: &Payload) -> Result<Response<Body>, ApiError> {
    let short = payload.short().map(|body| &body[..]);
    let target = match target(&request).await {
        Ok(target) => target,
        Err(error) => return Err(worded(&request, error, short).await),
    };
    let Some(hosting) = &target.runtime.hosting else { return Err(AgentError::NoAgent.into()) };
    if hosting.protocol == ServerProtocol::Mcp && !mcp::accepts(&request.parts.headers) {
        return Ok(Envelope::not_acceptable(short));
    }
    let served = serve(&request, &target, hosting, payload).await;
    served.map_err(|error| error.within(Envelope::of(hosting.protocol, short)))
}

async fn serve(
    request: &ApiRequest<'_>,
    target: &Target,
    hosting: &Hosting,
    payload: &Payload,
) -> Result<Response<Body>, ApiError> {
    let from = &request.parts.headers;
    // The body was held to its limit when it was taken in.
    let asked: InvokeAgentRuntimeRequest = request.input(&Bytes::new())?;
    let runtime_session = asked.runtime_session_id.as_deref();
    let session = match hosting.protocol {
        ServerProtocol::Mcp => McpSession::of(runtime_session, asked.mcp_session_id.as_deref())?,
        ServerProtocol::Http | ServerProtocol::A2a | ServerProtocol::AgUi => {
            McpSession::of(runtime_session, None)?
        }
    };
    let mut to_agent = to_agent(from, hosting, &session.session_id, request.request_id)?;
    set_user(request, &mut to_agent)?;
    add_content(&mut to_agent, from, hosting);
    if let Some(id) = &session.for_agent {
        set(&mut to_agent, headers::MCP_SESSION_ID, id);
    }
    // At busy times a line for each would be most of the log.
    tracing::debug!(
        request = %request.request_id, session = %session.session_id, bytes = payload.length(), "invocation"
    );
    let asked = Asked { method: Method::POST, path: &hosting.path, headers: to_agent, payload };
    let answered = ask(request.app, target, session.session_id.clone(), &asked).await?;
    let issued = answered.response.headers().get(headers::MCP_SESSION_ID).cloned();
    let version = answered.response.headers().get(headers::MCP_PROTOCOL_VERSION).cloned();
    let mut response = answered.into_response(request.app, hosting.protocol)?;
    let out = response.headers_mut();
    if hosting.protocol == ServerProtocol::Mcp {
        set(out, headers::MCP_SESSION_ID, &session.for_client(issued.as_ref())?);
        let version = version.or_else(|| from.get(headers::MCP_PROTOCOL_VERSION).cloned());
        if let Some(version) = version {
            out.insert(HeaderName::from_static(headers::MCP_PROTOCOL_VERSION), version);
        }
    }
    echo_trace(from, out);
    Ok(response)
}

/// The runtime and endpoint that were meant.
///
/// # Errors
/// [`ApiError::RuntimeNotFound`] and others of what is not here.
pub(super) async fn target(request: &ApiRequest<'_>) -> Result<Target, ApiError> {
    // What its caller was allowed to call, if it was found then.
    if let Some(target) = request.caller.as_ref().and_then(Caller::target) {
        return Ok(target.clone());
    }
    let query = request.query()?;
    let find = |name| clamshell_wire::query::find(&query, name);
    request.app.called_target(&request.params.runtime, find("qualifier"), find("accountId")).await
}

/// With a token it says who the user is, and nothing else does.
pub(super) fn set_user(request: &ApiRequest<'_>, out: &mut HeaderMap) -> Result<(), ApiError> {
    let caller = request.caller()?;
    if caller.token().is_some() {
        out.remove(headers::USER_ID);
        set(out, headers::USER_ID, caller.token_subject().unwrap_or_default());
    }
    Ok(())
}

/// A refusal of a caller, in the words of the protocol that the runtime speaks. Those who have not even the name of a key
/// cost the store nothing.
pub(super) async fn refused(request: &ApiRequest<'_>, error: ApiError) -> ApiError {
    if matches!(error, ApiError::UnknownAccessKey | ApiError::Signature(_)) {
        return error;
    }
    worded(request, error, None).await
}

/// An error in the words of the protocol that the runtime speaks: by its newest version where the endpoint is not there.
/// `body` is the request's, if it is at hand.
pub(super) async fn worded(request: &ApiRequest<'_>, error: ApiError, body: Option<&[u8]>) -> ApiError {
    let protocol = match target(request).await {
        Ok(target) => target.runtime.hosting.as_ref().map(|hosting| hosting.protocol),
        Err(_) => request.app.protocol_of(&request.params.runtime).await,
    };
    match protocol {
        Some(protocol) => error.within(Envelope::of(protocol, body)),
        None => error,
    }
}

/// Gives a caller its trace headers back.
pub(super) fn echo_trace(from: &HeaderMap, out: &mut HeaderMap) {
    for name in TRACE {
        if let Some(value) = from.get(name) {
            out.insert(HeaderName::from_static(name), value.clone());
        }
    }
}

/// What an agent is asked.
pub(super) struct Asked<'a> {
    pub(super) method: Method,
    /// Path, with a query if there is one.
    pub(super) path: &'a str,
    pub(super) headers: HeaderMap,
    pub(super) payload: &'a Payload,
}

impl Asked<'_> {
    fn request(&self) -> Result<Request<crate::session::AgentBody>, ApiError> {
        let mut request = Request::new(self.payload.body());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() =
            self.path.parse().map_err(|_| ApiError::Internal("path of a runtime is no path"))?;
        request.headers_mut().clone_from(&self.headers);
        if self.method != Method::GET {
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(self.payload.length()));
        }
        Ok(request)
    }
}

/// A good answer, up to its headers.
pub(super) struct Answered {
    call: Call,
    agent: AgentHandle,
    response: Response<AgentAnswer>,
    began: Instant,
}

/// Asks the agent of a session, which is made or woken for it.
///
/// # Errors
/// Every one of a session that cannot serve; [`ApiError::AgentFailed`] for an answer that is an error.
pub(super) async fn ask(
    app: &Arc<App>,
    target: &Target,
    session_id: SessionId,
    asked: &Asked<'_>,
) -> Result<Answered, ApiError> {
    let (call, agent) = reach(app, target, session_id).await?;
    let began = Instant::now();
    let limit = Duration::from_millis(app.config.invocations.sync_timeout_ms);
    match tokio::time::timeout_at(began + limit, attempts(&call, &agent, asked)).await {
        Ok(response) => Ok(Answered { response: response?, call, agent, began }),
        Err(_) => {
            agent.note(format!("request was not answered within {} s", limit.as_secs()));
            Err(ApiError::AgentFailed { status: 504 })
        }
    }
}

/// The agent of a session, ready.
///
/// # Errors
/// As [`ask`].
pub(super) async fn reach(
    app: &Arc<App>,
    target: &Target,
    session_id: SessionId,
) -> Result<(Call, AgentHandle), ApiError> {
    let key = target.session_key(session_id);
    let call = match app.registry.call(key, Arc::clone(&target.runtime)).await {
        Ok(call) => call,
        Err(error @ CallError::StartFailed { .. }) => {
            tracing::warn!(error = super::chain(&error), "session could not be started");
            return Err(ApiError::InitializationExceeded { limit_s: start_limit_s(&target.runtime) });
        }
        Err(error) => return Err(error.into()),
    };
    match call.agent().await {
        Ok(agent) => Ok((call, agent)),
        Err(AgentError::NoAgent) => Err(AgentError::NoAgent.into()),
        Err(error @ AgentError::Ended) => Err(error.into()),
        Err(
            error @ (AgentError::StartTimeout { .. }
            | AgentError::StartFailed { .. }
            | AgentError::Exited { .. }
            | AgentError::Unreachable),
        ) => {
            tracing::info!(error = super::chain(&error), "agent did not start");
            Err(ApiError::InitializationExceeded { limit_s: start_limit_s(&target.runtime) })
        }
    }
}

/// What people are told of the limit; the agent's own module enforces it.
fn start_limit_s(runtime: &Runtime) -> u64 {
    match runtime.artifact {
        Artifact::Code { .. } => 30,
        Artifact::Host | Artifact::Directory { .. } | Artifact::Oci { .. } | Artifact::Image { .. } => 120,
    }
}

async fn attempts(
    call: &Call,
    agent: &AgentHandle,
    asked: &Asked<'_>,
) -> Result<Response<AgentAnswer>, ApiError> {
    loop {
        let response = agent.request(asked.request()?).await?;
        let status = response.status();
        if !status.is_server_error() {
            agent.mark_proven();
            return if status.is_success() {
                Ok(response)
            } else {
                Err(ApiError::AgentFailed { status: status.as_u16() })
            };
        }
        if !agent.is_fresh() {
            return Err(ApiError::AgentFailed { status: status.as_u16() });
        }
        drop(response);
        let next = Instant::now() + RETRY_PAUSE;
        if next >= agent.start_deadline() {
            return Err(ApiError::InitializationExceeded { limit_s: agent.start_limit_s() });
        }
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = call.compute.ended.cancelled() => return Err(AgentError::Ended.into()),
        }
    }
}

impl Answered {
    /// The answer for the caller, with the headers that every protocol has.
    ///
    /// # Errors
    /// [`ApiError::AgentFailed`] when it announces more bytes than an answer may have.
    pub(super) fn into_response(
        self,
        app: &App,
        protocol: ServerProtocol,
    ) -> Result<Response<Body>, ApiError> {
        let Self { call, agent, response, began } = self;
        let (parts, incoming) = response.into_parts();
        let length = incoming.size_hint();
        if length.lower() > ANSWER_BYTES_MAX {
            return Err(ApiError::AnswerTooLong);
        }
        let content_type = parts
            .headers
            .get(header::CONTENT_TYPE)
            .cloned()
            .unwrap_or_else(|| HeaderValue::from_static("application/octet-stream"));
        let is_events = content_type
            .as_bytes()
            .get(..EVENT_STREAM.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM.as_bytes()));
        let limits = app.config.invocations;
        let limit_ms = match is_events || length.exact().is_none() {
            true => limits.stream_timeout_ms,
            false => limits.sync_timeout_ms,
        };
        // Neither a length nor a last piece says where such an answer ends.
        let ends_with_connection = length.exact().is_none() && !is_chunked(&parts.headers);
        let session_id = call.session().key().session_id.clone();
        let rules = AnswerRules {
            deadline: began + Duration::from_millis(limit_ms),
            is_events,
            tells: is_events && protocol == ServerProtocol::AgUi,
        };
        let mut response =
            Response::new(Answer::body(app, call, incoming, rules, ends_with_connection.then_some(agent)));
        *response.status_mut() = parts.status;
        let out = response.headers_mut();
        out.insert(header::CONTENT_TYPE, content_type);
        // Nobody is asked for it, and without it the bytes would mean something else.
        if let Some(encoding) = parts.headers.get(header::CONTENT_ENCODING) {
            out.insert(header::CONTENT_ENCODING, encoding.clone());
        }
        set(out, headers::SESSION_ID, session_id.as_str());
        Ok(response)
    }
}

fn is_chunked(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::TRANSFER_ENCODING).iter().next_back();
    let last = codings.and_then(|value| value.to_str().ok()?.rsplit(',').next().map(str::trim));
    last.is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
}
