//! `clamshell runtime terminal`: what terminals of a runtime start.

use clamshell_wire::percent_encode;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::{
    cli::ServerArgs,
    commands::sessions::call,
    failure::Failure,
    output::{self, text, time},
    runtimes,
};

/// Flags of the subcommand.
#[derive(Debug, Args)]
pub(crate) struct TerminalArgs {
    /// Name, id or ARN
    runtime: String,
    /// What a shell runs in place of the login shell
    #[arg(long, value_name = "SCRIPT", conflicts_with = "words")]
    command: Option<String>,
    /// Secret that it may read as a file in $CLAMSHELL_SECRETS
    #[arg(long, value_name = "NAME")]
    secret: Vec<String>,
    /// Where it starts
    #[arg(long, value_name = "PATH")]
    working_directory: Option<String>,
    /// Also for terminals that clients of AWS open
    #[arg(long)]
    all: bool,
    /// Start the login shell again
    #[arg(long, conflicts_with_all = ["command", "words", "secret", "working_directory", "all"])]
    rm: bool,
    /// Program and arguments, in place of --command
    #[arg(last = true, value_name = "WORD")]
    words: Vec<String>,
}

/// Shows, sets or removes the terminal of a runtime.
pub(super) async fn run(server: &ServerArgs, args: TerminalArgs) -> Result<(), Failure> {
    let client = server.client(Some(&args.runtime)).await?;
    let name = runtimes::query_name(&client.target().runtime).unwrap_or_else(|| "default".to_owned());
    let path = format!("/clamshell/v1/runtimes/{}/terminal", percent_encode(&name));
    if args.rm {
        call(&client, Method::DELETE, &path, None, "cannot remove the terminal command").await?;
        if server.json {
            output::print_json(&json!({ "success": true, "runtime": name }));
        } else {
            eprintln!("Terminals of {name} start the login shell.");
        }
        return Ok(());
    }
    match body(&args)? {
        Some(body) => {
            let what = "cannot set the terminal command";
            let kept = call(&client, Method::PUT, &path, Some(&body), what).await?;
            if server.json {
                output::print_json(&kept);
            } else {
                eprintln!("Terminals of {name} start {}.", words(&kept));
            }
        }
        None => {
            let found = call(&client, Method::GET, &path, None, "cannot show the terminal command").await?;
            if server.json {
                output::print_json(&found);
                return Ok(());
            }
            let secrets: Vec<&str> =
                found["secrets"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            output::print_fields(&[
                ("command", words(&found)),
                ("secrets", secrets.join(", ")),
                ("starts in", text(&found, "workingDirectory")),
                ("applies to", text(&found, "appliesTo")),
                ("changed", time(&found, "updatedAt")),
            ]);
        }
    }
    Ok(())
}

/// What is to be set; `None` when nothing is.
fn body(args: &TerminalArgs) -> Result<Option<Value>, Failure> {
    let command: Vec<&str> = match &args.command {
        Some(script) => vec!["/bin/bash", "-lc", script],
        None => args.words.iter().map(String::as_str).collect(),
    };
    if command.is_empty() {
        if args.secret.is_empty() && args.working_directory.is_none() && !args.all {
            return Ok(None);
        }
        return Err(Failure::new("no command was given").hint("--command SCRIPT, or -- PROGRAM ARGUMENT..."));
    }
    let mut body = json!({
        "command": command,
        "secrets": args.secret,
        "appliesTo": if args.all { "all" } else { "attach" },
    });
    if let Some(folder) = &args.working_directory {
        body["workingDirectory"] = json!(folder);
    }
    Ok(Some(body))
}

fn words(found: &Value) -> String {
    let words = found["command"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let quoted: Vec<String> = words
        .map(|word| {
            let plain = !word.is_empty()
                && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c));
            let word = crate::client::printable(word);
            if plain { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
        })
        .collect();
    quoted.join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: TerminalArgs,
    }

    fn parse(line: &[&str]) -> Option<Value> {
        let line = Line::try_parse_from(std::iter::once("x").chain(line.iter().copied())).unwrap();
        body(&line.args).unwrap()
    }

    #[test]
    fn flags_say_what_is_set() {
        assert_eq!(parse(&["demo"]), None);
        let script = parse(&["demo", "--command", "exec claude", "--secret", "A", "--secret", "B"]).unwrap();
        assert_eq!(script["command"], json!(["/bin/bash", "-lc", "exec claude"]));
        assert_eq!((&script["secrets"], &script["appliesTo"]), (&json!(["A", "B"]), &json!("attach")));
        let line = ["demo", "--all", "--working-directory", "/mnt/workspace", "--", "claude", "--continue"];
        let expect = json!({
            "command": ["claude", "--continue"], "secrets": [], "appliesTo": "all",
            "workingDirectory": "/mnt/workspace",
        });
        assert_eq!(parse(&line), Some(expect));
        let alone = Line::try_parse_from(["x", "demo", "--secret", "A"]).unwrap();
        assert!(body(&alone.args).is_err());
        assert!(Line::try_parse_from(["x", "demo", "--rm", "--secret", "A"]).is_err());
    }

    #[test]
    fn commands_are_shown_as_a_shell_takes_them() {
        let found = json!({ "command": ["/bin/bash", "-lc", "echo 'a b'", ""] });
        assert_eq!(words(&found), "/bin/bash -lc 'echo '\\''a b'\\''' ''");
    }
}
