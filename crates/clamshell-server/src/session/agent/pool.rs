//! Connections to one agent, HTTP/1.1, kept open between requests.
//!
//! Each connection is driven by a task of its own, so that it notices at once when the agent closes it. One that was given
//! a request goes back before its answer has been read, and is taken again only when it is free.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Request, Response, Uri, Version, header, uri::PathAndQuery};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::AgentBody;
use crate::guest::{GuestAddress, GuestError};

/// Connections kept for one session: each takes a descriptor and some tens of KiB, and a session with more requests at once
/// is rare enough to pay for a new one.
const KEPT_MAX: usize = 64;

/// A connection is kept so long without a request.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// After the compute's end connections have this long to break by themselves: the agent may finish what it has begun.
const FAREWELL: Duration = Duration::from_secs(15);

/// Bytes of an answer read at once, and of its headers at most.
const BUFFER_BYTES_MAX: usize = 128 * 1024;

/// A request was not answered.
#[derive(Debug, Error)]
pub(super) enum PoolError {
    /// There was no connection to be had.
    #[error("no connection")]
    Connect(#[source] GuestError),
    /// It broke.
    #[error("connection broke")]
    Broken(#[source] hyper::Error),
}

type Sender = http1::SendRequest<AgentBody>;

/// See the head of this file.
pub(super) struct Pool {
    guest: GuestAddress,
    port: u16,
    host: HeaderValue,
    tasks: TaskTracker,
    ended: CancellationToken,
    kept: Mutex<Kept>,
    /// Requests whose answers have not begun.
    waiting: AtomicUsize,
}

/// One of [`Pool::waiting`].
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Kept {
    closed: bool,
    /// At most [`KEPT_MAX`], with when each was used last.
    senders: Vec<(Sender, Instant)>,
}

impl Pool {
    pub(super) fn new(guest: GuestAddress, port: u16, tasks: TaskTracker, ended: CancellationToken) -> Self {
        let host = HeaderValue::from_str(&format!("localhost:{port}"));
        let host = host.unwrap_or_else(|_| HeaderValue::from_static("localhost"));
        Self { guest, port, host, tasks, ended, kept: Mutex::default(), waiting: AtomicUsize::new(0) }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Sends a request over a kept connection or a new one.
    pub(super) async fn request(
        &self,
        mut request: Request<AgentBody>,
    ) -> Result<Response<Incoming>, PoolError> {
        self.address(&mut request);
        let _waiting = Waiting::enter(&self.waiting);
        if let Some(mut sender) = self.take() {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.keep(sender);
                    return Ok(response);
                }
                // Given back: nothing of it was sent.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(PoolError::Broken(error.into_error())),
                },
            }
        }
        let mut sender = self.open().await?;
        let response = sender.send_request(request).await.map_err(PoolError::Broken)?;
        self.keep(sender);
        Ok(response)
    }

    /// As [`Pool::request`], over a connection that nobody else uses before or after: an agent that serves one connection
    /// at a time must not wait for the one that asked for its health.
    pub(super) async fn request_alone(
        &self,
        mut request: Request<AgentBody>,
    ) -> Result<Response<Incoming>, PoolError> {
        self.address(&mut request);
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        self.open().await?.send_request(request).await.map_err(PoolError::Broken)
    }

    /// Whether the agent has been given requests that it has not answered to the end.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
            || self.lock().senders.iter().any(|(sender, _)| !sender.is_ready() && !sender.is_closed())
    }

    /// Lets go of connections that were not used for long.
    pub(super) fn tidy(&self) {
        self.lock().senders.retain(is_of_use);
    }

    /// Keeps no connection any more. Those with requests go on with them.
    pub(super) fn close(&self) {
        let mut kept = self.lock();
        kept.closed = true;
        kept.senders.clear();
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.lock().senders.len()
    }

    async fn open(&self) -> Result<Sender, PoolError> {
        let stream = self.guest.connect(self.port).await.map_err(PoolError::Connect)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(PoolError::Broken)?;
        let ended = self.ended.clone();
        self.tasks.spawn(async move {
            let cut = async {
                ended.cancelled().await;
                tokio::time::sleep(FAREWELL).await;
            };
            tokio::select! {
                result = connection => if let Err(error) = result {
                    tracing::debug!(%error, "connection to an agent ended badly");
                },
                () = cut => {}
            }
        });
        Ok(sender)
    }

    /// Requests to an agent name it by its loopback address and carry the path alone.
    fn address(&self, request: &mut Request<AgentBody>) {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().insert(header::HOST, self.host.clone());
    }

    fn take(&self) -> Option<Sender> {
        let mut kept = self.lock();
        let free = kept.senders.iter().rposition(|kept| is_of_use(kept) && kept.0.is_ready())?;
        Some(kept.senders.swap_remove(free).0)
    }

    fn keep(&self, sender: Sender) {
        let mut kept = self.lock();
        if kept.senders.len() >= KEPT_MAX {
            kept.senders.retain(is_of_use);
        }
        if !kept.closed && kept.senders.len() < KEPT_MAX {
            kept.senders.push((sender, Instant::now()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of_use((sender, used): &(Sender, Instant)) -> bool {
    // One that is still busy has its answer read by somebody.
    !sender.is_closed() && (used.elapsed() < KEPT_FOR || !sender.is_ready())
}
