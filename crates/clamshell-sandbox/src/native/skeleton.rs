//! Folders of a session made ahead.
//!
//! Making a folder costs a file system up to half a millisecond, and a new session has half a dozen. One set is
//! always made ahead; a new session takes it with one rename.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, Once, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// What a session folder has before its keeper starts, as the keeper would make it; owners come with the session.
const FOLDERS: [(&str, u32); 6] = [
    ("run", 0o700),
    ("upper", 0o700),
    ("upper/fs", 0o755),
    ("upper/work", 0o700),
    ("shells", 0o700),
    ("workspace", 0o755),
];

/// Tells sets of several drivers of one process apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The set made ahead.
#[derive(Debug, Clone)]
pub(super) struct Skeleton {
    place: PathBuf,
    ready: Arc<Mutex<Option<PathBuf>>>,
    swept: Arc<Once>,
}

impl Skeleton {
    /// In a data folder, on the file system of the sessions.
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { place: data_dir.join("spare"), ready: Arc::default(), swept: Arc::new(Once::new()) }
    }

    /// Puts the set in the place of an empty session folder. `false` when there is none, or the session has folders already.
    pub(super) fn take(&self, session_dir: &Path) -> bool {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(ready) = ready else { return false };
        // Replaces an empty folder only: a session that comes back keeps what it has.
        if fs::rename(&ready, session_dir).is_ok() {
            return true;
        }
        *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = Some(ready);
        false
    }

    /// Makes the next set, unless there is one. Blocks.
    pub(super) fn refill(&self) {
        self.swept.call_once(|| self.sweep());
        if self.ready.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return;
        }
        let name = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = self.place.join(name);
        if make(&path).is_ok() {
            *self.ready.lock().unwrap_or_else(PoisonError::into_inner) = Some(path);
        }
    }

    /// Removes what servers that are gone have left; one server has a data folder at a time.
    fn sweep(&self) {
        let own = format!("{}-", std::process::id());
        for entry in fs::read_dir(&self.place).into_iter().flatten().flatten() {
            if !entry.file_name().to_string_lossy().starts_with(&own) {
                // Nobody but us ever wrote into it.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn make(path: &Path) -> io::Result<()> {
    let folder = |path: &Path, mode| fs::DirBuilder::new().mode(mode).create(path);
    if let Some(place) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(place)?;
    }
    folder(path, 0o700)?;
    FOLDERS.iter().try_for_each(|(name, mode)| folder(&path.join(name), *mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_new_session_takes_the_set() {
        let data = tempfile::tempdir().unwrap();
        let skeleton = Skeleton::new(data.path());
        let session = data.path().join("session");
        fs::create_dir(&session).unwrap();
        assert!(!skeleton.take(&session), "there is none yet");
        fs::create_dir_all(data.path().join("spare/1-0/run")).unwrap();
        skeleton.refill();
        assert!(!data.path().join("spare/1-0").exists(), "a dead server's set is swept away");

        let known = data.path().join("known");
        fs::create_dir_all(known.join("workspace")).unwrap();
        assert!(!skeleton.take(&known));
        assert!(skeleton.take(&session));
        for (name, _) in FOLDERS {
            assert!(session.join(name).is_dir(), "{name}");
        }
        assert!(!skeleton.take(&known), "it is used up");
    }
}
