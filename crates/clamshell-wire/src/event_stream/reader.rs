//! Reading the event stream, for the client. The server is not trusted: every message is bounded.

use aws_smithy_eventstream::frame::read_message_from;
use aws_smithy_types::event_stream::{HeaderValue, Message};
use bytes::{Buf, BytesMut};
use serde::Deserialize;
use thiserror::Error;

use super::CommandStatus;

/// Longest message taken: sixteen times what the service sends, so that a larger limit there does not break us.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Prelude and both checksums.
const MESSAGE_BYTES_MIN: usize = 16;

/// One thing that happened to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandEvent {
    /// The command runs.
    Start,
    /// Standard output.
    Stdout(String),
    /// Standard error.
    Stderr(String),
    /// The command ended.
    Stop {
        /// Its exit code; -1 when the platform ended it.
        exit_code: i32,
        /// How it ended.
        status: CommandStatus,
    },
    /// The service failed.
    Exception {
        /// Member name, for instance `runtimeClientError`, or the code of an unmodelled error.
        name: String,
        /// Text for people.
        message: String,
    },
}

/// Why a stream cannot be read further.
#[derive(Debug, Error)]
pub enum EventStreamError {
    /// A message states a length out of bounds.
    #[error("the event stream has a message of {bytes} bytes")]
    Length {
        /// The stated length.
        bytes: usize,
    },
    /// A checksum or a header is wrong.
    #[error("the event stream is corrupt")]
    Frame(#[source] aws_smithy_eventstream::error::Error),
    /// The JSON of an event is wrong.
    #[error("the event stream has an event that cannot be read")]
    Event(#[source] serde_json::Error),
    /// An exit status that this client does not know.
    #[error("the event stream has an unknown exit status")]
    Status,
    /// The stream ended within a message or before its last event.
    #[error("the event stream ended early")]
    Truncated,
    /// An earlier call failed.
    #[error("the event stream failed before")]
    Failed,
}

/// Decodes a response as it arrives.
#[derive(Debug, Default)]
pub struct CommandEventReader {
    buffer: BytesMut,
    ended: bool,
    failed: bool,
}

impl CommandEventReader {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes in any cut and gives the events that are complete. Holds back less than one message.
    ///
    /// # Errors
    /// [`EventStreamError`]; every later call fails too.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<CommandEvent>, EventStreamError> {
        if self.failed {
            return Err(EventStreamError::Failed);
        }
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        let result = self.drain(&mut events);
        self.failed = result.is_err();
        result.map(|()| events)
    }

    /// Whether the last event or an exception has been read.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// To be called at the end of the response.
    ///
    /// # Errors
    /// [`EventStreamError::Truncated`] when the stream was cut off.
    pub fn finish(self) -> Result<(), EventStreamError> {
        if self.ended && self.buffer.is_empty() { Ok(()) } else { Err(EventStreamError::Truncated) }
    }

    fn drain(&mut self, events: &mut Vec<CommandEvent>) -> Result<(), EventStreamError> {
        while let Some(prefix) = self.buffer.first_chunk::<4>() {
            let bytes = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
            // The codec trusts the length, so it is checked before anything is gathered for it.
            if !(MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX).contains(&bytes) {
                return Err(EventStreamError::Length { bytes });
            }
            if self.buffer.len() < bytes {
                return Ok(());
            }
            let mut frame = self.buffer.split_to(bytes).freeze();
            let message = read_message_from(&mut frame).map_err(EventStreamError::Frame)?;
            if frame.has_remaining() {
                return Err(EventStreamError::Length { bytes });
            }
            read_message(&message, events)?;
            self.ended |=
                matches!(events.last(), Some(CommandEvent::Stop { .. } | CommandEvent::Exception { .. }));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk {
    content_start: Option<serde::de::IgnoredAny>,
    content_delta: Option<Delta>,
    content_stop: Option<Stop>,
}

#[derive(Deserialize)]
struct Delta {
    stdout: Option<String>,
    stderr: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stop {
    exit_code: i32,
    status: String,
}

#[derive(Deserialize)]
struct Failure {
    message: Option<String>,
}

/// Kinds and members that are not known are skipped: they are newer than this client.
fn read_message(message: &Message, events: &mut Vec<CommandEvent>) -> Result<(), EventStreamError> {
    match header(message, ":message-type") {
        Some("event") if header(message, ":event-type") == Some("chunk") => {
            let chunk: Chunk = serde_json::from_slice(message.payload()).map_err(EventStreamError::Event)?;
            events.extend(chunk.content_start.map(|_| CommandEvent::Start));
            if let Some(delta) = chunk.content_delta {
                events.extend(delta.stdout.map(CommandEvent::Stdout));
                events.extend(delta.stderr.map(CommandEvent::Stderr));
            }
            if let Some(stop) = chunk.content_stop {
                let known = [CommandStatus::Completed, CommandStatus::TimedOut];
                let status = known.into_iter().find(|status| status.as_str() == stop.status);
                let status = status.ok_or(EventStreamError::Status)?;
                events.push(CommandEvent::Stop { exit_code: stop.exit_code, status });
            }
        }
        Some("exception") => {
            let failure: Option<Failure> = serde_json::from_slice(message.payload()).ok();
            events.push(CommandEvent::Exception {
                name: header(message, ":exception-type").unwrap_or("unknown").to_owned(),
                message: failure.and_then(|failure| failure.message).unwrap_or_default(),
            });
        }
        Some("error") => events.push(CommandEvent::Exception {
            name: header(message, ":error-code").unwrap_or("unknown").to_owned(),
            message: header(message, ":error-message").unwrap_or_default().to_owned(),
        }),
        _ => {}
    }
    Ok(())
}

fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    let found = message.headers().iter().find(|header| header.name().as_str() == name)?;
    match found.value() {
        HeaderValue::String(text) => Some(text.as_str()),
        _ => None,
    }
}
