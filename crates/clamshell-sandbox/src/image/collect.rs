//! Removing what no version and no session needs any more: layers, manifests, code and records of names.
//!
//! Marking and moving away happen under a lock that keeps pulls out; deleting the trees, which takes long, happens after it.
//! A layer under a running sandbox must stay: the kernel reads the folder, whatever was mounted from it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clamshell_domain::Artifact;
use thiserror::Error;

use super::{
    ImageError, ImageStore,
    oci::{Store, digest::Sha256, parts_of, remove_tree},
    records,
};

/// What is younger may belong to a version that is just being made.
const GRACE_MS: u64 = 3_600_000;

/// Nothing was removed.
#[derive(Debug, Error)]
pub enum CollectError {
    /// An image is being pulled or unpacked; try later.
    #[error("an image is being pulled")]
    Busy,
    /// Versions were made or removed meanwhile; list them again.
    #[error("the versions are others by now")]
    Outdated,
    /// The store cannot be read or changed.
    #[error(transparent)]
    Image(#[from] ImageError),
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Unpacked layers.
    pub layers: u64,
    /// Manifests, configurations and layers as they came.
    pub blobs: u64,
    /// Unpacked zips.
    pub code: u64,
}

/// Those who add to the store right now.
#[derive(Debug, Clone, Default)]
pub(super) struct Users(Arc<Mutex<usize>>);

/// One of them.
#[derive(Debug)]
pub(super) struct User(Users);

impl Users {
    /// Waits while somebody collects, which takes milliseconds.
    pub(super) fn enter(&self) -> User {
        *self.lock() += 1;
        User(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for User {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
    }
}

/// What is still needed.
#[derive(Debug, Default)]
struct Kept {
    layers: BTreeSet<String>,
    blobs: BTreeSet<String>,
    code: BTreeSet<String>,
    names: BTreeSet<PathBuf>,
}

impl ImageStore {
    /// Removes what neither `live` (artifacts of all versions, with their digests) nor `sessions` (artifacts of sessions
    /// whose sandbox may be there) need and what is older than an hour. Blocks: call it where blocking is allowed.
    ///
    /// `is_current` says whether `live` is still all there is. It is asked once nobody can add to the store any more: a
    /// version that is made later is pulled later, and then finds what is missing.
    ///
    /// # Errors
    /// [`CollectError::Busy`] while an image is pulled or unpacked, [`CollectError::Outdated`] when `is_current` says no.
    pub fn collect(
        &self,
        live: &[Artifact],
        sessions: &[Artifact],
        is_current: impl FnOnce() -> bool,
        now_ms: u64,
    ) -> Result<Collected, CollectError> {
        let images = self.images();
        if !images.join("layers").is_dir() && !images.join("code").is_dir() {
            return Ok(Collected::default());
        }
        let store = Store::open(&images)?;
        let count = self.users.lock();
        if *count > 0 {
            return Err(CollectError::Busy);
        }
        // Another process on the same folder.
        let _lock = store.lock()?;
        if !is_current() {
            return Err(CollectError::Outdated);
        }
        let mut kept = Kept::default();
        for (artifacts, is_session) in [(live, false), (sessions, true)] {
            for artifact in artifacts {
                self.keep(artifact, is_session, &mut kept);
            }
        }
        // What is remembered may be gone in a moment.
        self.forget_all();
        let sweep = Sweep { trash: store.tmp.clone(), before_ms: now_ms.saturating_sub(GRACE_MS) };
        let collected = Collected {
            layers: sweep.folder(&store.layers, |name| kept.layers.contains(name))?,
            blobs: sweep.folder(&images.join("blobs/sha256"), |name| {
                kept.blobs.contains(name.trim_end_matches(".part"))
            })?,
            code: sweep.folder(&images.join("code"), |name| kept.code.contains(name))?,
        };
        let names = self.records.folder();
        sweep.folder(names, |name| kept.names.contains(&names.join(name)))?;
        drop(count);
        for entry in fs::read_dir(&store.tmp).map_err(ImageError::io("cleaning the store"))?.flatten() {
            // What stays is removed by the next one who unpacks.
            let _ = remove_tree(&entry.path());
        }
        Ok(collected)
    }

    fn keep(&self, artifact: &Artifact, is_session: bool, kept: &mut Kept) {
        let name = records::name_of(artifact);
        let record = name.as_deref().and_then(|name| self.records.read(name));
        if let Some(name) = &name {
            kept.names.insert(self.records.path(name));
        }
        // A session may have been started with what the name meant before.
        let uses = record.map(|record| record.uses).unwrap_or_default();
        let uses = if is_session { uses.as_slice() } else { &uses[uses.len().saturating_sub(1)..] };
        match artifact {
            Artifact::Host | Artifact::Directory { .. } => {}
            Artifact::Oci { .. } => {
                kept.layers.extend(uses.iter().flat_map(|used| used.layers.iter().cloned()))
            }
            Artifact::Image { reference, digest } => {
                let own = self.image_digest(reference, digest.as_deref()).ok().flatten();
                let earlier = uses.iter().map(|used| used.digest.clone()).filter(|_| digest.is_none());
                for digest in own.into_iter().chain(earlier).filter_map(|digest| Sha256::parse(&digest).ok())
                {
                    let (blobs, layers) = parts_of(&self.images(), &digest);
                    kept.blobs.extend(blobs);
                    kept.layers.extend(layers);
                }
            }
            Artifact::Code { base, digest, .. } => {
                let earlier = uses.iter().map(|used| used.digest.clone()).filter(|_| digest.is_none());
                let all = digest.iter().cloned().chain(earlier);
                kept.code
                    .extend(all.filter_map(|digest| Some(Sha256::parse(&digest).ok()?.hex().to_owned())));
                self.keep(base, is_session, kept);
            }
        }
    }
}

/// Moves away what is old and not kept.
struct Sweep {
    trash: PathBuf,
    before_ms: u64,
}

impl Sweep {
    fn folder(&self, folder: &Path, is_kept: impl Fn(&str) -> bool) -> Result<u64, ImageError> {
        let doing = "cleaning the store";
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(ImageError::io(doing)(error)),
        };
        let mut count = 0;
        for entry in entries {
            let entry = entry.map_err(ImageError::io(doing))?;
            let name = entry.file_name();
            if name.to_str().is_some_and(&is_kept) {
                continue;
            }
            // Not the time of modification, which is the image's own.
            let changed = entry.metadata().map_err(ImageError::io(doing))?.ctime();
            if u64::try_from(changed).unwrap_or(0).saturating_mul(1000) >= self.before_ms {
                continue;
            }
            let mut gone = std::ffi::OsString::from(format!("gone-{count}-"));
            gone.push(folder.file_name().unwrap_or_default());
            gone.push("-");
            gone.push(&name);
            fs::rename(entry.path(), self.trash.join(gone)).map_err(ImageError::io(doing))?;
            count += 1;
        }
        Ok(count)
    }
}
