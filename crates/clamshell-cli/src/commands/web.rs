//! `clamshell web`: the browser terminal in front of any endpoint, AWS included. Credentials stay in this process.

use std::{path::PathBuf, sync::Arc};

use clamshell_server::{Config, Overrides, UpstreamInfo, WebPolicy};
use clap::Args;
use serde_json::json;

use crate::{
    cli::{self, find_or_start},
    client::Client,
    failure::Failure,
    local, output, runtimes,
    shell::Endpoint,
    target::Wanted,
};

/// Address when none is given: beside that of `serve`.
const LISTEN: &str = "127.0.0.1:7879";

/// Serve a web terminal in front of any endpoint, AWS included
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  clamshell web                          for the runtime `default` of the local server\n  clamshell web --runtime arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/demo-AbCdE12345\n  clamshell web --json                   tell where it listens as one JSON object\n  clamshell web --listen 0.0.0.0:443 --tls-cert cert.pem --tls-key key.pem\n\nFor a runtime on AWS the credentials are those of the default chain.\n`clamshell console --data-dir DIR`, with the directory of the web terminal, prints a link that signs you in;\n`clamshell users create NAME --console-role operator --data-dir DIR` adds people. Each user has sessions and shells of their own.\nClosing a page ends nothing."
)]
pub(crate) struct WebArgs {
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:7879]
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// Runtime: name, id or ARN; the ARN of another account means AWS [default: default]
    #[arg(long, value_name = "NAME|ARN", env = "CLAMSHELL_RUNTIME")]
    runtime: Option<String>,
    /// Endpoint of the runtime [default: DEFAULT]
    #[arg(long)]
    qualifier: Option<String>,
    /// Region; the runtime's ARN is enough
    #[arg(long)]
    region: Option<String>,
    /// Server to talk to [default: AWS for an ARN of another account, else the local one, started when none runs]
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// Token for a runtime with JWT authorization
    #[arg(long, value_name = "TOKEN", env = "CLAMSHELL_BEARER_TOKEN", hide_env_values = true)]
    bearer_token: Option<String>,
    /// Users, logins and shells of the web terminal [default: web in the data directory]
    #[arg(long, value_name = "DIR")]
    web_dir: Option<PathBuf>,
    /// Data directory of the local server [env: CLAMSHELL_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Configuration file; its section `console` counts [default: clamshell.toml in the web directory]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// TLS certificate chain, PEM
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// TLS private key, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Once it listens, print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Serves until it is told to stop.
pub(crate) fn run(args: WebArgs) -> Result<i32, Failure> {
    let web_dir =
        args.web_dir.clone().unwrap_or_else(|| local::data_dir(args.data_dir.as_deref()).join("web"));
    let config = Config::load(Overrides {
        listen: Some(args.listen.clone().unwrap_or_else(|| LISTEN.to_owned())),
        data_dir: Some(web_dir),
        config_file: args.config.clone(),
        tls_cert: args.tls_cert.clone(),
        tls_key: args.tls_key.clone(),
        region: None,
    })
    .map_err(|error| {
        Failure::new("the configuration cannot be used").because_of(&error).hint("see `clamshell web --help`")
    })?;
    cli::init_tracing(Some("info"));
    let threads = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new("cannot start").because_of(&error))?;
    let served = threads.block_on(serve(args, config));
    threads.shutdown_background();
    served.map(|()| 0)
}

async fn serve(args: WebArgs, config: Config) -> Result<(), Failure> {
    let wanted = Wanted {
        endpoint_url: args.endpoint_url,
        region: args.region,
        runtime: args.runtime,
        bearer_token: args.bearer_token,
        data_dir: local::data_dir(args.data_dir.as_deref()),
    };
    let client = Client::new(find_or_start(&wanted).await?).await?;
    let runtime = runtimes::resolve(&client).await?;
    let info = UpstreamInfo {
        runtime_arn: runtime.arn.to_string(),
        runtime_name: name(&runtime.arn.runtime_id),
        qualifier: args.qualifier.or(runtime.qualifier).unwrap_or_else(|| "DEFAULT".to_owned()),
        region: runtime.arn.region.clone(),
        account_id: runtime.arn.account_id.clone(),
        endpoint: client.target().endpoint.to_string(),
    };
    eprintln!("Shells run at {} in {} ({}).", info.endpoint, info.runtime_name, info.runtime_arn);
    let web_dir = config.data_dir.clone();
    let told = json!({ "runtimeArn": info.runtime_arn, "webDir": web_dir.display().to_string() });
    let upstream = Arc::new(Endpoint::new(client, info));
    let mut served = std::pin::pin!(clamshell_server::run_web(config, upstream, WebPolicy::default()));
    let announced = async {
        super::serve::announce(&web_dir).await;
        let listens = local::running(&web_dir).await.ok().flatten();
        if let (true, Some(listens)) = (args.json, listens) {
            let mut told = told;
            told["endpoint"] = json!(listens.endpoint);
            told["success"] = json!(true);
            output::print_json(&told);
        }
    };
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = announced => served.await,
    };
    ended.map_err(|error| Failure::new("the web terminal ended").because_of(&error))
}

/// A runtime's id is its name and ten characters.
fn name(runtime_id: &str) -> String {
    runtime_id.rsplit_once('-').map_or(runtime_id, |(name, _)| name).to_owned()
}
