//! GetRuntimeProtectedResourceMetadata: where clients of a runtime get their tokens (RFC 9728). Open to everybody, because
//! those who ask have no token yet.

use clamshell_identity::jwt::{fallback_issuer, protected_resource_metadata};
use http::{Response, StatusCode};

use super::{
    ApiError, ApiRequest, chain,
    response::{self, Body},
};

/// Serves the operation.
pub(super) async fn get(request: ApiRequest<'_>) -> Result<Response<Body>, ApiError> {
    let query = request.query()?;
    let find = |name| clamshell_wire::query::find(&query, name);
    let app = request.app;
    let target = app.called_target(&request.params.runtime, find("qualifier"), find("accountId")).await?;
    // A runtime whose callers sign is no resource of this kind.
    let authorizer = target.authorizer()?.ok_or_else(|| ApiError::RuntimeNotFound {
        runtime: request.params.runtime.clone(),
        qualifier: target.endpoint.to_string(),
    })?;
    let issuer = match app.verifier().await?.issuer(&authorizer).await {
        Ok(issuer) => issuer,
        Err(error) => {
            tracing::warn!(runtime = %target.runtime.runtime_id, error = chain(&error), "identity provider cannot be asked");
            fallback_issuer(authorizer.discovery_url())
        }
    };
    let arn = app.runtime_arn(&target.runtime.runtime_id).to_string();
    let base = app.base_url(&request.parts);
    let body = protected_resource_metadata(&base, &arn, target.endpoint.as_str(), &issuer, &authorizer);
    Ok(response::json(StatusCode::OK, &body))
}
