//! What a request leaves in the audit trail: noted when its caller is known, completed with the status of its answer.
//!
//! Recorded is what changes something, and looking into terminals and files. Requests of strangers are not: they would fill
//! the trail at will. Logins, which know nobody before, tell `App::audit` themselves.

use std::sync::{Arc, Mutex, PoisonError};

use clamshell_store::AuditVia;
use clamshell_wire::{Operation, query::find};
use http::{StatusCode, header, request::Parts};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    access::{Asked, Demand, Peer, share},
    extension::ExtensionRoute,
};
use crate::{app::App, audit::AuditEntry};

/// Status of a request whose client hung up before there was an answer, as proxies write it down.
const CLIENT_GONE: u16 = 499;

/// Members of the query that say what a request is about.
const QUERY_MEMBERS: [&str; 5] = ["access", "path", "to", "from", "takeover"];

/// Reading calls that are recorded nevertheless, by the names of their actions.
const RECORDED_READS: [&str; 4] = ["Attach", "ReadLog", "Export", "ReadFile"];

/// The note of one request; in its extensions.
#[derive(Debug, Clone, Default)]
pub(super) struct Trail(Arc<Mutex<Option<AuditEntry>>>);

/// Who asks, as the trail has it.
pub(super) struct Who<'a> {
    /// ARN; empty for callers with a token.
    pub(super) principal: &'a str,
    /// Name of the user, role session or subject.
    pub(super) user_name: &'a str,
    /// How it proved that.
    pub(super) via: AuditVia,
}

/// Notes what is asked, before it is decided.
pub(super) fn note(app: &App, parts: &Parts, asked: &Asked<'_>, who: &Who<'_>, demand: Option<&Demand>) {
    if !is_recorded(parts, asked) {
        return;
    }
    let Some(Trail(note)) = parts.extensions.get::<Trail>() else { return };
    let peer = parts.extensions.get::<Peer>();
    let entry = AuditEntry {
        principal: who.principal.to_owned(),
        user_name: who.user_name.to_owned(),
        source_ip: peer.map(|peer| peer.address.to_canonical().to_string()).unwrap_or_default(),
        via: who.via,
        action: demand.map(|demand| demand.action.clone()).unwrap_or_default(),
        resource: of_upstream(app, asked)
            .or_else(|| demand.and_then(|demand| demand.resources.last().cloned()))
            .unwrap_or_default(),
        status: 0,
        request_id: String::new(),
        detail: detail(parts),
    };
    *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(entry);
}

/// What a call on sessions and shells is about when those run at another endpoint: policies see what is of this server, the
/// trail names what there is.
fn of_upstream(app: &App, asked: &Asked<'_>) -> Option<String> {
    let info = app.web.as_ref()?.info();
    let is_about_shells = matches!(
        asked,
        Asked::Extension(
            ExtensionRoute::Attach
                | ExtensionRoute::CloseShell
                | ExtensionRoute::RenameShell
                | ExtensionRoute::StopSession,
            _
        )
    );
    is_about_shells.then(|| format!("{}/runtime-endpoint/{}", info.runtime_arn, info.qualifier))
}

/// How the credentials of a request were given.
pub(super) fn via(parts: &Parts, has_token: bool) -> AuditVia {
    let is_signed = || {
        parts.headers.contains_key(header::AUTHORIZATION)
            || parts.uri.query().is_some_and(|query| query.contains("X-Amz-Signature="))
    };
    if share::is_offered(&parts.headers) {
        AuditVia::Share
    } else if has_token {
        AuditVia::Token
    } else if is_signed() {
        AuditVia::Signature
    } else {
        AuditVia::Cookie
    }
}

fn is_recorded(parts: &Parts, asked: &Asked<'_>) -> bool {
    use Operation as Op;
    match asked {
        Asked::Extension(route, _) => {
            parts.method != http::Method::GET || RECORDED_READS.contains(&format!("{route:?}").as_str())
        }
        Asked::Operation(operation, _) => match operation {
            Op::StopRuntimeSession
            | Op::InvokeAgentRuntimeCommand
            | Op::InvokeAgentRuntimeCommandShell
            | Op::CreateAgentRuntime
            | Op::UpdateAgentRuntime
            | Op::DeleteAgentRuntime
            | Op::CreateAgentRuntimeEndpoint
            | Op::UpdateAgentRuntimeEndpoint
            | Op::DeleteAgentRuntimeEndpoint
            | Op::TagResource
            | Op::UntagResource
            | Op::PutResourcePolicy
            | Op::DeleteResourcePolicy => true,
            Op::GetAgentRuntime
            | Op::ListAgentRuntimes
            | Op::ListAgentRuntimeVersions
            | Op::GetAgentRuntimeEndpoint
            | Op::ListAgentRuntimeEndpoints
            | Op::ListTagsForResource
            | Op::GetResourcePolicy
            | Op::InvokeAgentRuntime
            | Op::InvokeAgentRuntimeWithWebSocketStream
            | Op::GetAgentCard
            | Op::GetRuntimeProtectedResourceMetadata => false,
        },
    }
}

/// Path, session and what the query says of the call. Nothing of a body; a query has no secrets but a signature, which is
/// not among [`QUERY_MEMBERS`].
fn detail(parts: &Parts) -> Map<String, Value> {
    let mut detail = Map::new();
    let mut put = |name: &str, text: &str| {
        let text: String = text.chars().filter(|char| !char.is_control()).take(512).collect();
        detail.insert(name.to_owned(), json!(text));
    };
    put("method", parts.method.as_str());
    put("path", parts.uri.path());
    if let Some(id) =
        parts.headers.get(clamshell_wire::headers::SESSION_ID).and_then(|value| value.to_str().ok())
    {
        put("sessionId", id);
    }
    if let Ok(query) = super::query(parts) {
        for name in QUERY_MEMBERS {
            if let Some(value) = find(&query, name) {
                put(&format!("query.{name}"), value);
            }
        }
    }
    detail
}

/// Sees to it that a note gets into the trail, whatever becomes of the request.
pub(super) struct Recorder {
    app: Arc<App>,
    trail: Trail,
    request_id: Uuid,
}

impl Recorder {
    pub(super) fn new(app: &Arc<App>, trail: Trail, request_id: Uuid) -> Self {
        Self { app: Arc::clone(app), trail, request_id }
    }

    /// Completes the note and returns when it is stored.
    pub(super) async fn answered(self, status: StatusCode, error: Option<&'static str>) {
        let Some(entry) = self.take(status.as_u16(), error) else { return };
        let app = Arc::clone(&self.app);
        // In a task of its own: a client that hangs up must not take the record with it.
        let _ = self.app.tasks.spawn(async move { app.audit(entry).await }).await;
    }

    fn take(&self, status: u16, error: Option<&'static str>) -> Option<AuditEntry> {
        let mut entry = self.trail.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        entry.status = status;
        entry.request_id = self.request_id.to_string();
        if let Some(error) = error {
            entry.detail.insert("error".to_owned(), json!(error));
        }
        Some(entry)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // The client hung up; what it asked for may have been done.
        if let Some(entry) = self.take(CLIENT_GONE, None) {
            let app = Arc::clone(&self.app);
            self.app.tasks.spawn(async move { app.audit(entry).await });
        }
    }
}
