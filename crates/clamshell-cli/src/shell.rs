//! A shell at this terminal, over as many connections as it takes.
//!
//! Everything the client says goes to stderr; what the shell prints goes to stdout. The terminal is
//! in raw mode only while connected. A connection that is lost is made again in place: with
//! Clamshell from the first byte that was not printed, so nothing is lost or doubled; with AWS by
//! its replay.

mod connection;
mod hint;
mod pump;
mod receiver;
mod terminal;
mod upstream;

use std::time::{Duration, Instant};

use clamshell_term::{
    raw_mode::RawMode,
    reconnect::{CloseMeaning, Decision, Reconnect, ReconnectPolicy},
};

use crate::{client::Client, failure::Failure};
use connection::{ConnectError, Connection, Route};
use pump::{End, pump};
use receiver::Receiver;
use terminal::Terminal;

pub(crate) use hint::HintFlags;
pub(crate) use upstream::Endpoint;

/// What a client does with a shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Types.
    Write,
    /// Looks on.
    Watch,
}

/// The shell that is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    /// Runtime.
    pub(crate) arn: String,
    /// Endpoint name.
    pub(crate) qualifier: String,
    /// Session.
    pub(crate) session_id: String,
    /// Shell; `None` for a new one.
    pub(crate) shell_id: Option<String>,
    /// Typing or looking on.
    pub(crate) access: Access,
    /// Never reap it while a program runs in it.
    pub(crate) keep: bool,
    /// Key that detaches, as `^X`.
    pub(crate) detach_key: String,
    /// For the command that comes back.
    pub(crate) hint_flags: HintFlags,
}

/// Attaches and stays attached until the shell ends, the user leaves, or it cannot be reached any
/// more. Gives the exit code: the shell's own, 0 after a detach.
pub(crate) async fn run(mut client: Client, mut wish: Wish) -> Result<i32, Failure> {
    let key = wish
        .detach_key
        .parse()
        .map_err(|error| Failure::new("cannot use the detach key").because_of(&error))?;
    let stdin = std::io::stdin();
    let mut terminal =
        Terminal::open(key).map_err(|error| Failure::new("cannot use the terminal").because_of(&error))?;
    let started = Instant::now();
    let asked_for = wish.shell_id.clone();
    let mut receiver = Receiver::new();
    let mut policy = Reconnect::new(ReconnectPolicy::ONE_ROUND);
    let mut connected_before = false;
    let mut planned = false;
    let mut raw = None;
    let mut route = connection::first_route(&wish);
    eprintln!("Connecting to agent VM...");
    loop {
        let attempt = connection::connect(&client, &wish, &route, terminal.size());
        let attempt = tokio::select! {
            attempt = attempt => attempt,
            signal = terminal.interrupted() => {
                drop(raw);
                return Ok(leave(&wish, connected_before, 128 + signal));
            }
        };
        if attempt.is_err() {
            raw = None;
        }
        let (reason, code) = match attempt {
            Ok(mut connection) => {
                policy.on_confirmed();
                announce(&wish, &connection, asked_for.as_deref(), connected_before, planned, &terminal);
                wish.session_id.clone_from(&connection.session_id);
                wish.shell_id = Some(connection.shell_id.clone());
                if let Some(notice) = receiver.on_connected(connection.offset, connection.bytes_dropped) {
                    eprintln!("{notice}");
                }
                if !connected_before {
                    policy = Reconnect::new(ReconnectPolicy::WHOLE_WINDOW);
                }
                connected_before = true;
                planned = false;
                if raw.is_none() {
                    // Fails when stdin is no terminal, as it may be for somebody who looks on.
                    raw = RawMode::enter(&stdin).ok();
                }
                let end = pump(&mut connection, &mut receiver, &mut terminal, wish.access).await;
                if matches!(end, End::Planned) {
                    // The terminal stays raw: the user must not notice.
                    connection.close().await;
                    planned = true;
                    route = next_route(&receiver, true);
                    continue;
                }
                terminal.flush().await;
                raw = None;
                connection.close().await;
                match end {
                    End::Closed(code, reason) if CloseMeaning::of(code) == CloseMeaning::Lost => {
                        (reason, code)
                    }
                    end => return Ok(finish(&wish, end, &mut terminal, &receiver).await),
                }
            }
            Err(ConnectError::Gone) => match connection::ended_code(&client, &wish).await {
                Some(code) => {
                    return Ok(finish(&wish, End::Exited(code), &mut terminal, &receiver).await);
                }
                None if wish.access == Access::Watch => {
                    return Err(Failure::new("there is nothing to watch").because("the shell does not run"));
                }
                None => {
                    // Its session ended meanwhile: a new shell, as AWS gives one.
                    receiver = Receiver::new();
                    route = Route::Aws;
                    continue;
                }
            },
            Err(ConnectError::Fatal(failure)) => {
                terminal.print(receiver.reset()).await;
                if connected_before {
                    eprintln!("{failure}");
                    return Ok(leave(&wish, true, 1));
                }
                return Err(failure);
            }
            Err(ConnectError::Closed(code, reason)) => (reason, code),
        };
        match policy.on_closed(millis(started), code, random()) {
            Decision::Retry { attempt, retries_max, delay_ms } => {
                eprintln!("\n[disconnected · {reason} · reconnecting ({attempt}/{retries_max})...]");
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(delay_ms)) => {}
                    signal = terminal.interrupted() => {
                        terminal.print(receiver.reset()).await;
                        return Ok(leave(&wish, connected_before, 128 + signal));
                    }
                }
                client.follow_local_server();
                if connected_before {
                    route = next_route(&receiver, false);
                }
            }
            Decision::Stop(_) => {
                let end = End::Closed(code, reason.clone());
                if !connected_before && CloseMeaning::of(code) == CloseMeaning::Lost {
                    return Err(Failure::new("cannot open the shell")
                        .because(reason)
                        .hint("`clamshell sessions` lists what runs"));
                }
                return Ok(finish(&wish, end, &mut terminal, &receiver).await);
            }
        }
    }
}

/// Where to go on: with Clamshell at the next byte, or from the picture of a full-screen program that
/// our messages have spoiled; with AWS by its replay.
fn next_route(receiver: &Receiver, unspoiled: bool) -> Route {
    match receiver.offset() {
        Some(_) if receiver.on_alternate_screen() && !unspoiled => {
            Route::Screen { create: false, keep: false }
        }
        Some(offset) => Route::Offset(offset),
        None => Route::Aws,
    }
}

fn announce(
    wish: &Wish,
    connection: &Connection,
    asked_for: Option<&str>,
    connected_before: bool,
    planned: bool,
    terminal: &Terminal,
) {
    let session = &connection.session_id;
    let fresh = connection.reconnected == Some(false);
    if connected_before {
        if fresh {
            eprintln!("[new shell session (previous session expired)]");
        } else if !planned {
            eprintln!("[reconnected]");
        }
        return;
    }
    if wish.access == Access::Watch {
        eprintln!("[watching · session {session} · shell {} · Ctrl+C to stop]", connection.shell_id);
        return;
    }
    if asked_for.is_some() && fresh {
        eprintln!(
            "[info] Previous shell session has ended. Starting a new shell (environment variables and history are not restored)."
        );
    }
    let detach = match terminal.detach_key().as_str() {
        "none" => String::new(),
        key => format!(" · {key} to detach"),
    };
    eprintln!("[connected · session {session} · Ctrl+D or 'exit' to quit{detach}]");
}

/// Puts the terminal in order, says how it ended, and gives the exit code.
async fn finish(wish: &Wish, end: End, terminal: &mut Terminal, receiver: &Receiver) -> i32 {
    terminal.print(receiver.reset()).await;
    if wish.access == Access::Watch && matches!(end, End::Detached | End::Signal(2)) {
        eprintln!("\n[stopped watching]");
        return 0;
    }
    match end {
        End::Exited(code) => {
            eprintln!("\n[session closed · exit {code}]");
            code
        }
        End::Failed(message) => {
            eprintln!("\n[shell error: {message}]");
            1
        }
        End::Detached | End::OutputGone => {
            eprintln!("\n[detached]");
            eprint!("{}", hint::text(wish));
            0
        }
        End::Signal(signal) => leave(wish, true, 128 + signal),
        End::Closed(code, reason) => match CloseMeaning::of(code) {
            CloseMeaning::Replaced => {
                eprintln!("\n[session attached from another client · not reconnecting]");
                1
            }
            CloseMeaning::Refused => {
                eprintln!("\n[shell error: {reason}]");
                leave(wish, true, 1)
            }
            CloseMeaning::Lost | CloseMeaning::Ended => leave(wish, true, 1),
        },
        End::Shutdown | End::Planned => leave(wish, true, 1),
    }
}

fn leave(wish: &Wish, connected_before: bool, code: i32) -> i32 {
    eprintln!("\n[disconnected]");
    if connected_before {
        eprint!("{}", hint::text(wish));
    }
    code
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn random() -> u32 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
