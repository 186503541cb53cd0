//! `clamshell console`: a link that signs its reader in to the browser console, once.

use std::process::{Command, Stdio};

use clap::Args;
use http::Method;

use super::sessions::call;
use crate::{
    cli::ServerArgs,
    client::Client,
    failure::Failure,
    output::{self, text},
};

/// Where the console's page signs somebody in.
const LINKS: &str = "/clamshell/v1/console/links";

/// Print a link to the browser console that signs you in, once
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell console           print the link; it works once, for ten minutes\n  clamshell console --open    and open it in a browser\n  clamshell console --json    as one JSON object\n\nThe link signs in the user whose key signs this call; on the server's own machine that is root."
)]
pub(crate) struct ConsoleArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Open it in a browser
    #[arg(long)]
    open: bool,
}

/// Makes a link and prints it; starts the local server when it does not run.
pub(crate) async fn run(args: ConsoleArgs) -> Result<i32, Failure> {
    let client = args.server.client_or_start(None).await?;
    let made = call(&client, Method::POST, LINKS, None, "cannot make a link to the console").await?;
    let url = text(&made, "url");
    if args.server.json {
        output::print_json(&made);
    } else {
        output::print_text(&format!("{url}\n"));
        eprintln!("The link works once, for ten minutes.");
    }
    if args.open {
        open(&url)?;
    }
    Ok(0)
}

/// A link of the server that was just started, for whoever started it; `None` where there is no console, or no key.
pub(crate) async fn link(client: &Client) -> Option<String> {
    let made = client.json(Method::POST, LINKS, None).await.ok()?;
    made["url"].as_str().map(str::to_owned)
}

/// Gives a URL to the program that the desktop has for it.
fn open(url: &str) -> Result<(), Failure> {
    let program = std::env::var("BROWSER").ok().filter(|browser| !browser.is_empty());
    let program = program.unwrap_or_else(|| "xdg-open".to_owned());
    let started = Command::new(&program)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    // It goes on by itself; a browser may live longer than this program.
    started.map(drop).map_err(|error| {
        Failure::new(format!("cannot run `{program}`"))
            .because_of(&error)
            .hint("open the link above in a browser of your choice")
    })
}
