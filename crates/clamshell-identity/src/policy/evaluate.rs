//! The decision: may this principal do this to that resource?
//!
//! An explicit deny wins over everything. Within one account an allow of either side suffices, an
//! identity policy or a resource policy that names the caller; across accounts both must allow. A
//! resource policy that names only the account hands the decision to that account's identity
//! policies, so within the account it adds nothing, as in IAM.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    document::{Document, Effect, Element, ResourcePattern, Statement},
    pattern,
    principal::{self, Cover, Named, is_account},
    value::Context,
};

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// ARN of the user, of the role's session, or of the account's root; the host name of a service;
    /// empty for [`PrincipalKind::Anonymous`].
    pub arn: String,
    /// Number of the account it belongs to; empty for services and anonymous callers.
    pub account: String,
    /// What it is.
    pub kind: PrincipalKind,
}

/// What a caller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrincipalKind {
    /// The account itself.
    Root,
    /// A user.
    User,
    /// A session of a role.
    RoleSession {
        /// ARN of the role, `arn:aws:iam::...:role/...`, by which policies name it.
        role_arn: String,
    },
    /// A service; policies of resources alone speak of it.
    Service,
    /// No identity of IAM, for instance a caller with a JWT: only `*` covers it, and policies of
    /// resources alone decide.
    Anonymous,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// For instance `bedrock-agentcore:InvokeAgentRuntime`.
    pub action: String,
    /// ARN of the resource, or `*` for calls on no particular one.
    pub resource: String,
    /// Who asks.
    pub principal: Principal,
    /// Condition keys in **lower case** to their values. Use [`Request::set`], which sees to the case. Shared, because the
    /// requests of one call mostly have the same.
    pub context: Arc<BTreeMap<String, Vec<String>>>,
}

impl Request {
    /// A request without context.
    pub fn new(action: impl Into<String>, resource: impl Into<String>, principal: Principal) -> Self {
        Self { action: action.into(), resource: resource.into(), principal, context: Arc::default() }
    }

    /// Sets the values of a condition key, whatever its case.
    pub fn set<V: Into<String>>(&mut self, key: &str, values: impl IntoIterator<Item = V>) -> &mut Self {
        let values = values.into_iter().map(Into::into).collect();
        Arc::make_mut(&mut self.context).insert(key.to_ascii_lowercase(), values);
        self
    }
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow,
    /// No: a statement says so.
    ExplicitDeny,
    /// No: nothing allows it.
    ImplicitDeny,
}

/// One resource of a call that is checked against several, with the policies attached to it.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    /// The request with this resource.
    pub request: &'a Request,
    /// Policies of this resource.
    pub resource: &'a [&'a Document],
}

/// Decides `request` by the policies of the caller and those of the resource.
///
/// The root of the resource's account may do everything that no statement denies.
pub fn evaluate(request: &Request, identity: &[&Document], resource: &[&Document]) -> Decision {
    let by_identity = gather(request, identity, false);
    let by_resource = gather(request, resource, true);
    if by_identity.denied || by_resource.denied {
        return Decision::ExplicitDeny;
    }
    let caller = &request.principal;
    let of_caller = by_identity.allow > Cover::No || caller.kind == PrincipalKind::Root;
    let allowed = match (&caller.kind, place(&request.resource, &caller.account)) {
        (_, Place::Malformed) => false,
        (PrincipalKind::Service | PrincipalKind::Anonymous, _) => by_resource.allow == Cover::Direct,
        (_, Place::Own) => of_caller || by_resource.allow == Cover::Direct,
        (_, Place::Foreign) => of_caller && by_resource.allow > Cover::No,
    };
    if allowed { Decision::Allow } else { Decision::ImplicitDeny }
}

/// Decides a call on several resources, for instance a runtime and its endpoint: all must allow.
/// Nothing to check allows nothing.
pub fn evaluate_all(checks: &[Check<'_>], identity: &[&Document]) -> Decision {
    let mut decision = if checks.is_empty() { Decision::ImplicitDeny } else { Decision::Allow };
    for check in checks {
        match evaluate(check.request, identity, check.resource) {
            Decision::ExplicitDeny => return Decision::ExplicitDeny,
            Decision::ImplicitDeny => decision = Decision::ImplicitDeny,
            Decision::Allow => {}
        }
    }
    decision
}

/// Whose a resource is.
enum Place {
    Own,
    Foreign,
    Malformed,
}

fn place(resource: &str, account: &str) -> Place {
    if resource == "*" {
        return Place::Own;
    }
    let parts: Vec<&str> = resource.splitn(6, ':').collect();
    match parts[..] {
        // Some ARNs name no account; here all of these belong to the caller's.
        ["arn", _, _, _, "", _] => Place::Own,
        ["arn", _, _, _, owner, _] if owner == account => Place::Own,
        ["arn", _, _, _, owner, _] if is_account(owner) => Place::Foreign,
        _ => Place::Malformed,
    }
}

/// What a set of documents says.
struct Verdict {
    denied: bool,
    allow: Cover,
}

fn gather(request: &Request, documents: &[&Document], of_resource: bool) -> Verdict {
    let mut verdict = Verdict { denied: false, allow: Cover::No };
    for statement in documents.iter().flat_map(|document| &document.statements) {
        let cover = covers(statement, request, of_resource);
        if cover == Cover::No {
            continue;
        }
        match statement.effect {
            Effect::Deny => verdict.denied = true,
            Effect::Allow => verdict.allow = verdict.allow.max(cover),
        }
    }
    verdict
}

/// Whether a statement applies, and how it names the caller.
fn covers(statement: &Statement, request: &Request, of_resource: bool) -> Cover {
    let cover = match &statement.principals {
        None if of_resource && statement.effect == Effect::Allow => Cover::No,
        None => Cover::Direct,
        Some(named) => of_principals(named, &request.principal),
    };
    let applies = cover > Cover::No
        && of_actions(&statement.actions, &request.action)
        && statement
            .resources
            .as_ref()
            .is_none_or(|patterns| of_resources(patterns, request, statement.effect))
        && statement.conditions.iter().all(|condition| condition.holds(&request.context, statement.effect));
    if applies { cover } else { Cover::No }
}

fn of_principals(named: &Element<Named>, caller: &Principal) -> Cover {
    match (principal::cover(&named.entries, caller), named.negated) {
        (cover, false) => cover,
        (Cover::No, true) => Cover::Direct,
        (Cover::Account | Cover::Direct, true) => Cover::No,
    }
}

fn of_actions(actions: &Element<String>, action: &str) -> bool {
    let found = actions.entries.iter().any(|pattern| pattern::matches_ignoring_case(pattern, action));
    found != actions.negated
}

fn of_resources(patterns: &Element<ResourcePattern>, request: &Request, effect: Effect) -> bool {
    let (mut found, mut unknown) = (false, false);
    for pattern in &patterns.entries {
        match covers_resource(pattern, &request.resource, &request.context) {
            Some(covered) => found |= covered,
            None => unknown = true,
        }
    }
    if patterns.negated {
        // What a missing variable would have excepted cannot be known: never give more, never take less.
        !found && (!unknown || effect == Effect::Deny)
    } else {
        found
    }
}

fn covers_resource(pattern: &ResourcePattern, resource: &str, context: &Context) -> Option<bool> {
    Some(pattern::matches_arn(&pattern.template.tokens(context)?, resource))
}

#[cfg(test)]
#[path = "evaluate/tests.rs"]
mod tests;
