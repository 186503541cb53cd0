//! The guest protocol: what the server and the guest (PID 1 of a sandbox) say to each other.
//!
//! One connection carries one request. The server connects to the guest's socket, sends a
//! [`Request`] frame, and the guest answers with a [`Reply`] frame, then with whatever stream the
//! request asked for. So a slow shell never holds up another one, and the socket's own
//! backpressure is the flow control.
//!
//! A frame is `u32` little-endian payload length, one byte of kind, payload. Data frames carry raw
//! bytes; the others JSON. Both ends treat the other's bytes as hostile: lengths are bounded before
//! anything is allocated, unknown kinds are errors.
//!
//! No I/O here: [`Decoder`] takes bytes and gives frames, [`Frame::encode`] gives bytes.

mod frame;
mod guest_config;
mod keeper;
mod message;
pub mod seccomp_policy;

pub use frame::{Decoder, FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES_MAX, Frame, FrameError};
pub use guest_config::GuestConfig;
pub use keeper::{
    BindSpec, GroupFile, GroupSpec, Guard, IdMap, KEEPER_SPEC_BYTES_MAX, KeeperReport, KeeperSpec,
    KeeperState, LayerSpec, MOUNT_WITHIN_MS, MountSource, MountSpec, OWN_KERNEL_FOLDER, OWN_KERNEL_WORD,
    OciSpec, ProcessRef, RemoveSpec, cpu_stat_usage_us, parse_process_stat,
};
pub use message::{
    Access, AgentInfo, AgentSpec, AttachFrom, CommandSpec, ErrorCode, Exit, GuestInfo, PROTOCOL_VERSION,
    Reply, Request, RoleCredentials, ShellInfo, ShellOpened, ShellSecret, ShellSpec, User, WireError,
};
