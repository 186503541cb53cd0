//! `clamshell endpoint`: names that point at versions of a runtime.

use clamshell_wire::percent_encode;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use crate::{
    cli::ServerArgs,
    client::Client,
    control::{Control, endpoint_path},
    failure::Failure,
    output::{self, text, time},
    runtimes,
};

/// Create, show, list, move and delete endpoints of a runtime
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell endpoint list demo\n  clamshell endpoint create demo prod --version 3 --json\n  clamshell endpoint update demo prod --version 4\n  clamshell endpoint delete demo prod"
)]
pub(crate) struct EndpointArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(subcommand)]
    command: EndpointCommand,
}

#[derive(Debug, Subcommand)]
enum EndpointCommand {
    /// Create an endpoint and wait until it is ready
    #[command(after_help = "Examples:\n  clamshell endpoint create demo prod --version 3")]
    Create {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
    },
    /// Show an endpoint
    #[command(after_help = "Examples:\n  clamshell endpoint get demo prod")]
    Get {
        #[command(flatten)]
        which: Which,
    },
    /// List the endpoints of a runtime
    #[command(alias = "ls", after_help = "Examples:\n  clamshell endpoint list demo")]
    List {
        /// Name, id or ARN of the runtime
        runtime: String,
    },
    /// Let an endpoint point at another version
    #[command(after_help = "Examples:\n  clamshell endpoint update demo prod --version 4")]
    Update {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        change: Change,
    },
    /// Delete an endpoint
    #[command(
        aliases = ["rm", "remove"],
        after_help = "Examples:\n  clamshell endpoint delete demo prod"
    )]
    Delete {
        #[command(flatten)]
        which: Which,
        /// Do not wait until it is gone
        #[arg(long)]
        no_wait: bool,
    },
}

#[derive(Debug, Args)]
struct Which {
    /// Name, id or ARN of the runtime
    runtime: String,
    /// Name of the endpoint
    name: String,
}

#[derive(Debug, Args)]
struct Change {
    /// Version of the runtime [default: the newest when creating]
    #[arg(long = "version", value_name = "N")]
    version_number: Option<u32>,
    /// Description
    #[arg(long)]
    description: Option<String>,
    /// Do not wait until it is ready
    #[arg(long)]
    no_wait: bool,
}

impl Change {
    fn members(&self) -> Map<String, Value> {
        let mut body = Map::new();
        if let Some(number) = self.version_number {
            body.insert("agentRuntimeVersion".to_owned(), json!(number.to_string()));
        }
        if let Some(description) = &self.description {
            body.insert("description".to_owned(), json!(description));
        }
        body
    }
}

/// Runs the subcommand.
pub(crate) async fn run(args: EndpointArgs) -> Result<i32, Failure> {
    let json = args.server.json;
    match args.command {
        EndpointCommand::Create { which, change } => {
            let (client, id) = find(&args.server, &which.runtime).await?;
            let what = "cannot create the endpoint";
            let mut body = change.members();
            body.insert("name".to_owned(), json!(which.name));
            let path = format!("/runtimes/{}/runtime-endpoints/", percent_encode(&id));
            let made =
                Control::new(&client).call(Method::PUT, &path, Some(&Value::Object(body)), what).await?;
            let made = finish(&client, made, &id, &which.name, !change.no_wait, what).await?;
            print_made(json, &made, &which.name, "Created");
        }
        EndpointCommand::Get { which } => {
            let (client, id) = find(&args.server, &which.runtime).await?;
            let path = endpoint_path(&id, &which.name);
            let found =
                Control::new(&client).call(Method::GET, &path, None, "cannot show the endpoint").await?;
            print_one(json, &found);
        }
        EndpointCommand::List { runtime } => {
            let (client, id) = find(&args.server, &runtime).await?;
            let all = list(&client, &id).await?;
            print_list(json, all);
        }
        EndpointCommand::Update { which, change } => {
            let (client, id) = find(&args.server, &which.runtime).await?;
            let what = "cannot update the endpoint";
            let body = Value::Object(change.members());
            let path = endpoint_path(&id, &which.name);
            let made = Control::new(&client).call(Method::PUT, &path, Some(&body), what).await?;
            let made = finish(&client, made, &id, &which.name, !change.no_wait, what).await?;
            print_made(json, &made, &which.name, "Updated");
        }
        EndpointCommand::Delete { which, no_wait } => {
            let (client, id) = find(&args.server, &which.runtime).await?;
            let what = "cannot delete the endpoint";
            let path = endpoint_path(&id, &which.name);
            let control = Control::new(&client);
            control.call(Method::DELETE, &path, None, what).await?;
            if !no_wait {
                control.wait_gone(&path, what).await?;
            }
            if json {
                output::print_json(
                    &json!({"success": true, "agentRuntimeId": id, "endpointName": which.name}),
                );
            } else {
                eprintln!("Deleted endpoint {} of {id}.", which.name);
            }
        }
    }
    Ok(0)
}

/// All endpoints of a runtime.
pub(crate) async fn list(client: &Client, id: &str) -> Result<Vec<Value>, Failure> {
    let path = format!("/runtimes/{}/runtime-endpoints/", percent_encode(id));
    Control::new(client).list(&path, "runtimeEndpoints", "cannot list the endpoints").await
}

async fn find(server: &ServerArgs, runtime: &str) -> Result<(Client, String), Failure> {
    let client = server.client(Some(runtime)).await?;
    let id = runtimes::resolve(&client).await?.arn.runtime_id;
    Ok((client, id))
}

async fn finish(
    client: &Client,
    made: Value,
    id: &str,
    name: &str,
    wait: bool,
    what: &str,
) -> Result<Value, Failure> {
    if wait { Control::new(client).wait_ready(&endpoint_path(id, name), what).await } else { Ok(made) }
}

fn version(one: &Value) -> String {
    let (live, target) = (text(one, "liveVersion"), text(one, "targetVersion"));
    match (live.is_empty(), target.is_empty() || live == target) {
        (true, _) => target,
        (false, true) => live,
        (false, false) => format!("{live}, soon {target}"),
    }
}

fn print_made(json: bool, made: &Value, name: &str, done: &str) {
    if json {
        output::print_json(made);
        return;
    }
    eprintln!("{done} endpoint {name}, version {}: {}.", version(made), text(made, "status"));
    output::print_text(&format!("{}\n", text(made, "agentRuntimeEndpointArn")));
}

fn print_one(json: bool, one: &Value) {
    if json {
        output::print_json(one);
        return;
    }
    output::print_fields(&[
        ("endpoint", text(one, "name")),
        ("ARN", text(one, "agentRuntimeEndpointArn")),
        ("version", version(one)),
        ("status", text(one, "status")),
        ("failed because", text(one, "failureReason")),
        ("description", text(one, "description")),
        ("created", time(one, "createdAt")),
        ("updated", time(one, "lastUpdatedAt")),
    ]);
}

fn print_list(json: bool, all: Vec<Value>) {
    if json {
        output::print_json(&json!({ "runtimeEndpoints": all }));
        return;
    }
    if all.is_empty() {
        eprintln!("No endpoints.");
        return;
    }
    print_rows(&all);
}

/// A table of endpoints.
pub(crate) fn print_rows(all: &[Value]) {
    let rows = all.iter().map(|one| {
        vec![
            text(one, "name"),
            version(one),
            text(one, "status"),
            time(one, "lastUpdatedAt"),
            text(one, "description"),
        ]
    });
    output::print_table(&["endpoint", "version", "status", "updated", "description"], rows.collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_changes_shows_both() {
        let check = |value: Value, expect: &str| assert_eq!(version(&value), expect);
        check(json!({"liveVersion": "1", "targetVersion": "1"}), "1");
        check(json!({"liveVersion": "1", "targetVersion": "2"}), "1, soon 2");
        check(json!({"targetVersion": "2"}), "2");
        check(json!({"liveVersion": "1"}), "1");
    }
}
