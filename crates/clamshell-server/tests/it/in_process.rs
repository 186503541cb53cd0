//! A server inside the test's own process, with a folder, a port and, when wanted, a clock of its own.

use std::{path::Path, sync::Arc, time::Duration};

use clamshell_domain::{Clock, SystemClock, SystemEntropy};
use clamshell_server::{
    Config, Overrides, RunError, Server,
    local::{ServerInfo, read_server_info, root_credentials},
};
use clamshell_testkit::{Client, end_sandboxes, eventually, is_root, skip, within};
use clamshell_wire::sigv4::Credentials;
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::calls::Signer;

/// How long anything may take; generous, because test machines are shared.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Region of all servers here.
pub(crate) const REGION: &str = "us-west-2";

/// A listening server. Dropping it ends its sandboxes and removes the folder; those of one that is started again go on.
pub(crate) struct InProcess {
    folder: Arc<TempDir>,
    task: JoinSet<Result<(), RunError>>,
    clock: Arc<dyn Clock>,
    goes_on: bool,
    pub(crate) shutdown: CancellationToken,
    pub(crate) info: ServerInfo,
    /// Holds the root key.
    pub(crate) client: Client,
}

impl InProcess {
    /// A server with the machine's clock.
    pub(crate) async fn start(configuration: &str) -> Self {
        Self::start_at(configuration, Arc::new(SystemClock)).await
    }

    /// A server with this clock.
    pub(crate) async fn start_at(configuration: &str, clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::Builder::new().prefix("clamshell-test-").tempdir().unwrap();
        Self::open(Arc::new(folder), configuration, clock).await
    }

    /// Ends the server and starts another one on the same folder.
    pub(crate) async fn start_again(mut self, configuration: &str) -> Self {
        self.shutdown.cancel();
        self.ended().await;
        self.goes_on = true;
        // What the first one wrote about itself must not be taken for the second.
        std::fs::remove_file(self.folder.path().join("server.json")).unwrap();
        Self::open(Arc::clone(&self.folder), configuration, Arc::clone(&self.clock)).await
    }

    async fn open(folder: Arc<TempDir>, configuration: &str, clock: Arc<dyn Clock>) -> Self {
        let file = folder.path().join("clamshell.toml");
        std::fs::write(&file, configuration).unwrap();
        let overrides = Overrides {
            listen: Some("127.0.0.1:0".to_owned()),
            data_dir: Some(folder.path().to_owned()),
            config_file: Some(file),
            region: Some(REGION.to_owned()),
            ..Overrides::default()
        };
        let config = Config::load(overrides).unwrap();
        let server = Server::with_ports(config, Arc::clone(&clock), Arc::new(SystemEntropy)).await.unwrap();
        let shutdown = server.shutdown_token();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut task = JoinSet::new();
        task.spawn(server.listen(listener));
        let info = eventually("server listens", LIMIT, async || match read_server_info(folder.path()) {
            Ok(Some(info)) => Ok(info),
            other => Err(format!("{other:?}")),
        })
        .await;
        let root = root_credentials(folder.path()).await.unwrap();
        let credentials = Credentials {
            access_key_id: root.access_key_id,
            secret_access_key: root.secret_access_key,
            session_token: None,
        };
        let endpoint = info.endpoint.replace("https://", "http://");
        let client = Client::new(&endpoint, &info.region, &info.default_runtime_arn, credentials);
        Self { folder, task, clock, goes_on: false, shutdown, info, client }
    }

    pub(crate) fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Signs as root, at the server's time.
    pub(crate) fn root(&self) -> Signer {
        Signer {
            authority: self.client.authority.clone(),
            region: REGION.to_owned(),
            credentials: self.client.credentials.clone(),
            now_ms: self.clock.now_ms(),
        }
    }

    /// Waits until the server has ended after its shutdown token was cancelled.
    pub(crate) async fn ended(&mut self) {
        let ended = within("server ends", LIMIT, self.task.join_next()).await;
        ended.unwrap().unwrap().unwrap();
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        if !self.goes_on {
            end_sandboxes(self.folder.path());
        }
    }
}

/// `None`, with a printed reason, where sandboxes cannot be made.
pub(crate) fn sandboxes() -> Option<()> {
    if is_root() { Some(()) } else { skip("sandboxes of this test are made by root") }
}
