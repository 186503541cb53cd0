//! What a server tells a keeper at its start, and what the keeper answers.
//!
//! The server starts one keeper per sandbox, writes a [`KeeperSpec`] as JSON to its standard input and
//! reads one line with a [`KeeperReport`] from its standard output. From then on the keeper's
//! [`KeeperState`] file is the only link between the two, so that either may be replaced or killed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Largest [`KeeperSpec`] that a keeper reads. Environment and layer lists stay far below it.
pub const KEEPER_SPEC_BYTES_MAX: usize = 1 << 20;

/// Everything a keeper needs to make a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperSpec {
    /// Name of the sandbox, for its state file and logs.
    pub name: String,
    /// Session folder on the host, absolute. Holds `run/`, `upper/`, `workspace/` and `shells/`.
    pub session_dir: String,
    /// The guest program on the host, absolute; the keeper's own file.
    pub binary: String,
    /// [`crate::GuestConfig`] as JSON, handed on to the guest as it is.
    pub guest_config: String,
    /// Which ids of the host stand behind the ids inside.
    pub ids: IdMap,
    /// Layers of the root file system, the top one first.
    pub layers: Vec<LayerSpec>,
    /// Folders of the host shown inside, read-only.
    pub binds: Vec<BindSpec>,
    /// Folders shown inside beside those.
    #[serde(default)]
    pub mounts: Vec<MountSpec>,
    /// First host id of the owners of what is written to shared folders by anybody but the agent.
    #[serde(default)]
    pub shared_base: u32,
    /// Control groups to make.
    pub groups: Vec<GroupSpec>,
    /// What the server knows not to hold; goes in front of what the keeper finds.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Bytes of memory; sizes the memory file systems.
    pub memory_bytes: u64,
    /// Open files per process.
    pub open_files_max: u64,
    /// Processes of the user namespace, where no control group can count them.
    pub processes_max: Option<u64>,
    /// Add `agentcore-runtime-user` to the image's own `/etc/passwd` when it lacks it.
    pub add_account: bool,
    /// User and group id of `agentcore-runtime-user` inside.
    pub agent_id: u32,
    /// Walls around the sandbox.
    pub guard: Guard,
    /// Hand the set-up to an OCI runtime instead of doing it.
    #[serde(default)]
    pub oci: Option<OciSpec>,
}

/// Word after the guest's configuration where the runtime has a kernel of its own. Three more follow: most processes, the
/// agent's id, and whether to `add` its account or `keep` the accounts as they are.
pub const OWN_KERNEL_WORD: &str = "own-kernel";

/// Folder inside, in the memory file system of `/dev`, of what such a guest needs at its start: `guest` is the program,
/// `run` the folder for its socket, `shells` that of the logs. The guest covers it before anything else runs.
pub const OWN_KERNEL_FOLDER: &str = "/dev/.clamshell";

/// An OCI runtime that makes the sandbox from a bundle in `run/bundle`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OciSpec {
    /// The runtime program, absolute.
    pub runtime: String,
    /// Options of the runtime in front of its command.
    pub options: Vec<String>,
    /// Show the runtime a fresh cgroup2 mount instead of this machine's control groups.
    pub private_cgroup2: bool,
    /// The runtime puts a kernel of its own between. Then the guest finishes the set-up from inside.
    #[serde(default)]
    pub own_kernel: bool,
    /// Environment of the runtime program.
    pub environment: BTreeMap<String, String>,
}

/// What `keeper remove` is told on its standard input: empty a folder and end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveSpec {
    /// The folder, absolute. It stays; what is in it goes.
    pub path: String,
    /// Ids that own what is in it, where those are not the server's.
    pub ids: Option<IdMap>,
}

/// Which ids of the host stand behind the ids inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdMap {
    /// Written by a privileged keeper: ids `0..count` are `base..base + count`.
    Range {
        /// First host id.
        base: u32,
        /// How many.
        count: u32,
    },
    /// By `newuidmap` and `newgidmap`: id 0 is the server's own, `1..=count` are its subordinate ids.
    Subordinate {
        /// The server's user id.
        uid: u32,
        /// The server's group id.
        gid: u32,
        /// First subordinate user id.
        sub_uid: u32,
        /// First subordinate group id.
        sub_gid: u32,
        /// How many.
        count: u32,
    },
    /// Only id 0 exists inside; it is the server's own.
    Single {
        /// The server's user id.
        uid: u32,
        /// The server's group id.
        gid: u32,
    },
}

impl IdMap {
    /// Whether the keeper works with the rights of the machine's root.
    pub fn is_privileged(&self) -> bool {
        matches!(self, Self::Range { .. })
    }
}

/// One read-only layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSpec {
    /// Folder on the host, absolute.
    pub path: String,
    /// Files of host id 0 belong to root inside, and so on. Without it they belong to nobody.
    pub idmapped: bool,
}

/// A folder of the host shown inside, read-only, without devices and set-user-id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindSpec {
    /// Folder on the host, absolute.
    pub source: String,
    /// Where inside, absolute.
    pub target: String,
}

/// How long all of a sandbox's [`KeeperSpec::mounts`] together may take (`runtime.md` section 9), milliseconds.
pub const MOUNT_WITHIN_MS: u64 = 30_000;

/// A folder shown inside, without devices and set-user-id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// What is shown.
    pub source: MountSource,
    /// Where inside, absolute.
    pub target: String,
    /// Nobody inside may change anything.
    pub read_only: bool,
}

/// What a [`MountSpec`] shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// The session's `workspace/`.
    Workspace,
    /// A folder of the host.
    Folder {
        /// Its path, absolute.
        path: String,
    },
    /// An export of an NFS 4 server, which the keeper mounts.
    Nfs {
        /// `SERVER:/PATH`.
        export: String,
        /// The server's address.
        address: std::net::IpAddr,
    },
}

impl MountSource {
    /// Whether it lies outside the session's own folder, and so may be missing or not answer.
    pub fn is_foreign(&self) -> bool {
        !matches!(self, Self::Workspace)
    }
}

/// One control group to make and to put the sandbox into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSpec {
    /// What it is for, as told to the user when it fails.
    pub purpose: String,
    /// Its folder, absolute; the parent exists.
    pub path: String,
    /// In the unified hierarchy: has `cgroup.kill`, and the sandbox is started in it.
    pub unified: bool,
    /// Files to write before the sandbox starts.
    pub files: Vec<GroupFile>,
}

/// One setting of a control group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupFile {
    /// File name.
    pub name: String,
    /// Content.
    pub value: String,
    /// Report it when it cannot be set.
    pub required: bool,
}

/// Walls around the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Guard {
    /// All of them. The only value that a server uses.
    Full,
    /// No user namespace, no filter, no masks, all capabilities: for the escape suite, to prove that it
    /// notices.
    Off,
}

/// The keeper's one line of answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeeperReport {
    /// The guest runs.
    Ready {
        /// Its process id, as the keeper sees it.
        guest_pid: u32,
        /// What of the asked-for limits and walls does not hold, one line each.
        degraded: Vec<String>,
    },
    /// Nothing of the sandbox is left.
    Failed {
        /// Step that failed.
        stage: String,
        /// Why.
        reason: String,
    },
}

/// Content of `run/keeper.json`, replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperState {
    /// Keeper.
    pub keeper: ProcessRef,
    /// Guest.
    pub guest: ProcessRef,
    /// Boot in which these process ids mean something.
    pub boot_id: String,
    /// Milliseconds since 1970.
    pub started_at_ms: u64,
    /// See [`KeeperReport::Ready`].
    pub degraded: Vec<String>,
    /// The sandbox has ended; status as a shell shows it (128 + signal).
    pub exit: Option<i32>,
    /// CPU time that it had used when it ended, microseconds; `None` where nothing counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_usage_us: Option<u64>,
}

/// A process, safe against reuse of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Process id on the host.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks between boot and its start.
    pub start_ticks: u64,
}

/// CPU time in microseconds out of the content of a unified group's `cpu.stat`; the file of an old hierarchy has none.
pub fn cpu_stat_usage_us(content: &str) -> Option<u64> {
    content.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse().ok())
}

/// Reads state and start time out of the content of `/proc/<pid>/stat`; `None` when it does not look
/// like one. The program's name is in brackets and may hold anything, brackets included.
pub fn parse_process_stat(content: &str) -> Option<(char, u64)> {
    let (_, rest) = content.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // State is field 3 and start time is field 22.
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some((state, start_ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_by_name() {
        assert_eq!(cpu_stat_usage_us("usage_usec 12\nuser_usec 3\n"), Some(12));
        assert_eq!(cpu_stat_usage_us("nr_periods 0\nnr_throttled 0\nthrottled_time 0\n"), None);
        assert_eq!(cpu_stat_usage_us("usage_usec -1\n"), None);
    }

    #[test]
    fn stat_is_read_behind_the_last_bracket() {
        let line = "123 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21";
        assert_eq!(parse_process_stat(line), Some(('S', 987_654)));
        assert_eq!(parse_process_stat("123 (a S 1 2"), None);
        assert_eq!(parse_process_stat(""), None);
    }

    #[test]
    fn report_is_one_line() {
        let report = KeeperReport::Failed { stage: "overlay".to_owned(), reason: "line\nbreak".to_owned() };
        let json = serde_json::to_string(&report).unwrap();
        assert!(!json.contains('\n'));
        assert_eq!(serde_json::from_str::<KeeperReport>(&json).unwrap(), report);
    }
}
