//! Share links of shells: make, list, remove, and what a holder is told of its own.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clamshell_store::{
    InsertShareError, PrincipalKind, SHARES_MAX, ShareAccess, ShareRecord, is_default_title,
};
use clamshell_wire::{AwsError, ErrorCode};
use http::{Response, StatusCode, request::Parts};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ask, find_session, shell_id};
use crate::{
    app::App,
    http::{
        ApiError,
        access::{self, Demand, ROOT, share},
        chain,
        response::{self, Body},
    },
    time::rfc3339,
};

/// How long a link holds, seconds, unless asked otherwise.
const EXPIRES_S: u64 = 3_600;

/// How long a link may hold: a minute to 30 days.
const EXPIRES_S_ALLOWED: std::ops::RangeInclusive<u64> = 60..=2_592_000;

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateShare {
    access: Option<String>,
    expires_in_seconds: Option<u64>,
}

pub(super) async fn create(
    ask: &Ask<'_>,
    parts: &Parts,
    session_id: &str,
    shell: &str,
) -> Result<Response<Body>, ApiError> {
    let text: &[u8] = if ask.body.is_empty() { b"{}" } else { &ask.body };
    let asked: CreateShare =
        serde_json::from_slice(text).map_err(|_| AwsError::cannot_parse("The body is not a share link"))?;
    let access = match asked.access.as_deref() {
        None | Some("watch") => ShareAccess::Watch,
        Some("write") => ShareAccess::Write,
        Some(_) => {
            return Err(AwsError::invalid_field("access", "Member must be one of: [watch, write]").into());
        }
    };
    let expires_s = asked.expires_in_seconds.unwrap_or(EXPIRES_S);
    if !EXPIRES_S_ALLOWED.contains(&expires_s) {
        let rule = "Member must be between 60 and 2592000";
        return Err(AwsError::invalid_field("expiresInSeconds", rule).into());
    }
    let shell_id = shell_id(shell)?;
    let (target, session) = find_session(ask.app, &ask.query, session_id).await?;
    let session = session.ok_or(ApiError::SessionNotFound)?;
    session.shell(&shell_id).await?.ok_or(ApiError::ShellNotFound)?;
    let app = ask.app;
    let now_ms = app.now_ms();
    let key = target.session_key(super::parse_session_id(session_id)?);
    let share = ShareRecord {
        share_id: format!("share-{}", random(app, 12)),
        key,
        shell_id,
        access,
        made_by: maker(ask).await?,
        created_at_ms: now_ms,
        expires_at_ms: now_ms.saturating_add(expires_s * 1_000),
    };
    // Nobody gives what they do not have.
    let mut demand = share::demand(app, &share);
    access::authorize(app, &ask.caller, &demand).await?;
    demand = Demand::new("bedrock-agentcore:InvokeAgentRuntimeCommandShell", demand.resources);
    demand.unless_denied = true;
    access::authorize(app, &ask.caller, &demand).await?;
    let token = random(app, TOKEN_BYTES);
    app.store.insert_share(&share, &share::hash_of(&token)).await.map_err(refused)?;
    let mut value = view(&share);
    value["url"] = json!(format!("{}/console/share#{token}", app.base_url(parts)));
    Ok(response::json(StatusCode::CREATED, &value))
}

pub(super) async fn list(ask: &Ask<'_>, session_id: &str, shell: &str) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    let shares = ask.app.store.list_shares(session.key(), &shell_id(shell)?, ask.app.now_ms()).await?;
    let shares: Vec<Value> = shares.iter().map(view).collect();
    Ok(response::json(StatusCode::OK, &json!({ "shares": shares })))
}

pub(super) async fn remove(ask: &Ask<'_>, share_id: &str) -> Result<Response<Body>, ApiError> {
    if !ask.app.store.remove_share(share_id).await? {
        return Err(no_share());
    }
    ask.app.shares.close(share_id);
    Ok(response::empty(StatusCode::NO_CONTENT))
}

/// What the holder of a link has.
pub(super) async fn current(ask: &Ask<'_>, parts: &Parts) -> Result<Response<Body>, ApiError> {
    let app = ask.app;
    let share = share::find_record(app, parts).await?.ok_or_else(no_share)?;
    let session = app.registry.get(&share.key).ok_or(ApiError::SessionNotFound)?;
    let (title, runtime) = (session.title(share.shell_id.as_str()), session.runtime());
    let is_default = title.as_ref().is_some_and(|title| is_default_title(runtime.name.as_str(), title));
    Ok(response::json(
        StatusCode::OK,
        &json!({
            "runtimeArn": app.runtime_arn(&share.key.runtime_id).to_string(),
            "runtimeName": runtime.name,
            "qualifier": share.key.endpoint,
            "sessionId": share.key.session_id,
            "shellId": share.shell_id,
            "access": access_name(share.access),
            "expiresAt": rfc3339(share.expires_at_ms),
            "title": title,
            "isDefaultTitle": is_default,
        }),
    ))
}

/// Name of the user that makes a link. What a link allows is looked up under it whenever the link is used.
async fn maker(ask: &Ask<'_>) -> Result<String, ApiError> {
    let arn = ask.caller.principal.arn.as_str();
    if arn == ask.app.user_arn(ROOT) {
        return Ok(ROOT.to_owned());
    }
    if let Some(name) = arn.strip_prefix(&ask.app.user_arn(""))
        && ask.app.store.principal(PrincipalKind::User, name).await?.is_some()
    {
        return Ok(name.to_owned());
    }
    Err(AwsError::new(ErrorCode::AccessDenied, "Only users can share a shell").into())
}

fn random(app: &App, bytes: usize) -> String {
    let mut random = vec![0; bytes];
    app.entropy.fill(&mut random);
    URL_SAFE_NO_PAD.encode(random)
}

fn no_share() -> ApiError {
    AwsError::new(ErrorCode::ResourceNotFound, "Share link not found").into()
}

fn refused(error: InsertShareError) -> ApiError {
    match error {
        InsertShareError::TooMany => AwsError::new(
            ErrorCode::Conflict,
            format!("The shell has {SHARES_MAX} share links; remove one first"),
        )
        .into(),
        InsertShareError::Store(error) => {
            tracing::error!(error = chain(&error), "share link was not stored");
            error.into()
        }
    }
}

fn access_name(access: ShareAccess) -> &'static str {
    match access {
        ShareAccess::Watch => "watch",
        ShareAccess::Write => "write",
    }
}

fn view(share: &ShareRecord) -> Value {
    json!({
        "shareId": share.share_id,
        "access": access_name(share.access),
        "madeBy": share.made_by,
        "createdAt": rfc3339(share.created_at_ms),
        "expiresAt": rfc3339(share.expires_at_ms),
    })
}
