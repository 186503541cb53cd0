//! The Clamshell server: both AWS planes of AgentCore Runtime and the extension API on one listener.
//!
//! [`Server::new`] opens no port; [`Server::listen`] does. [`run`] is what the command line calls.

mod app;
mod audit;
mod config;
mod connections;
mod console;
mod control;
mod environment;
mod events;
mod file_systems;
mod files;
mod guest;
mod http;
mod images;
pub mod local;
mod logs;
pub mod objects;
mod remembered;
mod roles;
mod server;
mod session;
mod shares;
mod terminals;
mod time;
mod tls;
mod web;

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

pub use config::{
    AccessPoint, AccessPointSource, Config, ConfigError, ConsolePolicy, CostRates, DeclaredRuntime,
    InvocationPolicy, LocalImages, OidcPolicy, Overrides, ShellPolicy, Tls,
};
pub use console::ConsoleRole;
pub use http::EXTENSION_ROUTES;
pub use logs::LogPolicy;
pub use server::{RunError, Server};
pub use tls::TlsError;
pub use web::{
    ShellAsk, Upstream, UpstreamError, UpstreamInfo, UpstreamShell, UpstreamSocket, WebLimits, WebPolicy,
    WebStartError,
};

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// [`RunError`].
pub async fn run(config: Config) -> Result<(), RunError> {
    let address = config.listen;
    raise_descriptor_limit();
    until_told(Server::new(config).await?, address).await
}

/// As [`run`], with a server whose shells run at another endpoint.
///
/// # Errors
/// [`RunError`].
pub async fn run_web(config: Config, upstream: Arc<dyn Upstream>, policy: WebPolicy) -> Result<(), RunError> {
    let address = config.listen;
    raise_descriptor_limit();
    until_told(Server::in_front_of(config, upstream, policy).await?, address).await
}

async fn until_told(server: Server, address: SocketAddr) -> Result<(), RunError> {
    let failed = |source| RunError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let shutdown = server.shutdown_token();
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let asked = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = server.listen(listener) => result,
        () = asked => Ok(()),
    }
}

/// Each session costs some descriptors, and many systems start programs with a soft limit of 1024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(errno) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%errno, "limit of open files stays at {:?}", limit.current);
    }
}

/// What `GET /clamshell/v1/doctor` answers, without a server.
pub async fn doctor_local(config: &Config) -> serde_json::Value {
    let drivers = server::drivers(config, &server::image_store(config));
    server::diagnosis(&drivers, config).await
}
