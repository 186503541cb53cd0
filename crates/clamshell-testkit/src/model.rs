//! A model that says what a script tells it to, in the APIs that coding agents speak.
//!
//! ```no_run
//! # use clamshell_testkit::model::{Listen, Rule, Script, ScriptedModel};
//! let script = Script::new(vec![
//!     Rule::shell("echo made > made.txt").when("MAKE_FILE").after_results(0),
//!     Rule::say("It is made.").when("MAKE_FILE"),
//!     Rule::say("pong"),
//! ])?;
//! let model = ScriptedModel::start(script, Listen::Tcp("127.0.0.1:0".parse()?))?;
//! println!("ANTHROPIC_BASE_URL=http://{}", model.address()?);
//! // ... an agent works ...
//! assert_eq!(model.asks()[0].prompt, "ping");
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! | path, whatever stands before it | API |
//! |---|---|
//! | `POST /messages`, `/messages/count_tokens` | Anthropic Messages |
//! | `POST /responses` | OpenAI Responses |
//! | `POST /chat/completions` | OpenAI chat completions |
//! | `POST /models/NAME:generateContent`, `:streamGenerateContent`, `:countTokens` | Gemini |
//! | `GET /models`, `GET /models/NAME`, `GET /` | all |
//!
//! Each answers whole or as a stream. The model runs in a thread of its own, so tests may block theirs.
//! It keeps the requests for assertions, and asks for no key: what was sent is in the headers that it keeps.
//! `clamshell-model --listen 127.0.0.1:8089 --script FILE` is the same as a program.
//!
//! Sandboxes have no network but loopback: [`SandboxModel`] is how agents in them reach it, and how Claude Code is
//! used there by typing.

mod ask;
mod record;
mod sandbox;
mod script;
mod serve;
mod shape;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use anyhow::{Context, Result};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::oneshot,
};

pub use ask::{Api, Ask};
pub use record::Recorded;
pub use sandbox::{CodingAgent, SandboxModel};
pub use script::{Answer, Rule, Script, ScriptError, Usage};

/// Where a model listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A path, at which everybody may connect.
    Unix(PathBuf),
}

/// A running model. Dropping it ends it.
#[derive(Debug)]
pub struct ScriptedModel {
    state: Arc<serve::State>,
    address: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ScriptedModel {
    /// Starts a model that follows this script; it listens when this returns.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub fn start(script: Script, listen: Listen) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (listener, address) = {
            let _inside = runtime.enter();
            open(listen)?
        };
        let state = Arc::new(serve::State::new(script));
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&state);
        let thread = std::thread::Builder::new().name("model".to_owned()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    () = serve::accept(listener, serving) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { state, address, stop: Some(stop), thread: Some(thread) })
    }

    /// `host:port`.
    ///
    /// # Errors
    /// When it listens at a path.
    pub fn address(&self) -> Result<SocketAddr> {
        self.address.context("the model listens at a path")
    }

    /// Requests so far, the oldest first; of very many only the newest.
    pub fn requests(&self) -> Vec<Arc<Recorded>> {
        self.state.record.all()
    }

    /// What was asked so far: requests for an answer, the oldest first.
    pub fn asks(&self) -> Vec<Ask> {
        self.requests().iter().filter_map(|request| request.ask.clone()).collect()
    }
}

impl Drop for ScriptedModel {
    fn drop(&mut self) {
        // The other end is gone when the thread has ended by itself.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where connections come from.
#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

fn open(listen: Listen) -> Result<(Listener, Option<SocketAddr>)> {
    match listen {
        Listen::Tcp(address) => {
            let listener = std::net::TcpListener::bind(address)
                .with_context(|| format!("cannot listen on {address}"))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((Listener::Tcp(TcpListener::from_std(listener)?), Some(address)))
        }
        Listen::Unix(path) => {
            let listener =
                open_unix(&path).with_context(|| format!("cannot listen at {}", path.display()))?;
            Ok((Listener::Unix(listener), None))
        }
    }
}

fn open_unix(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    // Inside of a sandbox the socket belongs to nobody.
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    Ok(listener)
}

#[cfg(test)]
mod tests;
