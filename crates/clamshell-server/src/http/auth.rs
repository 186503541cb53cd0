//! Who asks: SigV4 by header or presigned query.

use std::sync::Arc;

use bytes::Bytes;
use clamshell_domain::{AccessKey, AccessKeyId};
use clamshell_store::Secret;
use clamshell_wire::{
    sigv4::{self, PayloadHash, Signature, SignedRequest},
    subprotocol::Subprotocols,
};
use http::{header, request::Parts};
use hyper::body::Incoming;

use super::ApiError;
use crate::{app::App, connections::Connection, server::Proof};

/// Verifies the signature of a request without a body, an upgrade for instance.
///
/// # Errors
/// [`ApiError::MissingCredentials`], [`ApiError::AuthorizationMismatch`] for a bearer token,
/// [`ApiError::UnknownAccessKey`], [`ApiError::Signature`].
pub(super) async fn authenticate(app: &Arc<App>, parts: &Parts) -> Result<AccessKeyId, ApiError> {
    Claimed::find(app, parts).await?.verify(app, parts, &[])
}

/// As [`authenticate`], for a connection that may stay open: it is told when the key is not active any more.
///
/// # Errors
/// As [`authenticate`].
pub(super) async fn authenticate_connection(app: &Arc<App>, parts: &Parts) -> Result<Connection, ApiError> {
    let key = authenticate(app, parts).await?;
    let connection = app.connections.open(&key);
    app.active_key(key.as_str()).await?;
    Ok(connection)
}

/// Reads the body and verifies the signature over it. What comes without the name of an active key is never kept:
/// strangers get no memory of this server.
///
/// # Errors
/// As [`authenticate`], and those of the body.
pub(super) async fn authenticate_body(
    app: &Arc<App>,
    parts: &Parts,
    body: Incoming,
) -> Result<Bytes, ApiError> {
    let claimed = match Claimed::find(app, parts).await {
        Ok(claimed) => claimed,
        Err(error) => {
            super::discard_body(body).await;
            return Err(error);
        }
    };
    let body = super::read_body(body).await?;
    claimed.verify(app, parts, &body)?;
    Ok(body)
}

/// Who a request says it is from; not verified yet.
struct Claimed {
    signature: Signature,
    key: AccessKey,
    secret: Arc<Secret>,
}

impl Claimed {
    async fn find(app: &Arc<App>, parts: &Parts) -> Result<Self, ApiError> {
        let headers = headers(parts);
        let Some(signature) = sigv4::parse(&request(parts, &headers, &[]))? else {
            let bearer = |value: &http::HeaderValue| {
                value.as_bytes().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
            };
            // Browsers can set no header on an upgrade and send their token as a subprotocol.
            let by_subprotocol =
                || Subprotocols::parse(&headers).is_ok_and(|offered| offered.bearer.is_some());
            let has_token = parts.headers.get(header::AUTHORIZATION).is_some_and(bearer) || by_subprotocol();
            return Err(if has_token {
                ApiError::AuthorizationMismatch
            } else {
                ApiError::MissingCredentials
            });
        };
        let (key, secret) = app.active_key(signature.access_key_id()).await?;
        Ok(Self { signature, key, secret })
    }

    fn verify(self, app: &Arc<App>, parts: &Parts, body: &[u8]) -> Result<AccessKeyId, ApiError> {
        let headers = headers(parts);
        let request = request(parts, &headers, body);
        let secret = self.secret.expose_text().ok_or(ApiError::Internal("secret access key is not text"))?;
        self.signature.verify(&request, secret, app.now_ms(), app.region.as_str())?;
        if let Some(proof) = parts.extensions.get::<Proof>() {
            proof.give();
        }
        app.note_key_use(&self.key);
        Ok(self.key.access_key_id)
    }
}

fn headers(parts: &Parts) -> Vec<(&str, &[u8])> {
    let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(parts.headers.len() + 1);
    // HTTP/2 has the authority in place of the Host header; what was signed is the same text.
    if !parts.headers.contains_key(header::HOST)
        && let Some(authority) = parts.uri.authority()
    {
        headers.push(("host", authority.as_str().as_bytes()));
    }
    headers.extend(parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    headers
}

fn request<'a>(parts: &'a Parts, headers: &'a [(&'a str, &'a [u8])], body: &'a [u8]) -> SignedRequest<'a> {
    SignedRequest {
        method: parts.method.as_str(),
        raw_path: parts.uri.path(),
        raw_query: parts.uri.query().unwrap_or_default(),
        headers,
        payload_hash: if body.is_empty() { PayloadHash::Empty } else { PayloadHash::Body(body) },
    }
}
