//! Sandboxes: images, and the drivers that make, find and end sandboxes.

pub mod image;
