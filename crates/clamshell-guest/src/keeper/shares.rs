//! What the sandboxes of an OCI runtime share: counts that the kernel keeps for whoever made a user
//! namespace, which is root for all of them. Without a bound of its own one sandbox takes all there
//! is, and every other one, and the machine's own root, goes without.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags};

use super::stage;

/// Counts of which a sandbox gets a part.
const SHARED: [&str; 2] = ["user/max_inotify_instances", "user/max_inotify_watches"];

/// One sandbox leaves three quarters to the others.
const PART: u64 = 4;

/// Fewer make ordinary tools fail, whatever the machine has.
const LEAST: u64 = 16;

/// What a sandbox gets, found out before its user namespace is entered: the kernel shows each namespace its own.
pub(crate) struct Shares {
    settings: OwnedFd,
    parts: Vec<(&'static str, u64)>,
}

impl Shares {
    /// Reads what the machine has. `None` where `/proc/sys` is not there.
    pub(crate) fn of_machine() -> Option<Self> {
        let settings = stage::open_dir(CWD, "/proc/sys").ok()?;
        let parts =
            SHARED.iter().filter_map(|name| Some((*name, part(read(settings.as_fd(), name)?)))).collect();
        Some(Self { settings, parts })
    }

    /// Sets the bounds of the user namespace that the caller is in now.
    pub(crate) fn apply(&self) -> rustix::io::Result<()> {
        // Behind the filter, which lets nobody ask for one, a second wall.
        write(self.settings.as_fd(), "user/max_user_namespaces", 0)?;
        self.parts.iter().try_for_each(|(name, most)| write(self.settings.as_fd(), name, *most))
    }
}

fn part(whole: u64) -> u64 {
    // The kernel takes an `int`.
    (whole / PART).clamp(LEAST, 0x7fff_ffff)
}

fn read(settings: BorrowedFd<'_>, name: &str) -> Option<u64> {
    let file = rustix::fs::openat(settings, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut text = [0; 24];
    let length = rustix::io::read(&file, &mut text).ok()?;
    std::str::from_utf8(text.get(..length)?).ok()?.trim().parse().ok()
}

fn write(settings: BorrowedFd<'_>, name: &str, value: u64) -> rustix::io::Result<()> {
    let file = rustix::fs::openat(settings, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value.to_string().as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_gets_a_part_and_never_too_little() {
        let check = |whole, expect| assert_eq!(part(whole), expect);
        check(128, 32);
        check(8, 16);
        check(0, 16);
        check(u64::MAX, 0x7fff_ffff);
    }
}
