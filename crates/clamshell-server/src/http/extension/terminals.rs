//! Terminal commands of runtimes, and the secrets that are handed to them. No call gives a secret back.

use clamshell_domain::{RuntimeId, RuntimeName};
use clamshell_store::{Secret, TerminalSecret};
use clamshell_wire::{AwsError, arn::RuntimeArn};
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Ask;
use crate::{
    app::App,
    http::{
        ApiError,
        response::{self, Body},
    },
    terminals::{SECRET_BYTES_MAX, TerminalError, TerminalSettings, is_secret_name},
    time::rfc3339,
};

#[derive(Deserialize)]
struct PutSecret {
    value: String,
}

pub(super) async fn show(ask: &Ask<'_>, runtime: &str) -> Result<Response<Body>, ApiError> {
    let runtime_id = runtime_of(ask.app, runtime).await?;
    let found = ask.app.store.runtime_terminal(&runtime_id).await?;
    let (settings, updated_at_ms): (TerminalSettings, u64) = found.ok_or(TerminalError::NoTerminal)?;
    Ok(response::json(StatusCode::OK, &view(&settings, updated_at_ms)))
}

pub(super) async fn put(ask: &Ask<'_>, runtime: &str) -> Result<Response<Body>, ApiError> {
    let runtime_id = runtime_of(ask.app, runtime).await?;
    let settings: TerminalSettings = serde_json::from_slice(&ask.body).map_err(|_| {
        AwsError::cannot_parse("The body is not JSON with command, secrets, workingDirectory and appliesTo")
    })?;
    settings.check()?;
    let known = ask.app.store.terminal_secrets().await?;
    for name in &settings.secrets {
        if !known.iter().any(|secret| secret.name == *name) {
            return Err(TerminalError::SecretMissing { name: name.clone() }.into());
        }
    }
    let now_ms = ask.app.now_ms();
    ask.app.store.put_runtime_terminal(&runtime_id, &settings, now_ms).await?;
    Ok(response::json(StatusCode::OK, &view(&settings, now_ms)))
}

pub(super) async fn remove(ask: &Ask<'_>, runtime: &str) -> Result<Response<Body>, ApiError> {
    let runtime_id = runtime_of(ask.app, runtime).await?;
    if ask.app.store.remove_runtime_terminal(&runtime_id).await? {
        Ok(response::empty(StatusCode::NO_CONTENT))
    } else {
        Err(TerminalError::NoTerminal.into())
    }
}

pub(super) async fn list_secrets(ask: &Ask<'_>) -> Result<Response<Body>, ApiError> {
    let secrets: Vec<Value> = ask.app.store.terminal_secrets().await?.iter().map(secret_view).collect();
    Ok(response::json(StatusCode::OK, &json!({ "secrets": secrets })))
}

pub(super) async fn put_secret(ask: &Ask<'_>, name: &str) -> Result<Response<Body>, ApiError> {
    if !is_secret_name(name) {
        let rule = "Member must be 1 to 128 letters, digits or underscores, and not start with a digit";
        return Err(TerminalError::Invalid { field: "name", rule }.into());
    }
    let PutSecret { value } = serde_json::from_slice(&ask.body)
        .map_err(|_| AwsError::cannot_parse("The body is not JSON with a value"))?;
    let secret = Secret::new(value);
    if !(1..=SECRET_BYTES_MAX).contains(&secret.expose().len()) {
        return Err(
            TerminalError::Invalid { field: "value", rule: "Member must have 1 to 32768 bytes" }.into()
        );
    }
    let app = ask.app;
    let kept = app.store.put_terminal_secret(&app.master_key, name, &secret, app.now_ms()).await;
    Ok(response::json(StatusCode::OK, &secret_view(&kept.map_err(TerminalError::from)?)))
}

pub(super) async fn remove_secret(ask: &Ask<'_>, name: &str) -> Result<Response<Body>, ApiError> {
    if ask.app.store.remove_terminal_secret(name).await? {
        Ok(response::empty(StatusCode::NO_CONTENT))
    } else {
        Err(TerminalError::SecretNotFound.into())
    }
}

/// The runtime of this name, id or ARN, in whatever state.
///
/// # Errors
/// [`ApiError::RuntimeNotFound`].
pub(in crate::http) async fn runtime_of(app: &App, text: &str) -> Result<RuntimeId, ApiError> {
    let found = if let Ok(name) = RuntimeName::parse(text) {
        app.store.runtime_by_name(&name).await?
    } else {
        let id = match RuntimeArn::parse(text) {
            Ok(arn) => RuntimeId::parse(&arn.runtime_id)
                .ok()
                .filter(|id| app.runtime_arn(id).to_string() == arn.runtime().to_string()),
            Err(_) => RuntimeId::parse(text).ok(),
        };
        match id {
            Some(id) => app.store.runtime(&id, None).await?,
            None => None,
        }
    };
    let not_found =
        || ApiError::RuntimeNotFound { runtime: text.to_owned(), qualifier: "DEFAULT".to_owned() };
    Ok(found.ok_or_else(not_found)?.runtime_id)
}

fn view(settings: &TerminalSettings, updated_at_ms: u64) -> Value {
    let mut value = json!(settings);
    value["updatedAt"] = json!(rfc3339(updated_at_ms));
    value
}

fn secret_view(secret: &TerminalSecret) -> Value {
    json!({
        "name": secret.name,
        "createdAt": rfc3339(secret.created_at_ms),
        "updatedAt": rfc3339(secret.updated_at_ms),
    })
}
