//! Sessions: list, show, stop, remove, run a command that outlives its caller.

use std::sync::Arc;

use clamshell_domain::{Phase, SessionRecord, StopReason};
use clamshell_wire::{AwsError, command::CommandRequest};
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Ask, parse_session_id, usage};
use crate::{
    app::App,
    http::{
        ApiError, commands,
        response::{self, Body},
    },
    session::{Session, missing_network, tree},
    time::rfc3339,
};

/// Entries of a workspace counted for its size; beyond it the size is left out.
const WORKSPACE_ENTRIES_MAX: usize = 200_000;

/// What `state` of a view may be.
const STATES: [&str; 5] = ["Provisioning", "Active", "Idle", "Stopping", "Stopped"];

pub(super) async fn list(ask: &Ask<'_>) -> Result<Response<Body>, ApiError> {
    let runtime = match ask.param("runtime") {
        None => None,
        Some(name) => Some(ask.app.named_target(name, None).await?.runtime.runtime_id.clone()),
    };
    let wanted = ask.param("state");
    if wanted.is_some_and(|state| !STATES.contains(&state)) {
        let rule = format!("Member must be one of: [{}]", STATES.join(", "));
        return Err(AwsError::invalid_field("state", &rule).into());
    }
    let sessions: Vec<Value> = ask
        .app
        .registry
        .list()
        .iter()
        .filter(|session| runtime.as_ref().is_none_or(|id| session.key().runtime_id == *id))
        .map(|session| view(ask.app, session))
        .filter(|view| wanted.is_none_or(|state| view["state"] == state))
        .collect();
    Ok(response::json(StatusCode::OK, &json!({ "sessions": sessions })))
}

pub(super) async fn show(ask: &Ask<'_>, session_id: &str) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    let stats = ask.app.registry.account_for(&session).await.unwrap_or_default();
    let mut value = view(ask.app, &session);
    let workspace = session.folder().join("workspace");
    let measured =
        tokio::task::spawn_blocking(move || tree::measure(&workspace, WORKSPACE_ENTRIES_MAX)).await;
    let workspace_bytes = measured.ok().flatten().and_then(tree::Tree::whole);
    let limit_bytes = session.runtime().limits.workspace_bytes;
    let shown = &mut value["usage"];
    usage::add_stats(shown, &stats);
    shown["workspaceBytes"] = json!(workspace_bytes);
    shown["workspaceLimitBytes"] = json!(limit_bytes);
    if workspace_bytes.is_some_and(|bytes| bytes > limit_bytes) {
        value["usage"]["overLimit"] = json!(true);
    }
    Ok(response::json(StatusCode::OK, &value))
}

pub(super) async fn stop(ask: &Ask<'_>, session_id: &str) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    ask.app.registry.stop(&session, StopReason::Requested).await?;
    Ok(response::json(StatusCode::OK, &view(ask.app, &session)))
}

pub(super) async fn remove(ask: &Ask<'_>, session_id: &str) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    ask.app.registry.remove(&session).await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn command(ask: &Ask<'_>, session_id: &str) -> Result<Response<Body>, ApiError> {
    let asked = CommandRequest::parse(&ask.body)?;
    let keep_running = serde_json::from_slice::<Value>(&ask.body)
        .ok()
        .and_then(|body| body.get("keepRunning").and_then(Value::as_bool))
        .unwrap_or(false);
    let session_id = parse_session_id(session_id)?;
    let runtime = ask.param("runtime").unwrap_or("default");
    let target = ask.app.named_target(runtime, ask.param("qualifier")).await?;
    let (command, bytes) = (commands::excerpt(&asked.command), asked.command.len());
    tracing::info!(session = %session_id, %command, bytes, keep_running, "command");
    commands::start(ask.app, target, session_id, asked, keep_running).await
}

/// `Session` of `docs/api.md`, without what must be measured.
pub(in crate::http) fn view(app: &App, session: &Arc<Session>) -> Value {
    let record = session.record();
    let runtime = session.runtime();
    let (calls, idles_at_ms, ends_at_ms) = session.timers();
    let mut value = json!({
        "runtimeArn": app.runtime_arn(&record.key.runtime_id).to_string(),
        "runtimeName": runtime.name,
        "qualifier": record.key.endpoint,
        "sessionId": record.key.session_id,
        "state": state(&record, calls, app.now_ms()),
        "runtimeVersion": record.runtime_version.to_string(),
        "driver": record.driver,
        "createdAt": rfc3339(record.created_at_ms),
        "lastActivityAt": rfc3339(record.last_activity_at_ms),
        "usage": usage::sums(&session.usage(), record.created_at_ms, app.config.cost.as_ref()),
    });
    let mut put = |name: &str, ms: Option<u64>| {
        if let Some(ms) = ms {
            value[name] = json!(rfc3339(ms));
        }
    };
    put("startedAt", record.started_at_ms);
    if record.phase == Phase::Running {
        put("idleStopsAt", Some(idles_at_ms));
        put("lifetimeEndsAt", Some(ends_at_ms));
    }
    if record.phase == Phase::Stopped {
        put("stoppedAt", record.stopped_at_ms);
        put("storageRemovedAt", Some(app.registry.storage_removed_at_ms(record.last_activity_at_ms)));
        if let Some(reason) = record.stop_reason {
            value["stopReason"] = json!(reason);
        }
    }
    if let Some(compute) = session.compute() {
        let mut degraded = compute.sandbox.degraded.clone();
        degraded.extend(missing_network(&runtime).map(str::to_owned));
        value["degraded"] = json!(degraded);
    }
    value
}

/// After so long without activity a running session is shown as idle; it is stopped much later.
const SHOWN_IDLE_MS: u64 = 30_000;

fn state(record: &SessionRecord, calls: u32, now_ms: u64) -> &'static str {
    match record.phase {
        Phase::Provisioning => "Provisioning",
        Phase::Running if calls > 0 => "Active",
        Phase::Running if now_ms < record.last_activity_at_ms.saturating_add(SHOWN_IDLE_MS) => "Active",
        Phase::Running => "Idle",
        Phase::Stopping => "Stopping",
        Phase::Stopped => "Stopped",
    }
}
