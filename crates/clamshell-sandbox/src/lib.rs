//! Sandboxes: images, and the drivers that make, find and end sandboxes.

pub mod fetch;
pub mod guest_binary;
pub mod image;
mod native;
mod oci;

pub use native::{NativeDriver, NativeOptions};
pub use oci::{OciDriver, OciOptions};
