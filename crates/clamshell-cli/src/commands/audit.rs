//! `clamshell audit`: who did what on the server, newest last.

use clamshell_wire::percent_encode;
use clap::Args;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::{
    cli::ServerArgs,
    client::{Client, printable},
    failure::Failure,
    output::{self, text, time},
};

/// Records of one request.
const PAGE: u32 = 1_000;

/// One event of the stream; the longest one is a snapshot of 100 records.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// Show who did what
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell audit\n  clamshell audit --follow\n  clamshell audit --user ci --limit 1000\n  clamshell audit --action clamshell:RemoveSession\n  clamshell audit --json                      one JSON object; with --follow one a line"
)]
pub(crate) struct AuditArgs {
    /// Go on with what comes; Ctrl+C ends it
    #[arg(long, short)]
    follow: bool,
    /// Of one user
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Of one action, as policies name it
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// So many records, the newest
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Prints the trail.
pub(crate) async fn run(args: AuditArgs) -> Result<i32, Failure> {
    let client = args.server.client(None).await?;
    let json = args.server.json;
    if args.follow {
        return follow(&client, &args).await;
    }
    let mut records = read(&client, &args).await?;
    if json {
        output::print_json(&json!({ "records": records }));
        return Ok(0);
    }
    if records.is_empty() {
        eprintln!("No records.");
        return Ok(0);
    }
    records.reverse();
    let rows = records.iter().map(row).collect();
    output::print_table(&["time", "user", "from", "action", "outcome", "resource"], rows);
    Ok(0)
}

/// The newest records first.
async fn read(client: &Client, args: &AuditArgs) -> Result<Vec<Value>, Failure> {
    let what = "cannot read the audit trail";
    let mut records: Vec<Value> = Vec::new();
    let mut before = None;
    loop {
        let left = args.limit.saturating_sub(u32::try_from(records.len()).unwrap_or(u32::MAX));
        if left == 0 {
            return Ok(records);
        }
        let path = path(args, left.min(PAGE), before);
        let endpoint = &client.target().endpoint;
        let answer = client.json(Method::GET, &path, None).await;
        let mut answer = answer.map_err(|error| error.into_failure(what, endpoint))?;
        records.extend(answer["records"].as_array_mut().map(std::mem::take).unwrap_or_default());
        before = answer["nextBefore"].as_u64();
        if before.is_none() {
            return Ok(records);
        }
    }
}

fn path(args: &AuditArgs, limit: u32, before: Option<u64>) -> String {
    let mut path = format!("/clamshell/v1/audit?limit={limit}");
    for (name, value) in [("user", &args.user), ("action", &args.action)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", percent_encode(value)));
        }
    }
    if let Some(before) = before {
        path.push_str(&format!("&before={before}"));
    }
    path
}

async fn follow(client: &Client, args: &AuditArgs) -> Result<i32, Failure> {
    let what = "cannot follow the audit trail";
    let sent = client.send(Method::GET, "/clamshell/v1/events?topics=audit", &[], Vec::new()).await;
    let mut answer = sent.map_err(|error| error.into_failure(what, &client.target().endpoint))?;
    let mut begun: Vec<u8> = Vec::new();
    let mut last = 0;
    while let Some(frame) = answer.body.frame().await {
        let frame = frame.map_err(|error| Failure::new("the audit trail broke off").because_of(&error))?;
        begun.extend_from_slice(&frame.into_data().unwrap_or_default());
        while let Some(end) = begun.windows(2).position(|pair| pair == b"\n\n") {
            let message: Vec<u8> = begun.drain(..end + 2).collect();
            for record in records(&message) {
                // After a new snapshot, what was printed already is in it.
                let id = record["id"].as_u64().unwrap_or_default();
                if id > last {
                    last = id;
                    print(&record, args);
                }
            }
        }
        if begun.len() > EVENT_BYTES_MAX {
            return Err(Failure::new("a record of the audit trail is too long"));
        }
    }
    Err(Failure::new("the server ended the stream").hint("run the command again when it is back"))
}

/// The records of one server-sent event, oldest first.
fn records(message: &[u8]) -> Vec<Value> {
    let message = String::from_utf8_lossy(message);
    let data = message.lines().find_map(|line| line.strip_prefix("data: "));
    let Some(mut data) = data.and_then(|data| serde_json::from_str::<Value>(data).ok()) else {
        return Vec::new();
    };
    match data["records"].as_array_mut() {
        Some(all) => all.drain(..).rev().collect(),
        None => vec![data],
    }
}

fn print(record: &Value, args: &AuditArgs) {
    let is_meant = |wanted: &Option<String>, member: &str| {
        wanted.as_ref().is_none_or(|wanted| record[member].as_str() == Some(wanted))
    };
    if !is_meant(&args.user, "userName") || !is_meant(&args.action, "action") {
        return;
    }
    if args.server.json {
        output::print_json(record);
    } else {
        output::print_text(&format!("{}\n", row(record).join("  ")));
    }
}

fn row(record: &Value) -> Vec<String> {
    let outcome = format!("{} {}", text(record, "outcome"), text(record, "status"));
    let user = match text(record, "userName") {
        name if name.is_empty() => "-".to_owned(),
        name => name,
    };
    let texts = [
        time(record, "at"),
        user,
        text(record, "sourceIp"),
        text(record, "action"),
        outcome,
        text(record, "resource"),
    ];
    texts.map(|text| printable(&text)).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_hold_one_record_or_many() {
        let ids = |message: &str| -> Vec<u64> {
            records(message.as_bytes()).iter().map(|record| record["id"].as_u64().unwrap()).collect()
        };
        assert_eq!(ids("event: audit-record\nid: 3\ndata: {\"id\":7}\n\n"), [7]);
        assert_eq!(ids("event: audit\nid: 3\ndata: {\"records\":[{\"id\":9},{\"id\":8}]}\n\n"), [8, 9]);
        assert_eq!(ids(":\n\n"), [0; 0]);
        assert_eq!(ids("retry: 1000\n\n"), [0; 0]);
    }

    #[test]
    fn rows_say_what_matters() {
        let record = json!({
            "at": "2026-01-02T03:04:05.678Z", "userName": "", "sourceIp": "::1", "action": "clamshell:Login",
            "outcome": "denied", "status": 403, "resource": "*",
        });
        assert_eq!(row(&record).join("|"), "2026-01-02T03:04:05Z|-|::1|clamshell:Login|denied 403|*");
    }
}
