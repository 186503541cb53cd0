//! The calls of this API on sessions and shells when those run at another endpoint (`clamshell web`). Each user sees their
//! own.

use std::sync::Arc;

use clamshell_domain::{SessionId, ShellId};
use clamshell_protocol::AttachFrom;
use clamshell_store::is_default_title;
use clamshell_wire::{AwsError, ErrorCode, query::find, route::RouteError};
use http::{Response, StatusCode, request::Parts};
use serde_json::{Value, json};

use super::{Ask, Found, attach, parse_session_id, shell_id, shells};
use crate::{
    app::App,
    connections::Connection,
    http::{
        ApiError,
        access::Caller,
        response::{self, Body},
        upgrade,
    },
    time::rfc3339,
    web::{PageAsk, PageFrom, WRITER_BYTES_MAX, Web, WebError, WebShell},
};

/// The calls that are the same wherever shells run.
fn is_general(found: Found) -> bool {
    matches!(
        found,
        Found::Health
            | Found::ListUsers
            | Found::CreateUser
            | Found::ShowUser
            | Found::RemoveUser
            | Found::PutUserPolicy
            | Found::RemoveUserPolicy
            | Found::SetPassword
            | Found::SetConsoleRole
            | Found::SetOwnPassword
            | Found::ListLogins
            | Found::RemoveLogin
            | Found::CreateConsoleLink
            | Found::ListKeys
            | Found::CreateKey
            | Found::EnableKey
            | Found::DisableKey
            | Found::RemoveKey
            | Found::ReadAudit
    )
}

/// The answer of a call that is another one here; `None` for those that are the same everywhere.
pub(super) async fn handle(
    web: &Arc<Web>,
    ask: &Ask<'_>,
    found: Found,
    first: &str,
    second: &str,
) -> Option<Result<Response<Body>, ApiError>> {
    if is_general(found) {
        return None;
    }
    Some(answer(web, ask, found, first, second).await)
}

async fn answer(
    web: &Arc<Web>,
    ask: &Ask<'_>,
    found: Found,
    first: &str,
    second: &str,
) -> Result<Response<Body>, ApiError> {
    let owner = ask.caller.principal_arn();
    match found {
        Found::Server => {
            let info = web.info();
            Ok(response::json(
                StatusCode::OK,
                &json!({
                    "version": env!("CARGO_PKG_VERSION"),
                    "accountId": info.account_id,
                    "region": info.region,
                    "endpoint": info.endpoint,
                    "defaultRuntimeArn": info.runtime_arn,
                    "pid": std::process::id(),
                    "driver": "web",
                }),
            ))
        }
        Found::ListAllShells | Found::ListShells => {
            let mut shells = web.list(owner).await.map_err(refusal)?;
            if found == Found::ListShells {
                shells.retain(|shell| shell.record.session_id.as_str() == first);
            }
            let shells: Vec<Value> = shells.iter().map(|shell| view(web, shell)).collect();
            Ok(response::json(StatusCode::OK, &json!({ "shells": shells })))
        }
        Found::ShowShell => {
            let shell = web.show(owner, &key(first, second)?).await.map_err(refusal)?;
            Ok(response::json(StatusCode::OK, &view(web, &shell)))
        }
        Found::CloseShell => {
            web.close(owner, key(first, second)?).await.map_err(refusal)?;
            Ok(response::empty(StatusCode::NO_CONTENT))
        }
        Found::RenameShell => {
            let title = shells::title(&ask.body)?;
            let shell = web.name(owner, &key(first, second)?, &title).await.map_err(refusal)?;
            Ok(response::json(StatusCode::OK, &view(web, &shell)))
        }
        Found::StopSession => {
            let session_id = parse_session_id(first)?;
            web.stop(owner, &session_id).await.map_err(refusal)?;
            Ok(response::json(StatusCode::OK, &json!({ "sessionId": session_id, "state": "Stopped" })))
        }
        _ => Ok(crate::http::refuse_route(&RouteError::UnknownOperation)),
    }
}

/// Attaches a page.
pub(super) async fn attach(
    app: &Arc<App>,
    web: &Arc<Web>,
    parts: Parts,
    (caller, connection): (Caller, Connection),
    query: &[(String, String)],
    session_id: &str,
    shell: &str,
) -> Result<Response<Body>, ApiError> {
    let speaks_ours = attach::speaks_ours(&parts);
    let handshake = upgrade::handshake(parts)?;
    let key = key(session_id, shell)?;
    let ask = PageAsk {
        from: match attach::parse_from(find(query, "from").unwrap_or("screen"))? {
            AttachFrom::Offset(offset) => PageFrom::Offset(offset),
            AttachFrom::End => PageFrom::End,
            AttachFrom::Screen | AttachFrom::Tail(_) => PageFrom::Screen,
        },
        writes: match find(query, "access").unwrap_or("write") {
            "write" => true,
            "watch" => false,
            _ => {
                let problem = "Member must be one of: [write, watch]";
                return Err(AwsError::invalid_field("access", problem).into());
            }
        },
        window: attach::parse_window(find(query, "window"))?,
        answers_when_told: attach::parse_answers(find(query, "answers"))?,
        takeover: attach::flag(query, "takeover")?,
        writer: writer(find(query, "writer"))?,
    };
    let create = attach::flag(query, "create")? && ask.writes;
    let attachable = web.open(caller.principal_arn(), key, create).await.map_err(refusal)?;
    let mut response = handshake.accept(app, move |socket| async move {
        attachable.serve(socket, ask, connection.revoked.clone()).await;
    });
    if speaks_ours {
        attach::name_subprotocol(&mut response);
    }
    Ok(response)
}

/// The name under which a page's input is counted.
fn writer(name: Option<&str>) -> Result<Option<String>, ApiError> {
    let Some(name) = name else { return Ok(None) };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || name.len() > WRITER_BYTES_MAX || !name.bytes().all(is_name) {
        let problem = "Member must satisfy regular expression pattern: [a-zA-Z0-9_-]{1,64}";
        return Err(AwsError::invalid_field("writer", problem).into());
    }
    Ok(Some(name.to_owned()))
}

fn key(session_id: &str, shell: &str) -> Result<(SessionId, ShellId), ApiError> {
    Ok((parse_session_id(session_id)?, shell_id(shell)?))
}

fn refusal(error: WebError) -> ApiError {
    match error {
        WebError::NotFound => ApiError::SessionNotFound,
        WebError::TooMany(limit) => AwsError::new(ErrorCode::ServiceQuotaExceeded, limit.to_string()).into(),
        WebError::Upstream(error) => {
            AwsError::new(ErrorCode::RuntimeClientError, format!("The endpoint refused: {error}")).into()
        }
        WebError::Store(error) => ApiError::Store(error),
        WebError::Read => ApiError::Internal("what is known of a shell cannot be read"),
    }
}

/// As `Shell` of `docs/api.md`.
fn view(web: &Web, shell: &WebShell) -> Value {
    let (info, record) = (web.info(), &shell.record);
    let live = shell.live.as_ref();
    let attached = live.is_some_and(|live| live.writers > 0);
    let state = match (record.ended_at_ms, attached) {
        (Some(_), _) => "Ended",
        (None, true) => "Attached",
        (None, false) => "Detached",
    };
    let (cols, rows) = live.map_or((80, 24), |live| live.size);
    let mut view = json!({
        "runtimeArn": info.runtime_arn,
        "runtimeName": info.runtime_name,
        "qualifier": info.qualifier,
        "sessionId": record.session_id,
        "shellId": record.shell_id,
        "state": state,
        "command": [],
        "cols": cols,
        "rows": rows,
        "createdAt": rfc3339(record.created_at_ms),
        "writers": live.map_or(0, |live| live.writers),
        "watchers": live.map_or(0, |live| live.watchers),
        "connected": live.is_some_and(|live| live.connected),
    });
    // While it is not connected nobody has counted to its end.
    if let Some((start, run, end)) = live.map(|live| live.offsets) {
        view["startOffset"] = json!(start);
        view["runOffset"] = json!(run);
        view["endOffset"] = json!(end);
    }
    if !record.title.is_empty() {
        view["title"] = json!(record.title);
        view["isDefaultTitle"] = json!(is_default_title(&info.runtime_name, &record.title));
    }
    if let Some(ended_at_ms) = record.ended_at_ms {
        view["endedAt"] = json!(rfc3339(ended_at_ms));
        view["exitCode"] = json!(record.exit_code);
    } else if !attached {
        view["detachedAt"] = json!(rfc3339(record.attached_at_ms));
    }
    view
}
