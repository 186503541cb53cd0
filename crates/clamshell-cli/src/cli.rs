//! The command line: what there is, and how a failure is reported.

use std::{ffi::OsString, future::Future, path::PathBuf};

use clap::{Args, Parser, Subcommand, error::ErrorKind};

use crate::{
    client::Client,
    commands::{
        audit, completion, console, create, deploy, doctor, endpoint, env, exec, files, invoke, keys, logs,
        principals, runtime, secrets, serve, sessions, shells, status, stop, web,
    },
    failure::Failure,
    local, output,
    target::{Resolution, Target, Wanted, resolve},
};

/// A home for coding agents: a server for sandboxes and terminals, and the commands to use them.
#[derive(Debug, Parser)]
#[command(
    name = "clamshell",
    version,
    about = "A home for coding agents: a server for sandboxes and terminals, and the commands to use them",
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  clamshell exec \"uname -a\"          run a command in a new sandbox\n  clamshell exec --it                open a shell; Ctrl+] detaches\n  clamshell deploy ./my-agent        host an agent\n  clamshell invoke my_agent \"hello\"  ask it\n  clamshell shells                   what is running\n  eval \"$(clamshell env)\"            point AWS clients at the local server"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Web(Box<web::WebArgs>),
    Console(console::ConsoleArgs),
    Env(env::EnvArgs),
    Exec(Box<exec::ExecArgs>),
    Sessions(sessions::SessionsArgs),
    Shells(shells::ShellsArgs),
    Files(files::FilesArgs),
    Create(create::CreateArgs),
    Deploy(Box<deploy::DeployArgs>),
    Invoke(Box<invoke::InvokeArgs>),
    Logs(logs::LogsArgs),
    Status(status::StatusArgs),
    Runtime(runtime::RuntimeArgs),
    Endpoint(endpoint::EndpointArgs),
    Secrets(secrets::SecretsArgs),
    Keys(keys::KeysArgs),
    Users(principals::UsersArgs),
    Roles(principals::RolesArgs),
    Audit(audit::AuditArgs),
    Doctor(doctor::DoctorArgs),
    Stop(stop::StopArgs),
    Completion(completion::CompletionArgs),
}

/// Which server, as whom.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServerArgs {
    /// Server to talk to [default: the local one]
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) endpoint_url: Option<String>,
    /// Region of signatures [default: the server's]
    #[arg(long, global = true)]
    pub(crate) region: Option<String>,
    /// Data directory of the local server [env: CLAMSHELL_DATA_DIR]
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print one JSON object on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

impl ServerArgs {
    /// Finds the server; starts none.
    pub(crate) async fn client(&self, runtime: Option<&str>) -> Result<Client, Failure> {
        self.client_as(runtime, None).await
    }

    /// As `client`, with a bearer token instead of keys when there is one.
    pub(crate) async fn client_as(
        &self,
        runtime: Option<&str>,
        bearer_token: Option<String>,
    ) -> Result<Client, Failure> {
        let wanted = Wanted { bearer_token, ..self.wanted(runtime) };
        match find(&wanted).await? {
            Some(target) => Client::new(target).await,
            None => Err(no_server(&wanted)),
        }
    }

    /// Finds the server; starts the local one when it is that and does not run.
    pub(crate) async fn client_or_start(&self, runtime: Option<&str>) -> Result<Client, Failure> {
        Client::new(find_or_start(&self.wanted(runtime)).await?).await
    }

    /// What these flags say.
    pub(crate) fn wanted(&self, runtime: Option<&str>) -> Wanted {
        Wanted {
            endpoint_url: self.endpoint_url.clone(),
            region: self.region.clone(),
            runtime: runtime.map(str::to_owned),
            bearer_token: None,
            data_dir: local::data_dir(self.data_dir.as_deref()),
        }
    }
}

/// The target of `wanted`; `None` when it is the local server and that does not run.
pub(crate) async fn find(wanted: &Wanted) -> Result<Option<Target>, Failure> {
    let info = local::info(&wanted.data_dir)?;
    let alive = match &info {
        Some(info) => local::is_alive(info).await,
        None => false,
    };
    let variable = |name: &str| std::env::var(name).ok();
    match resolve(wanted, &variable, info.as_ref(), alive)? {
        Resolution::Ready(target) => Ok(Some(*target)),
        Resolution::LocalServerNeeded => Ok(None),
    }
}

/// The target of `wanted`; starts the local server when it is that and does not run.
pub(crate) async fn find_or_start(wanted: &Wanted) -> Result<Target, Failure> {
    if let Some(target) = find(wanted).await? {
        return Ok(target);
    }
    eprintln!("Starting a local server...");
    local::start(&wanted.data_dir, &[]).await?;
    match find(wanted).await? {
        Some(target) => Ok(target),
        None => Err(Failure::new("the local server stopped at once")
            .hint(format!("the log is {}", local::log_path(&wanted.data_dir).display()))),
    }
}

fn no_server(wanted: &Wanted) -> Failure {
    Failure::new("no local server is running")
        .because(format!("nothing answers for {}", wanted.data_dir.display()))
        .hint("`clamshell serve --detach` starts one; --endpoint-url names another")
}

/// Parses the arguments, runs the command, reports a failure. Gives the exit code.
pub(crate) fn run() -> i32 {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &arguments),
    };
    let (json, result) = dispatch(cli.command);
    match result {
        Ok(code) => code,
        Err(failure) => {
            failure.report(json);
            failure.code()
        }
    }
}

fn dispatch(command: Command) -> (bool, Result<i32, Failure>) {
    match command {
        Command::Serve(args) => (args.json, serve::run(args)),
        Command::Web(args) => (args.json, web::run(*args)),
        Command::Console(args) => (args.server.json, block_on(console::run(args))),
        Command::Env(args) => (args.is_json(), block_on(env::run(args))),
        Command::Exec(args) => (args.json && !args.it, block_on(exec::run(*args))),
        Command::Sessions(args) => (args.server.json, block_on(sessions::run(args))),
        Command::Shells(args) => (args.server.json, block_on(shells::run(args))),
        Command::Files(args) => (args.server.json, block_on(files::run(args))),
        Command::Create(args) => (args.json, create::run(&args)),
        Command::Deploy(args) => (args.server.json, block_on(deploy::run(*args))),
        Command::Invoke(args) => (args.server.json, block_on(invoke::run(*args))),
        Command::Logs(args) => (args.server.json, block_on(logs::run(args))),
        Command::Status(args) => (args.server.json, block_on(status::run(args))),
        Command::Runtime(args) => (args.server.json, block_on(runtime::run(args))),
        Command::Endpoint(args) => (args.server.json, block_on(endpoint::run(args))),
        Command::Secrets(args) => (args.server.json, block_on(secrets::run(args))),
        Command::Keys(args) => (args.server.json, block_on(keys::run(args))),
        Command::Users(args) => (args.server.json, block_on(principals::run_users(args))),
        Command::Roles(args) => (args.server.json, block_on(principals::run_roles(args))),
        Command::Audit(args) => (args.server.json, block_on(audit::run(args))),
        Command::Doctor(args) => (args.server.json, block_on(doctor::run(args))),
        Command::Stop(args) => (args.json, block_on(stop::run(args))),
        Command::Completion(args) => (false, completion::run::<Cli>(&args)),
    }
}

/// Runs a client command: one thread is enough and starts fastest.
fn block_on(command: impl Future<Output = Result<i32, Failure>>) -> Result<i32, Failure> {
    init_tracing(None);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("cannot start").because_of(&error))?;
    let result = runtime.block_on(command);
    // Whatever a library still waits for, the user does not.
    runtime.shutdown_background();
    result
}

/// Logs go to stderr, at `CLAMSHELL_LOG`, else at `default`, else nowhere.
pub(crate) fn init_tracing(default: Option<&str>) {
    use std::io::IsTerminal;
    let level = std::env::var("CLAMSHELL_LOG").ok().filter(|level| !level.is_empty());
    let Some(level) = level.or_else(|| default.map(str::to_owned)) else { return };
    let filter = tracing_subscriber::EnvFilter::new(level);
    // Fails when a subscriber is in place, and then there is nothing to do.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

fn usage(error: &clap::Error, arguments: &[OsString]) -> i32 {
    let shown = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let json = arguments.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    if json && !shown {
        let text = usage_in_one_line(&error.render().to_string());
        output::print_json(&serde_json::json!({"success": false, "error": text}));
    } else {
        let _ = error.print();
    }
    match (shown, arguments.get(1)) {
        (true, _) => 0,
        // One is for agents that fail.
        (false, Some(command)) if command == "invoke" => 2,
        (false, _) => 1,
    }
}

/// What is wrong, without tips and usage: names of missing arguments stand in lines of their own.
fn usage_in_one_line(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
    lines.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_json() {
        let mut cli = Cli::command();
        cli.build();
        check_commands(&cli);
    }

    fn check_commands(command: &clap::Command) {
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            let name = command.get_bin_name().unwrap_or_default();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n"), "{name}");
            // Notes may follow after an empty line.
            for example in help.lines().skip(1).take_while(|line| !line.is_empty()) {
                assert!(example.contains(name) || example.starts_with("  eval"), "{name}: {example}");
            }
            // Scripts of a shell are what they are.
            let has_json = command.get_arguments().any(|argument| argument.get_id() == "json");
            assert!(has_json || name == "clamshell completion", "{name}");
            if has_json && !name.trim_start_matches("clamshell ").contains(' ') {
                assert!(help.contains(" json") || help.contains("--json"), "{name} shows no JSON");
            }
            check_commands(command);
        }
    }

    #[test]
    fn a_wrong_command_line_is_told_in_one_line() {
        let check = |line: &str, expect: &str| {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(usage_in_one_line(&error.render().to_string()), expect);
        };
        check("clamshell exec --bogus", "unexpected argument '--bogus' found");
        check("clamshell sessions stop", "the following required arguments were not provided: <SESSION_ID>");
    }

    #[test]
    fn flags_of_exec_may_follow_the_command() {
        let parse = |line: &str| match Cli::try_parse_from(line.split(' ')).map(|cli| cli.command) {
            Ok(Command::Exec(args)) => (args.command.join(" "), args.json),
            other => panic!("{other:?}"),
        };
        assert_eq!(parse("clamshell exec whoami --json"), ("whoami".to_owned(), true));
        assert_eq!(parse("clamshell exec --json -- ls -la --json"), ("ls -la --json".to_owned(), true));
    }
}
