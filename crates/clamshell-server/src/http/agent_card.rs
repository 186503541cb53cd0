//! GetAgentCard: what an A2A agent says of itself (`runtime.md` 6.4).

use bytes::Bytes;
use clamshell_domain::ServerProtocol;
use clamshell_wire::AwsError;
use http::{Method, Response, header};

use super::{
    ApiError, ApiRequest, commands,
    envelope::Envelope,
    invocations::{self, Asked, ask, echo_trace, set_user, to_agent},
    response::Body,
    spool::Payload,
};
use crate::{app::Target, session::AgentError};

/// Where an agent has its card.
const CARD_PATH: &str = "/.well-known/agent-card.json";

/// Serves the operation.
pub(super) async fn get(request: ApiRequest<'_>) -> Result<Response<Body>, ApiError> {
    let target = match invocations::target(&request).await {
        Ok(target) => target,
        Err(error) => return Err(invocations::worded(&request, error, None).await),
    };
    let Some(hosting) = &target.runtime.hosting else { return Err(AgentError::NoAgent.into()) };
    if hosting.protocol != ServerProtocol::A2a {
        let message = "The agent runtime has no agent card: its server protocol is not A2A";
        return Err(AwsError::new(clamshell_wire::ErrorCode::Validation, message).into());
    }
    fetch(&request, &target).await.map_err(|error| error.within(Envelope::of(ServerProtocol::A2a, None)))
}

async fn fetch(request: &ApiRequest<'_>, target: &Target) -> Result<Response<Body>, ApiError> {
    let Some(hosting) = &target.runtime.hosting else { return Err(AgentError::NoAgent.into()) };
    let from = &request.parts.headers;
    let session_id = commands::session_id(request.session_header()?)?;
    let mut headers = to_agent(from, hosting, &session_id, request.request_id)?;
    set_user(request, &mut headers)?;
    if let Some(accept) = from.get(header::ACCEPT) {
        headers.insert(header::ACCEPT, accept.clone());
    }
    let nothing = Payload::Memory(Bytes::new());
    let asked = Asked { method: Method::GET, path: CARD_PATH, headers, payload: &nothing };
    let answered = ask(request.app, target, session_id, &asked).await?;
    let mut response = answered.into_response(request.app, ServerProtocol::A2a)?;
    echo_trace(from, response.headers_mut());
    Ok(response)
}
