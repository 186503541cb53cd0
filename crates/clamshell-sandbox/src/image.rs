//! Root file systems of sandboxes: this machine's own system, a directory, an OCI image from a file or a registry, or code
//! from a zip over one of these.

pub mod code;
mod collect;
mod host;
pub mod oci;
mod records;
pub mod registry;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use clamshell_domain::{Artifact, BoxFuture, ImageConfig, ObjectSource};
use clamshell_protocol::{BindSpec, LayerSpec};
use tokio::sync::watch;

use self::{
    code::CodeLimits,
    collect::Users,
    oci::{digest::Sha256, find_blobs, unpack_layout},
    records::{Records, Use},
    registry::{PullOptions, PullProgress, Reference, Registries, Turns},
};
pub use self::{
    collect::{CollectError, Collected},
    oci::ImageError,
};
use crate::fetch::Client;

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

/// Where images and code come from beside this machine's own files.
#[derive(Debug, Clone, Default)]
pub struct ImageSources {
    /// Registries and credentials.
    pub registries: Registries,
    /// Reads code zips; without it there are none.
    pub objects: Option<Arc<dyn ObjectSource>>,
    /// Bounds of pulls.
    pub pull: PullOptions,
    /// Bounds of zips.
    pub code: CodeLimits,
}

/// Finds and prepares root file systems below one data folder.
#[derive(Debug)]
pub struct ImageStore {
    data_dir: PathBuf,
    host_includes: Vec<PathBuf>,
    sources: ImageSources,
    fetch: Client,
    records: Records,
    turns: Turns,
    users: Users,
    host: Mutex<Option<RootImage>>,
    unpacked: Mutex<BTreeMap<Key, RootImage>>,
    /// Images of registries and code, by digest and what else matters.
    pinned: Mutex<BTreeMap<String, RootImage>>,
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
            sources: ImageSources::default(),
            fetch: Client::default(),
            records: Records::new(&data_dir.join("images")),
            turns: Turns::default(),
            users: Users::default(),
            host: Mutex::new(None),
            unpacked: Mutex::new(BTreeMap::new()),
            pinned: Mutex::new(BTreeMap::new()),
        }
    }

    /// The same store with registries and buckets.
    #[must_use]
    pub fn with_sources(self, sources: ImageSources) -> Self {
        Self { sources, ..self }
    }

    fn images(&self) -> PathBuf {
        self.data_dir.join("images")
    }

    /// Makes an artifact ready for sandboxes, pulling or fetching what is missing, and gives it with the digest that it has now:
    /// a version that keeps this stays the same whatever happens to its tag or object.
    ///
    /// `progress` is told how far a pull is. Cancel-safe: what was downloaded is taken up by the next call.
    ///
    /// # Errors
    /// [`ImageError`]; its text is for whoever named the artifact.
    pub fn pin<'a>(
        &'a self,
        artifact: &'a Artifact,
        progress: Option<watch::Sender<PullProgress>>,
    ) -> BoxFuture<'a, Result<Artifact, ImageError>> {
        Box::pin(async move {
            match artifact {
                Artifact::Image { reference, digest } => {
                    let pulled = self.pull(reference, digest.as_deref(), progress).await?;
                    Ok(Artifact::Image { reference: reference.clone(), digest: Some(pulled.digest) })
                }
                Artifact::Code { location, runtime, entry_point, base, digest } => {
                    let base = self.pin(base, progress).await?;
                    let digest = match digest {
                        Some(digest) => digest.clone(),
                        None => self.fetch_code(location, None).await?,
                    };
                    let pinned = Artifact::Code {
                        location: location.clone(),
                        runtime: *runtime,
                        entry_point: entry_point.clone(),
                        base: Box::new(base),
                        digest: Some(digest),
                    };
                    self.ready(&pinned).await?;
                    Ok(pinned)
                }
                Artifact::Host | Artifact::Directory { .. } | Artifact::Oci { .. } => Ok(artifact.clone()),
            }
        })
    }

    /// The root file system of an artifact, pulling or fetching what is missing. What was resolved once on this server stays:
    /// a tag that moved is seen by [`ImageStore::pin`] only.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn ready<'a>(&'a self, artifact: &'a Artifact) -> BoxFuture<'a, Result<RootImage, ImageError>> {
        Box::pin(async move {
            if let Some(image) = self.prepared(artifact) {
                return Ok(image);
            }
            match artifact {
                Artifact::Image { reference, digest } => {
                    let known = match self.image_digest(reference, digest.as_deref())? {
                        Some(known) => Some(known),
                        None => digest.clone(),
                    };
                    if let Some(image) = known.as_deref().and_then(|known| self.find_pulled(known)) {
                        return Ok(image);
                    }
                    self.pull(reference, known.as_deref(), None).await.map(|pulled| pulled.image)
                }
                Artifact::Code { location, runtime, entry_point, base, digest } => {
                    let base = self.ready(base).await?;
                    let digest = self.ensure_code(location, digest.as_deref()).await?;
                    let image = self.code_image(base, &digest, *runtime, entry_point)?;
                    self.remember(artifact, &image);
                    Ok(image)
                }
                Artifact::Host | Artifact::Directory { .. } | Artifact::Oci { .. } => self.prepare(artifact),
            }
        })
    }

    /// The digest that an image has on this server: its own, else what its name meant when it was pulled.
    fn image_digest(&self, reference: &str, digest: Option<&str>) -> Result<Option<String>, ImageError> {
        if let Some(digest) = digest {
            return Ok(Some(digest.to_owned()));
        }
        let reference = Reference::parse(reference).map_err(registry::RegistryError::from)?;
        let own = reference.digest().map(str::to_owned);
        Ok(own.or_else(|| self.records.digest(&records::image_name(&reference))))
    }

    /// A pulled image by its digest, if all of it is there.
    fn find_pulled(&self, digest: &str) -> Option<RootImage> {
        if let Some(image) = lock(&self.pinned).get(digest) {
            return Some(image.clone());
        }
        let found = find_blobs(&self.images(), &Sha256::parse(digest).ok()?)?;
        let image = root_image(&found).ok()?;
        self.remember_as(digest.to_owned(), &image);
        Some(image)
    }

    fn remember(&self, artifact: &Artifact, image: &RootImage) {
        if let Some(key) = pinned_key(artifact) {
            self.remember_as(key, image);
        }
    }

    fn remember_as(&self, key: String, image: &RootImage) {
        let mut pinned = lock(&self.pinned);
        if pinned.len() >= REMEMBERED_MAX {
            pinned.clear();
        }
        pinned.insert(key, image.clone());
    }

    fn forget_all(&self) {
        lock(&self.pinned).clear();
        lock(&self.unpacked).clear();
    }

    /// The root file system of an artifact if it needs no preparation. Never takes long.
    pub fn prepared(&self, artifact: &Artifact) -> Option<RootImage> {
        match artifact {
            Artifact::Host => lock(&self.host).clone(),
            Artifact::Directory { .. } => None,
            Artifact::Image { .. } | Artifact::Code { .. } => {
                lock(&self.pinned).get(&pinned_key(artifact)?).cloned()
            }
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
                let _user = self.users.enter();
                let key = key(path, reference.as_deref())?;
                let found = unpack_layout(path, reference.as_deref(), &self.images())?;
                let image = root_image(&found)?;
                // The file may change or go while sessions still use these layers.
                let layers =
                    found.layers.iter().filter_map(|layer| layer.file_name()?.to_str().map(str::to_owned));
                let newest = Use { digest: found.digest.clone(), layers: layers.collect() };
                self.records.add(&records::file_name(path, reference.as_deref()), newest)?;
                let mut unpacked = lock(&self.unpacked);
                if unpacked.len() >= REMEMBERED_MAX {
                    unpacked.clear();
                }
                unpacked.insert(key, image.clone());
                Ok(image)
            }
            // The network is not for those who block: see `ready`.
            Artifact::Image { reference, digest } => {
                let known = self.image_digest(reference, digest.as_deref())?;
                let found = known.and_then(|known| self.find_pulled(&known));
                found.ok_or_else(|| ImageError::NotPulled { reference: reference.clone() })
            }
            Artifact::Code { location, runtime, entry_point, base, digest } => {
                let base = self.prepare(base)?;
                let digest = self.code_digest(location, digest.as_deref());
                let digest = digest.filter(|digest| self.has_code(digest));
                let digest =
                    digest.ok_or_else(|| ImageError::NotPulled { reference: location.key.clone() })?;
                let image = self.code_image(base, &digest, *runtime, entry_point)?;
                self.remember(artifact, &image);
                Ok(image)
            }
        }
    }
}

/// What an image is remembered by; only with a digest it cannot change.
fn pinned_key(artifact: &Artifact) -> Option<String> {
    match artifact {
        Artifact::Image { digest, .. } => digest.clone(),
        Artifact::Code { digest: Some(_), base, .. } if !matches!(**base, Artifact::Oci { .. }) => {
            serde_json::to_string(artifact).ok()
        }
        _ => None,
    }
}

fn root_image(image: &oci::UnpackedImage) -> Result<RootImage, ImageError> {
    Ok(RootImage {
        layers: image.layers.iter().map(|layer| layer_spec(layer)).collect::<Result<_, _>>()?,
        binds: Vec::new(),
        add_account: true,
        config: Some(image.config.clone()),
    })
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
