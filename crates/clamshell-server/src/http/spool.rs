//! Bodies of invocations: taken in whole before anybody trusts them, in memory while they are small and in a file
//! without a name when they are not, hashed on the way.
//!
//! A signature covers the hash of the body, so no byte of a body may reach an agent before its last one was seen. What is
//! taken in can be sent several times, which a session that is still starting needs (`runtime.md` 6.2).

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use clamshell_wire::{AwsError, sigv4::PayloadHash};
use http::request::Parts;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use uuid::Uuid;

use super::{
    ApiError, BODY_TIMEOUT,
    access::{Asked, Caller},
    auth::Claimed,
    discard_body,
};
use crate::{app::App, server::Proof, session::AgentBody};

/// Longest body of an invocation (`runtime.md` section 10).
pub(super) const PAYLOAD_BYTES_MAX: u64 = 100_000_000;

/// A longer body goes to a file: prompts are shorter, files that people send are not.
const MEMORY_BYTES_MAX: usize = 1 << 20;

/// Bytes written to or read from a file at once: a step in another thread should be worth its cost.
const PIECE_BYTES: usize = 256 * 1024;

/// Files at once, 6.4 GB when all are full. Further bodies wait in their sockets.
const FILES_MAX: usize = 64;

/// Bytes a second that a body must come with at least, beside [`BODY_TIMEOUT`]: a line of 1 Mbit/s has them, and the
/// longest body is there in 14 minutes.
pub(super) const PACE_BYTES: u64 = 120_000;

/// Where bodies go that are too long for memory.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    room: Arc<Semaphore>,
}

impl Spool {
    /// Files lie, without names, in the file system of `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), room: Arc::new(Semaphore::new(FILES_MAX)) }
    }

    async fn file(&self) -> Result<Spooled, ApiError> {
        let closed = |_| ApiError::Internal("the room for bodies is never closed");
        let permit = Arc::clone(&self.room).acquire_owned().await.map_err(closed)?;
        let folder = self.folder.clone();
        let file = blocking(move || nameless(&folder)).await?;
        Ok(Spooled { file, length: 0, _permit: permit })
    }
}

/// A body that arrived whole.
#[derive(Debug, Clone)]
pub(super) enum Payload {
    /// A short one.
    Memory(Bytes),
    /// A long one.
    File(Arc<Spooled>),
}

/// A file with a body in it; gone when this is dropped.
#[derive(Debug)]
pub(super) struct Spooled {
    file: File,
    length: u64,
    _permit: OwnedSemaphorePermit,
}

impl Payload {
    /// Bytes.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(spooled) => spooled.length,
        }
    }

    /// All of it, when it is short.
    pub(super) fn short(&self) -> Option<&Bytes> {
        match self {
            Self::Memory(bytes) => Some(bytes),
            Self::File(_) => None,
        }
    }

    /// As the body of a request; can be asked for again.
    pub(super) fn body(&self) -> AgentBody {
        match self {
            Self::Memory(bytes) => Full::new(bytes.clone()).map_err(|never| match never {}).boxed_unsync(),
            Self::File(spooled) => {
                let pieces = futures_util::stream::try_unfold(
                    (Arc::clone(spooled), 0_u64),
                    async |(spooled, offset): (Arc<Spooled>, u64)| {
                        let left = spooled.length - offset;
                        if left == 0 {
                            return Ok(None);
                        }
                        let length = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
                        let source = Arc::clone(&spooled);
                        let piece = tokio::task::spawn_blocking(move || {
                            let mut piece = vec![0; length];
                            source.file.read_exact_at(&mut piece, offset).map(|()| Bytes::from(piece))
                        });
                        let piece = piece.await??;
                        let next = offset + piece.len() as u64;
                        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Some((
                            Frame::data(piece),
                            (spooled, next),
                        )))
                    },
                );
                StreamBody::new(pieces).boxed_unsync()
            }
        }
    }
}

/// Takes in the body of a signed request and verifies the signature over it. What comes without the name of an active key
/// is never kept.
///
/// # Errors
/// As [`super::auth::authenticate_body`]; a `ValidationException` for a body that is too long.
pub(super) async fn authenticate_payload(
    app: &Arc<App>,
    parts: &Parts,
    body: Incoming,
    asked: &Asked<'_>,
) -> Result<(Caller, Payload), ApiError> {
    let claimed = match Claimed::find(app, parts, asked).await {
        Ok(claimed) => claimed,
        Err(error) => {
            discard_body(body).await;
            return Err(error);
        }
    };
    let upload = parts.extensions.get::<Proof>().map(Proof::upload);
    let (payload, hash) = receive(&app.spool, body).await?;
    drop(upload);
    let caller = claimed.admit(app, parts, PayloadHash::Sha256(hash), &[]).await?;
    Ok((caller, payload))
}

/// Takes in a body, with its SHA-256.
///
/// # Errors
/// A `ValidationException` for one that is too long, [`ApiError::BodyIncomplete`], or what the disk says.
pub(super) async fn receive(spool: &Spool, mut body: Incoming) -> Result<(Payload, [u8; 32]), ApiError> {
    if body.size_hint().lower() > PAYLOAD_BYTES_MAX {
        discard_body(body).await;
        return Err(too_long());
    }
    let began = Instant::now();
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut kept = BytesMut::new();
    let mut file = None;
    let mut length = 0_u64;
    loop {
        let deadline = began + BODY_TIMEOUT + Duration::from_secs(length / PACE_BYTES);
        let frame = tokio::time::timeout_at(deadline, body.frame()).await;
        let Some(frame) = frame.map_err(|_| ApiError::BodyIncomplete)? else { break };
        let Ok(data) = frame.map_err(|_| ApiError::BodyIncomplete)?.into_data() else { continue };
        length += data.len() as u64;
        if length > PAYLOAD_BYTES_MAX {
            return Err(too_long());
        }
        hash.update(&data);
        if kept.is_empty() && length == data.len() as u64 && body.is_end_stream() {
            // The whole of a short body in one piece, as it mostly is: nothing is copied.
            let payload = Payload::Memory(data);
            return Ok((payload, sha256(hash)?));
        }
        kept.extend_from_slice(&data);
        let full = if file.is_some() { PIECE_BYTES } else { MEMORY_BYTES_MAX + 1 };
        if kept.len() >= full {
            let spooled = match file.take() {
                Some(spooled) => spooled,
                None => spool.file().await?,
            };
            file = Some(append(spooled, std::mem::take(&mut kept)).await?);
        }
    }
    let payload = match file {
        None => Payload::Memory(kept.freeze()),
        Some(spooled) => Payload::File(Arc::new(append(spooled, kept).await?)),
    };
    Ok((payload, sha256(hash)?))
}

async fn append(mut spooled: Spooled, bytes: BytesMut) -> Result<Spooled, ApiError> {
    blocking(move || {
        spooled.file.write_all_at(&bytes, spooled.length)?;
        spooled.length += bytes.len() as u64;
        Ok(spooled)
    })
    .await
}

fn sha256(hash: digest::Context) -> Result<[u8; 32], ApiError> {
    hash.finish().as_ref().try_into().map_err(|_| ApiError::Internal("SHA-256 has 32 bytes"))
}

async fn blocking<T: Send + 'static>(
    action: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let done = tokio::task::spawn_blocking(action).await;
    done.map_err(io::Error::other).and_then(|done| done).map_err(|error| {
        tracing::error!(%error, "body of an invocation cannot be kept");
        ApiError::Internal("body cannot be kept")
    })
}

/// A file without a name, readable by us alone.
fn nameless(folder: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600);
    let flags = rustix::fs::OFlags::TMPFILE.bits();
    let flags = i32::try_from(flags).map_err(io::Error::other)?;
    match options.clone().custom_flags(flags).open(folder) {
        Ok(file) => Ok(file),
        // Not every file system has files without names.
        Err(_) => {
            let path = folder.join(format!("body-{}", Uuid::new_v4()));
            let file = options.create_new(true).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        }
    }
}

fn too_long() -> ApiError {
    let rule = format!("Member must have length less than or equal to {PAYLOAD_BYTES_MAX}");
    AwsError::invalid_field("payload", &rule).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(payload: &Payload) -> Vec<u8> {
        payload.body().collect().await.unwrap().to_bytes().to_vec()
    }

    #[tokio::test]
    async fn a_file_is_read_as_often_as_wanted_and_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::new(folder.path());
        let bytes: Vec<u8> =
            (0..3 * PIECE_BYTES + 17).map(|index| u8::try_from(index % 251).unwrap()).collect();
        let (first, rest) = bytes.split_at(1000);
        let spooled = append(spool.file().await.unwrap(), BytesMut::from(first)).await.unwrap();
        let payload = Payload::File(Arc::new(append(spooled, BytesMut::from(rest)).await.unwrap()));
        assert_eq!(payload.length(), bytes.len() as u64);
        assert_eq!(read(&payload).await, bytes);
        assert_eq!(read(&payload).await, bytes);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(spool.room.available_permits(), FILES_MAX - 1);
        drop(payload);
        assert_eq!(spool.room.available_permits(), FILES_MAX);
    }

    #[tokio::test]
    async fn a_short_body_stays_in_memory() {
        let payload = Payload::Memory(Bytes::from_static(b"short"));
        assert_eq!(read(&payload).await, b"short");
        assert_eq!(payload.short().unwrap(), "short");
    }
}
