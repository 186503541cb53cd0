//! The server's end of the guest protocol: one connection, one request.
//!
//! The guest runs beside hostile programs, so its bytes are parsed like the internet's: bounded
//! frames, unknown kinds end the connection, every wait has a limit.

mod agent;
mod agent_stream;

use std::{io, path::Path, sync::Arc, time::Duration};

use clamshell_protocol::{Decoder, Frame, FrameError, Reply, Request, WireError};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

pub(crate) use self::agent_stream::AgentStream;

/// Longest wait for the answer to a request that only asks or starts something. A guest that is starved of
/// CPU by its own programs still answers within this.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Characters kept of a refusal; those of our guest are far shorter.
const REFUSAL_CHARS_MAX: usize = 200;

/// Bytes read from the guest at once: two full data frames.
const READ_BYTES: usize = 128 * 1024;

/// The guest could not be asked, or refused.
#[derive(Debug, Error)]
pub(crate) enum GuestError {
    /// No connection, or it broke.
    #[error("guest cannot be reached")]
    Io(#[from] io::Error),
    /// It sent what the protocol does not have.
    #[error("guest broke the protocol")]
    Protocol(#[from] FrameError),
    /// It hung up before it answered.
    #[error("guest hung up")]
    HungUp,
    /// It did not answer in time.
    #[error("guest did not answer within {} s", REPLY_TIMEOUT.as_secs())]
    Timeout,
    /// It answered something else than was asked.
    #[error("guest gave an answer of the wrong kind")]
    Unexpected,
    /// It refused.
    #[error("guest refused: {}", .0.message)]
    Refused(WireError),
}

/// Address of one sandbox's guest. Holds the folder open, because a socket path may be longer than `sun_path` takes.
#[derive(Debug, Clone)]
pub(crate) struct GuestAddress {
    folder: Arc<std::fs::File>,
}

impl GuestAddress {
    /// The guest whose socket lies in `run_dir`.
    ///
    /// # Errors
    /// When the folder cannot be opened.
    pub(crate) fn in_folder(run_dir: &Path) -> io::Result<Self> {
        Ok(Self { folder: Arc::new(std::fs::File::open(run_dir)?) })
    }

    async fn open(&self) -> io::Result<UnixStream> {
        use std::os::fd::AsRawFd;
        UnixStream::connect(format!("/proc/self/fd/{}/guest.sock", self.folder.as_raw_fd())).await
    }

    /// Connects, asks, and waits for the answer; a stream may follow it.
    ///
    /// # Errors
    /// [`GuestError`].
    pub(crate) async fn ask(&self, request: Request) -> Result<(Reply, GuestConnection), GuestError> {
        let asked = async {
            let mut stream = self.open().await?;
            stream.write_all(&Frame::Request(Box::new(request)).to_bytes()).await?;
            let (reader, writer) = stream.into_split();
            let mut reader =
                GuestReader { stream: reader, decoder: Decoder::new(), buffer: vec![0; READ_BYTES] };
            match reader.next().await? {
                Some(Frame::Reply(reply)) => match *reply {
                    Reply::Error(error) => Err(GuestError::Refused(plain(error))),
                    reply => Ok((reply, GuestConnection { reader, writer: GuestWriter { stream: writer } })),
                },
                Some(_) => Err(GuestError::Unexpected),
                None => Err(GuestError::HungUp),
            }
        };
        timeout(REPLY_TIMEOUT, asked).await.map_err(|_| GuestError::Timeout)?
    }
}

/// A refusal whose words are fit for a log: a guest may send a megabyte of them, and what a terminal would obey.
fn plain(mut error: WireError) -> WireError {
    error.message = error.message.chars().filter(|char| !char.is_control()).take(REFUSAL_CHARS_MAX).collect();
    error
}

/// A connection after the answer.
#[derive(Debug)]
pub(crate) struct GuestConnection {
    /// What the guest sends.
    pub(crate) reader: GuestReader,
    /// What it is sent. Dropping both halves hangs up.
    pub(crate) writer: GuestWriter,
}

/// Frames from the guest.
#[derive(Debug)]
pub(crate) struct GuestReader {
    stream: OwnedReadHalf,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl GuestReader {
    /// The next frame of a guest that has nothing to wait for.
    ///
    /// # Errors
    /// As [`GuestReader::next`], and [`GuestError::Timeout`].
    pub(crate) async fn next_soon(&mut self) -> Result<Option<Frame>, GuestError> {
        timeout(REPLY_TIMEOUT, self.next()).await.map_err(|_| GuestError::Timeout)?
    }

    /// The next frame; `None` when the guest has hung up. Cancel-safe.
    ///
    /// # Errors
    /// [`GuestError::Io`], [`GuestError::Protocol`].
    pub(crate) async fn next(&mut self) -> Result<Option<Frame>, GuestError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            let count = self.stream.read(&mut self.buffer).await?;
            if count == 0 {
                return Ok(None);
            }
            self.decoder.extend(&self.buffer[..count]);
        }
    }
}

/// Frames to the guest.
#[derive(Debug)]
pub(crate) struct GuestWriter {
    stream: OwnedWriteHalf,
}

impl GuestWriter {
    /// Sends a frame; waits while the guest takes nothing. Not cancel-safe: a dropped call may have sent half a frame,
    /// after which the connection must be dropped too.
    ///
    /// # Errors
    /// When the guest is gone.
    pub(crate) async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.stream.write_all(&frame.to_bytes()).await
    }
}
