//! A folder as a zip that is the same, byte for byte, whenever its files are: names in order, no times, two modes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{ignore::Ignore, project::Language};
use crate::{failure::Failure, output};

/// Largest zip that the service takes.
const ZIP_BYTES_MAX: u64 = 250 << 20;
/// Largest content that it unpacks.
const UNPACKED_BYTES_MAX: u64 = 750 << 20;
/// Files of a package; programs with very many dependencies have 60,000.
const FILES_MAX: usize = 200_000;
/// Deeper trees are loops.
const DEPTH_MAX: usize = 64;

/// What is packed.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    /// The project.
    pub(super) project: PathBuf,
    /// Its language.
    pub(super) language: Language,
    /// Folder with what was installed for it.
    pub(super) vendored: Option<PathBuf>,
}

/// A zip.
#[derive(Debug)]
pub(super) struct Packed {
    /// At its start.
    pub(super) file: File,
    /// Its length.
    pub(super) bytes: u64,
    /// Its digest.
    pub(super) sha256: [u8; 32],
    /// Files and links in it.
    pub(super) files: usize,
}

#[derive(Debug)]
enum Entry {
    File { path: PathBuf, bytes: u64, is_program: bool },
    Link { target: String },
}

type Entries = BTreeMap<String, Entry>;

/// Files and bytes before compression, without what would be installed.
pub(super) fn measure(sources: &Sources) -> Result<(usize, u64), Failure> {
    let entries = collect(sources)?;
    Ok((entries.len(), total(&entries)))
}

/// Packs into `path`, which is removed at once and stays open.
pub(super) fn pack(sources: &Sources, path: &Path) -> Result<Packed, Failure> {
    let entries = collect(sources)?;
    if entries.is_empty() {
        return Err(Failure::new("cannot pack the project").because("there is no file in it"));
    }
    let bytes = total(&entries);
    if bytes > UNPACKED_BYTES_MAX {
        return Err(too_large(
            &entries,
            format!("{} before compression, 750 MiB are allowed", output::bytes(bytes)),
        ));
    }
    let failed = |error: io::Error| Failure::new("cannot pack the project").because_of(&error);
    let open = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = open.map_err(failed)?;
    fs::remove_file(path).map_err(failed)?;
    let mut file = write(&entries, file).map_err(failed)?;
    let bytes = file.seek(SeekFrom::End(0)).map_err(failed)?;
    if bytes > ZIP_BYTES_MAX {
        return Err(too_large(&entries, format!("{}, 250 MiB are allowed", output::bytes(bytes))));
    }
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let sha256 = digest(&mut file).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    Ok(Packed { file, bytes, sha256, files: entries.len() })
}

fn total(entries: &Entries) -> u64 {
    entries.values().map(|entry| if let Entry::File { bytes, .. } = entry { *bytes } else { 0 }).sum()
}

/// Names the largest folders: what to leave out is rarely known by heart.
fn too_large(entries: &Entries, why: String) -> Failure {
    let mut folders: BTreeMap<String, u64> = BTreeMap::new();
    for (name, entry) in entries {
        if let Entry::File { bytes, .. } = entry {
            let top: Vec<&str> = name.split('/').take(2).collect();
            *folders.entry(top.join("/")).or_default() += bytes;
        }
    }
    let mut folders: Vec<(String, u64)> = folders.into_iter().collect();
    folders.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let largest: Vec<String> =
        folders.iter().take(3).map(|(name, bytes)| format!("{name} ({})", output::bytes(*bytes))).collect();
    Failure::new("the package is too large")
        .because(why)
        .hint(format!("the largest parts are {}; .clamshellignore leaves files out", largest.join(", ")))
}

fn write(entries: &Entries, file: File) -> io::Result<File> {
    let mut zip = ZipWriter::new(BufWriter::with_capacity(256 << 10, file));
    for (name, entry) in entries {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(zip::DateTime::default());
        match entry {
            Entry::File { path, is_program, .. } => {
                zip.start_file(
                    name.as_str(),
                    options.unix_permissions(if *is_program { 0o755 } else { 0o644 }),
                )?;
                io::copy(&mut File::open(path)?, &mut zip)?;
            }
            Entry::Link { target } => zip.add_symlink(name.as_str(), target.as_str(), options)?,
        }
    }
    let mut buffer = zip.finish()?;
    buffer.flush()?;
    buffer.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

fn digest(file: &mut File) -> io::Result<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        context.update(buffer.get(..count).unwrap_or_default());
    }
    context.finish().as_ref().try_into().map_err(io::Error::other)
}

/// Everything that belongs into the package; the project's own files before installed ones.
fn collect(sources: &Sources) -> Result<Entries, Failure> {
    let mut entries = Entries::new();
    if let Some(vendored) = &sources.vendored {
        let caches = Ignore::new("!*\n!.*\n__pycache__/\n*.py[co]");
        walk(&Tree { root: vendored, ignore: &caches }, "", 0, &mut entries)?;
    }
    let ignore = match fs::read_to_string(sources.project.join(".clamshellignore")) {
        Ok(text) => Ignore::new(&text),
        Err(_) => Ignore::new(""),
    };
    let ignore = match sources.language {
        Language::Python => ignore.and(&["/node_modules/"]),
        Language::Node => ignore,
    };
    walk(&Tree { root: &sources.project, ignore: &ignore }, "", 0, &mut entries)?;
    Ok(entries)
}

struct Tree<'a> {
    root: &'a Path,
    ignore: &'a Ignore,
}

fn walk(tree: &Tree<'_>, folder: &str, depth: usize, entries: &mut Entries) -> Result<(), Failure> {
    let here = tree.root.join(folder);
    let failed = |why: String| Failure::new(format!("cannot pack {}", here.display())).because(why);
    if depth > DEPTH_MAX {
        return Err(failed("its folders are too deep".to_owned()));
    }
    let list = fs::read_dir(&here).map_err(|error| failed(error.to_string()))?;
    for item in list {
        let item = item.map_err(|error| failed(error.to_string()))?;
        let Ok(own) = item.file_name().into_string() else {
            return Err(failed(format!("{} is no name in UTF-8", item.file_name().display())));
        };
        let name = if folder.is_empty() { own } else { format!("{folder}/{own}") };
        let path = item.path();
        let metadata = fs::symlink_metadata(&path).map_err(|error| failed(error.to_string()))?;
        if tree.ignore.covers(&name, metadata.is_dir()) {
            continue;
        }
        if metadata.is_dir() {
            walk(tree, &name, depth + 1, entries)?;
            continue;
        }
        if entries.len() >= FILES_MAX {
            return Err(failed(format!("there are more than {FILES_MAX} files")));
        }
        if let Some(entry) = entry(tree.root, &name, &path, &metadata).map_err(failed)? {
            entries.insert(name, entry);
        }
    }
    Ok(())
}

/// A file, or a link that stays inside; sockets and the like are no code.
fn entry(root: &Path, name: &str, path: &Path, metadata: &fs::Metadata) -> Result<Option<Entry>, String> {
    if metadata.is_symlink() {
        let target = fs::read_link(path).map_err(|error| error.to_string())?;
        if let Some(target) = target.to_str().filter(|target| stays_inside(name, Path::new(target))) {
            return Ok(Some(Entry::Link { target: target.to_owned() }));
        }
        let real = fs::canonicalize(path)
            .map_err(|error| format!("{name} is a link that leads nowhere: {error}"))?;
        let behind = fs::metadata(&real).map_err(|error| error.to_string())?;
        if behind.is_dir() {
            return Err(format!("{name} is a link to a folder outside {}", root.display()));
        }
        // A file from elsewhere, for instance one that packages share: its content belongs here.
        return Ok(behind.is_file().then(|| of_file(real, &behind)));
    }
    Ok(metadata.is_file().then(|| of_file(path.to_owned(), metadata)))
}

fn of_file(path: PathBuf, metadata: &fs::Metadata) -> Entry {
    Entry::File { path, bytes: metadata.len(), is_program: metadata.permissions().mode() & 0o111 != 0 }
}

fn stays_inside(name: &str, target: &Path) -> bool {
    let mut depth = name.split('/').count().saturating_sub(1);
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(folder: &Path) -> Sources {
        Sources { project: folder.to_owned(), language: Language::Python, vendored: None }
    }

    fn packed(sources: &Sources) -> (Packed, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let packed = pack(sources, &folder.path().join("x.zip")).unwrap();
        let archive = zip::ZipArchive::new(packed.file.try_clone().unwrap()).unwrap();
        let mut names: Vec<String> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
        names.sort_unstable();
        (packed, names)
    }

    #[test]
    fn the_same_files_give_the_same_zip() {
        let make = |order: [&str; 3]| {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("lib")).unwrap();
            for name in order {
                fs::write(folder.path().join(name), name).unwrap();
            }
            fs::set_permissions(folder.path().join("run.sh"), fs::Permissions::from_mode(0o777)).unwrap();
            std::os::unix::fs::symlink("../run.sh", folder.path().join("lib/link")).unwrap();
            fs::write(folder.path().join(".env"), "SECRET=1").unwrap();
            packed(&sources(folder.path()))
        };
        let (first, names) = make(["main.py", "lib/b.py", "run.sh"]);
        let (second, _) = make(["run.sh", "lib/b.py", "main.py"]);
        assert_eq!(first.sha256, second.sha256);
        assert_eq!(names, ["lib/b.py", "lib/link", "main.py", "run.sh"]);
        assert_eq!((first.files, first.bytes), (4, first.file.metadata().unwrap().len()));
    }

    #[test]
    fn installed_packages_come_along_and_the_project_wins() {
        let (project, vendored) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(project.path().join("main.py"), "own").unwrap();
        fs::write(vendored.path().join("main.py"), "installed").unwrap();
        fs::create_dir_all(vendored.path().join("pkg/__pycache__")).unwrap();
        fs::write(vendored.path().join("pkg/__pycache__/x.pyc"), "").unwrap();
        fs::write(vendored.path().join("pkg/.env"), "part of a package").unwrap();
        let sources = Sources { vendored: Some(vendored.path().to_owned()), ..sources(project.path()) };
        let (packed, names) = packed(&sources);
        assert_eq!(names, ["main.py", "pkg/.env"]);
        let mut archive = zip::ZipArchive::new(packed.file).unwrap();
        let mut text = String::new();
        archive.by_name("main.py").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "own");
    }

    #[test]
    fn links_that_leave_become_files_or_are_refused() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let outside = elsewhere.path().join("shared.py");
        fs::write(&outside, "x").unwrap();
        std::os::unix::fs::symlink(&outside, folder.path().join("main.py")).unwrap();
        assert_eq!(packed(&sources(folder.path())).1, ["main.py"]);
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("lib")).unwrap();
        let failure = pack(&sources(folder.path()), &elsewhere.path().join("x.zip")).unwrap_err();
        assert!(failure.message().contains("lib is a link to a folder outside"), "{}", failure.message());
    }

    #[test]
    fn nothing_is_not_packed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(pack(&sources(folder.path()), &folder.path().join("x.zip")).is_err());
    }
}
