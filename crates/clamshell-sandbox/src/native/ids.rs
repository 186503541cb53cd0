//! With whose rights sandboxes are made, and which ids they get.

use std::{fs, path::Path};

use clamshell_domain::IdRange;
use clamshell_protocol::IdMap;

/// Ids that an agent's user needs at least: 0 to 1000.
const SUBORDINATE_MIN: u32 = 1_000;

/// What this process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Privilege {
    /// Everything that is needed: each session gets ids of its own.
    Root,
    /// An ordinary user with subordinate ids.
    Subordinate {
        /// The map for every session.
        map: IdMap,
    },
    /// An ordinary user without.
    Single {
        /// The map for every session.
        map: IdMap,
    },
}

impl Privilege {
    /// Looks at this process and this machine.
    pub(super) fn detect() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        if uid == 0 && may_administrate() {
            return Self::Root;
        }
        let name = user_name(uid);
        let range = |file: &str| subordinate(&fs::read_to_string(file).unwrap_or_default(), uid, &name);
        match (range("/etc/subuid"), range("/etc/subgid")) {
            (Some((sub_uid, uids)), Some((sub_gid, gids)))
                if uids.min(gids) >= SUBORDINATE_MIN && on_path("newuidmap") && on_path("newgidmap") =>
            {
                let count = uids.min(gids).min(IdRange::COUNT - 1);
                Self::Subordinate { map: IdMap::Subordinate { uid, gid, sub_uid, sub_gid, count } }
            }
            _ => Self::Single { map: IdMap::Single { uid, gid } },
        }
    }

    /// Ids of a session.
    pub(super) fn id_map(self, range: IdRange) -> IdMap {
        match self {
            Self::Root => IdMap::Range { base: range.host_base(), count: IdRange::COUNT },
            Self::Subordinate { map } | Self::Single { map } => map,
        }
    }

    /// Ids with which leftovers of any session can be removed.
    pub(super) fn removal_ids(self) -> Option<IdMap> {
        match self {
            Self::Subordinate { map } => Some(map),
            Self::Root | Self::Single { .. } => None,
        }
    }

    /// What does not hold.
    pub(super) fn notes(self) -> Vec<String> {
        match self {
            Self::Root => Vec::new(),
            Self::Subordinate { .. } => {
                vec!["sessions share one range of ids: the server is not root".to_owned()]
            }
            Self::Single { .. } => {
                vec![
                    "no subordinate ids: root and agent are one user inside, the server's own outside"
                        .to_owned(),
                ]
            }
        }
    }
}

/// Capabilities that the keeper uses: CHOWN, SETGID, SETUID, NET_ADMIN is its child's, SYS_ADMIN.
fn may_administrate() -> bool {
    const NEEDED: u64 = 1 << 0 | 1 << 6 | 1 << 7 | 1 << 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    effective & NEEDED == NEEDED
}

fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        })
        .unwrap_or_default()
}

/// First id and count of the user's widest range.
fn subordinate(file: &str, uid: u32, name: &str) -> Option<(u32, u32)> {
    file.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            let is_owner = owner.parse() == Ok(uid) || (!name.is_empty() && owner == name);
            let range: (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            is_owner.then_some(range)
        })
        .max_by_key(|(_, count)| *count)
}

fn on_path(program: &str) -> bool {
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"]
        .iter()
        .any(|folder| Path::new(folder).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_subordinate_range_of_the_user_counts() {
        let file = "jane:100000:10\n# note\n1001:200000:65536\njohn:300000:70000\nbad:x:y\n";
        let check = |uid, name, expect| assert_eq!(subordinate(file, uid, name), expect);
        check(1001, "jane", Some((200_000, 65_536)));
        check(7, "jane", Some((100_000, 10)));
        check(7, "john", Some((300_000, 70_000)));
        check(7, "", None);
    }
}
