//! Logins: a random token in a cookie, its SHA-256 here and in the store. This process is the store's only writer, so what is
//! in memory is all there is, and a stranger's invented cookie costs no read.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clamshell_domain::{Clock, Entropy};
use clamshell_store::{LoginMethod, LoginRecord, Store, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{config::ConsolePolicy, http::chain};

/// Logins of one user: more than anybody has browsers. The one that was used longest ago makes room.
const OF_USER_MAX: usize = 50;

/// Logins at all; some MB.
const LOGINS_MAX: usize = 10_000;

/// The use of a login is stored at most so often.
const TOUCH_MS: u64 = 60_000;

/// Ends are looked for at least so often while there is a login: clocks may be set.
const SWEEP_MAX: Duration = Duration::from_secs(10);

/// Characters of a program's name that are kept.
const USER_AGENT_CHARS_MAX: usize = 256;

/// Bytes of randomness in tokens of cookies and links.
const TOKEN_BYTES: usize = 32;

type Hash = [u8; digest::SHA256_OUTPUT_LEN];

/// All logins.
pub(crate) struct Logins {
    store: Store,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    idle_ms: u64,
    max_ms: u64,
    all: Mutex<HashMap<Hash, Arc<Login>>>,
    /// Told of each new login.
    added: Notify,
}

/// One login.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) login_id: String,
    pub(crate) user_name: String,
    pub(crate) method: LoginMethod,
    pub(crate) created_at_ms: u64,
    pub(crate) source_ip: String,
    pub(crate) user_agent: String,
    hash: Hash,
    /// It ends then, used or not.
    expires_at_ms: u64,
    used_at_ms: AtomicU64,
    stored_used_at_ms: AtomicU64,
    /// Connections that are open by it; as long as there is one, the login is in use.
    open: AtomicUsize,
    /// Cancelled when its connections must end; another one may take its place then.
    connections: Mutex<CancellationToken>,
}

/// A connection that is open by a login; counted until it is dropped.
pub(crate) struct OpenByLogin {
    login: Arc<Login>,
    clock: Arc<dyn Clock>,
}

/// From where and with what somebody signs in.
#[derive(Debug, Clone, Default)]
pub(crate) struct From {
    pub(crate) source_ip: String,
    pub(crate) user_agent: String,
}

/// A token that nobody can guess, for a cookie or a link.
pub(crate) fn new_token(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; TOKEN_BYTES];
    entropy.fill(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What is stored of a token; `None` for a text that is none.
pub(crate) fn hash_of(token: &str) -> Option<Hash> {
    // Of the exact length, so that nothing longer is ever decoded.
    let fits = token.len() == (TOKEN_BYTES * 4).div_ceil(3);
    let bytes = URL_SAFE_NO_PAD.decode(token).ok().filter(|_| fits)?;
    digest::digest(&digest::SHA256, &bytes).as_ref().try_into().ok()
}

impl Logins {
    /// Reads the logins of the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn load(
        store: Store,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        policy: &ConsolePolicy,
    ) -> Result<Self, StoreError> {
        let all = store.console_logins().await?.into_iter().filter_map(Login::stored);
        let all = Mutex::new(all.map(|login| (login.hash, Arc::new(login))).collect());
        let (idle_ms, max_ms) = (policy.login_idle_ms, policy.login_max_ms);
        Ok(Self { store, clock, entropy, idle_ms, max_ms, all, added: Notify::new() })
    }

    /// The login of a token, if it has not ended.
    pub(crate) fn find(&self, token: &str) -> Option<Arc<Login>> {
        let login = self.lock().get(&hash_of(token)?).map(Arc::clone)?;
        (self.clock.now_ms() < self.ends_at_ms(&login)).then_some(login)
    }

    /// When a login ends although it is used.
    pub(crate) fn last_ms(&self, login: &Login) -> u64 {
        // A shorter life in the configuration is for logins of before as well.
        login.expires_at_ms.min(login.created_at_ms.saturating_add(self.max_ms))
    }

    /// When a login ends if it is not used again.
    pub(crate) fn ends_at_ms(&self, login: &Login) -> u64 {
        let last = self.last_ms(login);
        if login.open.load(Ordering::Acquire) > 0 {
            return last;
        }
        last.min(login.used_at_ms.load(Ordering::Acquire).saturating_add(self.idle_ms))
    }

    /// Signs a user in: the login, and the token for its cookie. `None` when there is no such user any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn add(
        &self,
        user_name: &str,
        method: LoginMethod,
        from: &From,
    ) -> Result<Option<(Arc<Login>, String)>, StoreError> {
        let token = new_token(&*self.entropy);
        let Some(hash) = hash_of(&token) else { return Ok(None) };
        let now_ms = self.clock.now_ms();
        let mut id = [0; 9];
        self.entropy.fill(&mut id);
        let record = LoginRecord {
            login_id: format!("login-{}", URL_SAFE_NO_PAD.encode(id)),
            token_hash: hash.to_vec(),
            user_name: user_name.to_owned(),
            method,
            created_at_ms: now_ms,
            last_used_at_ms: now_ms,
            expires_at_ms: now_ms.saturating_add(self.max_ms),
            source_ip: from.source_ip.clone(),
            user_agent: printable(&from.user_agent),
        };
        let instead = self.too_many(user_name);
        let ids: Vec<String> = instead.iter().map(|login| login.login_id.clone()).collect();
        if !self.store.insert_console_login(&record, &ids).await? {
            return Ok(None);
        }
        self.forget(&instead);
        let Some(login) = Login::stored(record) else { return Ok(None) };
        let login = Arc::new(login);
        self.lock().insert(hash, Arc::clone(&login));
        self.added.notify_one();
        Ok(Some((login, token)))
    }

    /// Those that must go for one more login of a user.
    fn too_many(&self, user_name: &str) -> Vec<Arc<Login>> {
        let all = self.lock();
        let mut own: Vec<_> = all.values().filter(|login| login.user_name == user_name).cloned().collect();
        let mut gone = oldest(&mut own, OF_USER_MAX);
        if gone.is_empty() && all.len() >= LOGINS_MAX {
            gone = oldest(&mut all.values().cloned().collect(), LOGINS_MAX);
        }
        gone
    }

    /// Notes that a login was used. Gives what to store, at most once a minute.
    pub(crate) fn touch(&self, login: &Login) -> Option<u64> {
        let now_ms = self.clock.now_ms();
        login.used_at_ms.fetch_max(now_ms, Ordering::AcqRel);
        let stored = login.stored_used_at_ms.load(Ordering::Acquire);
        if now_ms < stored.saturating_add(TOUCH_MS) {
            return None;
        }
        let swapped =
            login.stored_used_at_ms.compare_exchange(stored, now_ms, Ordering::AcqRel, Ordering::Acquire);
        swapped.is_ok().then_some(now_ms)
    }

    /// All that have not ended, the newest first.
    pub(crate) fn list(&self) -> Vec<Arc<Login>> {
        let now_ms = self.clock.now_ms();
        let mut all: Vec<_> =
            self.lock().values().filter(|login| now_ms < self.ends_at_ms(login)).cloned().collect();
        all.sort_by_key(|login| (std::cmp::Reverse(login.created_at_ms), login.login_id.clone()));
        all
    }

    /// Ends a login and its connections.
    ///
    /// # Errors
    /// [`StoreError`]; then it goes on.
    pub(crate) async fn end(&self, login: &Arc<Login>) -> Result<(), StoreError> {
        self.store.remove_console_logins(std::slice::from_ref(&login.login_id)).await?;
        self.forget(std::slice::from_ref(login));
        Ok(())
    }

    /// Forgets the logins of a user, but one, that are not in the store any more.
    pub(crate) fn forget_user(&self, user_name: &str, kept: Option<&str>) {
        let gone: Vec<_> = self
            .lock()
            .values()
            .filter(|login| login.user_name == user_name && Some(login.login_id.as_str()) != kept)
            .cloned()
            .collect();
        self.forget(&gone);
    }

    /// Closes the connections of a user's logins, which stay: what they may do is asked anew.
    pub(crate) fn disconnect(&self, user_name: &str) {
        for login in self.lock().values().filter(|login| login.user_name == user_name) {
            login.cut();
        }
    }

    /// Counts a connection by a login, until the handle is dropped.
    pub(crate) fn open(&self, login: &Arc<Login>) -> (OpenByLogin, CancellationToken) {
        login.open.fetch_add(1, Ordering::AcqRel);
        let token = login.connections.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (OpenByLogin { login: Arc::clone(login), clock: Arc::clone(&self.clock) }, token)
    }

    fn forget(&self, gone: &[Arc<Login>]) {
        let mut all = self.lock();
        for login in gone {
            all.remove(&login.hash);
        }
        drop(all);
        for login in gone {
            login.cut();
        }
    }

    /// Ends logins in time, with their connections, until the server ends. Sleeps while there are none.
    pub(crate) async fn sweep(&self, shutdown: CancellationToken) {
        loop {
            let now_ms = self.clock.now_ms();
            let (ended, next): (Vec<_>, Vec<_>) =
                self.lock().values().cloned().partition(|login| self.ends_at_ms(login) <= now_ms);
            if !ended.is_empty() {
                let ids: Vec<String> = ended.iter().map(|login| login.login_id.clone()).collect();
                self.forget(&ended);
                if let Err(error) = self.store.remove_console_logins(&ids).await {
                    // They are found again at the next start.
                    tracing::warn!(error = chain(&error), "ended logins stay in the store");
                }
            }
            let soonest = next.iter().map(|login| self.ends_at_ms(login).saturating_sub(now_ms)).min();
            let pause = soonest.map(|ms| Duration::from_millis(ms.max(1)).min(SWEEP_MAX));
            let wait = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => self.added.notified().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, Arc<Login>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Login {
    fn stored(record: LoginRecord) -> Option<Self> {
        Some(Self {
            hash: record.token_hash.try_into().ok()?,
            login_id: record.login_id,
            user_name: record.user_name,
            method: record.method,
            created_at_ms: record.created_at_ms,
            source_ip: record.source_ip,
            user_agent: record.user_agent,
            expires_at_ms: record.expires_at_ms,
            used_at_ms: AtomicU64::new(record.last_used_at_ms),
            stored_used_at_ms: AtomicU64::new(record.last_used_at_ms),
            open: AtomicUsize::new(0),
            connections: Mutex::default(),
        })
    }

    /// When it was used last.
    pub(crate) fn used_at_ms(&self) -> u64 {
        self.used_at_ms.load(Ordering::Acquire)
    }

    /// Ends its connections; those that come after have another token.
    fn cut(&self) {
        std::mem::take(&mut *self.connections.lock().unwrap_or_else(PoisonError::into_inner)).cancel();
    }
}

impl std::fmt::Debug for OpenByLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenByLogin").field("login_id", &self.login.login_id).finish_non_exhaustive()
    }
}

impl Drop for OpenByLogin {
    fn drop(&mut self) {
        self.login.used_at_ms.fetch_max(self.clock.now_ms(), Ordering::AcqRel);
        self.login.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Of more than `most` less one, those that were used longest ago.
fn oldest(all: &mut Vec<Arc<Login>>, most: usize) -> Vec<Arc<Login>> {
    let excess = (all.len() + 1).saturating_sub(most);
    all.sort_by_key(|login| login.used_at_ms());
    all.drain(..excess).collect()
}

fn printable(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(USER_AGENT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamshell_domain::SystemEntropy;

    #[derive(Default)]
    struct TestClock(AtomicU64);

    impl Clock for TestClock {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    async fn logins(clock: &Arc<TestClock>, folder: &tempfile::TempDir) -> Logins {
        let store = Store::open(&folder.path().join("state.db")).await.unwrap();
        let policy = ConsolePolicy { login_idle_ms: 100, login_max_ms: 1000, ..ConsolePolicy::default() };
        let clock = Arc::clone(clock);
        Logins::load(store, clock, Arc::new(SystemEntropy), &policy).await.unwrap()
    }

    async fn add(logins: &Logins) -> (Arc<Login>, String) {
        logins.add("root", LoginMethod::Link, &From::default()).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_login_ends_without_use_and_in_any_case() {
        let (clock, folder) = (Arc::new(TestClock::default()), tempfile::tempdir().unwrap());
        let logins = logins(&clock, &folder).await;
        let (login, token) = add(&logins).await;
        let at = |ms: u64| clock.0.store(ms, Ordering::Relaxed);
        at(99);
        assert_eq!(logins.find(&token).unwrap().login_id, login.login_id);
        assert_eq!(logins.touch(&login), None, "stored once a minute");
        at(198);
        assert!(logins.find(&token).is_some());
        at(199);
        assert!(logins.find(&token).is_none());
        at(150);
        // What is open counts as use, and nothing counts at the end.
        let (open, ended) = logins.open(&login);
        at(900);
        assert!(logins.find(&token).is_some());
        drop(open);
        at(999);
        assert!(logins.find(&token).is_some());
        at(1000);
        assert!(logins.find(&token).is_none());
        assert!(!ended.is_cancelled());
        let sweep = logins.sweep(CancellationToken::new());
        tokio::select! {
            () = sweep => unreachable!("it ends with the server"),
            () = ended.cancelled() => {}
        }
        assert!(logins.list().is_empty());
        assert!(logins.store.console_logins().await.unwrap().len() <= 1);
    }

    #[tokio::test]
    async fn they_are_found_again_and_end_when_asked() {
        let (clock, folder) = (Arc::new(TestClock::default()), tempfile::tempdir().unwrap());
        let first = logins(&clock, &folder).await;
        let (_, token) = add(&first).await;
        let again = logins(&clock, &folder).await;
        let login = again.find(&token).unwrap();
        let (_open, ended) = again.open(&login);
        again.disconnect("ci");
        assert!(!ended.is_cancelled());
        again.disconnect("root");
        assert!(ended.is_cancelled() && again.find(&token).is_some());
        let (_open, ended) = again.open(&login);
        again.end(&login).await.unwrap();
        assert!(ended.is_cancelled() && again.find(&token).is_none());
        assert!(logins(&clock, &folder).await.find(&token).is_none());
    }

    #[tokio::test]
    async fn a_user_has_so_many_and_no_more() {
        let (clock, folder) = (Arc::new(TestClock::default()), tempfile::tempdir().unwrap());
        let logins = logins(&clock, &folder).await;
        let (_, first) = add(&logins).await;
        clock.0.store(1, Ordering::Relaxed);
        let mut newest = String::new();
        for _ in 0..OF_USER_MAX {
            newest = add(&logins).await.1;
        }
        assert_eq!(logins.list().len(), OF_USER_MAX);
        assert!(logins.find(&first).is_none() && logins.find(&newest).is_some());
    }

    #[test]
    fn what_is_no_token_is_not_even_hashed() {
        let token = new_token(&SystemEntropy);
        assert!(hash_of(&token).is_some());
        for bad in ["", "a", &token[1..], &format!("{token}A"), &"=".repeat(43), &"é".repeat(22)] {
            assert_eq!(hash_of(bad), None, "{bad}");
        }
    }
}
