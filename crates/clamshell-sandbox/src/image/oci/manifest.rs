//! From the index of an image to its layers: by name, then by platform, each part checked against
//! its digest.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{digest::Sha256, error::ImageError, source::Source};

/// Largest index, manifest or configuration: registries stop at 4 MiB.
const DESCRIPTION_BYTES_MAX: u64 = 4 << 20;
/// Index in index in index; two levels are seen in the wild.
pub(in crate::image) const INDEX_DEPTH_MAX: usize = 4;
/// Most layers of one image, as of Docker: the overlay takes little more.
const LAYERS_MAX: usize = 127;

/// An image chosen.
#[derive(Debug)]
pub(in crate::image) struct Chosen {
    pub(in crate::image) digest: Sha256,
    pub(in crate::image) config: ConfigFile,
    /// Bottom first.
    pub(in crate::image) layers: Vec<LayerPart>,
}

/// A layer and where it lies.
#[derive(Debug)]
pub(in crate::image) struct LayerPart {
    pub(in crate::image) name: String,
    /// Bytes as they lie there, where the manifest says.
    pub(in crate::image) size: Option<u64>,
    /// Of the bytes as they lie there; `docker save` of old has none.
    pub(in crate::image) digest: Option<Sha256>,
    /// Of the plain tar.
    pub(in crate::image) diff_id: Sha256,
    pub(in crate::image) media_type: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: Option<u64>,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Schema 1 of Docker: no configuration, layers by another name.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignedManifest {
    #[serde(rename = "fsLayers")]
    _layers: serde::de::IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The configuration of an image, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
pub(in crate::image) struct ConfigFile {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    pub(in crate::image) config: Option<ProcessConfig>,
    rootfs: RootFs,
}

/// What the image says about its program.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(in crate::image) struct ProcessConfig {
    pub(in crate::image) env: Option<Vec<String>>,
    pub(in crate::image) working_dir: Option<String>,
    pub(in crate::image) user: Option<String>,
    pub(in crate::image) entrypoint: Option<Vec<String>>,
    pub(in crate::image) cmd: Option<Vec<String>>,
    pub(in crate::image) stop_signal: Option<String>,
    /// `port/protocol`, each with an empty object.
    pub(in crate::image) exposed_ports: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

#[derive(Debug, Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<String>,
}

/// Finds the image of that name for this machine.
pub(in crate::image) fn choose(source: &Source, reference: Option<&str>) -> Result<Chosen, ImageError> {
    if source.has("index.json") {
        choose_layout(source, reference)
    } else if source.has("manifest.json") {
        choose_saved(source, reference)
    } else {
        Err(ImageError::NotAnImage { reason: "there is neither `index.json` nor `manifest.json`".into() })
    }
}

fn choose_layout(source: &Source, reference: Option<&str>) -> Result<Chosen, ImageError> {
    let index: Index = parse("index.json", &source.bytes("index.json", DESCRIPTION_BYTES_MAX)?)?;
    choose_digest(source, &Sha256::parse(&by_reference(index.manifests, reference)?.digest)?)
}

/// The image of that manifest or index, for this machine.
pub(in crate::image) fn choose_digest(source: &Source, digest: &Sha256) -> Result<Chosen, ImageError> {
    choose_with_way(source, digest).map(|(_, chosen)| chosen)
}

/// The image, and the digests of the manifests on the way to it with that of its configuration.
pub(in crate::image) fn choose_with_way(
    source: &Source,
    digest: &Sha256,
) -> Result<(Vec<Sha256>, Chosen), ImageError> {
    let mut digest = digest.clone();
    let mut way = Vec::new();
    for _ in 0..INDEX_DEPTH_MAX {
        way.push(digest.clone());
        match step(&blob(source, &digest, "manifest")?)? {
            Step::Descend(next) => digest = next,
            Step::Image(image) => {
                way.push(image.config.clone());
                let config = blob(source, &image.config, "configuration")?;
                return Ok((way, image.with_config(digest, &config)?));
            }
        }
    }
    Err(too_deep())
}

/// Indexes go on into each other.
pub(in crate::image) fn too_deep() -> ImageError {
    ImageError::TooLarge { what: "depth of indexes", limit: INDEX_DEPTH_MAX as u64 }
}

/// What a manifest leads to.
pub(in crate::image) enum Step {
    /// An index: the manifest for this machine.
    Descend(Sha256),
    /// An image.
    Image(Described),
}

/// An image whose configuration is still to be read.
pub(in crate::image) struct Described {
    /// Digest of the configuration.
    pub(in crate::image) config: Sha256,
    layers: Vec<Descriptor>,
}

/// Reads one manifest.
pub(in crate::image) fn step(bytes: &[u8]) -> Result<Step, ImageError> {
    // By shape and not by media type, which old tools leave out.
    if let Ok(index) = serde_json::from_slice::<Index>(bytes) {
        return Ok(Step::Descend(Sha256::parse(&by_platform(index.manifests)?.digest)?));
    }
    if serde_json::from_slice::<SignedManifest>(bytes).is_ok() {
        return Err(ImageError::Unsupported { what: "manifests of schema 1; push the image again".into() });
    }
    let manifest: Manifest = parse("manifest", bytes)?;
    if manifest.layers.len() > LAYERS_MAX {
        return Err(ImageError::TooLarge { what: "number of layers", limit: LAYERS_MAX as u64 });
    }
    Ok(Step::Image(Described { config: Sha256::parse(&manifest.config.digest)?, layers: manifest.layers }))
}

impl Described {
    /// The image of the manifest with this digest and the configuration with these bytes, already checked.
    pub(in crate::image) fn with_config(self, digest: Sha256, config: &[u8]) -> Result<Chosen, ImageError> {
        let config: ConfigFile = parse("configuration", config)?;
        let diff_ids = diff_ids(&config, self.layers.len())?;
        let mut layers = Vec::with_capacity(diff_ids.len());
        for (layer, diff_id) in self.layers.into_iter().zip(diff_ids) {
            let digest = Sha256::parse(&layer.digest)?;
            let (name, media_type, size) = (blob_name(&digest), layer.media_type, layer.size);
            layers.push(LayerPart { name, size, digest: Some(digest), diff_id, media_type });
        }
        checked(Chosen { digest, config, layers })
    }
}

fn choose_saved(source: &Source, reference: Option<&str>) -> Result<Chosen, ImageError> {
    let mut images: Vec<SavedImage> =
        parse("manifest.json", &source.bytes("manifest.json", DESCRIPTION_BYTES_MAX)?)?;
    let names = |image: &SavedImage| image.repo_tags.clone().unwrap_or_default();
    let available = list(images.iter().flat_map(names));
    if let Some(reference) = reference {
        images.retain(|image| names(image).iter().any(|name| same_reference(name, reference)));
        if images.is_empty() {
            return Err(ImageError::NoSuchReference { reference: reference.into(), available });
        }
    } else if images.len() > 1 {
        return Err(ImageError::Ambiguous { available });
    }
    let Some(image) = images.into_iter().next() else {
        return Err(ImageError::NotAnImage { reason: "the archive holds no image".into() });
    };
    let bytes = source.bytes(&image.config, DESCRIPTION_BYTES_MAX)?;
    let digest = Sha256::of(&bytes);
    // The name is the digest: `<hex>.json`, or `blobs/sha256/<hex>`.
    let stem = image.config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
    if let Ok(named) = Sha256::parse(&format!("sha256:{stem}"))
        && named != digest
    {
        return Err(ImageError::Digest { what: "configuration".into(), expected: named.hex().into() });
    }
    let config: ConfigFile = parse("configuration", &bytes)?;
    let diff_ids = diff_ids(&config, image.layers.len())?;
    let layers = image.layers.into_iter().zip(diff_ids);
    let layers = layers
        .map(|(name, diff_id)| LayerPart {
            name,
            size: None,
            digest: None,
            diff_id,
            media_type: String::new(),
        })
        .collect();
    checked(Chosen { digest, config, layers })
}

fn checked(chosen: Chosen) -> Result<Chosen, ImageError> {
    let (os, architecture) = (&chosen.config.os, &chosen.config.architecture);
    let host = host_architecture();
    if (!os.is_empty() && os != "linux") || (!architecture.is_empty() && architecture != host) {
        return Err(ImageError::NoSuchPlatform {
            platform: format!("linux/{host}"),
            available: list([format!("{os}/{architecture}")]),
        });
    }
    Ok(chosen)
}

fn diff_ids(config: &ConfigFile, layers: usize) -> Result<Vec<Sha256>, ImageError> {
    if layers > LAYERS_MAX {
        return Err(ImageError::TooLarge { what: "number of layers", limit: LAYERS_MAX as u64 });
    }
    if layers == 0 || config.rootfs.diff_ids.len() != layers {
        return Err(ImageError::malformed("configuration: its layers are not those of the manifest"));
    }
    config.rootfs.diff_ids.iter().map(|id| Sha256::parse(id)).collect()
}

fn by_reference(mut manifests: Vec<Descriptor>, reference: Option<&str>) -> Result<Descriptor, ImageError> {
    let available = list(manifests.iter().flat_map(|manifest| names(manifest).map(str::to_owned)));
    if let Some(reference) = reference {
        manifests.retain(|manifest| {
            manifest.digest == reference || names(manifest).any(|name| same_reference(name, reference))
        });
        if manifests.is_empty() {
            return Err(ImageError::NoSuchReference { reference: reference.into(), available });
        }
    }
    if manifests.len() > 1 && manifests.iter().any(|manifest| manifest.platform.is_some()) {
        manifests = vec![by_platform(manifests)?];
    }
    manifests.dedup_by(|a, b| a.digest == b.digest);
    let mut manifests = manifests.into_iter();
    match (manifests.next(), manifests.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(ImageError::Ambiguous { available }),
        (None, _) => Err(ImageError::NotAnImage { reason: "the index is empty".into() }),
    }
}

fn by_platform(manifests: Vec<Descriptor>) -> Result<Descriptor, ImageError> {
    let host = host_architecture();
    let platform_of = |manifest: &Descriptor| {
        let platform = manifest.platform.as_ref();
        platform.map(|platform| format!("{}/{}", platform.os, platform.architecture))
    };
    let available = list(manifests.iter().filter_map(platform_of));
    let wanted = format!("linux/{host}");
    let mut fitting = manifests.iter().filter(|manifest| platform_of(manifest).as_ref() == Some(&wanted));
    match (fitting.next(), fitting.next()) {
        (Some(manifest), None) => Ok(manifest.clone()),
        (Some(first), Some(second)) if first.digest == second.digest => Ok(first.clone()),
        (Some(_), Some(_)) => Err(ImageError::Ambiguous { available }),
        // An index of one image without a platform: its configuration is checked later.
        (None, _) => match manifests.as_slice() {
            [only] if only.platform.is_none() => Ok(only.clone()),
            _ => Err(ImageError::NoSuchPlatform { platform: wanted, available }),
        },
    }
}

fn names(manifest: &Descriptor) -> impl Iterator<Item = &str> {
    let keys = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];
    let annotations = manifest.annotations.as_ref();
    keys.into_iter().filter_map(move |key| annotations?.get(key).map(String::as_str))
}

/// Whether a name in an image is the one asked for. `alpine` means `alpine:latest`, the tag alone
/// names an image, and the default registry may be left out.
fn same_reference(name: &str, asked: &str) -> bool {
    if name == asked || name == format!("{asked}:latest") {
        return true;
    }
    if !name.contains(['/', ':']) {
        return asked.rsplit_once(':').is_some_and(|(_, tag)| tag == name);
    }
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    let short = short.strip_prefix("library/").unwrap_or(short);
    short == asked
        || short == format!("{asked}:latest")
        || short.rsplit_once(':').is_some_and(|(_, tag)| tag == asked)
}

fn blob(source: &Source, digest: &Sha256, what: &str) -> Result<Vec<u8>, ImageError> {
    let bytes = source.bytes(&blob_name(digest), DESCRIPTION_BYTES_MAX)?;
    if Sha256::of(&bytes) != *digest {
        return Err(ImageError::Digest { what: what.into(), expected: digest.hex().into() });
    }
    Ok(bytes)
}

/// Where a blob lies in a layout.
pub(in crate::image) fn blob_name(digest: &Sha256) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn parse<'b, T: Deserialize<'b>>(what: &str, bytes: &'b [u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|_| ImageError::malformed(what))
}

/// At most ten names, shortened: they end in an error message.
fn list(names: impl IntoIterator<Item = String>) -> String {
    let shown: Vec<_> = names
        .into_iter()
        .take(10)
        .map(|name| name.chars().take(100).collect::<String>().escape_default().to_string())
        .collect();
    if shown.is_empty() { "none with a name".into() } else { shown.join(", ") }
}

/// The architecture of this machine in the words of images.
pub(in crate::image) fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_compared_as_people_write_them() {
        let check = |name, asked, expect| assert_eq!(same_reference(name, asked), expect, "{name} {asked}");
        check("latest", "latest", true);
        check("v1", "example:v1", true);
        check("v1", "example:v2", false);
        check("docker.io/library/alpine:latest", "alpine", true);
        check("docker.io/library/alpine:3", "alpine:3", true);
        check("alpine:3", "3", true);
        check("alpine:3", "alpine", false);
        check("ghcr.io/a/b:1", "b:1", false);
        check("ghcr.io/a/b:1", "ghcr.io/a/b:1", true);
    }
}
