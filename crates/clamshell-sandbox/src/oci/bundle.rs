//! The bundle's `config.json`: the walls of the native driver in the words of the OCI runtime
//! specification.

use clamshell_protocol::{
    BindSpec, MountSource, MountSpec, OWN_KERNEL_FOLDER, OWN_KERNEL_WORD,
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
    pub(super) mounts: &'a [MountSpec],
    pub(super) memory_bytes: u64,
    pub(super) open_files_max: u64,
    /// Where no control group counts them.
    pub(super) processes_max: Option<u64>,
    /// Where the runtime has a kernel of its own.
    pub(super) own_kernel: Option<OwnKernel>,
}

/// What a guest needs to know that sets up its sandbox from inside.
#[derive(Debug, Clone, Copy)]
pub(super) struct OwnKernel {
    pub(super) processes_max: u32,
    pub(super) agent_id: u32,
    pub(super) add_account: bool,
}

/// Rights that such a guest has until it is done.
const SET_UP_CAPABILITIES: [&str; 2] = ["CAP_SYS_ADMIN", "CAP_NET_ADMIN"];

/// The configuration of one sandbox.
pub(super) fn config(spec: &BundleSpec<'_>) -> Value {
    let ids = json!([{ "containerID": 0, "hostID": spec.host_base, "size": spec.id_count }]);
    let limit = |kind: &str, most: u64| json!({ "type": kind, "soft": most, "hard": most });
    // For one byte of core the kernel neither writes a file nor starts the machine's dump program.
    let mut rlimits = vec![limit("RLIMIT_NOFILE", spec.open_files_max), limit("RLIMIT_CORE", 1)];
    rlimits.extend(spec.processes_max.map(|most| limit("RLIMIT_NPROC", most)));
    let namespaces =
        ["user", "pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    let mut capabilities = CAPABILITIES.to_vec();
    let mut arguments = vec![GUEST.to_owned(), "guest".to_owned(), spec.guest_config.to_owned()];
    match spec.own_kernel {
        // The guest puts itself under our filter, too: it knows calls that the runtime's may not.
        None => arguments.push("filter".to_owned()),
        Some(own) => {
            capabilities.extend(SET_UP_CAPABILITIES);
            arguments[0] = format!("{OWN_KERNEL_FOLDER}/guest");
            let account = if own.add_account { "add" } else { "keep" };
            arguments.push(OWN_KERNEL_WORD.to_owned());
            arguments.extend([own.processes_max.to_string(), own.agent_id.to_string(), account.to_owned()]);
        }
    }
    let mut config = json!({
        "ociVersion": "1.0.2",
        "root": { "path": format!("{STAGE}/r"), "readonly": false },
        "hostname": "localhost",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": arguments,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
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
    });
    if spec.own_kernel.is_some() {
        // Its processes are the machine's to end before its own. The filter is the guest's to set.
        config["process"]["oomScoreAdj"] = json!(200);
        if let Some(linux) = config["linux"].as_object_mut() {
            linux.remove("seccomp");
        }
    }
    config
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
    ];
    let guest = &["bind", "ro", "nosuid", "nodev"];
    if spec.own_kernel.is_some() {
        let place = |name: &str| format!("{OWN_KERNEL_FOLDER}/{name}");
        let folder = &["bind", "rw", "nosuid", "nodev", "noexec"];
        mounts.push(mount(&place("guest"), "bind", &format!("{STAGE}/x"), guest));
        mounts.push(mount(&place("run"), "bind", &format!("{STAGE}/g"), folder));
        mounts.push(mount(&place("shells"), "bind", &format!("{STAGE}/s"), folder));
    } else {
        mounts.push(mount(GUEST, "bind", &format!("{STAGE}/x"), guest));
    }
    for (index, bind) in spec.binds.iter().enumerate() {
        let source = format!("{STAGE}/b{index}");
        mounts.push(mount(&bind.target, "bind", &source, &["bind", "ro", "nosuid", "nodev", "rprivate"]));
    }
    let workspace = format!("{STAGE}/w");
    mounts.push(mount("/mnt/workspace", "bind", &workspace, &["bind", "rw", "nosuid", "nodev", "rprivate"]));
    for (index, shown) in spec.mounts.iter().enumerate() {
        // As the keeper names them in its staging folder.
        let source = match shown.source {
            MountSource::Workspace => workspace.clone(),
            MountSource::Folder { .. } | MountSource::Nfs { .. } => format!("{STAGE}/m{index}"),
        };
        let access = if shown.read_only { "ro" } else { "rw" };
        mounts.push(mount(&shown.target, "bind", &source, &["bind", access, "nosuid", "nodev", "rprivate"]));
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(binds: &[BindSpec], own_kernel: Option<OwnKernel>) -> BundleSpec<'_> {
        BundleSpec {
            name: "st-1",
            guest_config: "{}",
            host_base: 0x1000_0000,
            id_count: 65_536,
            binds,
            mounts: &[],
            memory_bytes: 1 << 30,
            open_files_max: 1024,
            processes_max: None,
            own_kernel,
        }
    }

    fn sources(config: &Value) -> Vec<&str> {
        let mounts = config["mounts"].as_array().unwrap().iter();
        mounts
            .filter(|mount| mount["type"] == "bind")
            .map(|mount| mount["source"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn a_guest_below_another_kernel_gets_its_folders_and_the_rights_to_leave_them() {
        let own = OwnKernel { processes_max: 64, agent_id: 1000, add_account: true };
        let config = config(&spec(&[], Some(own)));
        assert_eq!(sources(&config), ["@stage@/x", "@stage@/g", "@stage@/s", "@stage@/w"]);
        let arguments = json!(["/dev/.clamshell/guest", "guest", "{}", "own-kernel", "64", "1000", "add"]);
        assert_eq!(config["process"]["args"], arguments);
        let bounding = config["process"]["capabilities"]["bounding"].as_array().unwrap();
        assert!(bounding.contains(&json!("CAP_SYS_ADMIN")));
        assert_eq!(config["linux"]["seccomp"], Value::Null);
    }

    #[test]
    fn no_path_of_the_machine_is_in_a_bundle() {
        let binds = [BindSpec { source: "/usr".into(), target: "/usr".into() }];
        let folder = MountSource::Folder { path: "/srv/data".into() };
        let shown = |source, target: &str| MountSpec { source, target: target.into(), read_only: true };
        let mounts = [shown(MountSource::Workspace, "/mnt/own"), shown(folder, "/mnt/data")];
        let config = config(&BundleSpec { mounts: &mounts, ..spec(&binds, None) });
        assert_eq!(sources(&config), ["@stage@/x", "@stage@/b0", "@stage@/w", "@stage@/w", "@stage@/m1"]);
        assert_eq!(config["mounts"].as_array().unwrap().last().unwrap()["options"][1], "ro");
        assert_eq!(config["linux"]["uidMappings"][0]["hostID"], 0x1000_0000);
        assert_eq!(config["process"]["capabilities"]["bounding"], json!(CAPABILITIES));
    }
}
