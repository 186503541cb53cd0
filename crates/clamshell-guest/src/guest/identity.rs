//! Which user and groups a program of an image runs as: `User` of the image, looked up in the image's own
//! `/etc/passwd` and `/etc/group` as container engines do it.
//!
//! Both files are the image's or the session's, so hostile: they are read up to a bound, lines that are no
//! entries are passed over, and no id leaves the range that the sandbox has.

use std::{io, io::Read, path::Path};

use rustix::fs::{FileType, Mode, OFlags};
use thiserror::Error;

/// Ids that a sandbox has: each is mapped to one of the host.
const IDS: u32 = 65_536;

/// Most bytes of an account file that are read; distributions ship a few kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Most further groups of a user; the rest is left out.
const GROUPS_MAX: usize = 256;

/// Who a program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Further groups, without `gid`.
    pub(super) groups: Vec<u32>,
    /// Home folder, `/` when the image tells none.
    pub(super) home: String,
}

/// A `User` that cannot be resolved.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum IdentityError {
    #[error("image has no user of the name or number asked for")]
    NoSuchUser,
    #[error("image has no group of the name or number asked for")]
    NoSuchGroup,
    #[error("id {0} is outside of the sandbox's range")]
    OutOfRange(u64),
}

/// An entry of `/etc/passwd`.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// An entry of `/etc/group`.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Resolves `user`: `name`, `uid`, `name:group`, `uid:gid` and mixtures; an empty one is root.
///
/// As with container engines, a name goes before a number, a number needs no entry, a user without an entry
/// has group 0, and with a group given the user's further groups do not count.
pub(super) fn resolve(user: &str, passwd: &[u8], group: &[u8]) -> Result<Identity, IdentityError> {
    let (user, group_name) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = parse_id(user);
    let account = accounts(passwd).find(|account| account.name == user || Some(Ok(account.uid)) == number);
    let uid = match (&account, number) {
        (Some(account), _) => account.uid,
        (None, Some(number)) => number?,
        (None, None) => return Err(IdentityError::NoSuchUser),
    };
    let home = account.as_ref().map(|account| account.home).filter(|home| home.starts_with('/'));
    let home = home.unwrap_or("/").to_owned();
    if let Some(name) = group_name {
        let number = parse_id(name);
        let found = groups(group).find(|group| group.name == name || Some(Ok(group.gid)) == number);
        let gid = match (found, number) {
            (Some(group), _) => group.gid,
            (None, Some(number)) => number?,
            (None, None) => return Err(IdentityError::NoSuchGroup),
        };
        return Ok(Identity { uid, gid, groups: Vec::new(), home });
    }
    let gid = account.as_ref().map_or(0, |account| account.gid);
    let mut further = Vec::new();
    if let Some(account) = account {
        for group in groups(group) {
            let is_member = group.members.split(',').any(|member| member == account.name);
            if is_member && group.gid != gid && !further.contains(&group.gid) && further.len() < GROUPS_MAX {
                further.push(group.gid);
            }
        }
    }
    Ok(Identity { uid, gid, groups: further, home })
}

/// An account file of the image; empty when there is none, or no file that can be read at once.
pub(super) fn account_file(path: &Path) -> io::Result<Vec<u8>> {
    // A pipe in its place must not hold the guest up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Vec::new()),
        opened => opened?,
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn accounts(passwd: &[u8]) -> impl Iterator<Item = Account<'_>> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (parse_id(fields.next()?)?.ok()?, parse_id(fields.next()?)?.ok()?);
        let (_description, home) = (fields.next(), fields.next());
        Some(Account { name, uid, gid, home: home.unwrap_or("") })
    })
}

fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let gid = parse_id(fields.next()?)?.ok()?;
        Some(Group { name, gid, members: fields.next().unwrap_or("") })
    })
}

/// Lines that may be entries. An empty name would be found by `+::` and the like of old.
fn lines(file: &[u8]) -> impl Iterator<Item = &str> {
    let lines = file.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    lines.map(str::trim).filter(|line| !line.starts_with([':', '#', '+', '-']) && !line.contains('\0'))
}

/// `None` for what is no number.
fn parse_id(text: &str) -> Option<Result<u32, IdentityError>> {
    // Rust's own parser would take a sign.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = text.parse::<u64>().unwrap_or(u64::MAX);
    Some(match u32::try_from(number) {
        Ok(id) if id < IDS => Ok(id),
        _ => Err(IdentityError::OutOfRange(number)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n# comment\n\nweb:x:33:33::/srv/web:/usr/sbin/nologin\n\
        1234:x:500:501::/home/odd:/bin/sh\nshort:x:7\n+::::::\nhuge:x:70000:0::/:\nminus:x:-1:0::/:\n\xff\xfe:x:8:8::/:\n\
        relative:x:9:9::home:\nweb:x:34:34::/second:\nlast:x:42:43:Last:/home/last:/bin/sh";
    const GROUP: &[u8] = b"root:x:0:\nadm:x:4:web,last\nweb:x:33:web\nvideo:x:44:root,web\nvideo2:x:44:web\nfar:x:99999:web\n77:x:78:last\n";

    fn identity(uid: u32, gid: u32, groups: &[u32], home: &str) -> Result<Identity, IdentityError> {
        Ok(Identity { uid, gid, groups: groups.to_vec(), home: home.to_owned() })
    }

    #[test]
    fn users_are_found_as_container_engines_find_them() {
        let check = |user, expect| assert_eq!(resolve(user, PASSWD, GROUP), expect, "{user:?}");
        check("", identity(0, 0, &[44], "/root"));
        check("root", identity(0, 0, &[44], "/root"));
        check("0", identity(0, 0, &[44], "/root"));
        check("web", identity(33, 33, &[4, 44], "/srv/web"));
        check("33", identity(33, 33, &[4, 44], "/srv/web"));
        check("web:", identity(33, 33, &[4, 44], "/srv/web"));
        check("web:adm", identity(33, 4, &[], "/srv/web"));
        check("web:12", identity(33, 12, &[], "/srv/web"));
        check("5000", identity(5000, 0, &[], "/"));
        check("5000:6000", identity(5000, 6000, &[], "/"));
        check("5000:adm", identity(5000, 4, &[], "/"));
        check(":adm", identity(0, 4, &[], "/root"));
        check("last", identity(42, 43, &[4, 78], "/home/last"));
        // A name that looks like a number goes before the number, for users and for groups.
        check("1234", identity(500, 501, &[], "/home/odd"));
        check("web:77", identity(33, 78, &[], "/srv/web"));
        check("relative", identity(9, 9, &[], "/"));
        check("65535:65535", identity(65_535, 65_535, &[], "/"));
    }

    #[test]
    fn users_that_are_none_are_refused() {
        let check = |user, expect| assert_eq!(resolve(user, PASSWD, GROUP), Err(expect), "{user:?}");
        for user in ["nobody", "short", "minus", "huge", "+", "-1", "+33", "0x21", "web ", "ROOT", "\u{661}"]
        {
            check(user, IdentityError::NoSuchUser);
        }
        for user in ["web:nogroup", "web:far", "web:-1", "web:adm:more"] {
            check(user, IdentityError::NoSuchGroup);
        }
        check("65536", IdentityError::OutOfRange(65_536));
        check("4294967296", IdentityError::OutOfRange(1 << 32));
        check("99999999999999999999999", IdentityError::OutOfRange(u64::MAX));
        check("web:4294967295", IdentityError::OutOfRange(u64::from(u32::MAX)));
    }

    #[test]
    fn an_image_without_accounts_has_numbers_only() {
        assert_eq!(resolve("", b"", b""), identity(0, 0, &[], "/"));
        assert_eq!(resolve("8:9", b"", b""), identity(8, 9, &[], "/"));
        assert_eq!(resolve("root", b"", b""), Err(IdentityError::NoSuchUser));
    }

    #[test]
    fn further_groups_have_a_bound() {
        let many: String = (1..5000).map(|gid| format!("g{gid}:x:{gid}:web\n")).collect();
        assert_eq!(resolve("web", PASSWD, many.as_bytes()).unwrap().groups.len(), GROUPS_MAX);
    }

    #[test]
    fn only_files_are_read_and_not_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwd");
        assert_eq!(account_file(&path).unwrap(), b"");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, Mode::RWXU).unwrap();
        assert_eq!(account_file(&path).unwrap(), b"");
        assert_eq!(account_file(dir.path()).unwrap(), b"");
        let large = dir.path().join("large");
        std::fs::write(&large, vec![b'x'; 2 << 20]).unwrap();
        assert_eq!(account_file(&large).unwrap().len(), 1 << 20);
        assert_eq!(account_file(Path::new("/dev/zero")).unwrap(), b"");
    }
}
