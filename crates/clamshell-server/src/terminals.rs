//! What a terminal of a runtime starts: the login shell, or a command with secrets that somebody chose for it.
//!
//! Secrets leave the vault here and nowhere else, for the guest alone, when a program is about to start: see
//! `docs/adr/0010-terminal-secrets.md`.

use clamshell_domain::RuntimeId;
use clamshell_protocol::{ErrorCode, Reply, Request, ShellSecret, ShellSpec};
use clamshell_store::{Secret, TerminalSecretError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    app::App,
    guest::{GuestAddress, GuestConnection, GuestError},
    http::ApiError,
};

/// Words of a command; people write few, and scripts are files.
const WORDS_MAX: usize = 64;

/// Bytes of a command: half of what one word may have on Linux.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// Secrets of one terminal.
const SECRETS_MAX: usize = 32;

/// Longest value of a secret: keys in files are a few kilobytes.
pub(crate) const SECRET_BYTES_MAX: usize = 32 * 1024;

/// All values of one terminal: they go to the guest in one message of 1 MiB, where a character may take six bytes.
const SECRETS_BYTES_MAX: usize = 128 * 1024;

/// Longest name of a secret.
const NAME_BYTES_MAX: usize = 128;

/// Longest path of a working directory.
const FOLDER_BYTES_MAX: usize = 4095;

/// Why something about terminals is refused. Texts are for clients.
#[derive(Debug, Error)]
pub(crate) enum TerminalError {
    /// A member breaks a rule.
    #[error("{field}: {rule}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// The rule.
        rule: &'static str,
    },
    /// No such secret.
    #[error("Secret not found")]
    SecretNotFound,
    /// The runtime has no terminal command.
    #[error("The agent runtime has no terminal command")]
    NoTerminal,
    /// A terminal wants a secret that is not there.
    #[error("The terminal of the agent runtime needs the secret '{name}', which is not there")]
    SecretMissing {
        /// Which.
        name: String,
    },
    /// The values are too long together.
    #[error("The secrets of the terminal have more than 131072 bytes together")]
    TooLong,
    /// The store, or a seal.
    #[error("secret cannot be used")]
    Secret(#[from] TerminalSecretError),
}

/// What terminals of a runtime start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TerminalSettings {
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Names of secrets that it may read.
    #[serde(default)]
    pub(crate) secrets: Vec<String>,
    /// Where it starts; that of a shell when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) working_directory: Option<String>,
    /// Which terminals.
    #[serde(default)]
    pub(crate) applies_to: AppliesTo,
}

/// Which terminals start the command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AppliesTo {
    /// Those of the extension API that ask for it.
    #[default]
    Attach,
    /// Those of AWS's API as well.
    All,
}

impl TerminalSettings {
    /// Holds it to the limits.
    ///
    /// # Errors
    /// [`TerminalError::Invalid`].
    pub(crate) fn check(&self) -> Result<(), TerminalError> {
        let rule = |field, holds: bool, rule| {
            if holds { Ok(()) } else { Err(TerminalError::Invalid { field, rule }) }
        };
        let bytes: usize = self.command.iter().map(String::len).sum();
        let has_nul = |text: &String| text.contains('\0');
        rule(
            "command",
            (1..=WORDS_MAX).contains(&self.command.len())
                && !self.command[0].is_empty()
                && bytes <= COMMAND_BYTES_MAX
                && !self.command.iter().any(has_nul),
            "Member must have 1 to 64 words of at most 65536 bytes together, the first of them not empty",
        )?;
        let mut names = self.secrets.clone();
        names.sort();
        names.dedup();
        rule(
            "secrets",
            names.len() == self.secrets.len()
                && names.len() <= SECRETS_MAX
                && names.iter().all(|name| is_secret_name(name)),
            "Member must have at most 32 different names of secrets",
        )?;
        let is_folder =
            |path: &String| path.starts_with('/') && path.len() <= FOLDER_BYTES_MAX && !has_nul(path);
        rule(
            "workingDirectory",
            self.working_directory.as_ref().is_none_or(is_folder),
            "Member must be an absolute path",
        )
    }
}

/// Whether a text can name a secret: it becomes the name of a file, and mostly of a variable.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    plain
        && (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// The command that a terminal starts; `None`: the login shell.
///
/// # Errors
/// Of the store.
pub(crate) async fn settings(
    app: &App,
    runtime_id: &RuntimeId,
    of_aws: bool,
) -> Result<Option<TerminalSettings>, ApiError> {
    let found: Option<(TerminalSettings, u64)> = app.store.runtime_terminal(runtime_id).await?;
    Ok(found.map(|(settings, _)| settings).filter(|it| !of_aws || it.applies_to == AppliesTo::All))
}

/// Opens a terminal, starting `shell` or, where there are settings, their command. `request` makes the request to the guest.
///
/// # Errors
/// [`TerminalError`], and what the guest says.
pub(crate) async fn open(
    app: &App,
    guest: &GuestAddress,
    mut shell: Option<ShellSpec>,
    settings: Option<TerminalSettings>,
    request: impl Fn(Option<Box<ShellSpec>>) -> Request,
) -> Result<(Reply, GuestConnection), ApiError> {
    if let (Some(spec), Some(settings)) = (&mut shell, settings) {
        spec.argv = settings.command;
        if let Some(folder) = settings.working_directory {
            spec.cwd = folder;
        }
        if !settings.secrets.is_empty() {
            // One that runs already has its secrets: then none leaves the vault.
            match guest.ask(request(None)).await {
                Err(GuestError::Refused(error)) if error.code == ErrorCode::NotFound => {}
                answered => return Ok(answered?),
            }
            spec.secrets = secrets(app, &settings.secrets).await?;
        }
    }
    Ok(guest.ask(request(shell.map(Box::new))).await?)
}

async fn secrets(app: &App, names: &[String]) -> Result<Vec<ShellSecret>, TerminalError> {
    let mut secrets = Vec::with_capacity(names.len());
    let mut bytes = 0;
    for name in names {
        let found = app.store.open_terminal_secret(&app.master_key, name).await?;
        let found = found.ok_or_else(|| TerminalError::SecretMissing { name: name.clone() })?;
        let value = text(&found).ok_or_else(|| TerminalError::SecretMissing { name: name.clone() })?;
        bytes += value.len();
        secrets.push(ShellSecret { name: name.clone(), value });
        if bytes > SECRETS_BYTES_MAX {
            return Err(TerminalError::TooLong);
        }
    }
    Ok(secrets)
}

fn text(secret: &Secret) -> Option<String> {
    secret.expose_text().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<TerminalSettings, String> {
        let settings: TerminalSettings = serde_json::from_str(text).map_err(|error| error.to_string())?;
        settings.check().map_err(|error| error.to_string())?;
        Ok(settings)
    }

    #[test]
    fn settings_are_read_and_held_to_limits() {
        let least = parse(r#"{"command":["claude"]}"#).unwrap();
        assert_eq!(
            (least.applies_to, least.secrets.len(), &least.working_directory),
            (AppliesTo::Attach, 0, &None)
        );
        let most = r#"{"command":["/bin/sh","-lc",""],"secrets":["A","b_2"],"workingDirectory":"/mnt/workspace",
            "appliesTo":"all"}"#;
        assert_eq!(parse(most).unwrap().applies_to, AppliesTo::All);
        for (bad, part) in [
            ("{}", "command"),
            (r#"{"command":[]}"#, "command"),
            (r#"{"command":[""]}"#, "command"),
            (r#"{"command":["a\u0000"]}"#, "command"),
            (r#"{"command":["a"],"secrets":["A","A"]}"#, "secrets"),
            (r#"{"command":["a"],"secrets":["../A"]}"#, "secrets"),
            (r#"{"command":["a"],"workingDirectory":"mnt"}"#, "workingDirectory"),
            (r#"{"command":["a"],"appliesTo":"some"}"#, "some"),
            (r#"{"command":["a"],"environment":{}}"#, "environment"),
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains(part), "{bad}: {error}");
        }
        assert!(parse(&format!(r#"{{"command":{:?}}}"#, vec!["a"; 65])).is_err());
    }

    #[test]
    fn names_of_secrets_are_names_of_variables() {
        for name in ["A", "_", "ANTHROPIC_API_KEY", "a1"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["", "1A", "A-B", "A.B", "A/B", "é", "A\n", &"A".repeat(129)] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
