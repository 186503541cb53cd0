//! Layers on their way to the disk: hashed as they come, taken up again where they stopped.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};

use super::{client::Remote, error::RegistryError};
use crate::image::{ImageError, oci::digest::Sha256};

/// A layer that is wanted.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) digest: Sha256,
    /// Bytes that the manifest says it has.
    pub(super) size: u64,
}

/// Who downloads what, so that two pulls do not write into one file.
#[derive(Debug, Clone, Default)]
pub(in crate::image) struct Turns(Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>);

impl Turns {
    /// Waits until nobody else downloads this layer.
    pub(super) async fn take(&self, digest: &Sha256) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those that nobody holds or waits for are history.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(turns.entry(digest.hex().to_owned()).or_default())
        };
        turn.lock_owned().await
    }
}

/// A download as far as it came. Writing and hashing happen where the bytes arrive: pieces are small, and the page cache takes
/// them at once.
struct Partial {
    path: PathBuf,
    file: File,
    context: Context,
    length: u64,
    /// Bytes that an earlier download left, unknown to be good.
    inherited: bool,
}

impl Partial {
    /// Opens what there is already and hashes it. Blocks.
    fn open(path: PathBuf, size: u64) -> Result<Self, ImageError> {
        let doing = "opening a download";
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(ImageError::io(doing))?;
        let mut partial = Self { path, file, context: Context::new(&SHA256), length: 0, inherited: false };
        let found = partial.file.metadata().map_err(ImageError::io(doing))?.len();
        if found > size {
            partial.restart()?;
            return Ok(partial);
        }
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = partial.file.read(&mut buffer).map_err(ImageError::io(doing))?;
            if count == 0 {
                break;
            }
            partial.context.update(&buffer[..count]);
            partial.length += count as u64;
        }
        partial.inherited = partial.length > 0;
        Ok(partial)
    }

    fn restart(&mut self) -> Result<(), ImageError> {
        self.file.set_len(0).map_err(ImageError::io("starting a download again"))?;
        self.context = Context::new(&SHA256);
        self.length = 0;
        self.inherited = false;
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.file.write_all(bytes).map_err(ImageError::io("writing a download"))?;
        self.context.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// Downloads a layer to `path`, by way of `path` with `.part` at its end. What a failure leaves there is taken up by the next
/// download of the same layer. Cancel-safe in that sense.
pub(super) async fn download(
    remote: &Remote,
    wanted: &Wanted,
    path: &Path,
    on_length: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), ImageError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    let (name, size) = (PathBuf::from(name), wanted.size);
    let opened = tokio::task::spawn_blocking(move || Partial::open(name, size)).await;
    let mut partial = opened.map_err(|error| ImageError::io("opening a download")(error.into()))??;
    loop {
        fill(remote, wanted, &mut partial, on_length).await?;
        let digest = Sha256::from_raw(partial.context.clone().finish().as_ref());
        if digest == wanted.digest {
            break;
        }
        let was_inherited = partial.inherited;
        partial.restart()?;
        if !was_inherited {
            return Err(ImageError::Digest { what: "layer".into(), expected: wanted.digest.hex().into() });
        }
    }
    std::fs::rename(&partial.path, path).map_err(ImageError::io("naming a download"))
}

async fn fill(
    remote: &Remote,
    wanted: &Wanted,
    partial: &mut Partial,
    on_length: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), ImageError> {
    let mut attempt = 1;
    loop {
        on_length(partial.length);
        let before = partial.length;
        let error = match fill_once(remote, wanted, partial, on_length).await {
            Ok(()) => return Ok(()),
            Err(ImageError::Registry(error)) if error.is_transient() => error,
            Err(error) => return Err(error),
        };
        // Headway is worth a new budget; the whole pull has its deadline.
        attempt = if partial.length > before { 1 } else { attempt };
        let Some(wait) = remote.retry().wait(attempt) else {
            return Err(error.into());
        };
        tracing::debug!(host = remote.host(), %error, offset = partial.length, "download broke off");
        tokio::time::sleep(wait).await;
        attempt += 1;
    }
}

async fn fill_once(
    remote: &Remote,
    wanted: &Wanted,
    partial: &mut Partial,
    on_length: &(dyn Fn(u64) + Send + Sync),
) -> Result<(), ImageError> {
    if partial.length == wanted.size && wanted.size > 0 {
        return Ok(());
    }
    let wrong = || RegistryError::Size {
        what: format!("layer sha256:{}", wanted.digest.hex()),
        expected: wanted.size,
    };
    let digest = format!("sha256:{}", wanted.digest.hex());
    let mut answer = match remote.blob(&digest, partial.length).await {
        // The registry does not like where we want to go on.
        Err(RegistryError::Status { status: 416, .. }) if partial.length > 0 => {
            partial.restart()?;
            remote.blob(&digest, 0).await?
        }
        answer => answer?,
    };
    if partial.length > 0 {
        let starts_here = answer.status == http::StatusCode::PARTIAL_CONTENT
            && answer
                .header("content-range")
                .and_then(|range| range.strip_prefix("bytes "))
                .and_then(|range| range.split('-').next())
                .is_some_and(|start| start.parse() == Ok(partial.length));
        if answer.status == http::StatusCode::PARTIAL_CONTENT && !starts_here {
            let what = "range of a layer".to_owned();
            return Err(RegistryError::Malformed { host: remote.host().to_owned(), what }.into());
        }
        if !starts_here {
            partial.restart()?;
        }
    }
    let announced = answer.header("content-length").and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced != wanted.size - partial.length) {
        return Err(wrong().into());
    }
    while let Some(bytes) = answer.chunk().await.map_err(|source| remote.failed(source))? {
        if bytes.len() as u64 > wanted.size - partial.length {
            partial.restart()?;
            return Err(wrong().into());
        }
        partial.add(&bytes)?;
        on_length(partial.length);
    }
    if partial.length == wanted.size { Ok(()) } else { Err(wrong().into()) }
}
