//! Why an image cannot be pulled. The texts go to whoever asked for the image.

use thiserror::Error;

use super::reference::ReferenceError;
use crate::fetch::FetchError;

/// An image cannot be pulled.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The name is malformed.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The registry was not reached.
    #[error("registry {host} cannot be spoken to")]
    Fetch {
        /// Registry.
        host: String,
        /// Why.
        #[source]
        source: FetchError,
    },
    /// The credentials cannot be read.
    #[error("credentials for {host} cannot be used: {reason}")]
    Credentials {
        /// Registry.
        host: String,
        /// Why.
        reason: String,
    },
    /// The registry wants to know who asks, or does not let this one in.
    #[error("{host} does not let us pull {repository}{hint}")]
    Denied {
        /// Registry.
        host: String,
        /// Repository.
        repository: String,
        /// What to do about it.
        hint: String,
    },
    /// There is no such image, or it is not shown to us.
    #[error("{host} has no {what}")]
    NotFound {
        /// Registry.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// The registry answered with an error, again and again.
    #[error("{host} answered {status} when asked for {what}")]
    Status {
        /// Registry.
        host: String,
        /// HTTP status.
        status: u16,
        /// What was asked for.
        what: String,
    },
    /// The registry answered something else than it should.
    #[error("{host} sent a malformed {what}")]
    Malformed {
        /// Registry.
        host: String,
        /// What was asked for.
        what: String,
    },
    /// A part has another length than the image says.
    #[error("{what} has not the {expected} bytes that the image says")]
    Size {
        /// Part of the image.
        what: String,
        /// Bytes that the image says.
        expected: u64,
    },
    /// It took too long.
    #[error("pulling took longer than {limit_s} s")]
    Deadline {
        /// Limit in seconds.
        limit_s: u64,
    },
}

impl RegistryError {
    /// Whether the same request may succeed a little later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Fetch { source, .. } => source.is_transient(),
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502 | 503 | 504),
            Self::Reference(_)
            | Self::Credentials { .. }
            | Self::Denied { .. }
            | Self::NotFound { .. }
            | Self::Malformed { .. }
            | Self::Size { .. }
            | Self::Deadline { .. } => false,
        }
    }
}
