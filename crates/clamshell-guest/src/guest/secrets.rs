//! Secrets of a program at a terminal: files that it alone may read, in a memory file system, from before its start to its end.
//!
//! They are never in its environment or arguments, which others may read, and never on a disk. Who is root in the sandbox can
//! read them, and so can programs of the same user: `docs/adr/0010-terminal-secrets.md`.

use std::os::fd::OwnedFd;

use clamshell_protocol::ShellSecret;
use rustix::{
    fs::{
        AtFlags, Dir, Gid, Mode, OFlags, Uid, fchmod, fchown, fstat, fstatfs, mkdirat, open, openat, unlinkat,
    },
    io::Errno,
    process::geteuid,
};

/// Most entries that are removed with a folder: its program may have put more there.
const ENTRIES_MAX: usize = 1024;

/// Folders tried for one shell: its program may keep an earlier one of the same name from being removed.
const TRIES: u32 = 16;

/// `f_type` of tmpfs and ramfs.
const MEMORY_FILE_SYSTEMS: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// A folder with secrets; dropping it removes them.
pub(super) struct SecretFolder {
    /// Its folder's, and its own.
    above: OwnedFd,
    folder: OwnedFd,
    name: String,
    path: String,
}

impl SecretFolder {
    /// Writes the secrets of a shell for its program's user.
    pub(super) fn make(
        base: &str,
        shell_id: &str,
        identity: Option<(u32, u32)>,
        secrets: &[ShellSecret],
    ) -> Result<Self, String> {
        let failed = |what: &str, errno: Errno| format!("{what}: {errno}");
        let above = base_folder(base)?;
        let mut made = Err(Errno::EXIST);
        let mut name = shell_id.to_owned();
        for number in 1..=TRIES {
            made = mkdirat(&above, &name, Mode::RWXU);
            if made != Err(Errno::EXIST) {
                break;
            }
            name = format!("{shell_id}.{number}");
        }
        made.map_err(|errno| failed("their folder cannot be made", errno))?;
        let folder = match openat(&above, &name, DIRECTORY, Mode::empty()) {
            Ok(folder) => folder,
            Err(errno) => {
                let _ = unlinkat(&above, &name, AtFlags::REMOVEDIR);
                return Err(failed("their folder cannot be opened", errno));
            }
        };
        let made = Self { above, folder, path: format!("{base}/{name}"), name };
        for secret in secrets {
            made.write(secret, identity).map_err(|errno| failed("one cannot be written", errno))?;
        }
        give(&made.folder, identity, Mode::RUSR | Mode::XUSR)
            .map_err(|errno| failed("their folder cannot be given to its user", errno))?;
        Ok(made)
    }

    fn write(&self, secret: &ShellSecret, identity: Option<(u32, u32)>) -> Result<(), Errno> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if secret.name.is_empty() || !secret.name.bytes().all(is_name) {
            return Err(Errno::INVAL);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.folder, &secret.name, flags, Mode::RUSR | Mode::WUSR)?;
        let mut rest = secret.value.as_bytes();
        while !rest.is_empty() {
            let count = rustix::io::write(&file, rest)?;
            rest = &rest[count..];
        }
        give(&file, identity, Mode::RUSR)
    }

    /// Name of the folder.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The folder of all folders of secrets, made when it is missing, and only of the guest.
fn base_folder(base: &str) -> Result<OwnedFd, String> {
    let failed = |errno: Errno| format!("{base} cannot be made: {errno}");
    let mut parts = base.rsplitn(3, '/');
    let (Some(last), Some(first), Some(top)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(format!("{base} is no path for them"));
    };
    let mut folder =
        open(top, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    for name in [first, last] {
        // Others go through, to folders of theirs, and see no names.
        match mkdirat(&folder, name, Mode::from_raw_mode(0o711)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        folder = openat(&folder, name, DIRECTORY, Mode::empty()).map_err(failed)?;
        let stat = fstat(&folder).map_err(failed)?;
        if stat.st_uid != geteuid().as_raw() || stat.st_mode & 0o022 != 0 {
            return Err(format!("{base} is not the guest's own"));
        }
    }
    let kind = fstatfs(&folder).map_err(failed)?.f_type;
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        reason = "signed, and of another width, on some machines"
    )]
    if !MEMORY_FILE_SYSTEMS.contains(&(kind as u64 & 0xffff_ffff)) {
        return Err(format!("{base} is not in memory"));
    }
    Ok(folder)
}

fn give(made: &OwnedFd, identity: Option<(u32, u32)>, mode: Mode) -> Result<(), Errno> {
    if let Some((uid, gid)) = identity {
        fchown(made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    fchmod(made, mode)
}

impl Drop for SecretFolder {
    fn drop(&mut self) {
        // Where the guest is no root of its own it needs the right.
        let _ = fchmod(&self.folder, Mode::RWXU);
        let names: Vec<_> = Dir::read_from(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_owned())
            .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
            .take(ENTRIES_MAX)
            .collect();
        for name in names {
            if unlinkat(&self.folder, name.as_c_str(), AtFlags::empty()).is_err() {
                let _ = unlinkat(&self.folder, name.as_c_str(), AtFlags::REMOVEDIR);
            }
        }
        let _ = unlinkat(&self.above, &self.name, AtFlags::REMOVEDIR);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn secret(name: &str, value: &str) -> ShellSecret {
        ShellSecret { name: name.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn files_are_there_until_the_folder_is_dropped() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let base = format!("{}/clamshell/secrets", memory.path().display());
        let made =
            SecretFolder::make(&base, "one", None, &[secret("KEY", "value"), secret("_2", "")]).unwrap();
        assert_eq!(made.path(), format!("{base}/one"));
        let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(made.path()), 0o500);
        assert_eq!(mode(&format!("{base}/one/KEY")), 0o400);
        assert_eq!(fs::read_to_string(format!("{base}/one/KEY")).unwrap(), "value");
        // What its program adds goes as well.
        fs::set_permissions(made.path(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(format!("{base}/one/more"), "x").unwrap();
        drop(made);
        assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
        assert_eq!(mode(&base), 0o711);
    }

    #[test]
    fn a_folder_that_cannot_go_is_in_nobodys_way() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let base = format!("{}/clamshell/secrets", memory.path().display());
        fs::create_dir_all(format!("{base}/one/full/of")).unwrap();
        let made = SecretFolder::make(&base, "one", None, &[secret("KEY", "value")]).unwrap();
        assert_eq!(made.path(), format!("{base}/one.1"));
    }

    #[test]
    fn nothing_is_written_where_it_is_not_safe() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let base = |folder: &std::path::Path| format!("{}/clamshell/secrets", folder.display());
        let make = |base: &str, name: &str| SecretFolder::make(base, "one", None, &[secret(name, "v")]).err();
        let refused = make(&base(disk.path()), "KEY").unwrap();
        assert!(refused.contains("is not in memory"), "{refused}");
        for name in ["", "..", "a/b", "a b", "a\0"] {
            assert!(make(&base(memory.path()), name).is_some(), "{name}");
        }
        assert_eq!(fs::read_dir(base(memory.path())).unwrap().count(), 0, "a refusal leaves nothing");
        fs::set_permissions(memory.path().join("clamshell"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(make(&base(memory.path()), "KEY").unwrap().contains("not the guest's own"));
        fs::remove_dir_all(memory.path().join("clamshell")).unwrap();
        std::os::unix::fs::symlink("/dev/shm", memory.path().join("clamshell")).unwrap();
        assert!(make(&base(memory.path()), "KEY").is_some());
    }
}
