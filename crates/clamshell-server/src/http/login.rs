//! The cookie of a login: how it is set, found and taken away.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header, request::Parts};

use super::ApiError;
use crate::{
    app::App,
    console::{ConsoleError, Login, Site, guard},
    http::Peer,
};

/// With this prefix browsers take it over TLS alone (and on their own machine), for this very host, from nobody else.
const COOKIE: &str = "__Host-clamshell";

/// Its name where there is no TLS, by the operator's own word.
const INSECURE_COOKIE: &str = "clamshell-insecure";

/// The login that a request says it is of. `None` without a cookie, and for cookies that nobody asked for.
///
/// # Errors
/// [`ApiError::Console`] for a cookie with a request that our page did not make, or of no login that goes on.
pub(super) fn find(app: &Arc<App>, parts: &Parts) -> Result<Option<Arc<Login>>, ApiError> {
    if !parts.headers.contains_key(header::COOKIE) || app.config.console_off().is_some() {
        return Ok(None);
    }
    // The name depends on the site; a request for none has no business with either.
    if !is_offered(&parts.headers) {
        return Ok(None);
    }
    let site = guard::of_own_page(app, parts)?;
    let Some(token) = cookie(&parts.headers, name(&site)) else { return Ok(None) };
    let login = app.console.logins.find(token).ok_or(ConsoleError::Ended)?;
    app.note_login_use(&login);
    Ok(Some(login))
}

/// Whether a request brings the cookie of a login, good or not.
pub(super) fn is_offered(headers: &HeaderMap) -> bool {
    [COOKIE, INSECURE_COOKIE].iter().any(|name| cookie(headers, name).is_some())
}

/// Value of the header that gives a login to a browser.
pub(super) fn set(app: &App, site: &Site, login: &Login, token: &str) -> Option<HeaderValue> {
    let life_s = app.console.logins.last_ms(login).saturating_sub(app.now_ms()) / 1000;
    let secure = if site.is_secure() { "; Secure" } else { "" };
    let name = name(site);
    let text = format!("{name}={token}; Path=/; Max-Age={life_s}{secure}; HttpOnly; SameSite=Strict");
    HeaderValue::from_str(&text).ok()
}

/// Value of the header that takes it away.
pub(super) fn unset(site: &Site) -> HeaderValue {
    if site.is_secure() {
        HeaderValue::from_static("__Host-clamshell=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict")
    } else {
        HeaderValue::from_static("clamshell-insecure=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict")
    }
}

fn name(site: &Site) -> &'static str {
    if site.is_secure() { COOKIE } else { INSECURE_COOKIE }
}

/// The value of a cookie; `None` when there is none of this name, or more than one.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut values = all.flat_map(|line| line.split(';')).filter_map(|pair| {
        let (its_name, value) = pair.trim().split_once('=')?;
        (its_name == name).then_some(value)
    });
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

impl App {
    /// Notes that a login was used, and stores it at most once a minute and not in the caller's time.
    fn note_login_use(self: &Arc<Self>, login: &Arc<Login>) {
        let Some(used_at_ms) = self.console.logins.touch(login) else { return };
        let (app, login) = (Arc::clone(self), Arc::clone(login));
        self.tasks.spawn(async move {
            if let Err(error) = app.store.touch_console_login(&login.login_id, used_at_ms).await {
                tracing::warn!(error = super::chain(&error), "use of a login was not noted");
            }
        });
    }
}

/// Where a request comes from, and with what.
pub(super) fn from(parts: &Parts) -> crate::console::From {
    let peer = parts.extensions.get::<Peer>();
    let agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    crate::console::From {
        source_ip: peer.map(|peer| peer.address.to_canonical().to_string()).unwrap_or_default(),
        user_agent: agent.unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_their_exact_name() {
        let check = |lines: &[&str], expect: Option<&str>| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, HeaderValue::from_str(line).unwrap());
            }
            assert_eq!(cookie(&headers, COOKIE), expect, "{lines:?}");
        };
        check(&["__Host-clamshell=a"], Some("a"));
        check(&["x=1; __Host-clamshell=a=; y"], Some("a="));
        check(&["x=1", "__Host-clamshell=a"], Some("a"));
        check(&["__host-clamshell=a"], None);
        check(&["x__Host-clamshell=a; __Host-clamshell2=b"], None);
        check(&["__Host-clamshell=a; __Host-clamshell=b"], None);
        check(&["__Host-clamshell"], None);
        check(&[], None);
    }
}
