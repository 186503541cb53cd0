//! The extension API below `/clamshell/v1/`, see `docs/api.md`.

mod attach;
mod keys;
mod sessions;
mod shells;

use std::sync::Arc;

use clamshell_domain::{SessionId, ShellId};
use clamshell_wire::{AwsError, percent_decode, route::RouteError};
use http::{Method, Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use serde_json::json;

pub(crate) use keys::generate as generate_key;

use super::{
    ApiError, auth, read_body,
    response::{self, Body},
};
use crate::{
    app::{App, Target},
    session::Session,
};

/// A request of this API after authentication.
struct Ask<'a> {
    app: &'a Arc<App>,
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
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let method = parts.method.clone();
    if segments == ["health"] {
        let health = json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") });
        return Ok(response::json(StatusCode::OK, &health));
    }
    let query = super::query(&parts)?;
    if let ["sessions", session_id, "shells", shell_id, "attach"] = segments[..] {
        auth::authenticate(app, &parts, &[]).await?;
        return attach::upgrade(app, parts, &query, session_id, shell_id).await;
    }
    let body = read_body(body).await?;
    auth::authenticate(app, &parts, &body).await?;
    let ask = Ask { app, query, body };
    match (&method, &segments[..]) {
        (&Method::GET, ["server"]) => server(&ask).await,
        (&Method::GET, ["doctor"]) => {
            let reports = crate::server::reports(app.registry.drivers()).await;
            Ok(response::json(StatusCode::OK, &json!({ "reports": reports })))
        }
        (&Method::GET, ["sessions"]) => sessions::list(&ask).await,
        (&Method::GET, ["sessions", session]) => sessions::show(&ask, session).await,
        (&Method::POST, ["sessions", session, "stop"]) => sessions::stop(&ask, session).await,
        (&Method::DELETE, ["sessions", session]) => sessions::remove(&ask, session).await,
        (&Method::POST, ["sessions", session, "commands"]) => sessions::command(&ask, session).await,
        (&Method::GET, ["shells"]) => shells::list_all(&ask).await,
        (&Method::GET, ["sessions", session, "shells"]) => shells::list(&ask, session).await,
        (&Method::GET, ["sessions", session, "shells", shell]) => shells::show(&ask, session, shell).await,
        (&Method::DELETE, ["sessions", session, "shells", shell]) => {
            shells::close(&ask, session, shell).await
        }
        (&Method::GET, ["sessions", session, "shells", shell, "log"]) => {
            shells::log(&ask, session, shell).await
        }
        (&Method::GET, ["sessions", session, "shells", shell, "screen"]) => {
            shells::screen(&ask, session, shell).await
        }
        (&Method::GET, ["sessions", session, "shells", shell, "export"]) => {
            shells::export(&ask, session, shell).await
        }
        (&Method::GET, ["keys"]) => keys::list(&ask).await,
        (&Method::POST, ["keys"]) => keys::create(&ask).await,
        (&Method::POST, ["keys", key, "enable"]) => keys::set_active(&ask, key, true).await,
        (&Method::POST, ["keys", key, "disable"]) => keys::set_active(&ask, key, false).await,
        (&Method::DELETE, ["keys", key]) => keys::remove(&ask, key).await,
        _ => Err(ApiError::Wire(RouteError::UnknownOperation.aws_error())),
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
