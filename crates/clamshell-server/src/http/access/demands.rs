//! What a call needs to be allowed: actions and resources, by operation. Exhaustive, so that a new operation does not
//! compile without its row.

use std::{collections::BTreeMap, sync::Arc};

use clamshell_identity::policy::PrincipalKind;
use clamshell_wire::{Operation, arn::RuntimeArn, headers, query::find, route::PathParams};
use http::request::Parts;
use serde_json::Value;

use super::{Caller, share};
use crate::{
    app::{App, Target},
    http::{ApiError, extension::ExtensionRoute},
};

/// For calls on no particular resource.
const ANY: &str = "*";

/// Tags of a request that policies see: more than the API takes.
const TAGS_MAX: usize = 200;

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked<'a> {
    /// An operation of AWS.
    Operation(Operation, &'a PathParams),
    /// A call of the extension API, with the parameters of its path.
    Extension(ExtensionRoute, &'a [&'a str]),
}

/// One action that must be allowed, on all of these resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// For instance `bedrock-agentcore:InvokeAgentRuntime`.
    pub(crate) action: String,
    /// ARNs, or `*`.
    pub(crate) resources: Vec<String>,
    /// No allow is needed, but a deny still refuses.
    pub(crate) unless_denied: bool,
    /// Tags that the request would set.
    pub(crate) request_tags: BTreeMap<String, String>,
    /// Keys of tags that the request names.
    pub(crate) tag_keys: Vec<String>,
}

impl Demand {
    /// An action on resources.
    pub(crate) fn new(action: impl Into<String>, resources: Vec<String>) -> Self {
        Self { action: action.into(), resources, ..Self::default() }
    }

    fn unless_denied(action: impl Into<String>, resources: Vec<String>) -> Self {
        Self { unless_denied: true, ..Self::new(action, resources) }
    }
}

impl Asked<'_> {
    /// Whether a call of the data plane is asked, which a bearer token may open.
    pub(crate) fn runtime(&self) -> Option<&str> {
        match self {
            Self::Operation(operation, params) if operation.plane() == clamshell_wire::Plane::Data => {
                Some(&params.runtime)
            }
            Self::Operation(..) | Self::Extension(..) => None,
        }
    }
}

fn action(name: &str) -> String {
    format!("bedrock-agentcore:{name}")
}

/// All that must be allowed for this request.
///
/// # Errors
/// For a query that cannot be read, and of the store.
pub(super) async fn demands(
    app: &Arc<App>,
    parts: &Parts,
    asked: &Asked<'_>,
    caller: &Caller,
    body: &[u8],
) -> Result<Vec<Demand>, ApiError> {
    match asked {
        Asked::Operation(operation, params) => {
            let query = crate::http::query(parts)?;
            Ok(of_operation(app, parts, *operation, params, &query, caller, body))
        }
        Asked::Extension(route, params) => of_extension(app, parts, *route, params, caller, body).await,
    }
}

fn of_operation(
    app: &App,
    parts: &Parts,
    operation: Operation,
    params: &PathParams,
    query: &[(String, String)],
    caller: &Caller,
    body: &[u8],
) -> Vec<Demand> {
    use Operation as Op;
    let runtime = || vec![runtime_arn(app, &params.runtime)];
    let endpoint = || both(app, &params.runtime, &params.endpoint_name);
    let called = || {
        // Mostly it was found already, and the texts of an ARN are not taken apart once more.
        if let Some(target) = caller.target() {
            return of_target(app, target);
        }
        let own = RuntimeArn::parse(&params.runtime).ok().and_then(|arn| arn.endpoint);
        let qualifier = find(query, "qualifier").or(own.as_deref()).unwrap_or("DEFAULT");
        both(app, &params.runtime, qualifier)
    };
    let named = || vec![own_arn(app, &params.resource_arn)];
    let mut demand = Demand::new(action(operation.name()), Vec::new());
    let mut more = Vec::new();
    let members = || serde_json::from_slice::<Value>(body).unwrap_or_default();
    match operation {
        Op::CreateAgentRuntime => {
            demand.resources = vec![ANY.to_owned()];
            let members = members();
            demand.request_tags = tags(&members);
            more.extend(pass_role(app, &members));
        }
        Op::UpdateAgentRuntime => {
            demand.resources = runtime();
            more.extend(pass_role(app, &members()));
        }
        Op::ListAgentRuntimes => demand.resources = vec![ANY.to_owned()],
        Op::GetAgentRuntime
        | Op::DeleteAgentRuntime
        | Op::ListAgentRuntimeVersions
        | Op::ListAgentRuntimeEndpoints => demand.resources = runtime(),
        Op::CreateAgentRuntimeEndpoint => {
            demand.resources = runtime();
            demand.request_tags = tags(&members());
        }
        Op::GetAgentRuntimeEndpoint | Op::UpdateAgentRuntimeEndpoint | Op::DeleteAgentRuntimeEndpoint => {
            demand.resources = endpoint();
        }
        Op::TagResource => {
            demand.resources = named();
            demand.request_tags = tags(&members());
        }
        Op::UntagResource => {
            demand.resources = named();
            let keys = query.iter().filter(|(name, _)| name == "tagKeys").map(|(_, key)| key.clone());
            demand.tag_keys = keys.take(TAGS_MAX).collect();
        }
        Op::ListTagsForResource
        | Op::PutResourcePolicy
        | Op::GetResourcePolicy
        | Op::DeleteResourcePolicy => demand.resources = named(),
        Op::InvokeAgentRuntime | Op::InvokeAgentRuntimeWithWebSocketStream => {
            demand.resources = called();
            // `runtime.md` section 5: whom a token speaks for is in the token.
            let for_user = parts.headers.contains_key(headers::USER_ID)
                || query.iter().any(|(name, _)| name.eq_ignore_ascii_case(headers::USER_ID));
            if for_user && caller.principal.kind != PrincipalKind::Anonymous {
                let name = format!("{}ForUser", demand.action);
                more.push(Demand::new(name, demand.resources.clone()));
            }
        }
        Op::GetAgentCard
        | Op::StopRuntimeSession
        | Op::InvokeAgentRuntimeCommand
        | Op::InvokeAgentRuntimeCommandShell => demand.resources = called(),
        // Open to everybody.
        Op::GetRuntimeProtectedResourceMetadata => return Vec::new(),
    }
    if demand.tag_keys.is_empty() {
        demand.tag_keys = demand.request_tags.keys().cloned().collect();
    }
    more.insert(0, demand);
    more
}

async fn of_extension(
    app: &Arc<App>,
    parts: &Parts,
    route: ExtensionRoute,
    params: &[&str],
    caller: &Caller,
    body: &[u8],
) -> Result<Vec<Demand>, ApiError> {
    use ExtensionRoute as Ext;
    let own = |resources: Vec<String>| Demand::new(format!("clamshell:{route:?}"), resources);
    let first = params.first().copied().unwrap_or_default();
    let users = || vec![app.user_arn(first)];
    let roles = || vec![app.role_arn(first)];
    let member = |name: &str| {
        let members: Value = serde_json::from_slice(body).unwrap_or_default();
        members[name].as_str().map(str::to_owned)
    };
    Ok(match route {
        Ext::Health => Vec::new(),
        // Who somebody is, and what is theirs: no policy is asked, and the handler sees to it that it is.
        Ext::ConsoleMe
        | Ext::ConsoleLogin
        | Ext::ShowConsoleLink
        | Ext::ConsoleLogout
        | Ext::SetOwnPassword
        | Ext::ListLogins
        | Ext::RemoveLogin
        | Ext::OidcStart
        | Ext::OidcCallback => Vec::new(),
        Ext::CreateConsoleLink => vec![own(vec![caller.principal.arn.clone()])],
        Ext::SetPassword => vec![own(users())],
        Ext::SetConsoleRole => vec![own(users()), Demand::new("clamshell:PutUserPolicy", users())],
        Ext::Server
        | Ext::Doctor
        | Ext::ListSessions
        | Ext::ListAllShells
        | Ext::ListSecrets
        | Ext::ReadAudit
        | Ext::Events
        | Ext::ListKeys
        | Ext::ListUsers
        | Ext::ListRoles => vec![own(vec![ANY.to_owned()])],
        Ext::RenameShell | Ext::CreateShare | Ext::ListShares => vec![own(session_target(app, parts).await?)],
        Ext::RemoveShare => vec![own(match app.store.share(first).await? {
            Some(share) => share::demand(app, &share).resources,
            None => vec![ANY.to_owned()],
        })],
        // The holder of a link has what its maker may do.
        Ext::CurrentShare => vec![match share::find_record(app, parts).await? {
            Some(share) => share::demand(app, &share),
            None => own(vec![ANY.to_owned()]),
        }],
        Ext::ShowSession | Ext::RemoveSession | Ext::ListShells | Ext::ShowShell | Ext::CloseShell => {
            vec![own(session_target(app, parts).await?)]
        }
        Ext::ShowRuntimeTerminal | Ext::RemoveRuntimeTerminal => {
            vec![own(vec![terminal_target(app, first).await?])]
        }
        // Whoever chooses the command can have it print its secrets.
        Ext::PutRuntimeTerminal => {
            let mut demands = vec![own(vec![terminal_target(app, first).await?])];
            let members: Value = serde_json::from_slice(body).unwrap_or_default();
            let names = members["secrets"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let arns: Vec<String> = names.map(|name| app.secret_arn(name)).collect();
            if !arns.is_empty() {
                demands.push(Demand::new("clamshell:UseSecret", arns));
            }
            demands
        }
        Ext::PutSecret | Ext::RemoveSecret => vec![own(vec![app.secret_arn(first)])],
        Ext::ListFiles | Ext::ReadFile | Ext::WriteFile | Ext::RemoveFile => {
            vec![own(session_target(app, parts).await?)]
        }
        Ext::MakeFolder => vec![Demand::new("clamshell:WriteFile", session_target(app, parts).await?)],
        Ext::MoveFile => {
            let target = session_target(app, parts).await?;
            vec![
                Demand::new("clamshell:WriteFile", target.clone()),
                Demand::new("clamshell:RemoveFile", target),
            ]
        }
        // What AWS's API does as well is not to be had around a policy that denies it there.
        Ext::StopSession => {
            let target = session_target(app, parts).await?;
            vec![own(target.clone()), Demand::unless_denied(action("StopRuntimeSession"), target)]
        }
        Ext::RunCommand => {
            let target = session_target(app, parts).await?;
            vec![own(target.clone()), Demand::unless_denied(action("InvokeAgentRuntimeCommand"), target)]
        }
        Ext::ReadLog | Ext::PaintScreen | Ext::Export => {
            let target = session_target(app, parts).await?;
            vec![own(target.clone()), Demand::unless_denied(action("InvokeAgentRuntimeCommandShell"), target)]
        }
        Ext::Attach => {
            let target = session_target(app, parts).await?;
            let watch = find(&crate::http::query(parts)?, "access") == Some("watch");
            let name = if watch { "clamshell:WatchShell" } else { "clamshell:AttachShell" };
            vec![
                Demand::new(name, target.clone()),
                Demand::unless_denied(action("InvokeAgentRuntimeCommandShell"), target),
            ]
        }
        Ext::ReadRuntimeLogs => {
            let found = crate::http::extension::logs::target(app, &crate::http::query(parts)?).await;
            vec![own(resources_of(app, found)?)]
        }
        Ext::CreateKey => {
            let name = member("userName").unwrap_or_else(|| "user".to_owned());
            vec![own(vec![app.user_arn(&name)])]
        }
        Ext::EnableKey | Ext::DisableKey | Ext::RemoveKey => {
            let keys = app.store.list_access_keys().await?;
            let owner = keys.iter().find(|key| key.access_key_id.as_str() == first);
            vec![own(vec![owner.map_or_else(|| ANY.to_owned(), |key| app.user_arn(&key.user_name))])]
        }
        Ext::CreateUser => vec![own(vec![app.user_arn(&member("userName").unwrap_or_default())])],
        Ext::ShowUser | Ext::RemoveUser | Ext::PutUserPolicy | Ext::RemoveUserPolicy => vec![own(users())],
        Ext::CreateRole => vec![own(vec![app.role_arn(&member("roleName").unwrap_or_default())])],
        Ext::ShowRole | Ext::RemoveRole | Ext::PutRolePolicy | Ext::RemoveRolePolicy => vec![own(roles())],
    })
}

/// The runtime that a call about its terminal names; `*` when it is not there.
async fn terminal_target(app: &Arc<App>, runtime: &str) -> Result<String, ApiError> {
    match crate::http::extension::terminals::runtime_of(app, runtime).await {
        Ok(runtime_id) => Ok(app.runtime_arn(&runtime_id).to_string()),
        Err(error @ ApiError::Store(_)) => Err(error),
        Err(_) => Ok(ANY.to_owned()),
    }
}

/// Runtime and endpoint that the query of a call about a session names; `*` when they are not there.
async fn session_target(app: &Arc<App>, parts: &Parts) -> Result<Vec<String>, ApiError> {
    let query = crate::http::query(parts)?;
    let runtime = find(&query, "runtime").unwrap_or("default");
    resources_of(app, app.named_target(runtime, find(&query, "qualifier")).await)
}

fn resources_of(app: &App, found: Result<Target, ApiError>) -> Result<Vec<String>, ApiError> {
    match found {
        Ok(target) => Ok(of_target(app, &target)),
        Err(error @ ApiError::Store(_)) => Err(error),
        // What is not there has no ARN; the handler says so to whom it may.
        Err(_) => Ok(vec![ANY.to_owned()]),
    }
}

/// ARNs of a runtime and of the endpoint that it is called through.
fn of_target(app: &App, target: &Target) -> Vec<String> {
    let mut arn = app.runtime_arn(&target.runtime.runtime_id);
    let runtime = arn.to_string();
    arn.endpoint = Some(target.endpoint.to_string());
    vec![runtime, arn.to_string()]
}

/// ARN of a runtime that is given by id or ARN. What is malformed or of another account is no resource of ours: only who
/// may do the same to everything learns more.
fn runtime_arn(app: &App, runtime: &str) -> String {
    parse_own(app, runtime).map_or_else(|| ANY.to_owned(), |arn| arn.runtime().to_string())
}

/// ARNs of a runtime and of one of its endpoints.
fn both(app: &App, runtime: &str, endpoint: &str) -> Vec<String> {
    let is_name = clamshell_domain::EndpointName::parse(endpoint).is_ok();
    match parse_own(app, runtime) {
        Some(arn) if is_name => {
            vec![arn.runtime().to_string(), arn.runtime().with_endpoint(endpoint).to_string()]
        }
        _ => vec![ANY.to_owned()],
    }
}

fn own_arn(app: &App, arn: &str) -> String {
    parse_own(app, arn).map_or_else(|| ANY.to_owned(), |arn| arn.to_string())
}

fn parse_own(app: &App, runtime: &str) -> Option<RuntimeArn> {
    if !runtime.starts_with("arn:") {
        let id = clamshell_domain::RuntimeId::parse(runtime).ok()?;
        return Some(app.runtime_arn(&id));
    }
    let arn = RuntimeArn::parse(runtime).ok()?;
    let own = arn.partition == "aws"
        && arn.account_id == app.account_id.as_str()
        && arn.region == app.region.as_str();
    own.then_some(arn)
}

/// Whoever gives a role to a runtime can do what the role can. Roles of other accounts give nothing here.
fn pass_role(app: &App, members: &Value) -> Option<Demand> {
    let role = members["roleArn"].as_str()?;
    role.starts_with(&app.role_arn("")).then(|| Demand::new("iam:PassRole", vec![role.to_owned()]))
}

fn tags(members: &Value) -> BTreeMap<String, String> {
    let tags = members["tags"].as_object().into_iter().flatten().take(TAGS_MAX);
    tags.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
