//! Real sandboxes on this machine.

mod native;
mod oci_driver;
mod sandbox;
