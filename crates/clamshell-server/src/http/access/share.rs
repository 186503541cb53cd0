//! Share links as credentials: who holds one may look at its shell, or type there, as far as its maker may.
//!
//! The link's token is 256 bits of randomness and stored as its SHA-256 alone. It is sent in a header or, by browsers on an
//! upgrade, as a subprotocol, and never in a URL.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use clamshell_store::{ShareAccess, ShareRecord};
use clamshell_wire::{AwsError, ErrorCode, query::find};
use http::{HeaderMap, header, request::Parts};

use super::{Asked, Demand, Identity, authorize, caller};
use crate::{
    app::App,
    console,
    http::{ApiError, extension::ExtensionRoute},
};

/// Header with the token of a share link.
const SHARE_HEADER: &str = "x-clamshell-share";

/// Subprotocol with the token of a share link, for browsers.
const SHARE_SUBPROTOCOL: &str = "clamshell.share.";

/// Longest token looked at; ours have 43 characters.
const TOKEN_CHARS_MAX: usize = 64;

/// Whether a request brings a share link.
pub(in crate::http) fn is_offered(headers: &HeaderMap) -> bool {
    token(headers).is_some()
}

/// Which shell a share link is for, and that it may be used for this request. `None` for requests without one.
///
/// # Errors
/// An `AccessDeniedException` for links that are unknown or over, and for what they do not allow.
pub(in crate::http) async fn find_holder(
    app: &Arc<App>,
    parts: &Parts,
    asked: &Asked<'_>,
) -> Result<Option<(Identity, Arc<ShareRecord>)>, ApiError> {
    let Some(share) = find_record(app, parts).await? else { return Ok(None) };
    if !is_of_own_page(app, parts) {
        return Err(denied("A share link is not to be used by other sites"));
    }
    check(app, parts, asked, &share).await?;
    Ok(Some((app.user_identity(&share.made_by), Arc::new(share))))
}

/// The share link that a request brings, whatever it asks.
///
/// # Errors
/// As [`find_holder`].
pub(in crate::http) async fn find_record(app: &App, parts: &Parts) -> Result<Option<ShareRecord>, ApiError> {
    let Some(token) = token(&parts.headers) else { return Ok(None) };
    let found = app.store.share_by_token(&hash_of(token)).await?;
    match found.filter(|share| share.expires_at_ms > app.now_ms()) {
        Some(share) => Ok(Some(share)),
        None => Err(denied("The share link is not valid any more")),
    }
}

/// What a share link stands for, as its maker would have to be allowed it.
pub(in crate::http) fn demand(app: &App, share: &ShareRecord) -> Demand {
    let arn = app.runtime_arn(&share.key.runtime_id);
    let endpoint = arn.with_endpoint(share.key.endpoint.as_str()).to_string();
    Demand::new(action(share.access), vec![arn.to_string(), endpoint])
}

/// What attaching with this access needs.
pub(in crate::http) fn action(access: ShareAccess) -> &'static str {
    match access {
        ShareAccess::Watch => "clamshell:WatchShell",
        ShareAccess::Write => "clamshell:AttachShell",
    }
}

/// Whether the maker of a link may still do what it allows. Conditions about a request do not hold here: there is none.
///
/// # Errors
/// When policies cannot be read.
pub(crate) async fn is_backed(app: &Arc<App>, share: &ShareRecord) -> Result<bool, ApiError> {
    let (parts, ()) = http::Request::new(()).into_parts();
    let maker = caller(app, &parts, app.user_identity(&share.made_by)).await?;
    match authorize(app, &maker, &demand(app, share)).await {
        Ok(()) => Ok(true),
        Err(ApiError::NotAuthorized { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// SHA-256 of a token.
pub(in crate::http) fn hash_of(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

async fn check(
    app: &Arc<App>,
    parts: &Parts,
    asked: &Asked<'_>,
    share: &ShareRecord,
) -> Result<(), ApiError> {
    use ExtensionRoute as Ext;
    let Asked::Extension(route, params) = asked else {
        return Err(denied("A share link is good for its shell only"));
    };
    match route {
        Ext::CurrentShare => return Ok(()),
        Ext::Attach | Ext::PaintScreen => {}
        _ => return Err(denied("A share link is good for its shell only")),
    }
    let query = crate::http::query(parts)?;
    let target = app.named_target(find(&query, "runtime").unwrap_or("default"), find(&query, "qualifier"));
    let is_its_shell = target.await.is_ok_and(|target| {
        target.runtime.runtime_id == share.key.runtime_id && target.endpoint == share.key.endpoint
    }) && **params == [share.key.session_id.as_str(), share.shell_id.as_str()];
    if !is_its_shell {
        return Err(denied("A share link is good for its shell only"));
    }
    if *route == Ext::Attach {
        let watches = find(&query, "access") == Some("watch");
        if share.access == ShareAccess::Watch && !watches {
            return Err(denied("The share link is for looking on; use access=watch"));
        }
        if ["create", "takeover", "keep"]
            .iter()
            .any(|flag| find(&query, flag).is_some_and(|it| it != "false"))
        {
            return Err(denied("A share link neither makes nor takes over a shell"));
        }
    }
    Ok(())
}

/// A browser tells where the page is from that asks; other clients tell nothing, and have the link from its maker. For
/// neither of them is this server to be reached under a name that is not its own.
fn is_of_own_page(app: &App, parts: &Parts) -> bool {
    let Some(site) = console::site(app, parts) else { return false };
    match parts.headers.get(header::ORIGIN) {
        None => true,
        Some(origin) => origin.to_str().is_ok_and(|origin| site.is_origin(origin)),
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let in_header = headers.get(SHARE_HEADER).and_then(|value| value.to_str().ok());
    let by_subprotocol = || {
        headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .find_map(|name| name.trim().strip_prefix(SHARE_SUBPROTOCOL))
    };
    in_header.or_else(by_subprotocol).filter(|token| token.len() <= TOKEN_CHARS_MAX)
}

fn denied(reason: &'static str) -> ApiError {
    AwsError::new(ErrorCode::AccessDenied, reason).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_in_a_header_or_as_a_subprotocol() {
        let check = |name: &'static str, value: &str, expect: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(token(&headers), expect, "{name}: {value}");
        };
        check("x-clamshell-share", "abc", Some("abc"));
        check("sec-websocket-protocol", "clamshell.v1, clamshell.share.abc", Some("abc"));
        check("sec-websocket-protocol", "clamshell.v1", None);
        check("x-clamshell-share", &"a".repeat(65), None);
        check("cookie", "abc", None);
    }
}
