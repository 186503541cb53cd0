//! Who asks: SigV4 by header or presigned query.

use std::sync::Arc;

use clamshell_wire::{
    sigv4::{self, PayloadHash, SignedRequest},
    subprotocol::Subprotocols,
};
use http::{header, request::Parts};

use super::ApiError;
use crate::app::App;

/// Verifies the signature of a request. `body` is the whole body; empty for upgrades.
///
/// # Errors
/// [`ApiError::MissingCredentials`], [`ApiError::AuthorizationMismatch`] for a bearer token,
/// [`ApiError::UnknownAccessKey`], [`ApiError::Signature`].
pub(crate) async fn authenticate(app: &Arc<App>, parts: &Parts, body: &[u8]) -> Result<(), ApiError> {
    let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(parts.headers.len() + 1);
    // HTTP/2 has the authority in place of the Host header; what was signed is the same text.
    if !parts.headers.contains_key(header::HOST)
        && let Some(authority) = parts.uri.authority()
    {
        headers.push(("host", authority.as_str().as_bytes()));
    }
    headers.extend(parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    let request = SignedRequest {
        method: parts.method.as_str(),
        raw_path: parts.uri.path(),
        raw_query: parts.uri.query().unwrap_or_default(),
        headers: &headers,
        payload_hash: if body.is_empty() { PayloadHash::Empty } else { PayloadHash::Body(body) },
    };
    let Some(signature) = sigv4::parse(&request)? else {
        let bearer = |value: &http::HeaderValue| {
            value.as_bytes().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
        };
        // Browsers can set no header on an upgrade and send their token as a subprotocol.
        let by_subprotocol = || Subprotocols::parse(&headers).is_ok_and(|offered| offered.bearer.is_some());
        let has_token = parts.headers.get(header::AUTHORIZATION).is_some_and(bearer) || by_subprotocol();
        return Err(if has_token { ApiError::AuthorizationMismatch } else { ApiError::MissingCredentials });
    };
    let (key, secret) = app.active_key(signature.access_key_id()).await?;
    let secret = secret.expose_text().ok_or(ApiError::Internal("secret access key is not text"))?;
    signature.verify(&request, secret, app.now_ms(), app.region.as_str())?;
    app.note_key_use(&key);
    Ok(())
}
