//! One connection to a shell: the upgrade, the first RESIZE, the confirmation.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use clamshell_term::{frame::ShellFrame, status::Status};
use clamshell_wire::{headers, percent_encode, subprotocol::Subprotocols};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::{Access, Wish};
use crate::{
    client::{Client, Refusal, RequestError, Socket, printable},
    failure::Failure,
    target::Identity,
};

/// Only Clamshell sends it: log offset of the first byte of the replay.
const OFFSET_HEADER: &str = "x-clamshell-shell-offset";
/// Clamshell always confirms; a server that does not within this time has died.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(10);
/// AWS may not confirm at all: the id in the 101 answer is enough for it.
const OPTIONAL_CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(2);
/// A close handshake that takes longer is not worth waiting for.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(300);
/// Frames that may come before the confirmation: a whole replay of 256 KiB in small frames.
const EARLY_FRAMES_MAX: usize = 1024;
/// And their bytes, but for the last one, of at most 1 MiB: a replay has no more, and an endpoint must not fill the memory.
const EARLY_BYTES_MAX: usize = 512 * 1024;

/// Which call attaches, and from where in the output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// The call that AWS has: replay, new shell when there is none, evicts others.
    Aws,
    /// Clamshell: from this byte of the log.
    Offset(u64),
    /// Clamshell: a picture of the screen first.
    Screen {
        /// Start the shell when it does not run.
        create: bool,
        /// A shell started by this is never reaped while a program runs in it.
        keep: bool,
    },
}

/// The first connection of this client.
pub(super) fn first_route(wish: &Wish) -> Route {
    match wish.access {
        Access::Watch => Route::Screen { create: false, keep: false },
        Access::Write if wish.keep => Route::Screen { create: true, keep: true },
        Access::Write => Route::Aws,
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// The shell does not run (any more).
    Gone,
    /// Trying again changes nothing.
    Fatal(Failure),
    /// Closed or never open; the code decides whether to try again.
    Closed(Option<u16>, String),
}

/// An attached shell.
pub(super) struct Connection {
    /// Messages.
    pub(super) socket: Socket,
    /// Session, as the server says.
    pub(super) session_id: String,
    /// Shell, as the server says.
    pub(super) shell_id: String,
    /// Log offset of the first byte of output; Clamshell only.
    pub(super) offset: Option<u64>,
    /// Whether the shell was running before; `None` when the server does not say.
    pub(super) reconnected: Option<bool>,
    /// Bytes lost over all replays of the shell.
    pub(super) bytes_dropped: Option<u64>,
    /// Messages that came before the confirmation, in order.
    pub(super) early: VecDeque<Bytes>,
}

impl Connection {
    /// Detaches: a close frame and a short wait for its answer.
    pub(super) async fn close(mut self) {
        let _ = timeout(CLOSE_TIMEOUT, self.socket.messages.close(None)).await;
    }
}

/// Connects, tells the size, waits for the confirmation.
pub(super) async fn connect(
    client: &Client,
    wish: &Wish,
    route: &Route,
    size: (u16, u16),
) -> Result<Connection, ConnectError> {
    let mut extra = vec![(headers::SESSION_ID, wish.session_id.clone())];
    if let Identity::Bearer(token) = &client.target().identity {
        extra.push((headers::SEC_WEBSOCKET_PROTOCOL, Subprotocols::offer(token)));
    }
    let socket = match client.upgrade(&path(wish, route), &extra).await {
        Ok(socket) => socket,
        Err(error) => return Err(refused(error, route)),
    };
    let found = socket.headers.clone();
    let text = |name: &str| text_of(&found, name);
    let offset = text(OFFSET_HEADER).and_then(|text| text.parse().ok());
    let clamshell = offset.is_some() || *route != Route::Aws;
    let shell_id = text(headers::SHELL_ID).or_else(|| wish.shell_id.clone()).ok_or_else(|| {
        ConnectError::Fatal(Failure::new("cannot open the shell").because("the server did not name it"))
    })?;
    let mut connection = Connection {
        socket,
        session_id: text(headers::SESSION_ID).unwrap_or_else(|| wish.session_id.clone()),
        shell_id,
        offset,
        reconnected: None,
        bytes_dropped: None,
        early: VecDeque::new(),
    };
    if wish.access == Access::Write {
        let resize = ShellFrame::Resize { width: size.0, height: size.1 }.encode();
        let sent = connection.socket.messages.send(Message::Binary(resize.into())).await;
        sent.map_err(|error| ConnectError::Closed(None, error.to_string()))?;
    }
    let limit = if clamshell { CONFIRMATION_TIMEOUT } else { OPTIONAL_CONFIRMATION_TIMEOUT };
    match timeout(limit, confirmation(&mut connection)).await {
        Ok(Ok(())) => Ok(connection),
        Ok(Err((code, reason))) => Err(ConnectError::Closed(code, reason)),
        Err(_) if clamshell => Err(ConnectError::Closed(None, "no confirmation in time".to_owned())),
        Err(_) => Ok(connection),
    }
}

/// Reads until the confirmation, keeping what comes before it. Cancel-safe: what was read is kept.
async fn confirmation(connection: &mut Connection) -> Result<(), (Option<u16>, String)> {
    let mut early_bytes = 0;
    while connection.early.len() < EARLY_FRAMES_MAX && early_bytes < EARLY_BYTES_MAX {
        let message = match connection.socket.messages.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err((None, error.to_string())),
            None => return Err((None, "connection lost".to_owned())),
        };
        match message {
            Message::Binary(bytes) => {
                let status = match ShellFrame::from_server(&bytes) {
                    Ok(ShellFrame::Status(json)) => Status::parse(json).ok(),
                    _ => None,
                };
                if let Some(Status::Confirmed { reconnected, bytes_dropped, offset, .. }) = status {
                    connection.reconnected = Some(reconnected);
                    connection.bytes_dropped = bytes_dropped;
                    connection.offset = offset.or(connection.offset);
                    return Ok(());
                }
                early_bytes += bytes.len();
                connection.early.push_back(bytes);
            }
            Message::Close(frame) => {
                let code = frame.as_ref().map(|frame| u16::from(frame.code));
                let reason = frame.map(|frame| printable(&frame.reason)).unwrap_or_default();
                return Err((code, close_text(code, &reason)));
            }
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    Ok(())
}

/// A close code and reason for people.
pub(super) fn close_text(code: Option<u16>, reason: &str) -> String {
    match (code, reason) {
        (Some(code), "") => format!("closed with {code}"),
        (Some(code), reason) => format!("closed with {code}: {reason}"),
        (None, _) => "connection lost".to_owned(),
    }
}

fn text_of(found: &HeaderMap, name: &str) -> Option<String> {
    found.get(name).and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn path(wish: &Wish, route: &Route) -> String {
    let arn = percent_encode(&wish.arn);
    let qualifier = percent_encode(&wish.qualifier);
    let Route::Aws = route else {
        let from = match route {
            Route::Offset(offset) => format!("offset%3A{offset}"),
            Route::Aws | Route::Screen { .. } => "screen".to_owned(),
        };
        let access = if wish.access == Access::Watch { "watch" } else { "write" };
        let mut path = format!(
            "{}/attach?runtime={arn}&qualifier={qualifier}&from={from}&access={access}",
            shell_path(wish)
        );
        if let Route::Screen { create, keep } = route {
            for (name, on) in [("create", create), ("keep", keep)] {
                if *on {
                    path = format!("{path}&{name}=true");
                }
            }
        }
        return path;
    };
    let mut path = format!("/runtimes/{arn}/ws/shells?qualifier={qualifier}");
    if let Some(shell_id) = &wish.shell_id {
        path = format!("{path}&shellId={}", percent_encode(shell_id));
    }
    path
}

fn shell_path(wish: &Wish) -> String {
    let session = percent_encode(&wish.session_id);
    let shell = percent_encode(wish.shell_id.as_deref().unwrap_or_default());
    format!("/clamshell/v1/sessions/{session}/shells/{shell}")
}

/// Exit code of a shell of Clamshell that ended while nobody was connected.
pub(super) async fn ended_code(client: &Client, wish: &Wish) -> Option<i32> {
    let query =
        format!("runtime={}&qualifier={}", percent_encode(&wish.arn), percent_encode(&wish.qualifier));
    let path = format!("{}?{query}", shell_path(wish));
    let shell = client.json(Method::GET, &path, None).await.ok()?;
    if shell["state"] != "Ended" {
        return None;
    }
    let signal = shell["signal"].as_i64().map(|signal| 128 + signal);
    i32::try_from(signal.or(shell["exitCode"].as_i64())?).ok()
}

fn refused(error: RequestError, route: &Route) -> ConnectError {
    let refusal = match error {
        RequestError::Local(failure) => return ConnectError::Fatal(failure),
        RequestError::Unreachable(why) => return ConnectError::Closed(None, why),
        RequestError::Refused(refusal) => refusal,
    };
    match refusal.status {
        404 if *route != Route::Aws => ConnectError::Gone,
        // Provisioning, teardown, two claims at one instant; a server in trouble.
        409 | 500.. => ConnectError::Closed(None, refusal.text()),
        // Coming back, the sandbox may be on its way up again.
        424 if matches!(route, Route::Offset(_)) => ConnectError::Closed(None, refusal.text()),
        _ => ConnectError::Fatal(fatal(&refusal)),
    }
}

fn fatal(refusal: &Refusal) -> Failure {
    let failure = Failure::new("cannot open the shell").because(refusal.text());
    match refusal.status {
        401 | 403 => failure.hint(
            "the permission is bedrock-agentcore:InvokeAgentRuntimeCommandShell; check keys and region",
        ),
        424 | 429 => failure.hint(
            "detached shells count too: `clamshell shells` lists them, `clamshell shells close` ends one",
        ),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::super::HintFlags;
    use super::*;

    fn wish(shell_id: Option<&str>, access: Access) -> Wish {
        Wish {
            arn: "arn:a/b".to_owned(),
            qualifier: "DEFAULT".to_owned(),
            session_id: "s 1".to_owned(),
            shell_id: shell_id.map(str::to_owned),
            access,
            keep: false,
            detach_key: "^]".to_owned(),
            hint_flags: HintFlags::default(),
        }
    }

    #[test]
    fn paths_of_both_apis() {
        let check = |wish: Wish, route: Route, expect: &str| assert_eq!(path(&wish, &route), expect);
        check(wish(None, Access::Write), Route::Aws, "/runtimes/arn%3Aa%2Fb/ws/shells?qualifier=DEFAULT");
        check(
            wish(Some("x"), Access::Write),
            Route::Aws,
            "/runtimes/arn%3Aa%2Fb/ws/shells?qualifier=DEFAULT&shellId=x",
        );
        let ours = "/clamshell/v1/sessions/s%201/shells/x/attach?runtime=arn%3Aa%2Fb&qualifier=DEFAULT";
        let offset = format!("{ours}&from=offset%3A7&access=write");
        check(wish(Some("x"), Access::Write), Route::Offset(7), &offset);
        let screen = format!("{ours}&from=screen&access=watch");
        let watch = wish(Some("x"), Access::Watch);
        let route = first_route(&watch);
        check(watch, route, &screen);
        let keep = Wish { keep: true, ..wish(Some("x"), Access::Write) };
        let route = first_route(&keep);
        check(keep, route, &format!("{ours}&from=screen&access=write&create=true&keep=true"));
    }

    #[test]
    fn refusals_are_sorted() {
        let check = |status: u16, route: Route, expect: &str| {
            let refusal = Refusal { status, exception: String::new(), message: String::new(), error: None };
            let found = match refused(RequestError::Refused(refusal), &route) {
                ConnectError::Gone => "gone",
                ConnectError::Fatal(_) => "fatal",
                ConnectError::Closed(..) => "again",
            };
            assert_eq!(found, expect, "{status} {route:?}");
        };
        check(404, Route::Aws, "fatal");
        check(404, Route::Offset(1), "gone");
        check(409, Route::Aws, "again");
        check(503, Route::Aws, "again");
        check(424, Route::Aws, "fatal");
        check(424, Route::Offset(1), "again");
        check(403, Route::Offset(1), "fatal");
    }
}
