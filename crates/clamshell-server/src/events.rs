//! What is told to those who watch: the newest picture of sessions, shells and runtimes, and each change of it.
//!
//! Whoever changes something leaves a [`Hints`] that names it. While somebody listens, one task for all listeners
//! (`http/events.rs`) follows the hints, compares what it finds with the picture, and tells the difference; nobody else
//! reads anything. While nobody listens there is no picture and no task, and a hint is one look at a flag.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use clamshell_domain::{EndpointName, RuntimeId, SessionKey};
use clamshell_store::AuditRecord;
use tokio::sync::{Notify, broadcast, watch};

/// Changes that a slow listener may be behind: some MB in all. One that is further behind gets a new picture in their place.
const BEHIND_MAX: usize = 1024;

/// Kinds of things that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Topic {
    /// Sessions.
    Sessions,
    /// Shells of sessions.
    Shells,
    /// Runtimes.
    Runtimes,
    /// The audit trail.
    Audit,
}

/// Where a thing belongs: who may see that may see the thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scope {
    /// The runtime.
    pub(crate) runtime_id: RuntimeId,
    /// Its endpoint; `None` for the runtime itself.
    pub(crate) endpoint: Option<EndpointName>,
}

impl Scope {
    /// That of a session.
    pub(crate) fn of_session(key: &SessionKey) -> Self {
        Self { runtime_id: key.runtime_id.clone(), endpoint: Some(key.endpoint.clone()) }
    }

    /// That of a runtime.
    pub(crate) fn of_runtime(runtime_id: &RuntimeId) -> Self {
        Self { runtime_id: runtime_id.clone(), endpoint: None }
    }
}

/// One change.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Grows from event to event.
    pub(crate) id: u64,
    /// What it is about.
    pub(crate) topic: Topic,
    /// Its name for clients.
    pub(crate) name: &'static str,
    /// Who may see it; `None` for the audit trail.
    pub(crate) scope: Option<Arc<Scope>>,
    /// JSON on one line.
    pub(crate) data: Arc<str>,
    /// Id of the audit record that it tells of, or 0.
    pub(crate) record_id: u64,
}

/// Says what has changed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hints(Arc<HintsInner>);

#[derive(Debug, Default)]
struct HintsInner {
    wanted: AtomicBool,
    /// Bounded by the number of sessions there are.
    changed: Mutex<Changed>,
    wake: Notify,
}

/// What has changed since somebody looked.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    /// Sessions, with their shells.
    pub(crate) sessions: HashSet<SessionKey>,
    /// Shells of these sessions.
    pub(crate) shells: HashSet<SessionKey>,
}

impl Hints {
    /// A session was made, has changed or is gone.
    pub(crate) fn session(&self, key: &SessionKey) {
        self.note(|changed| {
            changed.sessions.insert(key.clone());
        });
    }

    /// A shell of this session was made, has changed or is gone.
    pub(crate) fn shells(&self, key: &SessionKey) {
        self.note(|changed| {
            changed.shells.insert(key.clone());
        });
    }

    fn note(&self, note: impl FnOnce(&mut Changed)) {
        if self.0.wanted.load(Ordering::Acquire) {
            note(&mut self.0.changed.lock().unwrap_or_else(PoisonError::into_inner));
            self.0.wake.notify_one();
        }
    }

    /// What was noted since the last call. Cancel-safe: what was not taken stays.
    pub(crate) async fn next(&self) -> Changed {
        self.0.wake.notified().await;
        std::mem::take(&mut *self.0.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn want(&self, wanted: bool) {
        self.0.wanted.store(wanted, Ordering::Release);
        if !wanted {
            *self.0.changed.lock().unwrap_or_else(PoisonError::into_inner) = Changed::default();
        }
    }

    /// Wakes whoever waits in [`Hints::next`], with nothing.
    fn wake(&self) {
        self.0.wake.notify_one();
    }
}

/// A thing as it was told last.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Who may see it.
    pub(crate) scope: Arc<Scope>,
    /// JSON on one line.
    pub(crate) data: Arc<str>,
}

/// What there is now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Picture {
    /// Sessions.
    pub(crate) sessions: BTreeMap<SessionKey, Item>,
    /// Shells by session and id.
    pub(crate) shells: BTreeMap<(SessionKey, String), Item>,
    /// Runtimes.
    pub(crate) runtimes: BTreeMap<RuntimeId, Item>,
}

#[derive(Debug, Default)]
struct State {
    listeners: usize,
    /// Whether the task runs that keeps the picture.
    kept: bool,
    last_id: u64,
    picture: Picture,
}

/// The picture, its changes and who listens to them.
#[derive(Debug)]
pub(crate) struct Events {
    /// For whoever changes something.
    pub(crate) hints: Hints,
    state: Mutex<State>,
    sender: broadcast::Sender<Event>,
    /// Whether the picture is whole.
    ready: watch::Sender<bool>,
}

/// Somebody listens until this is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    events: Arc<Events>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut state = self.events.lock();
        state.listeners -= 1;
        if state.listeners == 0 {
            self.events.hints.wake();
        }
    }
}

impl Events {
    /// Nobody listens yet.
    pub(crate) fn new(hints: Hints) -> Self {
        Self {
            hints,
            state: Mutex::default(),
            sender: broadcast::Sender::new(BEHIND_MAX),
            ready: watch::Sender::new(false),
        }
    }

    /// Counts a listener. `true` beside it says that the caller must start the task that keeps the picture.
    pub(crate) fn listen(self: &Arc<Self>) -> (Listening, bool) {
        let mut state = self.lock();
        state.listeners += 1;
        let start = !std::mem::replace(&mut state.kept, true);
        if start {
            self.hints.want(true);
        }
        (Listening { events: Arc::clone(self) }, start)
    }

    /// Waits until the picture is whole, then gives it with all changes that come after it, and the id of the newest
    /// before.
    pub(crate) async fn picture(&self) -> (Picture, u64, broadcast::Receiver<Event>) {
        let mut ready = self.ready.subscribe();
        loop {
            // The sender lives as long as we do.
            let _ = ready.wait_for(|ready| *ready).await;
            let state = self.lock();
            if *self.ready.borrow() {
                return (state.picture.clone(), state.last_id, self.sender.subscribe());
            }
        }
    }

    /// The picture is whole.
    pub(crate) fn is_whole(&self) {
        self.ready.send_replace(true);
    }

    /// Whether the task that keeps the picture must end: nobody listens. Then there is no picture any more.
    pub(crate) fn is_over(&self) -> bool {
        let mut state = self.lock();
        if state.listeners > 0 {
            return false;
        }
        self.ready.send_replace(false);
        self.hints.want(false);
        state.kept = false;
        state.picture = Picture::default();
        true
    }

    /// A session as it is now; `None` when it is gone, with its shells.
    pub(crate) fn tell_session(&self, key: &SessionKey, item: Option<Item>, gone: impl Fn() -> Arc<str>) {
        let mut state = self.lock();
        let state = &mut *state;
        let shells = item.is_none().then(|| {
            let of_session = |it: &&(SessionKey, String)| it.0 == *key;
            state.picture.shells.keys().filter(of_session).cloned().collect::<Vec<_>>()
        });
        for shell in shells.into_iter().flatten() {
            if let Some(item) = state.picture.shells.remove(&shell) {
                let data = removed_shell(&gone(), &shell.1);
                self.send(&mut state.last_id, Topic::Shells, "shell-removed", Some(item.scope), data);
            }
        }
        let change = change(&mut state.picture.sessions, key, item);
        self.send_change(&mut state.last_id, Topic::Sessions, ["session", "session-removed"], change, gone);
    }

    /// The shells of a session as they are now.
    pub(crate) fn tell_shells(
        &self,
        key: &SessionKey,
        shells: BTreeMap<String, Arc<str>>,
        gone: impl Fn() -> Arc<str>,
    ) {
        let mut state = self.lock();
        let state = &mut *state;
        // Asked before the session was removed: the answer is of no use any more.
        if !state.picture.sessions.contains_key(key) {
            return;
        }
        let scope = Arc::new(Scope::of_session(key));
        let is_gone = |it: &&(SessionKey, String)| it.0 == *key && !shells.contains_key(&it.1);
        let ended: Vec<_> = state.picture.shells.keys().filter(is_gone).cloned().collect();
        let now = shells
            .into_iter()
            .map(|(id, data)| ((key.clone(), id), Some(Item { scope: Arc::clone(&scope), data })));
        for (shell, item) in ended.into_iter().map(|shell| (shell, None)).chain(now) {
            let change = change(&mut state.picture.shells, &shell, item);
            let gone = || removed_shell(&gone(), &shell.1);
            self.send_change(&mut state.last_id, Topic::Shells, ["shell", "shell-removed"], change, gone);
        }
    }

    /// All runtimes as they are now.
    pub(crate) fn tell_runtimes(
        &self,
        runtimes: BTreeMap<RuntimeId, Arc<str>>,
        gone: impl Fn(&RuntimeId) -> Arc<str>,
    ) {
        let mut state = self.lock();
        let state = &mut *state;
        let is_gone = |id: &&RuntimeId| !runtimes.contains_key(*id);
        let ended: Vec<_> = state.picture.runtimes.keys().filter(is_gone).cloned().collect();
        let now = runtimes.into_iter().map(|(id, data)| {
            let scope = Arc::new(Scope::of_runtime(&id));
            (id, Some(Item { scope, data }))
        });
        for (id, item) in ended.into_iter().map(|id| (id, None)).chain(now) {
            let change = change(&mut state.picture.runtimes, &id, item);
            let names = ["runtime", "runtime-removed"];
            self.send_change(&mut state.last_id, Topic::Runtimes, names, change, || gone(&id));
        }
    }

    /// A record was added to the audit trail.
    pub(crate) fn tell_audit(&self, record: &AuditRecord) {
        let mut state = self.lock();
        if state.listeners == 0 {
            return;
        }
        state.last_id += 1;
        let data = crate::audit::view(record).to_string().into();
        let (id, topic, name) = (state.last_id, Topic::Audit, "audit-record");
        let _ = self.sender.send(Event { id, topic, name, scope: None, data, record_id: record.id });
    }

    fn send_change(
        &self,
        last_id: &mut u64,
        topic: Topic,
        [changed, removed]: [&'static str; 2],
        change: Change,
        gone: impl FnOnce() -> Arc<str>,
    ) {
        match change {
            Change::None => {}
            Change::Now(item) => self.send(last_id, topic, changed, Some(item.scope), item.data),
            Change::Gone(item) => self.send(last_id, topic, removed, Some(item.scope), gone()),
        }
    }

    fn send(
        &self,
        last_id: &mut u64,
        topic: Topic,
        name: &'static str,
        scope: Option<Arc<Scope>>,
        data: Arc<str>,
    ) {
        *last_id += 1;
        // Nobody hears it while the picture is made for the first listener.
        let _ = self.sender.send(Event { id: *last_id, topic, name, scope, data, record_id: 0 });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Change {
    None,
    Now(Item),
    Gone(Item),
}

fn change<K: Ord + Clone>(all: &mut BTreeMap<K, Item>, key: &K, item: Option<Item>) -> Change {
    match item {
        None => all.remove(key).map_or(Change::None, Change::Gone),
        Some(item) if all.get(key).is_some_and(|known| known.data == item.data) => Change::None,
        Some(item) => {
            all.insert(key.clone(), item.clone());
            Change::Now(item)
        }
    }
}

/// `session`, a JSON object, with the id of one of its shells.
fn removed_shell(session: &str, shell_id: &str) -> Arc<str> {
    let id = serde_json::Value::from(shell_id).to_string();
    format!("{},\"shellId\":{id}}}", session.trim_end_matches('}')).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamshell_domain::{RuntimeName, SessionId, SystemEntropy};

    fn key(number: usize) -> SessionKey {
        SessionKey {
            runtime_id: RuntimeId::generate(&RuntimeName::parse("one").unwrap(), &SystemEntropy),
            endpoint: EndpointName::default_endpoint(),
            session_id: SessionId::parse(format!("session-{number:040}")).unwrap(),
        }
    }

    fn item(key: &SessionKey, data: &str) -> Option<Item> {
        Some(Item { scope: Arc::new(Scope::of_session(key)), data: data.into() })
    }

    fn gone() -> Arc<str> {
        "{\"sessionId\":\"s\"}".into()
    }

    fn drain(receiver: &mut broadcast::Receiver<Event>) -> Vec<(u64, &'static str, String)> {
        std::iter::from_fn(|| receiver.try_recv().ok())
            .map(|event| (event.id, event.name, event.data.to_string()))
            .collect()
    }

    #[tokio::test]
    async fn only_differences_are_told_and_the_picture_has_them_all() {
        let events = Arc::new(Events::new(Hints::default()));
        let (first, start) = events.listen();
        assert!(start);
        let (second, start) = events.listen();
        assert!(!start, "one task for all");
        let key = key(1);
        events.tell_session(&key, item(&key, "{\"a\":1}"), gone);
        events.is_whole();
        let (picture, id, mut changes) = events.picture().await;
        assert_eq!((picture.sessions.len(), id), (1, 1));
        events.tell_session(&key, item(&key, "{\"a\":1}"), gone);
        events.tell_session(&key, item(&key, "{\"a\":2}"), gone);
        let shells = |data: &str| BTreeMap::from([("build\"".to_owned(), Arc::from(data))]);
        events.tell_shells(&key, shells("{}"), gone);
        events.tell_shells(&key, shells("{}"), gone);
        events.tell_session(&key, None, gone);
        events.tell_session(&key, None, gone);
        // Asked before it was removed.
        events.tell_shells(&key, shells("{}"), gone);
        let expect = [
            (2, "session", "{\"a\":2}"),
            (3, "shell", "{}"),
            (4, "shell-removed", "{\"sessionId\":\"s\",\"shellId\":\"build\\\"\"}"),
            (5, "session-removed", "{\"sessionId\":\"s\"}"),
        ];
        assert_eq!(drain(&mut changes), expect.map(|(id, name, data)| (id, name, data.to_owned())));
        drop(first);
        assert!(!events.is_over());
        drop(second);
        assert!(events.is_over());
        let (_third, start) = events.listen();
        assert!(start, "after the end it starts anew");
    }

    #[tokio::test]
    async fn who_is_too_far_behind_is_told_so() {
        let events = Arc::new(Events::new(Hints::default()));
        let (_listening, _) = events.listen();
        events.is_whole();
        let (_, _, mut changes) = events.picture().await;
        let key = key(1);
        for number in 0..=BEHIND_MAX {
            events.tell_session(&key, item(&key, &number.to_string()), gone);
        }
        assert!(matches!(changes.try_recv(), Err(broadcast::error::TryRecvError::Lagged(1))));
        let (picture, _, mut changes) = events.picture().await;
        assert_eq!(&*picture.sessions[&key].data, BEHIND_MAX.to_string());
        assert_eq!(drain(&mut changes), []);
    }

    #[tokio::test]
    async fn hints_cost_nothing_while_nobody_listens() {
        let hints = Hints::default();
        hints.session(&key(1));
        assert!(hints.0.changed.lock().unwrap().sessions.is_empty());
        hints.want(true);
        let (one, two) = (key(1), key(2));
        hints.session(&one);
        hints.session(&one);
        hints.shells(&two);
        let changed = hints.next().await;
        assert_eq!(changed.sessions, HashSet::from([one]));
        assert_eq!(changed.shells, HashSet::from([two]));
    }
}
