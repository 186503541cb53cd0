//! Waiting for the guest's first answer.

use std::{io, os::fd::AsRawFd, path::Path, time::Duration};

use clamshell_domain::CreateSandboxError;
use clamshell_protocol::{Decoder, Frame, Reply, Request};
use rustix::fs::{Mode, OFlags};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::setup;

/// The guest answers within milliseconds of its start; beyond this the machine is no place for it.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Resolves when the guest has answered.
pub(super) async fn wait(session_dir: &Path) -> Result<(), CreateSandboxError> {
    match tokio::time::timeout(READY_WITHIN, hello(session_dir)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(setup("guest", error)),
        Err(_) => Err(CreateSandboxError::Timeout {
            limit_ms: u64::try_from(READY_WITHIN.as_millis()).unwrap_or(u64::MAX),
        }),
    }
}

async fn hello(session_dir: &Path) -> io::Result<()> {
    // Through a descriptor: the folder's path may be longer than a socket address holds.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let run = rustix::fs::open(session_dir.join("run"), flags, Mode::empty())?;
    let mut stream = UnixStream::connect(format!("/proc/self/fd/{}/guest.sock", run.as_raw_fd())).await?;
    stream.write_all(&Frame::Request(Box::new(Request::Hello)).to_bytes()).await?;
    let mut decoder = Decoder::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up"));
        }
        decoder.extend(buffer.get(..length).unwrap_or_default());
        match decoder.next_frame() {
            Ok(None) => {}
            Ok(Some(Frame::Reply(reply))) if matches!(*reply, Reply::Hello(_)) => return Ok(()),
            Ok(Some(_)) => return Err(io::Error::new(io::ErrorKind::InvalidData, "it said something else")),
            Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
}
