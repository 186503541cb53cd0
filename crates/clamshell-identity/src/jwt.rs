//! Bearer tokens of identity providers: the authorizer's configuration, the check of a token, and
//! what a client is told about the provider.
//!
//! A [`Verifier`] fetches the provider's discovery document and keys, keeps them, and checks tokens
//! against them. Algorithms are those that fit the key, never what the token claims; `none` and the
//! shared-secret family do not exist here. Nothing is fetched per token: an attacker with made-up
//! tokens costs a bounded number of fetches.

mod authorizer;
mod claims;
mod error;
mod fetch;
#[cfg(test)]
mod idp;
mod keys;
mod metadata;
mod provider;
mod token;
mod verifier;

pub use authorizer::{
    AuthorizerError, AuthorizingClaimMatchValue, ClaimMatchOperator, ClaimMatchValue, ClaimValueType,
    CustomClaim, JwtAuthorizer, JwtAuthorizerInput,
};
pub use error::{AuthorizeError, InvalidToken};
pub use fetch::{FetchError, FetchLimits, Fetcher, TrustError, system_tls};
pub use metadata::{fallback_issuer, metadata_url, protected_resource_metadata, www_authenticate};
pub use token::TOKEN_BYTES_MAX;
pub use verifier::{TokenIdentity, Verifier};
