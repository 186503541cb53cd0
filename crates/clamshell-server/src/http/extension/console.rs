//! Signing in and out of the console, logins, links and passwords.

use std::sync::Arc;

use clamshell_identity::policy::PrincipalKind as Kind;
use clamshell_store::{AuditVia, LoginMethod, PrincipalKind};
use clamshell_wire::AwsError;
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Ask;
use crate::{
    app::App,
    audit::AuditEntry,
    console::{
        ConsoleError, ConsoleRole, FORGET_MS, From, LINK_MS, Login, ROLE_POLICY, Site, guard, hash_of,
        new_token,
    },
    http::{
        ApiError, Peer,
        access::{self, Caller, Demand, ROOT},
        login,
        response::{self, Body},
    },
    server::Proof,
    time::rfc3339,
};

/// Longest body of a stranger: a name and a password of which every byte is escaped.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// A first password can be set by a login that is no older: whoever finds an open browser later must not stay.
const FRESH_MS: u64 = 15 * 60_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SignIn {
    link: Option<String>,
    user_name: Option<String>,
    password: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneLink {
    link: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnPassword {
    current: Option<String>,
    new: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    role: ConsoleRole,
}

/// Who the page is; open to everybody who asks under a name of this server.
pub(super) async fn me(app: &Arc<App>, parts: &Parts) -> Result<Response<Body>, ApiError> {
    guard::for_this_server(app, parts)?;
    // A page of elsewhere that asks is told what a stranger is told.
    let login = login::find(app, parts).ok().flatten();
    let answer = match &login {
        Some(login) => {
            give_proof(parts);
            signed_in(app, parts, login).await?
        }
        None => signed_out(app).await?,
    };
    Ok(uncached(response::json(StatusCode::OK, &answer)))
}

async fn signed_out(app: &Arc<App>) -> Result<Value, ApiError> {
    let password = app.store.has_console_passwords().await?;
    let oidc = app.config.console.oidc.as_ref().map(|oidc| json!({ "label": oidc.label }));
    Ok(json!({ "signedIn": false, "methods": { "password": password, "oidc": oidc }, "mode": mode(app) }))
}

async fn signed_in(app: &Arc<App>, parts: &Parts, login: &Login) -> Result<Value, ApiError> {
    let identity = app.user_identity(&login.user_name);
    let arn = identity.principal.arn.clone();
    let caller = access::caller(app, parts, identity).await?;
    Ok(json!({
        "signedIn": true,
        "userName": login.user_name,
        "arn": arn,
        "role": role_of(app, &login.user_name).await?,
        "expiresAt": rfc3339(app.console.logins.ends_at_ms(login)),
        "mode": mode(app),
        "serverVersion": env!("CARGO_PKG_VERSION"),
        "region": app.web.as_ref().map_or(app.region.as_str(), |web| web.info().region.as_str()),
        "accountId": app.web.as_ref().map_or(app.account_id.as_str(), |web| web.info().account_id.as_str()),
        "features": features(app, &caller).await,
    }))
}

async fn role_of(app: &Arc<App>, user_name: &str) -> Result<Option<ConsoleRole>, ApiError> {
    if user_name == ROOT {
        return Ok(Some(ConsoleRole::Admin));
    }
    let user = app.store.principal(PrincipalKind::User, user_name).await?;
    let policies = user.map(|user| user.policies).unwrap_or_default();
    Ok(policies.values().filter_map(|text| ConsoleRole::of_document(text)).max())
}

/// Where shells run: here, or at the endpoint that `clamshell web` is in front of.
fn mode(app: &App) -> &'static str {
    if app.web.is_some() { "web" } else { "serve" }
}

/// What the page shows: an action that must be allowed, and a call that must be there.
const FEATURES: [(&str, &str, &str); 9] = [
    ("sessions", "clamshell:ListSessions", "/sessions"),
    ("runtimes", "bedrock-agentcore:ListAgentRuntimes", ""),
    ("files", "clamshell:ListFiles", "/sessions/{sessionId}/files"),
    ("audit", "clamshell:ReadAudit", "/audit"),
    ("keys", "clamshell:ListKeys", "/keys"),
    ("doctor", "clamshell:Doctor", "/doctor"),
    ("shares", "clamshell:CreateShare", "/sessions/{sessionId}/shells/{shellId}/shares"),
    ("recordings", "clamshell:Export", "/sessions/{sessionId}/shells/{shellId}/export"),
    ("logs", "clamshell:ReadRuntimeLogs", "/logs"),
];

/// Those of `clamshell web`.
const OF_WEB: [&str; 2] = ["audit", "keys"];

async fn features(app: &Arc<App>, caller: &Caller) -> Vec<&'static str> {
    let mut features = Vec::new();
    for (name, action, path) in FEATURES {
        let is_served = path.is_empty() || super::EXTENSION_ROUTES.iter().any(|(_, known)| *known == path);
        let demand = Demand::new(action, vec!["*".to_owned()]);
        let is_served = is_served && (app.web.is_none() || OF_WEB.contains(&name));
        if is_served && access::authorize(app, caller, &demand).await.is_ok() {
            features.push(name);
        }
    }
    features
}

/// Signs in with a link, or with a name and a password.
pub(super) async fn login(app: &Arc<App>, parts: &Parts, body: Incoming) -> Result<Response<Body>, ApiError> {
    let site = guard::of_own_page(app, parts)?;
    let body = crate::http::read_short_body(body, BODY_BYTES_MAX).await?;
    let asked: SignIn = parse(&body)?;
    let (user_name, method) = match asked {
        SignIn { link: Some(link), user_name: None, password: None } => {
            (with_link(app, parts, &link).await?, LoginMethod::Link)
        }
        SignIn { link: None, user_name: Some(user_name), password: Some(password) } => {
            (with_password(app, parts, user_name, password).await?, LoginMethod::Password)
        }
        _ => return Err(AwsError::cannot_parse("The body needs link, or userName and password").into()),
    };
    let (login, cookie) = open(app, parts, &site, &user_name, method).await?;
    let answer = signed_in(app, parts, &login).await?;
    let mut response = uncached(response::json(StatusCode::OK, &answer));
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Says whom a link signs in, and leaves it as it is: a person must know before they work as somebody else.
pub(super) async fn show_link(
    app: &Arc<App>,
    parts: &Parts,
    body: Incoming,
) -> Result<Response<Body>, ApiError> {
    guard::of_own_page(app, parts)?;
    let body = crate::http::read_short_body(body, BODY_BYTES_MAX).await?;
    let OneLink { link } = parse(&body)?;
    match app.console.links.user(&app.store, &link, app.now_ms()).await? {
        Some(user_name) => Ok(uncached(response::json(StatusCode::OK, &json!({ "userName": user_name })))),
        None => Err(wrong_link(app, parts).await),
    }
}

async fn with_link(app: &Arc<App>, parts: &Parts, link: &str) -> Result<String, ApiError> {
    match app.console.links.take(&app.store, link, app.now_ms()).await? {
        Some(user_name) => Ok(user_name),
        None => Err(wrong_link(app, parts).await),
    }
}

async fn wrong_link(app: &Arc<App>, parts: &Parts) -> ApiError {
    if app.console.told.allows(app.now_ms()) {
        record(app, parts, "", "link", StatusCode::FORBIDDEN).await;
    }
    ConsoleError::Wrong.into()
}

async fn with_password(
    app: &Arc<App>,
    parts: &Parts,
    user_name: String,
    password: String,
) -> Result<String, ApiError> {
    let stored = app.store.console_password(&user_name).await?;
    if !verify_password(app, parts, &user_name, stored, password).await? {
        // People type their password in the wrong field: only names that there are get into the trail.
        let known = app.store.principal(PrincipalKind::User, &user_name).await?.is_some();
        let name = if known || user_name == ROOT { user_name.as_str() } else { "" };
        record(app, parts, name, "password", StatusCode::FORBIDDEN).await;
        return Err(ConsoleError::Wrong.into());
    }
    Ok(user_name)
}

/// Whether a password is that of a stored hash, as often as one may try. That somebody waits is stored before the answer:
/// whoever can make the server start again gains nothing.
async fn verify_password(
    app: &Arc<App>,
    parts: &Parts,
    user_name: &str,
    stored: Option<String>,
    password: String,
) -> Result<bool, ApiError> {
    let now_ms = app.now_ms();
    let since_ms = now_ms.saturating_sub(FORGET_MS);
    let attempt = app.console.lockout.begin(user_name, source(parts), now_ms).map_err(locked_out)?;
    if let Some(waits) = &attempt.waits {
        app.store.put_console_lockout(waits, since_ms).await?;
    }
    let is_right = app.console.passwords.verify(stored, password).await?;
    if is_right && let Some(waited) = attempt.succeeded() {
        app.store.put_console_lockout(&waited, since_ms).await?;
    }
    Ok(is_right)
}

/// Makes a login, and the header that gives it to the browser.
pub(super) async fn open(
    app: &Arc<App>,
    parts: &Parts,
    site: &Site,
    user_name: &str,
    method: LoginMethod,
) -> Result<(Arc<Login>, HeaderValue), ApiError> {
    let from: From = login::from(parts);
    let made = app.console.logins.add(user_name, method, &from).await?;
    let (made, token) = made.ok_or(ConsoleError::Wrong)?;
    give_proof(parts);
    // The cookie takes the place of another one: what the browser still has open for somebody else ends.
    if let Ok(Some(before)) = login::find(app, parts)
        && before.user_name != user_name
    {
        app.console.logins.end(&before).await?;
        entry(app, parts, &before.user_name, "clamshell:Logout", "", StatusCode::NO_CONTENT).await;
    }
    record(app, parts, user_name, how(method), StatusCode::OK).await;
    let cookie = login::set(app, site, &made, &token).ok_or(ApiError::Internal("cookie is text"))?;
    Ok((made, cookie))
}

fn how(method: LoginMethod) -> &'static str {
    match method {
        LoginMethod::Link => "link",
        LoginMethod::Password => "password",
        LoginMethod::Provider => "provider",
    }
}

/// Ends the login of the request, if there is one; its cookie goes in any case.
pub(super) async fn logout(app: &Arc<App>, parts: &Parts) -> Result<Response<Body>, ApiError> {
    let site = guard::of_own_page(app, parts)?;
    if let Ok(Some(login)) = login::find(app, parts) {
        app.console.logins.end(&login).await?;
        entry(app, parts, &login.user_name, "clamshell:Logout", "", StatusCode::NO_CONTENT).await;
    }
    let mut response = response::empty(StatusCode::NO_CONTENT);
    response.headers_mut().insert(header::SET_COOKIE, login::unset(&site));
    Ok(response)
}

/// Sets the password of the one who asks; other logins of theirs end.
pub(super) async fn set_own_password(ask: &Ask<'_>, parts: &Parts) -> Result<Response<Body>, ApiError> {
    let app = ask.app;
    let login = ask.caller.login().ok_or(ConsoleError::NeedsLogin)?;
    let asked: OwnPassword = parse(&ask.body)?;
    match app.store.console_password(&login.user_name).await? {
        Some(stored) => {
            let current = asked.current.unwrap_or_default();
            if !verify_password(app, parts, &login.user_name, Some(stored), current).await? {
                return Err(ConsoleError::Wrong.into());
            }
        }
        None if app.now_ms() < login.created_at_ms.saturating_add(FRESH_MS) => {}
        None => return Err(ConsoleError::NotFresh.into()),
    }
    put_password(app, &login.user_name, asked.new, Some(&login.login_id)).await
}

/// Sets the password of a user; all logins of theirs end.
pub(super) async fn set_password(ask: &Ask<'_>, user_name: &str) -> Result<Response<Body>, ApiError> {
    let asked: NewPassword = parse(&ask.body)?;
    let own = ask.caller.login().filter(|login| login.user_name == user_name);
    put_password(ask.app, user_name, asked.password, own.map(|login| login.login_id.as_str())).await
}

async fn put_password(
    app: &Arc<App>,
    user_name: &str,
    password: String,
    kept: Option<&str>,
) -> Result<Response<Body>, ApiError> {
    let hash = app.console.passwords.hash(password, &*app.entropy).await?;
    if !app.store.put_console_password(user_name, &hash, kept, app.now_ms()).await? {
        return Err(ApiError::PrincipalNotFound);
    }
    app.console.logins.forget_user(user_name, kept);
    Ok(response::empty(StatusCode::NO_CONTENT))
}

/// Gives a user the policy of a role, in place of that of another one.
pub(super) async fn set_role(ask: &Ask<'_>, user_name: &str) -> Result<Response<Body>, ApiError> {
    let Role { role } = parse(&ask.body)?;
    put_role(ask.app, user_name, role).await?;
    super::principals::show(ask, PrincipalKind::User, user_name).await
}

pub(super) async fn put_role(app: &Arc<App>, user_name: &str, role: ConsoleRole) -> Result<(), ApiError> {
    app.store
        .put_principal_policy(PrincipalKind::User, user_name, ROLE_POLICY, role.document(), app.now_ms())
        .await
        .map_err(super::principals::refused)?;
    // What is open was allowed before.
    app.console.logins.disconnect(user_name);
    Ok(())
}

/// The logins of the caller, or of all whom it may see.
pub(super) async fn list(ask: &Ask<'_>) -> Result<Response<Body>, ApiError> {
    let own_name = user_of(ask)?;
    let demand = Demand::new("clamshell:ListLogins", vec!["*".to_owned()]);
    let sees_all = access::authorize(ask.app, &ask.caller, &demand).await.is_ok();
    let current = ask.caller.login().map(|login| login.login_id.as_str());
    let all = ask.app.console.logins.list();
    let shown = all.iter().filter(|login| sees_all || login.user_name == own_name);
    let views: Vec<Value> = shown
        .map(|login| {
            json!({
                "loginId": login.login_id,
                "userName": login.user_name,
                "createdAt": rfc3339(login.created_at_ms),
                "lastUsedAt": rfc3339(login.used_at_ms()),
                "expiresAt": rfc3339(ask.app.console.logins.ends_at_ms(login)),
                "method": how(login.method),
                "sourceIp": login.source_ip,
                "userAgent": login.user_agent,
                "current": current == Some(login.login_id.as_str()),
            })
        })
        .collect();
    Ok(response::json(StatusCode::OK, &json!({ "logins": views })))
}

/// Ends a login of the caller, or of somebody whose logins it may end.
pub(super) async fn remove(ask: &Ask<'_>, login_id: &str) -> Result<Response<Body>, ApiError> {
    let own_name = user_of(ask)?;
    let all = ask.app.console.logins.list();
    let found = all.iter().find(|login| login.login_id == login_id);
    let is_own = found.is_some_and(|login| login.user_name == own_name);
    if !is_own {
        let of = found.map_or_else(|| "*".to_owned(), |login| ask.app.user_arn(&login.user_name));
        access::authorize(ask.app, &ask.caller, &Demand::new("clamshell:RemoveLogin", vec![of])).await?;
    }
    let login = found.ok_or(ApiError::LoginNotFound)?;
    ask.app.console.logins.end(login).await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}

/// A link that signs the caller in once. Not for who has only a login: a stolen one would last for ever.
pub(super) async fn create_link(ask: &Ask<'_>, parts: &Parts) -> Result<Response<Body>, ApiError> {
    if ask.caller.login().is_some() {
        return Err(ConsoleError::NeedsSignature.into());
    }
    if let Some(reason) = ask.app.config.console_off() {
        return Err(ConsoleError::Off(reason).into());
    }
    let base = crate::console::site(ask.app, parts).map(|site| site.origin());
    let (url, expires_at_ms) = ask.app.console_link(&user_of(ask)?, base).await?;
    let answer = json!({ "url": url, "expiresAt": rfc3339(expires_at_ms) });
    Ok(uncached(response::json(StatusCode::CREATED, &answer)))
}

impl App {
    /// A link that signs a user in once, below `base` or where this server listens, and when it ends.
    ///
    /// # Errors
    /// [`ConsoleError::TooManyLinks`], and of the store.
    pub(crate) async fn console_link(
        &self,
        user_name: &str,
        base: Option<String>,
    ) -> Result<(String, u64), ApiError> {
        let token = new_token(&*self.entropy);
        let hash = hash_of(&token).ok_or(ApiError::Internal("token of a link"))?;
        let now_ms = self.now_ms();
        let expires_at_ms = now_ms.saturating_add(LINK_MS);
        if !self.store.insert_console_link(&hash, user_name, expires_at_ms, now_ms).await? {
            return Err(ConsoleError::TooManyLinks.into());
        }
        let base = base.unwrap_or_else(|| self.console_url());
        // Behind the `#`, where no server and no log sees it.
        Ok((format!("{base}/console/login#link={token}"), expires_at_ms))
    }

    /// Where a browser finds the console, as far as this server can tell.
    pub(crate) fn console_url(&self) -> String {
        let endpoint = self.endpoint.get().cloned().unwrap_or_default();
        if !self.config.listen.ip().is_unspecified() {
            return endpoint;
        }
        let (scheme, listener) = endpoint.split_once("://").unwrap_or(("http", &endpoint));
        let port = listener.rsplit(':').next().unwrap_or_default();
        match self.config.console.hosts.first() {
            Some(host) if host.contains(':') && !host.ends_with(']') => format!("{scheme}://{host}"),
            Some(host) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://localhost:{port}"),
        }
    }
}

/// Name of the user who asks.
fn user_of(ask: &Ask<'_>) -> Result<String, ApiError> {
    match ask.caller.principal.kind {
        Kind::Root => Ok(ROOT.to_owned()),
        Kind::User => ask
            .caller
            .principal
            .arn
            .rsplit_once("/")
            .map(|(_, name)| name.to_owned())
            .ok_or_else(|| ConsoleError::NotAUser.into()),
        _ => Err(ConsoleError::NotAUser.into()),
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|_| AwsError::cannot_parse("The body is not valid JSON").into())
}

fn give_proof(parts: &Parts) {
    if let Some(proof) = parts.extensions.get::<Proof>() {
        proof.give();
    }
}

pub(super) fn source(parts: &Parts) -> std::net::IpAddr {
    let peer = parts.extensions.get::<Peer>();
    peer.map_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), |peer| peer.address)
}

fn locked_out(wait_ms: u64) -> ApiError {
    ConsoleError::LockedOut { retry_after_s: wait_ms.div_ceil(1000).max(1) }.into()
}

/// What says who is signed in must not be kept by anybody on the way.
pub(super) fn uncached(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Leaves in the trail that somebody signed in, or tried to.
pub(super) async fn record(app: &Arc<App>, parts: &Parts, user_name: &str, how: &str, status: StatusCode) {
    entry(app, parts, user_name, "clamshell:Login", how, status).await;
}

async fn entry(app: &Arc<App>, parts: &Parts, user_name: &str, action: &str, how: &str, status: StatusCode) {
    let mut detail = Map::new();
    if !how.is_empty() {
        detail.insert("method".to_owned(), json!(how));
    }
    let signed_in = status.is_success();
    app.audit(AuditEntry {
        // What a stranger calls itself is the name of nobody.
        principal: if signed_in { app.user_arn(user_name) } else { String::new() },
        user_name: user_name.to_owned(),
        source_ip: login::from(parts).source_ip,
        via: if action == "clamshell:Login" { AuditVia::Nothing } else { AuditVia::Cookie },
        action: action.to_owned(),
        resource: "*".to_owned(),
        status: status.as_u16(),
        request_id: String::new(),
        detail,
    })
    .await;
}
