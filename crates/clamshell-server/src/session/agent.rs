//! The agent that a session's compute hosts (`runtime.md` section 7): started with the compute, asked for its health, and
//! reached by HTTP.
//!
//! The guest starts one agent in its life. So an agent that ends, or does not answer, takes its compute with it, and the
//! session's next call makes a new one. Asking an agent for its health is no activity; what it answers may be.

mod collect;
mod health;
mod lines;
mod pool;
mod start;
mod supervise;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use clamshell_domain::{Artifact, Hosting, Runtime, ServerProtocol};
use clamshell_protocol::ErrorCode;
use http::{Method, Request, Response, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use thiserror::Error;
use tokio::{io::AsyncReadExt, sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use self::pool::Pool;
pub(crate) use self::{pool::AgentAnswer, start::missing_network};
use super::Call;
use crate::{
    guest::{AgentStream, GuestAddress, GuestError},
    logs::SessionLog,
};

/// Body of a request to an agent.
pub(crate) type AgentBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// How long an image's agent may take until it answers (`runtime.md` 7.5).
const START_LIMIT: Duration = Duration::from_secs(120);

/// As [`START_LIMIT`], of code zips.
const START_LIMIT_CODE: Duration = Duration::from_secs(30);

/// How long a request whose connection broke waits to learn that the agent has ended.
const EXPLANATION: Duration = Duration::from_millis(500);

/// The kernel may close the connections of a program that ends before what it listens on, by far less than this.
const LAST_BREATH: Duration = Duration::from_millis(50);

/// An agent cannot serve a request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum AgentError {
    /// The runtime hosts none.
    #[error("runtime hosts no agent")]
    NoAgent,
    /// It did not become ready in time.
    #[error("agent did not become ready within {limit_s} s")]
    StartTimeout {
        /// Seconds that it had.
        limit_s: u64,
    },
    /// It could not be started.
    #[error("agent could not be started: {reason}")]
    StartFailed {
        /// For the runtime's log.
        reason: String,
    },
    /// Its program has ended.
    #[error("agent exited with code {code}")]
    Exited {
        /// Exit status; 128 + signal when a signal ended it.
        code: i32,
        /// The signal.
        signal: Option<i32>,
    },
    /// It takes no connection, or broke one off before it answered.
    #[error("agent cannot be reached")]
    Unreachable,
    /// The session's compute has ended.
    #[error("session was stopped")]
    Ended,
}

/// Whether it can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    Over(AgentError),
}

/// The agent of one compute.
pub(crate) struct Agent {
    protocol: ServerProtocol,
    guest: GuestAddress,
    start_limit: Duration,
    start_deadline: Instant,
    state: watch::Sender<State>,
    /// It has answered a request well, so an error of it is an error and not a start that goes on.
    proven: AtomicBool,
    pool: Arc<Pool>,
    log: Arc<SessionLog>,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

/// What an agent is made of.
pub(super) struct AgentParts<'a> {
    pub(super) hosting: &'a Hosting,
    pub(super) start_limit: Duration,
    pub(super) guest: GuestAddress,
    pub(super) log: Arc<SessionLog>,
    /// Cancelled when the compute ends.
    pub(super) ended: CancellationToken,
    /// It ran before this server started.
    pub(super) is_old: bool,
}

impl Agent {
    pub(super) fn new(parts: AgentParts<'_>) -> Self {
        let AgentParts { hosting, start_limit, guest, log, ended, is_old } = parts;
        Self {
            protocol: hosting.protocol,
            start_limit,
            start_deadline: Instant::now() + start_limit,
            state: watch::Sender::new(State::Starting),
            proven: AtomicBool::new(is_old),
            pool: Pool::new(guest.clone(), hosting.port, ended),
            guest,
            log,
        }
    }

    /// Resolves once it can be asked, or never will be.
    async fn ready(&self) -> Result<(), AgentError> {
        let mut states = self.state.subscribe();
        let known = states.wait_for(|state| *state != State::Starting);
        match known.await.as_deref() {
            Ok(State::Over(error)) => Err(error.clone()),
            Ok(State::Starting | State::Ready) => Ok(()),
            Err(_) => Err(AgentError::Ended),
        }
    }

    /// Why it is over, if it is.
    fn end(&self) -> Option<AgentError> {
        match &*self.state.borrow() {
            State::Over(error) => Some(error.clone()),
            State::Starting | State::Ready => None,
        }
    }

    /// It is over, for this reason unless there was one before. Gives whether this was the first.
    fn over(&self, error: AgentError) -> bool {
        self.pool.close();
        self.state.send_if_modified(|state| {
            let first = !matches!(state, State::Over(_));
            if first {
                *state = State::Over(error);
            }
            first
        })
    }

    /// The best that can be told about a connection that broke or was refused.
    async fn explain(&self) -> AgentError {
        let mut states = self.state.subscribe();
        let over = states.wait_for(|state| matches!(state, State::Over(_)));
        match tokio::time::timeout(EXPLANATION, over).await {
            Ok(Ok(state)) => match &*state {
                State::Over(error) => error.clone(),
                State::Starting | State::Ready => AgentError::Unreachable,
            },
            Ok(Err(_)) => AgentError::Ended,
            Err(_) => AgentError::Unreachable,
        }
    }
}

/// How long the agent of a runtime may take to start.
pub(super) fn start_limit(runtime: &Runtime) -> Duration {
    match runtime.artifact {
        Artifact::Code { .. } => START_LIMIT_CODE,
        Artifact::Host | Artifact::Directory { .. } | Artifact::Oci { .. } | Artifact::Image { .. } => {
            START_LIMIT
        }
    }
}

impl Call {
    /// The agent, once it is ready; waits for that within its start-up limit.
    ///
    /// # Errors
    /// [`AgentError`].
    pub(crate) async fn agent(&self) -> Result<AgentHandle, AgentError> {
        let agent = self.compute.agent.as_ref().ok_or(AgentError::NoAgent)?;
        // As it mostly is; then nothing waits for anything.
        if *agent.state.borrow() == State::Ready {
            return Ok(AgentHandle { agent: Arc::clone(agent) });
        }
        tokio::select! {
            ready = agent.ready() => ready?,
            () = self.compute.ended.cancelled() => {
                return Err(agent.end().unwrap_or(AgentError::Ended));
            }
            () = self.registry.shutdown.cancelled() => return Err(AgentError::Ended),
        }
        Ok(AgentHandle { agent: Arc::clone(agent) })
    }
}

/// An agent that is, or was, ready.
#[derive(Debug, Clone)]
pub(crate) struct AgentHandle {
    agent: Arc<Agent>,
}

impl AgentHandle {
    /// Port that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.agent.pool.port()
    }

    /// Whether it has given no good answer yet since its compute was made: then an error of it may be part of its start
    /// (`runtime.md` 6.2).
    pub(crate) fn is_fresh(&self) -> bool {
        !self.agent.proven.load(Ordering::Relaxed)
    }

    /// It gave a good answer.
    pub(crate) fn mark_proven(&self) {
        self.agent.proven.store(true, Ordering::Relaxed);
    }

    /// When its time to start is over.
    pub(crate) fn start_deadline(&self) -> Instant {
        self.agent.start_deadline
    }

    /// Seconds that it has to start.
    pub(crate) fn start_limit_s(&self) -> u64 {
        self.agent.start_limit.as_secs()
    }

    /// Writes a line of the platform into the runtime's log.
    pub(crate) fn note(&self, message: String) {
        self.agent.log.note(message);
    }

    /// Sends a request and gives the answer once its headers are there. The URI counts from the path on; `Host` is set here.
    /// Dropping the future, or the answer's body before its end, closes the connection, and so tells the agent.
    ///
    /// A connection that the agent had closed before it was given the request is replaced by a new one once.
    ///
    /// # Errors
    /// [`AgentError`]. A status is no error.
    pub(crate) async fn request(
        &self,
        request: Request<AgentBody>,
    ) -> Result<Response<AgentAnswer>, AgentError> {
        if let Some(error) = self.agent.end() {
            return Err(error);
        }
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let what = || Asked::of(&method, &uri);
        match self.agent.pool.request(request).await {
            Ok(response) => {
                let status = response.status();
                if status.is_client_error() || status.is_server_error() {
                    self.agent.log.note(format!("{} was answered with {}", what(), status.as_u16()));
                }
                Ok(response)
            }
            Err(error) => Err(self.explained(&what(), &error).await),
        }
    }

    /// Whether it still takes connections. One that has died does not, whatever its last answer looked like: the kernel
    /// closes what it listened on together with its connections.
    pub(crate) async fn is_there(&self) -> bool {
        if self.agent.end().is_some() {
            return false;
        }
        for _ in 0..2 {
            let connected = tokio::time::timeout(EXPLANATION, self.agent.guest.connect(self.port()));
            match connected.await {
                // One that is just dying may still take it, and lets go of it at once.
                Ok(Ok(mut stream)) => match tokio::time::timeout(LAST_BREATH, stream.read(&mut [0])).await {
                    Ok(Ok(0) | Err(_)) => {}
                    Ok(Ok(_)) | Err(_) => return true,
                },
                // One that has no time for a connection is alive.
                Ok(Err(GuestError::Timeout)) | Err(_) => return true,
                Ok(Err(error)) => return matches!(&error, GuestError::Refused(_)) && !is_refused(&error),
            }
        }
        true
    }

    /// Opens a connection of its own, for instance for a WebSocket.
    ///
    /// # Errors
    /// [`AgentError`].
    pub(crate) async fn connect(&self) -> Result<AgentStream, AgentError> {
        if let Some(error) = self.agent.end() {
            return Err(error);
        }
        match self.agent.guest.connect(self.port()).await {
            Ok(stream) => Ok(stream),
            Err(error) => Err(self.explained(&Asked::connection(), &error).await),
        }
    }

    async fn explained(&self, what: &Asked, error: &(dyn std::error::Error + Sync)) -> AgentError {
        let explained = self.agent.explain().await;
        if explained == AgentError::Unreachable {
            let error = crate::http::chain(error);
            tracing::debug!(error, "agent cannot be reached");
            self.agent.log.note(format!("{what} was not answered: {error}"));
        }
        explained
    }
}

/// What was asked, for the log.
struct Asked(String);

impl Asked {
    /// Characters of a path in the log.
    const PATH_CHARS_MAX: usize = 200;

    fn of(method: &Method, uri: &Uri) -> Self {
        let path: String = uri.path().chars().take(Self::PATH_CHARS_MAX).collect();
        Self(format!("{method} {path}"))
    }

    fn connection() -> Self {
        Self("a connection".to_owned())
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether nothing listens on the port.
fn is_refused(error: &GuestError) -> bool {
    matches!(error, GuestError::Refused(refusal) if refusal.code == ErrorCode::Refused)
}
