//! User and group id maps of a new user namespace.

use std::{
    fs,
    process::{Command, Stdio},
};

use clamshell_protocol::IdMap;

use super::failure::{Failure, Stage};

const STAGE: &str = "id maps";

/// Ids of a sandbox that a privileged keeper makes.
pub(crate) const COUNT: u32 = 65_536;

/// Writes the maps of the process's user namespace.
pub(crate) fn write_maps(ids: &IdMap, pid: u32) -> Result<(), Failure> {
    match *ids {
        IdMap::Range { base, count } => {
            let map = format!("0 {base} {count}\n");
            write_both(pid, &map, &map)
        }
        IdMap::Subordinate { uid, gid, sub_uid, sub_gid, count } => {
            run_mapper("newuidmap", pid, uid, sub_uid, count)?;
            run_mapper("newgidmap", pid, gid, sub_gid, count)
        }
        IdMap::Single { uid, gid } => {
            // Without this the kernel refuses a group map to an ordinary user (CVE-2014-8989).
            fs::write(format!("/proc/{pid}/setgroups"), "deny").stage(STAGE)?;
            fs::write(format!("/proc/{pid}/uid_map"), format!("0 {uid} 1\n")).stage(STAGE)?;
            fs::write(format!("/proc/{pid}/gid_map"), format!("0 {gid} 1\n")).stage(STAGE)
        }
    }
}

/// Writes maps of users and of groups as they are.
pub(crate) fn write_both(pid: u32, users: &str, groups: &str) -> Result<(), Failure> {
    fs::write(format!("/proc/{pid}/uid_map"), users).stage(STAGE)?;
    fs::write(format!("/proc/{pid}/gid_map"), groups).stage(STAGE)
}

fn run_mapper(program: &str, pid: u32, own: u32, first: u32, count: u32) -> Result<(), Failure> {
    let arguments = [pid, 0, own, 1, 1, first, count].map(|number| number.to_string());
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .stage(STAGE)?;
    if output.status.success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).chars().take(200).collect();
    Err(Failure::new(STAGE, format!("{program}: {}", said.trim())))
}
