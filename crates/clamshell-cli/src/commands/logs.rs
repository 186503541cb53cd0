//! `clamshell logs`: what agents print, from the beginning or as it comes.

use clamshell_domain::{Clock, SystemClock};
use clamshell_wire::{arn::RuntimeArn, percent_encode};
use clap::Args;
use http::Method;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::{cli::ServerArgs, failure::Failure, output, runtimes};

/// One line of a log; the server cuts them at 256 KiB before escapes.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Show what agents print
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell logs demo\n  clamshell logs demo --follow\n  clamshell logs demo --since 10m --session ID\n  clamshell logs demo --json                  one JSON object a line\n\nLogs of runtimes at AWS are in CloudWatch; this command is for Clamshell servers."
)]
pub(crate) struct LogsArgs {
    /// Runtime: name, id or ARN
    runtime: String,
    /// Go on with what comes; Ctrl+C ends it
    #[arg(long, short)]
    follow: bool,
    /// Only what is newer: a span as 90s, 10m, 2h, 3d, or a time as 2026-01-02T03:04:05Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// Of one session: its id
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Of one endpoint [default: DEFAULT]
    #[arg(long)]
    qualifier: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// From when on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Since {
    /// So many milliseconds ago.
    Ago(u64),
    /// At a time, milliseconds since 1970.
    At(u64),
}

fn since(text: &str) -> Result<Since, String> {
    let wrong = || "it must look like 90s, 10m, 2h, 3d or 2026-01-02T03:04:05Z".to_owned();
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return u64::try_from(time.as_millisecond()).map(Since::At).map_err(|_| wrong());
    }
    let split = text.len().saturating_sub(1);
    let (number, unit) = text.split_at_checked(split).ok_or_else(wrong)?;
    let scale = match unit {
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(scale).map(Since::Ago).ok_or_else(wrong)
}

/// Prints the log.
pub(crate) async fn run(args: LogsArgs) -> Result<i32, Failure> {
    let what = "cannot show the log";
    let client = args.server.client(Some(&args.runtime)).await?;
    let runtime = runtimes::resolve(&client).await?;
    let endpoint = args.qualifier.clone().or(runtime.qualifier).unwrap_or_else(|| "DEFAULT".to_owned());
    if client.target().is_aws() {
        let group = format!("/aws/bedrock-agentcore/runtimes/{}-{endpoint}", runtime.arn.runtime_id);
        return Err(Failure::new(what)
            .because("the logs of AWS are in CloudWatch")
            .hint(format!("aws logs tail {group} --follow --region {}", runtime.arn.region)));
    }
    let path = path(&args, &runtime.arn, &endpoint, SystemClock.now_ms());
    let sent = client.send(Method::GET, &path, &[], Vec::new()).await;
    let mut answer = sent.map_err(|error| error.into_failure(what, &client.target().endpoint))?;
    if args.follow && !args.server.json {
        eprintln!("Logs of {} (Ctrl+C to stop)", runtime.arn.runtime_id);
    }
    let mut begun: Vec<u8> = Vec::new();
    let mut count = 0_u64;
    while let Some(frame) = answer.body.frame().await {
        let frame = frame.map_err(|error| Failure::new("the log broke off").because_of(&error))?;
        begun.extend_from_slice(&frame.into_data().unwrap_or_default());
        while let Some(end) = begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = begun.drain(..=end).collect();
            count += u64::from(print(&line, args.server.json));
        }
        if begun.len() > LINE_BYTES_MAX {
            return Err(Failure::new("a line of the log is too long"));
        }
    }
    count += u64::from(print(&begun, args.server.json));
    if count == 0 && !args.server.json {
        eprintln!("No lines. Has the agent been invoked?");
    }
    Ok(0)
}

fn path(args: &LogsArgs, arn: &RuntimeArn, endpoint: &str, now_ms: u64) -> String {
    let mut path = format!(
        "/clamshell/v1/logs?runtime={}&endpoint={}",
        percent_encode(&arn.to_string()),
        percent_encode(endpoint)
    );
    let mut add = |name: &str, value: &str| path.push_str(&format!("&{name}={}", percent_encode(value)));
    if let Some(session) = &args.session {
        add("session", session);
    }
    match &args.since {
        Some(Since::Ago(ms)) => add("since", &now_ms.saturating_sub(*ms).to_string()),
        Some(Since::At(ms)) => add("since", &ms.to_string()),
        None => {}
    }
    if args.follow {
        add("follow", "true");
    }
    path
}

/// Whether there was something to print.
fn print(line: &[u8], json: bool) -> bool {
    match shown(line, json) {
        Some(text) => {
            output::print_text(&text);
            true
        }
        None => false,
    }
}

/// A line's entry; `None` when it is none.
pub(super) fn entry(line: &[u8]) -> Option<Value> {
    serde_json::from_slice::<Value>(line).ok().filter(Value::is_object)
}

/// One line as it is printed; `None` when it is none.
fn shown(line: &[u8], json: bool) -> Option<String> {
    let entry = entry(line)?;
    if json {
        let line = String::from_utf8_lossy(line);
        return Some(format!("{}\n", line.trim_end_matches(['\r', '\n'])));
    }
    Some(output::log_line(&entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_times_say_from_when() {
        assert_eq!(since("90s"), Ok(Since::Ago(90_000)));
        assert_eq!(since("2h"), Ok(Since::Ago(7_200_000)));
        assert_eq!(since("2026-01-02T03:04:05Z"), Ok(Since::At(1_767_323_045_000)));
        for bad in ["", "s", "10", "10x", "-1m", "é", "99999999999999999999d", "18446744073709551615d"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_are_shown_without_their_escapes() {
        let line = br#"{"timestamp":"2026-01-02T03:04:05.678Z","sessionId":"s","message":"a\u001b[31mb\nc"}"#;
        let expect = "2026-01-02T03:04:05.678Z  a [31mb\n    c\n";
        assert_eq!(shown(line, false).as_deref(), Some(expect));
        assert_eq!(shown(line, true).unwrap().trim_end().as_bytes(), line);
        let line = br#"{"timestamp":"t","source":"platform","message":"exited with code 3"}"#;
        assert_eq!(shown(line, false).as_deref(), Some("t  [platform] exited with code 3\n"));
        assert_eq!(shown(b"not json", true), None);
        assert_eq!(shown(b"\n", false), None);
    }
}
