//! The extension API below `/clamshell/v1/`, see `docs/api.md`.

mod attach;
mod audit;
mod console;
mod files;
mod keys;
pub(super) mod logs;
mod oidc;
mod principals;
mod route;
mod sessions;
mod shares;
mod shells;
pub(super) mod terminals;
pub(super) mod usage;
mod web;

use std::sync::Arc;

use clamshell_domain::{SessionId, ShellId};
use clamshell_store::PrincipalKind;
use clamshell_wire::{AwsError, percent_decode, route::RouteError};
use http::{Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use serde_json::json;

pub(crate) use keys::generate as generate_key;
pub use route::EXTENSION_ROUTES;
pub(super) use route::ExtensionRoute;
use route::ExtensionRoute as Found;

use super::{
    ApiError,
    access::{Asked, Caller},
    auth,
    response::{self, Body},
};
use crate::{
    app::{App, Target},
    session::Session,
};

/// Sessions and shells as clients see them.
pub(super) mod views {
    pub(in crate::http) use super::{sessions::view as session, shells::view as shell};
}

/// A request of this API after authentication.
struct Ask<'a> {
    app: &'a Arc<App>,
    caller: Caller,
    query: Vec<(String, String)>,
    body: bytes::Bytes,
}

/// Routes and serves a request; `rest` is the raw path behind the prefix.
pub(super) async fn handle(
    app: &Arc<App>,
    rest: &str,
    parts: Parts,
    body: Incoming,
) -> Result<Response<Body>, ApiError> {
    let segments = rest
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| percent_decode(segment).map_err(|_| ApiError::Wire(RouteError::Parameter.aws_error())))
        .collect::<Result<Vec<String>, ApiError>>()?;
    let (found, params) = match route::find(parts.method.as_str(), &segments) {
        Ok(found) => found,
        Err(error) => return Ok(super::refuse_route(&error)),
    };
    let param = |index: usize| params.get(index).copied().unwrap_or_default();
    let (first, second) = (param(0), param(1));
    match found {
        Found::ConsoleMe => return console::me(app, &parts).await,
        Found::ConsoleLogin => return console::login(app, &parts, body).await,
        Found::ShowConsoleLink => return console::show_link(app, &parts, body).await,
        Found::ConsoleLogout => return console::logout(app, &parts).await,
        Found::OidcStart => return oidc::start(app, &parts).await,
        Found::OidcCallback => return oidc::callback(app, &parts).await,
        _ => {}
    }
    if found == Found::Health {
        let health = json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") });
        return Ok(response::json(StatusCode::OK, &health));
    }
    let query = super::query(&parts)?;
    let asked = Asked::Extension(found, &params);
    if found == Found::Attach {
        let (caller, connection) = auth::authenticate_connection(app, &parts, &asked).await?;
        if let Some(web) = &app.web {
            return web::attach(app, web, parts, (caller, connection), &query, first, second).await;
        }
        return attach::upgrade(app, parts, connection, &query, first, second).await;
    }
    if found == Found::WriteFile && app.web.is_none() {
        return files::write(app, parts, body, &asked, &query, first).await;
    }
    if found == Found::Events && app.web.is_none() {
        let (caller, connection) = auth::authenticate_connection(app, &parts, &asked).await?;
        return super::events::open(app, caller, connection, &query);
    }
    let (caller, body) = auth::authenticate_body(app, &parts, body, &asked).await?;
    let ask = Ask { app, caller, query, body };
    if let Some(web) = &app.web
        && let Some(answer) = web::handle(web, &ask, found, first, second).await
    {
        return answer;
    }
    dispatch(&ask, &parts, found, first, second).await
}

/// Serves what takes its body whole; `first` and `second` are the names in the path.
async fn dispatch(
    ask: &Ask<'_>,
    parts: &Parts,
    found: Found,
    first: &str,
    second: &str,
) -> Result<Response<Body>, ApiError> {
    match found {
        Found::ConsoleMe
        | Found::ConsoleLogin
        | Found::ShowConsoleLink
        | Found::ConsoleLogout
        | Found::OidcStart
        | Found::OidcCallback
        | Found::Health
        | Found::Attach
        | Found::Events
        | Found::WriteFile => Err(ApiError::Internal("route was served before")),
        Found::Server => server(ask).await,
        Found::Doctor => {
            let diagnosis = crate::server::diagnosis(ask.app.registry.drivers(), &ask.app.config).await;
            Ok(response::json(StatusCode::OK, &diagnosis))
        }
        Found::ListSessions => sessions::list(ask).await,
        Found::ShowSession => sessions::show(ask, first).await,
        Found::StopSession => sessions::stop(ask, first).await,
        Found::RemoveSession => sessions::remove(ask, first).await,
        Found::RunCommand => sessions::command(ask, first).await,
        Found::ListFiles => files::list(ask, first).await,
        Found::ReadFile => files::read(ask, &parts.headers, first).await,
        Found::MakeFolder => files::make_folder(ask, first).await,
        Found::RemoveFile => files::remove(ask, first).await,
        Found::MoveFile => files::rename(ask, first).await,
        Found::ListAllShells => shells::list_all(ask).await,
        Found::ListShells => shells::list(ask, first).await,
        Found::ShowShell => shells::show(ask, first, second).await,
        Found::CloseShell => shells::close(ask, first, second).await,
        Found::ReadLog => shells::log(ask, first, second).await,
        Found::PaintScreen => shells::screen(ask, first, second).await,
        Found::Export => shells::export(ask, first, second).await,
        Found::RenameShell => shells::rename(ask, first, second).await,
        Found::CreateShare => shares::create(ask, parts, first, second).await,
        Found::ListShares => shares::list(ask, first, second).await,
        Found::RemoveShare => shares::remove(ask, first).await,
        Found::CurrentShare => shares::current(ask, parts).await,
        Found::ReadRuntimeLogs => logs::read(ask).await,
        Found::ReadAudit => audit::read(ask).await,
        Found::ListKeys => keys::list(ask).await,
        Found::CreateKey => keys::create(ask).await,
        Found::EnableKey => keys::set_active(ask, first, true).await,
        Found::DisableKey => keys::set_active(ask, first, false).await,
        Found::RemoveKey => keys::remove(ask, first).await,
        Found::ShowRuntimeTerminal => terminals::show(ask, first).await,
        Found::PutRuntimeTerminal => terminals::put(ask, first).await,
        Found::RemoveRuntimeTerminal => terminals::remove(ask, first).await,
        Found::ListSecrets => terminals::list_secrets(ask).await,
        Found::PutSecret => terminals::put_secret(ask, first).await,
        Found::RemoveSecret => terminals::remove_secret(ask, first).await,
        Found::ListUsers => principals::list(ask, PrincipalKind::User).await,
        Found::CreateUser => principals::create(ask, PrincipalKind::User).await,
        Found::ShowUser => principals::show(ask, PrincipalKind::User, first).await,
        Found::SetPassword => console::set_password(ask, first).await,
        Found::SetConsoleRole => console::set_role(ask, first).await,
        Found::SetOwnPassword => console::set_own_password(ask, parts).await,
        Found::ListLogins => console::list(ask).await,
        Found::RemoveLogin => console::remove(ask, first).await,
        Found::CreateConsoleLink => console::create_link(ask, parts).await,
        Found::RemoveUser => principals::remove(ask, PrincipalKind::User, first).await,
        Found::PutUserPolicy => principals::put_policy(ask, PrincipalKind::User, first, second).await,
        Found::RemoveUserPolicy => principals::remove_policy(ask, PrincipalKind::User, first, second).await,
        Found::ListRoles => principals::list(ask, PrincipalKind::Role).await,
        Found::CreateRole => principals::create(ask, PrincipalKind::Role).await,
        Found::ShowRole => principals::show(ask, PrincipalKind::Role, first).await,
        Found::RemoveRole => principals::remove(ask, PrincipalKind::Role, first).await,
        Found::PutRolePolicy => principals::put_policy(ask, PrincipalKind::Role, first, second).await,
        Found::RemoveRolePolicy => principals::remove_policy(ask, PrincipalKind::Role, first, second).await,
    }
}

async fn server(ask: &Ask<'_>) -> Result<Response<Body>, ApiError> {
    let target = ask.app.named_target("default", None).await?;
    let endpoint = ask.app.endpoint.get().cloned().unwrap_or_default();
    Ok(response::json(
        StatusCode::OK,
        &json!({
            "version": env!("CARGO_PKG_VERSION"),
            "accountId": ask.app.account_id,
            "region": ask.app.region,
            "endpoint": endpoint,
            "defaultRuntimeArn": ask.app.runtime_arn(&target.runtime.runtime_id).to_string(),
            "pid": std::process::id(),
            "driver": ask.app.config.driver,
        }),
    ))
}

impl Ask<'_> {
    fn param(&self, name: &str) -> Option<&str> {
        clamshell_wire::query::find(&self.query, name)
    }

    async fn session(&self, session_id: &str) -> Result<Arc<Session>, ApiError> {
        find_session(self.app, &self.query, session_id)
            .await
            .map(|(_, session)| session)?
            .ok_or(ApiError::SessionNotFound)
    }
}

/// The target that a query names, and its session of this id, if there is one.
async fn find_session(
    app: &Arc<App>,
    query: &[(String, String)],
    session_id: &str,
) -> Result<(Target, Option<Arc<Session>>), ApiError> {
    let runtime = clamshell_wire::query::find(query, "runtime").unwrap_or("default");
    let target = app.named_target(runtime, clamshell_wire::query::find(query, "qualifier")).await?;
    let session_id = super::commands::session_id(Some(session_id))?;
    let session = app.registry.get(&target.session_key(session_id));
    Ok((target, session))
}

fn shell_id(text: &str) -> Result<ShellId, ApiError> {
    ShellId::parse(text).map_err(|_| {
        AwsError::invalid_field(
            "shellId",
            "Member must satisfy regular expression pattern: [a-zA-Z0-9][a-zA-Z0-9_-]{0,127}",
        )
        .into()
    })
}

fn parse_session_id(text: &str) -> Result<SessionId, ApiError> {
    super::commands::session_id(Some(text))
}
