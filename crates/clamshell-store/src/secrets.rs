//! Secrets at rest: a master key in a file of its own, and sealing with AES-256-GCM-SIV.
//!
//! A copy of the database alone tells no secret. What is sealed is bound to its context (what it is
//! and whose), so a sealed value moved to another row does not open. Keys and secrets have no
//! `Debug` output and are wiped on drop as far as safe Rust allows.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest, rand,
};
use clamshell_domain::Entropy;
use thiserror::Error;

const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 8;
/// First byte of everything sealed. 1: key id (8), nonce (12), AES-256-GCM-SIV text and tag (16).
const FORMAT_1: u8 = 1;
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES + NONCE_LEN;

/// A secret in memory: printed as `[secret]`, wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes. Never log them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The bytes as text; `None` when they are not UTF-8. Never log it.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// The master key cannot be had.
#[derive(Debug, Error)]
pub enum MasterKeyError {
    /// Reading or making the file failed.
    #[error("master key file cannot be used: {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error("master key file is open to others, mode {mode:03o}; expected 600: {}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It does not hold 32 bytes, or is no regular file.
    #[error("master key file does not hold a key: {}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

/// Sealing failed.
#[derive(Debug, Error)]
#[error("secret cannot be sealed")]
pub struct SealError;

/// A sealed value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenSecretError {
    /// Not a format of this program.
    #[error("sealed value has an unknown format")]
    Format,
    /// Sealed with another master key.
    #[error("sealed value belongs to another master key")]
    OtherKey,
    /// Changed, or of another context.
    #[error("sealed value does not verify")]
    Forged,
}

/// The key that seals all others.
pub struct MasterKey {
    key: LessSafeKey,
    id: [u8; KEY_ID_BYTES],
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    /// Reads the key at `path`, making it (32 random bytes, mode 0600) when it is missing. Blocks
    /// on the disk; meant for the start of the process. Two processes that start at once get the same key.
    ///
    /// # Errors
    /// [`MasterKeyError`]; a file that others can read is refused, because whoever read it can open
    /// every secret of every old backup.
    pub fn load_or_create(path: &Path, entropy: &dyn Entropy) -> Result<Self, MasterKeyError> {
        let file_error = |source: io::Error| MasterKeyError::File { path: path.to_owned(), source };
        match File::open(path) {
            Ok(file) => return Self::read(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file_error(error)),
        }
        // Written beside and linked into place: nobody ever sees half a key, and a key that another
        // process made first is never overwritten.
        let mut suffix = [0; 8];
        entropy.fill(&mut suffix);
        let draft = path.with_extension(format!("new-{:016x}", u64::from_le_bytes(suffix)));
        let mut bytes = [0; KEY_BYTES];
        entropy.fill(&mut bytes);
        let written = write_new(&draft, &bytes);
        wipe(&mut bytes);
        let linked = written.and_then(|()| std::fs::hard_link(&draft, path));
        let removed = std::fs::remove_file(&draft);
        match linked {
            Ok(()) => removed.map_err(file_error)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(file_error(error)),
        }
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            // The name must be on disk before anything is sealed with the key.
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(file_error)?;
        }
        Self::read(path, File::open(path).map_err(file_error)?)
    }

    fn read(path: &Path, file: File) -> Result<Self, MasterKeyError> {
        let file_error = |source: io::Error| MasterKeyError::File { path: path.to_owned(), source };
        let metadata = file.metadata().map_err(file_error)?;
        let mode = metadata.mode() & 0o777;
        if !metadata.is_file() {
            return Err(MasterKeyError::Malformed { path: path.to_owned() });
        }
        if mode & 0o077 != 0 {
            return Err(MasterKeyError::Exposed { path: path.to_owned(), mode });
        }
        let mut bytes = Vec::with_capacity(KEY_BYTES + 1);
        file.take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(file_error)?;
        let key = Self::from_bytes(&bytes);
        wipe(&mut bytes);
        key.ok_or_else(|| MasterKeyError::Malformed { path: path.to_owned() })
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != KEY_BYTES {
            return None;
        }
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, bytes).ok()?);
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"clamshell master key id");
        context.update(bytes);
        let hash = context.finish();
        let (id, _) = hash.as_ref().split_first_chunk::<KEY_ID_BYTES>()?;
        Some(Self { key, id: *id })
    }

    /// Seals `plaintext` for `context`, which says what it is and whose, for instance
    /// `access-key/AKIA...`. The context is not stored.
    ///
    /// # Errors
    /// [`SealError`] when there is no randomness or the text is too long for the cipher.
    pub fn seal(&self, context: &str, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealError)?;
        let mut sealed = Vec::with_capacity(HEADER_BYTES + plaintext.len() + 16);
        sealed.push(FORMAT_1);
        sealed.extend_from_slice(&self.id);
        sealed.extend_from_slice(&nonce);
        let mut text = plaintext.to_vec();
        let tag = self
            .key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.as_bytes()),
                &mut text,
            )
            .map_err(|_| SealError)?;
        sealed.extend_from_slice(&text);
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what [`MasterKey::seal`] made for the same context.
    ///
    /// # Errors
    /// [`OpenSecretError`].
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Secret, OpenSecretError> {
        let (format, rest) = sealed.split_first().ok_or(OpenSecretError::Format)?;
        if *format != FORMAT_1 {
            return Err(OpenSecretError::Format);
        }
        let (id, rest) = rest.split_first_chunk::<KEY_ID_BYTES>().ok_or(OpenSecretError::Format)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(OpenSecretError::Format)?;
        if *id != self.id {
            return Err(OpenSecretError::OtherKey);
        }
        let mut text = rest.to_vec();
        let length = self
            .key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context.as_bytes()), &mut text)
            .map_err(|_| OpenSecretError::Forged)?
            .len();
        text.truncate(length);
        Ok(Secret(text))
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Overwrites with zeros; `black_box` keeps the compiler from seeing that nobody reads them.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::Permissions, os::unix::fs::PermissionsExt};

    use clamshell_domain::SystemEntropy;

    use super::*;

    fn key(byte: u8) -> MasterKey {
        MasterKey::from_bytes(&[byte; KEY_BYTES]).unwrap()
    }

    #[test]
    fn opens_only_what_was_sealed_for_the_same_key_and_context() {
        let sealed = key(1).seal("access-key/a", b"hush").unwrap();
        let check = |key: MasterKey, context: &str, sealed: &[u8], expect: Result<&[u8], OpenSecretError>| {
            let opened = key.open(context, sealed);
            assert_eq!(opened.as_ref().map(Secret::expose).map_err(|error| *error), expect);
        };
        check(key(1), "access-key/a", &sealed, Ok(b"hush"));
        check(key(1), "access-key/b", &sealed, Err(OpenSecretError::Forged));
        check(key(2), "access-key/a", &sealed, Err(OpenSecretError::OtherKey));
        check(key(1), "access-key/a", &[], Err(OpenSecretError::Format));
        check(key(1), "access-key/a", &sealed[..HEADER_BYTES - 1], Err(OpenSecretError::Format));
        check(key(1), "access-key/a", &sealed[..HEADER_BYTES], Err(OpenSecretError::Forged));
        for index in HEADER_BYTES..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            check(key(1), "access-key/a", &changed, Err(OpenSecretError::Forged));
        }
        let mut newer = sealed.clone();
        newer[0] = 2;
        check(key(1), "access-key/a", &newer, Err(OpenSecretError::Format));
    }

    #[test]
    fn sealing_twice_differs_and_shows_nothing() {
        let (first, second) = (key(1).seal("c", b"hush").unwrap(), key(1).seal("c", b"hush").unwrap());
        assert_ne!(first, second);
        assert!(!first.windows(4).any(|window| window == b"hush"));
        assert_eq!(format!("{:?}", key(1).open("c", &first).unwrap()), "[secret]");
    }

    #[test]
    fn the_file_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let first = MasterKey::load_or_create(&path, &SystemEntropy).unwrap();
        let second = MasterKey::load_or_create(&path, &SystemEntropy).unwrap();
        assert_eq!(first.id, second.id);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn an_exposed_or_damaged_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        MasterKey::load_or_create(&path, &SystemEntropy).unwrap();
        for mode in [0o640, 0o604, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = MasterKey::load_or_create(&path, &SystemEntropy).unwrap_err();
            assert!(matches!(error, MasterKeyError::Exposed { mode: found, .. } if found == mode));
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        for length in [0, 31, 33] {
            fs::write(&path, vec![7; length]).unwrap();
            let error = MasterKey::load_or_create(&path, &SystemEntropy).unwrap_err();
            assert!(matches!(error, MasterKeyError::Malformed { .. }), "{length}");
        }
    }
}
