//! Asks an agent for its health (`runtime.md` 7.5).

use std::time::Duration;

use bytes::Bytes;
use clamshell_domain::ServerProtocol;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use serde::Deserialize;
use tokio::time::{Instant, timeout, timeout_at};

use super::{Agent, is_refused, pool::PoolError};

/// An agent has this long to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an answer that are read; a good one has fewer than a hundred.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// First pause between two questions to an agent that starts.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Longest one.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// What an agent said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ping {
    /// It is there and has nothing to do.
    Healthy {
        /// Since when, as it says, milliseconds since 1970.
        since_ms: Option<u64>,
    },
    /// It works on something of its own.
    Busy,
    /// It gave no good answer.
    Missed {
        /// Because it took too long: it may be working on a request, one at a time.
        timed_out: bool,
        /// In words for the runtime's log.
        reason: String,
    },
}

impl Ping {
    fn missed(reason: impl Into<String>) -> Self {
        Self::Missed { timed_out: false, reason: reason.into() }
    }
}

/// The part of an answer that counts.
#[derive(Deserialize)]
struct Told {
    status: Option<String>,
    time_of_last_update: Option<f64>,
}

/// Asks until the agent is ready. `false` when it is not by its deadline; with what it said last.
pub(super) async fn wait_until_ready(agent: &Agent) -> Result<Ping, String> {
    let mut pause = PAUSE_MIN;
    let mut last = "it was not asked".to_owned();
    while Instant::now() < agent.start_deadline {
        let asked = async {
            // `/ping` is no part of the contract of MCP, and before its handshake such a server may answer nothing.
            if agent.protocol == ServerProtocol::Mcp {
                return match agent.guest.connect(agent.pool.port()).await {
                    Ok(_) => Ping::Healthy { since_ms: None },
                    Err(error) if is_refused(&error) => Ping::missed(nobody_listens(agent)),
                    Err(error) => Ping::missed(crate::http::chain(&error)),
                };
            }
            ping(agent).await
        };
        match timeout_at(agent.start_deadline, asked).await {
            Ok(Ping::Missed { reason, .. }) => last = reason,
            Ok(ready) => return Ok(ready),
            Err(_) => break,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
    Err(last)
}

/// Asks once.
pub(super) async fn ping(agent: &Agent) -> Ping {
    let asked = async {
        let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
        let mut request = Request::new(body);
        *request.uri_mut() = http::Uri::from_static("/ping");
        let response = match agent.pool.request_alone(request).await {
            Ok(response) => response,
            Err(PoolError::Connect(error)) if is_refused(&error) => {
                return Ping::missed(nobody_listens(agent));
            }
            Err(error) => return Ping::missed(crate::http::chain(&error)),
        };
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        judge(agent.protocol, status, &body.map(http_body_util::Collected::to_bytes).unwrap_or_default())
    };
    let late = |_| Ping::Missed {
        timed_out: true,
        reason: format!("GET /ping was not answered within {} s", TIMEOUT.as_secs()),
    };
    timeout(TIMEOUT, asked).await.unwrap_or_else(late)
}

fn nobody_listens(agent: &Agent) -> String {
    format!("nothing listens on port {}", agent.pool.port())
}

fn judge(protocol: ServerProtocol, status: StatusCode, body: &[u8]) -> Ping {
    let is_healthy = match protocol {
        // Any answer at all says that it is there.
        ServerProtocol::Mcp => true,
        ServerProtocol::Http | ServerProtocol::A2a | ServerProtocol::AgUi => {
            status == StatusCode::OK || status == StatusCode::NOT_FOUND
        }
    };
    if !is_healthy {
        return Ping::missed(format!("GET /ping was answered with {}", status.as_u16()));
    }
    let told = (status == StatusCode::OK).then(|| serde_json::from_slice::<Told>(body).ok()).flatten();
    let Some(told) = told else { return Ping::Healthy { since_ms: None } };
    match told.status.as_deref() {
        Some("HealthyBusy") => Ping::Busy,
        Some("Unhealthy") => Ping::missed("GET /ping was answered with the status Unhealthy"),
        _ => Ping::Healthy { since_ms: told.time_of_last_update.and_then(millis) },
    }
}

/// Seconds since 1970 in milliseconds; a double holds all whole ones for longer than anybody waits.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
fn millis(seconds: f64) -> Option<u64> {
    let ms = seconds * 1000.0;
    (0.0..9.0e15).contains(&ms).then_some(ms as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(protocol: ServerProtocol, status: u16, body: &str, expect: Ping) {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(judge(protocol, status, body.as_bytes()), expect, "{status} {body}");
    }

    #[test]
    fn answers_of_agents() {
        let healthy = Ping::Healthy { since_ms: None };
        let http = ServerProtocol::Http;
        check(http, 200, r#"{"status":"Healthy"}"#, healthy.clone());
        check(http, 200, r#"{"status":"HealthyBusy","time_of_last_update":5}"#, Ping::Busy);
        let since = |ms| Ping::Healthy { since_ms: Some(ms) };
        check(
            http,
            200,
            r#"{"status":"Healthy","time_of_last_update":1767323045}"#,
            since(1_767_323_045_000),
        );
        check(
            http,
            200,
            r#"{"status":"Healthy","time_of_last_update":1767323045.5}"#,
            since(1_767_323_045_500),
        );
        for time in ["-1", "1e300", "null"] {
            let body = format!(r#"{{"status":"Healthy","time_of_last_update":{time}}}"#);
            check(http, 200, &body, healthy.clone());
        }
        check(http, 200, "pong", healthy.clone());
        check(http, 404, "no such page", healthy.clone());
        check(http, 503, r#"{"status":"Healthy"}"#, Ping::missed("GET /ping was answered with 503"));
        check(http, 302, "", Ping::missed("GET /ping was answered with 302"));
        check(ServerProtocol::Mcp, 405, "", healthy);
        check(ServerProtocol::Mcp, 200, r#"{"status":"HealthyBusy"}"#, Ping::Busy);
    }
}
