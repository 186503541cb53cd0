//! SHA-256 digests, and readers that compute them on the way.

use std::{
    fmt,
    io::{self, Read},
};

use aws_lc_rs::digest::{Context, SHA256, digest};

use super::error::ImageError;

/// A SHA-256 digest as 64 lower-case hexadecimal digits; safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::image) struct Sha256(String);

impl Sha256 {
    /// Takes `sha256:<hex>`.
    pub(in crate::image) fn parse(text: &str) -> Result<Self, ImageError> {
        let is_hex =
            |hex: &&str| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match text.strip_prefix("sha256:").filter(is_hex) {
            Some(hex) => Ok(Self(hex.into())),
            None if text.starts_with("sha512:") => {
                Err(ImageError::Unsupported { what: "sha512 digests".into() })
            }
            None => Err(ImageError::malformed("digest")),
        }
    }

    pub(in crate::image) fn of(bytes: &[u8]) -> Self {
        Self::from_raw(digest(&SHA256, bytes).as_ref())
    }

    pub(in crate::image) fn hex(&self) -> &str {
        &self.0
    }

    pub(in crate::image) fn from_raw(raw: &[u8]) -> Self {
        use fmt::Write;
        let mut hex = String::with_capacity(64);
        for byte in raw {
            write!(hex, "{byte:02x}").expect("writing to a string never fails");
        }
        Self(hex)
    }
}

/// Passes bytes on, up to a limit, and knows their digest at the end.
pub(in crate::image) struct Hashing<R> {
    inner: R,
    context: Context,
    left: u64,
    exceeded: bool,
}

impl<R: Read> Hashing<R> {
    pub(in crate::image) fn new(inner: R, limit: u64) -> Self {
        Self { inner, context: Context::new(&SHA256), left: limit, exceeded: false }
    }

    /// Bytes that may still come.
    pub(in crate::image) fn left(&self) -> u64 {
        self.left
    }

    /// Whether reading failed because the limit was reached.
    pub(in crate::image) fn is_exceeded(&self) -> bool {
        self.exceeded
    }

    pub(in crate::image) fn finish(self) -> Sha256 {
        Sha256::from_raw(self.context.finish().as_ref())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => {
                self.exceeded = true;
                return Err(io::Error::other("limit of bytes reached"));
            }
        }
        self.context.update(&buffer[..count]);
        Ok(count)
    }
}
