//! `clamshell status`: how the runtimes are, or one of them with its endpoints and sessions.

use clamshell_wire::percent_encode;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::{endpoint, runtime};
use crate::{
    cli::ServerArgs,
    client::Client,
    control::{Control, runtime_path},
    failure::Failure,
    output::{self, text, time},
    runtimes,
};

/// Show how runtimes are, or one of them with its endpoints and sessions
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell status\n  clamshell status demo\n  clamshell status demo --json"
)]
pub(crate) struct StatusArgs {
    /// Runtime: name, id or ARN [default: all]
    runtime: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// Shows it.
pub(crate) async fn run(args: StatusArgs) -> Result<i32, Failure> {
    let json = args.server.json;
    let client = args.server.client(args.runtime.as_deref()).await?;
    if args.runtime.is_some() {
        return one(&client, json).await;
    }
    let runtimes = Control::new(&client).runtimes("cannot list runtimes").await?;
    let sessions = sessions(&client, None).await;
    if json {
        output::print_json(
            &json!({"endpoint": client.target().endpoint.to_string(), "agentRuntimes": runtimes, "sessions": sessions}),
        );
        return Ok(0);
    }
    eprintln!("{} in {}", client.target().endpoint, client.target().region);
    if runtimes.is_empty() {
        eprintln!("No runtimes. `clamshell deploy DIR` makes one.");
        return Ok(0);
    }
    let rows = runtimes.iter().map(|one| {
        let arn = text(one, "agentRuntimeArn");
        let live = sessions.as_ref().map(|all| {
            let of_it = all.iter().filter(|session| session["runtimeArn"] == arn && is_live(session));
            of_it.count().to_string()
        });
        vec![
            text(one, "agentRuntimeName"),
            text(one, "status"),
            text(one, "agentRuntimeVersion"),
            live.unwrap_or_else(|| "-".to_owned()),
            time(one, "lastUpdatedAt"),
            text(one, "agentRuntimeId"),
        ]
    });
    output::print_table(&["runtime", "status", "version", "live sessions", "updated", "id"], rows.collect());
    Ok(0)
}

async fn one(client: &Client, json: bool) -> Result<i32, Failure> {
    let arn = runtimes::resolve(client).await?.arn;
    let what = "cannot show the runtime";
    let found = Control::new(client).call(Method::GET, &runtime_path(&arn.runtime_id), None, what).await?;
    let endpoints = endpoint::list(client, &arn.runtime_id).await?;
    let sessions = sessions(client, Some(&arn.to_string())).await;
    let url =
        format!("{}/runtimes/{}/invocations", client.target().endpoint, percent_encode(&arn.to_string()));
    if json {
        let mut whole = found;
        whole["invocationUrl"] = json!(url);
        whole["runtimeEndpoints"] = json!(endpoints);
        whole["sessions"] = json!(sessions);
        output::print_json(&whole);
        return Ok(0);
    }
    runtime::print_one(false, client.target().is_aws(), &found);
    output::print_fields(&[("invocation URL", url)]);
    output::print_text("\n");
    endpoint::print_rows(&endpoints);
    let Some(sessions) = sessions.filter(|all| !all.is_empty()) else { return Ok(0) };
    output::print_text("\n");
    let rows = sessions.iter().map(|one| {
        vec![text(one, "sessionId"), text(one, "qualifier"), text(one, "state"), time(one, "lastActivityAt")]
    });
    output::print_table(&["session", "endpoint", "state", "last activity"], rows.collect());
    Ok(0)
}

fn is_live(session: &Value) -> bool {
    matches!(session["state"].as_str(), Some("Provisioning" | "Active" | "Idle"))
}

/// Sessions of a Clamshell server; AWS tells nobody.
async fn sessions(client: &Client, runtime: Option<&str>) -> Option<Vec<Value>> {
    if client.target().is_aws() {
        return None;
    }
    let query = runtime.map(|runtime| format!("?runtime={}", percent_encode(runtime))).unwrap_or_default();
    let path = format!("/clamshell/v1/sessions{query}");
    // Another server that speaks the protocol has no such path: the rest is shown without.
    let mut answer = client.json(Method::GET, &path, None).await.ok()?;
    answer["sessions"].as_array_mut().map(std::mem::take)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopped_sessions_are_not_live() {
        for (state, expect) in [("Active", true), ("Idle", true), ("Stopped", false), ("Stopping", false)] {
            assert_eq!(is_live(&json!({ "state": state })), expect, "{state}");
        }
    }
}
