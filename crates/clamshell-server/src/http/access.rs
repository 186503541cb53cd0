//! Who may do what: the one place where a verified caller is allowed an operation or refused.
//!
//! `auth.rs` makes a [`Caller`] of valid credentials and asks [`admit`] at once, so that no handler gets the body of a
//! request, or its connection, that is not allowed. What a call needs is in `access/demands.rs`.

mod callers;
mod demands;
mod policies;
pub(crate) mod share;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, OnceLock},
};

use clamshell_identity::{
    jwt::TokenIdentity,
    policy::{Decision, Document, PrincipalKind, Request, evaluate},
};
use http::{HeaderValue, header, request::Parts};

pub(crate) use callers::{CallerError, Identity, PoliciesOf, ROOT, Session};
pub(crate) use clamshell_identity::policy::Principal;
use demands::demands;
pub(crate) use demands::{Asked, Demand};
pub(crate) use policies::PolicyCache;

use super::{
    ApiError,
    trail::{self, Who},
};
use crate::{
    app::{App, Target},
    console::Login,
};

/// Characters of a user agent that policies see.
const USER_AGENT_CHARS_MAX: usize = 512;

/// Where a connection comes from; in the extensions of each of its requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// Address of the other side.
    pub(crate) address: IpAddr,
    /// Whether it speaks TLS.
    pub(crate) secure: bool,
}

/// Who calls, verified. Made by `auth.rs` alone.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    /// Whose policies count.
    whose: PoliciesOf,
    /// Policies of the user or role.
    policies: Arc<Vec<Document>>,
    /// What a bearer token said.
    token: Option<Arc<TokenIdentity>>,
    circumstances: Arc<Circumstances>,
    /// The runtime and endpoint that a call of the data plane names, where they are there.
    target: Option<Target>,
    /// The login whose cookie came; `None` for other credentials.
    login: Option<Arc<Login>>,
}

impl Caller {
    /// ARN of who asks.
    pub(crate) fn principal_arn(&self) -> &str {
        &self.principal.arn
    }

    /// This caller, known by its login.
    pub(super) fn with_login(self, login: Arc<Login>) -> Self {
        Self { login: Some(login), ..self }
    }

    /// The login whose cookie came; `None` for other credentials.
    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.as_deref()
    }

    /// Identity that the token of a runtime with a JWT authorizer gave; `None` for signed requests.
    pub(crate) fn token(&self) -> Option<&TokenIdentity> {
        self.token.as_deref()
    }

    /// The user that the token speaks for.
    pub(crate) fn token_subject(&self) -> Option<&str> {
        self.token.as_ref()?.subject.as_deref()
    }

    /// The runtime and endpoint that the call names, as they were when it was allowed; `None` when they are not there.
    pub(crate) fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }
}

/// Makes the caller of an identity and checks that it may do what is asked. `body` is the verified body, for what is only
/// said there; empty for bodies that are streamed.
///
/// # Errors
/// [`ApiError::NotAuthorized`].
pub(super) async fn admit(
    app: &Arc<App>,
    parts: &Parts,
    asked: &Asked<'_>,
    identity: Identity,
    target: Option<Target>,
    body: &[u8],
) -> Result<Caller, ApiError> {
    let user_name = match identity.principal.kind {
        PrincipalKind::Root => ROOT.to_owned(),
        _ => identity.user_id.clone(),
    };
    let caller = Caller { target, ..caller(app, parts, identity).await? };
    let demands = demands(app, parts, asked, &caller, body).await?;
    let via = trail::via(parts, caller.token.is_some());
    let who = Who { principal: &caller.principal.arn, user_name: &user_name, via };
    trail::note(app, parts, asked, &who, demands.first());
    for demand in demands {
        authorize(app, &caller, &demand).await?;
    }
    Ok(caller)
}

/// The caller of an identity whose signature holds. What it asks for is not allowed yet.
///
/// # Errors
/// When its policies cannot be read.
pub(super) async fn caller(app: &Arc<App>, parts: &Parts, identity: Identity) -> Result<Caller, ApiError> {
    let policies = policies::of(app, &identity.policies).await?;
    let Identity { principal, token, user_id, policies: whose } = identity;
    let circumstances = Arc::new(Circumstances::of(app, parts, user_id));
    Ok(Caller { principal, whose, policies, token, circumstances, target: None, login: None })
}

/// The same caller with its policies as they are now.
///
/// # Errors
/// When they cannot be read.
pub(super) async fn renewed(app: &Arc<App>, caller: &Caller) -> Result<Caller, ApiError> {
    Ok(Caller { policies: policies::of(app, &caller.whose).await?, ..caller.clone() })
}

/// Whether `caller` may do what `demand` says: every one of its resources must allow it, and none may deny it.
///
/// # Errors
/// [`ApiError::NotAuthorized`].
pub(crate) async fn authorize(app: &Arc<App>, caller: &Caller, demand: &Demand) -> Result<(), ApiError> {
    let mut found = Vec::with_capacity(demand.resources.len());
    for resource in &demand.resources {
        let attached = policies::of_resource(app, resource).await?;
        let mut request = Request::new(demand.action.clone(), resource.clone(), caller.principal.clone());
        // Who has no policies is asked about no conditions; so it is with the account itself, which most calls come from.
        if !caller.policies.is_empty() || attached.policy.is_some() {
            request.context = caller.context(app);
            for (key, value) in &attached.tags {
                request.set(&format!("aws:ResourceTag/{key}"), [value.as_str()]);
            }
            for (key, value) in &demand.request_tags {
                request.set(&format!("aws:RequestTag/{key}"), [value.as_str()]);
            }
            if !demand.tag_keys.is_empty() {
                request.set("aws:TagKeys", demand.tag_keys.iter().map(String::as_str));
            }
        }
        found.push((request, attached));
    }
    let identity: Vec<&Document> = caller.policies.iter().collect();
    let refused = |resource: &str| ApiError::NotAuthorized {
        principal: match caller.principal.arn.as_str() {
            "" => "anonymous".to_owned(),
            arn => arn.to_owned(),
        },
        action: demand.action.clone(),
        resource: resource.to_owned(),
    };
    let mut allowed = false;
    for (request, attached) in &found {
        // A caller with a token is nobody that IAM knows: the token let it in, and a policy of the resource, where there is
        // one, must do so as well.
        if caller.principal.kind == PrincipalKind::Anonymous && attached.policy.is_none() {
            continue;
        }
        let policies: Vec<&Document> = attached.policy.iter().collect();
        let decision = evaluate(request, &identity, &policies);
        if decision == Decision::ExplicitDeny || (decision == Decision::ImplicitDeny && !demand.unless_denied)
        {
            return Err(refused(&request.resource));
        }
        allowed = true;
    }
    // Nothing to check allows nothing, but for those whom their token lets in.
    if allowed || demand.unless_denied || caller.principal.kind == PrincipalKind::Anonymous {
        Ok(())
    } else {
        Err(refused("*"))
    }
}

/// What conditions of policies may ask about a request, as far as it is not in what was verified.
#[derive(Debug)]
struct Circumstances {
    now_ms: u64,
    peer: Option<Peer>,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    for_user: Option<HeaderValue>,
    user_id: String,
    /// The condition keys, once a policy may ask for one.
    context: OnceLock<Arc<BTreeMap<String, Vec<String>>>>,
}

impl Circumstances {
    fn of(app: &App, parts: &Parts, user_id: String) -> Self {
        Self {
            now_ms: app.now_ms(),
            peer: parts.extensions.get().copied(),
            user_agent: parts.headers.get(header::USER_AGENT).cloned(),
            referer: parts.headers.get(header::REFERER).cloned(),
            for_user: parts.headers.get(clamshell_wire::headers::USER_ID).cloned(),
            user_id,
            context: OnceLock::new(),
        }
    }
}

impl Caller {
    /// Condition keys that are the same for all that this request asks.
    fn context(&self, app: &App) -> Arc<BTreeMap<String, Vec<String>>> {
        Arc::clone(self.circumstances.context.get_or_init(|| self.make_context(app)))
    }

    fn make_context(&self, app: &App) -> Arc<BTreeMap<String, Vec<String>>> {
        let about = &*self.circumstances;
        let mut request = Request::new("", "*", self.principal.clone());
        request.set("aws:CurrentTime", [crate::time::rfc3339(about.now_ms)]);
        request.set("aws:EpochTime", [(about.now_ms / 1000).to_string()]);
        request.set("aws:RequestedRegion", [app.region.to_string()]);
        if let Some(peer) = about.peer {
            request.set("aws:SourceIp", [peer.address.to_canonical().to_string()]);
            request.set("aws:SecureTransport", [peer.secure.to_string()]);
        }
        for (key, value) in [("aws:UserAgent", &about.user_agent), ("aws:Referer", &about.referer)] {
            if let Some(text) = value.as_ref().and_then(|value| value.to_str().ok()) {
                request.set(key, [text.chars().take(USER_AGENT_CHARS_MAX).collect::<String>()]);
            }
        }
        if let Some(user) = about.for_user.as_ref().and_then(|id| id.to_str().ok()) {
            request.set("bedrock-agentcore:userid", [user]);
        }
        let principal = &self.principal;
        if principal.kind != PrincipalKind::Anonymous {
            // Of a role's session, conditions see the role.
            let arn = match &principal.kind {
                PrincipalKind::RoleSession { role_arn } => role_arn,
                _ => &principal.arn,
            };
            request.set("aws:PrincipalArn", [arn.as_str()]);
            request.set("aws:PrincipalAccount", [principal.account.as_str()]);
            request.set(
                "aws:PrincipalType",
                [match &principal.kind {
                    PrincipalKind::Root => "Account",
                    PrincipalKind::User => "User",
                    PrincipalKind::RoleSession { .. } => "AssumedRole",
                    PrincipalKind::Service => "Service",
                    PrincipalKind::Anonymous => "Anonymous",
                }],
            );
            request.set("aws:userid", [about.user_id.as_str()]);
        }
        if principal.kind == PrincipalKind::User {
            request.set("aws:username", [about.user_id.as_str()]);
        }
        if let Some(token) = &self.token {
            for claim in ["iss", "sub", "aud", "scope", "client_id"] {
                let values: Vec<&str> = match token.claims.get(claim) {
                    Some(serde_json::Value::String(text)) if claim == "scope" => {
                        text.split_whitespace().collect()
                    }
                    Some(serde_json::Value::String(text)) => vec![text.as_str()],
                    Some(serde_json::Value::Array(items)) => {
                        items.iter().filter_map(|item| item.as_str()).collect()
                    }
                    _ => continue,
                };
                request.set(&format!("bedrock-agentcore:InboundJwtClaim/{claim}"), values);
            }
        }
        request.context
    }
}
