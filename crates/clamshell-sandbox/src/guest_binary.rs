//! The guest and keeper program that this build carries with it.
//!
//! It is written once per version to the data folder, named after its content, so that a running
//! sandbox keeps its version over an upgrade and two servers may share a folder.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// One at a time: two first sessions would write the same new file, and a keeper started meanwhile would hold it open
/// for writing just long enough for the next start to fail with "text file busy".
static INSTALLING: Mutex<()> = Mutex::new(());

/// The static program.
pub const BYTES: &[u8] = include_bytes!(env!("CLAMSHELL_GUEST_BINARY_PATH"));

/// Puts the program at `<data_dir>/libexec/clamshell-guest-<hash>`, unless it is there.
///
/// # Errors
/// What the file system says.
pub fn install(data_dir: &Path) -> io::Result<PathBuf> {
    let _turn = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, BYTES);
    let hash: String = digest.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let folder = data_dir.join("libexec");
    let path = folder.join(format!("clamshell-guest-{hash}"));
    if fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() == BYTES.len() as u64) {
        return Ok(path);
    }
    fs::create_dir_all(&folder)?;
    let new = folder.join(format!("clamshell-guest-{hash}.{}.new", std::process::id()));
    let written = write(&new).and_then(|()| fs::rename(&new, &path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.map(|()| path)
}

fn write(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o555).open(path)?;
    file.write_all(BYTES)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn program_is_installed_once_and_not_writable() {
        let data_dir = tempfile::tempdir().unwrap();
        let path = install(data_dir.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o555);
        assert_eq!(fs::read(&path).unwrap(), BYTES);
        assert_eq!(install(data_dir.path()).unwrap(), path);
        assert_eq!(fs::read_dir(data_dir.path().join("libexec")).unwrap().count(), 1);
    }

    #[test]
    fn first_sessions_at_once_all_find_a_program_that_starts() {
        let data_dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let path = install(data_dir.path()).unwrap();
                    // Without a keeper's arguments it ends at once; what counts is that it starts.
                    std::process::Command::new(path).output().unwrap();
                });
            }
        });
    }
}
