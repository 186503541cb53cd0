//! Tags of runtimes and endpoints (`runtime.md` 4.8).

use bytes::Bytes;
use clamshell_domain::{EndpointName, RuntimeId};
use clamshell_wire::{arn::RuntimeArn, generated::control as api};
use http::Response;

use super::{ApiError, ApiRequest, ControlError, idempotency::answer, response::Body};
use crate::app::App;

/// Tags of a resource.
const TAGS_MAX: usize = 50;

/// TagResource: adds to the tags there are.
pub(super) async fn tag(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::TagResourceRequest = request.input(body)?;
    let app = request.app;
    let _turn = app.control.turn().await;
    let arn = existing(app, &input.resource_arn).await?.to_string();
    let mut all = app.store.tags(&arn).await?;
    all.extend(input.tags.clone());
    if all.len() > TAGS_MAX {
        return Err(ControlError::Quota { what: "tags of a resource", most: TAGS_MAX }.into());
    }
    app.store.put_tags(&arn, &input.tags).await?;
    Ok(answer(&api::TagResourceResponse {}))
}

/// UntagResource.
pub(super) async fn untag(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::UntagResourceRequest = request.input(body)?;
    let app = request.app;
    let _turn = app.control.turn().await;
    let arn = existing(app, &input.resource_arn).await?.to_string();
    app.store.remove_tags(&arn, &input.tag_keys).await?;
    Ok(answer(&api::UntagResourceResponse {}))
}

/// ListTagsForResource.
pub(super) async fn list(request: ApiRequest<'_>, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let input: api::ListTagsForResourceRequest = request.input(body)?;
    let arn = existing(request.app, &input.resource_arn).await?.to_string();
    let tags = request.app.store.tags(&arn).await?;
    Ok(answer(&api::ListTagsForResourceResponse { tags: Some(tags) }))
}

/// The runtime or endpoint of this server that an ARN names.
///
/// # Errors
/// A `ResourceNotFoundException` for all others, also those of another kind.
pub(super) async fn existing(app: &App, arn: &str) -> Result<RuntimeArn, ApiError> {
    let missing = || ApiError::from(ControlError::ResourceNotFound { arn: arn.to_owned() });
    let parsed = RuntimeArn::parse(arn).map_err(|_| missing())?;
    let id = RuntimeId::parse(parsed.runtime_id.as_str()).map_err(|_| missing())?;
    if parsed.runtime() != app.runtime_arn(&id) {
        return Err(missing());
    }
    let name = match &parsed.endpoint {
        None => EndpointName::default_endpoint(),
        Some(name) => EndpointName::parse(name.as_str()).map_err(|_| missing())?,
    };
    app.store.endpoint(&id, &name).await?.ok_or_else(missing)?;
    Ok(parsed)
}
