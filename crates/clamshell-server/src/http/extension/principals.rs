//! Users and roles with their inline policies.
//!
//! A user has access keys; a role lends what it may do to the runtimes that name it as their execution role. There is no
//! trust policy to write: every role is for runtimes of this account, and for nobody else.

use std::collections::BTreeMap;

use clamshell_identity::policy::{Document, DocumentKind};
use clamshell_store::{ChangePrincipalError, PrincipalKind, PrincipalRecord};
use clamshell_wire::AwsError;
use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Ask;
use crate::{
    app::App,
    http::{
        ApiError,
        access::ROOT,
        response::{self, Body},
    },
    time::rfc3339,
};

/// Characters of a description.
const DESCRIPTION_CHARS_MAX: usize = 1000;

/// What every user could do before there were policies.
pub(crate) const ADMINISTRATOR: (&str, &str) = (
    "AdministratorAccess",
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#,
);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Create {
    user_name: Option<String>,
    role_name: Option<String>,
    #[serde(default)]
    description: String,
}

pub(super) async fn list(ask: &Ask<'_>, kind: PrincipalKind) -> Result<Response<Body>, ApiError> {
    let all = ask.app.store.list_principals(kind).await?;
    let views: Vec<Value> = all.iter().map(|record| view(ask.app, record)).collect();
    Ok(response::json(StatusCode::OK, &json!({ member(kind): views })))
}

pub(super) async fn show(ask: &Ask<'_>, kind: PrincipalKind, name: &str) -> Result<Response<Body>, ApiError> {
    let record = ask.app.store.principal(kind, name).await?.ok_or(ApiError::PrincipalNotFound)?;
    Ok(response::json(StatusCode::OK, &view(ask.app, &record)))
}

pub(super) async fn create(ask: &Ask<'_>, kind: PrincipalKind) -> Result<Response<Body>, ApiError> {
    let asked: Create = serde_json::from_slice(&ask.body)
        .map_err(|_| AwsError::cannot_parse("The body is not valid JSON"))?;
    // Exactly the member that the permission was looked up by.
    let (name, other) = match kind {
        PrincipalKind::User => (asked.user_name, asked.role_name),
        PrincipalKind::Role => (asked.role_name, asked.user_name),
    };
    let (Some(name), None) = (name, other) else {
        return Err(AwsError::invalid_field(name_member(kind), "Member must not be null").into());
    };
    check_name(name_member(kind), &name, 64)?;
    if asked.description.chars().count() > DESCRIPTION_CHARS_MAX {
        return Err(AwsError::invalid_field(
            "description",
            "Member must have length less than or equal to 1000",
        )
        .into());
    }
    if kind == PrincipalKind::User && name == ROOT {
        return Err(ApiError::PrincipalConflict("root is the account itself and no user"));
    }
    let record = PrincipalRecord {
        kind,
        name,
        description: asked.description,
        created_at_ms: ask.app.now_ms(),
        policies: BTreeMap::new(),
    };
    ask.app.store.insert_principal(&record).await.map_err(refused)?;
    Ok(response::json(StatusCode::CREATED, &view(ask.app, &record)))
}

pub(super) async fn remove(
    ask: &Ask<'_>,
    kind: PrincipalKind,
    name: &str,
) -> Result<Response<Body>, ApiError> {
    ask.app.store.remove_principal(kind, name).await.map_err(refused)?;
    if kind == PrincipalKind::User {
        ask.app.console.logins.forget_user(name, None);
    }
    Ok(response::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn put_policy(
    ask: &Ask<'_>,
    kind: PrincipalKind,
    name: &str,
    policy_name: &str,
) -> Result<Response<Body>, ApiError> {
    check_name("policyName", policy_name, 128)?;
    let text =
        std::str::from_utf8(&ask.body).map_err(|_| AwsError::cannot_parse("The body is not valid JSON"))?;
    Document::parse(DocumentKind::Identity, text)
        .map_err(|error| AwsError::invalid_field("policy", &error.to_string()))?;
    ask.app
        .store
        .put_principal_policy(kind, name, policy_name, text, ask.app.now_ms())
        .await
        .map_err(refused)?;
    show(ask, kind, name).await
}

pub(super) async fn remove_policy(
    ask: &Ask<'_>,
    kind: PrincipalKind,
    name: &str,
    policy_name: &str,
) -> Result<Response<Body>, ApiError> {
    ask.app.store.remove_principal_policy(kind, name, policy_name).await.map_err(refused)?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}

fn member(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "users",
        PrincipalKind::Role => "roles",
    }
}

fn name_member(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::User => "userName",
        PrincipalKind::Role => "roleName",
    }
}

/// As IAM has names: they become part of ARNs.
fn check_name(field: &'static str, name: &str, chars_max: usize) -> Result<(), ApiError> {
    let ok = (1..=chars_max).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte));
    if ok {
        return Ok(());
    }
    let rule = format!("Member must satisfy regular expression pattern: [\\w+=,.@-]{{1,{chars_max}}}");
    Err(AwsError::invalid_field(field, &rule).into())
}

pub(super) fn refused(error: ChangePrincipalError) -> ApiError {
    match error {
        ChangePrincipalError::NotFound => ApiError::PrincipalNotFound,
        ChangePrincipalError::AlreadyExists => ApiError::PrincipalConflict("The name is taken"),
        ChangePrincipalError::HasKeys => {
            ApiError::PrincipalConflict("The user still has access keys; remove them first")
        }
        ChangePrincipalError::TooManyPolicies => {
            ApiError::PrincipalConflict("A user or role can have at most 10 policies")
        }
        ChangePrincipalError::Store(error) => ApiError::Store(error),
    }
}

fn view(app: &App, record: &PrincipalRecord) -> Value {
    let arn = match record.kind {
        PrincipalKind::User => app.user_arn(&record.name),
        PrincipalKind::Role => app.role_arn(&record.name),
    };
    // Each as the document it is; what is stored was parsed before.
    let policies: BTreeMap<&String, Value> = record
        .policies
        .iter()
        .map(|(name, text)| (name, serde_json::from_str(text).unwrap_or(Value::Null)))
        .collect();
    json!({
        name_member(record.kind): record.name,
        "arn": arn,
        "description": record.description,
        "createdAt": rfc3339(record.created_at_ms),
        "policies": policies,
    })
}
