//! Adds up what sessions use, for their cost: looks at their counters from time to time, and writes the sums down.
//!
//! What anybody is told are sums that are stored, so that a server that is killed takes nothing back. It loses no CPU time,
//! which the kernel goes on counting, and the memory of the time since its last look, at most [`QUIET_MS`]. A machine that
//! goes down takes the CPU time since then with it, too.

use std::{sync::Arc, time::Duration};

use clamshell_domain::{SandboxStats, SessionUsage, StorageId};

use super::{Registry, Session};

/// How often it is asked who is due.
const TICK: Duration = Duration::from_secs(5);

/// Sessions in use are looked at so often: what a program takes and gives back in between is not seen.
const BUSY_MS: u64 = 10_000;

/// And the others so often: a look is three small files, which for a thousand idle sessions must not add up to anything.
const QUIET_MS: u64 = 60_000;

/// Activity, or more CPU time than an idle sandbox takes, within this long means that a session is in use.
const IN_USE_MS: u64 = 30_000;

/// Share of one processor, in thousandths, from which on a session is in use whatever its calls.
const IN_USE_CPU_MILLIS: u64 = 10;

/// Looks between two turns of other tasks: a look blocks for some tens of microseconds.
const LOOKS_AT_ONCE: usize = 16;

/// Whoever asks for one session is told sums that are at most so old.
const FRESH_MS: u64 = 1_000;

/// When a session was accounted for, and when it will be again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    at_ms: u64,
    every_ms: u64,
}

impl Account {
    /// Nothing has been used yet.
    pub(super) fn opened(now_ms: u64) -> Self {
        Self { at_ms: now_ms, every_ms: BUSY_MS }
    }

    /// The next one, after `used_us` of CPU time.
    fn next(self, now_ms: u64, used_us: u64) -> Self {
        let within_ms = now_ms.saturating_sub(self.at_ms).max(1);
        let busy = used_us >= within_ms.saturating_mul(IN_USE_CPU_MILLIS);
        Self { at_ms: now_ms, every_ms: if busy { BUSY_MS } else { QUIET_MS } }
    }

    fn is_due(self, now_ms: u64, active: bool) -> bool {
        let every_ms = if active { BUSY_MS } else { self.every_ms };
        // A clock that was set back must not stop it.
        now_ms.abs_diff(self.at_ms) >= every_ms
    }
}

impl Session {
    /// Looks at what the compute uses and adds it up. `None` when there is no compute.
    pub(crate) async fn look_at_use(&self, now_ms: u64) -> Option<SandboxStats> {
        let (compute, generation) = {
            let state = self.lock();
            (state.compute.clone()?, state.generation)
        };
        let stats = self.driver.stats(&compute.sandbox).await;
        let mut state = self.lock();
        // What was read of an old compute would be counted for the new one.
        if state.generation == generation && state.compute.is_some() {
            state.meter.sample(now_ms, &stats);
        }
        Some(stats)
    }

    /// What it has used in all, as it is stored.
    pub(crate) fn usage(&self) -> SessionUsage {
        self.lock().told_usage
    }

    /// Whether it is time to look, or something waits to be written.
    fn is_due(&self, now_ms: u64) -> bool {
        let state = self.lock();
        if state.compute.is_none() {
            return state.meter.usage() != state.stored_usage;
        }
        let active = state.lifecycle.calls() > 0
            || now_ms < state.lifecycle.last_activity_ms().saturating_add(IN_USE_MS);
        state.account.is_due(now_ms, active)
    }
}

impl Registry {
    /// Runs until the server shuts down, then accounts for everything once more.
    pub(super) async fn keep_accounts(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let over = tokio::select! {
                _ = ticks.tick() => false,
                () = self.shutdown.cancelled() => true,
            };
            let mut due = self.list_unordered();
            due.retain(|session| over || session.is_due(self.now_ms()));
            for group in due.chunks(LOOKS_AT_ONCE) {
                for session in group {
                    session.look_at_use(self.now_ms()).await;
                }
                tokio::task::yield_now().await;
            }
            self.write_usages(&due).await;
            if over {
                return;
            }
        }
    }

    /// Looks at a session and writes its sums down, for whoever is about to be told. `None` when it has no compute.
    pub(crate) async fn account_for(&self, session: &Arc<Session>) -> Option<SandboxStats> {
        let stats = session.look_at_use(self.now_ms()).await?;
        let is_stale = {
            let state = session.lock();
            let gaps = |usage: SessionUsage| (usage.cpu_missing, usage.memory_missing);
            // That nothing counts it must not look like nothing used, not even for a second.
            gaps(state.meter.told()) != gaps(state.told_usage)
                || self.now_ms().abs_diff(state.account.at_ms) >= FRESH_MS
        };
        if is_stale {
            self.write_usages(std::slice::from_ref(session)).await;
        }
        Some(stats)
    }

    /// Writes down what has changed. A failure is logged, and mended by the next time.
    async fn write_usages(&self, sessions: &[Arc<Session>]) {
        // One at a time, from the look at the sums until they are stored: none is overwritten by an older one.
        let _turn = self.accounts.lock().await;
        let meters: Vec<_> = sessions.iter().map(|session| session.lock().meter.clone()).collect();
        let mut rows: Vec<(StorageId, SessionUsage)> = Vec::new();
        for (session, meter) in sessions.iter().zip(&meters) {
            let state = session.lock();
            if state.stored_usage != meter.usage() {
                rows.push((state.record.storage_id.clone(), meter.usage()));
            }
        }
        if let Err(error) = self.store.write_session_usages(&rows).await {
            tracing::warn!(%error, "the use of sessions could not be written");
            return;
        }
        let now_ms = self.now_ms();
        for (session, meter) in sessions.iter().zip(&meters) {
            let is_news = {
                let mut state = session.lock();
                let used_us = meter.usage().cpu_us.saturating_sub(state.stored_usage.cpu_us);
                state.account = state.account.next(now_ms, used_us);
                state.stored_usage = meter.usage();
                // Where the counter of the present compute stands is nobody's business.
                let told = SessionUsage { cpu_seen_us: 0, ..meter.told() };
                std::mem::replace(&mut state.told_usage, told) != told
            };
            if is_news {
                session.hints.session(&session.key);
            }
        }
    }

    /// The compute of a session has ended.
    pub(super) async fn account_for_end(&self, session: &Arc<Session>, cpu_usage_us: Option<u64>) {
        session.lock().meter.ends(self.now_ms(), cpu_usage_us);
        self.write_usages(std::slice::from_ref(session)).await;
    }

    /// The compute of a session has ended while no server ran.
    pub(super) async fn account_for_loss(&self, session: &Arc<Session>, cpu_usage_us: Option<u64>) {
        {
            let mut state = session.lock();
            state.meter.was_lost(cpu_usage_us);
        }
        self.write_usages(std::slice::from_ref(session)).await;
    }
}
