//! A scripted model and coding agents where a sandbox sees them.
//!
//! A sandbox has only its own loopback, and the model runs in the test. Between them is a socket in a folder that the
//! image `host` shows ([`SandboxModel::configuration`]); `relay.mjs` in the same folder, run inside, passes on what
//! comes to [`SandboxModel::URL`].
//!
//! The coding agents are those that `scripts/install-test-clients` installed. They lie in the same folder, so that
//! a test neither uploads nor unpacks hundreds of megabytes.
//!
//! # Claude Code at a terminal
//!
//! ```no_run
//! # use clamshell_testkit::model::{CodingAgent, Rule, SandboxModel, Script};
//! # fn start(configuration: &str) {}
//! let model = SandboxModel::start(Script::new(vec![Rule::say("ANSWER-1").when("QUESTION-1")])?)?;
//! let Some(_) = model.add(CodingAgent::ClaudeCode)? else { return Ok(()) };
//! start(&model.configuration()); // a server with this configuration
//! let line = format!("{}\n", model.claude()); // typed into a shell of a session
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! [`SandboxModel::claude`] is a command for a shell. It starts the relay when none runs, writes what keeps Claude Code
//! from asking before it takes the first prompt, and becomes `claude`, with all arguments passed on:
//!
//! | asked otherwise | what answers it |
//! |---|---|
//! | theme, welcome, login | `hasCompletedOnboarding` and `theme` in `~/.claude.json` |
//! | whether the key of the environment may be used | the key's last 20 characters in `customApiKeyResponses.approved` there |
//! | whether the folder is trusted | `hasTrustDialogAccepted` of the current folder in `projects` there |
//! | whether tools may run without asking | `skipDangerousModePermissionPrompt` in `~/.claude/settings.json`; with `--dangerously-skip-permissions` |
//!
//! The prompt is ready when the screen shows `shortcuts`, as long as nothing has been typed. Type the text, wait
//! until the screen shows it, then send `\r`. The prompt `/exit` ends it. A text that is sought on the screen should
//! be one word: words are painted apart.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::{Ask, Listen, Recorded, Script, ScriptedModel};
use crate::{real_clients, skip};

/// A coding agent that `clamshell create` has a template for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodingAgent {
    /// Claude Code.
    ClaudeCode,
    /// Codex.
    Codex,
    /// opencode.
    Opencode,
    /// Gemini CLI.
    Gemini,
}

impl CodingAgent {
    /// Name of its template, and of the folder that it is installed in.
    pub fn name(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::Codex => "codex",
            Self::Opencode => "opencode",
            Self::Gemini => "gemini",
        }
    }

    /// Name of its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude",
            Self::Codex | Self::Opencode | Self::Gemini => self.name(),
        }
    }

    /// Folder with its `node_modules`, and the package with its version; `None`, with the reason printed, when it is not
    /// installed.
    pub fn installed(self) -> Option<(PathBuf, String)> {
        let folder = real_clients()?.join(self.name());
        match fs::read_to_string(folder.join("installed")) {
            Ok(package) => Some((folder, package.trim().to_owned())),
            Err(_) => skip(&format!("{} is not installed (run scripts/test)", self.name())),
        }
    }
}

/// A model and agents in a folder that sandboxes see.
#[derive(Debug)]
pub struct SandboxModel {
    // Ends before its folder goes.
    model: ScriptedModel,
    folder: TempDir,
}

impl SandboxModel {
    /// Where agents inside find the model.
    pub const URL: &str = "http://127.0.0.1:8089";

    /// Any key will do; this one is what [`SandboxModel::claude`] sends.
    pub const KEY: &str = "sk-scripted-model-0123456789";

    /// Starts a model and makes its folder.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn start(script: Script) -> Result<Self> {
        // Not below /tmp: that is each sandbox's own.
        let folder = tempfile::Builder::new().prefix("clamshell-model-").tempdir_in("/var/tmp")?;
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755))?;
        for (name, text) in
            [("relay.mjs", include_str!("sandbox/relay.mjs")), ("claude", include_str!("sandbox/claude.sh"))]
        {
            let path = folder.path().join(name);
            fs::write(&path, text)?;
            fs::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        }
        let model = ScriptedModel::start(script, Listen::Unix(folder.path().join("model.sock")))?;
        Ok(Self { model, folder })
    }

    /// The folder, which has the same path inside.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What `clamshell.toml` has to say.
    pub fn configuration(&self) -> String {
        format!("[host_image]\ninclude = [{:?}]\n", self.folder())
    }

    /// The command that makes [`SandboxModel::URL`] answer, for as long as it runs.
    pub fn relay(&self) -> String {
        format!("exec node {}/relay.mjs", self.folder().display())
    }

    /// The command that ends when [`SandboxModel::URL`] answers.
    pub fn wait(&self) -> String {
        format!("{} --wait", self.relay())
    }

    /// The command that is Claude Code at a terminal, after [`SandboxModel::add`] of it.
    pub fn claude(&self) -> String {
        self.folder().join("claude").display().to_string()
    }

    /// Puts an installed agent into the folder and gives the path of its program; `None`, with the reason printed,
    /// when it is not installed.
    ///
    /// # Errors
    /// When the files cannot be linked or copied.
    pub fn add(&self, agent: CodingAgent) -> Result<Option<PathBuf>> {
        let Some((installed, _)) = agent.installed() else { return Ok(None) };
        let target = self.folder().join(agent.name());
        // Links need the same file system; there is none on every machine.
        let copied = copy("--link", &installed, &target)? || {
            fs::remove_dir_all(&target).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
            copy("--reflink=auto", &installed, &target)?
        };
        ensure!(copied, "cannot copy {}", installed.display());
        let program = target.join("node_modules/.bin").join(agent.program());
        let _ = fs::metadata(&program).with_context(|| format!("there is no {}", program.display()))?;
        Ok(Some(program))
    }

    /// Requests so far, see [`ScriptedModel::requests`].
    pub fn requests(&self) -> Vec<Arc<Recorded>> {
        self.model.requests()
    }

    /// What was asked so far, see [`ScriptedModel::asks`].
    pub fn asks(&self) -> Vec<Ask> {
        self.model.asks()
    }
}

fn copy(how: &str, from: &Path, to: &Path) -> Result<bool> {
    let mut command = Command::new("cp");
    command.args(["--archive", how]).arg(from).arg(to).stdin(Stdio::null()).stderr(Stdio::null());
    Ok(command.status().context("cannot run cp")?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_say_what_the_constants_say() {
        let port = SandboxModel::URL.rsplit(':').next().unwrap();
        let (relay, claude) = (include_str!("sandbox/relay.mjs"), include_str!("sandbox/claude.sh"));
        assert!(relay.contains(&format!("const port = {port};")));
        assert!(claude.contains(&format!("ANTHROPIC_BASE_URL={}\n", SandboxModel::URL)));
        assert!(claude.contains(&format!("ANTHROPIC_API_KEY={}\n", SandboxModel::KEY)));
    }

    #[test]
    fn a_folder_is_for_everybody_and_goes_with_the_model() {
        let model = SandboxModel::start(Script::new(Vec::new()).unwrap()).unwrap();
        let folder = model.folder().to_owned();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("claude"))), (0o755, 0o755));
        assert_eq!(mode(&folder.join("model.sock")), 0o666);
        assert_eq!(model.configuration(), format!("[host_image]\ninclude = [\"{}\"]\n", folder.display()));
        drop(model);
        assert!(!folder.exists());
    }
}
