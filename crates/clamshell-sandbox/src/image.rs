//! Root file systems of sandboxes.

pub mod oci;
