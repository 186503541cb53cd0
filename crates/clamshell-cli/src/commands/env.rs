//! `clamshell env`: points AWS clients at the local server.

use std::path::PathBuf;

use clamshell_server::local::{RootCredentials, ServerInfo, root_credentials};
use clap::{Args, ValueEnum};

use crate::{
    failure::Failure,
    local,
    output::{self, quote},
};

/// Print the environment that points AWS clients at the local server
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  eval \"$(clamshell env)\"                     in sh, bash, zsh\n  clamshell env --shell fish | source\n  clamshell env --shell json"
)]
pub(crate) struct EnvArgs {
    /// Data directory of the local server [env: CLAMSHELL_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Form::Sh)]
    shell: Form,
    /// The same as --shell json
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// `export` lines
    Sh,
    /// `set -gx` lines
    Fish,
    /// One object
    Json,
}

impl EnvArgs {
    /// Whether failures are JSON too.
    pub(crate) fn is_json(&self) -> bool {
        self.json || self.shell == Form::Json
    }
}

/// Prints the variables.
pub(crate) async fn run(args: EnvArgs) -> Result<i32, Failure> {
    let data_dir = local::data_dir(args.data_dir.as_deref());
    let hint = "`clamshell serve --detach` starts a server";
    let info = local::info(&data_dir)?.ok_or_else(|| {
        Failure::new("there is no local server")
            .because(format!("none has run in {}", data_dir.display()))
            .hint(hint)
    })?;
    let root = root_credentials(&data_dir)
        .await
        .map_err(|error| Failure::new("cannot read the root key").because_of(&error))?;
    if !local::is_alive(&info).await {
        eprintln!("warning: the server at {} does not answer; {hint}", info.endpoint);
    }
    let form = if args.json { Form::Json } else { args.shell };
    output::print_text(&render(&variables(&info, &root), form));
    Ok(0)
}

fn variables(info: &ServerInfo, root: &RootCredentials) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("AWS_ACCESS_KEY_ID", root.access_key_id.clone()),
        ("AWS_SECRET_ACCESS_KEY", root.secret_access_key.clone()),
        ("AWS_REGION", info.region.clone()),
        ("AWS_DEFAULT_REGION", info.region.clone()),
        ("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", info.endpoint.clone()),
        ("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL", info.endpoint.clone()),
        ("AWS_ENDPOINT_URL_S3", info.endpoint.clone()),
        ("CLAMSHELL_RUNTIME_ARN", info.default_runtime_arn.clone()),
    ];
    if let Some(ca) = info.ca_path.as_ref().and_then(|path| path.to_str()) {
        for name in ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"] {
            variables.push((name, ca.to_owned()));
        }
    }
    variables
}

fn render(variables: &[(&'static str, String)], form: Form) -> String {
    // A session token left over from another account would be sent along with these keys.
    match form {
        Form::Sh => {
            let lines = variables.iter().map(|(name, value)| format!("export {name}={}\n", quote(value)));
            lines.chain(["unset AWS_SESSION_TOKEN\n".to_owned()]).collect()
        }
        Form::Fish => {
            let lines = variables.iter().map(|(name, value)| format!("set -gx {name} {}\n", quote(value)));
            lines.chain(["set -e AWS_SESSION_TOKEN\n".to_owned()]).collect()
        }
        Form::Json => {
            let object: serde_json::Map<String, serde_json::Value> =
                variables.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
            format!("{}\n", serde_json::Value::Object(object))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ca: Option<&str>) -> Vec<(&'static str, String)> {
        let info = ServerInfo {
            pid: 1,
            endpoint: "https://127.0.0.1:7878".to_owned(),
            account_id: "111122223333".to_owned(),
            region: "us-west-2".to_owned(),
            default_runtime_arn:
                "arn:aws:bedrock-agentcore:us-west-2:111122223333:runtime/default-AbCdE12345".to_owned(),
            ca_path: ca.map(PathBuf::from),
            version: "0".to_owned(),
            build: None,
        };
        let root = RootCredentials {
            access_key_id: "AKIDEXAMPLE".to_owned(),
            secret_access_key: "s/e+c".to_owned(),
        };
        variables(&info, &root)
    }

    #[test]
    fn lines_for_sh_and_fish() {
        let sh = render(&sample(None), Form::Sh);
        assert!(sh.starts_with("export AWS_ACCESS_KEY_ID=AKIDEXAMPLE\nexport AWS_SECRET_ACCESS_KEY=s/e+c\n"));
        assert!(sh.contains("\nexport AWS_ENDPOINT_URL_BEDROCK_AGENTCORE=https://127.0.0.1:7878\n"), "{sh}");
        assert!(sh.ends_with("runtime/default-AbCdE12345\nunset AWS_SESSION_TOKEN\n"), "{sh}");
        let fish = render(&sample(Some("/a b/ca.pem")), Form::Fish);
        assert!(fish.contains("set -gx AWS_CA_BUNDLE '/a b/ca.pem'\n"), "{fish}");
    }

    #[test]
    fn json_is_one_object() {
        let text = render(&sample(Some("/ca.pem")), Form::Json);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["AWS_REGION"], "us-west-2");
        assert_eq!(value["AWS_ENDPOINT_URL_S3"], "https://127.0.0.1:7878");
        assert_eq!(value["NODE_EXTRA_CA_CERTS"], "/ca.pem");
        assert_eq!(value.as_object().unwrap().len(), 11);
    }

    #[test]
    fn quotes_survive_a_shell() {
        assert_eq!(quote("it's"), "'it'\\''s'");
        assert_eq!(quote(""), "''");
    }
}
