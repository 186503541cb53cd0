//! Who guesses passwords waits. Networks that wait are stored, so that a restart lets nobody guess on; of the others and of
//! names there is a count in memory alone. What is stored is bounded by how fast all together may fail.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use clamshell_store::LockoutRecord;

use super::rate::Bucket;

/// Failures before anybody waits: people mistype.
const FREE_FAILURES: u32 = 5;

/// The first wait; each failure after it doubles it.
const FIRST_WAIT_MS: u64 = 30_000;

/// The longest one.
const WAIT_MS_MAX: u64 = 15 * 60_000;

/// Failures are forgotten after so long without another one.
pub(crate) const FORGET_MS: u64 = 60 * 60_000;

/// Counters at once; some MB. When there are more, those that failed longest ago are forgotten.
const COUNTERS_MAX: usize = 10_000;

/// Failures of all together, at once and then one a second: a thousand addresses guess no faster than this.
const ALL_FAILURES: u64 = 60;
const ALL_REFILL_MS: u64 = 1000;

/// Characters of a name that are told apart: more than names have.
const NAME_CHARS_MAX: usize = 128;

/// Whom an attempt is counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Counted {
    Source(IpAddr),
    UserFrom(String, IpAddr),
}

/// All counters.
#[derive(Debug)]
pub(crate) struct Lockout(Mutex<State>);

#[derive(Debug)]
struct State {
    counters: HashMap<Counted, Counter>,
    /// Failures of all.
    all: Bucket,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counter {
    failures: u32,
    failed_at_ms: u64,
    locked_until_ms: u64,
}

/// An attempt that may go on. It counts as failed from the start, so that many at the same time gain nothing.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    lockout: &'a Lockout,
    user: Counted,
    source: IpAddr,
    /// What must be stored before the attempt goes on: where it comes from waits after it.
    pub(crate) waits: Option<LockoutRecord>,
}

impl Default for Lockout {
    fn default() -> Self {
        let all = Bucket::new(ALL_FAILURES, ALL_REFILL_MS);
        Self(Mutex::new(State { counters: HashMap::new(), all }))
    }
}

impl Lockout {
    /// Takes up who waited in an earlier process.
    pub(crate) fn load(stored: Vec<LockoutRecord>, now_ms: u64) -> Self {
        let counters = stored.into_iter().take(COUNTERS_MAX).filter_map(|record| {
            let counter = Counter {
                failures: record.failures,
                // The clock may have gone back since: nobody waits for longer because of that.
                failed_at_ms: record.failed_at_ms.min(now_ms),
                locked_until_ms: record.locked_until_ms.min(now_ms.saturating_add(WAIT_MS_MAX)),
            };
            Some((Counted::Source(record.source.parse().ok()?), counter))
        });
        let lockout = Self::default();
        lockout.lock().counters = counters.collect();
        lockout
    }

    /// Begins an attempt to sign in as a user.
    ///
    /// # Errors
    /// Milliseconds to wait.
    pub(crate) fn begin(&self, user: &str, source: IpAddr, now_ms: u64) -> Result<Attempt<'_>, u64> {
        let source = network(source);
        let user = Counted::UserFrom(user.chars().take(NAME_CHARS_MAX).collect(), source);
        let keys = [&user, &Counted::Source(source)];
        let mut state = self.lock();
        let wait =
            keys.iter().filter_map(|key| state.counters.get(*key)?.locked_until_ms.checked_sub(now_ms));
        if let Some(wait) = wait.max().filter(|wait| *wait > 0) {
            return Err(wait);
        }
        state.all.take(now_ms)?;
        for key in keys {
            state.count(key.clone(), now_ms);
        }
        let waits = state.record(source).filter(|record| record.failures >= FREE_FAILURES);
        drop(state);
        Ok(Attempt { lockout: self, user, source, waits })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// It was no guess: the user starts anew here, and the source has one failure less. Gives what must be stored in place of
    /// what was.
    pub(crate) fn succeeded(self) -> Option<LockoutRecord> {
        let mut state = self.lockout.lock();
        state.counters.remove(&self.user);
        if let Some(counter) = state.counters.get_mut(&Counted::Source(self.source)) {
            counter.failures = counter.failures.saturating_sub(1);
            counter.locked_until_ms = 0;
        }
        state.all.give_back();
        self.waits.and_then(|_| state.record(self.source))
    }
}

impl State {
    fn record(&self, source: IpAddr) -> Option<LockoutRecord> {
        let counter = self.counters.get(&Counted::Source(source))?;
        Some(LockoutRecord {
            source: source.to_string(),
            failures: counter.failures,
            failed_at_ms: counter.failed_at_ms,
            locked_until_ms: counter.locked_until_ms,
        })
    }

    fn count(&mut self, key: Counted, now_ms: u64) {
        if self.counters.len() >= COUNTERS_MAX && !self.counters.contains_key(&key) {
            self.make_room(now_ms);
        }
        let counter = self.counters.entry(key).or_default();
        if counter.failed_at_ms.saturating_add(FORGET_MS) <= now_ms {
            counter.failures = 0;
        }
        counter.failures = counter.failures.saturating_add(1);
        counter.failed_at_ms = now_ms;
        if let Some(doublings) = counter.failures.checked_sub(FREE_FAILURES) {
            let wait = FIRST_WAIT_MS.checked_shl(doublings.min(16)).unwrap_or(WAIT_MS_MAX);
            counter.locked_until_ms = now_ms.saturating_add(wait.min(WAIT_MS_MAX));
        }
    }

    fn make_room(&mut self, now_ms: u64) {
        self.counters.retain(|_, counter| now_ms < counter.failed_at_ms.saturating_add(FORGET_MS));
        if self.counters.len() < COUNTERS_MAX {
            return;
        }
        let mut times: Vec<u64> = self.counters.values().map(|counter| counter.failed_at_ms).collect();
        // A tenth at once, so that it is seldom done.
        let (_, last, _) = times.select_nth_unstable(COUNTERS_MAX / 10);
        let last = *last;
        self.counters.retain(|_, counter| counter.failed_at_ms > last);
    }
}

/// An address, or the network that one customer of IPv6 has at least.
pub(super) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "192.0.2.1";

    fn try_at(lockout: &Lockout, user: &str, source: &str, now_ms: u64) -> Result<(), u64> {
        lockout.begin(user, source.parse().unwrap(), now_ms).map(|_| ())
    }

    #[test]
    fn waits_double_up_to_a_quarter_of_an_hour() {
        let lockout = Lockout::default();
        let mut now = 1_000_000;
        for _ in 0..FREE_FAILURES {
            assert_eq!(try_at(&lockout, "ci", HOME, now), Ok(()));
        }
        for wait in [30_000, 60_000, 120_000, 240_000, 480_000, 900_000, 900_000] {
            assert_eq!(try_at(&lockout, "ci", HOME, now), Err(wait));
            assert_eq!(try_at(&lockout, "ci", HOME, now + wait - 1), Err(1), "asking counts nothing");
            now += wait;
            assert_eq!(try_at(&lockout, "ci", HOME, now), Ok(()));
        }
        now += FORGET_MS;
        for _ in 0..FREE_FAILURES {
            assert_eq!(try_at(&lockout, "ci", HOME, now), Ok(()), "forgotten");
        }
    }

    #[test]
    fn a_source_waits_for_all_its_names_and_nobody_else_does() {
        let lockout = Lockout::default();
        for user in ["a", "b", "c", "d", "e"] {
            assert_eq!(try_at(&lockout, user, HOME, 0), Ok(()));
        }
        assert_eq!(try_at(&lockout, "f", HOME, 0), Err(FIRST_WAIT_MS));
        assert_eq!(try_at(&lockout, "a", "192.0.2.2", 0), Ok(()));
        for address in 0..5 {
            assert_eq!(try_at(&lockout, &address.to_string(), &format!("2001:db8::{address}"), 0), Ok(()));
        }
        assert!(try_at(&lockout, "a", "2001:db8::ffff:1", 0).is_err());
        assert_eq!(try_at(&lockout, "a", "2001:db8:0:1::1", 0), Ok(()));
    }

    #[test]
    fn who_signs_in_starts_anew() {
        let lockout = Lockout::default();
        let home: IpAddr = HOME.parse().unwrap();
        for _ in 0..4 {
            assert_eq!(try_at(&lockout, "ci", HOME, 0), Ok(()));
        }
        lockout.begin("ci", home, 0).unwrap().succeeded();
        assert!(!lockout.0.lock().unwrap().counters.contains_key(&Counted::UserFrom("ci".to_owned(), home)));
        // The source keeps the four: with a password of one's own nobody guesses that of another for longer.
        assert_eq!(try_at(&lockout, "root", HOME, 0), Ok(()));
        assert_eq!(try_at(&lockout, "root", HOME, 0), Err(FIRST_WAIT_MS));
    }

    #[test]
    fn all_together_are_held_up() {
        let lockout = Lockout::default();
        for number in 0..ALL_FAILURES {
            assert_eq!(try_at(&lockout, "ci", &format!("192.0.2.{number}"), 5000), Ok(()));
        }
        assert_eq!(try_at(&lockout, "ci", "198.51.100.1", 5000), Err(ALL_REFILL_MS));
        assert_eq!(try_at(&lockout, "ci", "198.51.100.1", 6000), Ok(()));
        assert_eq!(try_at(&lockout, "ci", "198.51.100.1", 6000), Err(ALL_REFILL_MS));
    }

    #[test]
    fn counters_are_bounded() {
        let lockout = Lockout::default();
        for number in 0..u32::try_from(COUNTERS_MAX).unwrap() + 500 {
            let source = std::net::Ipv4Addr::from(number).into();
            assert!(lockout.begin("ci", source, u64::from(number) * ALL_REFILL_MS).is_ok());
        }
        let counters = lockout.0.lock().unwrap().counters.len();
        assert!((COUNTERS_MAX * 8 / 10..=COUNTERS_MAX).contains(&counters), "{counters}");
    }

    #[test]
    fn a_restart_forgets_nobody_who_waits() {
        let lockout = Lockout::default();
        let (home, now) = (HOME.parse().unwrap(), 1_000_000);
        let waits = |failures: u32, locked_until_ms: u64| LockoutRecord {
            source: HOME.to_owned(),
            failures,
            failed_at_ms: now,
            locked_until_ms,
        };
        for _ in 1..FREE_FAILURES {
            assert_eq!(lockout.begin("ci", home, now).unwrap().waits, None, "people mistype without a trace");
        }
        let fifth = lockout.begin("ci", home, now).unwrap();
        assert_eq!(fifth.waits, Some(waits(5, now + FIRST_WAIT_MS)));
        let again = Lockout::load(fifth.waits.into_iter().collect(), now + 1000);
        assert_eq!(try_at(&again, "root", HOME, now + 1000), Err(FIRST_WAIT_MS - 1000));
        let later = now + FIRST_WAIT_MS;
        let sixth = again.begin("root", home, later).unwrap();
        assert_eq!(sixth.waits.as_ref().unwrap().failures, 6);
        let success = LockoutRecord { failed_at_ms: later, ..waits(5, 0) };
        assert_eq!(sixth.succeeded(), Some(success));
        // A clock that was set back holds up nobody for longer, and what is no address nobody at all.
        let odd = LockoutRecord { source: "x".to_owned(), ..waits(9, now) };
        let back = Lockout::load(vec![waits(9, now + WAIT_MS_MAX), odd], 5);
        assert_eq!(try_at(&back, "ci", HOME, 5), Err(WAIT_MS_MAX));
    }
}
