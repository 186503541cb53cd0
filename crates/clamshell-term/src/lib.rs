//! Terminals: the wire format between a client and a shell, what a client needs around it, and how a
//! shell's output is kept.
//!
//! | module | for |
//! |---|---|
//! | [`frame`], [`status`], [`rate`] | the terminal WebSocket, both sides: channels, STATUS texts, limits |
//! | [`reconnect`], [`escape`], [`raw_mode`], [`modes`] | a client at a terminal |
//! | [`answers`] | several clients at one terminal |
//! | [`asciicast`] | recordings |
//! | [`log`], `screen` | the output log of a shell on disk, and what its terminal shows |
//!
//! Everything but [`raw_mode`] and [`log`] is sans-I/O: bytes, time and randomness are passed in.

pub mod answers;
pub mod asciicast;
pub mod escape;
pub mod frame;
pub mod log;
pub mod modes;
pub mod rate;
pub mod raw_mode;
pub mod reconnect;
#[cfg(feature = "screen")]
pub mod screen;
pub mod status;
