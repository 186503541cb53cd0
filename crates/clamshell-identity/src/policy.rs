//! IAM policy documents: parsing, evaluation, and the rules for resource policies. No I/O.
//!
//! Parsing is strict: unknown members, operators and duplicate keys are errors that name the place,
//! because a rule that is silently ignored is a hole. Deliberately absent: permission boundaries,
//! service control policies, session policies, `BinaryEquals` and federated principals.

mod condition;
mod document;
mod evaluate;
mod json;
mod parse;
mod pattern;
mod principal;
mod resource;
mod value;

pub use document::{Document, DocumentKind, Effect};
pub use evaluate::{Check, Decision, Principal, PrincipalKind, Request, evaluate, evaluate_all};
pub use parse::{ParseError, Problem};
pub use resource::{ResourcePolicyError, parse_resource_policy};
