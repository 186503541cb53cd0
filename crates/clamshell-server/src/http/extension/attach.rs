//! Attach to a shell from an offset, a tail, its screen or its end; write or watch.

use std::sync::Arc;

use clamshell_protocol::{Access, AttachFrom, Reply, Request};
use clamshell_wire::{AwsError, query::find};
use http::{HeaderValue, Response, header, request::Parts};

use super::{find_session, shell_id, shells};
use crate::{
    app::App,
    connections::Connection,
    environment,
    http::{
        ApiError,
        relay::{Relay, Style},
        response::Body,
        upgrade,
    },
    terminals,
};

/// How far a program may be ahead of a writer with a window: enough to keep it busy while news of room travels, little
/// enough to be shown in a moment.
const LEAD_BYTES_MAX: u64 = 64 * 1024;

/// Below one message a window would only wait; above 16 MiB it bounds nothing that matters.
const WINDOW_BYTES: std::ops::RangeInclusive<u64> = 64 * 1024..=16 << 20;

/// What browsers ask for, and must be told in return. A token that they sent beside it is never repeated.
const SUBPROTOCOL: &str = "clamshell.v1";

pub(super) async fn upgrade(
    app: &Arc<App>,
    parts: Parts,
    connection: Connection,
    query: &[(String, String)],
    session_id: &str,
    shell: &str,
) -> Result<Response<Body>, ApiError> {
    let speaks_ours = speaks_ours(&parts);
    let handshake = upgrade::handshake(parts)?;
    let shell_id = shell_id(shell)?;
    let from = parse_from(find(query, "from").unwrap_or("screen"))?;
    let access = match find(query, "access").unwrap_or("write") {
        "write" => Access::Write,
        "watch" => Access::Watch,
        _ => return Err(AwsError::invalid_field("access", "Member must be one of: [write, watch]").into()),
    };
    // Who may only watch starts no program, in a session that runs either.
    let create = flag(query, "create")? && access == Access::Write;
    let keep = flag(query, "keep")?;
    let window = parse_window(find(query, "window"))?;
    let answers_when_told = parse_answers(find(query, "answers"))? && access == Access::Write;
    let takeover = flag(query, "takeover")?;
    if takeover && access == Access::Watch {
        return Err(AwsError::invalid_field("takeover", "Member needs access=write").into());
    }
    let (target, session) = find_session(app, query, session_id).await?;

    let (session, compute) = if create {
        let key = target.session_key(super::parse_session_id(session_id)?);
        let call = app.registry.call(key, Arc::clone(&target.runtime)).await?;
        (Arc::clone(call.session()), call.compute.clone())
    } else {
        // Watching, and looking for a shell that must be there, wakes nothing.
        let session = session.ok_or(ApiError::SessionNotFound)?;
        let compute = session.compute().ok_or(ApiError::SessionNotFound)?;
        (session, compute)
    };
    let spec = create.then(|| environment::shell(&app.region, &app.config.shells, keep));
    let settings = match (create, find(query, "command").unwrap_or("shell")) {
        (true, "default") => terminals::settings(app, &target.runtime.runtime_id, false).await?,
        (false, "default") | (_, "shell") => None,
        _ => {
            return Err(AwsError::invalid_field("command", "Member must be one of: [default, shell]").into());
        }
    };
    // Whoever paces the server paces the program as well: else a flood would fill the log while little is shown, and
    // the end of it, or the answer to Ctrl+C, would come long after.
    let lead_bytes_max = window.filter(|_| access == Access::Write).map(|_| LEAD_BYTES_MAX);
    let ask = |create| Request::Shell {
        shell_id: shell_id.to_string(),
        create,
        from,
        access,
        lead_bytes_max,
        answers_when_told,
    };
    let (reply, guest) = terminals::open(app, &compute.guest, spec, settings, ask).await?;
    let Reply::Shell(opened) = reply else {
        return Err(ApiError::Internal("guest answered a shell with something else"));
    };
    if opened.created {
        shells::name_new(app, &session, &target, &shell_id);
    }
    let writer = (access == Access::Write).then(|| session.claims().join(&shell_id));
    // Not before the guest took this client: one that fails evicts nobody.
    if takeover && let Some(writer) = &writer {
        writer.take_over();
    }
    let app_of_relay = Arc::clone(app);
    let style = Style::Attach { window, answers_when_told };
    let relay =
        Relay { app: app_of_relay, session, compute, shell_id, opened, access, style, connection, writer };
    let mut response = handshake.accept(app, move |socket| relay.run(socket, guest));
    if speaks_ours {
        name_subprotocol(&mut response);
    }
    Ok(response)
}

/// Whether the client offers our subprotocol.
pub(super) fn speaks_ours(parts: &Parts) -> bool {
    upgrade::has_token(&parts.headers, header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL)
}

/// Answers whoever offered our subprotocol; a browser hangs up without it.
pub(super) fn name_subprotocol(response: &mut Response<Body>) {
    let name = HeaderValue::from_static(SUBPROTOCOL);
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, name);
}

pub(super) fn parse_from(text: &str) -> Result<AttachFrom, ApiError> {
    let number = |text: &str| text.parse::<u64>().ok();
    let from = match text.split_once(':') {
        Some(("offset", offset)) => number(offset).map(AttachFrom::Offset),
        Some(("tail", bytes)) => number(bytes).map(AttachFrom::Tail),
        None if text == "screen" => Some(AttachFrom::Screen),
        None if text == "end" => Some(AttachFrom::End),
        _ => None,
    };
    from.ok_or_else(|| {
        AwsError::invalid_field("from", "Member must be offset:N, tail:N, screen or end").into()
    })
}

pub(super) fn parse_window(text: Option<&str>) -> Result<Option<u64>, ApiError> {
    let Some(text) = text else { return Ok(None) };
    match text.parse::<u64>() {
        Ok(window) if WINDOW_BYTES.contains(&window) => Ok(Some(window)),
        _ => {
            Err(AwsError::invalid_field("window", "Member must be a number between 65536 and 16777216")
                .into())
        }
    }
}

/// Whether the client answers what the program asks the terminal only while it is told to.
pub(super) fn parse_answers(text: Option<&str>) -> Result<bool, ApiError> {
    match text {
        None | Some("always") => Ok(false),
        Some("told") => Ok(true),
        Some(_) => Err(AwsError::invalid_field("answers", "Member must be one of: [always, told]").into()),
    }
}

pub(super) fn flag(query: &[(String, String)], name: &str) -> Result<bool, ApiError> {
    match find(query, name) {
        None | Some("false") => Ok(false),
        Some("true" | "") => Ok(true),
        Some(_) => Err(AwsError::invalid_field(name, "Member must be one of: [true, false]").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_from() {
        let check =
            |text: &str, expect: Option<AttachFrom>| assert_eq!(parse_from(text).ok(), expect, "{text}");
        check("offset:0", Some(AttachFrom::Offset(0)));
        check("offset:18446744073709551615", Some(AttachFrom::Offset(u64::MAX)));
        check("tail:65536", Some(AttachFrom::Tail(65_536)));
        check("screen", Some(AttachFrom::Screen));
        check("end", Some(AttachFrom::End));
        check("offset:-1", None);
        check("offset:", None);
        check("screen:1", None);
        check("", None);
    }

    #[test]
    fn every_form_of_answers() {
        let check = |text: Option<&str>, expect: Option<bool>| assert_eq!(parse_answers(text).ok(), expect);
        check(None, Some(false));
        check(Some("always"), Some(false));
        check(Some("told"), Some(true));
        check(Some("never"), None);
    }
}
