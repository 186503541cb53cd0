//! A server for one client, and the client's process: its environment, its view of host names, its output.

use std::{
    ffi::OsStr,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use clamshell_server::local::root_credentials;
use clamshell_testkit::{ServerProcess, is_root, real_clients, skip, within};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use super::relay::Relay;

/// How long one client program may take; generous, because test machines are shared.
const PROGRAM: Duration = Duration::from_secs(180);

/// The region of the server and of the AWS names that lead to it.
const REGION: &str = "us-west-2";

/// A client has `/etc/hosts` of its own; everything else is the machine's.
const WITH_HOSTS: &str = r#"mount --bind "$1" /etc/hosts && shift && exec "$@""#;

/// What a script asks the test to do, between two of its steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Break every connection.
    Cut,
    /// Kill the server with SIGKILL and start it again.
    KillServer,
    /// End the server with SIGTERM and start it again.
    RestartServer,
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// How it ended.
    pub(super) status: ExitStatus,
    /// Standard output.
    pub(super) stdout: String,
    /// Standard error.
    pub(super) stderr: String,
}

/// A server and where a client finds it.
pub(super) struct Setting {
    clients: PathBuf,
    server: ServerProcess,
    relay: Option<Relay>,
    home: TempDir,
    variables: Vec<(String, String)>,
}

impl Setting {
    /// A server without TLS, for the REST clients. `None` when `program` is not installed.
    pub(super) async fn plain(program: &str) -> Option<Self> {
        let clients = installed(program)?;
        let server = ServerProcess::start(Path::new(env!("CARGO_BIN_EXE_clamshell")), "").await.unwrap();
        let endpoint = server.info().unwrap().endpoint;
        let mut setting = Self::new(clients, server, None).await;
        setting.set_endpoints(&endpoint);
        Some(setting)
    }

    /// A server with TLS that the client reaches by the name of the AWS host, on `address` (port 0: any).
    /// `None` when `program` is not installed or names cannot be overridden here.
    pub(super) async fn as_aws(program: &str, address: (Ipv4Addr, u16)) -> Option<Self> {
        Self::as_aws_with(program, address, "").await
    }

    /// As [`Setting::as_aws`], with lines for the server's configuration.
    pub(super) async fn as_aws_with(
        program: &str,
        address: (Ipv4Addr, u16),
        configuration: &str,
    ) -> Option<Self> {
        let clients = installed(program)?;
        let try_mount = std::process::Command::new("unshare").args(unshare_flags()).arg("true").output();
        if !try_mount.is_ok_and(|output| output.status.success()) {
            return skip("a mount namespace with another /etc/hosts cannot be made here");
        }
        let binary = Path::new(env!("CARGO_BIN_EXE_clamshell"));
        let server = ServerProcess::start(binary, &format!("{configuration}[tls]\n")).await.unwrap();
        let info = server.info().unwrap();
        let port = info.endpoint.rsplit(':').next().unwrap().parse().unwrap();
        let relay = Relay::start(SocketAddr::from(address), (Ipv4Addr::LOCALHOST, port).into()).await;
        let relay = match relay {
            Ok(relay) => relay,
            Err(error) => return skip(&format!("cannot listen on {}:{}: {error}", address.0, address.1)),
        };
        let ca = info.ca_path.unwrap().display().to_string();
        let listens = relay.address();
        let mut setting = Self::new(clients, server, Some(relay)).await;
        let name = format!("bedrock-agentcore.{REGION}.amazonaws.com");
        let hosts = format!("{} {name}\n127.0.0.1 localhost\n", listens.ip());
        std::fs::write(setting.home.path().join("hosts"), hosts).unwrap();
        let endpoint = format!("https://{name}:{}", listens.port());
        setting.set("BEDROCK_AGENTCORE_DP_ENDPOINT", &endpoint);
        setting.set_endpoints(&endpoint);
        for variable in ["SSL_CERT_FILE", "AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"] {
            setting.set(variable, &ca);
        }
        Some(setting)
    }

    async fn new(clients: PathBuf, server: ServerProcess, relay: Option<Relay>) -> Self {
        let root = root_credentials(server.data_dir()).await.unwrap();
        let arn = server.info().unwrap().default_runtime_arn;
        let home = tempfile::Builder::new().prefix("clamshell-client-").tempdir().unwrap();
        let mut setting = Self { clients, server, relay, home, variables: Vec::new() };
        let modules = setting.clients.join("js").display().to_string();
        let agents = setting.clients.join("agents").display().to_string();
        let folder = setting.home.path().display().to_string();
        let path = std::env::var("PATH").unwrap();
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", root.access_key_id.as_str()),
            ("AWS_SECRET_ACCESS_KEY", &root.secret_access_key),
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("CLAMSHELL_RUNTIME_ARN", &arn),
            ("JS_CLIENT", &modules),
            ("AGENT_PACKAGES", &agents),
            ("HOME", &folder),
            ("AGENTCORE_CONFIG_DIR", &folder),
            ("PATH", &path),
            ("LANG", "C.UTF-8"),
            ("TERM", "xterm-256color"),
            ("PYTHONDONTWRITEBYTECODE", "1"),
            ("PYTHONUNBUFFERED", "1"),
        ] {
            setting.set(name, value);
        }
        setting
    }

    fn set_endpoints(&mut self, endpoint: &str) {
        for service in ["BEDROCK_AGENTCORE", "BEDROCK_AGENTCORE_CONTROL", "S3"] {
            self.set(&format!("AWS_ENDPOINT_URL_{service}"), endpoint);
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// ARN of the runtime `default`.
    pub(super) fn runtime_arn(&self) -> String {
        self.server.info().unwrap().default_runtime_arn
    }

    /// Whether another client's program is installed too.
    pub(super) fn has(&self, program: &str) -> bool {
        self.clients.join(program).exists()
    }

    /// Where programs run.
    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A signed client of the tests' own; only without TLS.
    pub(super) async fn client(&self) -> clamshell_testkit::Client {
        self.server.client().await.unwrap()
    }

    /// A client's program, in its environment.
    pub(super) fn program(&self, name: &str) -> Command {
        let program = self.clients.join("bin").join(name);
        self.command(program.as_os_str())
    }

    /// Any program, in the environment of a client.
    pub(super) fn command(&self, program: &OsStr) -> Command {
        let mut command = if self.relay.is_some() {
            let mut command = Command::new("unshare");
            command.args(unshare_flags()).args(["sh", "-c", WITH_HOSTS, "sh"]);
            command.arg(self.home.path().join("hosts")).arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env("CLAMSHELL_AGENTCORE", self.clients.join("bin/agentcore"))
            .current_dir(self.home.path())
            .kill_on_drop(true);
        command
    }

    /// Runs one scenario of a Python script in `tests/clients`; it must succeed.
    pub(super) async fn python(&mut self, script: &str, scenario: &str) {
        let mut command = self.program("python");
        command.arg(script_path(script)).arg(scenario);
        self.succeed(command).await;
    }

    /// Runs a program that must succeed.
    pub(super) async fn succeed(&mut self, command: Command) -> String {
        let ended = self.run(command).await;
        assert!(
            ended.status.success(),
            "{}\n--- standard output\n{}\n--- standard error\n{}",
            ended.status,
            ended.stdout,
            ended.stderr
        );
        ended.stdout
    }

    /// Runs a program. A line `@word` of its output is a request to this test, answered by one line once it is done.
    pub(super) async fn run(&mut self, mut command: Command) -> Ended {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).split(b'\n');
        let mut errors = child.stderr.take().unwrap();
        let (mut stdout, mut stderr) = (String::new(), Vec::new());
        let talk = async {
            while let Some(line) = lines.next_segment().await.unwrap() {
                let line = String::from_utf8_lossy(&line);
                let asked = match line.as_ref() {
                    "@cut" => Asked::Cut,
                    "@kill-server" => Asked::KillServer,
                    "@restart-server" => Asked::RestartServer,
                    _ => {
                        stdout.push_str(&line);
                        stdout.push('\n');
                        continue;
                    }
                };
                self.answer(asked).await;
                stdin.write_all(b"done\n").await.unwrap();
            }
            drop(stdin);
        };
        let listen = async { errors.read_to_end(&mut stderr).await.unwrap() };
        let both = async { tokio::join!(talk, listen, child.wait()).2.unwrap() };
        let ended = tokio::time::timeout(PROGRAM, both).await;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let Ok(status) = ended else {
            unreachable!(
                "not within {PROGRAM:?}\n--- standard output\n{stdout}\n--- standard error\n{stderr}"
            )
        };
        Ended { status, stdout, stderr }
    }

    async fn answer(&mut self, asked: Asked) {
        match asked {
            Asked::Cut => self.relay.as_ref().unwrap().cut().await,
            Asked::KillServer => {
                self.server.kill_9().unwrap();
                within("start", PROGRAM, self.server.start_again()).await.unwrap();
            }
            Asked::RestartServer => {
                self.server.terminate().await.unwrap();
                within("start", PROGRAM, self.server.start_again()).await.unwrap();
            }
        }
    }
}

/// Where the scripts of the real clients lie.
pub(super) fn script_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

fn installed(program: &str) -> Option<PathBuf> {
    let clients = real_clients()?;
    if clients.join(program).exists() {
        return Some(clients);
    }
    skip(&format!("{program} is not installed (run scripts/install-test-clients)"))
}

/// A user who is not root is root of a namespace first.
fn unshare_flags() -> &'static [&'static str] {
    if is_root() {
        &["--mount", "--propagation", "private", "--"]
    } else {
        &["--user", "--map-root-user", "--mount", "--propagation", "private", "--"]
    }
}
