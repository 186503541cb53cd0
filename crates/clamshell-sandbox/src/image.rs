//! Root file systems of sandboxes: this machine's own system, a directory, or an OCI image.

mod host;
pub mod oci;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use clamshell_domain::{Artifact, ImageConfig};
use clamshell_protocol::{BindSpec, LayerSpec};

pub use self::oci::ImageError;
use self::oci::unpack_layout;

/// Unpacked images remembered; each entry is a few paths. Beyond this all are looked up again.
const REMEMBERED_MAX: usize = 256;

/// What a root file system is assembled from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootImage {
    /// Read-only layers, the top one first.
    pub layers: Vec<LayerSpec>,
    /// Folders of this machine shown inside.
    pub binds: Vec<BindSpec>,
    /// The image may lack the agent's account.
    pub add_account: bool,
    /// Entry point and environment; `None` for images that have none.
    pub config: Option<ImageConfig>,
}

/// Finds and prepares root file systems below one data folder.
#[derive(Debug)]
pub struct ImageStore {
    data_dir: PathBuf,
    host_includes: Vec<PathBuf>,
    host: Mutex<Option<RootImage>>,
    unpacked: Mutex<BTreeMap<Key, RootImage>>,
}

/// An OCI image file or folder as it was when it was unpacked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    path: PathBuf,
    reference: Option<String>,
    changed: (i64, i64, u64),
}

impl ImageStore {
    /// A store in `data_dir`. `host_includes` are folders of this machine that the host image shows beside its own.
    pub fn new(data_dir: &Path, host_includes: Vec<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            host_includes,
            host: Mutex::new(None),
            unpacked: Mutex::new(BTreeMap::new()),
        }
    }

    /// The root file system of an artifact if it needs no preparation. Never takes long.
    pub fn prepared(&self, artifact: &Artifact) -> Option<RootImage> {
        match artifact {
            Artifact::Host => lock(&self.host).clone(),
            Artifact::Directory { .. } | Artifact::Image { .. } | Artifact::Code { .. } => None,
            Artifact::Oci { path, reference } => {
                let key = key(path, reference.as_deref()).ok()?;
                lock(&self.unpacked).get(&key).cloned()
            }
        }
    }

    /// The root file system of an artifact; the first time this may unpack an image. Blocks.
    ///
    /// # Errors
    /// [`ImageError`] when the image is missing, malformed or hostile.
    pub fn prepare(&self, artifact: &Artifact) -> Result<RootImage, ImageError> {
        if let Some(image) = self.prepared(artifact) {
            return Ok(image);
        }
        match artifact {
            Artifact::Host => {
                // Held while it is built: the second of two sessions waits for the first's result.
                let mut host = lock(&self.host);
                if let Some(image) = &*host {
                    return Ok(image.clone());
                }
                let image = host::build(&self.data_dir, &self.host_includes)?;
                *host = Some(image.clone());
                Ok(image)
            }
            Artifact::Directory { path } => directory(path),
            Artifact::Oci { path, reference } => {
                let key = key(path, reference.as_deref())?;
                let image = unpack_layout(path, reference.as_deref(), &self.data_dir.join("images"))?;
                let image = RootImage {
                    layers: image.layers.iter().map(|layer| layer_spec(layer)).collect::<Result<_, _>>()?,
                    binds: Vec::new(),
                    add_account: true,
                    config: Some(image.config),
                };
                let mut unpacked = lock(&self.unpacked);
                if unpacked.len() >= REMEMBERED_MAX {
                    unpacked.clear();
                }
                unpacked.insert(key, image.clone());
                Ok(image)
            }
            Artifact::Image { .. } | Artifact::Code { .. } => {
                Err(ImageError::Unsupported { what: "images of registries and code zips".into() })
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A panic while it was held left the old value in place: each is replaced as a whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn key(path: &Path, reference: Option<&str>) -> Result<Key, ImageError> {
    use std::os::unix::fs::MetadataExt;
    // A layout changes with its index, an archive with itself.
    let found = fs::metadata(path.join("index.json"))
        .or_else(|_| fs::metadata(path))
        .map_err(ImageError::io("looking for the image"))?;
    Ok(Key {
        path: path.to_owned(),
        reference: reference.map(str::to_owned),
        changed: (found.mtime(), found.mtime_nsec(), found.len()),
    })
}

fn directory(path: &Path) -> Result<RootImage, ImageError> {
    let found = fs::metadata(path).map_err(ImageError::io("looking for the image folder"))?;
    if !found.is_dir() || !path.is_absolute() || path == Path::new("/") {
        return Err(ImageError::NotAnImage { reason: "an absolute path of a folder is needed".to_owned() });
    }
    let real = fs::canonicalize(path).map_err(ImageError::io("looking for the image folder"))?;
    Ok(RootImage { layers: vec![layer_spec(&real)?], binds: Vec::new(), add_account: true, config: None })
}

fn layer_spec(path: &Path) -> Result<LayerSpec, ImageError> {
    Ok(LayerSpec { path: text(path)?, idmapped: true })
}

fn text(path: &Path) -> Result<String, ImageError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| ImageError::NotAnImage { reason: "a path is not UTF-8".to_owned() })
}
