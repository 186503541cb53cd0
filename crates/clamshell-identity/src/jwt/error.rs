//! Why a token is not accepted.

use thiserror::Error;

use super::fetch::FetchError;

/// Why a caller is not let in. Each variant is one row of the service's table of answers.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AuthorizeError {
    /// No token at all.
    #[error("Missing Authentication Token")]
    Missing,
    /// Not a JWT by its form.
    #[error("OAuth authorization failed: Failed to parse token")]
    Unparseable,
    /// The token is good, but not meant for this resource.
    #[error("Claim '{claim}' value mismatch with configuration.")]
    ClaimMismatch {
        /// Name of the claim: `aud`, `client_id`, `scope` or a custom one.
        claim: String,
    },
    /// Forged, expired, of another issuer. Clients are told no more than that.
    #[error("invalid token")]
    InvalidToken(#[source] InvalidToken),
    /// The provider cannot be asked right now; not the caller's fault.
    #[error("identity provider is unreachable")]
    ProviderUnreachable(#[source] FetchError),
}

/// What is wrong with a token; for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidToken {
    /// `none`, a shared-secret algorithm, or an unknown one.
    #[error("algorithm is not supported")]
    Algorithm,
    /// The header demands extensions that are not understood.
    #[error("critical header extensions are not supported")]
    Critical,
    /// No key of the provider fits the token.
    #[error("no key of the provider fits")]
    UnknownKey,
    /// The signature does not verify.
    #[error("signature does not verify")]
    Signature,
    /// Another issuer than the provider's.
    #[error("issuer is not the provider's")]
    Issuer,
    /// Past `exp`, or without one.
    #[error("expired, or without expiry")]
    Expired,
    /// Before `nbf`.
    #[error("not valid yet")]
    NotYetValid,
}
