//! One file per command.

pub(crate) mod audit;
pub(crate) mod completion;
pub(crate) mod console;
pub(crate) mod create;
pub(crate) mod deploy;
pub(crate) mod doctor;
pub(crate) mod endpoint;
pub(crate) mod env;
pub(crate) mod exec;
pub(crate) mod files;
pub(crate) mod invoke;
pub(crate) mod keys;
pub(crate) mod logs;
pub(crate) mod people;
pub(crate) mod principals;
pub(crate) mod runtime;
pub(crate) mod secrets;
pub(crate) mod serve;
pub(crate) mod sessions;
pub(crate) mod shells;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod web;
