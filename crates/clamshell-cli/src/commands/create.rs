//! `clamshell create`: writes a small project that deploys and answers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::{failure::Failure, output};

/// What a project starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Agent {
    /// Claude Code behind HTTP
    ClaudeCode,
    /// Codex behind HTTP
    Codex,
    /// opencode behind HTTP
    Opencode,
    /// Gemini CLI behind HTTP
    Gemini,
    /// An HTTP agent in Python, without dependencies
    PlainHttp,
    /// Tools by the Model Context Protocol, in Python
    Mcp,
    /// An agent for agents, in Python, without dependencies
    A2a,
}

/// Write a project that deploys and answers
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell create hello --agent plain-http\n  clamshell create coder --agent claude-code --json\n  clamshell create tools --agent mcp --dir ./services/tools"
)]
pub(crate) struct CreateArgs {
    /// Name: letters, digits and _
    name: String,
    /// What it starts from
    #[arg(long, value_enum)]
    agent: Agent,
    /// Folder to make [default: the name]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object on stdout
    #[arg(long)]
    pub(crate) json: bool,
}

type File = (&'static str, &'static str);

macro_rules! template {
    ($folder:literal: $($file:literal),*) => {
        &[$(($file, include_str!(concat!("../../templates/", $folder, "/", $file)))),*]
    };
}

const CODING: &[File] = template!("coding": "agent.mjs", "clamshell.json", "README.md");

impl Agent {
    fn files(self) -> (&'static [File], &'static [File]) {
        match self {
            Self::ClaudeCode => (CODING, template!("claude-code": "command.mjs", "package.json")),
            Self::Codex => (CODING, template!("codex": "command.mjs", "package.json")),
            Self::Opencode => (CODING, template!("opencode": "command.mjs", "package.json")),
            Self::Gemini => (CODING, template!("gemini": "command.mjs", "package.json")),
            Self::PlainHttp => (&[], template!("plain-http": "agent.py", "clamshell.json", "README.md")),
            Self::Mcp => {
                (&[], template!("mcp": "server.py", "requirements.txt", "clamshell.json", "README.md"))
            }
            Self::A2a => (&[], template!("a2a": "agent.py", "clamshell.json", "README.md")),
        }
    }

    /// Flags of `deploy` without which it cannot answer.
    fn variables(self) -> &'static str {
        match self {
            Self::ClaudeCode => "--env ANTHROPIC_API_KEY=...",
            Self::Codex => "--env OPENAI_API_KEY=...",
            Self::Opencode => {
                "--env OPENAI_API_KEY=... --env OPENAI_BASE_URL=https://api.openai.com/v1 --env MODEL=..."
            }
            Self::Gemini => "--env GEMINI_API_KEY=...",
            Self::PlainHttp | Self::Mcp | Self::A2a => "",
        }
    }
}

/// Writes the files.
pub(crate) fn run(args: &CreateArgs) -> Result<i32, Failure> {
    let what = || Failure::new(format!("cannot create {}", args.name));
    let ok = args.name.len() <= 48
        && args.name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && args.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !ok {
        return Err(what().because("a name begins with a letter and has at most 48 letters, digits and _"));
    }
    let folder = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    if fs::read_dir(&folder).is_ok_and(|mut list| list.next().is_some()) {
        return Err(what()
            .because(format!("{} is there and not empty", folder.display()))
            .hint("--dir names another"));
    }
    let files = files(args.agent, &args.name);
    write(&folder, &files).map_err(|error| what().because_of(&error))?;
    if args.json {
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        output::print_json(&json!({"success": true, "folder": folder, "files": names}));
        return Ok(0);
    }
    eprintln!("Wrote {} files to {}.", files.len(), folder.display());
    let variables = args.agent.variables();
    let space = if variables.is_empty() { "" } else { " " };
    eprintln!("Deploy it: clamshell deploy {}{space}{variables}", shown(&folder));
    Ok(0)
}

/// A path that `deploy` takes for one.
fn shown(folder: &Path) -> String {
    if folder.is_absolute() || folder.starts_with(".") || folder.starts_with("..") {
        folder.display().to_string()
    } else {
        format!("./{}", folder.display())
    }
}

fn files(agent: Agent, name: &str) -> Vec<(&'static str, String)> {
    let (shared, own) = agent.files();
    let package = name.to_ascii_lowercase().replace('_', "-");
    let fill = |text: &str| {
        let text = text.replace("{{name}}", name).replace("{{package}}", &package);
        text.replace(
            "clamshell deploy . {{variables}}",
            format!("clamshell deploy . {}", agent.variables()).trim_end(),
        )
    };
    shared.iter().chain(own).map(|(file, text)| (*file, fill(text))).collect()
}

fn write(folder: &Path, files: &[(&'static str, String)]) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, text) in files {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_whole() {
        for agent in Agent::value_variants() {
            let files = files(*agent, "my_agent");
            let text =
                |name: &str| files.iter().find(|(file, _)| *file == name).map(|(_, text)| text.as_str());
            for (name, text) in &files {
                assert!(!text.contains("{{"), "{agent:?} {name}");
            }
            let project: serde_json::Value = serde_json::from_str(text("clamshell.json").unwrap()).unwrap();
            assert_eq!(project["name"], "my_agent", "{agent:?}");
            assert!(text(project["entryPoint"][0].as_str().unwrap()).is_some(), "{agent:?}");
            assert!(
                text("README.md").unwrap().contains("clamshell deploy .\n") || !agent.variables().is_empty()
            );
            if let Some(manifest) = text("package.json") {
                let manifest: serde_json::Value = serde_json::from_str(manifest).unwrap();
                assert_eq!(manifest["name"], "my-agent");
            }
        }
    }

    #[test]
    fn folders_are_shown_as_folders() {
        assert_eq!(shown(Path::new("hello")), "./hello");
        assert_eq!(shown(Path::new("../hello")), "../hello");
        assert_eq!(shown(Path::new("/srv/hello")), "/srv/hello");
    }
}
