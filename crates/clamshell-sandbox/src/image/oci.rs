//! Images from OCI layouts and archives: chosen by name and platform, checked against their
//! digests, unpacked into a store of layers that images share.
//!
//! The store: `layers/<diff id>/` holds one unpacked layer each, ready as a lower of an overlay
//! (whiteouts as devices 0:0, opaque folders by attribute). A layer is unpacked beside its place
//! and renamed when it is whole, on disk and checked; what a crash leaves in `tmp/` is removed by
//! the next one who unpacks.
//!
//! Every byte of an image is hostile: see `tree` for what keeps names inside, `layer` for the
//! bounds. Registries are not spoken to here.

mod config;
mod digest;
mod error;
mod layer;
mod manifest;
mod name;
mod source;
#[cfg(test)]
mod tests;
mod tree;

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

use self::{digest::Hashing, manifest::LayerPart, source::Source, tree::Tree};
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
    // Before the layers, which take longer.
    let config = config::checked(chosen.config.config.unwrap_or_default())?;
    store.add_missing(&source, &chosen.layers, options)?;

    // The same layer twice (often an empty one) is refused by the overlay; the upper one hides the
    // lower one completely.
    let mut seen = HashSet::new();
    let tops = chosen.layers.iter().rev().filter(|layer| seen.insert(layer.diff_id.clone()));
    let layers = tops.map(|layer| store.layer(layer)).collect();
    Ok(UnpackedImage {
        layers,
        config,
        digest: format!("sha256:{}", chosen.digest.hex()),
    })
}

struct Store {
    layers: PathBuf,
    tmp: PathBuf,
}

impl Store {
    fn open(store_dir: &Path) -> Result<Self, ImageError> {
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
        let lock = File::open(&self.tmp).map_err(ImageError::io("locking the store"))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)
            .map_err(ImageError::errno("locking the store"))?;
        self.remove_leftovers()?;
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
            std::fs::remove_dir_all(entry.path()).map_err(ImageError::io(doing))?;
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
