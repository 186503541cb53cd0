//! `clamshell shells`: what runs in terminals, watching it, its log and its recording.

use std::{io::Write, path::PathBuf, time::Duration};

use clamshell_wire::percent_encode;
use clap::{Args, Subcommand};
use http::Method;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::{
    cli::ServerArgs,
    client::Client,
    commands::sessions::{call, path, pick},
    failure::Failure,
    output::{self, text, time},
    runtimes,
    shell::{self, Access},
};

/// One read of a log; the server reads it from disk.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// List, show, close, watch and export shells
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell shells                            all shells\n  clamshell shells --json                     as one JSON object\n  clamshell shells watch build                look on, read-only\n  clamshell shells share build                a link that shows it in a browser\n  clamshell shells log build | less -R        all output that is kept\n  clamshell shells export build -o build.cast asciicast recording\n  clamshell shells close build"
)]
pub(crate) struct ShellsArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(subcommand)]
    command: Option<ShellsCommand>,
}

#[derive(Debug, Subcommand)]
enum ShellsCommand {
    /// List shells
    #[command(alias = "ls", after_help = "Examples:\n  clamshell shells list --session-id 5723cde5")]
    List {
        /// Of one runtime: name, id or ARN
        #[arg(long)]
        runtime: Option<String>,
        /// Of one session: its id, or the beginning
        #[arg(long)]
        session_id: Option<String>,
    },
    /// Show a shell
    #[command(after_help = "Examples:\n  clamshell shells show build")]
    Show(Which),
    /// End a shell, keep its log
    #[command(after_help = "Examples:\n  clamshell shells close build")]
    Close(Which),
    /// Give a shell a title; an empty one takes it away
    #[command(after_help = "Examples:\n  clamshell shells rename build \"nightly build\"")]
    Rename {
        #[command(flatten)]
        which: Which,
        /// At most 100 characters
        title: String,
    },
    /// Make a link that shows a shell in a browser
    #[command(
        after_help = "Examples:\n  clamshell shells share build\n  clamshell shells share build --write --expires 8h\n\nWho has the link needs no login. It allows no more than its maker may do."
    )]
    Share {
        #[command(flatten)]
        which: Which,
        /// Who has the link can type as well
        #[arg(long)]
        write: bool,
        /// How long the link holds: a span as 90s, 10m, 2h, 3d; at most 30d
        #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = span_s)]
        expires: u64,
    },
    /// List the links of a shell
    #[command(after_help = "Examples:\n  clamshell shells shares build")]
    Shares(Which),
    /// Take a link back, and hang up on who uses it
    #[command(after_help = "Examples:\n  clamshell shells unshare share-Xb2fV0aRkq9s7TgL")]
    Unshare {
        /// Id of the link
        share_id: String,
    },
    /// Look on, read-only; Ctrl+C ends it
    #[command(after_help = "Examples:\n  clamshell shells watch build")]
    Watch(Which),
    /// Print the output that is kept
    #[command(
        after_help = "Examples:\n  clamshell shells log build | less -R\n  clamshell shells log build --from 4096"
    )]
    Log {
        #[command(flatten)]
        which: Which,
        /// First byte
        #[arg(long, value_name = "OFFSET")]
        from: Option<u64>,
    },
    /// Write the recording as asciicast v2
    #[command(
        after_help = "Examples:\n  clamshell shells export build -o build.cast\n  clamshell shells export build | asciinema play -"
    )]
    Export {
        #[command(flatten)]
        which: Which,
        /// File to write [default: stdout]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

/// A shell.
#[derive(Debug, Clone, Args)]
struct Which {
    /// Shell id, or its beginning
    shell_id: String,
    /// Its session, when several have a shell of this id
    #[arg(long)]
    session_id: Option<String>,
    /// Its runtime: name, id or ARN
    #[arg(long)]
    runtime: Option<String>,
}

/// Runs the subcommand; none lists.
pub(crate) async fn run(args: ShellsArgs) -> Result<i32, Failure> {
    let json = args.server.json;
    let all = ShellsCommand::List { runtime: None, session_id: None };
    match args.command.unwrap_or(all) {
        ShellsCommand::List { runtime, session_id } => {
            let client = args.server.client(runtime.as_deref()).await?;
            print_list(json, list(&client, session_id.as_deref()).await?);
        }
        ShellsCommand::Show(which) => {
            let (client, found) = locate(&args.server, &which).await?;
            let path = path(&found, &tail(&found, ""));
            let shell = call(&client, Method::GET, &path, None, "cannot show the shell").await?;
            print_shell(json, &shell);
        }
        ShellsCommand::Close(which) => {
            let (client, found) = locate(&args.server, &which).await?;
            let path = path(&found, &tail(&found, ""));
            call(&client, Method::DELETE, &path, None, "cannot close the shell").await?;
            let id = text(&found, "shellId");
            if json {
                output::print_json(&serde_json::json!({"success": true, "shellId": id}));
            } else {
                eprintln!("Closed shell {id}; its log is kept.");
            }
        }
        ShellsCommand::Rename { which, title } => {
            let (client, found) = locate(&args.server, &which).await?;
            let path = path(&found, &tail(&found, "/title"));
            let body = serde_json::json!({ "title": title });
            let shell = call(&client, Method::PUT, &path, Some(&body), "cannot rename the shell").await?;
            if json {
                output::print_json(&shell);
            } else {
                eprintln!("Renamed shell {}.", text(&found, "shellId"));
            }
        }
        ShellsCommand::Share { which, write, expires } => share(&args.server, &which, write, expires).await?,
        ShellsCommand::Shares(which) => {
            let (client, found) = locate(&args.server, &which).await?;
            let path = path(&found, &tail(&found, "/shares"));
            print_shares(json, &call(&client, Method::GET, &path, None, "cannot list links").await?);
        }
        ShellsCommand::Unshare { share_id } => {
            let client = args.server.client(None).await?;
            let path = format!("/clamshell/v1/shares/{}", percent_encode(&share_id));
            call(&client, Method::DELETE, &path, None, "cannot take the link back").await?;
            if json {
                output::print_json(&serde_json::json!({"success": true, "shareId": share_id}));
            } else {
                eprintln!("Took {share_id} back.");
            }
        }
        ShellsCommand::Watch(which) => {
            if json {
                return Err(Failure::new("--json cannot be used with watch"));
            }
            let (client, found) = locate(&args.server, &which).await?;
            return watch(client, &found).await;
        }
        ShellsCommand::Log { which, from } => print_log(&args.server, &which, from).await?,
        ShellsCommand::Export { which, output } => export(&args.server, &which, output).await?,
    }
    Ok(0)
}

async fn share(server: &ServerArgs, which: &Which, write: bool, expires_s: u64) -> Result<(), Failure> {
    let (client, found) = locate(server, which).await?;
    let path = path(&found, &tail(&found, "/shares"));
    let access = if write { "write" } else { "watch" };
    let body = serde_json::json!({ "access": access, "expiresInSeconds": expires_s });
    let share = call(&client, Method::POST, &path, Some(&body), "cannot share the shell").await?;
    if server.json {
        output::print_json(&share);
        return Ok(());
    }
    output::print_fields(&[
        ("link", text(&share, "url")),
        ("id", text(&share, "shareId")),
        ("access", text(&share, "access")),
        ("expires", time(&share, "expiresAt")),
    ]);
    eprintln!("The link is not shown again.");
    Ok(())
}

async fn print_log(server: &ServerArgs, which: &Which, from: Option<u64>) -> Result<(), Failure> {
    if server.json {
        return Err(Failure::new("--json cannot be used with log (it is bytes, not text)"));
    }
    let (client, found) = locate(server, which).await?;
    let mut path = path(&found, &tail(&found, "/log"));
    if let Some(from) = from {
        path = format!("{path}&from={from}");
    }
    copy(&client, &path, "cannot read the log", &mut std::io::stdout().lock()).await
}

/// Writes the recording to `file`, or to the standard output.
async fn export(server: &ServerArgs, which: &Which, file: Option<PathBuf>) -> Result<(), Failure> {
    if server.json && file.is_none() {
        let hint = "-o FILE writes it to a file";
        return Err(Failure::new("--json cannot be used with a recording on stdout").hint(hint));
    }
    let (client, found) = locate(server, which).await?;
    let path = path(&found, &tail(&found, "/export"));
    let what = "cannot export the recording";
    let Some(file) = file else {
        return copy(&client, &path, what, &mut std::io::stdout().lock()).await;
    };
    let cannot =
        |error: std::io::Error| Failure::new(format!("cannot write {}", file.display())).because_of(&error);
    copy(&client, &path, what, &mut std::fs::File::create(&file).map_err(cannot)?).await?;
    if server.json {
        output::print_json(&serde_json::json!({"success": true, "file": file}));
    }
    Ok(())
}

/// A span of time in seconds.
fn span_s(text: &str) -> Result<u64, String> {
    let wrong = || "it must look like 90s, 10m, 2h or 3d".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let scale = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale)).ok_or_else(wrong)
}

fn print_shares(json: bool, answer: &Value) {
    if json {
        output::print_json(answer);
        return;
    }
    let shares = answer["shares"].as_array().map(Vec::as_slice).unwrap_or_default();
    if shares.is_empty() {
        eprintln!("No links.");
        return;
    }
    let rows = shares.iter().map(|one| {
        vec![
            text(one, "shareId"),
            text(one, "access"),
            text(one, "madeBy"),
            time(one, "createdAt"),
            time(one, "expiresAt"),
        ]
    });
    output::print_table(&["link", "access", "made by", "created", "expires"], rows.collect());
}

async fn watch(client: Client, found: &Value) -> Result<i32, Failure> {
    let arn = clamshell_wire::arn::RuntimeArn::parse(&text(found, "runtimeArn"))
        .map_err(|error| Failure::new("cannot watch the shell").because_of(&error))?;
    shell::run(
        client,
        shell::Wish {
            arn: arn.to_string(),
            qualifier: text(found, "qualifier"),
            session_id: text(found, "sessionId"),
            shell_id: Some(text(found, "shellId")),
            access: Access::Watch,
            keep: false,
            detach_key: "^]".to_owned(),
            hint_flags: shell::HintFlags::default(),
        },
    )
    .await
}

fn tail(shell: &Value, more: &str) -> String {
    format!("/shells/{}{more}", percent_encode(&text(shell, "shellId")))
}

async fn list(client: &Client, session_id: Option<&str>) -> Result<Vec<Value>, Failure> {
    let mut path = "/clamshell/v1/shells".to_owned();
    if let Some(runtime) = runtimes::query_name(&client.target().runtime) {
        path = format!("{path}?runtime={}", percent_encode(&runtime));
    }
    let mut answer = call(client, Method::GET, &path, None, "cannot list shells").await?;
    let mut shells = answer["shells"].as_array_mut().map(std::mem::take).unwrap_or_default();
    if let Some(wanted) = session_id {
        shells.retain(|one| one["sessionId"].as_str().is_some_and(|id| id.starts_with(wanted)));
    }
    Ok(shells)
}

async fn locate(server: &ServerArgs, which: &Which) -> Result<(Client, Value), Failure> {
    let client = server.client(which.runtime.as_deref()).await?;
    let shells = list(&client, which.session_id.as_deref()).await?;
    let hint = "`clamshell shells` lists them; --session-id tells which session";
    let found = pick(shells, "shellId", &which.shell_id, "shell", hint)?;
    Ok((client, found))
}

/// Copies a body to `out` as it comes, with nothing but one piece of it in memory.
async fn copy(client: &Client, path: &str, what: &str, out: &mut impl Write) -> Result<(), Failure> {
    let endpoint = &client.target().endpoint;
    let mut answer = client
        .send(Method::GET, path, &[], Vec::new())
        .await
        .map_err(|error| error.into_failure(what, endpoint))?;
    loop {
        let frame = tokio::time::timeout(READ_TIMEOUT, answer.body.frame())
            .await
            .map_err(|_| Failure::new(what).because("the answer stopped"))?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| Failure::new(what).because_of(&error))?;
        if let Ok(bytes) = frame.into_data()
            && let Err(error) = out.write_all(&bytes)
        {
            // `| head` has seen enough.
            let enough = error.kind() == std::io::ErrorKind::BrokenPipe;
            return if enough { Ok(()) } else { Err(Failure::new(what).because_of(&error)) };
        }
    }
    let _ = out.flush();
    Ok(())
}

fn print_list(json: bool, shells: Vec<Value>) {
    if json {
        output::print_json(&serde_json::json!({ "shells": shells }));
        return;
    }
    if shells.is_empty() {
        eprintln!("No shells.");
        return;
    }
    let rows = shells.iter().map(|one| {
        vec![
            text(one, "shellId"),
            text(one, "title"),
            text(one, "sessionId"),
            text(one, "runtimeName"),
            text(one, "state"),
            end(one),
            time(one, "createdAt"),
            time(one, "lastOutputAt"),
        ]
    });
    output::print_table(
        &["shell", "title", "session", "runtime", "state", "end", "created", "last output"],
        rows.collect(),
    );
}

fn end(shell: &Value) -> String {
    match (shell["signal"].as_i64(), shell["exitCode"].as_i64()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit {code}"),
        (None, None) => text(shell, "endReason"),
    }
}

fn print_shell(json: bool, shell: &Value) {
    if json {
        output::print_json(shell);
        return;
    }
    let command: Vec<&str> =
        shell["command"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let kept = match (shell["startOffset"].as_u64(), shell["endOffset"].as_u64()) {
        (Some(start), Some(end)) => {
            format!("{} (bytes {start} to {end})", output::bytes(end.saturating_sub(start)))
        }
        _ => String::new(),
    };
    output::print_fields(&[
        ("shell", text(shell, "shellId")),
        ("title", text(shell, "title")),
        ("session", text(shell, "sessionId")),
        ("runtime", text(shell, "runtimeArn")),
        ("endpoint", text(shell, "qualifier")),
        ("state", text(shell, "state")),
        ("command", command.join(" ")),
        ("size", format!("{} x {}", text(shell, "cols"), text(shell, "rows"))),
        ("process", text(shell, "pid")),
        ("created", time(shell, "createdAt")),
        ("last output", time(shell, "lastOutputAt")),
        ("detached", time(shell, "detachedAt")),
        ("ended", time(shell, "endedAt")),
        ("end", end(shell)),
        ("writers", text(shell, "writers")),
        ("watchers", text(shell, "watchers")),
        ("output kept", kept),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn spans_are_seconds() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(span_s(text).ok(), expect, "{text}");
        check("90s", Some(90));
        check("30d", Some(2_592_000));
        check("1h", Some(3_600));
        for bad in ["", "h", "1", "1w", "-1h", "é", "99999999999999999999d", "18446744073709551615d"] {
            check(bad, None);
        }
    }

    #[test]
    fn ends_are_told_shortly() {
        assert_eq!(end(&json!({"exitCode": 137, "signal": 9})), "signal 9");
        assert_eq!(end(&json!({"exitCode": 0})), "exit 0");
        assert_eq!(end(&json!({"endReason": "SessionEnded"})), "SessionEnded");
        assert_eq!(end(&json!({"state": "Attached"})), "");
    }
}
