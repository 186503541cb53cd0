//! Frames of a WebSocket, read one at a time and passed on byte for byte, so that fragments stay fragments.
//!
//! Only what a relay must know is looked at: that a frame is one, how long it is, and whether it is the last one. The
//! bytes inside, masked or not, are nobody's business here.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest payload of a frame (`runtime.md` section 10).
pub(super) const FRAME_BYTES_MAX: usize = 65_536;

/// Longest payload of a control frame (RFC 6455, 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// Longest reason of a close frame: a control frame without the code.
const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// No more frames come.
#[derive(Debug, Error)]
pub(super) enum FrameError {
    /// The connection ended or broke.
    #[error("connection ended")]
    Gone,
    /// A payload is above [`FRAME_BYTES_MAX`].
    #[error("frame is too long")]
    TooLong,
    /// It is not a frame, or not at this place.
    #[error("not a WebSocket frame: {0}")]
    Protocol(&'static str),
}

/// A frame as it came, header and payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    pub(super) is_close: bool,
}

/// Frames of one direction.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    /// Those of clients are, those of servers are not.
    masked: bool,
    /// A message has begun and not ended.
    in_message: bool,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(io: R, masked: bool) -> Self {
        Self { io, buffer: BytesMut::new(), masked, in_message: false }
    }

    /// The next frame. Cancel-safe: what was read of it stays here.
    pub(super) async fn next(&mut self) -> Result<Frame, FrameError> {
        loop {
            if let Some(frame) = self.parse()? {
                return Ok(frame);
            }
            self.buffer.reserve(READ_BYTES);
            match self.io.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Err(FrameError::Gone),
                Ok(_) => {}
            }
        }
    }

    fn parse(&mut self) -> Result<Option<Frame>, FrameError> {
        let [first, second, rest @ ..] = &self.buffer[..] else { return Ok(None) };
        let (opcode, last) = (first & 0x0f, first & 0x80 != 0);
        if first & 0x70 != 0 {
            return Err(FrameError::Protocol("reserved bits"));
        }
        if (second & 0x80 != 0) != self.masked {
            return Err(FrameError::Protocol("mask"));
        }
        let (length, length_bytes) = match second & 0x7f {
            126 => match rest {
                [a, b, ..] => (u64::from(u16::from_be_bytes([*a, *b])), 2),
                _ => return Ok(None),
            },
            127 => match rest {
                [a, b, c, d, e, f, g, h, ..] => (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 8),
                _ => return Ok(None),
            },
            short => (u64::from(short), 0),
        };
        let length = usize::try_from(length).map_err(|_| FrameError::TooLong)?;
        let in_message = match opcode {
            CONTINUATION if self.in_message => !last,
            TEXT | BINARY if !self.in_message => !last,
            CONTINUATION | TEXT | BINARY => return Err(FrameError::Protocol("fragments out of order")),
            CLOSE | PING | PONG if !last || length > CONTROL_BYTES_MAX => {
                return Err(FrameError::Protocol("control frame"));
            }
            CLOSE | PING | PONG => self.in_message,
            _ => return Err(FrameError::Protocol("opcode")),
        };
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong);
        }
        let whole = 2 + length_bytes + if self.masked { 4 } else { 0 } + length;
        if self.buffer.len() < whole {
            return Ok(None);
        }
        self.in_message = in_message;
        let bytes = self.buffer.copy_to_bytes(whole);
        Ok(Some(Frame { bytes, is_close: opcode == CLOSE }))
    }
}

/// A close frame of ours; masked with nothing towards a server.
pub(super) fn close(code: u16, reason: &str, masked: bool) -> Bytes {
    let reason = &reason.as_bytes()[..reason.len().min(REASON_BYTES_MAX)];
    let length = u8::try_from(reason.len() + 2).unwrap_or(2);
    let mut bytes = vec![0x80 | CLOSE, length | if masked { 0x80 } else { 0 }];
    if masked {
        bytes.extend([0; 4]);
    }
    bytes.extend(code.to_be_bytes());
    bytes.extend(reason);
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(mask | u8::try_from(length).unwrap()),
            length @ 126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend([1, 2, 3, 4]);
        }
        bytes.extend(payload);
        bytes
    }

    /// All frames of these bytes, and why there are no more.
    async fn read(bytes: &[u8], masked: bool) -> (Vec<Bytes>, String) {
        let mut reader = FrameReader::new(bytes, masked);
        let mut frames = Vec::new();
        loop {
            match reader.next().await {
                Ok(frame) => frames.push(frame.bytes),
                Err(error) => return (frames, error.to_string()),
            }
        }
    }

    #[tokio::test]
    async fn frames_come_as_they_are() {
        for masked in [true, false] {
            let parts = [
                frame(0x01, masked, b"first"),
                frame(0x89, masked, b"ping"),
                frame(0x00, masked, &[7; 300]),
                frame(0x80, masked, &[]),
                frame(0x82, masked, &vec![9; FRAME_BYTES_MAX]),
                frame(0x88, masked, &[3, 0xe8]),
            ];
            let (frames, end) = read(&parts.concat(), masked).await;
            assert_eq!(frames, parts.map(Bytes::from));
            assert_eq!(end, "connection ended");
        }
    }

    #[tokio::test]
    async fn what_is_no_frame_is_refused() {
        let long = frame(0x82, false, &vec![0; FRAME_BYTES_MAX + 1]);
        for (bytes, expect) in [
            (frame(0x82, true, b"x"), "not a WebSocket frame: mask"),
            (frame(0xc2, false, b"x"), "not a WebSocket frame: reserved bits"),
            (frame(0x83, false, b"x"), "not a WebSocket frame: opcode"),
            (frame(0x80, false, b"x"), "not a WebSocket frame: fragments out of order"),
            (frame(0x09, false, b"x"), "not a WebSocket frame: control frame"),
            (frame(0x89, false, &[0; 126]), "not a WebSocket frame: control frame"),
            (long[..20].to_vec(), "frame is too long"),
            (vec![0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255], "frame is too long"),
        ] {
            assert_eq!(read(&bytes, false).await, (Vec::new(), expect.to_owned()));
        }
        let two = [frame(0x01, false, b"a"), frame(0x01, false, b"b")].concat();
        assert_eq!(read(&two, false).await.1, "not a WebSocket frame: fragments out of order");
    }

    #[tokio::test]
    async fn our_close_frames_are_frames() {
        for masked in [true, false] {
            for reason in ["", "session stopped", &"x".repeat(200)] {
                let bytes = close(1001, reason, masked);
                let frame = FrameReader::new(&bytes[..], masked).next().await.unwrap();
                assert_eq!(frame, Frame { bytes: bytes.clone(), is_close: true });
            }
        }
    }

    #[test]
    fn nothing_panics() {
        let mut seed = 1_u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed.to_be_bytes()[0]
        };
        for round in 0..20_000_u32 {
            let mut reader = FrameReader::new(&[][..], round % 2 == 0);
            let length = random() / 4;
            reader.buffer.extend((0..length).map(|_| random()));
            while let Ok(Some(_)) = reader.parse() {}
        }
    }
}
