//! `clamshell sessions`: see, stop and remove sessions.

use clamshell_wire::percent_encode;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::Value;

use crate::{
    cli::ServerArgs,
    client::Client,
    failure::Failure,
    output::{self, text, time},
    runtimes,
};

/// Shortest beginning of a session id that stands for it: long enough not to hit by chance.
const PREFIX_CHARS_MIN: usize = 4;

/// The states of a session, written as the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum SessionState {
    /// Its compute is being made.
    Provisioning,
    /// Calls are served, or were a moment ago.
    Active,
    /// Its compute runs and nothing happens.
    Idle,
    /// Its compute is being ended.
    Stopping,
    /// It has no compute.
    Stopped,
}

/// List, show, stop and remove sessions
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell sessions                          all sessions\n  clamshell sessions --json                   as one JSON object\n  clamshell sessions list --state Active\n  clamshell sessions show 5723cde5            the beginning of an id is enough\n  clamshell sessions stop 5723cde5            ends the compute, keeps the files\n  clamshell sessions rm 5723cde5              removes everything"
)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(subcommand)]
    command: Option<SessionsCommand>,
}

#[derive(Debug, Subcommand)]
enum SessionsCommand {
    /// List sessions
    #[command(
        alias = "ls",
        after_help = "Examples:\n  clamshell sessions list\n  clamshell sessions list --runtime default --state Active"
    )]
    List {
        /// Of one runtime: name, id or ARN
        #[arg(long)]
        runtime: Option<String>,
        /// In one state
        #[arg(long, value_enum, ignore_case = true)]
        state: Option<SessionState>,
    },
    /// Show a session and what it uses
    #[command(after_help = "Examples:\n  clamshell sessions show 5723cde5")]
    Show(Which),
    /// End the compute of a session, keep its files
    #[command(after_help = "Examples:\n  clamshell sessions stop 5723cde5")]
    Stop(Which),
    /// End a session and remove everything it has
    #[command(alias = "remove", after_help = "Examples:\n  clamshell sessions rm 5723cde5")]
    Rm(Which),
}

/// A session.
#[derive(Debug, Clone, Args)]
pub(crate) struct Which {
    /// Session id, or its beginning
    session_id: String,
    /// Its runtime, when two have a session of this id
    #[arg(long)]
    pub(crate) runtime: Option<String>,
    /// Its endpoint, when two have a session of this id
    #[arg(long)]
    qualifier: Option<String>,
}

/// Runs the subcommand; none lists.
pub(crate) async fn run(args: SessionsArgs) -> Result<i32, Failure> {
    let json = args.server.json;
    let all = SessionsCommand::List { runtime: None, state: None };
    match args.command.unwrap_or(all) {
        SessionsCommand::List { runtime, state } => {
            let client = args.server.client(runtime.as_deref()).await?;
            let sessions = list(&client, state).await?;
            print_list(json, sessions);
        }
        SessionsCommand::Show(which) => {
            let client = args.server.client(which.runtime.as_deref()).await?;
            let found = locate(&client, &which).await?;
            let session =
                call(&client, Method::GET, &path(&found, ""), None, "cannot show the session").await?;
            print_session(json, &session);
        }
        SessionsCommand::Stop(which) => {
            let client = args.server.client(which.runtime.as_deref()).await?;
            let found = locate(&client, &which).await?;
            let session =
                call(&client, Method::POST, &path(&found, "/stop"), None, "cannot stop the session").await?;
            if json {
                output::print_json(&session);
            } else {
                eprintln!("Stopped session {}; its files are kept.", text(&found, "sessionId"));
            }
        }
        SessionsCommand::Rm(which) => {
            let client = args.server.client(which.runtime.as_deref()).await?;
            let found = locate(&client, &which).await?;
            call(&client, Method::DELETE, &path(&found, ""), None, "cannot remove the session").await?;
            let id = text(&found, "sessionId");
            if json {
                output::print_json(&serde_json::json!({"success": true, "sessionId": id}));
            } else {
                eprintln!("Removed session {id}.");
            }
        }
    }
    Ok(0)
}

/// Calls the extension API, which AWS does not have.
pub(crate) async fn call(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<&Value>,
    what: &str,
) -> Result<Value, Failure> {
    if client.target().is_aws() {
        return Err(Failure::new(what)
            .because("Amazon Bedrock AgentCore has no call for it")
            .hint("it works with a Clamshell server: --endpoint-url, or no --runtime for the local one"));
    }
    let endpoint = &client.target().endpoint;
    client.json(method, path, body).await.map_err(|error| error.into_failure(what, endpoint))
}

/// Path and query of a session that was listed.
pub(crate) fn path(session: &Value, tail: &str) -> String {
    format!(
        "/clamshell/v1/sessions/{}{tail}?runtime={}&qualifier={}",
        percent_encode(&text(session, "sessionId")),
        percent_encode(&text(session, "runtimeArn")),
        percent_encode(&text(session, "qualifier")),
    )
}

async fn list(client: &Client, state: Option<SessionState>) -> Result<Vec<Value>, Failure> {
    let mut query = Vec::new();
    if let Some(runtime) = runtimes::query_name(&client.target().runtime) {
        query.push(format!("runtime={}", percent_encode(&runtime)));
    }
    if let Some(state) = state.and_then(|state| state.to_possible_value()) {
        query.push(format!("state={}", percent_encode(state.get_name())));
    }
    let mut path = "/clamshell/v1/sessions".to_owned();
    if !query.is_empty() {
        path = format!("{path}?{}", query.join("&"));
    }
    let mut answer = call(client, Method::GET, &path, None, "cannot list sessions").await?;
    Ok(answer["sessions"].as_array_mut().map(std::mem::take).unwrap_or_default())
}

/// The one session that was meant.
pub(crate) async fn locate(client: &Client, which: &Which) -> Result<Value, Failure> {
    let sessions = list(client, None).await?;
    let of_endpoint = |session: &Value| {
        which.qualifier.as_ref().is_none_or(|qualifier| text(session, "qualifier") == *qualifier)
    };
    let candidates = sessions.into_iter().filter(of_endpoint).collect();
    pick(candidates, "sessionId", &which.session_id, "session", "`clamshell sessions` lists them")
}

/// The one item whose id is, or else starts with, `wanted`.
pub(crate) fn pick(
    items: Vec<Value>,
    member: &str,
    wanted: &str,
    noun: &str,
    hint: &str,
) -> Result<Value, Failure> {
    let exact = items.iter().any(|item| item[member] == wanted);
    let long_enough = wanted.chars().count() >= PREFIX_CHARS_MIN;
    let mut matching = items.into_iter().filter(|item| {
        let id = item[member].as_str().unwrap_or_default();
        id == wanted || (!exact && long_enough && id.starts_with(wanted))
    });
    let failure =
        |why: &str| Failure::new(format!("cannot find the {noun} `{wanted}`")).because(why).hint(hint);
    match (matching.next(), matching.next()) {
        (Some(item), None) => Ok(item),
        (None, _) => Err(failure("there is none")),
        (Some(_), Some(_)) => {
            Err(failure("there are several: give the whole id, or --runtime and --qualifier"))
        }
    }
}

fn print_list(json: bool, sessions: Vec<Value>) {
    if json {
        output::print_json(&serde_json::json!({ "sessions": sessions }));
        return;
    }
    if sessions.is_empty() {
        eprintln!("No sessions.");
        return;
    }
    let rows = sessions.iter().map(|one| {
        vec![
            text(one, "sessionId"),
            text(one, "runtimeName"),
            text(one, "qualifier"),
            text(one, "state"),
            time(one, "createdAt"),
            time(one, "lastActivityAt"),
            cost(&one["usage"]),
        ]
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let mut heads = vec!["session", "runtime", "endpoint", "state", "created", "last activity", "cost"];
    // Most servers have no rates.
    if rows.iter().all(|row| row.last().is_none_or(String::is_empty)) {
        heads.pop();
    }
    output::print_table(
        &heads,
        rows.into_iter()
            .map(|mut row| {
                row.truncate(heads.len());
                row
            })
            .collect(),
    );
}

/// The cost as people read it; nothing when it is not known.
fn cost(usage: &Value) -> String {
    let amount = usage["cost"]["amount"].as_f64();
    amount.map(|amount| format!("{amount:.4} {}", text(&usage["cost"], "currency"))).unwrap_or_default()
}

/// The use in all as people read it, and why some of it is not known.
fn sums(usage: &Value) -> [(&'static str, String); 4] {
    let seconds = |member: &str, unit: &str| {
        usage[member].as_f64().map(|number| format!("{number:.3} {unit}")).unwrap_or_default()
    };
    let notes: Vec<&str> =
        usage["notes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    [
        ("CPU in all", seconds("cpuSeconds", "s")),
        ("memory in all", seconds("memoryGbSeconds", "GB s")),
        ("cost so far", cost(usage)),
        ("note", notes.join("; ")),
    ]
}

fn print_session(json: bool, session: &Value) {
    if json {
        output::print_json(session);
        return;
    }
    let usage = &session["usage"];
    let amount = |member: &str| usage[member].as_u64().map(output::bytes).unwrap_or_default();
    let degraded: Vec<&str> =
        session["degraded"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let [cpu_sum, memory_sum, cost, notes] = sums(usage);
    let cpu = usage["cpuUsageUs"].as_u64().map(|us| format!("{}.{:03} s", us / 1_000_000, us / 1000 % 1000));
    let mut workspace = amount("workspaceBytes");
    if let Some(limit) = usage["workspaceLimitBytes"].as_u64() {
        let over = if usage["overLimit"] == true { ", which it is over" } else { "" };
        workspace = format!("{workspace}, soft limit {}{over}", output::bytes(limit));
    }
    output::print_fields(&[
        ("session", text(session, "sessionId")),
        ("runtime", text(session, "runtimeArn")),
        ("endpoint", text(session, "qualifier")),
        ("version", text(session, "runtimeVersion")),
        ("driver", text(session, "driver")),
        ("state", text(session, "state")),
        ("stopped because", text(session, "stopReason")),
        ("created", time(session, "createdAt")),
        ("started", time(session, "startedAt")),
        ("stopped", time(session, "stoppedAt")),
        ("last activity", time(session, "lastActivityAt")),
        ("stops when idle at", time(session, "idleStopsAt")),
        ("stops at the latest at", time(session, "lifetimeEndsAt")),
        ("files removed at", time(session, "storageRemovedAt")),
        ("CPU since start", cpu.unwrap_or_default()),
        ("memory", amount("memoryBytes")),
        ("processes", text(usage, "pids")),
        ("workspace", workspace),
        cpu_sum,
        memory_sum,
        cost,
        notes,
        ("does not hold here", degraded.join("; ")),
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_id_or_its_beginning_picks_one() {
        let items = || vec![json!({"id": "abcd-1"}), json!({"id": "abcd-12"}), json!({"id": "efgh-1"})];
        let check = |wanted: &str, expect: Result<&str, &str>| {
            let found = pick(items(), "id", wanted, "thing", "look").map(|item| text(&item, "id"));
            let found = found.map_err(|failure| failure.message());
            assert_eq!(
                found.as_deref().map_err(|text| text.contains(expect.unwrap_err())),
                expect.map_err(|_| true)
            );
        };
        check("abcd-1", Ok("abcd-1"));
        check("efgh", Ok("efgh-1"));
        check("abcd", Err("several"));
        check("efg", Err("none"));
        check("zzzz", Err("none"));
    }

    #[test]
    fn use_and_cost_are_told_or_why_not() {
        let usage = json!({
            "cpuSeconds": 12.5, "memoryGbSeconds": 3.0,
            "cost": {"amount": 0.012_34, "currency": "EUR"}, "notes": [],
        });
        let told: Vec<String> = sums(&usage).into_iter().map(|(_, text)| text).collect();
        assert_eq!(told, ["12.500 s", "3.000 GB s", "0.0123 EUR", ""]);
        let usage = json!({"cpuSeconds": null, "memoryGbSeconds": 3.0, "cost": null, "notes": ["a", "b"]});
        let told: Vec<String> = sums(&usage).into_iter().map(|(_, text)| text).collect();
        assert_eq!(told, ["", "3.000 GB s", "", "a; b"]);
        assert_eq!(sums(&Value::Null).map(|(_, text)| text), ["", "", "", ""]);
    }

    #[test]
    fn paths_name_runtime_and_endpoint() {
        let session = json!({"sessionId": "a b", "runtimeArn": "arn:x/y", "qualifier": "DEFAULT"});
        assert_eq!(
            path(&session, "/stop"),
            "/clamshell/v1/sessions/a%20b/stop?runtime=arn%3Ax%2Fy&qualifier=DEFAULT"
        );
    }
}
