//! `clamshell invoke`: asks an agent something and prints its answer as it comes.

mod answer;

use std::{io::Read, path::PathBuf, time::Duration};

use clamshell_domain::{Clock, SystemClock};
use clamshell_wire::{arn::RuntimeArn, headers, percent_encode};
use clap::Args;
use http::{HeaderMap, HeaderName, Method};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep},
};

use self::answer::{Form, Printer};
use super::logs;
use crate::{
    cli::ServerArgs,
    client::{Answer, Client, RequestError, printable},
    control::{Control, runtime_path},
    failure::Failure,
    output, runtimes,
};

/// Largest request that the service takes.
const BODY_BYTES_MAX: u64 = 100_000_000;
/// The service lets an agent think for 15 minutes before its first byte; a moment more, so that it has the first word.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15 * 60 + 30);
/// With --json, the whole answer is in memory. The service ends one at 100 MB.
const COLLECTED_BYTES_MAX: usize = 256 << 20;
/// What is read of the log of a call that failed; an agent that printed more is looked up with `clamshell logs`.
const LOG_BYTES_MAX: usize = 4 << 20;
/// The end of a stack trace and why the platform gave up.
const LOG_LINES_SHOWN: usize = 12;
/// How long an agent that died is waited for in its log, and how often it is looked for.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(2);
const LAST_WORD_PAUSE: Duration = Duration::from_millis(100);
/// The one refusal that asks to be tried again.
const RETRYABLE: &str = "RetryableConflictException";
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
const RETRY_FOR: Duration = Duration::from_secs(60);

/// Ask an agent something
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell invoke demo \"What is in this folder?\"       sends {\"prompt\": ...}\n  echo \"a long question\" | clamshell invoke demo -\n  clamshell invoke demo --file request.json --json\n  clamshell invoke demo \"and then?\" --session-id ID     the same session again\n  clamshell invoke tools --raw '{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}'\n  clamshell invoke arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/demo-AbCdE12345 hello\n\nExit code: 0 the agent answered, 1 it did not or its answer is an error, 2 wrong usage"
)]
pub(crate) struct InvokeArgs {
    /// Runtime: name, id or ARN; the ARN of another account means AWS
    runtime: String,
    /// What to ask; - reads it from stdin, which is also done when stdin is a pipe and nothing is given
    prompt: Option<String>,
    /// The request itself, from a file
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    file: Option<PathBuf>,
    /// Session to use, 33 to 256 characters [default: a new one]
    #[arg(long, value_name = "ID")]
    session_id: Option<String>,
    /// Endpoint of the runtime [default: DEFAULT]
    #[arg(long)]
    qualifier: Option<String>,
    /// User on whose behalf
    #[arg(long, value_name = "ID")]
    user_id: Option<String>,
    /// Type of the request [default: application/json]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Type of the answer [default: JSON or a stream of events]
    #[arg(long, value_name = "TYPE")]
    accept: Option<String>,
    /// Header for the agent, which its runtime must allow
    #[arg(long, short = 'H', value_name = "NAME: VALUE", value_parser = header)]
    header: Vec<(HeaderName, String)>,
    /// The prompt is the request as it is; without --json the answer is printed byte for byte
    #[arg(long)]
    raw: bool,
    /// Token for a runtime with JWT authorization
    #[arg(long, value_name = "TOKEN", env = "CLAMSHELL_BEARER_TOKEN", hide_env_values = true)]
    bearer_token: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

fn header(text: &str) -> Result<(HeaderName, String), String> {
    let (name, value) = text.split_once(':').ok_or("it must look like NAME: VALUE")?;
    let name = name.trim().parse::<HeaderName>().map_err(|error| error.to_string())?;
    Ok((name, value.trim().to_owned()))
}

/// Asks, and prints the answer.
pub(crate) async fn run(args: InvokeArgs) -> Result<i32, Failure> {
    if let Some(id) = &args.session_id
        && (!(33..=256).contains(&id.len()) || !id.bytes().all(|byte| (0x21..0x7f).contains(&byte)))
    {
        return Err(Failure::known("--session-id must be between 33 and 256 characters").exit_code(2));
    }
    let body = body(&args)?;
    let client = args.server.client_as(Some(&args.runtime), args.bearer_token.clone()).await?;
    let runtime = runtimes::resolve(&client).await?;
    let qualifier = args.qualifier.clone().or(runtime.qualifier).unwrap_or_else(|| "DEFAULT".to_owned());
    let path = format!(
        "/runtimes/{}/invocations?qualifier={}",
        percent_encode(&runtime.arn.to_string()),
        percent_encode(&qualifier)
    );
    let mut session_id = args.session_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let fields = fields(&args, &session_id);
    let began_at_ms = SystemClock.now_ms();
    let answer = match send(&client, &path, &fields, body).await {
        Ok(answer) => answer,
        Err((failure, false)) => return Err(failure),
        Err((failure, true)) => {
            let log = LogEnd::read(&client, &runtime.arn, &qualifier, &session_id, began_at_ms).await;
            let hint = log.hint(&args.runtime, &session_id);
            return Err(failure.log(log.entries).hint(hint));
        }
    };
    if let Some(id) = text_of(&answer.headers, headers::SESSION_ID) {
        session_id = id;
    }
    let json = args.server.json;
    let form = Form::of(&text_of(&answer.headers, "content-type").unwrap_or_default(), args.raw && !json);
    let ended = read(answer, form, json).await?;
    // What an agent says itself needs no log; what it left unsaid does.
    let log = if ended.is_broken && !client.target().is_aws() {
        LogEnd::read_whole(&client, &runtime.arn, &qualifier, &session_id, began_at_ms).await
    } else {
        LogEnd::default()
    };
    let hint = if ended.is_broken && !client.target().is_aws() {
        Some(log.hint(&args.runtime, &session_id))
    } else if ended.error.is_some() && !args.raw && args.file.is_none() {
        let protocol = speaks_json_rpc(&client, &runtime.arn).await;
        protocol.then(|| {
            "this agent speaks a protocol of its own; --raw or --file sends a request of it".to_owned()
        })
    } else {
        None
    };
    if json {
        let mut report = json!({
            "success": ended.error.is_none(),
            "response": answer::value(form, &ended.collected),
            "sessionId": session_id,
        });
        if let Some(error) = &ended.error {
            report["error"] = json!(error);
        }
        if let Some(hint) = hint {
            report["hint"] = json!(hint);
        }
        if !log.entries.is_empty() {
            report["log"] = json!(log.entries);
        }
        output::print_json(&report);
    } else {
        output::print_log_end(&log.entries);
        match &ended.error {
            Some(error) => eprintln!("Error: {}", printable(error)),
            None if ended.is_empty => eprintln!("The agent's answer is empty."),
            None => {}
        }
        if let Some(hint) = hint {
            eprintln!("hint: {hint}");
        }
        if args.session_id.is_none() {
            eprintln!("Session: {session_id}");
        }
    }
    Ok(i32::from(ended.error.is_some()))
}

/// Whether a prompt is no request that the agent knows.
async fn speaks_json_rpc(client: &Client, arn: &RuntimeArn) -> bool {
    let path = runtime_path(&arn.runtime_id);
    let found = Control::new(client).try_call(Method::GET, &path, None).await;
    found.is_ok_and(|found| {
        matches!(found["protocolConfiguration"]["serverProtocol"].as_str(), Some("MCP" | "A2A"))
    })
}

/// The end of what the log says since a call that failed began.
#[derive(Debug, Default)]
struct LogEnd {
    /// At most [`LOG_LINES_SHOWN`].
    entries: Vec<Value>,
}

impl LogEnd {
    /// Empty when there is nothing, or it cannot be had: the call has failed already, and that changes nothing.
    async fn read(
        client: &Client,
        arn: &RuntimeArn,
        qualifier: &str,
        session_id: &str,
        since_ms: u64,
    ) -> Self {
        let path = format!(
            "/clamshell/v1/logs?runtime={}&endpoint={}&session={}&since={since_ms}",
            percent_encode(&arn.to_string()),
            percent_encode(qualifier),
            percent_encode(session_id),
        );
        let Ok(mut answer) = client.send(Method::GET, &path, &[], Vec::new()).await else {
            return Self::default();
        };
        let mut bytes = Vec::new();
        while let Some(Ok(frame)) = answer.body.frame().await {
            bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
            if bytes.len() > LOG_BYTES_MAX {
                return Self::default();
            }
        }
        let mut entries: Vec<Value> = bytes.split(|byte| *byte == b'\n').filter_map(logs::entry).collect();
        Self { entries: entries.split_off(entries.len().saturating_sub(LOG_LINES_SHOWN)) }
    }

    /// As [`LogEnd::read`], and waits a moment for the platform's last word, which comes after the agent's.
    async fn read_whole(
        client: &Client,
        arn: &RuntimeArn,
        qualifier: &str,
        session_id: &str,
        since_ms: u64,
    ) -> Self {
        let give_up = Instant::now() + LAST_WORD_WITHIN;
        loop {
            let log = Self::read(client, arn, qualifier, session_id, since_ms).await;
            let is_whole = log.entries.last().is_some_and(|entry| entry["source"] == "platform");
            if is_whole || Instant::now() >= give_up {
                return log;
            }
            sleep(LAST_WORD_PAUSE).await;
        }
    }

    /// Where there is more.
    fn hint(&self, runtime: &str, session_id: &str) -> String {
        let what = if self.entries.is_empty() { "what" } else { "all that" };
        format!("`clamshell logs {runtime} --session {session_id}` shows {what} the agent printed")
    }
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The request's body.
fn body(args: &InvokeArgs) -> Result<Vec<u8>, Failure> {
    use std::io::IsTerminal;
    let cannot =
        |what: &str, error: &std::io::Error| Failure::new(format!("cannot read {what}")).because_of(error);
    if let Some(path) = &args.file {
        let what = path.display().to_string();
        let open = std::fs::File::open(path).map_err(|error| cannot(&what, &error).exit_code(2))?;
        return bounded(open).map_err(|error| cannot(&what, &error));
    }
    let from_stdin = match args.prompt.as_deref() {
        Some("-") => true,
        Some(_) => false,
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::new("nothing was asked")
                .hint("give a prompt, --file, or - for stdin")
                .exit_code(2));
        }
        None => true,
    };
    let bytes = if from_stdin {
        bounded(std::io::stdin()).map_err(|error| cannot("stdin", &error))?
    } else {
        args.prompt.clone().unwrap_or_default().into_bytes()
    };
    if args.raw {
        return Ok(bytes);
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        Failure::new("the prompt is no text").hint("--raw sends bytes as they are").exit_code(2)
    })?;
    let text = if from_stdin { text.trim_end_matches('\n') } else { &text };
    if from_stdin && text.is_empty() {
        return Err(Failure::new("nothing was asked").because("stdin is empty").exit_code(2));
    }
    Ok(json!({ "prompt": text }).to_string().into_bytes())
}

fn bounded(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|count| count > BODY_BYTES_MAX) {
        return Err(std::io::Error::other("more than the 100 MB that a request may have"));
    }
    Ok(bytes)
}

fn fields(args: &InvokeArgs, session_id: &str) -> Vec<(HeaderName, String)> {
    let or = |given: &Option<String>, default: &str| given.clone().unwrap_or_else(|| default.to_owned());
    let mut fields = vec![
        (http::header::CONTENT_TYPE, or(&args.content_type, headers::JSON)),
        (http::header::ACCEPT, or(&args.accept, "application/json, text/event-stream")),
        (HeaderName::from_static(headers::SESSION_ID), session_id.to_owned()),
    ];
    if let Some(user) = &args.user_id {
        fields.push((HeaderName::from_static("x-amzn-bedrock-agentcore-runtime-user-id"), user.clone()));
    }
    fields.extend(args.header.iter().cloned());
    fields
}

/// Sends the request; of a failure, whether it is the agent's and the log may tell more.
async fn send(
    client: &Client,
    path: &str,
    fields: &[(HeaderName, String)],
    body: Vec<u8>,
) -> Result<Answer, (Failure, bool)> {
    let endpoint = &client.target().endpoint;
    let give_up = Instant::now() + RETRY_FOR;
    let mut pause = RETRY_PAUSE;
    loop {
        let sent = client.send_long(Method::POST, path, fields, body.clone(), ANSWER_TIMEOUT).await;
        let error = match sent {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        // The session is on its way up or down; the agent has not seen the request.
        let retry = matches!(&error, RequestError::Refused(refusal) if refusal.exception == RETRYABLE);
        if retry && Instant::now() + pause < give_up {
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_PAUSE_MAX);
            continue;
        }
        let agent_failed = matches!(&error, RequestError::Refused(refusal) if refusal.status == 424);
        let failure = error.into_failure("cannot invoke the agent", endpoint);
        return Err((failure, agent_failed && !client.target().is_aws()));
    }
}

/// How an answer came out.
#[derive(Debug)]
struct Ended {
    /// With --json, what was not printed yet.
    collected: Vec<u8>,
    /// What the agent says went wrong, or that its answer broke off.
    error: Option<String>,
    /// It broke off.
    is_broken: bool,
    /// There was not one byte.
    is_empty: bool,
}

/// Prints the answer, or collects it for a report.
async fn read(mut answer: Answer, form: Form, json: bool) -> Result<Ended, Failure> {
    let mut printer = Printer::new(form, json);
    let mut stdout = tokio::io::stdout();
    let mut collected = Vec::new();
    let mut broken = None;
    let mut is_empty = true;
    while let Some(frame) = answer.body.frame().await {
        let bytes = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) => {
                broken = Some(format!("the answer broke off: {error}"));
                break;
            }
        };
        is_empty &= bytes.is_empty();
        let out = printer.feed(&bytes);
        if json {
            if collected.len() + out.len() > COLLECTED_BYTES_MAX {
                return Err(Failure::new("the answer is too large for --json"));
            }
            collected.extend_from_slice(&out);
        } else if !out.is_empty() {
            write(&mut stdout, &out).await?;
        }
    }
    let (out, told) = printer.end();
    if json {
        collected.extend_from_slice(&out);
    } else {
        write(&mut stdout, &out).await?;
    }
    Ok(Ended { collected, is_broken: broken.is_some(), error: broken.or(told), is_empty })
}

async fn write(stdout: &mut tokio::io::Stdout, bytes: &[u8]) -> Result<(), Failure> {
    let written = stdout.write_all(bytes).await;
    written.and(stdout.flush().await).map_err(|error| {
        let failure = Failure::new("cannot write the answer").because_of(&error);
        // Nobody reads any more: the exit code of a program killed by SIGPIPE.
        if error.kind() == std::io::ErrorKind::BrokenPipe { failure.exit_code(141) } else { failure }
    })
}
