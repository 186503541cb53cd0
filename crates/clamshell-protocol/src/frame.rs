//! Framing: length, kind, payload.

use thiserror::Error;

use crate::message::{Exit, Reply, Request};

/// Bytes in front of each payload: `u32` little-endian payload length and the kind.
pub const FRAME_HEADER_BYTES: usize = 5;

/// Largest payload either side accepts. A command line of 64 KiB with its environment, JSON-escaped,
/// stays below it; data frames are sent in pieces of at most 64 KiB.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// One frame of either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// To the guest: the first frame of every connection.
    Request(Box<Request>),
    /// To the guest: bytes for the shell's terminal or the command's standard input.
    Input(Vec<u8>),
    /// To the guest: standard input of a command ends here.
    InputEnd,
    /// To the guest: new terminal size.
    Resize {
        /// Columns, at least 1.
        cols: u16,
        /// Rows, at least 1.
        rows: u16,
    },
    /// To the guest: end the shell or command behind this connection.
    Kill,
    /// From the guest: answer to the request.
    Reply(Box<Reply>),
    /// From the guest: terminal output that starts at `offset` of the shell's log.
    Output {
        /// Absolute offset of the first byte.
        offset: u64,
        /// Bytes exactly as the program wrote them.
        bytes: Vec<u8>,
    },
    /// From the guest: bytes `from..to` are no longer in the log; output goes on at `to`.
    Gap {
        /// First missing offset.
        from: u64,
        /// First offset that is there again.
        to: u64,
    },
    /// From the guest: bytes that paint the screen as it was at `offset`; output goes on there.
    Screen {
        /// Offset of the log that the picture shows.
        offset: u64,
        /// What a terminal must receive to show it.
        bytes: Vec<u8>,
    },
    /// From the guest, once per attachment: everything that was in the log at attach has been sent.
    CaughtUp {
        /// Offset reached.
        offset: u64,
    },
    /// From the guest: the terminal has this size now.
    Resized {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// From the guest, to an attachment that asked for it: whether it answers what the program asks its terminal from here
    /// on. Until the first of these it does not.
    Answers(bool),
    /// From the guest: standard output of a command.
    Stdout(Vec<u8>),
    /// From the guest: standard error of a command.
    Stderr(Vec<u8>),
    /// From the guest, last frame: the program ended.
    Exit(Exit),
}

/// A frame that cannot be taken. The connection is of no further use.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The announced payload is above [`FRAME_PAYLOAD_BYTES_MAX`].
    #[error("frame of {length} bytes is above the limit of {FRAME_PAYLOAD_BYTES_MAX}")]
    TooLong {
        /// Announced length in bytes.
        length: usize,
    },
    /// No frame has this kind.
    #[error("unknown frame kind {kind:#04x}")]
    UnknownKind {
        /// The byte received.
        kind: u8,
    },
    /// The payload does not have the shape of its kind.
    #[error("malformed payload in a frame of kind {kind:#04x}")]
    Malformed {
        /// Kind of the frame.
        kind: u8,
    },
}

mod kind {
    pub(super) const REQUEST: u8 = 0x01;
    pub(super) const INPUT: u8 = 0x02;
    pub(super) const INPUT_END: u8 = 0x03;
    pub(super) const RESIZE: u8 = 0x04;
    pub(super) const KILL: u8 = 0x05;
    pub(super) const REPLY: u8 = 0x81;
    pub(super) const OUTPUT: u8 = 0x82;
    pub(super) const GAP: u8 = 0x83;
    pub(super) const SCREEN: u8 = 0x84;
    pub(super) const CAUGHT_UP: u8 = 0x85;
    pub(super) const RESIZED: u8 = 0x86;
    pub(super) const STDOUT: u8 = 0x87;
    pub(super) const STDERR: u8 = 0x88;
    pub(super) const EXIT: u8 = 0x89;
    pub(super) const ANSWERS: u8 = 0x8a;
}

impl Frame {
    /// Appends the encoded frame to `out`.
    ///
    /// # Panics
    /// Never for payloads below `u32::MAX` bytes; callers split data at 64 KiB.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        let kind = match self {
            Self::Request(request) => json(out, kind::REQUEST, request),
            Self::Input(bytes) => raw(out, kind::INPUT, bytes),
            Self::InputEnd => kind::INPUT_END,
            Self::Resize { cols, rows } => size(out, kind::RESIZE, *cols, *rows),
            Self::Kill => kind::KILL,
            Self::Reply(reply) => json(out, kind::REPLY, reply),
            Self::Output { offset, bytes } => {
                out.extend_from_slice(&offset.to_le_bytes());
                raw(out, kind::OUTPUT, bytes)
            }
            Self::Gap { from, to } => {
                out.extend_from_slice(&from.to_le_bytes());
                out.extend_from_slice(&to.to_le_bytes());
                kind::GAP
            }
            Self::Screen { offset, bytes } => {
                out.extend_from_slice(&offset.to_le_bytes());
                raw(out, kind::SCREEN, bytes)
            }
            Self::CaughtUp { offset } => {
                out.extend_from_slice(&offset.to_le_bytes());
                kind::CAUGHT_UP
            }
            Self::Resized { cols, rows } => size(out, kind::RESIZED, *cols, *rows),
            Self::Stdout(bytes) => raw(out, kind::STDOUT, bytes),
            Self::Stderr(bytes) => raw(out, kind::STDERR, bytes),
            Self::Exit(exit) => json(out, kind::EXIT, exit),
            Self::Answers(answers) => raw(out, kind::ANSWERS, &[u8::from(*answers)]),
        };
        let length = out.len() - start - FRAME_HEADER_BYTES;
        let length = u32::try_from(length).expect("payloads are split far below 4 GiB");
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4] = kind;
    }

    /// The encoded frame on its own.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Header of an output frame whose `length` bytes follow straight from the log, so that the hot
    /// path copies them once.
    pub fn output_header(offset: u64, length: u32) -> [u8; FRAME_HEADER_BYTES + 8] {
        let mut header = [0; FRAME_HEADER_BYTES + 8];
        header[..4].copy_from_slice(&(length + 8).to_le_bytes());
        header[4] = kind::OUTPUT;
        header[5..].copy_from_slice(&offset.to_le_bytes());
        header
    }

    /// A frame that goes to the guest.
    fn decode_to_guest(kind: u8, payload: &[u8]) -> Result<Self, FrameError> {
        Ok(match kind {
            kind::REQUEST => Self::Request(from_json(kind, payload)?),
            kind::INPUT => Self::Input(payload.to_vec()),
            kind::INPUT_END if payload.is_empty() => Self::InputEnd,
            kind::RESIZE => {
                let (cols, rows) = from_size(kind, payload)?;
                Self::Resize { cols, rows }
            }
            kind::KILL if payload.is_empty() => Self::Kill,
            kind::INPUT_END | kind::KILL => return Err(FrameError::Malformed { kind }),
            kind => return Err(FrameError::UnknownKind { kind }),
        })
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, FrameError> {
        let malformed = FrameError::Malformed { kind };
        Ok(match kind {
            kind::REPLY => Self::Reply(from_json(kind, payload)?),
            kind::OUTPUT => {
                let (offset, bytes) = from_offset(kind, payload)?;
                Self::Output { offset, bytes: bytes.to_vec() }
            }
            kind::GAP => {
                let (from, rest) = from_offset(kind, payload)?;
                let (to, rest) = from_offset(kind, rest)?;
                if !rest.is_empty() || to < from {
                    return Err(malformed);
                }
                Self::Gap { from, to }
            }
            kind::SCREEN => {
                let (offset, bytes) = from_offset(kind, payload)?;
                Self::Screen { offset, bytes: bytes.to_vec() }
            }
            kind::CAUGHT_UP => match from_offset(kind, payload)? {
                (offset, []) => Self::CaughtUp { offset },
                _ => return Err(malformed),
            },
            kind::RESIZED => {
                let (cols, rows) = from_size(kind, payload)?;
                Self::Resized { cols, rows }
            }
            kind::STDOUT => Self::Stdout(payload.to_vec()),
            kind::STDERR => Self::Stderr(payload.to_vec()),
            kind::EXIT => Self::Exit(from_json(kind, payload)?),
            kind::ANSWERS => match payload {
                [0] => Self::Answers(false),
                [1] => Self::Answers(true),
                _ => return Err(malformed),
            },
            kind => return Self::decode_to_guest(kind, payload),
        })
    }
}

fn raw(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) -> u8 {
    out.extend_from_slice(bytes);
    kind
}

fn size(out: &mut Vec<u8>, kind: u8, cols: u16, rows: u16) -> u8 {
    out.extend_from_slice(&cols.to_le_bytes());
    out.extend_from_slice(&rows.to_le_bytes());
    kind
}

fn json<T: serde::Serialize>(out: &mut Vec<u8>, kind: u8, value: &T) -> u8 {
    serde_json::to_writer(out, value).expect("our messages have string keys and a vector never fails");
    kind
}

fn from_json<T: serde::de::DeserializeOwned>(kind: u8, payload: &[u8]) -> Result<T, FrameError> {
    serde_json::from_slice(payload).map_err(|_| FrameError::Malformed { kind })
}

fn from_size(kind: u8, payload: &[u8]) -> Result<(u16, u16), FrameError> {
    match payload {
        [a, b, c, d] => {
            let (cols, rows) = (u16::from_le_bytes([*a, *b]), u16::from_le_bytes([*c, *d]));
            if cols == 0 || rows == 0 { Err(FrameError::Malformed { kind }) } else { Ok((cols, rows)) }
        }
        _ => Err(FrameError::Malformed { kind }),
    }
}

fn from_offset(kind: u8, payload: &[u8]) -> Result<(u64, &[u8]), FrameError> {
    match payload.split_first_chunk::<8>() {
        Some((offset, rest)) => Ok((u64::from_le_bytes(*offset), rest)),
        None => Err(FrameError::Malformed { kind }),
    }
}

/// Turns a byte stream into frames, however it was cut.
///
/// Holds at most one frame plus what the last [`Decoder::extend`] brought.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    taken: usize,
}

impl Decoder {
    /// An empty decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds received bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or `None` until more bytes come.
    ///
    /// # Errors
    /// [`FrameError`]; the stream cannot be read further.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        self.next_by(Frame::decode)
    }

    /// The next whole frame of those that go to a guest; it knows no other kinds, and so need not be able to read them.
    ///
    /// # Errors
    /// As [`Decoder::next_frame`].
    pub fn next_frame_to_guest(&mut self) -> Result<Option<Frame>, FrameError> {
        self.next_by(Frame::decode_to_guest)
    }

    fn next_by(
        &mut self,
        decode: fn(u8, &[u8]) -> Result<Frame, FrameError>,
    ) -> Result<Option<Frame>, FrameError> {
        let rest = &self.buffer[self.taken..];
        let Some((header, payload)) = rest.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if length > FRAME_PAYLOAD_BYTES_MAX {
            return Err(FrameError::TooLong { length });
        }
        let Some(payload) = payload.get(..length) else {
            return Ok(None);
        };
        let kind = header[4];
        let frame = decode(kind, payload)?;
        if kind == kind::REQUEST {
            // It may hold secrets, and this memory is used for long.
            let start = self.taken + FRAME_HEADER_BYTES;
            crate::message::wipe(&mut self.buffer[start..start + length]);
        }
        self.taken += FRAME_HEADER_BYTES + length;
        Ok(Some(frame))
    }

    /// What came behind the last frame, for a connection that goes on without frames.
    pub fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.buffer.split_off(self.taken);
        self.buffer = Vec::new();
        self.taken = 0;
        rest
    }

    /// Whether a part of a frame is waiting for its rest.
    pub fn is_mid_frame(&self) -> bool {
        self.taken < self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_frame() -> impl Strategy<Value = Frame> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..2000);
        prop_oneof![
            bytes.clone().prop_map(Frame::Input),
            Just(Frame::InputEnd),
            Just(Frame::Kill),
            (1..u16::MAX, 1..u16::MAX).prop_map(|(cols, rows)| Frame::Resize { cols, rows }),
            (any::<u64>(), bytes.clone()).prop_map(|(offset, bytes)| Frame::Output { offset, bytes }),
            (0..u64::MAX / 2, 0..u64::MAX / 2).prop_map(|(a, b)| Frame::Gap { from: a, to: a + b }),
            (any::<u64>(), bytes.clone()).prop_map(|(offset, bytes)| Frame::Screen { offset, bytes }),
            any::<u64>().prop_map(|offset| Frame::CaughtUp { offset }),
            any::<bool>().prop_map(Frame::Answers),
            bytes.clone().prop_map(Frame::Stdout),
            bytes.prop_map(Frame::Stderr),
            (any::<i32>(), any::<bool>()).prop_map(|(code, timed_out)| Frame::Exit(Exit {
                code,
                signal: None,
                timed_out,
            })),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(frames in proptest::collection::vec(any_frame(), 1..8), cut in 1usize..300) {
            let mut stream = Vec::new();
            for frame in &frames {
                frame.encode(&mut stream);
            }
            let mut decoder = Decoder::new();
            let mut decoded = Vec::new();
            for piece in stream.chunks(cut) {
                decoder.extend(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    decoded.push(frame);
                }
            }
            prop_assert_eq!(decoded, frames);
            prop_assert!(!decoder.is_mid_frame());
        }

        #[test]
        fn any_bytes_are_refused_or_taken(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let mut decoder = Decoder::new();
            decoder.extend(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }

    #[test]
    fn what_comes_behind_the_last_frame_can_be_had() {
        let mut decoder = Decoder::new();
        decoder.extend(&[&Frame::Kill.to_bytes()[..], b"raw"].concat());
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Kill)));
        assert_eq!((decoder.take_rest(), decoder.is_mid_frame()), (b"raw".to_vec(), false));
        assert_eq!(decoder.take_rest(), b"");
    }

    #[test]
    fn a_guest_takes_what_goes_to_guests_alone() {
        let mut decoder = Decoder::new();
        decoder.extend(&Frame::InputEnd.to_bytes());
        decoder.extend(&Frame::Reply(Box::new(Reply::Done)).to_bytes());
        assert_eq!(decoder.next_frame_to_guest(), Ok(Some(Frame::InputEnd)));
        assert_eq!(decoder.next_frame_to_guest(), Err(FrameError::UnknownKind { kind: kind::REPLY }));
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Reply(Box::new(Reply::Done)))));
    }

    #[test]
    fn output_header_is_the_front_of_an_output_frame() {
        let frame = Frame::Output { offset: 7, bytes: b"abc".to_vec() };
        assert_eq!(frame.to_bytes(), [&Frame::output_header(7, 3)[..], b"abc"].concat());
    }

    #[test]
    fn hostile_frames_are_refused() {
        let check = |bytes: &[u8], error: FrameError| {
            let mut decoder = Decoder::new();
            decoder.extend(bytes);
            assert_eq!(decoder.next_frame(), Err(error));
        };
        check(&[0xff, 0xff, 0xff, 0xff, 0x02], FrameError::TooLong { length: u32::MAX as usize });
        check(&[0, 0, 0, 0, 0x42], FrameError::UnknownKind { kind: 0x42 });
        check(&[1, 0, 0, 0, 0x05, 0], FrameError::Malformed { kind: 0x05 });
        check(&[4, 0, 0, 0, 0x04, 0, 0, 1, 0], FrameError::Malformed { kind: 0x04 });
        check(&[2, 0, 0, 0, 0x81, b'{', b'}'], FrameError::Malformed { kind: 0x81 });
        check(&[1, 0, 0, 0, 0x8a, 2], FrameError::Malformed { kind: 0x8a });
    }
}
