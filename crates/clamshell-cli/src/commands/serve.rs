//! `clamshell serve`: the server, in the foreground or in the background.

use std::{
    io::{ErrorKind, IsTerminal},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clamshell_server::{Config, Overrides, RunError, local::ServerInfo};
use clap::Args;

use super::console;
use crate::{
    cli,
    client::Client,
    failure::Failure,
    local, output,
    target::{Resolution, Wanted, resolve},
};

/// A start that takes longer has a fault, which is in the log.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(60);

/// Run the server
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell serve                              in the foreground, on 127.0.0.1:7878\n  clamshell serve --detach                     in the background\n  clamshell serve --detach --json              and tell where as one JSON object\n  clamshell serve --listen 127.0.0.1:0         on any free port\n  clamshell serve --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem"
)]
pub(crate) struct ServeArgs {
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:7878]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Where all state lives [default: ~/.local/share/clamshell]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file [default: clamshell.toml in the data directory]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// TLS certificate chain, PEM
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// TLS private key, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Region in ARNs and signatures [default: us-west-2]
    #[arg(long)]
    region: Option<String>,
    /// Start in the background, wait until it answers, print its endpoint
    #[arg(long)]
    detach: bool,
    /// With --detach: print one JSON object
    #[arg(long, requires = "detach")]
    pub(crate) json: bool,
    /// This is the process in the background
    #[arg(long, hide = true)]
    background: bool,
}

/// Runs the server until it is told to stop, or starts one in the background.
pub(crate) fn run(args: ServeArgs) -> Result<i32, Failure> {
    let threads = || {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new("cannot start").because_of(&error))
    };
    // Checked here in both cases: with --detach, a wrong value is told at once and not in a log.
    let config = Config::load(overrides(&args)).map_err(|error| {
        Failure::new("the configuration cannot be used")
            .because_of(&error)
            .hint("see `clamshell serve --help`")
    })?;
    if args.detach {
        return threads()?.block_on(detach(&args, &config));
    }
    if args.background {
        // Own session: the terminal that started it may go away. Fails only for a group leader, which
        // a freshly started process is not.
        let _ = rustix::process::setsid();
    }
    cli::init_tracing(Some("info"));
    let runtime = threads()?;
    let announced = !args.background && config.console_off().is_none();
    let data_dir = config.data_dir.clone();
    let result = runtime.block_on(async {
        let served = clamshell_server::run(config);
        if !announced {
            return served.await;
        }
        let mut served = std::pin::pin!(served);
        tokio::select! {
            result = served.as_mut() => result,
            () = announce(&data_dir) => served.await,
        }
    });
    // What still reads a disk by now must not keep the process.
    runtime.shutdown_background();
    result.map(|()| 0).map_err(|error| {
        let failure = Failure::new("the server ended").because_of(&error);
        match &error {
            RunError::Listen { source, .. } if source.kind() == ErrorKind::AddrInUse => {
                failure.hint("--listen 127.0.0.1:0 takes a free port")
            }
            RunError::Region { stored, .. } => {
                failure.hint(format!("start it with --region {stored}, or with another --data-dir"))
            }
            _ => failure,
        }
    })
}

/// Prints a link to the console once the server answers, to a terminal; elsewhere, a log for instance, it says how to get one.
pub(crate) async fn announce(data_dir: &Path) {
    let hint = || match data_dir == local::data_dir(None) {
        true => eprintln!("`clamshell console` prints a link to the browser console"),
        false => eprintln!(
            "`clamshell console --data-dir {}` prints a link to the browser console",
            data_dir.display()
        ),
    };
    let deadline = Instant::now() + ANNOUNCE_TIMEOUT;
    while Instant::now() < deadline {
        // Of this very process: what an earlier server wrote may still lie there.
        if let Ok(Some(info)) = local::running(data_dir).await
            && info.pid == std::process::id()
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    if !std::io::stderr().is_terminal() {
        return hint();
    }
    match link(data_dir).await {
        Some(url) => eprintln!("Console, signs in once within ten minutes: {url}"),
        None => hint(),
    }
}

async fn link(data_dir: &Path) -> Option<String> {
    let wanted = Wanted {
        endpoint_url: None,
        region: None,
        runtime: None,
        bearer_token: None,
        data_dir: data_dir.to_owned(),
    };
    let info = local::running(data_dir).await.ok()??;
    let nothing = |_: &str| None;
    // The server of this directory, whatever the environment says of others.
    let Ok(Resolution::Ready(target)) = resolve(&wanted, &nothing, Some(&info), true) else { return None };
    console::link(&Client::new(*target).await.ok()?).await
}

async fn detach(args: &ServeArgs, config: &Config) -> Result<i32, Failure> {
    let running = local::running(&config.data_dir).await?;
    let already = running.is_some();
    let info = match running {
        Some(info) => info,
        None => local::start(&config.data_dir, &flags(args)?).await?,
    };
    let console = if already || config.console_off().is_some() { None } else { link(&config.data_dir).await };
    report(args.json, &info, already, console.as_deref());
    Ok(0)
}

fn report(json: bool, info: &ServerInfo, already: bool, console: Option<&str>) {
    if json {
        output::print_json(&serde_json::json!({
            "success": true,
            "endpoint": info.endpoint,
            "pid": info.pid,
            "alreadyRunning": already,
            "otherProgram": already && info.is_other_program(),
            "consoleUrl": console,
        }));
        return;
    }
    if already {
        eprintln!("A server is running already (process {}).", info.pid);
    }
    if already && info.is_other_program() {
        let own = std::env::args().next().unwrap_or_else(|| "clamshell".to_owned());
        let same = if info.version == env!("CARGO_PKG_VERSION") { ", another build" } else { "" };
        eprintln!("warning: it is version {}{same}, this is {}", info.version, env!("CARGO_PKG_VERSION"));
        eprintln!("hint: `{own} stop && {own} serve --detach` replaces it; sandboxes and shells go on");
    }
    if let Some(url) = console {
        eprintln!("Console, signs in once within ten minutes: {url}");
    }
    output::print_text(&format!("{}\n", info.endpoint));
}

fn overrides(args: &ServeArgs) -> Overrides {
    Overrides {
        listen: args.listen.clone(),
        data_dir: args.data_dir.clone(),
        config_file: args.config.clone(),
        tls_cert: args.tls_cert.clone(),
        tls_key: args.tls_key.clone(),
        region: args.region.clone(),
    }
}

/// The flags for the process in the background, which works in another folder: paths are absolute.
fn flags(args: &ServeArgs) -> Result<Vec<String>, Failure> {
    let mut flags = Vec::new();
    for (flag, value) in [("--listen", &args.listen), ("--region", &args.region)] {
        flags.extend(value.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
    }
    let files = [("--config", &args.config), ("--tls-cert", &args.tls_cert), ("--tls-key", &args.tls_key)];
    for (flag, file) in files {
        if let Some(file) = file {
            let path =
                std::path::absolute(file).ok().and_then(|path| path.into_os_string().into_string().ok());
            let bad = || Failure::new(format!("cannot use {flag} {}", file.display()));
            flags.extend([flag.to_owned(), path.ok_or_else(bad)?]);
        }
    }
    Ok(flags)
}
