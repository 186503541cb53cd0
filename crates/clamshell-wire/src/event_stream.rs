//! The event stream of InvokeAgentRuntimeCommand: one event type, `chunk`, whose JSON says which of three it is.
//!
//! [`CommandEvents`] writes for the server, [`CommandEventReader`] reads for the client. Output is text on this wire,
//! so the writer keeps UTF-8 sequences whole across pieces and replaces what is not UTF-8.

mod reader;

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use aws_smithy_types::str_bytes::StrBytes;
use bytes::{Bytes, BytesMut};

use crate::error::ErrorCode;
use crate::headers;

pub use reader::{CommandEvent, CommandEventReader, EventStreamError};

/// Longest payload of a message: the event limit of the service.
pub const PAYLOAD_BYTES_MAX: usize = 65_536;
/// Longest message text of an exception.
const EXCEPTION_TEXT_BYTES_MAX: usize = 4096;

/// Which output of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommandStatus {
    /// By itself; the exit code is its own.
    Completed,
    /// Killed at its timeout.
    TimedOut,
}

impl CommandStatus {
    /// The value on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "COMPLETED",
            Self::TimedOut => "TIMED_OUT",
        }
    }
}

/// Writes the events of one command. Each call gives whole messages, ready to send; none may be dropped.
#[derive(Debug, Default)]
pub struct CommandEvents {
    stdout: Carry,
    stderr: Carry,
    output_bytes: u64,
}

impl CommandEvents {
    /// Nothing carried over yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first event.
    pub fn content_start(&mut self) -> Bytes {
        one_event(br#"{"contentStart":{}}"#.to_vec())
    }

    /// Output of the command as zero or more events, each within [`PAYLOAD_BYTES_MAX`]. An unfinished UTF-8 sequence
    /// at the end waits for the next piece. The result is at most about seven times the input, when all of it has to
    /// be escaped, so callers hand over bounded pieces.
    pub fn deltas(&mut self, stream: OutputStream, bytes: &[u8]) -> Bytes {
        let text = self.carry(stream).push(bytes);
        let mut out = BytesMut::with_capacity(text.len() + 128);
        self.write_deltas(stream, &text, &mut out);
        out.freeze()
    }

    /// The last event, after whatever is still carried over.
    pub fn content_stop(&mut self, exit_code: i32, status: CommandStatus) -> Bytes {
        let mut out = self.flush();
        let status = status.as_str();
        let payload = format!(r#"{{"contentStop":{{"exitCode":{exit_code},"status":"{status}"}}}}"#);
        write_message(CHUNK, payload.into_bytes(), &mut out);
        out.freeze()
    }

    /// An error instead of the last event, after whatever is still carried over.
    pub fn exception(&mut self, code: ErrorCode, message: &str) -> Bytes {
        let mut out = self.flush();
        let end = message.floor_char_boundary(EXCEPTION_TEXT_BYTES_MAX);
        let text = message.get(..end).unwrap_or_default();
        let payload = serde_json::json!({ "message": text }).to_string();
        let kind =
            Kind { name: ":exception-type", value: code.event_stream_name(), message_type: "exception" };
        write_message(kind, payload.into_bytes(), &mut out);
        out.freeze()
    }

    /// Bytes of text written so far, before escaping: what the cap on a response counts.
    pub fn output_bytes(&self) -> u64 {
        self.output_bytes
    }

    fn carry(&mut self, stream: OutputStream) -> &mut Carry {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }

    fn flush(&mut self) -> BytesMut {
        let mut out = BytesMut::new();
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            let text = self.carry(stream).finish();
            self.write_deltas(stream, text, &mut out);
        }
        out
    }

    fn write_deltas(&mut self, stream: OutputStream, text: &str, out: &mut BytesMut) {
        self.output_bytes += text.len() as u64;
        let head: &[u8] = match stream {
            OutputStream::Stdout => br#"{"contentDelta":{"stdout":""#,
            OutputStream::Stderr => br#"{"contentDelta":{"stderr":""#,
        };
        const TAIL: &[u8] = br#""}}"#;
        let room = PAYLOAD_BYTES_MAX - TAIL.len();
        let mut payload = Vec::new();
        let mut piece = [0; 6];
        for character in text.chars() {
            let escaped = escape(character, &mut piece);
            if payload.len() + escaped.len() > room {
                payload.extend_from_slice(TAIL);
                write_message(CHUNK, std::mem::take(&mut payload), out);
            }
            if payload.is_empty() {
                payload.reserve((text.len() + 64).min(PAYLOAD_BYTES_MAX));
                payload.extend_from_slice(head);
            }
            payload.extend_from_slice(escaped);
        }
        if !payload.is_empty() {
            payload.extend_from_slice(TAIL);
            write_message(CHUNK, payload, out);
        }
    }
}

/// An unfinished UTF-8 sequence: at most three bytes.
#[derive(Debug, Default)]
struct Carry {
    bytes: Vec<u8>,
}

impl Carry {
    /// The text that is certain by now.
    fn push(&mut self, bytes: &[u8]) -> String {
        let joined;
        let mut rest = if self.bytes.is_empty() {
            bytes
        } else {
            joined = [std::mem::take(&mut self.bytes).as_slice(), bytes].concat();
            joined.as_slice()
        };
        let mut out = String::with_capacity(rest.len());
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(text);
                    return out;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    out.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    let Some(bad) = error.error_len() else {
                        self.bytes = after.to_vec();
                        return out;
                    };
                    out.push(char::REPLACEMENT_CHARACTER);
                    rest = after.get(bad..).unwrap_or_default();
                }
            }
        }
    }

    /// What an end of output makes of the carried bytes.
    fn finish(&mut self) -> &'static str {
        if std::mem::take(&mut self.bytes).is_empty() { "" } else { "\u{fffd}" }
    }
}

/// A character as JSON writes it within a string.
fn escape(character: char, buffer: &mut [u8; 6]) -> &[u8] {
    match character {
        '"' => br#"\""#,
        '\\' => br"\\",
        '\n' => br"\n",
        '\r' => br"\r",
        '\t' => br"\t",
        '\u{0}'..='\u{1f}' => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let code = u32::from(character) as usize;
            *buffer = [b'\\', b'u', b'0', b'0', DIGITS[code >> 4 & 1], DIGITS[code & 15]];
            buffer
        }
        _ => character.encode_utf8(buffer).as_bytes(),
    }
}

/// The headers in which messages differ. Their order is that of the service.
struct Kind {
    name: &'static str,
    value: &'static str,
    message_type: &'static str,
}

const CHUNK: Kind = Kind { name: ":event-type", value: "chunk", message_type: "event" };

fn one_event(payload: Vec<u8>) -> Bytes {
    let mut out = BytesMut::new();
    write_message(CHUNK, payload, &mut out);
    out.freeze()
}

fn write_message(kind: Kind, payload: Vec<u8>, out: &mut BytesMut) {
    let header = |name: &'static str, value: &'static str| {
        Header::new(StrBytes::from(name), HeaderValue::String(StrBytes::from(value)))
    };
    let headers = vec![
        header(kind.name, kind.value),
        header(":content-type", headers::JSON),
        header(":message-type", kind.message_type),
    ];
    write_message_to(&Message::new_from_parts(headers, payload), out)
        .expect("three short headers and a bounded payload always fit");
}

#[cfg(test)]
mod tests;
