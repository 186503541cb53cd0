//! One identity provider: its issuer and keys, fetched once for all who wait, and kept.
//!
//! What to do is decided by [`State::decide`], a pure function of time and what is known; the rest of
//! the file carries it out. Bounds: keys are trusted for five minutes, for an hour while the provider
//! does not answer; a failure is remembered for ten seconds; keys that nobody has heard of cause at
//! most four fetches at once and one per half minute after.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use clamshell_domain::Clock;
use serde::Deserialize;
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    fetch::{FetchError, Fetcher},
    keys::KeySet,
};

/// How long a revoked key still works at most while the provider is up.
const FRESH_MS: u64 = 5 * 60 * 1000;
/// How long a provider may be down before its users are.
const STALE_MS: u64 = 60 * 60 * 1000;
/// How long a failure answers for the next callers: short enough not to prolong an outage.
const NEGATIVE_MS: u64 = 10_000;
/// Fetches for unknown keys at once: a rotation needs one, a few tenants' rotations some.
const BUDGET_MAX: u64 = 4;
/// Time for one more of them.
const BUDGET_REFILL_MS: u64 = 30_000;
/// Issuers are URLs.
const ISSUER_BYTES_MAX: usize = 2048;

type Outcome = Result<Arc<Loaded>, FetchError>;
type Flight = watch::Receiver<Option<Outcome>>;

/// What a provider says about itself.
pub(super) struct Loaded {
    pub(super) issuer: String,
    pub(super) keys: KeySet,
    /// Counts the fetches, so that "newer than this" has a meaning.
    pub(super) generation: u64,
    fetched_ms: u64,
}

/// What a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Keys that are fresh enough.
    Any,
    /// Keys fetched after this generation, in which a token's key was not found.
    NewerThan(u64),
}

/// Carries out fetches apart from the callers, so that one who hangs up stops nobody else's.
pub(super) struct Fetches {
    pub(super) fetcher: Fetcher,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) tasks: TaskTracker,
    pub(super) cancel: CancellationToken,
}

/// One provider.
pub(super) struct Provider {
    discovery_url: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    loaded: Option<Arc<Loaded>>,
    /// The last fetch failed, then and so; cleared by a success.
    failed: Option<(u64, FetchError)>,
    flight: Option<Flight>,
    budget: Budget,
    generation: u64,
}

enum Step {
    /// Use these keys.
    Use(Arc<Loaded>),
    /// Use these keys, and fetch new ones meanwhile.
    UseAndFetch(Arc<Loaded>),
    Wait(Flight),
    Fetch,
    Fail(FetchError),
}

impl State {
    fn decide(&mut self, need: Need, now_ms: u64) -> Step {
        // A flight whose task is gone (it panicked) would be waited for forever.
        if self.flight.as_ref().is_some_and(|flight| flight.has_changed().is_err()) {
            self.flight = None;
        }
        let failure = self
            .failed
            .filter(|(at, _)| now_ms.checked_sub(*at).is_some_and(|age| age < NEGATIVE_MS))
            .map(|(_, error)| error);
        let aged = self.loaded.clone().map(|loaded| (now_ms.checked_sub(loaded.fetched_ms), loaded));
        match (need, aged) {
            // A clock that went backwards makes every age unknown: fetch anew.
            (Need::Any, Some((Some(age), loaded))) if age < FRESH_MS => Step::Use(loaded),
            (Need::Any, Some((Some(age), loaded))) if age < STALE_MS && self.failed.is_some() => {
                // The provider is down: its users must not wait for each attempt.
                if self.flight.is_some() || failure.is_some() {
                    Step::Use(loaded)
                } else {
                    Step::UseAndFetch(loaded)
                }
            }
            (Need::NewerThan(generation), Some((_, loaded))) if loaded.generation > generation => {
                Step::Use(loaded)
            }
            (need, aged) => match (&self.flight, failure) {
                (Some(flight), _) => Step::Wait(flight.clone()),
                (None, Some(error)) => Step::Fail(error),
                (None, None) => match (need, aged) {
                    (Need::NewerThan(_), Some((_, loaded))) if !self.budget.take(now_ms) => Step::Use(loaded),
                    _ => Step::Fetch,
                },
            },
        }
    }

    fn finish(&mut self, outcome: Result<(String, KeySet), FetchError>, now_ms: u64) -> Outcome {
        self.flight = None;
        match outcome {
            Ok((issuer, keys)) => {
                self.generation += 1;
                let loaded =
                    Arc::new(Loaded { issuer, keys, generation: self.generation, fetched_ms: now_ms });
                self.loaded = Some(Arc::clone(&loaded));
                self.failed = None;
                Ok(loaded)
            }
            Err(error) => {
                self.failed = Some((now_ms, error));
                Err(error)
            }
        }
    }

    /// Keys that may be used although newer ones could not be had.
    fn stale(&self, now_ms: u64) -> Option<Arc<Loaded>> {
        self.loaded
            .clone()
            .filter(|loaded| now_ms.checked_sub(loaded.fetched_ms).is_some_and(|age| age < STALE_MS))
    }
}

impl Provider {
    pub(super) fn new(discovery_url: String) -> Self {
        Self { discovery_url, state: Mutex::default() }
    }

    /// The provider's issuer and keys. Cancel-safe.
    pub(super) async fn get(self: &Arc<Self>, need: Need, fetches: &Arc<Fetches>) -> Outcome {
        let mut flight = {
            let mut state = self.lock();
            match state.decide(need, fetches.clock.now_ms()) {
                Step::Use(loaded) => return Ok(loaded),
                Step::Fail(error) => return Err(error),
                Step::Wait(flight) => flight,
                Step::UseAndFetch(loaded) => {
                    self.start(&mut state, fetches);
                    return Ok(loaded);
                }
                Step::Fetch => self.start(&mut state, fetches),
            }
        };
        let outcome = match flight.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(FetchError::Closed)),
            Err(_) => Err(FetchError::Closed),
        };
        match outcome {
            Err(error) if need == Need::Any => self.lock().stale(fetches.clock.now_ms()).ok_or(error),
            outcome => outcome,
        }
    }

    fn start(self: &Arc<Self>, state: &mut State, fetches: &Arc<Fetches>) -> Flight {
        let (sender, flight) = watch::channel(None);
        state.flight = Some(flight.clone());
        let (provider, shared) = (Arc::clone(self), Arc::clone(fetches));
        fetches.tasks.spawn(async move {
            let fetched = shared.cancel.run_until_cancelled(provider.fetch(&shared.fetcher)).await;
            let now_ms = shared.clock.now_ms();
            let outcome = provider.lock().finish(fetched.unwrap_or(Err(FetchError::Closed)), now_ms);
            sender.send_replace(Some(outcome));
        });
        flight
    }

    async fn fetch(&self, fetcher: &Fetcher) -> Result<(String, KeySet), FetchError> {
        let both = async {
            let discovery = Discovery::parse(&fetcher.get(&self.discovery_url).await?)?;
            let keys = KeySet::parse(&fetcher.get(&discovery.jwks_uri).await?).ok_or(FetchError::Document)?;
            Ok((discovery.issuer, keys))
        };
        timeout(fetcher.limits().total_timeout, both).await.map_err(|_| FetchError::Timeout)?
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Discovery {
    fn parse(bytes: &Bytes) -> Result<Self, FetchError> {
        let discovery: Self = serde_json::from_slice(bytes).map_err(|_| FetchError::Document)?;
        let ok = (1..=ISSUER_BYTES_MAX).contains(&discovery.issuer.len())
            && discovery.issuer.bytes().all(|byte| byte.is_ascii_graphic());
        if ok { Ok(discovery) } else { Err(FetchError::Document) }
    }
}

/// A token bucket.
struct Budget {
    left: u64,
    refilled_ms: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: BUDGET_MAX, refilled_ms: 0 }
    }
}

impl Budget {
    fn take(&mut self, now_ms: u64) -> bool {
        match now_ms.checked_sub(self.refilled_ms) {
            Some(age) => {
                let more = age / BUDGET_REFILL_MS;
                self.left = self.left.saturating_add(more).min(BUDGET_MAX);
                self.refilled_ms += more * BUDGET_REFILL_MS;
            }
            // The clock went backwards: count from here.
            None => self.refilled_ms = now_ms,
        }
        let ok = self.left > 0;
        self.left -= u64::from(ok);
        ok
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Result<(String, KeySet), FetchError> {
        Ok(("https://a.example".to_owned(), KeySet::parse(br#"{"keys":[]}"#).unwrap()))
    }

    #[derive(Debug, PartialEq)]
    enum Seen {
        Use(u64),
        UseAndFetch(u64),
        Wait,
        Fetch,
        Fail(FetchError),
    }

    fn check(state: &mut State, need: Need, now_ms: u64, expect: Seen) {
        let seen = match state.decide(need, now_ms) {
            Step::Use(loaded) => Seen::Use(loaded.generation),
            Step::UseAndFetch(loaded) => Seen::UseAndFetch(loaded.generation),
            Step::Wait(_) => Seen::Wait,
            Step::Fetch => Seen::Fetch,
            Step::Fail(error) => Seen::Fail(error),
        };
        assert_eq!(seen, expect, "{need:?} at {now_ms}");
    }

    #[test]
    fn keys_age_and_failures_are_remembered() {
        let mut state = State::default();
        let start = 1_000_000;
        check(&mut state, Need::Any, start, Seen::Fetch);
        let (sender, flight) = watch::channel(None);
        state.flight = Some(flight);
        check(&mut state, Need::Any, start, Seen::Wait);
        assert!(state.finish(Err(FetchError::Connect), start).is_err());
        check(&mut state, Need::Any, start + NEGATIVE_MS - 1, Seen::Fail(FetchError::Connect));
        check(&mut state, Need::Any, start + NEGATIVE_MS, Seen::Fetch);
        assert!(state.finish(keys(), start).is_ok());
        check(&mut state, Need::Any, start + FRESH_MS - 1, Seen::Use(1));
        check(&mut state, Need::Any, start + FRESH_MS, Seen::Fetch);
        // A clock that went backwards.
        check(&mut state, Need::Any, start - 1, Seen::Fetch);
        // The provider goes down: stale keys for an hour, an attempt every ten seconds.
        let down = start + FRESH_MS;
        assert!(state.finish(Err(FetchError::Timeout), down).is_err());
        check(&mut state, Need::Any, down + 1, Seen::Use(1));
        check(&mut state, Need::Any, down + NEGATIVE_MS, Seen::UseAndFetch(1));
        check(&mut state, Need::Any, start + STALE_MS, Seen::Fetch);
        assert!(state.stale(start + STALE_MS - 1).is_some());
        assert!(state.stale(start + STALE_MS).is_none());
        // A flight whose task vanished.
        state.flight = Some(sender.subscribe());
        check(&mut state, Need::Any, start + STALE_MS, Seen::Wait);
        drop(sender);
        check(&mut state, Need::Any, start + STALE_MS, Seen::Fetch);
    }

    #[test]
    fn unknown_keys_have_a_budget() {
        let mut state = State::default();
        let now = 10_000_000;
        assert!(state.finish(keys(), now).is_ok());
        for _ in 0..BUDGET_MAX {
            check(&mut state, Need::NewerThan(1), now, Seen::Fetch);
        }
        check(&mut state, Need::NewerThan(1), now, Seen::Use(1));
        check(&mut state, Need::NewerThan(0), now, Seen::Use(1));
        check(&mut state, Need::NewerThan(1), now + BUDGET_REFILL_MS, Seen::Fetch);
        check(&mut state, Need::NewerThan(1), now + BUDGET_REFILL_MS, Seen::Use(1));
        assert!(state.finish(Err(FetchError::Connect), now).is_err());
        check(&mut state, Need::NewerThan(1), now + 1, Seen::Fail(FetchError::Connect));
        check(&mut state, Need::Any, now + 1, Seen::Use(1));
    }
}
