//! What `cargo xtask codegen` makes of the public service models. Change the generator, never the files.
//!
//! Every operation of both models is in the tables; shapes and types are there for the operations this server knows.

/// `bedrock-agentcore-control`.
pub mod control;
/// `bedrock-agentcore`.
pub mod data;

use crate::model::ModeledOperation;

/// Every operation of both models, the control plane first.
pub fn operations() -> impl Iterator<Item = &'static ModeledOperation> {
    control::OPERATIONS.iter().chain(data::OPERATIONS)
}
