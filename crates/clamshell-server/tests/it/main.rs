//! The server in this process, attacked and used from outside: every refusal exact, nothing changed by it.

#![expect(clippy::unwrap_used, reason = "a broken fixture is a failed test")]

mod access;
mod agents;
mod audit;
mod bad_input;
mod calls;
mod connections;
mod console;
mod control_changes;
mod control_plane;
mod events;
mod file_systems;
mod files;
mod hold;
mod hosted;
mod hostile_guest;
mod in_process;
mod invocations;
mod keys;
mod objects;
mod own_kernel;
mod quotas;
mod remembered;
mod routing;
mod shares;
mod signatures;
mod start;
mod terminals;
mod tls;
mod unsigned;
