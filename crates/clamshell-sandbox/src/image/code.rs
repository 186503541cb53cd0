//! Code from zips: fetched from a bucket, unpacked once per content into a layer of its own, shown at `/var/task` over a base
//! image that has the interpreter.
//!
//! The layer holds files, folders and links that stay inside, all of root and without set-user-id; its name is the digest of the
//! zip, so versions with the same code share it.

mod command;
#[cfg(test)]
mod tests;
mod unzip;

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use aws_lc_rs::digest::{Context, SHA256};
use clamshell_domain::{CodeRuntime, ObjectContent, ObjectError, ObjectLocation};
use rustix::fs::{Mode, OFlags};

pub use self::unzip::CodeLimits;
use super::{
    ImageError, ImageStore, RootImage, layer_spec,
    oci::{Store, digest::Sha256, remove_tree},
    records::{self, Use},
    registry::RegistryError,
};

/// Where the code lies inside.
pub const CODE_DIR: &str = "/var/task";

impl ImageStore {
    /// The digest that the code has on this server: its own, else what was read there first.
    pub(super) fn code_digest(&self, location: &ObjectLocation, digest: Option<&str>) -> Option<String> {
        digest.map(str::to_owned).or_else(|| self.records.digest(&records::code_name(location)))
    }

    /// Whether a zip of that digest is unpacked.
    pub(super) fn has_code(&self, digest: &str) -> bool {
        self.code_folder(digest).is_ok_and(|folder| folder.join("var/task").is_dir())
    }

    fn code_folder(&self, digest: &str) -> Result<PathBuf, ImageError> {
        Ok(self.images().join("code").join(Sha256::parse(digest)?.hex()))
    }

    /// Makes sure that the code is unpacked, and gives its digest.
    pub(super) async fn ensure_code(
        &self,
        location: &ObjectLocation,
        digest: Option<&str>,
    ) -> Result<String, ImageError> {
        let known = self.code_digest(location, digest);
        if let Some(known) = &known
            && self.has_code(known)
        {
            return Ok(known.clone());
        }
        self.fetch_code(location, known.as_deref()).await
    }

    /// Reads a zip from its bucket, unpacks it, and gives its digest. When `expected` is given, no other content is taken.
    pub(super) async fn fetch_code(
        &self,
        location: &ObjectLocation,
        expected: Option<&str>,
    ) -> Result<String, ImageError> {
        let deadline = self.sources.pull.deadline;
        match tokio::time::timeout(deadline, self.fetch_code_now(location, expected)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(RegistryError::Deadline { limit_s: deadline.as_secs() }.into()),
        }
    }

    async fn fetch_code_now(
        &self,
        location: &ObjectLocation,
        expected: Option<&str>,
    ) -> Result<String, ImageError> {
        let user = self.users.enter();
        let unknown = || ObjectError::NoSuchBucket { bucket: location.bucket.clone() };
        let objects = Arc::clone(self.sources.objects.as_ref().ok_or_else(unknown)?);
        let content = objects.get(location).await?;
        let images = self.images();
        Store::open(&images)?;
        let limits = self.sources.code;
        let (file, digest) = save(content, &images, limits.zip_bytes_max).await?;
        if let Some(expected) = expected
            && Sha256::parse(expected)? != digest
        {
            let expected = expected.trim_start_matches("sha256:").to_owned();
            return Err(ImageError::Digest {
                what: "code zip, which changed since the version was made,".into(),
                expected,
            });
        }
        let text = format!("sha256:{}", digest.hex());
        let (records, name, known) = (self.records.clone(), records::code_name(location), text.clone());
        let is_durable = self.sources.pull.unpack.is_durable;
        let unpacked = tokio::task::spawn_blocking(move || {
            let _user = user;
            unpack(file, &digest, &images, &limits, is_durable)?;
            records.add(&name, Use { digest: known, layers: Vec::new() })
        });
        unpacked.await.map_err(|error| ImageError::io("unpacking")(error.into()))??;
        Ok(text)
    }

    /// The root file system of unpacked code over its base image.
    pub(super) fn code_image(
        &self,
        base: RootImage,
        digest: &str,
        runtime: CodeRuntime,
        entry_point: &[String],
    ) -> Result<RootImage, ImageError> {
        let folder = self.code_folder(digest)?;
        let config = command::config(&base, &folder.join("var/task"), runtime, entry_point)?;
        let mut layers = vec![layer_spec(&folder)?];
        layers.extend(base.layers);
        Ok(RootImage { layers, config: Some(config), ..base })
    }
}

/// Writes an object into an unnamed file and hashes it on the way.
async fn save(mut content: ObjectContent, folder: &Path, limit: u64) -> Result<(File, Sha256), ImageError> {
    let doing = "fetching a code zip";
    let too_large = ImageError::TooLarge { what: "size of the code zip", limit };
    if content.size > limit {
        return Err(too_large);
    }
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR).map_err(ImageError::errno(doing))?;
    let mut file = File::from(file);
    let mut context = Context::new(&SHA256);
    let mut length = 0;
    while let Some(bytes) = content.body.next().await? {
        length += bytes.len() as u64;
        if length > limit {
            return Err(too_large);
        }
        context.update(&bytes);
        file.write_all(&bytes).map_err(ImageError::io(doing))?;
    }
    if length != content.size {
        return Err(ObjectError::Failed { reason: "the object ended early".to_owned() }.into());
    }
    Ok((file, Sha256::from_raw(context.finish().as_ref())))
}

/// Unpacks beside the place and renames when all is there.
fn unpack(
    file: File,
    digest: &Sha256,
    images: &Path,
    limits: &CodeLimits,
    is_durable: bool,
) -> Result<(), ImageError> {
    let store = Store::open(images)?;
    let code = images.join("code");
    let place = code.join(digest.hex());
    let _lock = store.lock()?;
    if place.is_dir() {
        return Ok(());
    }
    let staged = store.tmp.join(format!("code-{}", digest.hex()));
    let unpacked = fill(file, &staged, limits, is_durable).and_then(|()| {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&code).map_err(ImageError::io("making the store"))?;
        fs::rename(&staged, &place).map_err(ImageError::io("naming a code layer"))?;
        let folder = File::open(&code).map_err(ImageError::io("writing the store to disk"))?;
        if is_durable {
            folder.sync_all().map_err(ImageError::io("writing the store to disk"))
        } else {
            Ok(())
        }
    });
    if unpacked.is_err() {
        let _ = remove_tree(&staged);
    }
    unpacked
}

fn fill(file: File, staged: &Path, limits: &CodeLimits, is_durable: bool) -> Result<(), ImageError> {
    let doing = "making a code layer";
    let root = staged.join("var/task");
    fs::create_dir_all(&root).map_err(ImageError::io(doing))?;
    for folder in [staged, &staged.join("var"), &root] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(ImageError::io(doing))?;
    }
    unzip::unzip(file, &root, limits)?;
    if is_durable {
        let root = File::open(staged).map_err(ImageError::io("writing the store to disk"))?;
        rustix::fs::syncfs(&root).map_err(ImageError::errno("writing the store to disk"))?;
    }
    Ok(())
}
