//! Makes room: files that are too old go, and the oldest of a group that has too many bytes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{LogPolicy, Logs, writer::files_of};

/// How often all groups are looked at: days are what counts.
const LOOK: Duration = Duration::from_secs(3600);

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;

impl Logs {
    /// Runs until the server shuts down.
    pub(crate) async fn keep_tidy(self: Arc<Self>, shutdown: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(looks.tick()).await.is_some() {
            let logs = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || logs.tidy()).await;
        }
    }

    fn tidy(&self) {
        let now_ms = self.clock.now_ms();
        for group in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            tidy_group(&group.path(), self.policy, now_ms);
        }
    }
}

/// Removes what a group must not keep. Blocks.
pub(super) fn tidy_group(group: &Path, policy: LogPolicy, now_ms: u64) {
    let oldest_ms = now_ms.saturating_sub(policy.days_max.saturating_mul(DAY_MS));
    let mut files: Vec<(u64, u64, PathBuf)> = Vec::new();
    for (_, _, path) in files_of(group, None) {
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let written_ms = std::os::unix::fs::MetadataExt::mtime(&metadata);
        let written_ms = u64::try_from(written_ms).unwrap_or(0).saturating_mul(1000);
        files.push((written_ms, metadata.len(), path));
    }
    files.sort();
    let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (written_ms, its_bytes, path) in files {
        if written_ms >= oldest_ms && bytes <= policy.group_bytes_max {
            break;
        }
        bytes -= its_bytes;
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, "an old log was not removed");
        }
        // Folders of days, months and years that are empty now.
        for folder in path.ancestors().skip(1).take(3) {
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clamshell_domain::{Clock, SystemClock};

    use super::*;

    #[test]
    fn the_oldest_files_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let now_ms = SystemClock.now_ms();
        let make = |day: &str, age_days: u64| {
            let folder = folder.path().join(day);
            fs::create_dir_all(&folder).unwrap();
            let path = folder.join("[runtime-logs]s.jsonl");
            fs::write(&path, [b'x'; 100]).unwrap();
            let at = std::time::UNIX_EPOCH + Duration::from_millis(now_ms - age_days * DAY_MS);
            fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
        };
        make("2026/01/01", 20);
        make("2026/01/02", 10);
        make("2026/01/03", 5);
        make("2026/02/01", 1);
        let days = || -> Vec<_> { files_of(folder.path(), None).into_iter().map(|(day, ..)| day).collect() };
        let policy = LogPolicy { group_bytes_max: 1000, days_max: 14 };
        tidy_group(folder.path(), policy, now_ms);
        assert_eq!(days(), ["2026/01/02", "2026/01/03", "2026/02/01"]);
        tidy_group(folder.path(), LogPolicy { group_bytes_max: 150, ..policy }, now_ms);
        assert_eq!(days(), ["2026/02/01"]);
        assert!(!folder.path().join("2026/01").exists());
        tidy_group(folder.path(), policy, now_ms);
        assert_eq!(days(), ["2026/02/01"]);
    }
}
