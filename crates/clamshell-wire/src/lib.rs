//! The AWS wire protocol of Clamshell, without I/O: authentication, routes, errors, bodies and event streams.
//!
//! Everything here is a function of bytes to values or back. Nothing opens a socket, reads a clock or waits.
//! Requests are hostile: every length and count is bounded, and no input panics.

pub mod arn;
pub mod command;
pub mod error;
pub mod event_stream;
pub mod generated;
pub mod headers;
pub mod input;
pub mod model;
pub mod operation;
pub mod output;
pub mod percent;
pub mod query;
pub mod route;
pub mod shell_request;
pub mod sigv4;
pub mod subprotocol;
pub mod timestamp;
pub mod validate;

pub use error::{AwsError, ErrorCode, ValidationField, ValidationReason};
pub use input::{Input, InputError, RequestParts, decode};
pub use operation::{Operation, Plane};
pub use output::Output;
pub use percent::{percent_decode, percent_encode};
pub use timestamp::Timestamp;
