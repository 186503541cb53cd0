//! What is different about `runsc`, the runtime of gVisor: programs of a sandbox run on a kernel of its own,
//! written in a memory-safe language, and only that kernel's few calls reach the machine's.

use clamshell_domain::Capability;
use clamshell_protocol::GroupSpec;

/// The oldest release that was tried with success. Debian 12 has one of 2022, with which no folder of an
/// overlay can be looked at.
const OLDEST_RELEASE: u32 = 20_240_729;

/// Whether the runtime of that name is one.
pub(super) fn is_name(name: &str) -> bool {
    name == "runsc"
}

/// Options in front of its command.
pub(super) fn options() -> Vec<String> {
    [
        // The keeper has put it into groups before it starts, and what the machine mounts may confuse it.
        "--ignore-cgroups",
        "--network=none",
        // Otherwise what is written stays in a hidden file, where neither the watch over disk use nor a later
        // sandbox sees it.
        "--overlay2=none",
        // Needs no virtualization.
        "--platform=systrap",
        // The guest may make its socket; no program may connect to one of the machine.
        "--host-uds=create",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Says why a release cannot be used, from the first line that it tells about itself.
pub(super) fn check(version: &str) -> Result<(), String> {
    let digits = |word: &str| {
        word.split(|letter: char| !letter.is_ascii_digit()).map(str::to_owned).collect::<Vec<_>>()
    };
    let date = version
        .split_whitespace()
        .skip_while(|word| *word != "version")
        .nth(1)
        .into_iter()
        .flat_map(digits)
        .filter(|part| part.len() == 8)
        .find_map(|part| part.parse::<u32>().ok());
    match date {
        Some(date) if date >= OLDEST_RELEASE => Ok(()),
        Some(_) => Err(format!("{version} is too old: it needs to be of {OLDEST_RELEASE} or newer")),
        None => Err(format!(
            "{version} does not tell of which day it is; {OLDEST_RELEASE} is the oldest that works"
        )),
    }
}

/// Makes room in the machine's count of processes for the kernel's own threads, and for the few that each process
/// inside takes. Processes of the sandbox are counted inside.
pub(super) fn widen(groups: &mut [GroupSpec], processes_max: u32) {
    let files = groups.iter_mut().flat_map(|group| &mut group.files);
    for file in files.filter(|file| file.name == "pids.max") {
        file.value = (u64::from(processes_max) * 4 + 256).to_string();
    }
}

/// What its sandboxes have that others do not, and the other way round.
pub(super) fn differences() -> Vec<Capability> {
    let line = |name: &str, available: bool, detail: &str| Capability {
        name: name.to_owned(),
        available,
        detail: detail.to_owned(),
        hint: None,
    };
    vec![
        line("kernel of its own", true, "programs run on gVisor's kernel, platform systrap"),
        line(
            "end of one program",
            false,
            "a sandbox that uses up its memory ends as a whole: the machine's kernel sees no single programs",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use clamshell_protocol::GroupFile;

    use super::*;

    #[test]
    fn releases_are_told_by_their_day() {
        let check = |version: &str, expect: bool| assert_eq!(check(version).is_ok(), expect, "{version}");
        check("runsc version 0.0~20240729.0 at /usr/bin/runsc", true);
        check("runsc version release-20250512.0 at /usr/bin/runsc", true);
        check("runsc version 0.0~20221219.0 at /usr/bin/runsc", false);
        check("runsc version VERSION_MISSING at /opt/20250101/runsc", false);
        check("", false);
    }

    #[test]
    fn the_machine_counts_processes_more_generously() {
        let file = |name: &str| GroupFile { name: name.into(), value: "60".into(), required: true };
        let mut groups = [GroupSpec {
            purpose: "pids limit".into(),
            path: "/x".into(),
            unified: false,
            files: vec![file("pids.max"), file("memory.max")],
        }];
        widen(&mut groups, 60);
        let values: Vec<_> = groups[0].files.iter().map(|file| file.value.as_str()).collect();
        assert_eq!(values, ["496", "60"]);
    }
}
