//! Who may do what: IAM policy documents, tokens of identity providers, temporary credentials.
//!
//! [`policy`] parses and evaluates policy documents without I/O. [`jwt`] checks bearer tokens against
//! the provider that issued them, and [`oidc`] signs people in there; these two alone reach the network. [`role_session`] seals
//! temporary credentials into their own session token. What an answer looks like on the wire is the
//! server's business.

pub mod jwt;
pub mod oidc;
mod percent;
pub mod policy;
pub mod role_session;
