//! Policies and tags as they are evaluated: parsed once, and forgotten when the store says that some changed.

use std::{collections::BTreeMap, sync::Arc};

use clamshell_identity::policy::{Document, DocumentKind};
use clamshell_store::PrincipalKind;

use super::callers::PoliciesOf;
use crate::{app::App, http::ApiError, remembered::Remembered};

/// What a resource has attached.
#[derive(Debug, Default)]
pub(super) struct Attached {
    pub(super) policy: Option<Document>,
    pub(super) tags: BTreeMap<String, String>,
}

/// Policies read lately.
#[derive(Debug, Default)]
pub(crate) struct PolicyCache {
    resources: Remembered<String, Attached>,
    principals: Remembered<(PrincipalKind, String), Vec<Document>>,
}

/// Policy and tags of a resource.
pub(super) async fn of_resource(app: &App, arn: &str) -> Result<Arc<Attached>, ApiError> {
    // Nothing can be attached to what is no resource of this service.
    if !arn.starts_with("arn:aws:bedrock-agentcore:") {
        return Ok(Arc::default());
    }
    let (changes, now_ms) = (app.store.changes(), app.now_ms());
    let key = arn.to_owned();
    if let Some(known) = app.policies.resources.get(&key, changes, now_ms) {
        return Ok(known);
    }
    let policy = match app.store.resource_policy(arn).await? {
        None => None,
        Some(text) => Some(parse(DocumentKind::Resource, &text, arn)?),
    };
    let attached = Arc::new(Attached { policy, tags: app.store.tags(arn).await? });
    app.policies.resources.put(key, &attached, changes, now_ms);
    Ok(attached)
}

/// Identity policies of a user or role.
pub(super) async fn of(app: &App, whose: &PoliciesOf) -> Result<Arc<Vec<Document>>, ApiError> {
    let key = match whose {
        PoliciesOf::Nobody => return Ok(Arc::default()),
        PoliciesOf::User(name) => (PrincipalKind::User, name.clone()),
        PoliciesOf::Role(name) => (PrincipalKind::Role, name.clone()),
    };
    let (changes, now_ms) = (app.store.changes(), app.now_ms());
    if let Some(known) = app.policies.principals.get(&key, changes, now_ms) {
        return Ok(known);
    }
    let texts =
        app.store.principal(key.0, &key.1).await?.map(|principal| principal.policies).unwrap_or_default();
    let mut documents = Vec::with_capacity(texts.len());
    for (name, text) in &texts {
        documents.push(parse(DocumentKind::Identity, text, name)?);
    }
    let documents = Arc::new(documents);
    app.policies.principals.put(key, &documents, changes, now_ms);
    Ok(documents)
}

/// A policy that does not parse refuses everything: it may hold a deny.
fn parse(kind: DocumentKind, text: &str, of: &str) -> Result<Document, ApiError> {
    Document::parse(kind, text).map_err(|error| {
        tracing::error!(of, %error, "a stored policy cannot be read");
        ApiError::Internal("a stored policy")
    })
}
