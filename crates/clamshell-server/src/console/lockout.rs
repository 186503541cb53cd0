//! Who guesses passwords waits. Counted in memory and not in the store: a stranger must not make this server write to its
//! disk, and cannot start it anew to be forgotten.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

/// Failures before anybody waits: people mistype.
const FREE_FAILURES: u32 = 5;

/// The first wait; each failure after it doubles it.
const FIRST_WAIT_MS: u64 = 30_000;

/// The longest one.
const WAIT_MS_MAX: u64 = 15 * 60_000;

/// Failures are forgotten after so long without another one.
const FORGET_MS: u64 = 60 * 60_000;

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
#[derive(Debug, Default)]
pub(crate) struct Lockout(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    counters: HashMap<Counted, Counter>,
    /// Failures of all that count now, each of them until it is refilled.
    all: u64,
    refilled_at_ms: u64,
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
    user: Option<Counted>,
    source: Counted,
    /// It took one of the failures that all have together.
    pub(crate) counts_for_all: bool,
}

impl Lockout {
    /// Begins an attempt to sign in as a user, or, without a name, with a link, which nobody can guess and which therefore is
    /// not held up by what others do.
    ///
    /// # Errors
    /// Milliseconds to wait.
    pub(crate) fn begin(&self, user: Option<&str>, source: IpAddr, now_ms: u64) -> Result<Attempt<'_>, u64> {
        let net = network(source);
        let source = Counted::Source(net);
        let user = user.map(|name| Counted::UserFrom(name.chars().take(NAME_CHARS_MAX).collect(), net));
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<&Counted> = user.iter().chain([&source]).collect();
        let wait =
            keys.iter().filter_map(|key| state.counters.get(*key)?.locked_until_ms.checked_sub(now_ms));
        if let Some(wait) = wait.max().filter(|wait| *wait > 0) {
            return Err(wait);
        }
        let counts_for_all = match state.take(now_ms) {
            Err(wait) if user.is_some() => return Err(wait),
            taken => taken.is_ok(),
        };
        for key in keys {
            state.count(key.clone(), now_ms);
        }
        drop(state);
        Ok(Attempt { lockout: self, user, source, counts_for_all })
    }
}

impl Attempt<'_> {
    /// It was no guess: the user starts anew here, and the source has one failure less.
    pub(crate) fn succeeded(self) {
        let mut state = self.lockout.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(user) = &self.user {
            state.counters.remove(user);
        }
        if let Some(counter) = state.counters.get_mut(&self.source) {
            counter.failures = counter.failures.saturating_sub(1);
            counter.locked_until_ms = 0;
        }
        if self.counts_for_all {
            state.all = state.all.saturating_sub(1);
        }
    }
}

impl State {
    fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        match now_ms.checked_sub(self.refilled_at_ms) {
            Some(age) => {
                let more = age / ALL_REFILL_MS;
                self.all = self.all.saturating_sub(more);
                self.refilled_at_ms = self.refilled_at_ms.saturating_add(more * ALL_REFILL_MS);
            }
            // The clock went backwards: count from here.
            None => self.refilled_at_ms = now_ms,
        }
        if self.all >= ALL_FAILURES {
            return Err(ALL_REFILL_MS);
        }
        self.all += 1;
        Ok(())
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
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "192.0.2.1";

    fn try_at(lockout: &Lockout, user: Option<&str>, source: &str, now_ms: u64) -> Result<(), u64> {
        lockout.begin(user, source.parse().unwrap(), now_ms).map(|_| ())
    }

    #[test]
    fn waits_double_up_to_a_quarter_of_an_hour() {
        let lockout = Lockout::default();
        let mut now = 1_000_000;
        for _ in 0..FREE_FAILURES {
            assert_eq!(try_at(&lockout, Some("ci"), HOME, now), Ok(()));
        }
        for wait in [30_000, 60_000, 120_000, 240_000, 480_000, 900_000, 900_000] {
            assert_eq!(try_at(&lockout, Some("ci"), HOME, now), Err(wait));
            assert_eq!(try_at(&lockout, Some("ci"), HOME, now + wait - 1), Err(1), "asking counts nothing");
            now += wait;
            assert_eq!(try_at(&lockout, Some("ci"), HOME, now), Ok(()));
        }
        now += FORGET_MS;
        for _ in 0..FREE_FAILURES {
            assert_eq!(try_at(&lockout, Some("ci"), HOME, now), Ok(()), "forgotten");
        }
    }

    #[test]
    fn a_source_waits_for_all_its_names_and_nobody_else_does() {
        let lockout = Lockout::default();
        for user in ["a", "b", "c", "d", "e"] {
            assert_eq!(try_at(&lockout, Some(user), HOME, 0), Ok(()));
        }
        assert_eq!(try_at(&lockout, Some("f"), HOME, 0), Err(FIRST_WAIT_MS));
        assert_eq!(try_at(&lockout, None, HOME, 0), Err(FIRST_WAIT_MS), "links as well");
        assert_eq!(try_at(&lockout, Some("a"), "192.0.2.2", 0), Ok(()));
        for address in 0..5 {
            assert_eq!(try_at(&lockout, None, &format!("2001:db8::{address}"), 0), Ok(()));
        }
        assert!(try_at(&lockout, None, "2001:db8::ffff:1", 0).is_err());
        assert_eq!(try_at(&lockout, None, "2001:db8:0:1::1", 0), Ok(()));
    }

    #[test]
    fn who_signs_in_starts_anew() {
        let lockout = Lockout::default();
        let home: IpAddr = HOME.parse().unwrap();
        for _ in 0..4 {
            assert_eq!(try_at(&lockout, Some("ci"), HOME, 0), Ok(()));
        }
        lockout.begin(Some("ci"), home, 0).unwrap().succeeded();
        assert!(!lockout.0.lock().unwrap().counters.contains_key(&Counted::UserFrom("ci".to_owned(), home)));
        // The source keeps the four: with a password of one's own nobody guesses that of another for longer.
        assert_eq!(try_at(&lockout, Some("root"), HOME, 0), Ok(()));
        assert_eq!(try_at(&lockout, Some("root"), HOME, 0), Err(FIRST_WAIT_MS));
    }

    #[test]
    fn all_together_are_held_up_but_links_are_not() {
        let lockout = Lockout::default();
        for number in 0..ALL_FAILURES {
            assert_eq!(try_at(&lockout, Some("ci"), &format!("192.0.2.{number}"), 5000), Ok(()));
        }
        assert_eq!(try_at(&lockout, Some("ci"), "198.51.100.1", 5000), Err(ALL_REFILL_MS));
        assert_eq!(try_at(&lockout, None, "198.51.100.1", 5000), Ok(()));
        assert_eq!(try_at(&lockout, Some("ci"), "198.51.100.1", 6000), Ok(()));
        assert_eq!(try_at(&lockout, Some("ci"), "198.51.100.1", 6000), Err(ALL_REFILL_MS));
    }

    #[test]
    fn counters_are_bounded() {
        let lockout = Lockout::default();
        for number in 0..u32::try_from(COUNTERS_MAX).unwrap() + 500 {
            let source = std::net::Ipv4Addr::from(number).into();
            assert!(lockout.begin(None, source, u64::from(number)).is_ok());
        }
        let counters = lockout.0.lock().unwrap().counters.len();
        assert!((COUNTERS_MAX * 8 / 10..=COUNTERS_MAX).contains(&counters), "{counters}");
    }
}
