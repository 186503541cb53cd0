//! Who asks: SigV4 by header or presigned query, a bearer token for a runtime that takes them, or the cookie of a login. Whoever is known here is
//! at once checked for what it may do (`access.rs`): nothing that is verified here comes out unless it is allowed.

use std::sync::Arc;

use bytes::Bytes;
use clamshell_identity::jwt::AuthorizeError;
use clamshell_store::ShareRecord;
use clamshell_wire::{
    query::find,
    sigv4::{self, PayloadHash, Signature, SignedRequest},
    subprotocol::Subprotocols,
};
use http::{header, request::Parts};
use hyper::body::Incoming;

use super::{
    ApiError,
    access::{self, Asked, Caller, Identity, Session, share},
    login,
};
use crate::{
    app::{App, Target},
    connections::Connection,
    console::Login,
    server::Proof,
};

/// Admits a connection that may stay open: it is told when its credentials are not good any more.
///
/// # Errors
/// As [`authenticate_body`].
pub(super) async fn authenticate_connection(
    app: &Arc<App>,
    parts: &Parts,
    asked: &Asked<'_>,
) -> Result<(Caller, Connection), ApiError> {
    let claimed = Claimed::find(app, parts, asked).await?;
    // Counted before it is allowed: what takes rights from a user closes what was opened until then.
    if let By::Login(login) = &claimed.by {
        let connection = app.connections.open_by_login(&app.console.logins, login);
        let caller = claimed.admit(app, parts, PayloadHash::Empty, &[]).await?;
        return Ok((caller, connection));
    }
    if let By::Share(_, share) = &claimed.by {
        let connection = app.connections.open_until(app.shares.open(share));
        // Removed in between, it is found out by either of the two.
        share::find_record(app, parts).await?;
        return Ok((claimed.admit(app, parts, PayloadHash::Empty, &[]).await?, connection));
    }
    let (key, ended) = match &claimed.by {
        By::Signature(_, session) => {
            (session.key.as_ref().map(|key| key.access_key_id.clone()), session.ended.clone())
        }
        By::Share(..) | By::Token(_) | By::Login(_) => (None, None),
    };
    let caller = claimed.admit(app, parts, PayloadHash::Empty, &[]).await?;
    let connection = match (key, ended) {
        (Some(key), _) => {
            let connection = app.connections.open(&key);
            app.active_key(key.as_str()).await?;
            connection
        }
        (None, ended) => app.connections.open_until(ended.unwrap_or_default()),
    };
    Ok((caller, connection))
}

/// Reads the body, verifies who sent it and that they may. What comes without the name of an active key, or a good token, is
/// never kept: strangers get no memory of this server.
///
/// # Errors
/// [`ApiError::MissingCredentials`], [`ApiError::AuthorizationMismatch`] for credentials of another kind than the resource
/// takes, [`ApiError::UnknownAccessKey`], [`ApiError::Signature`], [`ApiError::Token`], [`ApiError::NotAuthorized`], and those
/// of the body.
pub(super) async fn authenticate_body(
    app: &Arc<App>,
    parts: &Parts,
    body: Incoming,
    asked: &Asked<'_>,
) -> Result<(Caller, Bytes), ApiError> {
    let claimed = match Claimed::find(app, parts, asked).await {
        Ok(claimed) => claimed,
        Err(error) => {
            super::discard_body(body).await;
            return Err(error);
        }
    };
    let body = super::read_body(body).await?;
    let hash = if body.is_empty() { PayloadHash::Empty } else { PayloadHash::Body(&body) };
    let caller = claimed.admit(app, parts, hash, &body).await?;
    Ok((caller, body))
}

/// Who a request says it is from. A signature is not verified yet; a bearer token is.
pub(super) struct Claimed<'a> {
    by: By,
    asked: &'a Asked<'a>,
    target: Option<Target>,
}

enum By {
    Signature(Box<Signature>, Box<Session>),
    Token(Box<Identity>),
    Login(Arc<Login>),
    Share(Box<Identity>, Arc<ShareRecord>),
}

impl<'a> Claimed<'a> {
    /// Finds the credentials of a request.
    ///
    /// # Errors
    /// As [`authenticate_body`].
    pub(super) async fn find(app: &Arc<App>, parts: &Parts, asked: &'a Asked<'a>) -> Result<Self, ApiError> {
        if let Some((identity, share)) = share::find_holder(app, parts, asked).await? {
            if let Some(proof) = parts.extensions.get::<Proof>() {
                proof.give();
            }
            return Ok(Self { by: By::Share(Box::new(identity), share), asked, target: None });
        }
        let headers = headers(parts);
        if let Some(signature) = sigv4::parse(&request(parts, &headers, PayloadHash::Empty))? {
            let session = app.signer(signature.access_key_id(), signature.session_token()).await?;
            let by = By::Signature(Box::new(signature), Box::new(session));
            return Ok(Self { by, asked, target: None });
        }
        let token = bearer(parts, &headers);
        // A cookie comes along unasked: what a request says itself counts before it.
        if token.is_none()
            && !parts.headers.contains_key(header::AUTHORIZATION)
            && let Some(login) = login::find(app, parts)?
        {
            if let Some(proof) = parts.extensions.get::<Proof>() {
                proof.give();
            }
            return Ok(Self { by: By::Login(login), asked, target: None });
        }
        let refusal = match &token {
            Some(_) => ApiError::AuthorizationMismatch,
            None => ApiError::MissingCredentials,
        };
        // Only a runtime can take a token, and what is not there takes none.
        let Some(target) = target(app, parts, asked).await? else { return Err(refusal) };
        let Some(authorizer) = target.authorizer()? else { return Err(refusal) };
        let identity = app.bearer(parts, &target, &authorizer, token.as_deref().unwrap_or_default()).await?;
        if let Some(proof) = parts.extensions.get::<Proof>() {
            proof.give();
        }
        Ok(Self { by: By::Token(Box::new(identity)), asked, target: Some(target) })
    }

    /// Whether what the body hashes to must be known before the request can be trusted.
    pub(super) fn is_signed(&self) -> bool {
        matches!(self.by, By::Signature(..))
    }

    /// Verifies the signature over the request and its body, and that its caller may do what is asked. `body` is what the
    /// check may need of the body: the whole of it where tags or roles are in it, nothing where it is the agent's business.
    ///
    /// # Errors
    /// As [`authenticate_body`].
    pub(super) async fn admit(
        self,
        app: &Arc<App>,
        parts: &Parts,
        hash: PayloadHash<'_>,
        body: &[u8],
    ) -> Result<Caller, ApiError> {
        let (signature, session) = match self.by {
            By::Share(identity, _) => {
                return access::admit(app, parts, self.asked, *identity, None, body).await;
            }
            By::Token(identity) => {
                return access::admit(app, parts, self.asked, *identity, self.target, body).await;
            }
            By::Login(login) => {
                let target = signers_target(app, parts, self.asked).await?;
                let identity = app.user_identity(&login.user_name);
                let caller = access::admit(app, parts, self.asked, identity, target, body).await?;
                return Ok(caller.with_login(login));
            }
            By::Signature(signature, session) => (signature, session),
        };
        let headers = headers(parts);
        let request = request(parts, &headers, hash);
        let secret =
            session.secret.expose_text().ok_or(ApiError::Internal("secret access key is not text"))?;
        signature.verify(&request, secret, app.now_ms(), app.region.as_str())?;
        if let Some(proof) = parts.extensions.get::<Proof>() {
            proof.give();
        }
        if let Some(key) = &session.key {
            app.note_key_use(key);
        }
        let target = signers_target(app, parts, self.asked).await?;
        access::admit(app, parts, self.asked, session.identity, target, body).await
    }
}

/// As [`target`], for callers that IAM knows: a runtime that takes tokens takes nothing else.
async fn signers_target(
    app: &Arc<App>,
    parts: &Parts,
    asked: &Asked<'_>,
) -> Result<Option<Target>, ApiError> {
    let target = target(app, parts, asked).await?;
    match &target {
        Some(found) if found.authorizer()?.is_some() => Err(ApiError::AuthorizationMismatch),
        _ => Ok(target),
    }
}

/// The runtime and endpoint that a call of the data plane is for; `None` when they are not here, which the handler tells to
/// those who may know.
async fn target(app: &Arc<App>, parts: &Parts, asked: &Asked<'_>) -> Result<Option<Target>, ApiError> {
    let Some(runtime) = asked.runtime() else { return Ok(None) };
    let Ok(query) = super::query(parts) else { return Ok(None) };
    match app.called_target(runtime, find(&query, "qualifier"), find(&query, "accountId")).await {
        Ok(target) => Ok(Some(target)),
        Err(error @ (ApiError::Store(_) | ApiError::Internal(_))) => Err(error),
        Err(_) => Ok(None),
    }
}

/// The bearer token of a request.
fn bearer(parts: &Parts, headers: &[(&str, &[u8])]) -> Option<String> {
    let in_header = parts.headers.get(header::AUTHORIZATION).and_then(|value| {
        let value = value.as_bytes();
        let scheme = value.get(..7)?;
        scheme
            .eq_ignore_ascii_case(b"bearer ")
            .then(|| String::from_utf8_lossy(&value[7..]).trim().to_owned())
    });
    // Browsers can set no header on an upgrade and send their token as a subprotocol.
    let by_subprotocol =
        || Subprotocols::parse(headers).ok().and_then(|offered| Some(offered.bearer?.as_str().to_owned()));
    in_header.or_else(by_subprotocol)
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

fn request<'a>(
    parts: &'a Parts,
    headers: &'a [(&'a str, &'a [u8])],
    payload_hash: PayloadHash<'a>,
) -> SignedRequest<'a> {
    SignedRequest {
        method: parts.method.as_str(),
        raw_path: parts.uri.path(),
        raw_query: parts.uri.query().unwrap_or_default(),
        headers,
        payload_hash,
    }
}

/// What clients are told of a token that is refused.
pub(super) fn token_refusal(error: &AuthorizeError) -> clamshell_wire::AwsError {
    use clamshell_wire::{AwsError, ErrorCode};
    match error {
        AuthorizeError::Missing | AuthorizeError::ClaimMismatch { .. } => {
            AwsError::new(ErrorCode::Unauthorized, error.to_string())
        }
        AuthorizeError::InvalidToken(_) => AwsError::new(ErrorCode::Unauthorized, "Invalid Bearer token"),
        AuthorizeError::Unparseable => AwsError::new(ErrorCode::AccessDenied, error.to_string()),
        AuthorizeError::ProviderUnreachable(_) => {
            AwsError::new(ErrorCode::InternalServer, "The identity provider of the runtime cannot be reached")
        }
    }
}
