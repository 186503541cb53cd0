//! The web terminal in front of an endpoint that is not this server: its users' shells run there, this process holds the
//! connections and the credentials. Pages speak the attachment of `docs/api.md` with it, as they do with any server.
//!
//! A session and its shells belong to the user who opened them. What was printed while nobody was connected is as much as
//! the endpoint replays; what is known of a shell outlives this process.

mod joint;
mod journal;
mod limits;
mod page;
mod ring;
mod shell;
mod state;
#[cfg(test)]
mod tests;
mod typing;
mod upstream;

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use clamshell_domain::{Clock, Entropy, SessionId, ShellId};
use clamshell_store::{OpenWebShellError, Store, StoreError, WebShellRecord};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use journal::Journals;
pub(crate) use limits::Limit;
pub use limits::WebLimits;
pub(crate) use page::PageAsk;
use shell::Shell;
pub use shell::WebPolicy;
pub(crate) use state::From as PageFrom;
use state::{End, Link, State};
pub(crate) use typing::WRITER_BYTES_MAX;
pub use upstream::{ShellAsk, Upstream, UpstreamError, UpstreamInfo, UpstreamShell, UpstreamSocket};

/// Size of a terminal until a page says what it has.
const FIRST_SIZE: (u16, u16) = (80, 24);

/// Offsets of a shell of which nothing is known begin at its time in milliseconds shifted by so much: above those of all
/// earlier ones, at less than 4 MB a second between them, and below 2^53, which pages can count to.
const START_SHIFT: u32 = 12;

/// Shells that are opened at the same time, when they hash apart: each may have some MiB to read and paint.
const OPENINGS: usize = 16;

/// Files of what is known of shells, in the data directory.
const SHELLS_DIR: &str = "shells";

/// A shell is not to be had.
#[derive(Debug, Error)]
pub(crate) enum WebError {
    /// There is none, for this user.
    #[error("no such shell")]
    NotFound,
    /// This user has enough of them, or all users have.
    #[error("too many shells")]
    TooMany(#[source] Limit),
    /// The endpoint.
    #[error("the endpoint failed")]
    Upstream(#[source] UpstreamError),
    /// The store.
    #[error("cannot store shells")]
    Store(#[from] StoreError),
    /// The task that reads what is known of a shell.
    #[error("cannot read what is known of a shell")]
    Read,
}

/// There is no web terminal.
#[derive(Debug, Error)]
pub enum WebStartError {
    /// The store.
    #[error("cannot read the shells of users")]
    Store(#[from] StoreError),
    /// The directory of the shells.
    #[error("cannot open the directory of shells")]
    Files(#[from] io::Error),
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
    limits: WebLimits,
    store: Store,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    journals: Journals,
    connected: Mutex<HashMap<Key, Arc<Shell>>>,
    /// Held while a shell is opened, by its hash: its file has one reader and one writer.
    openings: [tokio::sync::Mutex<()>; OPENINGS],
}

/// What [`Web`] is made of.
pub(crate) struct WebParts {
    pub(crate) upstream: Arc<dyn Upstream>,
    pub(crate) policy: WebPolicy,
    pub(crate) limits: WebLimits,
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl Web {
    /// Shells of the users in this data directory.
    ///
    /// # Errors
    /// [`WebStartError`].
    pub(crate) async fn new(parts: WebParts, data_dir: &Path) -> Result<Arc<Self>, WebStartError> {
        let WebParts { upstream, policy, limits, store, clock, entropy, tasks, shutdown } = parts;
        let running = store.running_web_shells().await?;
        let journals = Journals::open(data_dir.join(SHELLS_DIR), &running)?;
        Ok(Arc::new(Self {
            upstream,
            policy,
            limits,
            store,
            clock,
            entropy,
            tasks,
            shutdown,
            journals,
            connected: Mutex::default(),
            openings: std::array::from_fn(|_| tokio::sync::Mutex::default()),
        }))
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
        let _opening = self.opening(&key).lock().await;
        // Before it is stored: what was refused is no shell of theirs.
        if self.running(&key).is_none() {
            self.check_limits(owner)?;
        }
        let (runtime, most) = (&self.upstream.info().runtime_name, self.limits.shells_per_user);
        let now_ms = self.clock.now_ms();
        self.store.open_web_shell(&key.0, &key.1, owner, (runtime, most), now_ms).await.map_err(|error| {
            match error {
                OpenWebShellError::NotYours => WebError::NotFound,
                OpenWebShellError::TooMany => WebError::TooMany(Limit::ShellsPerUser(most)),
                OpenWebShellError::Store(error) => WebError::Store(error),
            }
        })?;
        if let Some(shell) = self.running(&key) {
            return Ok(Attachable { web: Arc::clone(self), shell });
        }
        let state = self.recall(&key).await?;
        let ask = ShellAsk { session_id: key.0.clone(), shell_id: key.1.clone(), size: state.size() };
        let shell = Shell::new(ask, owner.to_owned(), state);
        self.lock().insert(key.clone(), Arc::clone(&shell));
        let web = Arc::clone(self);
        let driven = Arc::clone(&shell).drive(
            Arc::clone(&self.upstream),
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

    fn opening(&self, key: &Key) -> &tokio::sync::Mutex<()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % OPENINGS as u64).unwrap_or_default();
        &self.openings[index]
    }

    fn running(&self, key: &Key) -> Option<Arc<Shell>> {
        self.lock().get(key).filter(|shell| shell.standing().1.is_none()).cloned()
    }

    fn check_limits(&self, owner: &str) -> Result<(), WebError> {
        let connected = self.lock();
        let mine = connected.values().filter(|shell| shell.owner == owner).count();
        self.limits.check(mine, connected.len()).map_err(WebError::TooMany)
    }

    /// What an earlier process, or an earlier task of this one, knew of a shell.
    async fn recall(&self, key: &Key) -> Result<State, WebError> {
        let start = self.clock.now_ms() << START_SHIFT;
        let (journals, path) = (self.journals.clone(), self.journals.path(&key.0, &key.1));
        let recalled = tokio::task::spawn_blocking(move || {
            let known = State::restored(&journals.read(&path), journals.boot());
            let mut state = known.unwrap_or_else(|| State::new(start, FIRST_SIZE));
            if let Err(error) = state.keep(&journals, path) {
                tracing::error!(%error, "cannot keep a shell: a restart will not find its output");
            }
            state
        });
        recalled.await.map_err(|_| WebError::Read)
    }

    /// The task of a shell is done.
    async fn over(&self, key: &Key, shell: &Arc<Shell>) {
        // A page that came at this very moment connects again.
        shell.change(|state| state.on_end(End::Detached));
        {
            let mut connected = self.lock();
            if connected.get(key).is_some_and(|other| Arc::ptr_eq(other, shell)) {
                connected.remove(key);
            }
        }
        if let Some(End::Exited { code, .. }) = shell.standing().1 {
            let ended =
                self.store.end_web_shell(&key.0, &key.1, Some(i64::from(code)), self.clock.now_ms()).await;
            if let Err(error) = ended {
                tracing::error!(%error, shell = %key.1, "cannot note the end of a shell");
            }
        }
        let _opening = self.opening(key).lock().await;
        // Closed by its owner while the endpoint could not be reached: its file has no use any more.
        let ended = self.store.web_shell(&key.0, &key.1).await;
        if ended.is_ok_and(|record| record.is_none_or(|record| record.ended_at_ms.is_some())) {
            self.forget_file(key);
        }
    }

    /// Removes what is kept of a shell that nobody is connected to; the caller holds its opening.
    fn forget_file(&self, key: &Key) {
        if self.running(key).is_some() {
            return;
        }
        if let Err(error) = self.journals.remove(&key.0, &key.1) {
            tracing::error!(%error, shell = %key.1, "cannot remove what is kept of a shell");
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
        shell.shell.close();
        let _opening = self.opening(&key).lock().await;
        self.store.end_web_shell(&key.0, &key.1, None, self.clock.now_ms()).await?;
        self.forget_file(&key);
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
            let key = (session_id.clone(), shell.shell_id.clone());
            let _opening = self.opening(&key).lock().await;
            // To connect again would start the session again.
            if let Some(running) = self.running(&key) {
                running.change(State::on_stopped);
            }
            self.store.end_web_shell(session_id, &shell.shell_id, None, self.clock.now_ms()).await?;
            self.forget_file(&key);
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
