//! Zips made by hand, and how their code is started.

use std::{collections::BTreeMap, io::Write, os::unix::fs::PermissionsExt, sync::Mutex};

use clamshell_domain::{Artifact, BoxFuture, ImageConfig, ObjectBody, ObjectSource};
use clamshell_protocol::BindSpec;
use tempfile::TempDir;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;
use crate::image::{ImageSources, PullOptions};

/// Objects in memory.
#[derive(Debug, Default)]
struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);

struct Pieces(std::vec::IntoIter<u8>);

impl ObjectBody for Pieces {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<u8>>, ObjectError>> {
        let piece: Vec<u8> = self.0.by_ref().take(1000).collect();
        Box::pin(async move { Ok((!piece.is_empty()).then_some(piece)) })
    }
}

impl ObjectSource for Memory {
    fn get<'a>(&'a self, location: &'a ObjectLocation) -> BoxFuture<'a, Result<ObjectContent, ObjectError>> {
        Box::pin(async move {
            let (bucket, key) = (location.bucket.clone(), location.key.clone());
            let objects = self.0.lock().unwrap();
            let bytes = objects.get(&key).cloned().ok_or(ObjectError::NoSuchObject { bucket, key })?;
            let size = bytes.len() as u64;
            Ok(ObjectContent {
                size,
                etag: None,
                version_id: None,
                body: Box::new(Pieces(bytes.into_iter())),
            })
        })
    }
}

const LIMITS: CodeLimits =
    CodeLimits { zip_bytes_max: 1 << 20, unpacked_bytes_max: 3 << 20, entries_max: 50, ratio_max: 100 };

struct Place {
    folder: TempDir,
    objects: Arc<Memory>,
    store: ImageStore,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let objects = Arc::new(Memory::default());
        let mut pull = PullOptions::default();
        pull.unpack.is_durable = false;
        let sources =
            ImageSources { objects: Some(objects.clone()), code: LIMITS, pull, ..ImageSources::default() };
        let store = ImageStore::new(&folder.path().join("data"), Vec::new()).with_sources(sources);
        let root = folder.path().join("root/usr/bin");
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("python3.12"), "").unwrap();
        fs::write(root.join("node"), "").unwrap();
        Self { folder, objects, store }
    }

    fn put(&self, key: &str, bytes: Vec<u8>) {
        self.objects.0.lock().unwrap().insert(key.to_owned(), bytes);
    }

    fn artifact(&self, key: &str, entry_point: &[&str]) -> Artifact {
        Artifact::Code {
            location: ObjectLocation { bucket: "bucket".into(), key: key.into(), version_id: None },
            runtime: CodeRuntime::Python312,
            entry_point: entry_point.iter().map(|text| (*text).to_owned()).collect(),
            base: Box::new(Artifact::Directory { path: self.folder.path().join("root") }),
            digest: None,
        }
    }

    async fn refused(&self, zip: Vec<u8>) -> String {
        self.put("bad.zip", zip);
        let error = self.store.pin(&self.artifact("bad.zip", &["agent.py"]), None).await.unwrap_err();
        let code = self.folder.path().join("data/images/code");
        assert_eq!(fs::read_dir(code).map_or(0, Iterator::count), 0, "nothing is left: {error}");
        error.to_string()
    }
}

/// A zip of these, in order.
fn zip_of(fill: impl Fn(&mut ZipWriter<std::io::Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    fill(&mut writer);
    writer.finish().unwrap().into_inner()
}

fn mode(mode: u32) -> SimpleFileOptions {
    SimpleFileOptions::default().compression_method(CompressionMethod::Deflated).unix_permissions(mode)
}

fn agent() -> Vec<u8> {
    zip_of(|zip| {
        zip.start_file("agent.py", mode(0o600)).unwrap();
        zip.write_all(b"print()").unwrap();
        zip.add_directory("lib/", mode(0o700)).unwrap();
        zip.start_file("bin/tool", mode(0o4711)).unwrap();
        zip.add_symlink("lib/tool", "../bin/tool", mode(0o777)).unwrap();
    })
}

#[tokio::test]
async fn code_is_unpacked_over_its_base_and_pinned() {
    let place = Place::new();
    place.put("a.zip", agent());
    let loose = place.artifact("a.zip", &["agent.py"]);
    assert!(matches!(place.store.prepare(&loose), Err(ImageError::NotPulled { .. })));
    let pinned = place.store.pin(&loose, None).await.unwrap();
    let image = place.store.prepared(&pinned).unwrap();
    assert_eq!(image.layers.len(), 2);
    let task = Path::new(&image.layers[0].path).join("var/task");
    let mode_of = |name: &str| fs::metadata(task.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        [mode_of("agent.py"), mode_of("lib"), mode_of("bin"), mode_of("bin/tool")],
        [0o644, 0o755, 0o755, 0o755]
    );
    assert_eq!(fs::read_link(task.join("lib/tool")).unwrap(), Path::new("../bin/tool"));
    let config = image.config.unwrap();
    assert_eq!(config.argv(), ["python3.12", "agent.py"]);
    assert_eq!(config.working_dir.as_deref(), Some("/var/task"));
    assert!(config.env.contains(&("PYTHONPATH".into(), "/var/task".into())));

    // Another zip at the same place is another version; the old one stays what it was.
    place.put("a.zip", zip_of(|zip| zip.start_file("agent.py", mode(0o644)).unwrap()));
    assert!(place.store.prepared(&pinned).is_some());
    let newer = place.store.pin(&loose, None).await.unwrap();
    assert_ne!(newer, pinned);
    let now_ms = {
        use clamshell_domain::Clock;
        clamshell_domain::SystemClock.now_ms() + 2 * 3_600_000
    };
    assert_eq!(place.store.collect(std::slice::from_ref(&newer), &[], || true, now_ms).unwrap().code, 1);
    let Err(error) = place.store.ready(&pinned).await else { panic!("the old zip is nowhere any more") };
    assert!(error.to_string().contains("changed since the version was made"), "{error}");
    place.store.ready(&newer).await.unwrap();
}

#[tokio::test]
async fn hostile_zips_leave_nothing() {
    let place = Place::new();
    let named = |name: &'static str| zip_of(move |zip| zip.start_file(name, mode(0o644)).unwrap());
    for name in ["../x", "a/../../x", "/etc/x", "a/.."] {
        let error = place.refused(named(name)).await;
        assert!(error.contains("refused entry"), "{name}: {error}");
    }
    for target in ["/etc/passwd", "../x", "a/../../x"] {
        let error = place.refused(zip_of(|zip| zip.add_symlink("a", target, mode(0o777)).unwrap())).await;
        assert!(error.contains("a link out of the zip"), "{target}: {error}");
    }
    // A folder that is a link: what is written below it goes where the kernel says, and never outside.
    let through = place.refused(zip_of(|zip| {
        zip.add_symlink("a", "b", mode(0o777)).unwrap();
        zip.start_file("a/x", mode(0o644)).unwrap();
    }));
    assert!(through.await.contains("refused entry"));
    let bomb = place.refused(zip_of(|zip| {
        zip.start_file("zeros", mode(0o644)).unwrap();
        zip.write_all(&vec![0; 2 << 20]).unwrap();
    }));
    assert!(bomb.await.contains("unpacked size of the zip"));
    let many = place.refused(zip_of(|zip| {
        (0..60).for_each(|index| zip.start_file(format!("{index}"), mode(0o644)).unwrap());
    }));
    assert!(many.await.contains("number of files"));
    assert!(place.refused(vec![7; 2 << 20]).await.contains("size of the code zip"));
    assert!(place.refused(b"not a zip".to_vec()).await.contains("not a zip"));
    let mut damaged = agent();
    damaged[40] ^= 0xff;
    place.refused(damaged).await;
    let whole = agent();
    for length in (0..whole.len()).step_by(7) {
        place.refused(whole[..length].to_vec()).await;
    }
}

#[tokio::test]
async fn what_a_zip_says_about_itself_is_not_believed() {
    let place = Place::new();
    let mut lying = zip_of(|zip| {
        zip.start_file("agent.py", mode(0o644)).unwrap();
        zip.write_all(&vec![0; 2 << 20]).unwrap();
    });
    // The length in both headers, 22 bytes into the local one and 24 into the one of the directory.
    let directory = lying.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    lying[22..26].fill(0);
    lying[directory + 24..directory + 28].fill(0);
    place.refused(lying).await;
    // A device.
    let mut device = zip_of(|zip| zip.start_file("agent.py", mode(0o644)).unwrap());
    let directory = device.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    device[directory + 38..directory + 42].copy_from_slice(&(0o020_666_u32 << 16).to_le_bytes());
    assert!(place.refused(device).await.contains("neither a file nor a folder nor a link"));
}

#[test]
fn commands_follow_from_runtime_and_zip() {
    let folder = tempfile::tempdir().unwrap();
    let (task, root) = (folder.path().join("task"), folder.path().join("root"));
    for file in
        ["task/agent.py", "task/dist/app.js", "task/dist/app.ts", "root/usr/bin/python3.12", "root/opt/node"]
    {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    fs::create_dir_all(task.join("folder")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", task.join("out.py")).unwrap();
    let config =
        ImageConfig { env: vec![("PATH".into(), "/usr/bin:/tools".into())], ..ImageConfig::default() };
    let base = RootImage {
        layers: vec![layer_spec(&root).unwrap()],
        binds: vec![BindSpec { source: root.join("opt").to_str().unwrap().into(), target: "/tools".into() }],
        add_account: true,
        config: Some(config),
    };
    let run = |runtime, entry: &[&str]| {
        let entry: Vec<_> = entry.iter().map(|text| (*text).to_owned()).collect();
        command::config(&base, &task, runtime, &entry).map(|config| config.argv())
    };
    let check = |runtime, entry: &[&str], expect: &[&str]| assert_eq!(run(runtime, entry).unwrap(), expect);
    let refuse = |runtime, entry: &[&str], expect: &str| {
        let error = run(runtime, entry).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    let (python, node) = (CodeRuntime::Python312, CodeRuntime::Node22);
    check(python, &["agent.py"], &["python3.12", "agent.py"]);
    check(node, &["dist/app.js"], &["node", "dist/app.js"]);
    refuse(CodeRuntime::Python313, &["agent.py"], "has no `python3.13`, which PYTHON_3_13 needs");
    refuse(node, &["dist/app.ts"], "TypeScript");
    for bad in ["missing.py", "folder", "../agent.py", "/etc/passwd", "out.py", "", "a\0b"] {
        refuse(python, &[bad], "not a file in the zip");
    }
    refuse(python, &[], "one file");
    refuse(python, &["a", "b", "c"], "one file");
    refuse(python, &["sudo", "agent.py"], "the only wrapper");
    refuse(python, &[WRAPPER, "agent.py"], "aws-opentelemetry-distro");
    refuse(node, &[WRAPPER, "dist/app.js"], "node_modules");
    fs::create_dir_all(task.join("bin")).unwrap();
    fs::write(task.join("bin").join(WRAPPER), "").unwrap();
    check(
        python,
        &[WRAPPER, "agent.py"],
        &["python3.12", "/var/task/bin/opentelemetry-instrument", "python3.12", "agent.py"],
    );
    let module = "@opentelemetry/auto-instrumentations-node";
    fs::create_dir_all(task.join("node_modules").join(module)).unwrap();
    let register = format!("{module}/register");
    check(node, &[WRAPPER, "dist/app.js"], &["node", "--require", &register, "dist/app.js"]);
}

const WRAPPER: &str = "opentelemetry-instrument";
