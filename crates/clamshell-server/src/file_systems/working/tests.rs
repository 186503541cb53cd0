//! Working folders against a bucket of this server.

use std::sync::atomic::AtomicU64;

use super::*;
use crate::objects::store_for_tests;

/// Time that passes only when told.
struct Fixture {
    folder: tempfile::TempDir,
    clock: Arc<Hours>,
    objects: Objects,
    working: Arc<Working>,
}

/// Each look at the time is a minute later: nothing is fresh, and all is settled.
#[derive(Default)]
struct Hours(AtomicU64);

impl Clock for Hours {
    fn now_ms(&self) -> u64 {
        // Beyond the machine's own time, so that files are old.
        10_000_000_000_000 + self.0.fetch_add(60_000, Ordering::Relaxed)
    }
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        store_for_tests(folder.path(), "bucket");
        let clock = Arc::new(Hours::default());
        let objects = Objects::new(folder.path(), [].into(), clock.clone());
        let working = Self::working(folder.path(), &objects, &clock);
        Self { folder, clock, objects, working }
    }

    fn working(at: &Path, objects: &Objects, clock: &Arc<Hours>) -> Arc<Working> {
        let root = at.join("copies");
        Arc::new(Working::new(root, objects.clone(), clock.clone(), TaskTracker::new()))
    }

    /// As a server that was killed and started again.
    fn killed(&mut self) {
        self.working = Self::working(self.folder.path(), &self.objects, &self.clock);
    }

    async fn open(&self) -> PathBuf {
        self.working.open("bucket", "p/").await.unwrap()
    }

    async fn write_back(&self) -> Vec<String> {
        let report = self.working.write_back("bucket", "p/", true).await;
        assert_eq!(report.failure, None);
        report.notes
    }

    async fn put(&self, key: &str, text: &str) {
        let path = self.folder.path().join("upload");
        fs::write(&path, text).unwrap();
        let file = Arc::new(File::open(path).unwrap());
        self.objects.put("bucket", key, &file, text.len() as u64).await.unwrap();
    }

    /// Keys and bytes of all objects.
    async fn all(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for Listed { key, .. } in self.objects.list("bucket", "", 100).await.unwrap() {
            let at = ObjectLocation { bucket: "bucket".into(), key: key.clone(), version_id: None };
            let mut content = self.objects.get(&at).await.unwrap();
            let mut bytes = Vec::new();
            while let Some(piece) = content.body.next().await.unwrap() {
                bytes.extend(piece);
            }
            all.push((key, String::from_utf8(bytes).unwrap()));
        }
        all
    }

    async fn check(&self, expect: &[(&str, &str)]) {
        let all = self.all().await;
        let all: Vec<_> = all.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
        assert_eq!(all, expect);
    }
}

#[tokio::test]
async fn what_is_written_renamed_and_removed_goes_back() {
    let fixture = Fixture::new();
    fixture.put("p/a/known", "known").await;
    fixture.put("p/old", "old").await;
    fixture.put("beside", "beside").await;
    let at = fixture.open().await;
    assert_eq!(fs::read_to_string(at.join("a/known")).unwrap(), "known");
    fs::create_dir(at.join("b")).unwrap();
    fs::write(at.join("b/new"), "new").unwrap();
    fs::rename(at.join("old"), at.join("b/renamed")).unwrap();
    fs::write(at.join("a/known"), "better").unwrap();
    assert_eq!(fixture.write_back().await, [""; 0]);
    let expect = [("beside", "beside"), ("p/a/known", "better"), ("p/b/new", "new"), ("p/b/renamed", "old")];
    fixture.check(&expect).await;

    // What others do shows at the next start of a session.
    fixture.put("p/a/more", "more").await;
    fixture.put("p/b/new", "theirs").await;
    fixture.objects.delete("bucket", "p/b/renamed").await.unwrap();
    assert_eq!(fixture.open().await, at);
    assert_eq!(fs::read_to_string(at.join("a/more")).unwrap(), "more");
    assert_eq!(fs::read_to_string(at.join("b/new")).unwrap(), "theirs");
    assert!(!at.join("b/renamed").exists());
    fs::remove_dir_all(at.join("a")).unwrap();
    fixture.write_back().await;
    fixture.check(&[("beside", "beside"), ("p/b/new", "theirs")]).await;
}

#[tokio::test]
async fn a_conflict_loses_neither_side() {
    let fixture = Fixture::new();
    for key in ["p/both", "p/gone there", "p/gone here"] {
        fixture.put(key, "first").await;
    }
    let at = fixture.open().await;
    fixture.put("p/both", "theirs").await;
    fs::write(at.join("both"), "ours").unwrap();
    fixture.objects.delete("bucket", "p/gone there").await.unwrap();
    fs::write(at.join("gone there"), "ours").unwrap();
    fixture.put("p/gone here", "theirs").await;
    fs::remove_file(at.join("gone here")).unwrap();
    let notes = fixture.write_back().await;
    assert_eq!(notes.len(), 2, "{notes:?}");
    let all = fixture.all().await;
    let (other, _) = all.iter().find(|(key, _)| key.starts_with("p/both.conflict-")).unwrap();
    fixture
        .check(&[
            ("p/both", "ours"),
            (other.as_str(), "theirs"),
            ("p/gone here", "theirs"),
            ("p/gone there", "ours"),
        ])
        .await;
    fixture.open().await;
    assert_eq!(fs::read_to_string(at.join("gone here")).unwrap(), "theirs");
}

#[tokio::test]
async fn a_killed_server_writes_back_what_is_left() {
    let mut fixture = Fixture::new();
    fixture.put("p/removed", "x").await;
    let at = fixture.open().await;
    fs::write(at.join("written"), "ours").unwrap();
    fs::write(at.join("arrived"), "ours").unwrap();
    fs::remove_file(at.join("removed")).unwrap();
    // This one was written just before the kill; its manifest was not.
    fixture.put("p/arrived", "ours").await;
    fs::write(at.parent().unwrap().join("new-3"), "half").unwrap();
    fixture.killed();
    assert!(fixture.working.is_pending("bucket", "p/"));
    assert_eq!(fixture.write_back().await, [""; 0]);
    assert!(!fixture.working.is_pending("bucket", "p/"));
    fixture.check(&[("p/arrived", "ours"), ("p/written", "ours")]).await;
    assert!(!at.parent().unwrap().join("new-3").exists());

    // Nor is a folder that somebody removed an order to empty the bucket.
    fs::remove_dir_all(&at).unwrap();
    fixture.killed();
    fixture.write_back().await;
    assert_eq!(fixture.all().await.len(), 2);
}

#[tokio::test]
async fn a_bucket_that_fails_is_told_once_and_loses_nothing() {
    let fixture = Fixture::new();
    let at = fixture.open().await;
    fs::write(at.join("file"), "ours").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at.join("link")).unwrap();
    let (bucket, away) = (fixture.folder.path().join("objects/bucket"), fixture.folder.path().join("away"));
    fs::rename(&bucket, &away).unwrap();
    let report = fixture.working.write_back("bucket", "p/", true).await;
    assert!(report.is_new_failure && report.notes[0].contains("\"link\""), "{report:?}");
    assert!(report.failure.unwrap().contains("no bucket named bucket"));
    let report = fixture.working.write_back("bucket", "p/", true).await;
    assert!(!report.is_new_failure && report.notes.is_empty(), "{report:?}");
    assert!(
        fixture.working.is_pending("bucket", "p/") && fixture.working.open("bucket", "p/").await.is_err()
    );
    fs::rename(&away, &bucket).unwrap();
    let notes = fixture.write_back().await;
    assert!(notes.len() == 1 && notes[0].contains("again"), "{notes:?}");
    fixture.check(&[("p/file", "ours")]).await;
}
