//! One file per command.

pub(crate) mod completion;
pub(crate) mod doctor;
pub(crate) mod env;
pub(crate) mod exec;
pub(crate) mod keys;
pub(crate) mod serve;
pub(crate) mod sessions;
pub(crate) mod shells;
pub(crate) mod stop;
