//! Real sandboxes on this machine.

mod native;
#[cfg(test)]
mod oci_driver;
mod sandbox;
