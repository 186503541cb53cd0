//! Terminals: the wire format between a client and a shell, what a client needs around it, and how a
//! shell's output is kept.
//!
//! | module | for |
//! |---|---|
//! | [`frame`], [`status`], [`rate`] | the terminal WebSocket, both sides: channels, STATUS texts, limits |
//! | [`reconnect`], [`escape`], [`raw_mode`], [`modes`] | a client at a terminal |
//! | [`asciicast`] | recordings |
//!
//! Everything but [`raw_mode`] is sans-I/O: bytes, time and randomness are passed in.

pub mod asciicast;
pub mod escape;
pub mod frame;
pub mod modes;
pub mod rate;
pub mod raw_mode;
pub mod reconnect;
pub mod status;
