//! One command: its output as it comes, its exit code at the end.

use std::time::Duration;

use clamshell_wire::{
    event_stream::{CommandEvent, CommandEventReader, CommandStatus},
    headers, percent_encode,
};
use http::Method;
use http_body_util::BodyExt;
use serde::Serialize;
use serde_json::json;
use tokio::{
    io::{AsyncWriteExt, Stderr, Stdout},
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep, sleep_until},
};

use crate::{
    client::{Answer, Client, RequestError, printable},
    failure::Failure,
    output,
};

/// The server has the first word on its own limit; ours is for a stream gone silent.
const GRACE: Duration = Duration::from_secs(5);
/// The service allows commands an hour; without a limit of the user's, this is ours.
const LONGEST: Duration = Duration::from_secs(3600 + 300);
/// The one refusal that asks to be tried again.
const RETRYABLE: &str = "RetryableConflictException";
/// A sandbox comes up in milliseconds, goes down in a second or two; an image to unpack takes longer.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
const RETRY_FOR: Duration = Duration::from_secs(60);
/// With --json, all output is in memory. The service ends a command at 100 MB.
const COLLECTED_BYTES_MAX: usize = 256 << 20;

/// What to run.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) arn: String,
    pub(super) qualifier: String,
    pub(super) session_id: String,
    /// The user does not know the session yet.
    pub(super) generated: bool,
    pub(super) command: String,
    /// Seconds; 0 is none.
    pub(super) timeout_s: Option<u64>,
    pub(super) json: bool,
    pub(super) keep: bool,
}

/// The result, in the order that users of `agentcore exec --json` know.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    stdout: &'a str,
    stderr: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    session_id: &'a str,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    Exit(i32),
    TimedOut,
    Incomplete,
    Broken(String),
    Signal(i32),
}

/// Where output goes: through, or into memory.
struct Sinks {
    json: bool,
    stdout: Stdout,
    stderr: Stderr,
    out: String,
    err: String,
}

/// Runs it. The exit code is the command's; 1 for failures of everything around it; 130 after Ctrl+C,
/// which ends the command too.
pub(super) async fn run(client: &Client, order: Order) -> Result<i32, Failure> {
    let cannot = |error: std::io::Error| Failure::new("cannot watch for signals").because_of(&error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let deadline = Instant::now() + limit(order.timeout_s);
    let mut sinks = Sinks {
        json: order.json,
        stdout: tokio::io::stdout(),
        stderr: tokio::io::stderr(),
        out: String::new(),
        err: String::new(),
    };
    let mut session_id = order.session_id.clone();
    let ending = tokio::select! {
        ending = execute(client, &order, &mut sinks, &mut session_id) => ending?,
        () = sleep_until(deadline) => Ending::TimedOut,
        // Dropping the connection is what tells the server to end the command.
        _ = interrupt.recv() => Ending::Signal(2),
        _ = terminate.recv() => Ending::Signal(15),
    };
    let _ = sinks.stdout.flush().await;
    let _ = sinks.stderr.flush().await;
    let (code, error) = verdict(&ending, order.timeout_s);
    if order.json {
        output::print_json(&Report {
            success: error.is_none(),
            exit_code: match ending {
                Ending::Exit(code) => Some(code),
                _ => None,
            },
            stdout: &sinks.out,
            stderr: &sinks.err,
            error,
            session_id: &session_id,
        });
        return Ok(code);
    }
    if let Some(error) = error.filter(|_| !matches!(ending, Ending::Signal(_))) {
        eprintln!("Error: {error}");
    }
    if order.generated {
        eprintln!("Session: {session_id}");
    }
    if order.keep && matches!(ending, Ending::Signal(_)) {
        eprintln!("The command goes on.");
    }
    Ok(code)
}

fn limit(timeout_s: Option<u64>) -> Duration {
    match timeout_s {
        None | Some(0) => LONGEST,
        Some(seconds) => Duration::from_secs(seconds.min(1 << 32)) + GRACE,
    }
}

/// Exit code, and the text of a failure.
fn verdict(ending: &Ending, timeout_s: Option<u64>) -> (i32, Option<String>) {
    match ending {
        Ending::Exit(0) => (0, None),
        // The service uses -1 for what it ended itself.
        Ending::Exit(code) if *code < 0 => (1, Some(format!("Command exited with code {code}"))),
        Ending::Exit(code) => (*code, Some(format!("Command exited with code {code}"))),
        Ending::TimedOut => {
            let seconds = timeout_s.filter(|seconds| *seconds > 0).unwrap_or(300);
            (1, Some(format!("Command timed out after {seconds}s")))
        }
        Ending::Incomplete => (1, Some("Command stream ended without exit code".to_owned())),
        Ending::Broken(why) => (1, Some(why.clone())),
        Ending::Signal(number) => (128 + number, Some(format!("interrupted by signal {number}"))),
    }
}

async fn execute(
    client: &Client,
    order: &Order,
    sinks: &mut Sinks,
    session_id: &mut String,
) -> Result<Ending, Failure> {
    let mut answer = send(client, order).await?;
    if let Some(id) = answer.headers.get(headers::SESSION_ID).and_then(|id| id.to_str().ok()) {
        id.clone_into(session_id);
    }
    let mut reader = CommandEventReader::new();
    while let Some(frame) = answer.body.frame().await {
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => return Ok(Ending::Broken(format!("Connection lost: {error}"))),
        };
        let Ok(bytes) = frame.into_data() else { continue };
        let events = match reader.feed(&bytes) {
            Ok(events) => events,
            Err(error) => return Ok(Ending::Broken(error.to_string())),
        };
        for event in events {
            match event {
                CommandEvent::Start => {}
                CommandEvent::Stdout(text) => sinks.stdout(&text).await?,
                CommandEvent::Stderr(text) => sinks.stderr(&text).await?,
                CommandEvent::Stop { status: CommandStatus::TimedOut, .. } => return Ok(Ending::TimedOut),
                CommandEvent::Stop { exit_code: -1, .. } if order.timeout_s.is_some_and(|s| s > 0) => {
                    return Ok(Ending::TimedOut);
                }
                CommandEvent::Stop { exit_code, .. } => return Ok(Ending::Exit(exit_code)),
                CommandEvent::Exception { name, message } => {
                    return Ok(Ending::Broken(format!("{} ({})", printable(&message), printable(&name))));
                }
            }
        }
    }
    Ok(Ending::Incomplete)
}

async fn send(client: &Client, order: &Order) -> Result<Answer, Failure> {
    let mut body = json!({ "command": order.command });
    if let Some(seconds) = order.timeout_s.filter(|seconds| *seconds > 0) {
        body["timeout"] = json!(seconds);
    }
    if order.keep {
        body["keepRunning"] = json!(true);
    }
    let extra = [
        (headers::CONTENT_TYPE, headers::JSON.to_owned()),
        ("accept", headers::EVENT_STREAM.to_owned()),
        (headers::SESSION_ID, order.session_id.clone()),
    ];
    let body = body.to_string().into_bytes();
    let path = path(order);
    let mut pause = RETRY_PAUSE;
    let give_up = Instant::now() + RETRY_FOR;
    loop {
        let error = match client.send(Method::POST, &path, &extra, body.clone()).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // The session is on its way up or down; nothing has run yet, so nothing can run twice.
        let retry = matches!(&error, RequestError::Refused(refusal) if refusal.exception == RETRYABLE);
        if !retry || Instant::now() + pause > give_up {
            return Err(error.into_failure("cannot run the command", &client.target().endpoint));
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_PAUSE_MAX);
    }
}

fn path(order: &Order) -> String {
    let arn = percent_encode(&order.arn);
    let qualifier = percent_encode(&order.qualifier);
    if order.keep {
        let session = percent_encode(&order.session_id);
        return format!("/clamshell/v1/sessions/{session}/commands?runtime={arn}&qualifier={qualifier}");
    }
    format!("/runtimes/{arn}/commands?qualifier={qualifier}")
}

impl Sinks {
    async fn stdout(&mut self, text: &str) -> Result<(), Failure> {
        if self.json {
            return collect(&mut self.out, text);
        }
        let written = self.stdout.write_all(text.as_bytes()).await;
        stopped(written.and(self.stdout.flush().await))
    }

    async fn stderr(&mut self, text: &str) -> Result<(), Failure> {
        if self.json {
            return collect(&mut self.err, text);
        }
        let written = self.stderr.write_all(text.as_bytes()).await;
        stopped(written.and(self.stderr.flush().await))
    }
}

fn collect(all: &mut String, text: &str) -> Result<(), Failure> {
    if all.len() + text.len() > COLLECTED_BYTES_MAX {
        return Err(Failure::new("the output is too large for --json"));
    }
    all.push_str(text);
    Ok(())
}

/// Nobody reads any more (`| head`): the exit code is that of a program killed by SIGPIPE.
fn stopped(result: std::io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| {
        let failure = Failure::new("cannot write the output").because_of(&error);
        if error.kind() == std::io::ErrorKind::BrokenPipe { failure.exit_code(141) } else { failure }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_and_texts() {
        let check = |ending: Ending, timeout_s: Option<u64>, code: i32, text: Option<&str>| {
            assert_eq!(verdict(&ending, timeout_s), (code, text.map(str::to_owned)));
        };
        check(Ending::Exit(0), None, 0, None);
        check(Ending::Exit(3), None, 3, Some("Command exited with code 3"));
        check(Ending::Exit(-1), None, 1, Some("Command exited with code -1"));
        check(Ending::TimedOut, Some(2), 1, Some("Command timed out after 2s"));
        check(Ending::TimedOut, None, 1, Some("Command timed out after 300s"));
        check(Ending::Incomplete, None, 1, Some("Command stream ended without exit code"));
        check(Ending::Signal(2), None, 130, Some("interrupted by signal 2"));
    }

    #[test]
    fn the_json_report_has_a_fixed_shape() {
        let report = |exit_code, error: Option<&str>| {
            let error = error.map(str::to_owned);
            let success = error.is_none();
            serde_json::to_string(&Report {
                success,
                exit_code,
                stdout: "root\n",
                stderr: "",
                error,
                session_id: "s",
            })
            .unwrap()
        };
        assert_eq!(
            report(Some(0), None),
            r#"{"success":true,"exitCode":0,"stdout":"root\n","stderr":"","sessionId":"s"}"#
        );
        assert_eq!(
            report(None, Some("Command timed out after 2s")),
            r#"{"success":false,"stdout":"root\n","stderr":"","error":"Command timed out after 2s","sessionId":"s"}"#
        );
    }

    #[test]
    fn paths_name_the_runtime_in_one_segment() {
        let mut order = Order {
            arn: "arn:a/b".to_owned(),
            qualifier: "DEFAULT".to_owned(),
            session_id: "s".to_owned(),
            generated: false,
            command: String::new(),
            timeout_s: None,
            json: false,
            keep: false,
        };
        assert_eq!(path(&order), "/runtimes/arn%3Aa%2Fb/commands?qualifier=DEFAULT");
        order.keep = true;
        assert_eq!(path(&order), "/clamshell/v1/sessions/s/commands?runtime=arn%3Aa%2Fb&qualifier=DEFAULT");
    }
}
