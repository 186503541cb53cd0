//! Images from registries: pulled by tag or digest into the store's own layout, then unpacked like any other.
//!
//! A client of our own on hyper, because the usual library brings a second HTTP stack with it, and does neither resume a
//! layer nor keep credentials from a redirect's target. Everything a registry sends is hostile: descriptions are at most 4 MiB,
//! layers have the length and digest that the manifest says, and the whole pull has a size and a deadline.

mod client;
mod download;
mod error;
#[cfg(test)]
mod fake;
mod login;
mod reference;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

pub(super) use self::download::Turns;
use self::{
    client::Remote,
    download::{Wanted, download},
};
pub use self::{
    client::Retry,
    error::RegistryError,
    login::{Registries, RegistryConfig},
    reference::{Reference, ReferenceError},
};
use super::{
    ImageError, ImageStore, RootImage,
    oci::{
        UnpackOptions,
        digest::Sha256,
        manifest::{self, Chosen, Step},
        unpack_blobs,
    },
    records::{self, Use},
    root_image,
};

/// Layers on their way at once: enough to fill a line, few enough to be a polite guest.
const DOWNLOADS_MAX: usize = 3;

/// Bounds of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullOptions {
    /// Bytes of all layers as they come. AWS takes images of 2 GB.
    pub packed_bytes_max: u64,
    /// Time for all of it.
    pub deadline: Duration,
    /// How often to try again.
    pub retry: Retry,
    /// Bounds and durability of what is unpacked.
    pub unpack: UnpackOptions,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self {
            packed_bytes_max: 8 << 30,
            // 8 GiB in it are 2.4 MB/s.
            deadline: Duration::from_secs(3600),
            retry: Retry::default(),
            unpack: UnpackOptions::default(),
        }
    }
}

/// How far a pull is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PullProgress {
    /// What is being done.
    pub stage: PullStage,
    /// Layers that are not in the store already, bottom first.
    pub layers: Vec<LayerProgress>,
}

/// Steps of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullStage {
    /// Manifest and configuration.
    #[default]
    Resolving,
    /// Layers.
    Downloading,
    /// Layers again, into folders.
    Unpacking,
    /// Ready for sandboxes.
    Done,
}

/// How far a layer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress {
    /// `sha256:<hex>` of the layer as it comes.
    pub digest: String,
    /// Bytes here.
    pub bytes: u64,
    /// Bytes in all.
    pub total: u64,
}

/// An image that is ready for sandboxes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Its name in full.
    pub reference: String,
    /// Manifest or index that the name meant, `sha256:<hex>`.
    pub digest: String,
    /// Its root file system.
    pub image: RootImage,
}

impl ImageStore {
    /// Asks the registry what `reference` means now (or takes `digest` for it), downloads what the store lacks and unpacks it.
    ///
    /// Layers that another image brought are not downloaded again. Cancel-safe: what came is taken up by the next pull.
    ///
    /// # Errors
    /// [`ImageError`], mostly [`ImageError::Registry`].
    pub async fn pull(
        &self,
        reference: &str,
        digest: Option<&str>,
        progress: Option<watch::Sender<PullProgress>>,
    ) -> Result<Pulled, ImageError> {
        let deadline = self.sources.pull.deadline;
        // Unpacking goes on in a thread that cannot be dropped; it is bounded by its size.
        match tokio::time::timeout(deadline, self.pull_now(reference, digest, progress)).await {
            Ok(pulled) => pulled,
            Err(_) => Err(RegistryError::Deadline { limit_s: deadline.as_secs() }.into()),
        }
    }

    async fn pull_now(
        &self,
        reference: &str,
        digest: Option<&str>,
        progress: Option<watch::Sender<PullProgress>>,
    ) -> Result<Pulled, ImageError> {
        let user = Arc::new(self.users.enter());
        let options = self.sources.pull;
        let progress = progress.unwrap_or_else(|| watch::Sender::new(PullProgress::default()));
        let reference = Reference::parse(reference).map_err(RegistryError::from)?;
        let known = digest.or(reference.digest()).map(str::to_owned);
        let remote =
            Remote::open(self.fetch.clone(), &reference, &self.sources.registries, options.retry).await?;
        let pull = Pull { remote: Arc::new(remote), images: self.images(), options };

        let (top, chosen) = pull.resolve(&reference, known.as_deref()).await?;
        pull.download(&chosen, &self.turns, &progress).await?;

        progress.send_modify(|progress| progress.stage = PullStage::Unpacking);
        let (images, digest, records) = (pull.images.clone(), top.clone(), self.records.clone());
        let name = records::image_name(&reference);
        let is_named = known.is_none();
        let unpacked = tokio::task::spawn_blocking(move || {
            let _user = user;
            let unpacked = unpack_blobs(&images, &digest, options.unpack)?;
            for layer in &chosen.layers {
                // Unpacked it is what counts; a pull that still wants it as it came finds it unpacked, too.
                let _ = std::fs::remove_file(images.join(&layer.name));
            }
            if is_named {
                let digest = format!("sha256:{}", digest.hex());
                records.add(&name, Use { digest, layers: Vec::new() })?;
            }
            Ok::<_, ImageError>(unpacked)
        });
        let unpacked = unpacked.await.map_err(|error| ImageError::io("unpacking")(error.into()))??;
        let image = root_image(&unpacked)?;
        let digest = format!("sha256:{}", top.hex());
        self.remember_as(digest.clone(), &image);
        progress.send_modify(|progress| progress.stage = PullStage::Done);
        Ok(Pulled { reference: reference.to_string(), digest, image })
    }
}

/// One pull.
struct Pull {
    remote: Arc<Remote>,
    images: PathBuf,
    options: PullOptions,
}

impl Pull {
    /// From a name to the image for this machine; manifests and configuration are in the store then.
    async fn resolve(
        &self,
        reference: &Reference,
        known: Option<&str>,
    ) -> Result<(Sha256, Chosen), ImageError> {
        let (top, mut bytes) = match known {
            Some(digest) => {
                let digest = Sha256::parse(digest)?;
                let bytes = self.manifest(&digest).await?;
                (digest, bytes)
            }
            None => {
                let (bytes, said) = self.remote.manifest(reference.tag().unwrap_or("latest")).await?;
                let digest = Sha256::of(&bytes);
                if let Some(said) = said.and_then(|said| Sha256::parse(&said).ok())
                    && said != digest
                {
                    return Err(ImageError::Digest { what: "manifest".into(), expected: said.hex().into() });
                }
                self.keep(&digest, &bytes).await?;
                (digest, bytes)
            }
        };
        let mut digest = top.clone();
        for _ in 0..manifest::INDEX_DEPTH_MAX {
            match manifest::step(&bytes)? {
                Step::Descend(next) => {
                    bytes = self.manifest(&next).await?;
                    digest = next;
                }
                Step::Image(image) => {
                    let config = self.configuration(&image.config).await?;
                    return Ok((top, image.with_config(digest, &config)?));
                }
            }
        }
        Err(manifest::too_deep())
    }

    async fn manifest(&self, digest: &Sha256) -> Result<Vec<u8>, ImageError> {
        if let Some(bytes) = self.kept(digest).await {
            return Ok(bytes);
        }
        let (bytes, _) = self.remote.manifest(&format!("sha256:{}", digest.hex())).await?;
        self.checked(digest, bytes, "manifest").await
    }

    async fn configuration(&self, digest: &Sha256) -> Result<Vec<u8>, ImageError> {
        if let Some(bytes) = self.kept(digest).await {
            return Ok(bytes);
        }
        let bytes = self.remote.small_blob(&format!("sha256:{}", digest.hex())).await?;
        self.checked(digest, bytes, "configuration").await
    }

    async fn checked(&self, digest: &Sha256, bytes: Vec<u8>, what: &str) -> Result<Vec<u8>, ImageError> {
        if Sha256::of(&bytes) != *digest {
            return Err(ImageError::Digest { what: what.into(), expected: digest.hex().into() });
        }
        self.keep(digest, &bytes).await?;
        Ok(bytes)
    }

    /// A description that an earlier pull brought, if it is whole.
    async fn kept(&self, digest: &Sha256) -> Option<Vec<u8>> {
        let path = self.images.join(manifest::blob_name(digest));
        let found = tokio::fs::metadata(&path).await.ok()?;
        if found.len() > client::DESCRIPTION_BYTES_MAX {
            return None;
        }
        let bytes = tokio::fs::read(&path).await.ok()?;
        (Sha256::of(&bytes) == *digest).then_some(bytes)
    }

    async fn keep(&self, digest: &Sha256, bytes: &[u8]) -> Result<(), ImageError> {
        let (images, digest, bytes) = (self.images.clone(), digest.clone(), bytes.to_vec());
        let written =
            tokio::task::spawn_blocking(move || records::write_blob(&images, &digest, &bytes)).await;
        written.map_err(|error| ImageError::io("writing a description")(error.into()))?
    }

    /// Downloads the layers that are not in the store.
    async fn download(
        &self,
        chosen: &Chosen,
        turns: &Turns,
        progress: &watch::Sender<PullProgress>,
    ) -> Result<(), ImageError> {
        let mut missing: Vec<(Wanted, PathBuf)> = Vec::new();
        let mut total = 0_u64;
        for layer in &chosen.layers {
            let folder = self.images.join("layers").join(layer.diff_id.hex());
            let (Some(digest), false) = (&layer.digest, folder.is_dir()) else { continue };
            if missing.iter().any(|(wanted, _)| wanted.digest == *digest) {
                continue;
            }
            let size = layer.size.ok_or_else(|| ImageError::malformed("manifest: a layer has no size"))?;
            total = total.saturating_add(size);
            missing.push((Wanted { digest: digest.clone(), size }, folder));
        }
        if total > self.options.packed_bytes_max {
            let limit = self.options.packed_bytes_max;
            return Err(ImageError::TooLarge { what: "size of the image", limit });
        }
        progress.send_modify(|progress| {
            progress.stage = PullStage::Downloading;
            progress.layers = missing
                .iter()
                .map(|(wanted, _)| LayerProgress {
                    digest: format!("sha256:{}", wanted.digest.hex()),
                    bytes: 0,
                    total: wanted.size,
                })
                .collect();
        });
        let slots = Arc::new(Semaphore::new(DOWNLOADS_MAX));
        // Dropped with this future, and with it what is on its way.
        let mut downloads = JoinSet::new();
        for (index, (wanted, folder)) in missing.into_iter().enumerate() {
            let (remote, slots, turns) = (Arc::clone(&self.remote), Arc::clone(&slots), turns.clone());
            let path = self.images.join(manifest::blob_name(&wanted.digest));
            let progress = progress.clone();
            downloads.spawn(async move {
                let _slot = slots.acquire_owned().await;
                let _turn = turns.take(&wanted.digest).await;
                let on_length = |length: u64| {
                    progress.send_modify(|progress| {
                        if let Some(layer) = progress.layers.get_mut(index) {
                            layer.bytes = length;
                        }
                    });
                };
                // Another pull brought it while this one waited.
                if folder.is_dir() || path.is_file() {
                    on_length(wanted.size);
                    return Ok(());
                }
                download(&remote, &wanted, &path, &on_length).await
            });
        }
        while let Some(done) = downloads.join_next().await {
            done.map_err(|error| ImageError::io("downloading")(error.into()))??;
        }
        Ok(())
    }
}
