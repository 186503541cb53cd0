//! StopRuntimeSession (`runtime.md` 6.5).

use clamshell_domain::StopReason;
use clamshell_wire::{AwsError, command::StopRequest, headers};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::{
    ApiError, ApiRequest,
    commands::session_id,
    response::{self, Body},
};

/// Serves the operation: returns when the compute is gone and its storage is settled.
pub(super) async fn stop(request: ApiRequest<'_>, body: &[u8]) -> Result<Response<Body>, ApiError> {
    let query = request.query()?;
    StopRequest::parse(body)?;
    let header = request.session_header()?.ok_or_else(|| {
        ApiError::from(AwsError::invalid_field("runtimeSessionId", "Member must not be null"))
    })?;
    let session_id = session_id(Some(header))?;
    let target = request.target(&query).await?;
    let key = target.session_key(session_id);
    let session = request.app.registry.get(&key).ok_or(ApiError::SessionNotFound)?;
    request.app.registry.stop(&session, StopReason::Requested).await?;
    let mut response = response::bytes(StatusCode::OK, headers::JSON, "{}");
    if let Ok(value) = HeaderValue::from_str(session.key().session_id.as_str()) {
        response.headers_mut().insert(HeaderName::from_static(headers::SESSION_ID), value);
    }
    Ok(response)
}
