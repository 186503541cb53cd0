//! Keeps the picture that listeners see, from hints and, for what nobody tells (use of CPU and memory, shells that end
//! inside of their sandbox, idle sessions), by looking every two seconds. One task for all listeners.

mod stream;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use clamshell_domain::{RuntimeId, SandboxStats, SessionKey};
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet};

pub(super) use stream::open;

use super::extension::{usage::add_stats, views};
use crate::{
    app::App,
    events::{Changed, Item, Scope},
    session::Session,
};

/// How often what nobody tells is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Sessions looked at at once: guests that do not answer hold up as many others.
const LOOKS_MAX: usize = 64;

/// What one look at a session found.
struct Look {
    session: Arc<Session>,
    usage: Option<SandboxStats>,
    /// `None` when its guest did not answer.
    shells: Option<BTreeMap<String, Arc<str>>>,
}

/// What the task remembers between two looks.
struct Keeper {
    app: Arc<App>,
    looks: JoinSet<Look>,
    room: Arc<Semaphore>,
    /// Sessions that are being looked at.
    busy: HashSet<SessionKey>,
    /// To be looked at once more after that.
    again: HashSet<SessionKey>,
    /// Use of running sessions, as seen last.
    usage: HashMap<SessionKey, SandboxStats>,
}

/// Keeps the picture while somebody listens.
pub(super) async fn keep(app: Arc<App>) {
    let (events, shutdown) = (Arc::clone(&app.events), app.shutdown.clone());
    let mut keeper = Keeper {
        app: Arc::clone(&app),
        looks: JoinSet::new(),
        room: Arc::new(Semaphore::new(LOOKS_MAX)),
        busy: HashSet::new(),
        again: HashSet::new(),
        usage: HashMap::new(),
    };
    // Before anything is read, so that no change falls in between.
    let mut changes = app.store.watch_changes();
    changes.mark_unchanged();
    let mut stale = !keeper.read_runtimes().await;
    for session in app.registry.list() {
        keeper.tell_session(session.key());
        keeper.look(&session);
    }
    while let Some(look) = keeper.looks.join_next().await {
        keeper.looked(look);
    }
    events.is_whole();
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = events.hints.next() => {
                if events.is_over() {
                    return;
                }
                keeper.follow(changed);
            }
            Ok(()) = changes.changed() => stale = true,
            Some(look) = keeper.looks.join_next(), if !keeper.looks.is_empty() => keeper.looked(look),
            _ = ticks.tick() => keeper.look_around(),
        }
        if stale {
            stale = !keeper.read_runtimes().await;
        }
    }
}

impl Keeper {
    fn follow(&mut self, changed: Changed) {
        for key in &changed.sessions {
            self.tell_session(key);
        }
        for key in changed.sessions.iter().chain(&changed.shells) {
            if let Some(session) = self.app.registry.get(key) {
                self.look(&session);
            }
        }
    }

    /// What runs may have changed by itself.
    fn look_around(&mut self) {
        for session in self.app.registry.list() {
            if session.compute().is_some() {
                self.look(&session);
            }
        }
    }

    fn look(&mut self, session: &Arc<Session>) {
        if !self.busy.insert(session.key().clone()) {
            self.again.insert(session.key().clone());
            return;
        }
        let (app, session, room) = (Arc::clone(&self.app), Arc::clone(session), Arc::clone(&self.room));
        self.looks.spawn(async move {
            // Never closed.
            let _turn = room.acquire_owned().await;
            let usage = session.look_at_use(app.registry.now_ms()).await;
            let shells = match session.shells().await {
                Ok(shells) => Some(
                    shells
                        .iter()
                        .map(|shell| {
                            let view = views::shell(&app, &session, shell);
                            (shell.info.shell_id.clone(), view.to_string().into())
                        })
                        .collect(),
                ),
                Err(error) => {
                    tracing::debug!(session = %session.key().session_id, %error, "shells cannot be listed");
                    None
                }
            };
            Look { session, usage, shells }
        });
    }

    fn looked(&mut self, look: Result<Look, tokio::task::JoinError>) {
        let Look { session, usage, shells } = match look {
            Ok(look) => look,
            Err(error) => {
                // Which one it was is not known; all are looked at again.
                tracing::error!(%error, "a look at a session broke off");
                self.busy.clear();
                return;
            }
        };
        let key = session.key();
        self.busy.remove(key);
        match usage {
            Some(usage) => drop(self.usage.insert(key.clone(), usage)),
            None => drop(self.usage.remove(key)),
        }
        self.tell_session(key);
        if let Some(shells) = shells {
            self.app.events.tell_shells(key, shells, || removed(&self.app, key));
        }
        if self.again.remove(key)
            && let Some(session) = self.app.registry.get(key)
        {
            self.look(&session);
        }
    }

    fn tell_session(&mut self, key: &SessionKey) {
        let item = self.app.registry.get(key).map(|session| {
            let mut view = views::session(&self.app, &session);
            if let Some(usage) = self.usage.get(key).filter(|_| session.compute().is_some()) {
                add_stats(&mut view["usage"], usage);
                view["usage"]["workspaceLimitBytes"] = json!(session.runtime().limits.workspace_bytes);
            }
            Item { scope: Arc::new(Scope::of_session(key)), data: view.to_string().into() }
        });
        if item.is_none() {
            self.usage.remove(key);
        }
        self.app.events.tell_session(key, item, || removed(&self.app, key));
    }

    /// Whether they could be read.
    async fn read_runtimes(&self) -> bool {
        let records = match self.app.store.list_runtime_versions().await {
            Ok(records) => records,
            Err(error) => {
                tracing::warn!(error = super::chain(&error), "runtimes cannot be listed");
                return false;
            }
        };
        let runtimes = records
            .iter()
            .map(|record| {
                let data = super::runtimes::summary(&self.app, record).to_string().into();
                (record.runtime.runtime_id.clone(), data)
            })
            .collect();
        self.app.events.tell_runtimes(runtimes, |id: &RuntimeId| {
            json!({ "agentRuntimeArn": self.app.runtime_arn(id).to_string(), "agentRuntimeId": id })
                .to_string()
                .into()
        });
        true
    }
}

fn removed(app: &App, key: &SessionKey) -> Arc<str> {
    json!({
        "runtimeArn": app.runtime_arn(&key.runtime_id).to_string(),
        "qualifier": key.endpoint,
        "sessionId": key.session_id,
    })
    .to_string()
    .into()
}
