//! Why an image cannot be used. The texts go to the runtime's log, so they name parts of the image
//! and never paths of the machine.

use std::io;

use clamshell_domain::ObjectError;
use thiserror::Error;

use crate::image::registry::RegistryError;

/// An image cannot be used. Nothing of it is left half in the store.
#[derive(Debug, Error)]
pub enum ImageError {
    /// Reading the image or writing the store failed.
    #[error("{doing} failed")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Neither an OCI layout nor an archive of one, nor a `docker save` archive.
    #[error("not an image: {reason}")]
    NotAnImage {
        /// What is missing.
        reason: String,
    },
    /// No image in it has this name.
    #[error("no image named `{reference}`, there are: {available}")]
    NoSuchReference {
        /// Name asked for.
        reference: String,
        /// Names there are.
        available: String,
    },
    /// Several images and no name given.
    #[error("several images, choose one by reference: {available}")]
    Ambiguous {
        /// Names there are.
        available: String,
    },
    /// No manifest for this machine.
    #[error("no image for platform {platform}, there are: {available}")]
    NoSuchPlatform {
        /// This machine.
        platform: String,
        /// Platforms there are.
        available: String,
    },
    /// A format that is not taken, such as zstd layers.
    #[error("not supported: {what}")]
    Unsupported {
        /// The format.
        what: String,
    },
    /// Bytes do not match their digest.
    #[error("{what} does not match its digest sha256:{expected}")]
    Digest {
        /// Part of the image.
        what: String,
        /// Digest named by the image, hex.
        expected: String,
    },
    /// A part that cannot be parsed.
    #[error("malformed {what}")]
    Malformed {
        /// Part of the image.
        what: String,
    },
    /// An entry that would act outside of its layer, or is made to harm.
    #[error("refused entry `{name}`: {reason}")]
    Hostile {
        /// Name in the archive, shortened.
        name: String,
        /// Rule it breaks.
        reason: &'static str,
    },
    /// A limit is reached.
    #[error("{what} above the limit of {limit}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A registry does not give it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The object storage does not give it.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Nobody pulled it yet, or it was removed since.
    #[error("not pulled yet: {reference}")]
    NotPulled {
        /// Image or object.
        reference: String,
    },
    /// The base image cannot run the code.
    #[error(
        "the base image has no `{interpreter}`, which {runtime} needs; install it there or choose a base image that has it"
    )]
    NoInterpreter {
        /// Program looked for.
        interpreter: &'static str,
        /// Runtime in the words of the API.
        runtime: &'static str,
    },
    /// The entry point does not fit the zip.
    #[error("entry point: {reason}")]
    EntryPoint {
        /// Rule it breaks.
        reason: String,
    },
}

impl ImageError {
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn errno(doing: &'static str) -> impl FnOnce(rustix::io::Errno) -> Self {
        move |source| Self::Io { doing, source: source.into() }
    }

    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed { what: what.into() }
    }

    pub(crate) fn hostile(name: &[u8], reason: &'static str) -> Self {
        // Long enough to find the entry, short enough for a log line.
        let shown = &name[..name.len().min(120)];
        Self::Hostile { name: shown.escape_ascii().to_string(), reason }
    }
}
