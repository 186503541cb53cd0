//! `clamshell runtime`: make, see, change and remove runtimes, by the calls that AWS has for it.

mod terminal;

use std::{io::Read, path::PathBuf};

use clamshell_wire::percent_encode;
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Map, Value, json};

use crate::{
    cli::ServerArgs,
    client::Client,
    control::{Control, key_value, runtime_path},
    failure::Failure,
    output::{self, text, time},
    runtimes,
};

/// A request body is some kilobytes; more is not one.
const INPUT_BYTES_MAX: u64 = 4 << 20;
/// Members of a Get that an update must repeat, because an omitted one is cleared.
const KEPT: [&str; 14] = [
    "agentRuntimeArtifact",
    "roleArn",
    "networkConfiguration",
    "description",
    "authorizerConfiguration",
    "requestHeaderConfiguration",
    "protocolConfiguration",
    "lifecycleConfiguration",
    "hooksConfiguration",
    "metadataConfiguration",
    "environmentVariables",
    "filesystemConfigurations",
    "allowedPorts",
    "resourceConfigurations",
];

/// What an agent speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum Protocol {
    /// POST /invocations and GET /ping on port 8080
    Http,
    /// Model Context Protocol, POST /mcp on port 8000
    Mcp,
    /// Agent to agent, POST / on port 9000
    A2a,
    /// Events for a user interface, POST /invocations on port 8080
    Agui,
}

impl Protocol {
    /// As the API writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Mcp => "MCP",
            Self::A2a => "A2A",
            Self::Agui => "AGUI",
        }
    }
}

/// Create, show, list, change and delete runtimes
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell runtime list\n  clamshell runtime create demo --image ghcr.io/me/agent:1 --json\n  clamshell runtime get demo\n  clamshell runtime update demo --env LEVEL=debug\n  clamshell runtime versions demo\n  clamshell runtime delete demo"
)]
pub(crate) struct RuntimeArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(subcommand)]
    command: RuntimeCommand,
}

#[derive(Debug, Subcommand)]
enum RuntimeCommand {
    /// Create a runtime and wait until it is ready
    #[command(
        after_help = "Examples:\n  clamshell runtime create demo --image ghcr.io/me/agent:1\n  clamshell runtime create tools --code s3://bucket/tools.zip --entry-point server.py --protocol MCP\n  clamshell runtime create demo --input request.json --no-wait"
    )]
    Create {
        /// Name: letters, digits and _, at most 48
        name: String,
        #[command(flatten)]
        change: Box<Change>,
    },
    /// Show a runtime, or one of its versions
    #[command(
        after_help = "Examples:\n  clamshell runtime get demo\n  clamshell runtime get demo --version 2 --json"
    )]
    Get {
        /// Name, id or ARN
        runtime: String,
        /// Version to show [default: the newest]
        #[arg(long = "version", value_name = "N")]
        version_number: Option<u32>,
    },
    /// List runtimes
    #[command(
        alias = "ls",
        after_help = "Examples:\n  clamshell runtime list\n  clamshell runtime list --endpoint-url https://bedrock-agentcore.us-west-2.amazonaws.com"
    )]
    List,
    /// Make a new version of a runtime; what no flag names stays as it is
    #[command(
        after_help = "Examples:\n  clamshell runtime update demo --image ghcr.io/me/agent:2\n  clamshell runtime update demo --env LEVEL=debug --unset OLD"
    )]
    Update {
        /// Name, id or ARN
        runtime: String,
        /// Environment variable to take away
        #[arg(long, value_name = "KEY")]
        unset: Vec<String>,
        #[command(flatten)]
        change: Box<Change>,
    },
    /// Delete a runtime with its versions, endpoints and sessions, or one version
    #[command(
        aliases = ["rm", "remove"],
        after_help = "Examples:\n  clamshell runtime delete demo\n  clamshell runtime delete demo --version 2"
    )]
    Delete {
        /// Name, id or ARN
        runtime: String,
        /// Delete this version alone
        #[arg(long = "version", value_name = "N")]
        version_number: Option<u32>,
        /// Do not wait until it is gone
        #[arg(long)]
        no_wait: bool,
    },
    /// Show or set what terminals of a runtime start in place of the login shell
    #[command(
        after_help = "Examples:\n  clamshell runtime terminal demo\n  clamshell runtime terminal demo --command 'exec claude' --secret ANTHROPIC_API_KEY\n  clamshell runtime terminal demo --working-directory /mnt/workspace -- htop\n  clamshell runtime terminal demo --rm"
    )]
    Terminal(Box<terminal::TerminalArgs>),
    /// List the versions of a runtime
    #[command(after_help = "Examples:\n  clamshell runtime versions demo")]
    Versions {
        /// Name, id or ARN
        runtime: String,
    },
}

/// What a runtime shall be.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Change {
    /// Container image, or `host` for this machine's system
    #[arg(long, value_name = "REFERENCE", conflicts_with = "code")]
    image: Option<String>,
    /// Zip with code and its dependencies
    #[arg(long, value_name = "s3://BUCKET/KEY")]
    code: Option<String>,
    /// File in the zip that is run; twice: a wrapper first
    #[arg(long, value_name = "FILE")]
    entry_point: Vec<String>,
    /// Interpreter of the code, as PYTHON_3_12 or NODE_22
    #[arg(long, value_name = "RUNTIME")]
    code_runtime: Option<String>,
    /// What the agent speaks
    #[arg(long, value_enum, ignore_case = true)]
    protocol: Option<Protocol>,
    /// Environment variable
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    env: Vec<(String, String)>,
    /// Execution role [default: one of the local account]
    #[arg(long, value_name = "ARN")]
    role: Option<String>,
    /// Description
    #[arg(long)]
    description: Option<String>,
    /// Seconds without activity after which a session stops
    #[arg(long, value_name = "SECONDS")]
    idle_timeout: Option<u64>,
    /// Seconds after which a session stops in any case
    #[arg(long, value_name = "SECONDS")]
    max_lifetime: Option<u64>,
    /// Header of callers that the agent may see
    #[arg(long, value_name = "NAME")]
    allow_header: Vec<String>,
    /// Tag; only when creating
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    tag: Vec<(String, String)>,
    /// Members of the request as AWS has them, from a file, - for stdin; flags win
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Do not wait until it is ready
    #[arg(long)]
    no_wait: bool,
}

/// Runs the subcommand.
pub(crate) async fn run(args: RuntimeArgs) -> Result<i32, Failure> {
    let json = args.server.json;
    match args.command {
        RuntimeCommand::Create { name, change } => {
            let client = args.server.client_or_start(None).await?;
            let body = create_body(&client, &name, &change).await?;
            let made = create(&client, &body, !change.no_wait).await?;
            print_made(json, &made, "Created");
        }
        RuntimeCommand::Get { runtime, version_number } => {
            let client = args.server.client(Some(&runtime)).await?;
            let id = runtimes::resolve(&client).await?.arn.runtime_id;
            let query = version_number.map(|number| format!("?version={number}")).unwrap_or_default();
            let path = format!("{}{query}", runtime_path(&id));
            let found =
                Control::new(&client).call(Method::GET, &path, None, "cannot show the runtime").await?;
            print_one(json, client.target().is_aws(), &found);
        }
        RuntimeCommand::List => {
            let client = args.server.client(None).await?;
            let all = Control::new(&client).runtimes("cannot list runtimes").await?;
            print_list(json, "agentRuntimes", all);
        }
        RuntimeCommand::Update { runtime, unset, change } => {
            let client = args.server.client(Some(&runtime)).await?;
            let id = runtimes::resolve(&client).await?.arn.runtime_id;
            let control = Control::new(&client);
            let now =
                control.call(Method::GET, &runtime_path(&id), None, "cannot update the runtime").await?;
            let mut body = kept(&now);
            merge(&mut body, members(&change)?);
            for key in &unset {
                if let Some(variables) = body.get_mut("environmentVariables").and_then(Value::as_object_mut) {
                    variables.remove(key);
                }
            }
            let made = update(&client, &id, &Value::Object(body), !change.no_wait).await?;
            print_made(json, &made, "Updated");
        }
        RuntimeCommand::Delete { runtime, version_number, no_wait } => {
            let client = args.server.client(Some(&runtime)).await?;
            let arn = runtimes::resolve(&client).await?.arn;
            delete(&client, &arn.runtime_id, version_number, !no_wait).await?;
            if json {
                output::print_json(&json!({"success": true, "agentRuntimeId": arn.runtime_id}));
            } else {
                let version =
                    version_number.map(|number| format!("version {number} of ")).unwrap_or_default();
                eprintln!("Deleted {version}runtime {}.", arn.runtime_id);
            }
        }
        RuntimeCommand::Terminal(terminal) => terminal::run(&args.server, *terminal).await?,
        RuntimeCommand::Versions { runtime } => {
            let client = args.server.client(Some(&runtime)).await?;
            let id = runtimes::resolve(&client).await?.arn.runtime_id;
            let path = format!("/runtimes/{}/versions/", percent_encode(&id));
            let all = Control::new(&client).list(&path, "agentRuntimes", "cannot list the versions").await?;
            print_list(json, "agentRuntimes", all);
        }
    }
    Ok(0)
}

/// Creates a runtime; what comes back has its id, ARN, version and status.
pub(crate) async fn create(client: &Client, body: &Value, wait: bool) -> Result<Value, Failure> {
    let what = "cannot create the runtime";
    let made = Control::new(client).call(Method::PUT, "/runtimes/", Some(body), what).await?;
    finish(client, made, wait, what).await
}

/// Makes a new version of a runtime.
pub(crate) async fn update(client: &Client, id: &str, body: &Value, wait: bool) -> Result<Value, Failure> {
    let what = "cannot update the runtime";
    let made = Control::new(client).call(Method::PUT, &runtime_path(id), Some(body), what).await?;
    finish(client, made, wait, what).await
}

async fn finish(client: &Client, made: Value, wait: bool, what: &str) -> Result<Value, Failure> {
    if !wait {
        return Ok(made);
    }
    Control::new(client).wait_ready(&runtime_path(&text(&made, "agentRuntimeId")), what).await
}

async fn delete(client: &Client, id: &str, version: Option<u32>, wait: bool) -> Result<(), Failure> {
    let what = "cannot delete the runtime";
    let control = Control::new(client);
    let query = version.map(|number| format!("?version={number}")).unwrap_or_default();
    control.call(Method::DELETE, &format!("{}{query}", runtime_path(id)), None, what).await?;
    if wait {
        control.wait_gone(&format!("{}{query}", runtime_path(id)), what).await?;
    }
    Ok(())
}

/// Members of a Get that an update repeats.
pub(crate) fn kept(found: &Value) -> Map<String, Value> {
    KEPT.iter()
        .filter(|member| !found[**member].is_null())
        .map(|member| ((*member).to_owned(), found[*member].clone()))
        .collect()
}

/// Puts members over others; environment variables one by one.
pub(crate) fn merge(body: &mut Map<String, Value>, over: Map<String, Value>) {
    for (member, value) in over {
        let by_key = matches!(member.as_str(), "environmentVariables" | "lifecycleConfiguration");
        match (body.get_mut(&member).and_then(Value::as_object_mut), value) {
            (Some(there), Value::Object(value)) if by_key => there.extend(value),
            (_, value) => {
                body.insert(member, value);
            }
        }
    }
}

async fn create_body(client: &Client, name: &str, change: &Change) -> Result<Value, Failure> {
    let mut body = members(change)?;
    body.insert("agentRuntimeName".to_owned(), json!(name));
    if !body.contains_key("agentRuntimeArtifact") {
        return Err(Failure::new("no artifact was named")
            .hint("give --image, or --code with --entry-point; `clamshell deploy` packs a folder"));
    }
    if !body.contains_key("roleArn") {
        body.insert("roleArn".to_owned(), json!(default_role(client).await?));
    }
    body.entry("networkConfiguration").or_insert_with(|| json!({"networkMode": "PUBLIC"}));
    Ok(Value::Object(body))
}

/// A role of the local account; AWS wants a real one.
pub(crate) async fn default_role(client: &Client) -> Result<String, Failure> {
    match Control::new(client).account_id().await {
        Some(account) => Ok(format!("arn:aws:iam::{account}:role/clamshell-agent")),
        None => Err(Failure::new("no execution role was named")
            .because("AWS runs an agent as an IAM role")
            .hint("--role arn:aws:iam::ACCOUNT:role/NAME")),
    }
}

/// What flags and input say, as members of the request.
fn members(change: &Change) -> Result<Map<String, Value>, Failure> {
    let mut body = match &change.input {
        Some(path) => input(path)?,
        None => Map::new(),
    };
    let mut set = |member: &str, value: Value| body.insert(member.to_owned(), value);
    if let Some(image) = &change.image {
        set("agentRuntimeArtifact", json!({"containerConfiguration": {"containerUri": image}}));
    }
    if let Some(code) = &change.code {
        let (bucket, key) = code
            .strip_prefix("s3://")
            .and_then(|rest| rest.split_once('/'))
            .filter(|(bucket, key)| !bucket.is_empty() && !key.is_empty())
            .ok_or_else(|| {
                Failure::new(format!("cannot use --code {code}")).because("it must look like s3://BUCKET/KEY")
            })?;
        if change.entry_point.is_empty() {
            return Err(
                Failure::new("--code needs --entry-point").because("the file that is run is not known")
            );
        }
        set(
            "agentRuntimeArtifact",
            code_artifact(bucket, key, change.code_runtime.as_deref(), &change.entry_point),
        );
    }
    if let Some(protocol) = change.protocol {
        set("protocolConfiguration", json!({"serverProtocol": protocol.as_str()}));
    }
    if !change.env.is_empty() {
        set("environmentVariables", pairs(&change.env));
    }
    if let Some(role) = &change.role {
        set("roleArn", json!(role));
    }
    if let Some(description) = &change.description {
        set("description", json!(description));
    }
    if !change.allow_header.is_empty() {
        set("requestHeaderConfiguration", json!({"requestHeaderAllowlist": change.allow_header}));
    }
    if !change.tag.is_empty() {
        set("tags", pairs(&change.tag));
    }
    let mut times = Map::new();
    if let Some(seconds) = change.idle_timeout {
        times.insert("idleRuntimeSessionTimeout".to_owned(), json!(seconds));
    }
    if let Some(seconds) = change.max_lifetime {
        times.insert("maxLifetime".to_owned(), json!(seconds));
    }
    if !times.is_empty() {
        set("lifecycleConfiguration", Value::Object(times));
    }
    Ok(body)
}

/// The artifact of a code zip.
pub(crate) fn code_artifact(bucket: &str, key: &str, runtime: Option<&str>, entry: &[String]) -> Value {
    let node = entry.last().is_some_and(|file| [".js", ".mjs", ".cjs"].iter().any(|end| file.ends_with(end)));
    let runtime = runtime.unwrap_or(if node { "NODE_22" } else { "PYTHON_3_12" });
    json!({"codeConfiguration": {
        "code": {"s3": {"bucket": bucket, "prefix": key}},
        "runtime": runtime,
        "entryPoint": entry,
    }})
}

/// An object of names and values.
pub(crate) fn pairs(pairs: &[(String, String)]) -> Value {
    pairs.iter().map(|(key, value)| (key.clone(), json!(value))).collect::<Map<_, _>>().into()
}

fn input(path: &std::path::Path) -> Result<Map<String, Value>, Failure> {
    let what = || Failure::new(format!("cannot read {}", path.display()));
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(INPUT_BYTES_MAX).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(INPUT_BYTES_MAX).read_to_end(&mut bytes))
    };
    read.map_err(|error| what().because_of(&error))?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(what().because("it holds no JSON object")),
        Err(error) => Err(what().because_of(&error)),
    }
}

fn print_made(json: bool, made: &Value, done: &str) {
    if json {
        output::print_json(made);
        return;
    }
    let (id, version, status) =
        (text(made, "agentRuntimeId"), text(made, "agentRuntimeVersion"), text(made, "status"));
    eprintln!("{done} runtime {id}, version {version}: {status}.");
    output::print_text(&format!("{}\n", text(made, "agentRuntimeArn")));
}

/// Prints a runtime.
pub(crate) fn print_one(json: bool, is_aws: bool, one: &Value) {
    if json {
        output::print_json(one);
        return;
    }
    let variables = one["environmentVariables"].as_object();
    // Values may be secrets, and a terminal is looked at by others.
    let names: Vec<&str> = variables.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let limit = |member: &str| {
        one["lifecycleConfiguration"][member]
            .as_u64()
            .map(|seconds| format!("{seconds} s"))
            .unwrap_or_default()
    };
    let mode = text(&one["networkConfiguration"], "networkMode");
    let network = match (is_aws, mode.as_str()) {
        (true, _) => mode,
        (false, "") => "loopback only".to_owned(),
        (false, mode) => format!("{mode}, of which this server gives loopback only"),
    };
    output::print_fields(&[
        ("runtime", text(one, "agentRuntimeName")),
        ("ARN", text(one, "agentRuntimeArn")),
        ("version", text(one, "agentRuntimeVersion")),
        ("status", text(one, "status")),
        ("failed because", text(one, "failureReason")),
        ("description", text(one, "description")),
        ("artifact", artifact(one)),
        ("protocol", text(&one["protocolConfiguration"], "serverProtocol")),
        ("role", text(one, "roleArn")),
        ("network", network),
        ("variables", names.join(", ")),
        ("stops when idle for", limit("idleRuntimeSessionTimeout")),
        ("stops at the latest after", limit("maxLifetime")),
        ("created", time(one, "createdAt")),
        ("updated", time(one, "lastUpdatedAt")),
    ]);
}

/// What a runtime is made of, in one line.
pub(crate) fn artifact(one: &Value) -> String {
    let artifact = &one["agentRuntimeArtifact"];
    let code = &artifact["codeConfiguration"];
    if code.is_object() {
        let s3 = &code["code"]["s3"];
        let entry: Vec<&str> =
            code["entryPoint"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        return format!(
            "{} of s3://{}/{} ({})",
            entry.join(" "),
            text(s3, "bucket"),
            text(s3, "prefix"),
            text(code, "runtime")
        );
    }
    text(&artifact["containerConfiguration"], "containerUri")
}

fn print_list(json: bool, member: &str, all: Vec<Value>) {
    if json {
        output::print_json(&json!({ member: all }));
        return;
    }
    if all.is_empty() {
        eprintln!("No runtimes.");
        return;
    }
    let rows = all.iter().map(|one| {
        vec![
            text(one, "agentRuntimeName"),
            text(one, "agentRuntimeId"),
            text(one, "agentRuntimeVersion"),
            text(one, "status"),
            time(one, "lastUpdatedAt"),
            text(one, "description"),
        ]
    });
    output::print_table(&["name", "id", "version", "status", "updated", "description"], rows.collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_members() {
        let check = |change: Change, expect: Value| {
            assert_eq!(members(&change).map(Value::Object), Ok(expect));
        };
        check(Change::default(), json!({}));
        check(
            Change {
                image: Some("host".to_owned()),
                env: vec![("A".to_owned(), "b".to_owned())],
                idle_timeout: Some(60),
                protocol: Some(Protocol::A2a),
                ..Change::default()
            },
            json!({
                "agentRuntimeArtifact": {"containerConfiguration": {"containerUri": "host"}},
                "environmentVariables": {"A": "b"},
                "lifecycleConfiguration": {"idleRuntimeSessionTimeout": 60},
                "protocolConfiguration": {"serverProtocol": "A2A"},
            }),
        );
        check(
            Change {
                code: Some("s3://b/k/x.zip".to_owned()),
                entry_point: vec!["a.js".to_owned()],
                ..Change::default()
            },
            json!({"agentRuntimeArtifact": {"codeConfiguration": {
                "code": {"s3": {"bucket": "b", "prefix": "k/x.zip"}}, "runtime": "NODE_22", "entryPoint": ["a.js"]}}}),
        );
        for bad in ["http://x", "s3://b", "s3:///k"] {
            let change = Change {
                code: Some(bad.to_owned()),
                entry_point: vec!["a.py".to_owned()],
                ..Change::default()
            };
            assert!(members(&change).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_update_keeps_what_is_not_named() {
        let found = json!({"roleArn": "r", "status": "READY", "environmentVariables": {"A": "1", "B": "2"},
            "description": "d", "createdAt": "x"});
        let mut body = kept(&found);
        let over = json!({"environmentVariables": {"B": "3"}, "description": "e"});
        merge(&mut body, over.as_object().cloned().unwrap());
        let expect =
            json!({"roleArn": "r", "environmentVariables": {"A": "1", "B": "3"}, "description": "e"});
        assert_eq!(Value::Object(body), expect);
    }
}
