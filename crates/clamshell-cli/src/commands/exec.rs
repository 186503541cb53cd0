//! `clamshell exec`: one command, or a shell at the terminal.
//!
//! Texts and exit codes are those of `agentcore exec`, with its faults mended.

mod oneshot;

use std::io::IsTerminal;

use clamshell_term::escape::DetachKey;
use clap::Args;

use crate::{
    cli::find_or_start,
    client::Client,
    failure::Failure,
    local, runtimes,
    shell::{self, Access, HintFlags, Wish},
    target::{Place, Wanted},
};

/// Run a command in a sandbox, or open a shell in it
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell exec \"uname -a\"                       one command in a new session\n  clamshell exec --session-id ID --json -- ls /    the same session again, as JSON\n  clamshell exec --it                             a shell; Ctrl+] detaches, it goes on\n  clamshell exec --it --session-id ID --shell-id X back to it\n  clamshell exec --it --runtime arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/demo-AbCdE12345"
)]
pub(crate) struct ExecArgs {
    /// The command; words are joined with single spaces and run by a shell
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// Interactive: a shell at this terminal
    #[arg(long)]
    pub(crate) it: bool,
    /// Runtime: name, id or ARN; the ARN of another account means AWS [default: default]
    #[arg(long, value_name = "NAME|ARN")]
    runtime: Option<String>,
    /// Endpoint of the runtime [default: DEFAULT]
    #[arg(long)]
    qualifier: Option<String>,
    /// Session to use, 33 to 256 characters [default: a new one]
    #[arg(long, value_name = "ID")]
    session_id: Option<String>,
    /// Shell to come back to; with --it
    #[arg(long, value_name = "ID")]
    shell_id: Option<String>,
    /// Print one JSON object on stdout; not with --it
    #[arg(long)]
    pub(crate) json: bool,
    /// Seconds the command may run, 0 for the server's own limit; not with --it
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    timeout: Option<String>,
    /// Region; the runtime's ARN is enough
    #[arg(long)]
    region: Option<String>,
    /// Server to talk to [default: the local one, started when none runs]
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// Token for a runtime with JWT authorization
    #[arg(long, value_name = "TOKEN", env = "CLAMSHELL_BEARER_TOKEN", hide_env_values = true)]
    bearer_token: Option<String>,
    /// Key that detaches, as ^X, or none; twice sends the key itself
    #[arg(long, value_name = "KEY", default_value = "^]")]
    detach_keys: String,
    /// The command, or the shell while a program runs in it, goes on however long nobody is connected
    #[arg(long)]
    keep: bool,
    /// Look on, read-only; with --it, --session-id and --shell-id
    #[arg(long)]
    watch: bool,
    /// Data directory of the local server [env: CLAMSHELL_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<std::path::PathBuf>,
}

/// Two lines, as users of `agentcore exec` know them.
const USAGE: &str = "Usage: clamshell exec [OPTIONS] \"COMMAND\"    runs a command\n       clamshell exec --it [OPTIONS]         opens a shell";

/// Runs the command or the shell. The exit code is the remote one.
pub(crate) async fn run(args: ExecArgs) -> Result<i32, Failure> {
    if args.command.is_empty() && !args.it {
        if args.json {
            return Err(Failure::new("no command was given"));
        }
        eprintln!("{USAGE}");
        return Ok(1);
    }
    let timeout_s = check(&args)?;
    let wanted = Wanted {
        endpoint_url: args.endpoint_url.clone(),
        region: args.region.clone(),
        runtime: args.runtime.clone(),
        bearer_token: args.bearer_token.clone(),
        data_dir: local::data_dir(args.data_dir.as_deref()),
    };
    let target = find_or_start(&wanted).await?;
    if target.place == Place::Aws && (args.keep || args.watch) {
        let flag = if args.keep { "--keep" } else { "--watch" };
        return Err(
            Failure::new(format!("{flag} needs a Clamshell server")).because("AWS has no call for it")
        );
    }
    let client = Client::new(target).await?;
    let runtime = runtimes::resolve(&client).await?;
    let qualifier = args.qualifier.clone().or(runtime.qualifier).unwrap_or_else(|| "DEFAULT".to_owned());
    let arn = runtime.arn.to_string();
    let generated = args.session_id.is_none();
    let session_id = args.session_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    if args.it {
        let hint_flags = HintFlags {
            region: Some(runtime.arn.region),
            endpoint_url: args.endpoint_url,
            data_dir: local::named_data_dir(args.data_dir.as_deref()).map(|path| path.display().to_string()),
            bearer_token: args.bearer_token.is_some(),
            detach_keys: (args.detach_keys != "^]").then(|| args.detach_keys.clone()),
        };
        // The call with `keep` creates the shell by its name.
        let named = || args.keep.then(|| uuid::Uuid::new_v4().to_string());
        let shell_id = args.shell_id.clone().or_else(named);
        let access = if args.watch { Access::Watch } else { Access::Write };
        let wish = Wish {
            arn,
            qualifier,
            session_id,
            shell_id,
            access,
            keep: args.keep,
            detach_key: args.detach_keys,
            hint_flags,
        };
        return shell::run(client, wish).await;
    }
    let command = args.command.join(" ");
    let order = oneshot::Order {
        arn,
        qualifier,
        session_id,
        generated,
        command,
        timeout_s,
        json: args.json,
        keep: args.keep,
    };
    oneshot::run(&client, order).await
}

/// Rules between flags; gives the timeout.
fn check(args: &ExecArgs) -> Result<Option<u64>, Failure> {
    let refuse = |text: &str| Err(Failure::known(text));
    if let Some(id) = &args.session_id
        && !(33..=256).contains(&id.chars().count())
    {
        return refuse("--session-id must be between 33 and 256 characters");
    }
    if args.session_id.as_ref().is_some_and(|id| !id.bytes().all(|byte| (0x20..0x7f).contains(&byte))) {
        return refuse("--session-id must consist of printable ASCII characters");
    }
    let timeout_s = match args.timeout.as_ref().map(|text| text.parse::<u64>()) {
        None => None,
        Some(Ok(seconds)) => Some(seconds),
        Some(Err(_)) => return refuse("--timeout must be a non-negative integer (seconds)"),
    };
    if args.it {
        if args.json {
            return refuse("--json cannot be used with --it (PTY sessions are not JSON-serializable)");
        }
        if !args.command.is_empty() {
            return refuse("a command cannot be used with --it: it opens a shell");
        }
        if timeout_s.is_some() {
            return refuse("--timeout cannot be used with --it");
        }
        if args.watch && (args.session_id.is_none() || args.shell_id.is_none()) {
            return refuse("--watch needs --session-id and --shell-id");
        }
        if !args.watch && !std::io::stdin().is_terminal() {
            return Err(Failure::known("--it needs a terminal: stdin is not one")
                .hint("without --it: clamshell exec \"COMMAND\""));
        }
        args.detach_keys
            .parse::<DetachKey>()
            .map_err(|error| Failure::new("cannot use --detach-keys").because_of(&error))?;
    } else if args.shell_id.is_some() || args.watch {
        return refuse("--shell-id and --watch need --it");
    }
    Ok(timeout_s)
}
