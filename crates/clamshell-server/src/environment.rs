//! What programs in a session find in their environment.
//!
//! `runtime.md` 6.6 and 6.8: a command sees the runtime's variables; a shell does not inherit the
//! container's environment and starts in `/`.

use clamshell_domain::{Region, Runtime};
use clamshell_protocol::{CommandSpec, ShellSpec, User};

use crate::config::ShellPolicy;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const AGENT_HOME: &str = "/home/agentcore-runtime-user";
const AGENT_NAME: &str = "agentcore-runtime-user";

/// Terminal size before the first RESIZE.
const COLS: u16 = 80;
const ROWS: u16 = 24;

/// A one-shot command: fresh bash, as the sandbox's root, in `/`, with the image's and the runtime's variables.
pub(crate) fn command(
    runtime: &Runtime,
    image: &[(String, String)],
    region: &Region,
    command: String,
    timeout_ms: u64,
    keep_running: bool,
) -> CommandSpec {
    let mut env = base("/root", "root", region);
    // Variables of the image win over ours, those of the runtime over both.
    let image = image.iter().map(|(name, value)| (name, value));
    for (name, value) in image.chain(&runtime.environment) {
        env.retain(|(known, _)| known != name);
        env.push((name.clone(), value.clone()));
    }
    CommandSpec {
        argv: vec!["/bin/bash".to_owned(), "-c".to_owned(), command],
        env,
        cwd: "/".to_owned(),
        user: User::Root,
        timeout_ms: Some(timeout_ms),
        stdin: false,
        keep_running,
    }
}

/// An interactive shell: bash as the unprivileged user, in `/`.
pub(crate) fn shell(region: &Region, policy: &ShellPolicy, keep: bool) -> ShellSpec {
    let mut env = base(AGENT_HOME, AGENT_NAME, region);
    env.push(("TERM".to_owned(), "xterm-256color".to_owned()));
    env.push(("COLORTERM".to_owned(), "truecolor".to_owned()));
    ShellSpec {
        argv: vec!["/bin/bash".to_owned()],
        env,
        cwd: "/".to_owned(),
        user: User::Agent,
        cols: COLS,
        rows: ROWS,
        log_bytes_max: policy.log_bytes_max,
        shells_max: policy.shells_max,
        detached_timeout_ms: Some(policy.detached_timeout_ms),
        keep,
        secrets: Vec::new(),
    }
}

fn base(home: &str, user: &str, region: &Region) -> Vec<(String, String)> {
    [
        ("PATH", PATH),
        ("HOME", home),
        ("USER", user),
        ("LOGNAME", user),
        ("SHELL", "/bin/bash"),
        ("LANG", "C.UTF-8"),
        ("AWS_REGION", region.as_str()),
        ("AWS_DEFAULT_REGION", region.as_str()),
        ("DOCKER_CONTAINER", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}
