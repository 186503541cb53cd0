//! `clamshell secrets`: what terminal commands may read and nobody sees.

use std::{
    io::{IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

use clamshell_wire::percent_encode;
use clap::{Args, Subcommand};
use http::Method;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::{Value, json};

use super::sessions::call;
use crate::{
    cli::ServerArgs,
    failure::Failure,
    output::{self, text, time},
};

/// Longest value, as the server has it.
const VALUE_BYTES_MAX: u64 = 32 * 1024;

/// Set, list and remove secrets that terminal commands of runtimes may read
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell secrets set ANTHROPIC_API_KEY             asks for the value, shows nothing of it\n  clamshell secrets set GITHUB_TOKEN --from-file token.txt\n  clamshell secrets list --json\n  clamshell secrets rm ANTHROPIC_API_KEY\n\n`clamshell runtime terminal` says which command may read which secrets."
)]
pub(crate) struct SecretsArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(subcommand)]
    command: Option<SecretsCommand>,
}

#[derive(Debug, Subcommand)]
enum SecretsCommand {
    /// List names and times; no call gives a value back
    #[command(
        alias = "ls",
        after_help = "Examples:\n  clamshell secrets list\n  clamshell secrets list --json"
    )]
    List,
    /// Keep a value, in place of the one that there may be
    #[command(
        after_help = "Examples:\n  clamshell secrets set ANTHROPIC_API_KEY\n  clamshell secrets set GITHUB_TOKEN --from-file token.txt\n  clamshell secrets set GITHUB_TOKEN < token.txt\n\nOne line end behind the value is left out."
    )]
    Set {
        /// Letters, digits and _
        name: String,
        /// File with the value, - for stdin [default: stdin, asked for on a terminal]
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// Remove one; programs that run keep theirs until they end
    #[command(alias = "remove", after_help = "Examples:\n  clamshell secrets rm ANTHROPIC_API_KEY")]
    Rm {
        /// Its name
        name: String,
    },
}

/// Runs the subcommand; none lists.
pub(crate) async fn run(args: SecretsArgs) -> Result<i32, Failure> {
    let json = args.server.json;
    let all = "/clamshell/v1/secrets";
    let one = |name: &str| format!("{all}/{}", percent_encode(name));
    match args.command.unwrap_or(SecretsCommand::List) {
        SecretsCommand::List => {
            let client = args.server.client(None).await?;
            let answer = call(&client, Method::GET, all, None, "cannot list secrets").await?;
            print_list(json, &answer);
        }
        SecretsCommand::Set { name, from_file } => {
            let value = value(&name, from_file.as_deref())?;
            let client = args.server.client_or_start(None).await?;
            let body = json!({ "value": value });
            let kept = call(&client, Method::PUT, &one(&name), Some(&body), "cannot keep the secret").await?;
            done(json, &kept, &format!("Kept {name}."));
        }
        SecretsCommand::Rm { name } => {
            let client = args.server.client(None).await?;
            call(&client, Method::DELETE, &one(&name), None, "cannot remove the secret").await?;
            done(json, &json!({ "success": true, "name": name }), &format!("Removed {name}."));
        }
    }
    Ok(0)
}

fn done(json: bool, value: &Value, sentence: &str) {
    if json {
        output::print_json(value);
    } else {
        eprintln!("{sentence}");
    }
}

fn print_list(json: bool, answer: &Value) {
    if json {
        output::print_json(answer);
        return;
    }
    let rows: Vec<Vec<String>> = answer["secrets"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|secret| vec![text(secret, "name"), time(secret, "createdAt"), time(secret, "updatedAt")])
        .collect();
    if rows.is_empty() {
        eprintln!("No secrets.");
        return;
    }
    output::print_table(&["secret", "created", "changed"], rows);
}

/// The value: from a file, from stdin, or typed without being shown.
fn value(name: &str, file: Option<&Path>) -> Result<String, Failure> {
    let what = "cannot read the value";
    let failed = |error: &dyn std::error::Error| Failure::new(what).because_of(error);
    let stdin = std::io::stdin();
    let mut bytes = Vec::new();
    match file.filter(|file| file.as_os_str() != "-") {
        Some(file) => {
            let opened = std::fs::File::open(file)
                .map_err(|error| Failure::new(what).because(format!("{}: {error}", file.display())))?;
            opened.take(VALUE_BYTES_MAX + 2).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        }
        None if stdin.is_terminal() => {
            let hidden = Hidden::start().map_err(|error| failed(&error))?;
            eprint!("Value of {name}, not shown: ");
            let _ = std::io::stderr().flush();
            let mut line = String::new();
            let read = stdin.read_line(&mut line);
            drop(hidden);
            eprintln!();
            read.map_err(|error| failed(&error))?;
            bytes = line.into_bytes();
        }
        None => {
            stdin.take(VALUE_BYTES_MAX + 2).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        }
    }
    plain(bytes).map_err(|why| Failure::new(what).because(why))
}

/// Without the line end that editors and `echo` put behind.
fn plain(mut bytes: Vec<u8>) -> Result<String, &'static str> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        return Err("it is empty");
    }
    if bytes.len() as u64 > VALUE_BYTES_MAX {
        return Err("it has more than 32768 bytes");
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text; encode it, for instance as base64")
}

/// A terminal that shows nothing of what is typed, until this is dropped.
pub(crate) struct Hidden(Termios);

impl Hidden {
    pub(crate) fn start() -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO;
        quiet.local_modes |= LocalModes::ECHONL;
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_no_part_of_a_value() {
        let check = |bytes: &[u8], expect: Option<&str>| {
            assert_eq!(plain(bytes.to_vec()).ok().as_deref(), expect, "{bytes:?}");
        };
        check(b"key", Some("key"));
        check(b"key\n", Some("key"));
        check(b"key\r\n", Some("key"));
        check(b"two\nlines\n\n", Some("two\nlines\n"));
        check(b" spaced ", Some(" spaced "));
        check(b"", None);
        check(b"\n", None);
        check(b"\xff\xfe", None);
        check(&[b'a'; 32 * 1024], Some(&"a".repeat(32 * 1024)));
        check(&[b'a'; 32 * 1024 + 1], None);
    }
}
