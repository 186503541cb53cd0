//! How often something may be done: some times at once, and then as often as time gives one back. Nobody is locked out by it
//! for longer than that.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use super::lockout::network;

/// Networks that are told apart. When there are more, those that have all of theirs back are forgotten, or else all: they
/// would have them back soon anyway.
const SOURCES_MAX: usize = 10_000;

/// What is taken of a number that time gives back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    most: u64,
    refill_ms: u64,
    taken: u64,
    refilled_at_ms: u64,
}

impl Bucket {
    /// `most` at once, and one more each `refill_ms`, which is not zero.
    pub(super) const fn new(most: u64, refill_ms: u64) -> Self {
        Self { most, refill_ms, taken: 0, refilled_at_ms: 0 }
    }

    /// Takes one.
    ///
    /// # Errors
    /// Milliseconds until there is one.
    pub(super) fn take(&mut self, now_ms: u64) -> Result<(), u64> {
        self.refill(now_ms);
        if self.taken >= self.most {
            return Err(self.refilled_at_ms.saturating_add(self.refill_ms).saturating_sub(now_ms).max(1));
        }
        self.taken += 1;
        Ok(())
    }

    /// Gives one back.
    pub(super) fn give_back(&mut self) {
        self.taken = self.taken.saturating_sub(1);
    }

    fn refill(&mut self, now_ms: u64) {
        match now_ms.checked_sub(self.refilled_at_ms) {
            Some(age) => {
                let more = age / self.refill_ms;
                self.taken = self.taken.saturating_sub(more);
                self.refilled_at_ms = self.refilled_at_ms.saturating_add(more * self.refill_ms);
            }
            // The clock went backwards: count from here.
            None => self.refilled_at_ms = now_ms,
        }
    }
}

/// One bucket for all.
#[derive(Debug)]
pub(crate) struct Rate(Mutex<Bucket>);

impl Rate {
    pub(super) const fn new(most: u64, refill_ms: u64) -> Self {
        Self(Mutex::new(Bucket::new(most, refill_ms)))
    }

    /// Whether one more is fine.
    pub(crate) fn allows(&self, now_ms: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(now_ms).is_ok()
    }
}

/// A bucket for each network.
#[derive(Debug)]
pub(crate) struct Rates {
    each: Bucket,
    all: Mutex<HashMap<IpAddr, Bucket>>,
}

impl Rates {
    pub(super) fn new(most: u64, refill_ms: u64) -> Self {
        Self { each: Bucket::new(most, refill_ms), all: Mutex::default() }
    }

    /// Takes one of the source's.
    ///
    /// # Errors
    /// Milliseconds to wait.
    pub(crate) fn take(&self, source: IpAddr, now_ms: u64) -> Result<(), u64> {
        let source = network(source);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SOURCES_MAX && !all.contains_key(&source) {
            all.retain(|_, bucket| {
                bucket.refill(now_ms);
                bucket.taken > 0
            });
            if all.len() >= SOURCES_MAX {
                all.clear();
            }
        }
        all.entry(source).or_insert(self.each).take(now_ms)
    }

    /// Gives it back.
    pub(crate) fn give_back(&self, source: IpAddr) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = all.get_mut(&network(source)) {
            bucket.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_gives_back_one_after_the_other() {
        let mut bucket = Bucket::new(2, 100);
        assert_eq!([bucket.take(1050), bucket.take(1050), bucket.take(1050)], [Ok(()), Ok(()), Err(50)]);
        assert_eq!([bucket.take(1099), bucket.take(1100), bucket.take(1100)], [Err(1), Ok(()), Err(100)]);
        bucket.give_back();
        assert_eq!([bucket.take(1100), bucket.take(1100)], [Ok(()), Err(100)]);
        // The clock goes backwards, and then far on.
        assert_eq!([bucket.take(10), bucket.take(110), bucket.take(110)], [Err(100), Ok(()), Err(100)]);
        assert_eq!([bucket.take(u64::MAX), bucket.take(u64::MAX)], [Ok(()), Ok(())]);
    }

    #[test]
    fn each_network_has_its_own_and_there_are_so_many() {
        let rates = Rates::new(1, 1000);
        let at = |address: &str| address.parse().unwrap();
        assert_eq!(rates.take(at("2001:db8::1"), 5000), Ok(()));
        assert_eq!(rates.take(at("2001:db8::2"), 5000), Err(1000));
        assert_eq!(rates.take(at("2001:db8:0:1::"), 5000), Ok(()));
        rates.give_back(at("2001:db8::3"));
        assert_eq!(rates.take(at("2001:db8::2"), 5000), Ok(()));
        for number in 0..u32::try_from(SOURCES_MAX).unwrap() * 2 {
            assert_eq!(rates.take(std::net::Ipv4Addr::from(number).into(), 5000), Ok(()));
        }
        assert!(rates.all.lock().unwrap().len() <= SOURCES_MAX);
    }
}
