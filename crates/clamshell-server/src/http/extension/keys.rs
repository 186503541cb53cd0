//! Access keys: create, list, disable, enable, remove.

use std::collections::BTreeMap;

use base64::Engine;
use clamshell_domain::{AccessKey, AccessKeyId, AccessKeyStatus};
use clamshell_store::{ChangeAccessKeyError, ChangePrincipalError, PrincipalKind, PrincipalRecord, Secret};
use clamshell_wire::AwsError;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Ask,
    principals::{ADMINISTRATOR, refused as refused_user},
};
use crate::{
    app::App,
    http::{
        ApiError,
        access::{self, Demand, ROOT},
        chain,
        response::{self, Body},
    },
    time::rfc3339,
};

/// Bytes of randomness in a secret: 40 characters of base64, as AWS's secrets have.
const SECRET_BYTES: usize = 30;

/// Longest user name.
const USER_NAME_CHARS_MAX: usize = 128;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreateKey {
    user_name: Option<String>,
    /// Refuse when there is no such user, in place of making one that may do everything.
    #[serde(default)]
    existing_user: bool,
}

pub(super) async fn list(ask: &Ask<'_>) -> Result<Response<Body>, ApiError> {
    let keys: Vec<Value> = ask.app.store.list_access_keys().await?.iter().map(view).collect();
    Ok(response::json(StatusCode::OK, &json!({ "keys": keys })))
}

pub(super) async fn create(ask: &Ask<'_>) -> Result<Response<Body>, ApiError> {
    let asked: CreateKey = if ask.body.is_empty() {
        CreateKey { user_name: None, existing_user: false }
    } else {
        serde_json::from_slice(&ask.body).map_err(|_| AwsError::cannot_parse("The body is not valid JSON"))?
    };
    let user_name = asked.user_name.unwrap_or_else(|| "user".to_owned());
    let length = user_name.chars().count();
    if length == 0 || length > USER_NAME_CHARS_MAX || user_name.chars().any(char::is_control) {
        return Err(
            AwsError::invalid_field("userName", "Member must have 1 to 128 printable characters").into()
        );
    }
    ensure_user(ask, &user_name, asked.existing_user).await?;
    let (key, secret) = new_key(ask.app, user_name);
    ask.app.store.insert_access_key(&ask.app.master_key, &key, &secret).await.map_err(|error| {
        tracing::error!(error = chain(&error), "access key was not stored");
        ApiError::Internal("access key")
    })?;
    ask.app.forget_key(&key.access_key_id);
    let mut value = view(&key);
    value["secretAccessKey"] = json!(secret.expose_text());
    Ok(response::json(StatusCode::CREATED, &value))
}

/// A key for nobody yet known makes its user, who then may do everything: what keys could do before there were policies.
/// Only who may give such a policy to a user gets that.
async fn ensure_user(ask: &Ask<'_>, name: &str, must_exist: bool) -> Result<(), ApiError> {
    if name == ROOT || ask.app.store.principal(PrincipalKind::User, name).await?.is_some() {
        return Ok(());
    }
    if must_exist {
        return Err(ApiError::PrincipalNotFound);
    }
    for action in ["clamshell:CreateUser", "clamshell:PutUserPolicy"] {
        access::authorize(ask.app, &ask.caller, &Demand::new(action, vec![ask.app.user_arn(name)])).await?;
    }
    let (policy, text) = ADMINISTRATOR;
    let record = PrincipalRecord {
        kind: PrincipalKind::User,
        name: name.to_owned(),
        description: String::new(),
        created_at_ms: ask.app.now_ms(),
        policies: BTreeMap::from([(policy.to_owned(), text.to_owned())]),
    };
    match ask.app.store.insert_principal(&record).await {
        // Somebody else made it a moment ago.
        Ok(()) | Err(ChangePrincipalError::AlreadyExists) => Ok(()),
        Err(error) => Err(refused_user(error)),
    }
}

/// A fresh key pair, not stored yet.
pub(crate) fn new_key(app: &App, user_name: String) -> (AccessKey, Secret) {
    generate(&*app.entropy, app.now_ms(), user_name)
}

/// A fresh key pair.
pub(crate) fn generate(
    entropy: &dyn clamshell_domain::Entropy,
    now_ms: u64,
    user_name: String,
) -> (AccessKey, Secret) {
    let mut bytes = [0; SECRET_BYTES];
    entropy.fill(&mut bytes);
    let secret = Secret::new(base64::engine::general_purpose::STANDARD.encode(bytes));
    let key = AccessKey {
        access_key_id: AccessKeyId::generate(entropy),
        user_name,
        status: AccessKeyStatus::Active,
        created_at_ms: now_ms,
        last_used_at_ms: None,
    };
    (key, secret)
}

pub(super) async fn set_active(ask: &Ask<'_>, id: &str, active: bool) -> Result<Response<Body>, ApiError> {
    let id = AccessKeyId::parse(id).map_err(|_| ApiError::AccessKeyNotFound)?;
    let status = if active { AccessKeyStatus::Active } else { AccessKeyStatus::Inactive };
    ask.app.store.set_access_key_status(&id, status, false).await.map_err(refused)?;
    ask.app.forget_key(&id);
    if !active {
        ask.app.connections.close(&id);
    }
    let keys = ask.app.store.list_access_keys().await?;
    let key = keys.iter().find(|key| key.access_key_id == id).ok_or(ApiError::AccessKeyNotFound)?;
    Ok(response::json(StatusCode::OK, &view(key)))
}

pub(super) async fn remove(ask: &Ask<'_>, id: &str) -> Result<Response<Body>, ApiError> {
    let id = AccessKeyId::parse(id).map_err(|_| ApiError::AccessKeyNotFound)?;
    ask.app.store.remove_access_key(&id, false).await.map_err(refused)?;
    ask.app.forget_key(&id);
    ask.app.connections.close(&id);
    Ok(response::empty(StatusCode::NO_CONTENT))
}

fn refused(error: ChangeAccessKeyError) -> ApiError {
    match error {
        ChangeAccessKeyError::NotFound { .. } => ApiError::AccessKeyNotFound,
        ChangeAccessKeyError::LastActive { .. } => ApiError::LastAccessKey,
        ChangeAccessKeyError::Store(error) => ApiError::Store(error),
    }
}

fn view(key: &AccessKey) -> Value {
    json!({
        "accessKeyId": key.access_key_id,
        "userName": key.user_name,
        "status": key.status,
        "createdAt": rfc3339(key.created_at_ms),
        "lastUsedAt": key.last_used_at_ms.map(|at_ms| rfc3339(at_ms.max(key.created_at_ms))),
    })
}
