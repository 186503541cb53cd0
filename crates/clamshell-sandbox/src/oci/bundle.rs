//! The bundle's `config.json`: the walls of the native driver in the words of the OCI runtime
//! specification.

use clamshell_protocol::{
    BindSpec,
    seccomp_policy::{CAPABILITIES, MASKED_PATHS, READ_ONLY_PATHS},
};
use serde_json::{Value, json};

use super::seccomp;

/// Where the keeper will have put things: it alone knows, and replaces this word.
pub(super) const STAGE: &str = "@stage@";

/// Name of the runtime's own control group, before the sandbox's name.
pub(super) const GROUP_PREFIX: &str = "clamshell-oci-";

/// The guest's place inside: in the memory file system of `/dev`, so that no layer needs it.
const GUEST: &str = "/dev/.clamshell-guest";

/// What differs from sandbox to sandbox.
#[derive(Debug)]
pub(super) struct BundleSpec<'a> {
    pub(super) name: &'a str,
    pub(super) guest_config: &'a str,
    pub(super) host_base: u32,
    pub(super) id_count: u32,
    pub(super) binds: &'a [BindSpec],
    pub(super) memory_bytes: u64,
    pub(super) open_files_max: u64,
    /// Where no control group counts them.
    pub(super) processes_max: Option<u64>,
}

/// The configuration of one sandbox.
pub(super) fn config(spec: &BundleSpec<'_>) -> Value {
    let ids = json!([{ "containerID": 0, "hostID": spec.host_base, "size": spec.id_count }]);
    let limit = |kind: &str, most: u64| json!({ "type": kind, "soft": most, "hard": most });
    // For one byte of core the kernel neither writes a file nor starts the machine's dump program.
    let mut rlimits = vec![limit("RLIMIT_NOFILE", spec.open_files_max), limit("RLIMIT_CORE", 1)];
    rlimits.extend(spec.processes_max.map(|most| limit("RLIMIT_NPROC", most)));
    let namespaces =
        ["user", "pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": format!("{STAGE}/r"), "readonly": false },
        "hostname": "localhost",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            // The guest puts itself under our filter, too: it knows calls that the runtime's may not.
            "args": [GUEST, "guest", spec.guest_config, "filter"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
                "inheritable": [], "ambient": [],
            },
            "rlimits": rlimits,
        },
        "mounts": mounts(spec),
        "linux": {
            "namespaces": namespaces,
            "uidMappings": ids,
            "gidMappings": ids,
            // The limits are in the keeper's own groups, the same for every driver; this one is the
            // runtime's to come and go. No device rules: in a user namespace nobody makes devices.
            "cgroupsPath": format!("/{GROUP_PREFIX}{}", spec.name),
            "seccomp": seccomp::profile(),
            "maskedPaths": MASKED_PATHS,
            "readonlyPaths": READ_ONLY_PATHS,
        },
    })
}

fn mounts(spec: &BundleSpec<'_>) -> Vec<Value> {
    let mount = |target: &str, kind: &str, source: &str, options: &[&str]| json!({ "destination": target, "type": kind, "source": source, "options": options });
    // Memory file systems count as memory of the sandbox, and no killing frees what is in them. As in the guest's
    // `keeper/inside.rs`, all of them together leave three sixteenths of it to the guest and its programs.
    let half = format!("size={}", spec.memory_bytes / 2);
    let quarter = format!("size={}", spec.memory_bytes / 4);
    let sixteenth = format!("size={}", spec.memory_bytes / 16);
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=64k"]),
        // The machine has 4096 terminals for everybody.
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5", "max=256"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &quarter]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/tmp", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=1777", &half]),
        mount("/run", "tmpfs", "tmpfs", &["nosuid", "nodev", "mode=755", &sixteenth]),
        mount(GUEST, "bind", &format!("{STAGE}/x"), &["bind", "ro", "nosuid", "nodev"]),
    ];
    for (index, bind) in spec.binds.iter().enumerate() {
        let source = format!("{STAGE}/b{index}");
        mounts.push(mount(&bind.target, "bind", &source, &["bind", "ro", "nosuid", "nodev", "rprivate"]));
    }
    let workspace = format!("{STAGE}/w");
    mounts.push(mount("/mnt/workspace", "bind", &workspace, &["bind", "rw", "nosuid", "nodev", "rprivate"]));
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_of_the_machine_is_in_a_bundle() {
        let binds = [BindSpec { source: "/usr".into(), target: "/usr".into() }];
        let spec = BundleSpec {
            name: "st-1",
            guest_config: "{}",
            host_base: 0x1000_0000,
            id_count: 65_536,
            binds: &binds,
            memory_bytes: 1 << 30,
            open_files_max: 1024,
            processes_max: None,
        };
        let config = config(&spec);
        let sources: Vec<_> = config["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|mount| mount["type"] == "bind")
            .map(|mount| mount["source"].as_str().unwrap())
            .collect();
        assert_eq!(sources, ["@stage@/x", "@stage@/b0", "@stage@/w"]);
        assert_eq!(config["linux"]["uidMappings"][0]["hostID"], 0x1000_0000);
        assert_eq!(config["process"]["capabilities"]["bounding"], json!(CAPABILITIES));
    }
}
