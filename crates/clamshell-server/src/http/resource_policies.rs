//! Policies that are attached to runtimes and endpoints (`runtime.md` 4.8).

use bytes::Bytes;
use clamshell_domain::RuntimeId;
use clamshell_identity::policy::parse_resource_policy;
use clamshell_wire::generated::control as api;
use http::Response;

use super::{ApiError, ApiRequest, ControlError, idempotency::answer, response::Body, tags::existing};

/// PutResourcePolicy.
pub(super) async fn put(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::PutResourcePolicyRequest = request.input(body)?;
    let app = request.app;
    let _turn = app.control.turn().await;
    let parsed = existing(app, &input.resource_arn).await?;
    let arn = parsed.to_string();
    let id = RuntimeId::parse(parsed.runtime_id.as_str()).map_err(|_| ApiError::Internal("runtime id"))?;
    let runtime = app.store.runtime(&id, None).await?;
    let has_authorizer =
        runtime.and_then(|runtime| runtime.hosting).is_some_and(|hosting| hosting.authorizer.is_some());
    parse_resource_policy(&input.policy, &arn, has_authorizer).map_err(ControlError::Policy)?;
    app.store.put_resource_policy(&arn, &input.policy, app.now_ms()).await?;
    Ok(answer(&api::PutResourcePolicyResponse { policy: input.policy }))
}

/// GetResourcePolicy: no member `policy` where there is none.
pub(super) async fn get(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::GetResourcePolicyRequest = request.input(body)?;
    let arn = existing(request.app, &input.resource_arn).await?.to_string();
    let policy = request.app.store.resource_policy(&arn).await?;
    Ok(answer(&api::GetResourcePolicyResponse { policy }))
}

/// DeleteResourcePolicy.
pub(super) async fn delete(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::DeleteResourcePolicyRequest = request.input(body)?;
    let app = request.app;
    let _turn = app.control.turn().await;
    let arn = existing(app, &input.resource_arn).await?.to_string();
    if app.store.delete_resource_policy(&arn).await? {
        Ok(answer(&api::DeleteResourcePolicyResponse {}))
    } else {
        Err(ControlError::NoPolicy { arn }.into())
    }
}
