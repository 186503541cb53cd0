//! The web terminal in front of an endpoint that is not this server: its users' shells run there, this process holds the
//! connections and the credentials. Pages speak the attachment of `docs/api.md` with it, as they do with any server.
//!
//! A session and its shells belong to the user who opened them. What was printed while nobody was connected is as much as
//! the endpoint replays.

mod joint;
mod page;
mod ring;
mod shell;
mod state;
mod upstream;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clamshell_domain::{Clock, Entropy, SessionId, ShellId};
use clamshell_store::{OpenWebShellError, Store, StoreError, WebShellRecord};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use page::PageAsk;
pub use shell::WebPolicy;
use shell::{Input, Shell};
pub(crate) use state::From as PageFrom;
use state::{End, Link};
pub use upstream::{ShellAsk, Upstream, UpstreamError, UpstreamInfo, UpstreamShell, UpstreamSocket};

/// Shells connected at once, over all users; each holds up to 4 MiB of output.
const CONNECTED_MAX: usize = 512;

/// Size of a terminal until a page says what it has.
const FIRST_SIZE: (u16, u16) = (80, 24);

/// Offsets of a process begin at its time in milliseconds shifted by so much: above those of all earlier ones, at less than
/// 4 MB a second between them, and below 2^53, which pages can count to.
const START_SHIFT: u32 = 12;

/// A shell is not to be had.
#[derive(Debug, Error)]
pub(crate) enum WebError {
    /// There is none, for this user.
    #[error("no such shell")]
    NotFound,
    /// This user has enough of them, or all users have.
    #[error("too many shells")]
    TooMany,
    /// The endpoint.
    #[error("the endpoint failed")]
    Upstream(#[source] UpstreamError),
    /// The store.
    #[error("cannot store shells")]
    Store(#[from] StoreError),
}

/// A shell as its owner sees it.
#[derive(Debug)]
pub(crate) struct WebShell {
    pub(crate) record: WebShellRecord,
    /// What is known of it while it is connected.
    pub(crate) live: Option<LiveShell>,
}

/// A connected shell.
#[derive(Debug)]
pub(crate) struct LiveShell {
    pub(crate) size: (u16, u16),
    /// Oldest byte kept, first byte of this run, next byte.
    pub(crate) offsets: (u64, u64, u64),
    pub(crate) writers: usize,
    pub(crate) watchers: usize,
    /// Whether the endpoint is connected, or is being tried again.
    pub(crate) connected: bool,
}

type Key = (SessionId, ShellId);

/// All shells of all users.
pub(crate) struct Web {
    upstream: Arc<dyn Upstream>,
    policy: WebPolicy,
    store: Store,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    connected: Mutex<HashMap<Key, Arc<Shell>>>,
}

/// What [`Web`] is made of.
pub(crate) struct WebParts {
    pub(crate) upstream: Arc<dyn Upstream>,
    pub(crate) policy: WebPolicy,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Web {
    pub(crate) fn new(parts: WebParts) -> Arc<Self> {
        let WebParts { upstream, policy, store, clock, entropy, tasks, shutdown } = parts;
        let connected = Mutex::default();
        Arc::new(Self { upstream, policy, store, clock, entropy, tasks, shutdown, connected })
    }

    /// The endpoint.
    pub(crate) fn info(&self) -> &UpstreamInfo {
        self.upstream.info()
    }

    /// Finds a shell of a user, or opens one when `create` is set; connecting goes on behind it.
    ///
    /// # Errors
    /// [`WebError`].
    pub(crate) async fn open(
        self: &Arc<Self>,
        owner: &str,
        key: Key,
        create: bool,
    ) -> Result<Attachable, WebError> {
        if !create {
            let record = self.owned(owner, &key).await?;
            if record.ended_at_ms.is_some() {
                return Err(WebError::NotFound);
            }
        }
        self.store.open_web_shell(&key.0, &key.1, owner, self.clock.now_ms()).await.map_err(|error| {
            match error {
                OpenWebShellError::NotYours => WebError::NotFound,
                OpenWebShellError::TooMany => WebError::TooMany,
                OpenWebShellError::Store(error) => WebError::Store(error),
            }
        })?;
        let mut connected = self.lock();
        if let Some(shell) = connected.get(&key)
            && shell.standing().1.is_none()
        {
            return Ok(Attachable { web: Arc::clone(self), shell: Arc::clone(shell) });
        }
        if connected.len() >= CONNECTED_MAX {
            return Err(WebError::TooMany);
        }
        let ask = ShellAsk { session_id: key.0.clone(), shell_id: key.1.clone(), size: FIRST_SIZE };
        let (shell, inputs) = Shell::new(ask, self.clock.now_ms() << START_SHIFT);
        connected.insert(key.clone(), Arc::clone(&shell));
        let web = Arc::clone(self);
        let driven = Arc::clone(&shell).drive(
            Arc::clone(&self.upstream),
            inputs,
            self.policy,
            Arc::clone(&self.entropy),
            self.shutdown.clone(),
        );
        let of_task = Arc::clone(&shell);
        self.tasks.spawn(async move {
            driven.await;
            web.over(&key, &of_task).await;
        });
        Ok(Attachable { web: Arc::clone(self), shell })
    }

    /// The task of a shell is done.
    async fn over(&self, key: &Key, shell: &Arc<Shell>) {
        {
            let mut connected = self.lock();
            if connected.get(key).is_some_and(|other| Arc::ptr_eq(other, shell)) {
                connected.remove(key);
            }
        }
        // A page that came at this very moment connects again.
        shell.change(|state| state.on_end(End::Detached));
        if let Some(End::Exited { code, .. }) = shell.standing().1 {
            let ended =
                self.store.end_web_shell(&key.0, &key.1, Some(i64::from(code)), self.clock.now_ms()).await;
            if let Err(error) = ended {
                tracing::error!(%error, shell = %key.1, "cannot note the end of a shell");
            }
        }
    }

    async fn owned(&self, owner: &str, key: &Key) -> Result<WebShellRecord, WebError> {
        let record = self.store.web_shell(&key.0, &key.1).await?;
        record.filter(|record| record.owner == owner).ok_or(WebError::NotFound)
    }

    /// All shells of a user.
    ///
    /// # Errors
    /// [`WebError::Store`].
    pub(crate) async fn list(&self, owner: &str) -> Result<Vec<WebShell>, WebError> {
        let records = self.store.web_shells(owner).await?;
        Ok(records.into_iter().map(|record| self.view(record)).collect())
    }

    /// One shell of a user.
    ///
    /// # Errors
    /// [`WebError`].
    pub(crate) async fn show(&self, owner: &str, key: &Key) -> Result<WebShell, WebError> {
        self.owned(owner, key).await.map(|record| self.view(record))
    }

    fn view(&self, record: WebShellRecord) -> WebShell {
        let key = (record.session_id.clone(), record.shell_id.clone());
        let live = self.lock().get(&key).map(|shell| {
            let state = shell.state();
            let ((start, end), (writers, watchers)) = (state.range(), state.attached());
            LiveShell {
                size: state.size(),
                offsets: (start, state.run_start(), end),
                writers,
                watchers,
                connected: state.link() == Link::Live,
            }
        });
        WebShell { record, live }
    }

    /// Ends a shell with the program in it.
    ///
    /// # Errors
    /// [`WebError`].
    pub(crate) async fn close(self: &Arc<Self>, owner: &str, key: Key) -> Result<(), WebError> {
        let shell = self.open(owner, key.clone(), false).await?;
        shell.shell.send(Input::Close);
        self.store.end_web_shell(&key.0, &key.1, None, self.clock.now_ms()).await?;
        Ok(())
    }

    /// Names a shell.
    ///
    /// # Errors
    /// [`WebError`].
    pub(crate) async fn name(&self, owner: &str, key: &Key, title: &str) -> Result<WebShell, WebError> {
        self.owned(owner, key).await?;
        self.store.name_web_shell(&key.0, &key.1, title).await?;
        self.show(owner, key).await
    }

    /// Ends a session of a user at the endpoint, with all that runs in it.
    ///
    /// # Errors
    /// [`WebError`].
    pub(crate) async fn stop(&self, owner: &str, session_id: &SessionId) -> Result<(), WebError> {
        let mut shells = self.store.web_shells(owner).await?;
        shells.retain(|record| record.session_id == *session_id);
        if shells.is_empty() {
            return Err(WebError::NotFound);
        }
        self.upstream.stop(session_id).await.map_err(WebError::Upstream)?;
        for shell in shells {
            self.store.end_web_shell(session_id, &shell.shell_id, None, self.clock.now_ms()).await?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<Shell>>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A shell that a page may be attached to.
pub(crate) struct Attachable {
    web: Arc<Web>,
    shell: Arc<Shell>,
}

impl Attachable {
    /// Serves a page until it leaves, is sent away, or the shell ends.
    pub(crate) async fn serve<S>(self, socket: WebSocketStream<S>, ask: PageAsk, revoked: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        page::serve(socket, self.shell, ask, revoked, self.web.shutdown.clone()).await;
    }
}
