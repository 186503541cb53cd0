//! The built program against real servers and real sandboxes. Every file of this folder is declared here.

#![expect(clippy::unwrap_used, reason = "a broken fixture is a failed test")]

mod aws_like;
mod clients;
mod commands;
mod console;
mod hosting;
mod program;
mod reliability;
mod terminal;
mod web;
mod workspace_files;
