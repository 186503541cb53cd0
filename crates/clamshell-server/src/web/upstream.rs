//! The endpoint that shells run at: AWS, or another server of this kind. Whoever assembles the server brings it, with its
//! credentials, which never leave that process.

use std::collections::VecDeque;

use bytes::Bytes;
use clamshell_domain::{BoxFuture, SessionId, ShellId};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio_tungstenite::WebSocketStream;

/// A WebSocket of the endpoint.
pub type UpstreamSocket = WebSocketStream<TokioIo<Upgraded>>;

/// What people are told of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamInfo {
    /// The runtime that sessions belong to.
    pub runtime_arn: String,
    /// Its name, as far as the ARN tells it.
    pub runtime_name: String,
    /// Endpoint of the runtime.
    pub qualifier: String,
    /// Region of the runtime.
    pub region: String,
    /// Account of the runtime.
    pub account_id: String,
    /// URL of the endpoint.
    pub endpoint: String,
}

/// A shell to connect to; it is started when it does not run.
#[derive(Debug, Clone)]
pub struct ShellAsk {
    /// Its session.
    pub session_id: SessionId,
    /// Its id.
    pub shell_id: ShellId,
    /// Columns and rows of the terminal.
    pub size: (u16, u16),
}

/// A connection to a shell, confirmed.
#[derive(Debug)]
pub struct UpstreamShell {
    /// Messages of the Shell API.
    pub socket: UpstreamSocket,
    /// Whether the shell ran before; `None` when the endpoint did not say.
    pub reconnected: Option<bool>,
    /// The endpoint's own count of where its replay begins; `None` when it counts nothing, as AWS.
    pub offset: Option<u64>,
    /// Messages that came before the confirmation, in order.
    pub early: VecDeque<Bytes>,
}

/// There is no connection.
#[derive(Debug, Error)]
pub enum UpstreamError {
    /// Trying again changes nothing.
    #[error("{message}")]
    Refused {
        /// For people; holds no secret.
        message: String,
    },
    /// Closed, or never open.
    #[error("{message}")]
    Closed {
        /// Code of the close frame.
        code: Option<u16>,
        /// For people; holds no secret.
        message: String,
    },
}

/// Opens shells.
pub trait Upstream: Send + Sync + 'static {
    /// What people are told of it.
    fn info(&self) -> &UpstreamInfo;

    /// Connects to a shell and waits for the confirmation.
    fn connect<'a>(&'a self, ask: &'a ShellAsk) -> BoxFuture<'a, Result<UpstreamShell, UpstreamError>>;

    /// Ends a session with all that runs in it.
    fn stop<'a>(&'a self, session_id: &'a SessionId) -> BoxFuture<'a, Result<(), UpstreamError>>;
}
