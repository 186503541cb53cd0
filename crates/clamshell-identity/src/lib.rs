//! Who may do what: IAM policy documents and temporary credentials.
//!
//! [`policy`] parses and evaluates policy documents without I/O. [`role_session`] seals temporary
//! credentials into their own session token. What an answer looks like on the wire is the server's
//! business.

pub mod policy;
pub mod role_session;
