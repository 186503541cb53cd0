//! From credentials to an identity: users by access key, sessions of roles by session token, bearer tokens by the authorizer
//! of the runtime they are sent to.

use std::sync::Arc;

use clamshell_domain::AccessKey;
use clamshell_identity::{
    jwt::{
        AuthorizeError, FetchLimits, Fetcher, JwtAuthorizer, TokenIdentity, Verifier, metadata_url,
        system_tls, www_authenticate,
    },
    policy::{Principal, PrincipalKind},
    role_session::OpenedSession,
};
use clamshell_store::Secret;
use http::{header, request::Parts};
use thiserror::Error;

use super::Peer;
use crate::{
    app::{App, Target},
    http::ApiError,
};

/// User name of the account itself.
pub(crate) const ROOT: &str = "root";

/// A caller whose credentials are good; what it may do is not known yet.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) principal: Principal,
    /// Name of the user, or role and session, or subject of a token.
    pub(crate) user_id: String,
    /// Whose policies count.
    pub(crate) policies: PoliciesOf,
    pub(crate) token: Option<Arc<TokenIdentity>>,
}

/// Whose identity policies count for a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PoliciesOf {
    /// Nobody's: the account itself, or a token.
    Nobody,
    /// The user's of this name.
    User(String),
    /// The role's of this name.
    Role(String),
}

/// A bearer token is not accepted.
#[derive(Debug, Error)]
#[error("bearer token is not accepted")]
pub(crate) struct CallerError {
    /// Why.
    #[source]
    pub(crate) error: AuthorizeError,
    /// What `WWW-Authenticate` says.
    pub(crate) challenge: Option<String>,
}

/// The owner of the secret that a request claims to be signed with.
pub(crate) struct Session {
    pub(crate) identity: Identity,
    pub(crate) secret: Arc<Secret>,
    /// The stored key; `None` for temporary credentials.
    pub(crate) key: Option<AccessKey>,
    /// Cancelled when temporary credentials end with their compute.
    pub(crate) ended: Option<tokio_util::sync::CancellationToken>,
}

impl App {
    /// Who signs with an access key.
    ///
    /// # Errors
    /// [`ApiError::UnknownAccessKey`] for unknown, inactive and expired ones alike.
    pub(in crate::http) async fn signer(
        self: &Arc<Self>,
        access_key_id: &str,
        session_token: Option<&str>,
    ) -> Result<Session, ApiError> {
        if access_key_id.starts_with("ASIA") {
            return self.role_session(access_key_id, session_token.ok_or(ApiError::UnknownAccessKey)?);
        }
        let (key, secret) = self.active_key(access_key_id).await?;
        let identity = self.user_identity(&key.user_name);
        Ok(Session { identity, secret, key: Some(key), ended: None })
    }

    /// A user by its name, or the account itself for `root`.
    pub(in crate::http) fn user_identity(&self, name: &str) -> Identity {
        let account = self.account_id.to_string();
        let root = name == ROOT;
        Identity {
            principal: Principal {
                arn: self.user_arn(name),
                account: account.clone(),
                kind: if root { PrincipalKind::Root } else { PrincipalKind::User },
            },
            user_id: if root { account } else { name.to_owned() },
            policies: if root { PoliciesOf::Nobody } else { PoliciesOf::User(name.to_owned()) },
            token: None,
        }
    }

    /// ARN of a user, or of the account itself for `root`.
    pub(crate) fn user_arn(&self, name: &str) -> String {
        match name {
            ROOT => format!("arn:aws:iam::{}:root", self.account_id),
            name => format!("arn:aws:iam::{}:user/{name}", self.account_id),
        }
    }

    /// ARN of a secret of terminals.
    pub(crate) fn secret_arn(&self, name: &str) -> String {
        format!("arn:aws:clamshell:{}:{}:secret/{name}", self.region, self.account_id)
    }

    /// ARN of a role.
    pub(crate) fn role_arn(&self, name: &str) -> String {
        format!("arn:aws:iam::{}:role/{name}", self.account_id)
    }

    fn role_session(self: &Arc<Self>, access_key_id: &str, token: &str) -> Result<Session, ApiError> {
        let opened =
            clamshell_identity::role_session::open(&self.sealing_key, access_key_id, token, &*self.clock)
                .map_err(|error| {
                    tracing::debug!(%error, "session token is refused");
                    ApiError::UnknownAccessKey
                })?;
        // They end with the compute that they were made for.
        let ended = self.registry.compute_of(&opened.session_name).ok_or(ApiError::UnknownAccessKey)?.ended;
        let secret = Arc::new(Secret::new(opened.secret_access_key.expose().to_owned()));
        Ok(Session { identity: of_role(&opened), secret, key: None, ended: Some(ended) })
    }

    /// Checks a bearer token, or its absence, by the authorizer of the runtime that it was sent to.
    ///
    /// # Errors
    /// [`ApiError::Token`].
    pub(in crate::http) async fn bearer(
        self: &Arc<Self>,
        parts: &Parts,
        target: &Target,
        authorizer: &JwtAuthorizer,
        token: &str,
    ) -> Result<Identity, ApiError> {
        // It speaks of the calling workload, which a token does not name: nobody can be let in by it.
        if authorizer.input().allowed_workload_configuration.is_some() {
            return Err(ApiError::AuthorizationMismatch);
        }
        let verifier = self.verifier().await?;
        match verifier.verify(authorizer, token).await {
            Ok(token) => Ok(Identity {
                principal: Principal {
                    arn: String::new(),
                    account: String::new(),
                    kind: PrincipalKind::Anonymous,
                },
                user_id: token.subject.clone().unwrap_or_default(),
                policies: PoliciesOf::Nobody,
                token: Some(Arc::new(token)),
            }),
            Err(error) => {
                let arn = self.runtime_arn(&target.runtime.runtime_id).to_string();
                let url = metadata_url(&self.base_url(parts), &arn, target.endpoint.as_str());
                let challenge = www_authenticate(&error, &url, authorizer);
                Err(ApiError::Token(Box::new(CallerError { error, challenge })))
            }
        }
    }

    /// The verifier of bearer tokens, made when the first one comes: it reads the system's certificates.
    ///
    /// # Errors
    /// [`ApiError::Internal`] when there are none.
    pub(crate) async fn verifier(self: &Arc<Self>) -> Result<&Verifier, ApiError> {
        let made = self.verifier.get_or_try_init(async || {
            let tls = tokio::task::spawn_blocking(system_tls).await;
            let tls =
                tls.map_err(|_| ApiError::Internal("certificates were not read"))?.map_err(|error| {
                    tracing::error!(
                        error = crate::http::chain(&error),
                        "certificates of the system cannot be read"
                    );
                    ApiError::Internal("certificates of the system")
                })?;
            let limits = FetchLimits {
                allow_private_addresses: self.config.allow_private_identity_providers,
                ..FetchLimits::default()
            };
            Ok::<_, ApiError>(Verifier::new(Fetcher::new(tls, limits), Arc::clone(&self.clock)))
        });
        made.await
    }

    /// Scheme and host under which this client reaches the server.
    pub(crate) fn base_url(&self, parts: &Parts) -> String {
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str));
        let secure = parts.extensions.get::<Peer>().is_some_and(|peer| peer.secure);
        match host {
            Some(host) => format!("{}://{host}", if secure { "https" } else { "http" }),
            None => self.endpoint.get().cloned().unwrap_or_default(),
        }
    }
}

impl Target {
    /// The JWT authorizer of this runtime version; `None` when its callers sign.
    ///
    /// # Errors
    /// [`ApiError::Internal`] when what is stored is none.
    pub(crate) fn authorizer(&self) -> Result<Option<JwtAuthorizer>, ApiError> {
        let Some(text) = self.runtime.hosting.as_ref().and_then(|hosting| hosting.authorizer.as_ref()) else {
            return Ok(None);
        };
        let parsed: Result<JwtAuthorizer, _> = serde_json::from_str(text);
        parsed.map(Some).map_err(|error| {
            tracing::error!(runtime = %self.runtime.runtime_id, %error, "authorizer of a runtime cannot be read");
            ApiError::Internal("authorizer of the runtime")
        })
    }
}

fn of_role(opened: &OpenedSession) -> Identity {
    let role = opened.role_arn.rsplit('/').next().unwrap_or_default().to_owned();
    Identity {
        principal: opened.principal(),
        user_id: format!("{role}:{}", opened.session_name),
        policies: PoliciesOf::Role(role),
        token: None,
    }
}
