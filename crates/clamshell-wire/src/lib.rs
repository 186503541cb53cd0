//! The AWS wire protocol of Clamshell, without I/O: authentication, routes, errors, bodies and event streams.
//!
//! Everything here is a function of bytes to values or back. Nothing opens a socket, reads a clock or waits.
//! Requests are hostile: every length and count is bounded, and no input panics.

pub mod arn;
pub mod command;
pub mod error;
pub mod event_stream;
pub mod headers;
pub mod operation;
pub mod percent;
pub mod query;
pub mod route;
pub mod shell_request;
pub mod sigv4;
pub mod subprotocol;

pub use error::{AwsError, ErrorCode, ValidationField, ValidationReason};
pub use operation::{Operation, Plane};
pub use percent::{percent_decode, percent_encode};
