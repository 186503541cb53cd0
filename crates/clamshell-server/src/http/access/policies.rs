//! Policies and tags as they are evaluated: parsed once, and forgotten when the store says that some changed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use clamshell_identity::policy::{Document, DocumentKind};
use clamshell_store::PrincipalKind;

use super::callers::{Identity, PoliciesOf};
use crate::{app::App, http::ApiError};

/// Resources and principals remembered, each: far more than are busy at the same time, some MiB of small policies.
const REMEMBERED_MAX: usize = 1024;

/// What is remembered is read again after so long, whatever the store says.
const REMEMBERED_MS: u64 = 5_000;

/// What a resource has attached.
#[derive(Debug, Default)]
pub(super) struct Attached {
    pub(super) policy: Option<Document>,
    pub(super) tags: BTreeMap<String, String>,
}

/// Policies read lately.
#[derive(Debug, Default)]
pub(crate) struct PolicyCache {
    resources: Mutex<Remembered<String, Attached>>,
    principals: Mutex<Remembered<(PrincipalKind, String), Vec<Document>>>,
}

#[derive(Debug)]
struct Remembered<K, V> {
    by_key: HashMap<K, (Arc<V>, u64)>,
    /// Changes that the store had counted before any of them was read.
    changes: u64,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), changes: 0 }
    }
}

impl<K: std::hash::Hash + Eq, V> Remembered<K, V> {
    fn get(&mut self, key: &K, changes: u64, now_ms: u64) -> Option<Arc<V>> {
        if self.changes != changes {
            self.by_key.clear();
            self.changes = changes;
        }
        let (value, read_at_ms) = self.by_key.get(key)?;
        (now_ms < read_at_ms.saturating_add(REMEMBERED_MS)).then(|| Arc::clone(value))
    }

    /// Remembers what was read when the store had counted so many changes.
    fn put(&mut self, key: K, value: &Arc<V>, changes: u64, now_ms: u64) {
        if self.changes != changes {
            return;
        }
        if self.by_key.len() >= REMEMBERED_MAX {
            self.by_key.clear();
        }
        self.by_key.insert(key, (Arc::clone(value), now_ms));
    }
}

/// Policy and tags of a resource.
pub(super) async fn of_resource(app: &App, arn: &str) -> Result<Arc<Attached>, ApiError> {
    // Nothing can be attached to what is no resource of this service.
    if !arn.starts_with("arn:aws:bedrock-agentcore:") {
        return Ok(Arc::default());
    }
    let (changes, now_ms) = (app.store.policy_changes(), app.now_ms());
    let key = arn.to_owned();
    let known =
        app.policies.resources.lock().unwrap_or_else(PoisonError::into_inner).get(&key, changes, now_ms);
    if let Some(known) = known {
        return Ok(known);
    }
    let policy = match app.store.resource_policy(arn).await? {
        None => None,
        Some(text) => Some(parse(DocumentKind::Resource, &text, arn)?),
    };
    let attached = Arc::new(Attached { policy, tags: app.store.tags(arn).await? });
    app.policies
        .resources
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .put(key, &attached, changes, now_ms);
    Ok(attached)
}

/// Identity policies of a caller.
pub(super) async fn of_identity(app: &App, identity: &Identity) -> Result<Arc<Vec<Document>>, ApiError> {
    let key = match &identity.policies {
        PoliciesOf::Nobody => return Ok(Arc::default()),
        PoliciesOf::User(name) => (PrincipalKind::User, name.clone()),
        PoliciesOf::Role(name) => (PrincipalKind::Role, name.clone()),
    };
    let (changes, now_ms) = (app.store.policy_changes(), app.now_ms());
    let known =
        app.policies.principals.lock().unwrap_or_else(PoisonError::into_inner).get(&key, changes, now_ms);
    if let Some(known) = known {
        return Ok(known);
    }
    let texts =
        app.store.principal(key.0, &key.1).await?.map(|principal| principal.policies).unwrap_or_default();
    let mut documents = Vec::with_capacity(texts.len());
    for (name, text) in &texts {
        documents.push(parse(DocumentKind::Identity, text, name)?);
    }
    let documents = Arc::new(documents);
    app.policies
        .principals
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .put(key, &documents, changes, now_ms);
    Ok(documents)
}

/// A policy that does not parse refuses everything: it may hold a deny.
fn parse(kind: DocumentKind, text: &str, of: &str) -> Result<Document, ApiError> {
    Document::parse(kind, text).map_err(|error| {
        tracing::error!(of, %error, "a stored policy cannot be read");
        ApiError::Internal("a stored policy")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_meanwhile_is_not_remembered() {
        let mut remembered = Remembered::<u8, u8>::default();
        let (old, new) = (Arc::new(1), Arc::new(2));
        assert_eq!(remembered.get(&0, 7, 0), None);
        remembered.put(0, &old, 7, 0);
        assert_eq!(remembered.get(&0, 7, REMEMBERED_MS - 1), Some(Arc::clone(&old)));
        assert_eq!(remembered.get(&0, 7, REMEMBERED_MS), None);
        // Somebody asked after the change, and only then an older answer arrives.
        assert_eq!(remembered.get(&0, 8, 0), None);
        remembered.put(0, &old, 7, 0);
        assert_eq!(remembered.get(&0, 8, 0), None);
        remembered.put(0, &new, 8, 0);
        assert_eq!(remembered.get(&0, 8, 0), Some(new));
    }
}
