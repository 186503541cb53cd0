//! Frames of the terminal WebSocket: binary messages whose first byte is a channel.
//!
//! Both sides parse with the same code; which channels mean something depends on who speaks, so there
//! is one parser for messages from a client and one for messages from a server. A channel that the
//! other side may not use is [`ShellFrame::Unknown`], which the protocol says to ignore.
//!
//! No I/O and no copies: a parsed frame borrows from the message.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Largest message a server takes: the published clients cap the payload at 64 KiB, some with and
/// some without the channel byte.
pub const CLIENT_MESSAGE_BYTES_MAX: usize = 65_537;

/// Largest message a client takes, as the published clients do. Servers stay at
/// [`SERVER_MESSAGE_BYTES_MAX`]; the slack is for servers that are not ours.
pub const INCOMING_SERVER_MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Largest message a server sends, channel byte included.
pub const SERVER_MESSAGE_BYTES_MAX: usize = 65_536;

/// Most bytes of input a client puts in one frame: half the limit, so that no reading of the limit
/// refuses it.
pub const STDIN_BYTES_MAX: usize = 32 * 1024;

/// A RESIZE payload is some thirty bytes; anything far above is not one.
const RESIZE_BYTES_MAX: usize = 256;

mod channel {
    pub(super) const STDIN: u8 = 0x00;
    pub(super) const STDOUT: u8 = 0x01;
    pub(super) const STDERR: u8 = 0x02;
    pub(super) const STATUS: u8 = 0x03;
    pub(super) const RESIZE: u8 = 0x04;
    pub(super) const HEARTBEAT: u8 = 0x05;
    pub(super) const CONSUMED: u8 = 0x06;
    pub(super) const CLOSE: u8 = 0xff;
}

/// One message of the terminal WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShellFrame<'a> {
    /// To the server: bytes for the terminal.
    Stdin(&'a [u8]),
    /// To the client: bytes the terminal shows.
    Stdout(&'a [u8]),
    /// To the client: diagnostics of the platform, UTF-8; not the shell's standard error.
    Stderr(&'a [u8]),
    /// To the client: JSON, see [`crate::status`].
    Status(&'a [u8]),
    /// To the server: size of the client's terminal.
    Resize {
        /// Columns, at least 1.
        width: u16,
        /// Rows, at least 1.
        height: u16,
    },
    /// Both ways; a server answers each with one.
    Heartbeat,
    /// To the server: how many bytes of STDOUT this connection's client has dealt with since it was opened. Clamshell
    /// only, and only on connections with a window.
    Consumed(u64),
    /// From a client: end the shell gracefully. From a server: the platform is shutting down.
    Close,
    /// A channel that means nothing from this side, or an empty message (`None`): ignore it.
    Unknown {
        /// First byte of the message.
        channel: Option<u8>,
    },
}

/// A message that cannot be taken.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ShellFrameError {
    /// Above the limit: a server closes with 1009, and the shell lives on.
    #[error("message of {length} bytes is above the limit of {limit}")]
    TooLong {
        /// Length in bytes.
        length: usize,
        /// The limit it broke.
        limit: usize,
    },
    /// The RESIZE payload is not `{"width":cols,"height":rows}` with integers from 1 to 65535.
    /// The connection stays usable.
    #[error("RESIZE needs an object with positive integers width and height")]
    BadResize,
}

#[derive(Serialize, Deserialize)]
struct ResizePayload {
    width: u16,
    height: u16,
}

impl<'a> ShellFrame<'a> {
    /// Reads a message that a client sent.
    ///
    /// # Errors
    /// [`ShellFrameError`].
    pub fn from_client(message: &'a [u8]) -> Result<Self, ShellFrameError> {
        check_length(message, CLIENT_MESSAGE_BYTES_MAX)?;
        let Some((&channel, payload)) = message.split_first() else {
            return Ok(Self::Unknown { channel: None });
        };
        Ok(match channel {
            channel::STDIN => Self::Stdin(payload),
            channel::RESIZE => parse_resize(payload)?,
            channel::HEARTBEAT => Self::Heartbeat,
            channel::CONSUMED => match payload.try_into() {
                Ok(count) => Self::Consumed(u64::from_be_bytes(count)),
                Err(_) => Self::Unknown { channel: Some(channel::CONSUMED) },
            },
            channel::CLOSE => Self::Close,
            _ => Self::Unknown { channel: Some(channel) },
        })
    }

    /// Reads a message that a server sent.
    ///
    /// # Errors
    /// [`ShellFrameError::TooLong`].
    pub fn from_server(message: &'a [u8]) -> Result<Self, ShellFrameError> {
        check_length(message, INCOMING_SERVER_MESSAGE_BYTES_MAX)?;
        let Some((&channel, payload)) = message.split_first() else {
            return Ok(Self::Unknown { channel: None });
        };
        Ok(match channel {
            channel::STDOUT => Self::Stdout(payload),
            channel::STDERR => Self::Stderr(payload),
            channel::STATUS => Self::Status(payload),
            channel::HEARTBEAT => Self::Heartbeat,
            channel::CLOSE => Self::Close,
            _ => Self::Unknown { channel: Some(channel) },
        })
    }

    /// The message to send. `Unknown` gives its bare channel byte, or nothing.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Stdin(bytes) => message(channel::STDIN, bytes),
            Self::Stdout(bytes) => message(channel::STDOUT, bytes),
            Self::Stderr(bytes) => message(channel::STDERR, bytes),
            Self::Status(json) => message(channel::STATUS, json),
            Self::Resize { width, height } => {
                let payload = ResizePayload { width: *width, height: *height };
                let payload = serde_json::to_vec(&payload).expect("two integers always serialize");
                message(channel::RESIZE, &payload)
            }
            Self::Heartbeat => vec![channel::HEARTBEAT],
            Self::Consumed(count) => message(channel::CONSUMED, &count.to_be_bytes()),
            Self::Close => vec![channel::CLOSE],
            Self::Unknown { channel } => channel.iter().copied().collect(),
        }
    }
}

/// Cuts input into STDIN messages of at most [`STDIN_BYTES_MAX`] bytes each.
pub fn stdin_messages(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    bytes.chunks(STDIN_BYTES_MAX).map(|piece| ShellFrame::Stdin(piece).encode())
}

/// Cuts output into STDOUT messages of at most [`SERVER_MESSAGE_BYTES_MAX`] bytes each.
pub fn stdout_messages(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    bytes.chunks(SERVER_MESSAGE_BYTES_MAX - 1).map(|piece| ShellFrame::Stdout(piece).encode())
}

fn message(channel: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + payload.len());
    out.push(channel);
    out.extend_from_slice(payload);
    out
}

fn check_length(message: &[u8], limit: usize) -> Result<(), ShellFrameError> {
    if message.len() > limit {
        return Err(ShellFrameError::TooLong { length: message.len(), limit });
    }
    Ok(())
}

fn parse_resize<'a>(payload: &[u8]) -> Result<ShellFrame<'a>, ShellFrameError> {
    // serde would also read the array [80,24] as this struct.
    let is_object = payload.trim_ascii_start().first() == Some(&b'{');
    if payload.len() > RESIZE_BYTES_MAX || !is_object {
        return Err(ShellFrameError::BadResize);
    }
    match serde_json::from_slice(payload) {
        Ok(ResizePayload { width: width @ 1.., height: height @ 1.. }) => {
            Ok(ShellFrame::Resize { width, height })
        }
        _ => Err(ShellFrameError::BadResize),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_client_may_type_resize_beat_and_close() {
        let check = |message: &[u8], frame: ShellFrame<'_>| {
            assert_eq!(ShellFrame::from_client(message), Ok(frame));
        };
        check(b"\x00ls\n", ShellFrame::Stdin(b"ls\n"));
        check(b"\x00", ShellFrame::Stdin(b""));
        check(b"\x04{\"width\": 120, \"height\": 40}", ShellFrame::Resize { width: 120, height: 40 });
        check(b"\x04 {\"height\":1,\"width\":65535,\"x\":0}", ShellFrame::Resize { width: 65535, height: 1 });
        check(b"\x05", ShellFrame::Heartbeat);
        check(b"\xff", ShellFrame::Close);
        check(b"", ShellFrame::Unknown { channel: None });
        check(b"\x06\0\0\0\0\0\x01\0\x02", ShellFrame::Consumed(65_538));
        check(b"\x06\0\0\0\0\0\x01\0", ShellFrame::Unknown { channel: Some(6) });
        for channel in [0x01, 0x02, 0x03, 0x06, 0xfe] {
            check(&[channel, b'x'], ShellFrame::Unknown { channel: Some(channel) });
        }
    }

    #[test]
    fn a_server_may_show_tell_beat_and_close() {
        let check = |message: &[u8], frame: ShellFrame<'_>| {
            assert_eq!(ShellFrame::from_server(message), Ok(frame));
            if !matches!(frame, ShellFrame::Unknown { .. }) {
                assert_eq!(frame.encode(), message);
            }
        };
        check(b"\x01out", ShellFrame::Stdout(b"out"));
        check(b"\x02err", ShellFrame::Stderr(b"err"));
        check(b"\x03{}", ShellFrame::Status(b"{}"));
        check(b"\x05", ShellFrame::Heartbeat);
        check(b"\xff", ShellFrame::Close);
        check(b"\x00x", ShellFrame::Unknown { channel: Some(0) });
        check(b"\x04x", ShellFrame::Unknown { channel: Some(4) });
        check(b"", ShellFrame::Unknown { channel: None });
    }

    #[test]
    fn only_positive_integers_resize() {
        for payload in [
            "",
            "{}",
            "null",
            "[80,24]",
            r#"{"width":80}"#,
            r#"{"width":0,"height":24}"#,
            r#"{"width":80,"height":0}"#,
            r#"{"width":-1,"height":24}"#,
            r#"{"width":80.5,"height":24}"#,
            r#"{"width":80.0,"height":24}"#,
            r#"{"width":"80","height":24}"#,
            r#"{"width":65536,"height":24}"#,
            r#"{"width":80,"width":81,"height":24}"#,
            r#"{"width":80,"height":24}x"#,
            r#"{"width":80,"height":24"#,
        ] {
            let message = [b"\x04", payload.as_bytes()].concat();
            assert_eq!(ShellFrame::from_client(&message), Err(ShellFrameError::BadResize), "{payload}");
        }
        let padded = [b"\x04{\"width\":80,\"height\":24}", vec![b' '; RESIZE_BYTES_MAX].as_slice()].concat();
        assert_eq!(ShellFrame::from_client(&padded), Err(ShellFrameError::BadResize));
    }

    #[test]
    fn the_limit_is_64_kib_of_payload() {
        let mut message = vec![0; CLIENT_MESSAGE_BYTES_MAX];
        assert_eq!(ShellFrame::from_client(&message), Ok(ShellFrame::Stdin(&message[1..])));
        message.push(0);
        let error = ShellFrameError::TooLong { length: 65_538, limit: 65_537 };
        assert_eq!(ShellFrame::from_client(&message), Err(error));
    }

    #[test]
    fn long_data_is_cut() {
        let data: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let lengths = |messages: Vec<Vec<u8>>, limit: usize| {
            let mut joined = Vec::new();
            for message in messages {
                assert!(message.len() <= limit);
                joined.extend_from_slice(&message[1..]);
            }
            assert_eq!(joined, data);
        };
        lengths(stdin_messages(&data).collect(), STDIN_BYTES_MAX + 1);
        lengths(stdout_messages(&data).collect(), SERVER_MESSAGE_BYTES_MAX);
        assert_eq!(stdin_messages(b"").count(), 0);
    }

    proptest! {
        #[test]
        fn counts_survive(count in any::<u64>()) {
            let message = ShellFrame::Consumed(count).encode();
            prop_assert_eq!(ShellFrame::from_client(&message), Ok(ShellFrame::Consumed(count)));
        }

        #[test]
        fn resizes_survive(width in 1u16.., height in 1u16..) {
            let frame = ShellFrame::Resize { width, height };
            let message = frame.encode();
            prop_assert_eq!(ShellFrame::from_client(&message), Ok(frame));
        }

        #[test]
        fn input_survives(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let frame = ShellFrame::Stdin(&bytes);
            let message = frame.encode();
            prop_assert_eq!(ShellFrame::from_client(&message), Ok(frame));
        }

        #[test]
        fn any_message_is_refused_or_taken(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = ShellFrame::from_client(&bytes);
            let _ = ShellFrame::from_server(&bytes);
        }
    }
}
