//! Working folders of prefixes of buckets that sessions may change.
//!
//! There is one per prefix, shared by all sessions that show it. A manifest beside it says which object each file was when it
//! was read or written last; what differs from that is written back. The bucket is asked for an object's tag before each
//! write: an object that others changed meanwhile is kept under another name, and one that they changed is never removed.
//! What a crash leaves undone is found again by looking, for the folder itself is the queue.

mod files;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use clamshell_domain::{Clock, ObjectError, ObjectLocation, ObjectSource};
use futures_util::StreamExt;
use rustix::fs::OFlags;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

use self::files::{Entry, Manifest, Stat};
use super::{
    CopyError,
    copies::{BYTES_MAX, FETCH_AT_ONCE, FILES_MAX, FRESH_MS, blocking, is_path, name, receive},
};
use crate::objects::{Listed, Objects, format_time, has_tag};

/// Objects written at once: each has 8 MiB in memory at most.
const WRITE_AT_ONCE: usize = 4;
/// Files after which the manifest is written down, so that a crash repeats little and writing it costs little.
const SAVE_AFTER: usize = 256;
/// Lines that wait for a session to be told to; the same things are in the server's own log.
const NOTES_MAX: usize = 20;
/// A file that was written so lately may be written once more within the same tick of the kernel's clock, unseen.
const SETTLED_MS: u64 = 50;
/// After failures it is tried again after twice as long as before, at most this.
const RETRY_MS_MAX: u64 = 15 * 60_000;
/// How often a folder is looked through while a session shows it.
pub(super) const EVERY: Duration = Duration::from_secs(30);

/// All working folders.
pub(super) struct Working {
    root: PathBuf,
    objects: Objects,
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    /// One per access point of the configuration that may be changed.
    points: std::sync::Mutex<HashMap<PathBuf, Arc<Point>>>,
}

/// What a look through a folder has to say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Lines for the logs of those who show it.
    pub(super) notes: Vec<String>,
    /// The same failure as before is not told again.
    pub(super) failure: Option<String>,
    pub(super) is_new_failure: bool,
}

struct Point {
    bucket: String,
    prefix: String,
    folder: PathBuf,
    /// Something may be left to be written back, though no session shows it.
    is_pending: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    manifest: Manifest,
    is_open: bool,
    looked_ms: u64,
    failures: u32,
    next_ms: u64,
    unfit: Vec<String>,
    is_over: bool,
    notes: Vec<String>,
}

impl State {
    fn note(&mut self, note: String) {
        tracing::warn!("{note}");
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        }
    }
}

/// What became of a file or object.
enum Outcome {
    /// The object is now this one.
    Known(Entry),
    /// There is no such object any more, or it is not ours to know.
    Forgotten,
    /// To be looked at again.
    Left,
}

/// An outcome, and a line when others should know.
type Done = Result<(String, Outcome, Option<String>), CopyError>;

impl Working {
    pub(super) fn new(root: PathBuf, objects: Objects, clock: Arc<dyn Clock>, tasks: TaskTracker) -> Self {
        Self { root, objects, clock, tasks, points: std::sync::Mutex::default() }
    }

    fn point(&self, bucket: &str, prefix: &str) -> Arc<Point> {
        let folder = self.root.join(format!("rw-{}", name(bucket, prefix)));
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        let point = points.entry(folder.clone()).or_insert_with(|| {
            Arc::new(Point {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
                // From before the server's start.
                is_pending: AtomicBool::new(folder.exists()),
                folder,
                state: Mutex::default(),
            })
        });
        Arc::clone(point)
    }

    /// Whether something may be left to be written back.
    pub(super) fn is_pending(&self, bucket: &str, prefix: &str) -> bool {
        self.point(bucket, prefix).is_pending.load(Ordering::Acquire)
    }

    /// Writes back what is left, fetches what is new, and gives the folder to show.
    pub(super) async fn open(self: &Arc<Self>, bucket: &str, prefix: &str) -> Result<PathBuf, CopyError> {
        let (this, point) = (Arc::clone(self), self.point(bucket, prefix));
        // In a task of its own, so that it goes on when the session gives up.
        let opened = self.tasks.spawn(async move {
            let mut state = point.state.lock().await;
            let now_ms = this.clock.now_ms();
            if now_ms >= state.looked_ms.saturating_add(FRESH_MS) || now_ms < state.looked_ms {
                // A session that goes on from here may write at any time.
                point.is_pending.store(true, Ordering::Release);
                this.prepare(&point, &mut state).await?;
                this.push(&point, &mut state).await?;
                this.pull(&point, &mut state).await?;
                state.looked_ms = this.clock.now_ms();
            }
            Ok(point.folder.join("files"))
        });
        opened.await.unwrap_or(Err(CopyError::Ended))
    }

    /// Writes back what changed; unless it `must`, not before it is time after a failure.
    pub(super) async fn write_back(&self, bucket: &str, prefix: &str, must: bool) -> Report {
        let point = self.point(bucket, prefix);
        let mut state = point.state.lock().await;
        if !must && self.clock.now_ms() < state.next_ms {
            return Report::default();
        }
        let pushed = match self.prepare(&point, &mut state).await {
            Ok(()) => self.push(&point, &mut state).await,
            Err(error) => Err(error),
        };
        let mut report = Report { notes: std::mem::take(&mut state.notes), ..Report::default() };
        match pushed {
            Ok(()) => {
                point.is_pending.store(state.is_over, Ordering::Release);
                if std::mem::take(&mut state.failures) > 0 {
                    report.notes.push(format!("{}: changes are written back again", point.title()));
                }
                state.next_ms = 0;
            }
            Err(error) => {
                point.is_pending.store(true, Ordering::Release);
                let reason = crate::http::chain(&error);
                report.failure = Some(format!(
                    "{}: changes cannot be written back; they stay in the folder, and it is tried again: {reason}",
                    point.title()
                ));
                report.is_new_failure = state.failures == 0;
                let wait_ms = 30_000_u64.saturating_mul(1 << state.failures.min(10)).min(RETRY_MS_MAX);
                state.failures += 1;
                state.next_ms = self.clock.now_ms().saturating_add(wait_ms);
            }
        }
        report
    }

    /// Makes the folders, and reads the manifest once.
    async fn prepare(&self, point: &Point, state: &mut State) -> Result<(), CopyError> {
        let folder = point.folder.clone();
        let is_open = state.is_open;
        let read = blocking(move || {
            let files = folder.join("files");
            if is_open && files.exists() {
                return Ok(None);
            }
            DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
            if !files.exists() {
                // Without its files the manifest would say that all of them were removed.
                files::write_manifest(&folder, &Manifest::new())?;
                fs::create_dir(&files)?;
                files::give(&File::open(&files)?, 0o755)?;
            }
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with("new-") {
                    let _ = fs::remove_file(entry.path());
                }
            }
            Ok(Some(files::read_manifest(&folder)))
        })
        .await?;
        if let Some(manifest) = read {
            state.manifest = manifest;
            state.is_open = true;
        }
        Ok(())
    }

    async fn save(&self, point: &Point, state: &State) -> Result<(), CopyError> {
        let (folder, manifest) = (point.folder.clone(), state.manifest.clone());
        Ok(blocking(move || files::write_manifest(&folder, &manifest)).await?)
    }

    /// Writes all changes back to the bucket.
    async fn push(&self, point: &Point, state: &mut State) -> Result<(), CopyError> {
        let (at, prefix_bytes) = (point.folder.join("files"), point.prefix.len());
        let (root, scan) = blocking(move || {
            let root = File::open(at)?;
            let scan = files::scan(&root, prefix_bytes, FILES_MAX + 1)?;
            Ok((Arc::new(root), scan))
        })
        .await?;
        if scan.unfit_count > 0 && scan.unfit != state.unfit {
            state.note(format!(
                "{}: {} of its files are not written back, being links, pipes or sockets, larger than 5 GiB, or \
                 with names that keys cannot have: {}",
                point.title(),
                scan.unfit_count,
                scan.unfit.join(", ")
            ));
        }
        state.unfit = scan.unfit;
        let is_over = scan.files.len() > FILES_MAX || scan.bytes > BYTES_MAX;
        if is_over && !state.is_over {
            state.note(format!(
                "{}: more than 10 GiB or 100,000 files: what is new or changed is not written back until it is less",
                point.title()
            ));
        }
        state.is_over = is_over;
        let is_changed = |key: &String, stat: &Stat| {
            state.manifest.get(key).is_none_or(|entry| entry.stat.as_ref() != Some(stat))
        };
        let changed = scan.files.iter().filter(|(key, stat)| !is_over && is_changed(key, stat));
        let changed: Vec<_> =
            changed.map(|(key, _)| (key.clone(), state.manifest.get(key).cloned())).collect();
        let absent = state.manifest.iter().filter(|(key, _)| !scan.files.contains_key(*key));
        let absent: Vec<_> = absent.map(|(key, entry)| (key.clone(), entry.etag.clone())).collect();
        // First what is new: a file that was renamed is never nowhere.
        let writes = changed.into_iter().map(|(key, known)| self.write(point, &root, key, known));
        self.all(point, state, futures_util::stream::iter(writes).buffer_unordered(WRITE_AT_ONCE)).await?;
        let removals = absent.into_iter().map(|(key, etag)| self.delete(point, &root, key, etag));
        self.all(point, state, futures_util::stream::iter(removals).buffer_unordered(WRITE_AT_ONCE)).await
    }

    /// Takes what was done into the manifest, up to the first failure.
    async fn all(
        &self,
        point: &Point,
        state: &mut State,
        outcomes: impl futures_util::Stream<Item = Done>,
    ) -> Result<(), CopyError> {
        let mut outcomes = std::pin::pin!(outcomes);
        let mut unsaved = 0;
        let mut failed = Ok(());
        while let Some(done) = outcomes.next().await {
            match done {
                Ok((key, outcome, note)) => {
                    note.into_iter().for_each(|note| state.note(note));
                    match outcome {
                        Outcome::Known(entry) => drop(state.manifest.insert(key, entry)),
                        Outcome::Forgotten => drop(state.manifest.remove(&key)),
                        Outcome::Left => continue,
                    }
                    unsaved += 1;
                }
                Err(error) => {
                    failed = Err(error);
                    break;
                }
            }
            if unsaved >= SAVE_AFTER {
                self.save(point, state).await?;
                unsaved = 0;
            }
        }
        if unsaved > 0 {
            self.save(point, state).await?;
        }
        failed
    }

    /// Writes one file as its object.
    async fn write(&self, point: &Point, root: &Arc<File>, key: String, known: Option<Entry>) -> Done {
        let full = format!("{}{key}", point.prefix);
        let (at, path) = (Arc::clone(root), key.clone());
        // It may be gone again, or something else by now.
        let Ok((file, stat)) = blocking(move || files::open_file(&at, &path)).await else {
            return Ok((key, Outcome::Left, None));
        };
        let changed_ms = u64::try_from(stat.modified_s)
            .unwrap_or(0)
            .saturating_mul(1000)
            .saturating_add(u64::try_from(stat.modified_ns / 1_000_000).unwrap_or(0));
        let age_ms = self.clock.now_ms().saturating_sub(changed_ms);
        if age_ms < SETTLED_MS {
            tokio::time::sleep(Duration::from_millis(SETTLED_MS)).await;
        }
        // From here on, another time of change means other bytes.
        let file = Arc::new(file);
        let before = Stat::of(&file.metadata()?);
        let mut note = None;
        let now = self.objects.tag(&point.bucket, &full).await?;
        let expected = known.as_ref().map(|known| known.etag.as_str());
        if let Some(now) = now.filter(|now| Some(now.as_str()) != expected) {
            let (same, tag, size) = (Arc::clone(&file), now.clone(), before.size);
            // As a crash between a write and the manifest leaves it.
            if blocking(move || Ok(has_tag(&same, size, &tag).unwrap_or(false))).await? {
                return Ok((key, Outcome::Known(Entry { etag: now, stat: Some(before) }), None));
            }
            let other = self.other_name(point, &key);
            self.objects.copy(&point.bucket, &full, &other).await?;
            note = Some(format!(
                "{}: {key:?} was changed here and in the bucket; the object of the bucket is now {other:?}",
                point.title()
            ));
        }
        match self.objects.put(&point.bucket, &full, &file, before.size).await {
            Ok(etag) => {
                let after = Stat::of(&file.metadata()?);
                let stat = (after == before).then_some(before);
                Ok((key, Outcome::Known(Entry { etag, stat }), note))
            }
            // It shrank while it was read; that is no failure of the bucket.
            Err(_) if file.metadata()?.len() < before.size => Ok((key, Outcome::Left, note)),
            Err(error) => Err(error.into()),
        }
    }

    /// Key for an object that a file takes the place of.
    fn other_name(&self, point: &Point, key: &str) -> String {
        let time = format_time(self.clock.now_ms()).unwrap_or_default();
        let other = format!("{}{key}.conflict-{time}", point.prefix);
        if files::is_fit(&other) {
            return other;
        }
        format!("{}{}.conflict-{time}", point.prefix, name(&point.bucket, key))
    }

    /// Removes the object of a file that is not there any more.
    async fn delete(&self, point: &Point, root: &Arc<File>, key: String, etag: String) -> Done {
        let (at, path) = (Arc::clone(root), key.clone());
        if !blocking(move || Ok(files::is_gone(&at, &path))).await? {
            return Ok((key, Outcome::Left, None));
        }
        let full = format!("{}{key}", point.prefix);
        let now = self.objects.tag(&point.bucket, &full).await?;
        let mut note = None;
        if now.as_deref() == Some(etag.as_str()) {
            self.objects.delete(&point.bucket, &full).await?;
        } else if now.is_some() {
            note = Some(format!(
                "{}: {key:?} was removed here and changed in the bucket; the object stays, and comes back",
                point.title()
            ));
        }
        Ok((key, Outcome::Forgotten, note))
    }

    /// Fetches what is new in the bucket, and removes what is gone there.
    async fn pull(&self, point: &Point, state: &mut State) -> Result<(), CopyError> {
        let listed = self.objects.list(&point.bucket, &point.prefix, FILES_MAX + 1).await?;
        if listed.len() > FILES_MAX {
            return Err(CopyError::TooLarge { most: "100,000 objects" });
        }
        if listed.iter().fold(0_u64, |sum, one| sum.saturating_add(one.size)) > BYTES_MAX {
            return Err(CopyError::TooLarge { most: "10 GiB" });
        }
        let mut wanted = HashMap::with_capacity(listed.len());
        for Listed { key, etag, .. } in listed {
            let below = key.strip_prefix(&point.prefix).filter(|below| is_path(below.trim_end_matches('/')));
            if let Some(below) = below {
                wanted.insert(below.to_owned(), etag);
            }
        }
        let (at, staging) = (point.folder.join("files"), point.folder.clone());
        let (known, gone): (Manifest, Manifest) =
            state.manifest.clone().into_iter().partition(|(key, _)| wanted.contains_key(key));
        let folders: Vec<String> =
            wanted.extract_if(|key, _| key.ends_with('/')).map(|(key, _)| key).collect();
        let (root, staging) = blocking(move || {
            let (root, staging) = (File::open(at)?, File::open(staging)?);
            for folder in folders {
                // Where a file has its place it stays.
                let _ = files::make_folders(&root, &folder);
            }
            for (key, entry) in gone {
                if let Some(stat) = entry.stat {
                    files::remove(&staging, &root, &key, &stat)?;
                }
            }
            Ok((Arc::new(root), Arc::new(staging)))
        })
        .await?;
        // What was changed here and is gone there is new, when it is looked at next.
        state.manifest = known;
        let missing = wanted.into_iter().filter_map(|(key, etag)| {
            let entry = state.manifest.get(&key).cloned();
            let is_known = entry.as_ref().is_some_and(|entry| entry.etag == etag);
            // One that changed here is settled when it is written back.
            let is_ours = entry.as_ref().is_some_and(|entry| entry.stat.is_none());
            (!is_known && !is_ours).then(|| (key, entry.and_then(|entry| entry.stat)))
        });
        let missing: Vec<_> = missing.enumerate().collect();
        let fetches = missing.into_iter().map(|(number, (key, stat))| {
            let (root, staging) = (Arc::clone(&root), Arc::clone(&staging));
            self.fetch(point, root, staging, number, key, stat)
        });
        self.all(point, state, futures_util::stream::iter(fetches).buffer_unordered(FETCH_AT_ONCE)).await?;
        self.save(point, state).await
    }

    async fn fetch(
        &self,
        point: &Point,
        root: Arc<File>,
        staging: Arc<File>,
        number: usize,
        key: String,
        stat: Option<Stat>,
    ) -> Done {
        let location = ObjectLocation {
            bucket: point.bucket.clone(),
            key: format!("{}{key}", point.prefix),
            version_id: None,
        };
        let mut content = match self.objects.get(&location).await {
            Ok(content) => content,
            Err(ObjectError::NoSuchObject { .. }) => return Ok((key, Outcome::Left, None)),
            Err(error) => return Err(error.into()),
        };
        let no_tag = || ObjectError::Failed { reason: format!("{key} has no tag") };
        let etag = content.etag.take().ok_or_else(no_tag)?;
        let new = format!("new-{number}");
        let path = point.folder.join(&new);
        let file = blocking(move || create(&path)).await?;
        let file = receive(&mut content, file, &key).await?;
        let path = key.clone();
        let placed = blocking(move || {
            files::give(&file, 0o644)?;
            // Otherwise a machine that loses its power could have half a file, which would look like a change.
            file.sync_all()?;
            let new_stat = Stat::of(&file.metadata()?);
            Ok(files::place(&staging, &new, &root, &path, stat.as_ref())?.then_some(new_stat))
        })
        .await?;
        Ok(match placed {
            Some(stat) => (key, Outcome::Known(Entry { etag, stat: Some(stat) }), None),
            None => (key, Outcome::Left, None),
        })
    }
}

impl Point {
    fn title(&self) -> String {
        format!("{}/{}", self.bucket, self.prefix)
    }
}

fn create(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    File::options().write(true).create(true).truncate(true).mode(0o600).custom_flags(flags).open(path)
}
