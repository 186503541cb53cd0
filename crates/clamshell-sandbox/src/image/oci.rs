//! Images from OCI layouts and archives: chosen by name and platform, checked against their
//! digests, unpacked into a store of layers that images share.
//!
//! The store: `layers/<diff id>/` holds one unpacked layer each, ready as a lower of an overlay
//! (whiteouts as devices 0:0, opaque folders by attribute). A layer is unpacked beside its place
//! and renamed when it is whole, on disk and checked; what a crash leaves in `tmp/` is removed by
//! the next one who unpacks.
//!
//! Every byte of an image is hostile: see `tree` for what keeps names inside, `layer` for the
//! bounds. Registries are spoken to elsewhere: what they send lies below the store as a layout,
//! `blobs/sha256/<hex>`.

mod config;
pub(in crate::image) mod digest;
mod error;
mod layer;
pub(in crate::image) mod manifest;
pub(in crate::image) mod name;
pub(in crate::image) mod source;
#[cfg(test)]
mod tests;
pub(in crate::image) mod tree;

use std::{
    collections::HashSet,
    fs::File,
    io::{BufRead, BufReader, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use clamshell_domain::ImageConfig;
use flate2::bufread::MultiGzDecoder;
use rustix::fs::{FlockOperation, RenameFlags};

use self::{
    digest::{Hashing, Sha256},
    manifest::LayerPart,
    source::Source,
    tree::Tree,
};
pub use self::{error::ImageError, layer::UnpackLimits};

/// An image whose layers all lie in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackedImage {
    /// Folders of the layers, top first, as an overlay wants them. None is there twice.
    pub layers: Vec<PathBuf>,
    /// What the image says about its program.
    pub config: ImageConfig,
    /// Digest of the manifest (of the configuration, for `docker save` archives without one):
    /// `sha256:<hex>`.
    pub digest: String,
}

/// How to unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackOptions {
    /// Bounds.
    pub limits: UnpackLimits,
    /// Write a layer through to the disk before it gets its name, so that a power failure cannot
    /// leave half of it. Only tests switch it off.
    pub is_durable: bool,
}

impl Default for UnpackOptions {
    fn default() -> Self {
        Self { limits: UnpackLimits::default(), is_durable: true }
    }
}

/// Makes sure that the layers of an image are in `store_dir`. Blocks: disk and digests.
///
/// `source` is an OCI layout folder, an archive of one, or a `docker save` archive; archives may be
/// compressed with gzip. `reference` chooses by tag or name when there are several images.
///
/// # Errors
/// [`ImageError`]; the store has whole layers only, whatever happened.
pub fn unpack_layout(
    source: &Path,
    reference: Option<&str>,
    store_dir: &Path,
) -> Result<UnpackedImage, ImageError> {
    unpack_layout_with(source, reference, store_dir, UnpackOptions::default())
}

/// [`unpack_layout`] with bounds of its own.
///
/// # Errors
/// As [`unpack_layout`].
pub fn unpack_layout_with(
    source: &Path,
    reference: Option<&str>,
    store_dir: &Path,
    options: UnpackOptions,
) -> Result<UnpackedImage, ImageError> {
    let store = Store::open(store_dir)?;
    let source = Source::open(source, &store.tmp, options.limits.unpacked_bytes_max)?;
    let chosen = manifest::choose(&source, reference)?;
    store.complete(&source, chosen, options)
}

/// [`unpack_layout_with`] for an image whose blobs lie in the store itself, by the digest of its manifest or index.
pub(in crate::image) fn unpack_blobs(
    store_dir: &Path,
    digest: &Sha256,
    options: UnpackOptions,
) -> Result<UnpackedImage, ImageError> {
    let store = Store::open(store_dir)?;
    let source = Source::open(store_dir, &store.tmp, options.limits.unpacked_bytes_max)?;
    let chosen = manifest::choose_digest(&source, digest)?;
    store.complete(&source, chosen, options)
}

/// The image if all of it is in the store already.
pub(in crate::image) fn find_blobs(store_dir: &Path, digest: &Sha256) -> Option<UnpackedImage> {
    let store = Store::open(store_dir).ok()?;
    let source = Source::open(store_dir, &store.tmp, 0).ok()?;
    let chosen = manifest::choose_digest(&source, digest).ok()?;
    let is_whole = chosen.layers.iter().all(|layer| store.layer(layer).is_dir());
    let config = config::checked(chosen.config.config.unwrap_or_default()).ok()?;
    is_whole.then(|| store.unpacked(&chosen.digest, &chosen.layers, config))
}

/// The manifests, configuration and layers that an image is made of, as far as they can be read: names of files in
/// `blobs/sha256` and of folders in `layers`.
pub(in crate::image) fn parts_of(store_dir: &Path, digest: &Sha256) -> (Vec<String>, Vec<String>) {
    let mut blobs = vec![digest.hex().to_owned()];
    let mut layers = Vec::new();
    if let Ok(store) = Store::open(store_dir)
        && let Ok(source) = Source::open(store_dir, &store.tmp, 0)
        && let Ok((way, chosen)) = manifest::choose_with_way(&source, digest)
    {
        blobs.extend(way.into_iter().map(|digest| digest.hex().to_owned()));
        layers.extend(chosen.layers.iter().map(|layer| layer.diff_id.hex().to_owned()));
    }
    (blobs, layers)
}

/// The layers, and a folder for what is not whole yet.
pub(in crate::image) struct Store {
    pub(in crate::image) layers: PathBuf,
    pub(in crate::image) tmp: PathBuf,
}

impl Store {
    pub(in crate::image) fn open(store_dir: &Path) -> Result<Self, ImageError> {
        let store = Self { layers: store_dir.join("layers"), tmp: store_dir.join("tmp") };
        // Setuid programs of images lie here: nobody else on the machine gets near them.
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        for dir in [&store.layers, &store.tmp] {
            builder.create(dir).map_err(ImageError::io("making the store"))?;
        }
        Ok(store)
    }

    fn layer(&self, layer: &LayerPart) -> PathBuf {
        self.layers.join(layer.diff_id.hex())
    }

    fn complete(
        &self,
        source: &Source,
        chosen: manifest::Chosen,
        options: UnpackOptions,
    ) -> Result<UnpackedImage, ImageError> {
        // Before the layers, which take longer.
        let config = config::checked(chosen.config.config.unwrap_or_default())?;
        self.add_missing(source, &chosen.layers, options)?;
        Ok(self.unpacked(&chosen.digest, &chosen.layers, config))
    }

    fn unpacked(&self, digest: &Sha256, layers: &[LayerPart], config: ImageConfig) -> UnpackedImage {
        // The same layer twice (often an empty one) is refused by the overlay; the upper one hides the
        // lower one completely.
        let mut seen = HashSet::new();
        let tops = layers.iter().rev().filter(|layer| seen.insert(layer.diff_id.clone()));
        let layers = tops.map(|layer| self.layer(layer)).collect();
        UnpackedImage { layers, config, digest: format!("sha256:{}", digest.hex()) }
    }

    /// Keeps everyone else from changing the store, and removes what a crash left half done. Held as long as the file.
    pub(in crate::image) fn lock(&self) -> Result<File, ImageError> {
        let lock = File::open(&self.tmp).map_err(ImageError::io("locking the store"))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(ImageError::errno("locking the store"))?;
        self.remove_leftovers()?;
        Ok(lock)
    }

    fn add_missing(
        &self,
        source: &Source,
        layers: &[LayerPart],
        options: UnpackOptions,
    ) -> Result<(), ImageError> {
        let is_missing = |layer: &&LayerPart| !self.layer(layer).is_dir();
        if !layers.iter().any(|layer| is_missing(&layer)) {
            return Ok(());
        }
        // One at a time, so that nobody unpacks a layer twice and leftovers are known as such.
        let _lock = self.lock()?;
        let mut limits = options.limits;
        for layer in layers {
            if is_missing(&layer) {
                let bytes_max = options.limits.unpacked_bytes_max;
                self.add(source, layer, &mut limits, options.is_durable).map_err(|error| match error {
                    // Name the limit of the image, not what was left of it.
                    ImageError::TooLarge { what: UNPACKED, .. } => {
                        ImageError::TooLarge { what: UNPACKED, limit: bytes_max }
                    }
                    error => error,
                })?;
            }
        }
        Ok(())
    }

    fn remove_leftovers(&self) -> Result<(), ImageError> {
        let doing = "cleaning the store";
        for entry in std::fs::read_dir(&self.tmp).map_err(ImageError::io(doing))? {
            let entry = entry.map_err(ImageError::io(doing))?;
            remove_tree(&entry.path()).map_err(ImageError::io(doing))?;
        }
        Ok(())
    }

    fn add(
        &self,
        source: &Source,
        layer: &LayerPart,
        limits: &mut UnpackLimits,
        is_durable: bool,
    ) -> Result<(), ImageError> {
        let staged = self.tmp.join(layer.diff_id.hex());
        std::fs::create_dir(&staged).map_err(ImageError::io("making a layer folder"))?;
        let added = self.fill(source, layer, limits, &staged, is_durable);
        if added.is_err() {
            // Nothing lost if this fails too: it is in `tmp/`, and the next one cleans.
            let _ = std::fs::remove_dir_all(&staged);
        }
        added
    }

    fn fill(
        &self,
        source: &Source,
        layer: &LayerPart,
        limits: &mut UnpackLimits,
        staged: &Path,
        is_durable: bool,
    ) -> Result<(), ImageError> {
        let mut tree = Tree::open(staged)?;
        unpack_layer(source, layer, &mut tree, limits)?;
        if is_durable {
            rustix::fs::syncfs(tree.root()).map_err(ImageError::errno("writing the store to disk"))?;
        }
        let cwd = rustix::fs::CWD;
        rustix::fs::renameat_with(cwd, staged, cwd, self.layer(layer), RenameFlags::NOREPLACE)
            .map_err(ImageError::errno("naming a layer"))?;
        if is_durable {
            let layers = File::open(&self.layers).map_err(ImageError::io("writing the store to disk"))?;
            layers.sync_all().map_err(ImageError::io("writing the store to disk"))?;
        }
        Ok(())
    }
}

/// Removes a tree even where its own modes forbid it to an ordinary user.
pub(in crate::image) fn remove_tree(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if std::fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    if !std::fs::symlink_metadata(path)?.is_dir() {
        return std::fs::remove_file(path);
    }
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            // Of the entry itself: a link is never followed.
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    std::fs::remove_dir_all(path)
}

const UNPACKED: &str = "unpacked size";

fn unpack_layer(
    source: &Source,
    layer: &LayerPart,
    tree: &mut Tree,
    limits: &mut UnpackLimits,
) -> Result<(), ImageError> {
    let zstd =
        || ImageError::Unsupported { what: "layers compressed with zstd; convert the image to gzip".into() };
    if layer.media_type.ends_with("zstd") {
        return Err(zstd());
    }
    let (packed, length) = source.part(&layer.name)?;
    let mut packed = Hashing::new(packed, length);
    let plain = {
        let mut buffered = BufReader::with_capacity(64 << 10, &mut packed);
        let magic = buffered.fill_buf().map_err(ImageError::io("reading a layer"))?;
        let content: Box<dyn Read + '_> = if magic.starts_with(&[0x1f, 0x8b]) {
            Box::new(MultiGzDecoder::new(buffered))
        } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            return Err(zstd());
        } else {
            Box::new(buffered)
        };
        let mut plain = Hashing::new(content, limits.unpacked_bytes_max);
        let unpacked = layer::unpack_tar(&mut plain, tree, limits.entries_max).and_then(|entries| {
            // What is behind the end mark of the archive belongs to the digests all the same.
            std::io::copy(&mut plain, &mut std::io::sink()).map_err(ImageError::io("reading a layer"))?;
            Ok(entries)
        });
        if plain.is_exceeded() {
            return Err(ImageError::TooLarge { what: UNPACKED, limit: limits.unpacked_bytes_max });
        }
        limits.entries_max -= unpacked?;
        limits.unpacked_bytes_max = plain.left();
        plain.finish()
    };
    let wrong = |expected: &digest::Sha256| ImageError::Digest {
        what: "layer".into(),
        expected: expected.hex().into(),
    };
    if plain != layer.diff_id {
        return Err(wrong(&layer.diff_id));
    }
    let packed = packed.finish();
    match &layer.digest {
        Some(digest) if *digest != packed => Err(wrong(digest)),
        _ => Ok(()),
    }
}
