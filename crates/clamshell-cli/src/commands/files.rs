//! `clamshell files`: the files of a session's workspace, whether it runs or not.

use std::{
    fs::File,
    io::{IsTerminal, Read, Seek, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use clamshell_wire::percent_encode;
use clap::{Args, Subcommand};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::sessions::{Which, call, locate, path};
use crate::{
    cli::ServerArgs,
    client::{Client, Upload, printable},
    failure::Failure,
    output::{self, text, time},
};

/// Longest file that the server takes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// List, get, put, move and remove files of a session's workspace
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell files ls 5723cde5                    what is in /mnt/workspace\n  clamshell files ls 5723cde5 src --json\n  clamshell files get 5723cde5 report.pdf\n  clamshell files put 5723cde5 notes.md docs/notes.md\n  clamshell files mv 5723cde5 old.txt new.txt\n  clamshell files rm 5723cde5 new.txt\n\nPaths are below /mnt/workspace. It works for stopped sessions and wakes none."
)]
pub(crate) struct FilesArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(subcommand)]
    command: FilesCommand,
}

#[derive(Debug, Subcommand)]
enum FilesCommand {
    /// List a folder
    #[command(
        alias = "list",
        after_help = "Examples:\n  clamshell files ls 5723cde5\n  clamshell files ls 5723cde5 src/app"
    )]
    Ls {
        #[command(flatten)]
        which: Which,
        /// Folder [default: the workspace itself]
        path: Option<String>,
    },
    /// Fetch a file
    #[command(
        after_help = "Examples:\n  clamshell files get 5723cde5 report.pdf\n  clamshell files get 5723cde5 logs/app.log /tmp/app.log\n  clamshell files get 5723cde5 notes.md -"
    )]
    Get {
        #[command(flatten)]
        which: Which,
        /// File in the workspace
        path: String,
        /// Where to, - for stdout [default: its name, here]
        to: Option<PathBuf>,
    },
    /// Put a file, over the one that there may be
    #[command(
        after_help = "Examples:\n  clamshell files put 5723cde5 notes.md\n  clamshell files put 5723cde5 notes.md docs/notes.md\n  clamshell files put 5723cde5 - list.txt < list"
    )]
    Put {
        #[command(flatten)]
        which: Which,
        /// File of this machine, - for stdin
        from: PathBuf,
        /// Path in the workspace [default: its name]
        path: Option<String>,
    },
    /// Make a folder
    #[command(after_help = "Examples:\n  clamshell files mkdir 5723cde5 docs")]
    Mkdir {
        #[command(flatten)]
        which: Which,
        /// Path in the workspace
        path: String,
    },
    /// Remove a file, a link or an empty folder
    #[command(alias = "remove", after_help = "Examples:\n  clamshell files rm 5723cde5 docs/notes.md")]
    Rm {
        #[command(flatten)]
        which: Which,
        /// Path in the workspace
        path: String,
    },
    /// Give a file or folder another path, where nothing is yet
    #[command(alias = "move", after_help = "Examples:\n  clamshell files mv 5723cde5 notes.md docs/notes.md")]
    Mv {
        #[command(flatten)]
        which: Which,
        /// Path in the workspace
        path: String,
        /// New path in the workspace
        to: String,
    },
}

/// Runs the subcommand.
pub(crate) async fn run(args: FilesArgs) -> Result<i32, Failure> {
    let server = &args.server;
    let json = server.json;
    match args.command {
        FilesCommand::Ls { which, path: folder } => {
            let (client, session) = find(server, &which).await?;
            let query = at(&session, "/files", &[("path", folder.as_deref().unwrap_or("/"))]);
            let listing = call(&client, Method::GET, &query, None, "cannot list the folder").await?;
            print_listing(json, &listing);
        }
        FilesCommand::Get { which, path: file, to } => {
            let (client, session) = find(server, &which).await?;
            get(&client, &session, &file, to, json).await?;
        }
        FilesCommand::Put { which, from, path: file } => {
            let (client, session) = find(server, &which).await?;
            let kept = put(&client, &session, &from, file.as_deref()).await?;
            if json {
                output::print_json(&kept);
            }
        }
        FilesCommand::Mkdir { which, path: folder } => {
            let (client, session) = find(server, &which).await?;
            let query = at(&session, "/files/directory", &[("path", &folder)]);
            let made = call(&client, Method::POST, &query, None, "cannot make the folder").await?;
            done(json, &made, &format!("Made {folder}."));
        }
        FilesCommand::Rm { which, path: file } => {
            let (client, session) = find(server, &which).await?;
            let query = at(&session, "/files", &[("path", &file)]);
            call(&client, Method::DELETE, &query, None, "cannot remove it").await?;
            done(json, &json!({ "success": true, "path": file }), &format!("Removed {file}."));
        }
        FilesCommand::Mv { which, path: file, to } => {
            let (client, session) = find(server, &which).await?;
            let query = at(&session, "/files/move", &[("path", &file), ("to", &to)]);
            call(&client, Method::POST, &query, None, "cannot move it").await?;
            done(json, &json!({ "success": true, "path": to }), &format!("Moved {file} to {to}."));
        }
    }
    Ok(0)
}

async fn find(server: &ServerArgs, which: &Which) -> Result<(Client, Value), Failure> {
    let client = server.client(which.runtime.as_deref()).await?;
    let session = locate(&client, which).await?;
    Ok((client, session))
}

/// Path and query of a call about files.
fn at(session: &Value, tail: &str, more: &[(&str, &str)]) -> String {
    let more: String =
        more.iter().map(|(name, value)| format!("&{name}={}", percent_encode(value))).collect();
    format!("{}{more}", path(session, tail))
}

fn done(json: bool, value: &Value, sentence: &str) {
    if json {
        output::print_json(value);
    } else {
        eprintln!("{}", printable(sentence));
    }
}

fn print_listing(json: bool, listing: &Value) {
    if json {
        output::print_json(listing);
        return;
    }
    let rows: Vec<Vec<String>> = listing["entries"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            // Names are the sandbox's: what they hold is not for this terminal.
            let name = printable(&text(entry, "name"));
            let (end, bytes) = match entry["kind"].as_str() {
                Some("directory") => ("/", String::new()),
                Some("symlink") => ("@", String::new()),
                Some("file") => ("", entry["bytes"].as_u64().map(output::bytes).unwrap_or_default()),
                _ => ("?", String::new()),
            };
            vec![text(entry, "mode"), bytes, time(entry, "modifiedAt"), format!("{name}{end}")]
        })
        .collect();
    if rows.is_empty() {
        eprintln!("Nothing is there.");
        return;
    }
    output::print_table(&["mode", "size", "changed", "name"], rows);
    if listing["truncated"] == true {
        eprintln!("There are more.");
    }
}

async fn get(
    client: &Client,
    session: &Value,
    file: &str,
    to: Option<PathBuf>,
    json: bool,
) -> Result<(), Failure> {
    let what = "cannot fetch the file";
    let to = match to {
        Some(to) => to,
        None => own_name(file).ok_or_else(|| {
            Failure::new(what).because("its name is none for a file here").hint("say where to")
        })?,
    };
    let query = at(session, "/files/content", &[("path", file)]);
    let sent = client.send(Method::GET, &query, &[], Vec::new()).await;
    let mut answer = sent.map_err(|error| error.into_failure(what, &client.target().endpoint))?;
    let length = answer.headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    let failed = |error: &dyn std::error::Error| Failure::new(what).because_of(error);
    let to_stdout = to.as_os_str() == "-";
    let mut out: Box<dyn Write> = if to_stdout {
        Box::new(std::io::stdout().lock())
    } else {
        Box::new(
            File::create(&to)
                .map_err(|error| Failure::new(what).because(format!("{}: {error}", to.display())))?,
        )
    };
    let mut progress = Progress::start(length);
    while let Some(frame) = answer.body.frame().await {
        let frame = frame.map_err(|error| Failure::new("the file broke off").because_of(&error))?;
        let data = frame.into_data().unwrap_or_default();
        out.write_all(&data).map_err(|error| failed(&error))?;
        progress.add(data.len());
    }
    out.flush().map_err(|error| failed(&error))?;
    let bytes = progress.end();
    if !to_stdout {
        let sentence = format!("Fetched {} ({}).", to.display(), output::bytes(bytes));
        done(json, &json!({ "success": true, "path": file, "file": to, "bytes": bytes }), &sentence);
    }
    Ok(())
}

/// The name that a file gets here: nothing that could lead elsewhere, or be hidden.
fn own_name(path: &str) -> Option<PathBuf> {
    let name = path.rsplit('/').find(|part| !part.is_empty())?;
    (!name.starts_with(['.', '-']) && !name.chars().any(char::is_control)).then(|| PathBuf::from(name))
}

async fn put(client: &Client, session: &Value, from: &Path, to: Option<&str>) -> Result<Value, Failure> {
    let what = "cannot put the file";
    let failed = |why: String| Failure::new(what).because(why);
    let (file, bytes) = if from.as_os_str() == "-" {
        let mut kept = nameless().map_err(|error| failed(error.to_string()))?;
        let bytes = std::io::copy(&mut std::io::stdin().lock().take(FILE_BYTES_MAX + 1), &mut kept)
            .and_then(|bytes| kept.rewind().map(|()| bytes))
            .map_err(|error| failed(error.to_string()))?;
        (kept, bytes)
    } else {
        let name = from.display();
        let file = File::open(from).map_err(|error| failed(format!("{name}: {error}")))?;
        let metadata = file.metadata().map_err(|error| failed(format!("{name}: {error}")))?;
        if !metadata.is_file() {
            return Err(failed(format!("{name} is not a regular file")));
        }
        (file, metadata.len())
    };
    if bytes > FILE_BYTES_MAX {
        return Err(failed("it is longer than 1 GiB".to_owned()));
    }
    let to = match to {
        Some(to) => to.to_owned(),
        None => from
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|name| *name != "-")
            .map(str::to_owned)
            .ok_or_else(|| failed("it has no name".to_owned()).hint("say which path it gets"))?,
    };
    let (file, sha256) = hash(file).map_err(|error| failed(error.to_string()))?;
    let query = at(session, "/files/content", &[("path", &to)]);
    if std::io::stderr().is_terminal() {
        eprintln!("Putting {}, {}...", printable(&to), output::bytes(bytes));
    }
    let sent = client.upload(&query, Upload { file, bytes, sha256 }).await;
    let kept = match sent {
        Ok(answer) => crate::client::read_json(answer).await,
        Err(error) => Err(error),
    };
    let kept = kept.map_err(|error| error.into_failure(what, &client.target().endpoint))?;
    eprintln!("Put {} ({}).", printable(&to), output::bytes(bytes));
    Ok(kept)
}

/// A file that nobody else sees and that is gone with this process.
fn nameless() -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = std::env::temp_dir().join(format!("clamshell-put-{}", uuid::Uuid::new_v4()));
    let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// What is signed is known before anything is sent, so a file is read twice.
fn hash(mut file: File) -> std::io::Result<(File, [u8; 32])> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        context.update(&buffer[..count]);
    }
    file.rewind()?;
    let sha256 = context.finish().as_ref().try_into().map_err(std::io::Error::other)?;
    Ok((file, sha256))
}

/// A line on a terminal that says how far it is.
struct Progress {
    length: Option<u64>,
    bytes: u64,
    shown: Option<Instant>,
    began: Instant,
    is_shown: bool,
}

impl Progress {
    fn start(length: Option<u64>) -> Self {
        Self {
            length,
            bytes: 0,
            shown: None,
            began: Instant::now(),
            is_shown: std::io::stderr().is_terminal(),
        }
    }

    fn add(&mut self, count: usize) {
        self.bytes += count as u64;
        let now = Instant::now();
        // What is there at once needs no line.
        if self.is_shown && now - self.shown.unwrap_or(self.began) >= SHOW_EVERY {
            self.shown = Some(now);
            let of = self.length.map(|length| format!(" of {}", output::bytes(length))).unwrap_or_default();
            eprint!("\r{}{of}   ", output::bytes(self.bytes));
        }
    }

    fn end(self) -> u64 {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fetched_file_gets_its_own_name_here() {
        let check = |path: &str, expect: Option<&str>| {
            assert_eq!(own_name(path).as_deref(), expect.map(Path::new), "{path}");
        };
        check("report.pdf", Some("report.pdf"));
        check("/a/b/report.pdf/", Some("report.pdf"));
        for bad in ["", "/", "..", "a/..", ".bashrc", "-", "-rf", "a/\x1b[31m"] {
            check(bad, None);
        }
    }

    #[test]
    fn paths_are_escaped_in_the_query() {
        let session = json!({ "sessionId": "s", "runtimeArn": "arn:x", "qualifier": "DEFAULT" });
        let query = at(&session, "/files/move", &[("path", "a b&c"), ("to", "é")]);
        let expect =
            "/clamshell/v1/sessions/s/files/move?runtime=arn%3Ax&qualifier=DEFAULT&path=a%20b%26c&to=%C3%A9";
        assert_eq!(query, expect);
    }

    #[test]
    fn a_file_is_hashed_and_read_again() {
        let mut file = nameless().unwrap();
        file.write_all(b"abc").unwrap();
        file.rewind().unwrap();
        let (mut file, sha256) = hash(file).unwrap();
        assert_eq!(
            crate::client::hex(&sha256),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let mut again = String::new();
        file.read_to_string(&mut again).unwrap();
        assert_eq!(again, "abc");
    }
}
