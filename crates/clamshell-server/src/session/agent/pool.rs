//! Connections to one agent, HTTP/1.1, kept open between requests.
//!
//! None has a task of its own: whoever waits for an answer drives its connection, and then whoever reads it, so that a
//! request costs no step from one task to another. A connection goes back once its answer was read to the end. That the
//! agent closed one that is kept is noticed when it is to be taken, or every few seconds by [`Pool::tidy`].

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, Version, header, uri::PathAndQuery};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{task::unconstrained, time::Instant};
use tokio_util::sync::CancellationToken;

use super::AgentBody;
use crate::guest::{AgentStream, GuestAddress, GuestError};

/// Connections kept for one session: each takes a descriptor and some tens of KiB, and a session with more requests at once
/// is rare enough to pay for a new one.
const KEPT_MAX: usize = 64;

/// A connection is kept so long without a request.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// After the compute's end an answer has this long to begin: the agent may finish what it has begun.
const FAREWELL: Duration = Duration::from_secs(15);

/// Bytes of an answer read at once, and of its headers at most.
const BUFFER_BYTES_MAX: usize = 128 * 1024;

/// So much of an answer that nobody wanted is thrown away to keep its connection, if it is here already: answers that are
/// errors are shorter.
const UNWANTED_BYTES_MAX: usize = 64 * 1024;

/// A request was not answered.
#[derive(Debug, Error)]
pub(super) enum PoolError {
    /// There was no connection to be had.
    #[error("no connection")]
    Connect(#[source] GuestError),
    /// It broke.
    #[error("connection broke")]
    Broken(#[source] hyper::Error),
    /// The compute has ended.
    #[error("session was stopped")]
    Ended,
}

/// Connections of one agent; see the head of this file.
pub(super) struct Pool {
    guest: GuestAddress,
    port: u16,
    host: HeaderValue,
    ended: CancellationToken,
    kept: Mutex<Kept>,
    /// Requests that have not been answered to the end.
    busy: AtomicUsize,
}

#[derive(Default)]
struct Kept {
    closed: bool,
    /// At most [`KEPT_MAX`].
    lines: Vec<Line>,
}

/// One of [`Pool::busy`].
struct Busy(Arc<Pool>);

impl Busy {
    fn enter(pool: &Arc<Pool>) -> Self {
        pool.busy.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(pool))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection and the end that gives it requests.
struct Line {
    sender: http1::SendRequest<AgentBody>,
    /// `None` once it is closed.
    connection: Option<Box<http1::Connection<TokioIo<AgentStream>, AgentBody>>>,
    /// When it was used last.
    used: Instant,
}

impl Line {
    /// Lets the connection do what it can.
    fn drive(&mut self, cx: &mut Context<'_>) {
        let Some(connection) = &mut self.connection else { return };
        if let Poll::Ready(result) = Pin::new(&mut **connection).poll(cx) {
            if let Err(error) = result {
                tracing::debug!(%error, "connection to an agent ended badly");
            }
            // Whoever waits for something from it is told by this.
            self.connection = None;
        }
    }

    /// Whether it can be given a request, as far as is known. It wakes nobody from here on.
    fn is_free(&mut self) -> bool {
        let looked = poll_fn(|cx| {
            self.drive(cx);
            Poll::Ready(())
        });
        // A task that has used up its share for now must not make a closed one look good.
        let _ = pin!(unconstrained(looked)).poll(&mut Context::from_waker(Waker::noop()));
        self.connection.is_some() && self.sender.is_ready()
    }

    /// Gives it a request and waits for the head of the answer. The request comes back when nothing of it was sent.
    async fn ask(
        &mut self,
        request: Request<AgentBody>,
        ended: &CancellationToken,
    ) -> Result<Response<Incoming>, (PoolError, Option<Request<AgentBody>>)> {
        // What the answer waits for is done by the connection alone, right before: so it needs to wake nobody, and it is not
        // held back when the connection has used up the task's share.
        let mut answer = pin!(unconstrained(self.sender.try_send_request(request)));
        let mut cut = pin!(async {
            ended.cancelled().await;
            tokio::time::sleep(FAREWELL).await;
        });
        let answered = poll_fn(|cx| {
            self.drive(cx);
            if let Poll::Ready(answered) = answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return Poll::Ready(Some(answered));
            }
            // Nothing comes any more from one that is closed.
            if self.connection.is_none() { Poll::Ready(None) } else { cut.as_mut().poll(cx).map(|()| None) }
        });
        match answered.await {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut error)) => {
                let unsent = error.take_message();
                Err((PoolError::Broken(error.into_error()), unsent))
            }
            None => Err((PoolError::Ended, None)),
        }
    }
}

/// The body of an agent's answer. Dropping it before its end closes the connection, unless the rest is here already.
pub(crate) struct AgentAnswer {
    incoming: Incoming,
    /// What it comes through; `None` after its end.
    line: Option<Line>,
    /// Where the connection goes afterwards, if it may be used again.
    busy: Option<Busy>,
}

impl std::fmt::Debug for AgentAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentAnswer").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}

impl AgentAnswer {
    fn of(response: Response<Incoming>, line: Line, busy: Option<Busy>) -> Response<Self> {
        response.map(|incoming| Self { incoming, line: Some(line), busy })
    }

    /// The next piece. All of it comes from the connection, so nobody but that needs to wake this task.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut nobody = Context::from_waker(Waker::noop());
        let piece = Pin::new(&mut self.incoming).poll_frame(&mut nobody);
        if piece.is_ready() {
            return piece;
        }
        let Some(line) = &mut self.line else { return Poll::Ready(None) };
        line.drive(cx);
        let closed = line.connection.is_none();
        match Pin::new(&mut self.incoming).poll_frame(&mut nobody) {
            Poll::Pending if closed => Poll::Ready(None),
            piece => piece,
        }
    }

    /// Gives the connection back after the answer's end, or closes it.
    fn settle(&mut self) {
        let mut left = UNWANTED_BYTES_MAX;
        let is_over = self.busy.is_some()
            && loop {
                if self.incoming.is_end_stream() {
                    break true;
                }
                match self.poll_piece(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(None) => break true,
                    Poll::Ready(Some(Ok(piece))) => {
                        let length = piece.data_ref().map_or(0, Bytes::len);
                        let Some(rest) = left.checked_sub(length) else { break false };
                        left = rest;
                    }
                    Poll::Ready(Some(Err(_))) | Poll::Pending => break false,
                }
            };
        let line = self.line.take();
        if let (true, Some(busy), Some(line)) = (is_over, &self.busy, line) {
            busy.0.keep(line);
        }
        self.busy = None;
    }
}

impl Body for AgentAnswer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let piece = ready!(self.poll_piece(cx));
        if piece.is_none() && self.line.is_some() {
            self.settle();
        }
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for AgentAnswer {
    fn drop(&mut self) {
        if self.line.is_some() {
            self.settle();
        }
    }
}

impl Pool {
    pub(super) fn new(guest: GuestAddress, port: u16, ended: CancellationToken) -> Arc<Self> {
        let host = HeaderValue::from_str(&format!("localhost:{port}"));
        let host = host.unwrap_or_else(|_| HeaderValue::from_static("localhost"));
        Arc::new(Self { guest, port, host, ended, kept: Mutex::default(), busy: AtomicUsize::new(0) })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Sends a request over a kept connection or a new one.
    pub(super) async fn request(
        self: &Arc<Self>,
        mut request: Request<AgentBody>,
    ) -> Result<Response<AgentAnswer>, PoolError> {
        self.address(&mut request);
        let busy = Busy::enter(self);
        if let Some(mut line) = self.take() {
            match line.ask(request, &self.ended).await {
                Ok(response) => return Ok(AgentAnswer::of(response, line, Some(busy))),
                // Given back: nothing of it was sent.
                Err((_, Some(unsent))) => request = unsent,
                Err((error, None)) => return Err(error),
            }
        }
        let mut line = self.open().await?;
        match line.ask(request, &self.ended).await {
            Ok(response) => Ok(AgentAnswer::of(response, line, Some(busy))),
            Err((error, _)) => Err(error),
        }
    }

    /// As [`Pool::request`], over a connection that nobody else uses before or after: an agent that serves one connection
    /// at a time must not wait for the one that asked for its health. It does not make the agent busy.
    pub(super) async fn request_alone(
        &self,
        mut request: Request<AgentBody>,
    ) -> Result<Response<AgentAnswer>, PoolError> {
        self.address(&mut request);
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        let mut line = self.open().await?;
        match line.ask(request, &self.ended).await {
            Ok(response) => Ok(AgentAnswer::of(response, line, None)),
            Err((error, _)) => Err(error),
        }
    }

    /// Whether the agent has been given requests that it has not answered to the end.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// Lets go of connections that were not used for long, or that the agent has closed.
    pub(super) fn tidy(&self) {
        self.lock().lines.retain_mut(|line| line.used.elapsed() < KEPT_FOR && line.is_free());
    }

    /// Keeps no connection any more. Those with requests go on with them.
    pub(super) fn close(&self) {
        let mut kept = self.lock();
        kept.closed = true;
        kept.lines.clear();
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.lock().lines.len()
    }

    async fn open(&self) -> Result<Line, PoolError> {
        let stream = self.guest.connect(self.port).await.map_err(PoolError::Connect)?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(PoolError::Broken)?;
        Ok(Line { sender, connection: Some(Box::new(connection)), used: Instant::now() })
    }

    /// Requests to an agent name it by its loopback address and carry the path alone.
    fn address(&self, request: &mut Request<AgentBody>) {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        *request.version_mut() = Version::HTTP_11;
        request.headers_mut().insert(header::HOST, self.host.clone());
    }

    fn take(&self) -> Option<Line> {
        loop {
            // The one used last: the others may grow too old.
            let mut line = self.lock().lines.pop()?;
            if line.used.elapsed() < KEPT_FOR && line.is_free() {
                return Some(line);
            }
        }
    }

    fn keep(&self, mut line: Line) {
        if !line.is_free() {
            return;
        }
        line.used = Instant::now();
        let mut kept = self.lock();
        if !kept.closed && kept.lines.len() < KEPT_MAX {
            kept.lines.push(line);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
