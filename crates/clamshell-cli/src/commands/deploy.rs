//! `clamshell deploy`: from a folder or an image to a runtime that answers.
//!
//! A folder is packed with its dependencies into a zip, uploaded by the S3 protocol, and hosted as code; an image is named.

mod check;
mod ignore;
mod pack;
mod project;
mod vendor;

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::{Map, Value, json};
use tokio::time::timeout;

use self::{
    pack::{Packed, Sources},
    project::{Project, Wishes},
    vendor::{Platform, Step},
};
use super::runtime::{self, Protocol};
use crate::{
    cli::{ServerArgs, find},
    client::{Client, RequestError, Upload, hex},
    control::{Control, key_value, runtime_path},
    failure::Failure,
    output::{self, text},
    target::Place,
};

/// Whoever pressed Ctrl+C waits no longer than this for a package to be removed.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);

/// Deploy a folder or an image as a runtime
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell deploy ./my-agent                     packs, uploads, hosts\n  clamshell deploy ./my-agent --dry-run           shows what it would do\n  clamshell deploy ghcr.io/me/agent:1 --name demo --env LEVEL=debug\n  clamshell deploy ./tools --protocol MCP --json\n  clamshell deploy ./my-agent --endpoint-url https://bedrock-agentcore.us-west-2.amazonaws.com --bucket BUCKET --role ARN\n\nA folder is a Python project (requirements.txt, pyproject.toml, or main.py, agent.py, app.py) or a Node project (package.json).\nWhat its clamshell.json says wins over what is found, and flags win over that:\n  {\"name\": \"...\", \"protocol\": \"HTTP\", \"entryPoint\": [\"agent.py\"], \"environment\": {\"KEY\": \"value\"}}\nFiles named in .clamshellignore, which is written as .gitignore is, stay out of the package."
)]
pub(crate) struct DeployArgs {
    /// Folder of a project, or reference of an image
    #[arg(value_name = "DIR|IMAGE")]
    source: String,
    /// Name of the runtime [default: that of the project or its folder]
    #[arg(long)]
    name: Option<String>,
    /// What the agent speaks [default: HTTP]
    #[arg(long, value_enum, ignore_case = true)]
    protocol: Option<Protocol>,
    /// Environment variable; those the runtime has stay
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    env: Vec<(String, String)>,
    /// Execution role [default: one of the local account]
    #[arg(long, value_name = "ARN")]
    role: Option<String>,
    /// File that is run, of a folder
    #[arg(long, value_name = "FILE")]
    entry_point: Option<String>,
    /// Interpreter, as PYTHON_3_12 [default: one that is there]
    #[arg(long, value_name = "RUNTIME")]
    code_runtime: Option<String>,
    /// Bucket for the package [default: the server's own]
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

/// What is deployed.
enum Source {
    Folder(Box<Project>),
    Image(String),
}

/// Deploys, or shows the plan.
pub(crate) async fn run(args: DeployArgs) -> Result<i32, Failure> {
    let source = source(&args)?;
    let name = name(&args, &source)?;
    let client = if args.dry_run {
        match find(&args.server.wanted(None)).await? {
            Some(target) => Some(Client::new(target).await?),
            None => None,
        }
    } else {
        Some(args.server.client_or_start(None).await?)
    };
    let existing = match &client {
        Some(client) => existing(client, &name).await?,
        None => None,
    };
    let platform =
        Platform::of(client.as_ref().map(|client| (client.target().place, client.target().is_aws())));
    match (client, args.dry_run) {
        (Some(client), false) => {
            let uploaded = Uploaded::default();
            let ended = tokio::select! {
                ended = deploy(&args, &client, source, &name, existing, platform, &uploaded) => Some(ended),
                // Dropping the other arm ends the installer and removes the temporary folder.
                _ = tokio::signal::ctrl_c() => None,
            };
            match ended {
                Some(ended) => ended,
                None => Err(interrupted(&client, &name, &uploaded).await),
            }
        }
        (client, _) => {
            let at = client.map(|client| client.target().endpoint.to_string());
            plan(&args, source, &name, existing.as_ref(), at, platform)
        }
    }
}

/// Path of a package that nothing names yet: it was not there before.
type Uploaded = RefCell<Option<String>>;

/// Takes back what can be taken back.
async fn interrupted(client: &Client, name: &str, uploaded: &Uploaded) -> Failure {
    let interrupted = Failure::new("interrupted").exit_code(130);
    let Some(path) = uploaded.take() else {
        return interrupted.hint(format!("`clamshell status {name}` shows whether the runtime was made"));
    };
    let endpoint = client.target().endpoint.objects();
    let removed = timeout(REMOVED_WITHIN, client.remove_object(&endpoint, &path)).await;
    match removed {
        Ok(Ok(_)) => interrupted.because("nothing was deployed"),
        Ok(Err(_)) | Err(_) => {
            interrupted.because("nothing was deployed").hint(format!("the package may be left at s3:/{path}"))
        }
    }
}

fn source(args: &DeployArgs) -> Result<Source, Failure> {
    let path = Path::new(&args.source);
    if path.is_dir() {
        let wishes =
            Wishes { entry_point: args.entry_point.clone(), code_runtime: args.code_runtime.clone() };
        return project::detect(path, &wishes).map(|project| Source::Folder(Box::new(project)));
    }
    let looks_like_path = args.source.starts_with(['.', '/', '~']);
    if looks_like_path || path.exists() {
        let why = if path.exists() { "it is no folder" } else { "there is none" };
        return Err(Failure::new(format!("cannot deploy the folder {}", args.source)).because(why));
    }
    if args.entry_point.is_some() || args.code_runtime.is_some() {
        return Err(Failure::new("--entry-point and --code-runtime are for folders")
            .because(format!("there is no folder {}", args.source)));
    }
    // Images of this machine are named by absolute paths.
    for kind in ["dir:", "oci:"] {
        if let Some(path) = args.source.strip_prefix(kind) {
            let whole = std::fs::canonicalize(path)
                .map_err(|error| Failure::new(format!("cannot deploy {}", args.source)).because_of(&error))?;
            return Ok(Source::Image(format!("{kind}{}", whole.display())));
        }
    }
    Ok(Source::Image(args.source.clone()))
}

fn name(args: &DeployArgs, source: &Source) -> Result<String, Failure> {
    let found = match (&args.name, source) {
        (Some(name), _) => name.clone(),
        (None, Source::Folder(project)) => project.name.clone(),
        (None, Source::Image(reference)) => project::name_of_image(reference),
    };
    let ok = found.len() <= 48
        && found.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && found.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if ok {
        return Ok(found);
    }
    Err(Failure::new(format!("cannot use the name `{found}`"))
        .because("a name begins with a letter and has at most 48 letters, digits and _")
        .hint("--name gives another"))
}

/// The runtime of this name as it is.
async fn existing(client: &Client, name: &str) -> Result<Option<Value>, Failure> {
    let what = "cannot look for the runtime";
    let control = Control::new(client);
    let all = control.runtimes(what).await?;
    match all.iter().find(|one| one["agentRuntimeName"] == name) {
        Some(one) => {
            let path = runtime_path(&text(one, "agentRuntimeId"));
            control.call(http::Method::GET, &path, None, what).await.map(Some)
        }
        None => Ok(None),
    }
}

async fn deploy(
    args: &DeployArgs,
    client: &Client,
    source: Source,
    name: &str,
    existing: Option<Value>,
    platform: Platform,
    uploaded: &Uploaded,
) -> Result<i32, Failure> {
    let mut code = Value::Null;
    let (artifact, environment, protocol) = match source {
        Source::Image(reference) => {
            (json!({"containerConfiguration": {"containerUri": reference}}), Vec::new(), None)
        }
        Source::Folder(project) => {
            let bucket = bucket(args, client).await?;
            let tools = vendor::Tools::find(&project, platform)?;
            read_through(&project, &tools).await?;
            let packed = package(&project, &tools).await?;
            let key = format!("{name}/{}.zip", hex(&packed.sha256));
            code = json!({
                "bucket": bucket,
                "key": key,
                "bytes": packed.bytes,
                "files": packed.files,
                "sha256": hex(&packed.sha256),
            });
            upload(client, &bucket, &key, packed, uploaded).await?;
            let artifact =
                runtime::code_artifact(&bucket, &key, Some(&tools.code_runtime), &project.entry_point);
            (artifact, project.environment.clone(), project.protocol)
        }
    };
    let mut over = Map::new();
    over.insert("agentRuntimeArtifact".to_owned(), artifact);
    let variables: Vec<(String, String)> = environment.into_iter().chain(args.env.iter().cloned()).collect();
    if !variables.is_empty() {
        over.insert("environmentVariables".to_owned(), runtime::pairs(&variables));
    }
    if let Some(protocol) = args.protocol.or(protocol) {
        over.insert("protocolConfiguration".to_owned(), json!({"serverProtocol": protocol.as_str()}));
    }
    if let Some(role) = &args.role {
        over.insert("roleArn".to_owned(), json!(role));
    }
    let created = existing.is_none();
    if existing.is_none() && !over.contains_key("roleArn") {
        over.insert("roleArn".to_owned(), json!(runtime::default_role(client).await?));
    }
    // From here on something may name the package.
    uploaded.take();
    let step = Progress::start(if created { "Creating the runtime" } else { "Making a new version" });
    let made = match existing {
        Some(existing) => {
            let mut body = runtime::kept(&existing);
            runtime::merge(&mut body, over);
            runtime::update(client, &text(&existing, "agentRuntimeId"), &Value::Object(body), true).await
        }
        None => {
            over.insert("agentRuntimeName".to_owned(), json!(name));
            over.insert("networkConfiguration".to_owned(), json!({"networkMode": "PUBLIC"}));
            runtime::create(client, &Value::Object(over), true).await
        }
    };
    let made = made.map_err(|failure| {
        // The interpreter of another machine is a guess.
        let guessed = args.code_runtime.is_none() && failure.message().contains("the base image has no");
        if guessed { failure.hint("--code-runtime PYTHON_3_11 names another interpreter") } else { failure }
    })?;
    step.done(&format!("version {} is {}", text(&made, "agentRuntimeVersion"), text(&made, "status")));
    report(args, &made, name, created, code);
    Ok(0)
}

fn report(args: &DeployArgs, made: &Value, name: &str, created: bool, code: Value) {
    let arn = text(made, "agentRuntimeArn");
    if args.server.json {
        let mut whole = json!({
            "success": true,
            "created": created,
            "agentRuntimeName": name,
            "agentRuntimeArn": arn,
            "agentRuntimeId": made["agentRuntimeId"],
            "agentRuntimeVersion": made["agentRuntimeVersion"],
            "status": made["status"],
        });
        if !code.is_null() {
            whole["code"] = code;
        }
        output::print_json(&whole);
        return;
    }
    output::print_text(&format!("{arn}\n"));
    let elsewhere = args.server.endpoint_url.as_ref().map(|url| format!(" --endpoint-url {url}"));
    let protocol = text(&made["protocolConfiguration"], "serverProtocol");
    eprintln!("Invoke it: {}", project::invoke_line(name, &protocol, &elsewhere.unwrap_or_default()));
}

async fn bucket(args: &DeployArgs, client: &Client) -> Result<String, Failure> {
    if let Some(bucket) = &args.bucket {
        return Ok(bucket.clone());
    }
    let control = Control::new(client);
    match control.account_id().await {
        Some(account) => Ok(clamshell_server::objects::default_bucket(&account, &client.target().region)),
        None => Err(Failure::new("no bucket was named")
            .because("AWS takes code from a bucket of yours")
            .hint("--bucket NAME")),
    }
}

fn files(count: usize) -> String {
    if count == 1 { "1 file".to_owned() } else { format!("{count} files") }
}

/// Finds errors of syntax before anything is made of the project.
async fn read_through(project: &Project, tools: &vendor::Tools) -> Result<(), Failure> {
    let progress = Progress::start("Checking the syntax");
    match check::check(project, &tools.code_runtime).await? {
        Some(count) => progress.done(&files(count)),
        None => progress.done("left to the agent's start"),
    }
    Ok(())
}

/// Installs dependencies next to the project, never in it, and packs both.
async fn package(project: &Project, tools: &vendor::Tools) -> Result<Packed, Failure> {
    let staging = vendor::Staging::new()?;
    for step in vendor::steps(project, tools, staging.path())? {
        let progress = Progress::start(&step.title);
        if let Err(failure) = vendor::run(&step).await {
            progress.leave();
            return Err(failure);
        }
        progress.done("installed");
    }
    let progress = Progress::start("Packing");
    let sources = Sources {
        project: project.folder.clone(),
        language: project.language,
        vendored: Some(staging.path().to_owned()),
    };
    let file = staging.package();
    let packed = tokio::task::spawn_blocking(move || pack::pack(&sources, &file)).await;
    let packed = packed.map_err(|error| Failure::new("cannot pack the project").because_of(&error))??;
    progress.done(&format!("{}, {}", files(packed.files), output::bytes(packed.bytes)));
    Ok(packed)
}

async fn upload(
    client: &Client,
    bucket: &str,
    key: &str,
    packed: Packed,
    uploaded: &Uploaded,
) -> Result<(), Failure> {
    let endpoint = client.target().endpoint.objects();
    let progress = Progress::start(&format!("Uploading to s3://{bucket}"));
    let path = format!("/{bucket}/{key}");
    // Named by its content: what is there is the same.
    if client.object(&endpoint, &path, None).await.is_ok() {
        progress.done("it is there already");
        return Ok(());
    }
    uploaded.replace(Some(path.clone()));
    let bytes = packed.bytes;
    let upload = Upload { file: packed.file, bytes, sha256: packed.sha256 };
    match client.object(&endpoint, &path, Some(upload)).await {
        Ok(_) => {
            progress.done(&output::bytes(bytes));
            Ok(())
        }
        Err(RequestError::Refused(refusal)) if refusal.status == 404 => {
            Err(Failure::new("cannot upload the package")
                .because(format!("there is no bucket {bucket} at {endpoint}"))
                .hint("--bucket names another"))
        }
        Err(error) => Err(error.into_failure("cannot upload the package", &endpoint)),
    }
}

fn plan(
    args: &DeployArgs,
    source: Source,
    name: &str,
    existing: Option<&Value>,
    at: Option<String>,
    platform: Platform,
) -> Result<i32, Failure> {
    let mut steps: Vec<String> = Vec::new();
    let mut fields = vec![
        ("runtime", name.to_owned()),
        ("server", at.unwrap_or_else(|| "a local one, to be started".to_owned())),
    ];
    let mut protocol = args.protocol;
    match &source {
        Source::Image(reference) => fields.push(("image", reference.clone())),
        Source::Folder(project) => {
            protocol = protocol.or(project.protocol);
            let tools = vendor::Tools::find(project, platform)?;
            let nowhere = PathBuf::from("PACKAGE");
            steps.extend(
                vendor::steps(project, &tools, &nowhere)?.into_iter().map(|Step { title, .. }| title),
            );
            let sources =
                Sources { project: project.folder.clone(), language: project.language, vendored: None };
            let (count, bytes) = pack::measure(&sources)?;
            steps.push(format!("Packing {}, {} before compression", files(count), output::bytes(bytes)));
            steps.push("Uploading the package".to_owned());
            fields.push(("folder", project.folder.display().to_string()));
            fields.push(("language", project.language.name().to_owned()));
            fields.push(("interpreter", tools.code_runtime.clone()));
            fields.push(("entry point", project.entry_point.join(" ")));
        }
    }
    fields.push(("protocol", protocol.map_or("HTTP", Protocol::as_str).to_owned()));
    steps.push(match existing {
        Some(one) => format!("Making a new version of {}", text(one, "agentRuntimeId")),
        None => "Creating the runtime".to_owned(),
    });
    if args.server.json {
        let members: Map<String, Value> =
            fields.into_iter().map(|(name, value)| (name.replace(' ', "_"), json!(value))).collect();
        output::print_json(&json!({"success": true, "dryRun": true, "plan": members, "steps": steps}));
        return Ok(0);
    }
    output::print_fields(&fields);
    let lines: Vec<String> =
        steps.iter().enumerate().map(|(number, step)| format!("{}. {step}\n", number + 1)).collect();
    output::print_text(&format!("\nWould do:\n{}", lines.concat()));
    Ok(0)
}

/// One step, told on stderr when it begins and when it is done. A failure gets a line of its own.
struct Progress {
    began: Instant,
    is_told: bool,
}

impl Drop for Progress {
    fn drop(&mut self) {
        if !self.is_told {
            eprintln!();
        }
    }
}

impl Progress {
    fn start(title: &str) -> Self {
        eprint!("{title}... ");
        Self { began: Instant::now(), is_told: false }
    }

    /// The line was ended already.
    fn leave(mut self) {
        self.is_told = true;
    }

    fn done(mut self, how: &str) {
        self.is_told = true;
        let tenths = self.began.elapsed().as_millis() / 100;
        eprintln!("{how} ({}.{} s)", tenths / 10, tenths % 10);
    }
}

impl Platform {
    /// Of the server that was found, if one was.
    fn of(found: Option<(Place, bool)>) -> Self {
        match found {
            Some((_, true)) => Self::Aws,
            Some((Place::Local, _)) | None => Self::Here,
            Some((Place::Named | Place::Aws, false)) => Self::Elsewhere,
        }
    }
}
