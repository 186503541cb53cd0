//! What a folder is: its language, what is run, what it needs.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::Deserialize;
use serde_json::Value;

use super::super::runtime::Protocol;
use crate::failure::Failure;

/// A file that describes a project; more bytes are no description.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Files that are run when nothing says which, first one wins.
const PYTHON_ENTRIES: [&str; 3] = ["main.py", "agent.py", "app.py"];
const NODE_ENTRIES: [&str; 5] = ["index.js", "agent.js", "main.js", "app.js", "server.js"];

/// What the code is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// Python.
    Python,
    /// JavaScript for Node.
    Node,
}

impl Language {
    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::Node => "Node",
        }
    }
}

/// What must be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Dependencies {
    /// Nothing, or it lies in the folder already.
    None,
    /// `requirements.txt`.
    Requirements,
    /// Of `pyproject.toml`.
    Listed(Vec<String>),
    /// `package.json` with a lock file.
    NpmLocked,
    /// `package.json` alone.
    Npm,
}

/// What flags say about a folder.
#[derive(Debug, Clone, Default)]
pub(super) struct Wishes {
    /// `--entry-point`
    pub(super) entry_point: Option<String>,
    /// `--code-runtime`
    pub(super) code_runtime: Option<String>,
}

/// A folder that can be deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Project {
    /// Where it is.
    pub(super) folder: PathBuf,
    /// Name for its runtime.
    pub(super) name: String,
    /// Language.
    pub(super) language: Language,
    /// What is run.
    pub(super) entry_point: Vec<String>,
    /// What it speaks, when the project says.
    pub(super) protocol: Option<Protocol>,
    /// Environment variables of the project.
    pub(super) environment: Vec<(String, String)>,
    /// What must be installed.
    pub(super) dependencies: Dependencies,
    /// The interpreter that was asked for.
    pub(super) code_runtime: Option<String>,
}

/// `clamshell.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProjectFile {
    name: Option<String>,
    protocol: Option<String>,
    entry_point: Option<OneOrTwo>,
    code_runtime: Option<String>,
    #[serde(default)]
    environment: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrTwo {
    One(String),
    Many(Vec<String>),
}

/// Looks at a folder.
pub(super) fn detect(folder: &Path, wishes: &Wishes) -> Result<Project, Failure> {
    let what = || Failure::new(format!("cannot deploy {}", folder.display()));
    let folder = std::fs::canonicalize(folder).map_err(|error| what().because_of(&error))?;
    let file = match read(&folder.join("clamshell.json"))? {
        Some(text) => serde_json::from_str::<ProjectFile>(&text)
            .map_err(|error| what().because(format!("clamshell.json: {error}")))?,
        None => ProjectFile::default(),
    };
    let protocol = match &file.protocol {
        Some(text) => Some(
            Protocol::from_str(text, true)
                .map_err(|_| what().because(format!("clamshell.json: there is no protocol {text}")))?,
        ),
        None => None,
    };
    let told = match (&wishes.entry_point, file.entry_point) {
        (Some(entry), _) => Some(vec![entry.clone()]),
        (None, Some(OneOrTwo::One(entry))) => Some(vec![entry]),
        (None, Some(OneOrTwo::Many(entry))) => Some(entry),
        (None, None) => None,
    };
    let has = |name: &str| folder.join(name).is_file();
    if told.is_none() && (has("Dockerfile") || has("Containerfile")) {
        return Err(what().because("it has a Dockerfile, and images are not built here").hint(
            "build and push the image and deploy its reference, or give --entry-point to pack the code",
        ));
    }
    let manifest = match read(&folder.join("package.json"))? {
        Some(text) => serde_json::from_str::<Value>(&text)
            .map_err(|error| what().because(format!("package.json: {error}")))?,
        None => Value::Null,
    };
    let language = language(&folder, told.as_deref(), manifest.is_object()).ok_or_else(|| {
        what()
            .because("neither a Python nor a Node project is in it")
            .hint("add main.py or package.json, or `clamshell create NAME --agent plain-http` writes one")
    })?;
    let entry_point = match told {
        Some(entry) => entry,
        None => {
            vec![entry(&folder, language, &manifest).map_err(|(why, hint)| what().because(why).hint(hint))?]
        }
    };
    if let Some(entry) = entry_point.last().filter(|entry| !folder.join(entry).is_file()) {
        return Err(what().because(format!("there is no file {entry} in it")));
    }
    if entry_point.last().is_some_and(|entry| [".ts", ".mts", ".cts"].iter().any(|end| entry.ends_with(end)))
    {
        return Err(what().because("TypeScript is not run").hint("compile it, and name the JavaScript file"));
    }
    let dependencies = match language {
        Language::Python => python_dependencies(&folder).map_err(|why| what().because(why))?,
        Language::Node => node_dependencies(&folder, &manifest),
    };
    let base = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Project {
        name: file.name.unwrap_or_else(|| name_from(&base)),
        folder,
        language,
        entry_point,
        protocol,
        environment: file.environment.into_iter().collect(),
        dependencies,
        code_runtime: wishes.code_runtime.clone().or(file.code_runtime),
    })
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    let failed = |why: String| Failure::new(format!("cannot read {}", path.display())).because(why);
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => Err(failed("it is too large".to_owned())),
        Ok(_) => std::fs::read_to_string(path).map(Some).map_err(|error| failed(error.to_string())),
    }
}

fn language(folder: &Path, entry: Option<&[String]>, has_manifest: bool) -> Option<Language> {
    if let Some(file) = entry.and_then(<[String]>::last) {
        let is_node = [".js", ".mjs", ".cjs", ".ts", ".mts", ".cts"].iter().any(|end| file.ends_with(end));
        return Some(if is_node { Language::Node } else { Language::Python });
    }
    let has = |name: &str| folder.join(name).is_file();
    let python = ["requirements.txt", "pyproject.toml"].iter().any(|name| has(name))
        || PYTHON_ENTRIES.iter().any(|name| has(name));
    match (python, has_manifest) {
        // Both: tools for a web page beside an agent in Python are usual, the other way round is not.
        (true, _) => Some(Language::Python),
        (false, true) => Some(Language::Node),
        (false, false) => None,
    }
}

fn entry(folder: &Path, language: Language, manifest: &Value) -> Result<String, (String, String)> {
    let hint = "--entry-point names it, or \"entryPoint\" in clamshell.json".to_owned();
    let has = |name: &str| folder.join(name).is_file();
    let of_manifest = manifest["main"].as_str().filter(|_| language == Language::Node);
    if let Some(main) = of_manifest {
        let main = main.trim_start_matches("./");
        let found = [main.to_owned(), format!("{main}.js"), format!("{main}/index.js")]
            .into_iter()
            .find(|name| has(name));
        return found.ok_or_else(|| {
            (
                format!("package.json names {main}, and there is no such file"),
                "build the project first".to_owned(),
            )
        });
    }
    let candidates: &[&str] = match language {
        Language::Python => &PYTHON_ENTRIES,
        Language::Node => &NODE_ENTRIES,
    };
    let found = candidates.iter().find(|name| has(name)).map(|name| (*name).to_owned());
    found.ok_or_else(|| (format!("none of {} is in it", candidates.join(", ")), hint))
}

fn python_dependencies(folder: &Path) -> Result<Dependencies, String> {
    let text = |name: &str| read(&folder.join(name)).map_err(|failure| failure.message());
    if let Some(requirements) = text("requirements.txt")? {
        let wants =
            requirements.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#'));
        return Ok(if wants { Dependencies::Requirements } else { Dependencies::None });
    }
    let Some(pyproject) = text("pyproject.toml")? else { return Ok(Dependencies::None) };
    let table: toml::Table = pyproject.parse().map_err(|error| format!("pyproject.toml: {error}"))?;
    let listed =
        table.get("project").and_then(|project| project.get("dependencies")).and_then(toml::Value::as_array);
    let listed: Vec<String> =
        listed.into_iter().flatten().filter_map(toml::Value::as_str).map(str::to_owned).collect();
    if listed.iter().any(|one| one.starts_with('-')) {
        return Err("pyproject.toml: a dependency begins with -".to_owned());
    }
    Ok(if listed.is_empty() { Dependencies::None } else { Dependencies::Listed(listed) })
}

fn node_dependencies(folder: &Path, manifest: &Value) -> Dependencies {
    let wants = ["dependencies", "optionalDependencies"]
        .iter()
        .any(|member| manifest[*member].as_object().is_some_and(|all| !all.is_empty()));
    let locked = ["package-lock.json", "npm-shrinkwrap.json"].iter().any(|name| folder.join(name).is_file());
    match (wants, folder.join("node_modules").is_dir(), locked) {
        (false, _, _) | (true, true, _) => Dependencies::None,
        (true, false, true) => Dependencies::NpmLocked,
        (true, false, false) => Dependencies::Npm,
    }
}

/// A name for a runtime, as near to a text as the rules allow.
fn name_from(text: &str) -> String {
    let mut name: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(48).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name = format!("agent_{name}").chars().take(48).collect();
    }
    name
}

/// A name for the runtime of an image: the last part of its repository.
pub(super) fn name_of_image(reference: &str) -> String {
    let repository = reference.split('@').next().unwrap_or_default();
    let last = repository.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    name_from(last.split(':').next().unwrap_or_default())
}

/// The line that invokes an agent, by what it speaks.
pub(super) fn invoke_line(name: &str, protocol: &str, flags: &str) -> String {
    let ask = match protocol {
        "MCP" => r#"--raw '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'"#,
        "A2A" => {
            r#"--raw '{"jsonrpc":"2.0","id":1,"method":"message/send","params":{"message":{"kind":"message","messageId":"1","role":"user","parts":[{"kind":"text","text":"hello"}]}}}'"#
        }
        _ => "\"hello\"",
    };
    format!("clamshell invoke {name}{flags} {ask}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of files; gives language, entry point and dependencies, or the failure.
    fn check(files: &[(&str, &str)], expect: &str) {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("my-agent");
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in files {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let found = match detect(&folder, &Wishes::default()) {
            Ok(one) => {
                assert_eq!(one.name, "my_agent");
                format!("{:?} {} {:?}", one.language, one.entry_point.join(" "), one.dependencies)
            }
            Err(failure) => failure.message().rsplit("my-agent: ").next().unwrap().to_owned(),
        };
        assert_eq!(found, expect, "{files:?}");
    }

    #[test]
    fn python_projects() {
        check(&[("main.py", "")], "Python main.py None");
        check(&[("app.py", ""), ("requirements.txt", "# none\n\n")], "Python app.py None");
        check(&[("agent.py", ""), ("requirements.txt", "fastapi\n")], "Python agent.py Requirements");
        check(
            &[("agent.py", ""), ("pyproject.toml", "[project]\nname = 'x'\ndependencies = ['a>1', 'b']\n")],
            "Python agent.py Listed([\"a>1\", \"b\"])",
        );
        check(&[("other.py", ""), ("requirements.txt", "x")], "none of main.py, agent.py, app.py is in it");
        check(
            &[
                ("srv/x.py", ""),
                ("clamshell.json", r#"{"entryPoint": ["opentelemetry-instrument", "srv/x.py"]}"#),
            ],
            "Python opentelemetry-instrument srv/x.py None",
        );
    }

    #[test]
    fn node_projects() {
        let manifest = |text: &'static str| ("package.json", text);
        check(&[manifest(r#"{"main": "./dist/app"}"#), ("dist/app.js", "")], "Node dist/app.js None");
        check(&[manifest("{}"), ("index.js", "")], "Node index.js None");
        let wants = r#"{"main": "a.js", "dependencies": {"x": "1"}}"#;
        check(&[manifest(wants), ("a.js", "")], "Node a.js Npm");
        check(&[manifest(wants), ("a.js", ""), ("package-lock.json", "{}")], "Node a.js NpmLocked");
        check(&[manifest(wants), ("a.js", ""), ("node_modules/x/y", "")], "Node a.js None");
        check(&[manifest(r#"{"main": "a.ts"}"#), ("a.ts", "")], "TypeScript is not run");
        check(&[manifest(r#"{"main": "b.js"}"#)], "package.json names b.js, and there is no such file");
    }

    #[test]
    fn what_cannot_be_deployed_is_told() {
        check(&[("notes.txt", "")], "neither a Python nor a Node project is in it");
        check(&[("main.py", ""), ("Dockerfile", "")], "it has a Dockerfile, and images are not built here");
        check(
            &[("main.py", ""), ("clamshell.json", r#"{"protocol": "X"}"#)],
            "clamshell.json: there is no protocol X",
        );
        check(&[("clamshell.json", r#"{"entryPoint": "gone.py"}"#)], "there is no file gone.py in it");
    }

    #[test]
    fn names_follow_the_rules() {
        assert_eq!(name_from("9 lives"), "agent_9_lives");
        assert_eq!(name_from(&"x".repeat(99)).len(), 48);
        assert_eq!(name_of_image("ghcr.io/me/my-agent:1.2@sha256:abc"), "my_agent");
        assert_eq!(name_of_image("localhost:5000/agent"), "agent");
        assert_eq!(name_of_image("oci:/srv/images/web"), "web");
        assert_eq!(name_of_image("host"), "host");
    }
}
