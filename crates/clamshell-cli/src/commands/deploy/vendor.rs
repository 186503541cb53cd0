//! Installs what a project depends on, in a folder of our own, with the tools that the machine has.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use super::project::{Dependencies, Language, Project};
use crate::failure::Failure;

/// A large set of packages over a slow line.
const STEP_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Lines of a tool that are shown when it fails: the reason is among the last.
const LINES_SHOWN: usize = 15;
/// Python versions that can be hosted, the most usual ones first.
const PYTHONS: [&str; 5] = ["3.12", "3.13", "3.11", "3.10", "3.14"];
/// Tries to remove a folder into which somebody writes.
const REMOVALS_MAX: usize = 20;
/// Where the image `host` finds programs.
const HOST_PATH: [&str; 2] = ["/usr/local/bin", "/usr/bin"];

/// Where the package will run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Platform {
    /// On this machine.
    Here,
    /// On another one that is taken to be like this.
    Elsewhere,
    /// At AWS: Linux on Arm.
    Aws,
}

/// Interpreter and tools for a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tools {
    /// As the API names it.
    pub(super) code_runtime: String,
    /// Program that runs pip or npm, and its first arguments.
    installer: Vec<String>,
    platform: Platform,
}

/// One thing to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// For people.
    pub(super) title: String,
    command: Vec<String>,
    folder: PathBuf,
    /// Files that must be beside what is installed.
    copies: Vec<(PathBuf, PathBuf)>,
}

/// A folder that goes when it is dropped.
#[derive(Debug)]
pub(super) struct Staging {
    whole: PathBuf,
    installed: PathBuf,
}

impl Staging {
    /// An empty folder nobody else can read.
    pub(super) fn new() -> Result<Self, Failure> {
        let whole = std::env::temp_dir().join(format!("clamshell-deploy-{}", uuid::Uuid::new_v4().simple()));
        let installed = whole.join("installed");
        let mut builder = fs::DirBuilder::new();
        let made = builder.mode(0o700).create(&whole);
        let staging = Self { whole, installed };
        made.and_then(|()| builder.create(&staging.installed)).map_err(|error| {
            Failure::new(format!("cannot make {}", staging.whole.display())).because_of(&error)
        })?;
        Ok(staging)
    }

    /// Where what is installed goes.
    pub(super) fn path(&self) -> &Path {
        &self.installed
    }

    /// Where the package is made.
    pub(super) fn package(&self) -> PathBuf {
        self.whole.join("package.zip")
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What an installer makes in this very moment is in the way of the first try.
        for _ in 0..REMOVALS_MAX {
            match fs::remove_dir_all(&self.whole) {
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
                // What stays behind is in the folder for temporary files.
                Ok(()) | Err(_) => return,
            }
        }
    }
}

impl Tools {
    /// What there is on this machine for the project.
    pub(super) fn find(project: &Project, platform: Platform) -> Result<Self, Failure> {
        let path = std::env::var("PATH").unwrap_or_default();
        let folders: Vec<PathBuf> =
            HOST_PATH.iter().map(PathBuf::from).chain(std::env::split_paths(&path)).collect();
        let has =
            |program: &str| folders.iter().map(|folder| folder.join(program)).find(|file| file.is_file());
        let needs = project.dependencies != Dependencies::None;
        if project.language == Language::Node {
            let code_runtime = project.code_runtime.clone().unwrap_or_else(|| "NODE_22".to_owned());
            if needs && has("npm").is_none() {
                return Err(missing("npm", "apt-get install npm"));
            }
            return Ok(Self { code_runtime, installer: vec!["npm".to_owned()], platform });
        }
        let version = match &project.code_runtime {
            Some(runtime) => version_of(runtime)?,
            None => {
                let search: &[PathBuf] = match platform {
                    Platform::Here => folders.get(..HOST_PATH.len()).unwrap_or_default(),
                    Platform::Elsewhere | Platform::Aws => &[],
                };
                python_there(search).unwrap_or_else(|| PYTHONS[0].to_owned())
            }
        };
        let code_runtime = format!("PYTHON_{}", version.replace('.', "_"));
        let installer = if needs { pip(&version, &has, platform)? } else { Vec::new() };
        Ok(Self { code_runtime, installer, platform })
    }
}

/// The version of Python that the image `host` has: that of `python3` when it can be hosted, else another.
fn python_there(folders: &[PathBuf]) -> Option<String> {
    let main = folders.iter().find_map(|folder| fs::canonicalize(folder.join("python3")).ok());
    let main = main.and_then(|path| Some(path.file_name()?.to_str()?.strip_prefix("python")?.to_owned()));
    if let Some(version) = main.filter(|version| PYTHONS.contains(&version.as_str())) {
        return Some(version);
    }
    let there =
        |version: &&&str| folders.iter().any(|folder| folder.join(format!("python{version}")).exists());
    PYTHONS.iter().find(there).map(|version| (*version).to_owned())
}

fn version_of(runtime: &str) -> Result<String, Failure> {
    let version = runtime.strip_prefix("PYTHON_").map(|version| version.replace('_', "."));
    version.filter(|version| PYTHONS.contains(&version.as_str())).ok_or_else(|| {
        Failure::new(format!("cannot use the interpreter {runtime}"))
            .because("a Python project is run by PYTHON_3_10 to PYTHON_3_14")
    })
}

/// Pip of the same version, else any pip, which then takes packages that need no building.
fn pip(
    version: &str,
    has: &dyn Fn(&str) -> Option<PathBuf>,
    platform: Platform,
) -> Result<Vec<String>, Failure> {
    let works = |python: &Path| {
        let run = std::process::Command::new(python)
            .args(["-m", "pip", "--version"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        run.is_ok_and(|status| status.success())
    };
    let words = |python: PathBuf, more: &[&str]| {
        let python = python.display().to_string();
        [&python, "-m", "pip"].into_iter().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let same = has(&format!("python{version}"));
    if let Some(python) = same.filter(|python| platform != Platform::Aws && works(python)) {
        return Ok(words(python, &["install"]));
    }
    let Some(python) = has("python3").filter(|python| works(python)) else {
        return Err(missing("pip", "apt-get install python3-pip"));
    };
    let foreign = ["install", "--only-binary=:all:", "--implementation", "cp", "--python-version", version];
    let arm = ["--platform", "manylinux2014_aarch64", "--platform", "manylinux_2_28_aarch64"];
    let more: Vec<&str> = match platform {
        Platform::Aws => foreign.into_iter().chain(arm).collect(),
        Platform::Here | Platform::Elsewhere => foreign.to_vec(),
    };
    Ok(words(python, &more))
}

fn missing(tool: &str, hint: &str) -> Failure {
    Failure::new("cannot install the dependencies").because(format!("{tool} is not there")).hint(hint)
}

/// What must be run so that `staging` has the dependencies.
pub(super) fn steps(project: &Project, tools: &Tools, staging: &Path) -> Result<Vec<Step>, Failure> {
    let target = staging.display().to_string();
    let quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-compile", "--target", &target];
    let words = |more: &[&str]| -> Vec<String> {
        tools.installer.iter().cloned().chain(more.iter().map(|word| (*word).to_owned())).collect()
    };
    let step = |what: &str, command: Vec<String>, folder: &Path, copies: Vec<(PathBuf, PathBuf)>| Step {
        title: format!("Installing dependencies: {what}"),
        command,
        folder: folder.to_owned(),
        copies,
    };
    let one = match &project.dependencies {
        Dependencies::None => return Ok(Vec::new()),
        Dependencies::Requirements => {
            let more: Vec<&str> = quiet.into_iter().chain(["-r", "requirements.txt"]).collect();
            step("pip install -r requirements.txt", words(&more), &project.folder, Vec::new())
        }
        Dependencies::Listed(listed) => {
            let more: Vec<&str> =
                quiet.into_iter().chain(["--"]).chain(listed.iter().map(String::as_str)).collect();
            step("pip install, of pyproject.toml", words(&more), &project.folder, Vec::new())
        }
        Dependencies::NpmLocked | Dependencies::Npm => {
            let action = if project.dependencies == Dependencies::Npm { "install" } else { "ci" };
            let mut more = vec![
                action,
                "--omit=dev",
                "--no-audit",
                "--no-fund",
                "--no-update-notifier",
                "--loglevel=error",
            ];
            if tools.platform == Platform::Aws {
                more.extend(["--os=linux", "--cpu=arm64"]);
            }
            let files = ["package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc"];
            let copies = files
                .iter()
                .map(|file| (project.folder.join(file), staging.join(file)))
                .filter(|(from, _)| from.is_file())
                .collect();
            step(&format!("npm {action} --omit=dev"), words(&more), staging, copies)
        }
    };
    Ok(vec![one])
}

/// Runs a step; what it says is shown when it fails.
pub(super) async fn run(step: &Step) -> Result<(), Failure> {
    let failed = |why: String| {
        eprintln!();
        Failure::new(step.title.replacen("Installing", "cannot install", 1)).because(why)
    };
    for (from, to) in &step.copies {
        fs::copy(from, to).map_err(|error| failed(format!("{}: {error}", from.display())))?;
    }
    let Some((program, arguments)) = step.command.split_first() else { return Ok(()) };
    let child = Command::new(program)
        .args(arguments)
        .current_dir(&step.folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = match timeout(STEP_TIMEOUT, child).await {
        Err(_) => return Err(failed(format!("not done within {} minutes", STEP_TIMEOUT.as_secs() / 60))),
        Ok(Err(error)) => return Err(failed(format!("{program}: {error}"))),
        Ok(Ok(output)) => output,
    };
    for (_, copy) in step.copies.iter().filter(|(from, _)| from.ends_with(".npmrc")) {
        // It may hold a token, and has done its work.
        fs::remove_file(copy).map_err(|error| failed(error.to_string()))?;
    }
    if output.status.success() {
        return Ok(());
    }
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    eprintln!();
    for line in lines.iter().skip(lines.len().saturating_sub(LINES_SHOWN)) {
        eprintln!("  {}", crate::client::printable(line));
    }
    Err(Failure::new(step.title.replacen("Installing", "cannot install", 1))
        .because(output.status)
        .hint("the last lines of the installer are above"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(language: Language, dependencies: Dependencies) -> Project {
        Project {
            folder: PathBuf::from("/srv/agent"),
            name: "agent".to_owned(),
            language,
            entry_point: vec!["main.py".to_owned()],
            protocol: None,
            environment: Vec::new(),
            dependencies,
            code_runtime: None,
        }
    }

    fn command(project: &Project, installer: &str, platform: Platform) -> String {
        let installer = installer.split(' ').map(str::to_owned).collect();
        let tools = Tools { code_runtime: "X".to_owned(), installer, platform };
        let steps = steps(project, &tools, Path::new("/tmp/s")).unwrap();
        steps.iter().map(|step| step.command.join(" ")).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn installers_get_a_folder_of_their_own() {
        let pip = "--quiet --disable-pip-version-check --no-input --no-compile --target /tmp/s";
        let python =
            |dependencies| command(&project(Language::Python, dependencies), "pip install", Platform::Here);
        assert_eq!(python(Dependencies::None), "");
        assert_eq!(python(Dependencies::Requirements), format!("pip install {pip} -r requirements.txt"));
        let listed = Dependencies::Listed(vec!["a>1".to_owned(), "b".to_owned()]);
        assert_eq!(python(listed), format!("pip install {pip} -- a>1 b"));
        let npm = "--omit=dev --no-audit --no-fund --no-update-notifier --loglevel=error";
        let locked = project(Language::Node, Dependencies::NpmLocked);
        assert_eq!(command(&locked, "npm", Platform::Here), format!("npm ci {npm}"));
        let loose = project(Language::Node, Dependencies::Npm);
        assert_eq!(
            command(&loose, "npm", Platform::Aws),
            format!("npm install {npm} --os=linux --cpu=arm64")
        );
    }

    #[test]
    fn the_python_of_the_host_image_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let folders = [folder.path().to_owned()];
        assert_eq!(python_there(&folders), None);
        fs::write(folder.path().join("python3.13"), "").unwrap();
        assert_eq!(python_there(&folders).as_deref(), Some("3.13"));
        fs::write(folder.path().join("python3.11"), "").unwrap();
        std::os::unix::fs::symlink("python3.11", folder.path().join("python3")).unwrap();
        assert_eq!(python_there(&folders).as_deref(), Some("3.11"));
    }

    #[test]
    fn interpreters_have_the_names_of_the_api() {
        assert_eq!(version_of("PYTHON_3_12").ok().as_deref(), Some("3.12"));
        assert!(version_of("PYTHON_2_7").is_err() && version_of("NODE_22").is_err());
    }

    #[test]
    fn a_staging_folder_goes_with_its_owner() {
        let staging = Staging::new().unwrap();
        let (path, package) = (staging.path().to_owned(), staging.package());
        fs::write(path.join("file"), "x").unwrap();
        fs::write(&package, "x").unwrap();
        assert!(!package.starts_with(&path), "the package is no part of itself");
        drop(staging);
        assert!(!path.exists() && !package.parent().unwrap().exists());
    }

    #[tokio::test]
    async fn a_failing_step_says_so() {
        let step = Step {
            title: "Installing dependencies: test".to_owned(),
            command: ["sh", "-c", "exit 3"].map(str::to_owned).to_vec(),
            folder: PathBuf::from("/"),
            copies: Vec::new(),
        };
        let failure = run(&step).await.unwrap_err();
        assert_eq!(failure.message(), "cannot install dependencies: test: exit status: 3");
    }
}
