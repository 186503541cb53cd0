//! Signing in at an identity provider. The browser goes there and comes back with a code; both steps are plain pages, and so
//! are their errors.

use std::sync::Arc;

use clamshell_identity::{
    jwt::{FetchLimits, Fetcher, TokenIdentity, system_tls},
    oidc::{Flow, OidcClient, OidcError},
};
use clamshell_store::{LoginMethod, PrincipalKind};
use clamshell_wire::query::find;
use http::{HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use serde_json::Value;

use super::console;
use crate::{
    app::App,
    config::OidcPolicy,
    console::{ConsoleError, ConsoleRole, ROLE_POLICY, Site, guard},
    http::{
        ApiError,
        access::ROOT,
        chain, login,
        response::{self, Body},
    },
};

/// Holds the flow while the browser is at the provider. `Lax`, because the way back begins there.
const FLOW_COOKIE: &str = "__Host-clamshell-oidc";
const INSECURE_FLOW_COOKIE: &str = "clamshell-oidc";

/// People have so long to sign in there, seconds.
const FLOW_LIFE_S: u32 = 600;

/// Where the provider sends the browser back to.
const CALLBACK: &str = "/clamshell/v1/console/oidc/callback";

/// Characters of a user name.
const NAME_CHARS_MAX: usize = 64;

/// Why somebody whom the provider knows is not let in here.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    NoName,
    NameTaken(String),
    NoRole,
}

/// Sends the browser to the provider.
pub(super) async fn start(app: &Arc<App>, parts: &Parts) -> Result<Response<Body>, ApiError> {
    let site = guard::for_this_server(app, parts)?;
    // Typed in, or a link of our page: no other page sends people away from here.
    let sent_by = parts.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if !matches!(sent_by, None | Some(b"same-origin" | b"none")) {
        return Err(ConsoleError::CrossSite("Sec-Fetch-Site is not same-origin").into());
    }
    let policy = policy(app)?;
    let flow = Flow::new(&*app.entropy);
    let begun = client(app, policy).await?.begin(&flow, &redirect_uri(&site), &policy.scopes).await;
    let url = match begun {
        Ok(url) => url,
        Err(error) => return Ok(failed(&error)),
    };
    let mut response = response::empty(StatusCode::FOUND);
    let headers = response.headers_mut();
    let bad_url = |_| ApiError::Internal("address of the provider");
    headers.insert(header::LOCATION, HeaderValue::from_str(&url).map_err(bad_url)?);
    headers.insert(header::SET_COOKIE, flow_cookie(&site, &flow.encode(), FLOW_LIFE_S)?);
    Ok(console::uncached(response))
}

/// Takes the browser back: exchanges the code, and signs in whom it is of.
pub(super) async fn callback(app: &Arc<App>, parts: &Parts) -> Result<Response<Body>, ApiError> {
    let site = guard::for_this_server(app, parts)?;
    let policy = policy(app)?;
    let query = crate::http::query(parts)?;
    let cookie = login::cookie(&parts.headers, flow_cookie_name(&site));
    let (Some(flow), Some(state)) = (cookie.and_then(Flow::decode), find(&query, "state")) else {
        return Ok(page(
            StatusCode::FORBIDDEN,
            "This sign-in was not begun here, or took too long. Try again.",
        ));
    };
    let client = client(app, policy).await?;
    match client.came_back(&flow, state, find(&query, "iss")).await {
        Ok(()) => {}
        Err(OidcError::State) => {
            return Ok(page(
                StatusCode::FORBIDDEN,
                "This sign-in was not begun here, or took too long. Try again.",
            ));
        }
        Err(error) => return Ok(failed(&error)),
    }
    let mut response = arrive(app, parts, &site, &flow, find(&query, "code")).await?;
    // A flow ends here, also without a login.
    response.headers_mut().append(header::SET_COOKIE, flow_cookie(&site, "", 0)?);
    Ok(response)
}

/// Signs in whom a code is of; without one the person or the provider did not want to.
async fn arrive(
    app: &Arc<App>,
    parts: &Parts,
    site: &Site,
    flow: &Flow,
    code: Option<&str>,
) -> Result<Response<Body>, ApiError> {
    let policy = policy(app)?;
    let Some(code) = code else {
        return Ok(page(StatusCode::FORBIDDEN, "The identity provider did not sign you in."));
    };
    let source = console::source(parts);
    // Nobody guesses a code; each is a call to the provider, which may grow tired of this server.
    if app.console.codes.take(source, app.now_ms()).is_err() {
        return Ok(page(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many sign-ins have failed. Try again in a minute.",
        ));
    }
    let secret = secret(policy).await?;
    let wanted = policy.claims();
    let client = client(app, policy).await?;
    let identity = match client.finish(flow, code, &redirect_uri(site), secret.as_deref(), &wanted).await {
        Ok(identity) => identity,
        Err(error) => {
            if app.console.told.allows(app.now_ms()) {
                console::record(app, parts, "", "provider", StatusCode::FORBIDDEN).await;
            }
            return Ok(failed(&error));
        }
    };
    app.console.codes.give_back(source);
    let user_name = match user(app, policy, &identity).await? {
        Ok(user_name) => user_name,
        Err(why) => {
            console::record(app, parts, "", "provider", StatusCode::FORBIDDEN).await;
            tracing::info!(
                ?why,
                subject = identity.subject,
                "somebody of the identity provider was not let in"
            );
            return Ok(page(StatusCode::FORBIDDEN, &why.text(policy)));
        }
    };
    let (_, cookie) = console::open(app, parts, site, &user_name, LoginMethod::Provider).await?;
    let mut response = page(StatusCode::OK, "");
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// The user that somebody of the provider is, made at the first time, with the role that the provider says now.
async fn user(
    app: &Arc<App>,
    policy: &OidcPolicy,
    identity: &TokenIdentity,
) -> Result<Result<String, Refused>, ApiError> {
    let subject = identity.subject.as_deref().unwrap_or_default();
    let known = app.store.console_identity(&policy.issuer, subject).await?;
    let role = role(policy, identity);
    let user_name = match (known, role) {
        (Some(name), None) => {
            withdraw(app, &name).await?;
            return Ok(Err(Refused::NoRole));
        }
        (None, None) => return Ok(Err(Refused::NoRole)),
        (Some(name), Some(_)) => name,
        (None, Some(_)) => {
            let Some(name) = name(policy, identity) else { return Ok(Err(Refused::NoName)) };
            let description = format!("signs in at {}", policy.label);
            let now_ms = app.now_ms();
            let store = &app.store;
            if !store.insert_console_identity(&policy.issuer, subject, &name, &description, now_ms).await? {
                return Ok(Err(Refused::NameTaken(name)));
            }
            name
        }
    };
    if let Some(role) = role {
        let user = app.store.principal(PrincipalKind::User, &user_name).await?;
        let has = user.and_then(|user| user.policies.get(ROLE_POLICY).cloned());
        if has.as_deref() != Some(role.document()) {
            console::put_role(app, &user_name, role).await?;
        }
    }
    Ok(Ok(user_name))
}

/// Takes away what the provider gave and gives no more.
async fn withdraw(app: &Arc<App>, user_name: &str) -> Result<(), ApiError> {
    let kind = PrincipalKind::User;
    match app.store.remove_principal_policy(kind, user_name, ROLE_POLICY).await {
        Ok(()) | Err(clamshell_store::ChangePrincipalError::NotFound) => {}
        Err(error) => return Err(super::principals::refused(error)),
    }
    for login in app.console.logins.list().iter().filter(|login| login.user_name == user_name) {
        app.console.logins.end(login).await?;
    }
    Ok(())
}

/// The highest role that a value of the claim has, else the default.
fn role(policy: &OidcPolicy, identity: &TokenIdentity) -> Option<ConsoleRole> {
    let claim = policy.role_claim.as_deref().and_then(|name| claim(identity, name));
    let values: Vec<&str> = match claim {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    values.iter().filter_map(|value| policy.roles.get(*value)).max().copied().or(policy.default_role)
}

/// A claim by its name, or through objects by its dots.
fn claim<'a>(identity: &'a TokenIdentity, name: &str) -> Option<&'a Value> {
    if let Some(found) = identity.claims.get(name) {
        return Some(found);
    }
    let mut parts = name.split('.');
    let first = identity.claims.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

/// A user name of what the provider says, never `root`.
fn name(policy: &OidcPolicy, identity: &TokenIdentity) -> Option<String> {
    // An address that nobody has shown to be theirs is anybody's.
    let unverified =
        identity.claims.get("email_verified").is_some_and(|verified| *verified != Value::Bool(true));
    if policy.user_claim == "email" && unverified {
        return None;
    }
    let text = claim(identity, &policy.user_claim)?.as_str()?;
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "_+=,.@-".contains(char);
    let name: String = text
        .trim()
        .chars()
        .take(NAME_CHARS_MAX)
        .map(|char| if is_plain(char) { char } else { '-' })
        .collect();
    let has_letters = name.chars().any(|char| char.is_ascii_alphanumeric());
    (has_letters && !name.eq_ignore_ascii_case(ROOT)).then_some(name)
}

impl Refused {
    fn text(&self, policy: &OidcPolicy) -> String {
        match self {
            Self::NoName => format!("{} gives you no name that can be a user's here.", policy.label),
            Self::NameTaken(name) => format!("There is another user {name} here. Ask an administrator."),
            Self::NoRole => {
                format!("Your account at {} has no role here. Ask an administrator.", policy.label)
            }
        }
    }
}

fn policy(app: &App) -> Result<&OidcPolicy, ApiError> {
    let off = || ConsoleError::Off("no identity provider is configured").into();
    app.config.console.oidc.as_ref().ok_or_else(off)
}

/// The client, made when it is first needed: it reads the system's certificates.
async fn client<'a>(app: &'a Arc<App>, policy: &OidcPolicy) -> Result<&'a OidcClient, ApiError> {
    let made = app.console.oidc.get_or_try_init(async || {
        let unusable = |error: &dyn std::error::Error| {
            tracing::error!(error = chain(error), "identity provider of the console cannot be used");
            ApiError::Internal("identity provider of the console")
        };
        let tls = tokio::task::spawn_blocking(system_tls).await.map_err(|error| unusable(&error))?;
        let tls = tls.map_err(|error| unusable(&error))?;
        // The operator has named it: it may be in a network of theirs.
        let limits = FetchLimits { allow_private_addresses: true, ..FetchLimits::default() };
        let fetcher = Fetcher::new(tls, limits);
        OidcClient::new(&policy.issuer, &policy.client_id, fetcher, Arc::clone(&app.clock))
            .map_err(|error| unusable(&error))
    });
    made.await
}

/// Read at each login, so that a new one needs no restart.
async fn secret(policy: &OidcPolicy) -> Result<Option<String>, ApiError> {
    let Some(path) = &policy.client_secret_file else { return Ok(None) };
    let text = tokio::fs::read_to_string(path).await.map_err(|error| {
        tracing::error!(%error, path = %path.display(), "client secret cannot be read");
        ApiError::Internal("client secret of the identity provider")
    })?;
    Ok(Some(text.lines().next().unwrap_or_default().trim().to_owned()))
}

fn redirect_uri(site: &Site) -> String {
    format!("{}{CALLBACK}", site.origin())
}

fn flow_cookie_name(site: &Site) -> &'static str {
    if site.is_secure() { FLOW_COOKIE } else { INSECURE_FLOW_COOKIE }
}

fn flow_cookie(site: &Site, value: &str, life_s: u32) -> Result<HeaderValue, ApiError> {
    let secure = if site.is_secure() { "; Secure" } else { "" };
    let name = flow_cookie_name(site);
    let text = format!("{name}={value}; Path=/; Max-Age={life_s}{secure}; HttpOnly; SameSite=Lax");
    HeaderValue::from_str(&text).map_err(|_| ApiError::Internal("cookie is text"))
}

fn failed(error: &OidcError) -> Response<Body> {
    tracing::warn!(error = chain(error), "nobody was signed in by the identity provider");
    match error {
        OidcError::Busy => page(StatusCode::TOO_MANY_REQUESTS, "Too many people sign in at once. Try again."),
        OidcError::Discovery(_) | OidcError::Endpoints | OidcError::Issuer(_) => {
            page(StatusCode::BAD_GATEWAY, "The identity provider cannot be reached.")
        }
        _ => page(StatusCode::FORBIDDEN, "The identity provider's answer was not accepted. Try again."),
    }
}

/// A page that goes on to the console by itself, or says why not. A redirect would not do: its request would still come from
/// the provider, and browsers keep a `Strict` cookie from those.
fn page(status: StatusCode, refusal: &str) -> Response<Body> {
    let go_on =
        if refusal.is_empty() { "<meta http-equiv=\"refresh\" content=\"0;url=/console\">" } else { "" };
    let text = if refusal.is_empty() { "Signed in." } else { refusal };
    let escaped: String = text
        .chars()
        .map(|char| match char {
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '&' => "&amp;".to_owned(),
            '"' => "&quot;".to_owned(),
            char => char.to_string(),
        })
        .collect();
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">{go_on}<title>Clamshell</title>\
         <p>{escaped}<p><a href=\"/console\">Go to the console</a>"
    );
    let mut response = response::bytes(status, "text/html; charset=utf-8", html);
    for (name, value) in [
        (
            "content-security-policy",
            "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
    ] {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    console::uncached(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy() -> OidcPolicy {
        OidcPolicy {
            issuer: "https://id.example".to_owned(),
            client_id: "c".to_owned(),
            client_secret_file: None,
            label: "id".to_owned(),
            scopes: Vec::new(),
            user_claim: "preferred_username".to_owned(),
            role_claim: Some("realm.roles".to_owned()),
            roles: [("dev".to_owned(), ConsoleRole::Operator), ("ops".to_owned(), ConsoleRole::Admin)].into(),
            default_role: None,
        }
    }

    fn identity(claims: Value) -> TokenIdentity {
        let Value::Object(claims) = claims else { unreachable!("claims are an object") };
        TokenIdentity { issuer: String::new(), subject: None, expires_at_ms: 0, claims }
    }

    #[test]
    fn names_are_cleaned_and_never_root() {
        let check = |claims: Value, expect: Option<&str>| {
            assert_eq!(name(&policy(), &identity(claims.clone())).as_deref(), expect, "{claims}");
        };
        check(json!({ "preferred_username": "alice" }), Some("alice"));
        check(json!({ "preferred_username": " Al ice/../é " }), Some("Al-ice-..--"));
        check(json!({ "preferred_username": "a".repeat(99) }), Some(&"a".repeat(64)));
        for bad in [json!("root"), json!(" ROOT "), json!(""), json!("///"), json!(7), json!(null)] {
            check(json!({ "preferred_username": bad }), None);
        }
        check(json!({ "email": "a@b.example" }), None);
        let by_email = OidcPolicy { user_claim: "email".to_owned(), ..policy() };
        let check = |verified: Value, expect: bool| {
            let claims = json!({ "email": "a@b.example", "email_verified": verified });
            assert_eq!(name(&by_email, &identity(claims)).is_some(), expect);
        };
        check(json!(true), true);
        check(json!(false), false);
        check(json!("false"), false);
    }

    #[test]
    fn the_highest_role_counts() {
        let check = |claims: Value, expect: Option<ConsoleRole>| {
            assert_eq!(role(&policy(), &identity(claims.clone())), expect, "{claims}");
            let everybody = OidcPolicy { default_role: Some(ConsoleRole::Viewer), ..policy() };
            assert_eq!(role(&everybody, &identity(claims)), expect.or(Some(ConsoleRole::Viewer)));
        };
        check(json!({ "realm": { "roles": ["dev", "ops", 7, "x"] } }), Some(ConsoleRole::Admin));
        check(json!({ "realm": { "roles": "dev" } }), Some(ConsoleRole::Operator));
        check(json!({ "realm.roles": ["dev"] }), Some(ConsoleRole::Operator));
        for none in [
            json!({}),
            json!({ "realm": [] }),
            json!({ "realm": { "roles": {} } }),
            json!({ "roles": ["ops"] }),
        ] {
            check(none, None);
        }
    }

    #[test]
    fn what_a_page_says_is_text() {
        let text = Refused::NameTaken("<script>&\"".to_owned()).text(&policy());
        assert!(text.contains("<script>"));
        assert_eq!(page(StatusCode::FORBIDDEN, &text).status(), 403);
    }
}
