//! The body of an agent's answer on its way to the client: each piece as it comes, nothing held back, within limits.
//!
//! The call that it belongs to lives as long as this body, and at most until its time is over, so that a client that takes
//! nothing does not keep a session awake for ever. Dropping the body before its end closes the agent's connection.
//!
//! An answer that ends with its connection ends in the same way when its agent dies in the middle. So an agent must still
//! be there after the last byte of one, or its answer is cut off.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use crate::{
    app::App,
    http::{envelope::run_error, response},
    session::{AgentAnswer, AgentHandle, Call},
};

/// All bytes of an answer (`runtime.md` section 10).
pub(in crate::http) const ANSWER_BYTES_MAX: u64 = 100_000_000;

/// Bytes of one event of a stream (`runtime.md` section 10).
const EVENT_BYTES_MAX: u64 = 10_000_000;

/// A whole answer that is no longer is passed on without watching over it: no more than one read from the agent gives.
const AT_ONCE_BYTES_MAX: u64 = 64 * 1024;

/// Why an answer ends before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(in crate::http) enum Cut {
    /// The agent broke off.
    #[error("agent broke off its answer")]
    Broken,
    /// The compute has ended.
    #[error("session was stopped")]
    Ended,
    /// Its time is over.
    #[error("answer took too long")]
    TooSlow,
    /// Too many bytes.
    #[error("answer is above 100 MB")]
    TooLong,
    /// Too many bytes in one event.
    #[error("event is above 10 MB")]
    EventTooLong,
}

impl Cut {
    fn message(self) -> &'static str {
        match self {
            Self::Broken => "The agent broke off its answer",
            Self::Ended => "The session was stopped",
            Self::TooSlow => "The time of the request is over",
            Self::TooLong => "The answer of the agent is above 100 MB",
            Self::EventTooLong => "An event of the agent is above 10 MB",
        }
    }
}

/// See the head of this file.
pub(in crate::http) struct Answer {
    /// What has been read of it already.
    first: Option<Result<Frame<Bytes>, hyper::Error>>,
    incoming: AgentAnswer,
    sleep: Pin<Box<Sleep>>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    sent: u64,
    events: Option<EventMeter>,
    /// Resolves to whether an answer is whole that ended with its connection; `None` where its end says so itself.
    whole: Option<Pin<Box<dyn Future<Output = bool> + Send>>>,
    /// Nothing more comes; only [`Answer::whole`] is waited for.
    at_end: bool,
    /// A failure is told by an event of the protocol; else by cutting the connection.
    tells: bool,
    over: bool,
    /// Why it ends with the next piece.
    cut: Option<Cut>,
    _done: DropGuard,
}

/// What is to be done with an answer.
#[derive(Debug, Clone, Copy)]
pub(in crate::http) struct AnswerRules {
    /// It ends here.
    pub(in crate::http) deadline: Instant,
    /// It is a stream of events.
    pub(in crate::http) is_events: bool,
    /// Its client understands an event for a failure.
    pub(in crate::http) tells: bool,
}

impl Answer {
    /// The body of an answer. Takes over the call, which ends at once where all of a short answer is here already.
    /// `closing`: the agent, where the answer ends with its connection.
    pub(in crate::http) fn body(
        app: &App,
        call: Call,
        mut incoming: AgentAnswer,
        rules: AnswerRules,
        closing: Option<AgentHandle>,
    ) -> response::Body {
        let length = incoming.size_hint().exact();
        let short = length.is_some_and(|length| length <= AT_ONCE_BYTES_MAX) && !rules.is_events;
        // It mostly comes together with its headers, and then needs no task that ends the call in time.
        let first = if short { incoming.frame().now_or_never() } else { None };
        let first = match first {
            None => None,
            Some(None) => return Full::default().map_err(|never| match never {}).boxed_unsync(),
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if incoming.is_end_stream() => {
                    return Full::new(data).map_err(|never| match never {}).boxed_unsync();
                }
                Ok(data) => Some(Ok(Frame::data(data))),
                // Trailers stay behind.
                Err(_) => None,
            },
            Some(Some(Err(error))) => Some(Err(error)),
        };
        Self::new(app, call, first, incoming, rules, closing).boxed_unsync()
    }

    fn new(
        app: &App,
        call: Call,
        first: Option<Result<Frame<Bytes>, hyper::Error>>,
        incoming: AgentAnswer,
        rules: AnswerRules,
        closing: Option<AgentHandle>,
    ) -> Self {
        let ended = call.compute.ended.clone();
        let done = CancellationToken::new();
        let (watched, compute) = (done.clone(), ended.clone());
        app.tasks.spawn(async move {
            tokio::select! {
                () = watched.cancelled() => {}
                () = compute.cancelled() => {}
                () = tokio::time::sleep_until(rules.deadline) => {}
            }
            drop(call);
        });
        // With a length that was announced there is no room for an event of ours.
        let tells = rules.tells && incoming.size_hint().exact().is_none();
        Self {
            first,
            incoming,
            sleep: Box::pin(tokio::time::sleep_until(rules.deadline)),
            ended: Box::pin(ended.cancelled_owned()),
            sent: 0,
            events: rules.is_events.then(EventMeter::default),
            whole: closing.map(|agent| {
                let whole: Pin<Box<dyn Future<Output = bool> + Send>> =
                    Box::pin(async move { agent.is_there().await });
                whole
            }),
            at_end: false,
            tells,
            over: false,
            cut: None,
            _done: done.drop_guard(),
        }
    }

    fn cut(&mut self, cx: &mut Context<'_>, cut: Cut) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        tracing::debug!(reason = %cut, sent = self.sent, "answer of an agent was cut off");
        if self.tells {
            self.over = true;
            // Whatever came before ends here.
            let event = format!("\n\n{}", run_error("AGENT_ERROR", cut.message()));
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(event)))));
        }
        // The error drops what was not written yet; so that is written first.
        self.cut = Some(cut);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What cuts the client's connection.
type Broken = Box<dyn std::error::Error + Send + Sync>;

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        if let Some(cut) = this.cut.take() {
            this.over = true;
            return Poll::Ready(Some(Err(cut.into())));
        }
        if this.sleep.as_mut().poll(cx).is_ready() {
            return this.cut(cx, Cut::TooSlow);
        }
        loop {
            if this.at_end {
                let is_whole = match &mut this.whole {
                    Some(whole) => ready!(whole.as_mut().poll(cx)),
                    None => true,
                };
                if !is_whole {
                    return this.cut(cx, Cut::Broken);
                }
                this.over = true;
                return Poll::Ready(None);
            }
            let polled = match this.first.take() {
                Some(first) => Poll::Ready(Some(first)),
                None => Pin::new(&mut this.incoming).poll_frame(cx),
            };
            let frame = match polled {
                Poll::Ready(frame) => frame,
                // What had arrived before the compute ended is passed on first.
                Poll::Pending => {
                    ready!(this.ended.as_mut().poll(cx));
                    return this.cut(cx, Cut::Ended);
                }
            };
            let data = match frame {
                None => {
                    this.at_end = true;
                    continue;
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    // Trailers stay behind.
                    Err(_) => continue,
                },
                Some(Err(error)) => {
                    tracing::debug!(%error, "agent broke off its answer");
                    return this.cut(cx, Cut::Broken);
                }
            };
            this.sent += data.len() as u64;
            if this.sent > ANSWER_BYTES_MAX {
                return this.cut(cx, Cut::TooLong);
            }
            if this.events.as_mut().is_some_and(|events| !events.feed(&data)) {
                return this.cut(cx, Cut::EventTooLong);
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over || (self.first.is_none() && self.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.incoming.size_hint();
        let first = self.first.as_ref().and_then(|first| first.as_ref().ok()?.data_ref());
        match (self.tells, first, left.exact()) {
            (true, ..) => SizeHint::default(),
            (false, Some(first), Some(exact)) => SizeHint::with_exact(exact + first.len() as u64),
            (false, ..) => left,
        }
    }
}

/// Counts the bytes of each event.
#[derive(Debug, Default)]
struct EventMeter {
    bytes: u64,
    /// The line so far is empty.
    at_line_start: bool,
}

impl EventMeter {
    /// `false` when an event is too long.
    fn feed(&mut self, data: &[u8]) -> bool {
        // An event ends with an empty line; a carriage return before the line feed changes nothing.
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            self.bytes += line.len() as u64;
            if self.bytes > EVENT_BYTES_MAX {
                return false;
            }
            let ends = line.last() == Some(&b'\n');
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            let empty = text.is_empty() || text == b"\r";
            if ends && empty && self.at_line_start {
                self.bytes = 0;
            }
            self.at_line_start = ends || (self.at_line_start && empty);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_measured_each_on_its_own() {
        let long = vec![b'x'; 6_000_000];
        let mut meter = EventMeter::default();
        assert!(meter.feed(&long) && meter.feed(b"\n\n") && meter.feed(&long) && meter.feed(b"\r\n\r\n"));
        assert_eq!(meter.bytes, 0);
        assert!(meter.feed(&long) && meter.feed(b"\n") && meter.feed(b"\n") && meter.feed(&long));
        assert!(meter.feed(b"\nmore\n"));
        assert!(!meter.feed(&long), "a line that is not empty ends no event");
    }
}
