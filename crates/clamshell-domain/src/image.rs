//! What an image says about the program that it is made for.

/// The configuration of an image, checked and bounded: no text has a NUL byte, all of it could be given to `exec`.
///
/// It is meant for the image's own program. Commands and shells run as root in `/` whatever an image says,
/// as the protocol has it, and get the variables alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// Variables, in their order; no name is empty.
    pub env: Vec<(String, String)>,
    /// Program and first arguments; empty when there is none.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program when there is no entry point.
    pub cmd: Vec<String>,
    /// Who runs the program: `name`, `uid`, `name:group`, `uid:gid` and mixtures. To be resolved inside the image;
    /// `None` is root.
    pub user: Option<String>,
    /// Folder to start in, absolute but not resolved: it may be missing, or a link. `None` is `/`.
    pub working_dir: Option<String>,
    /// Number of the signal that asks the program to end, 1 to 64; `None` is SIGTERM.
    pub stop_signal: Option<u8>,
    /// TCP ports that the program listens on, ascending, each once.
    pub exposed_ports: Vec<u16>,
}

impl ImageConfig {
    /// The command line of the image's program; empty when the image has none.
    pub fn argv(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }
}
