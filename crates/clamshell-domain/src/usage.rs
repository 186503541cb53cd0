//! What a session has used in all, over every compute it had: CPU time and memory times time.
//!
//! CPU time comes from a counter that starts at nothing with each compute and only grows, so the sum does not depend on
//! how often it is looked at. Memory has no such counter: between two looks it is taken for the mean of both. A sum whose
//! counter could not be read in some compute is not known from then on, rather than too small.

use crate::SandboxStats;

/// Longest stretch between two looks that memory is counted for. Looks are a minute apart at most; when more time seems to
/// have passed, the machine slept or its clock was set.
const STRETCH_MS_MAX: u64 = 120_000;

/// What is known of a session's use, as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionUsage {
    /// Use is counted from here on, milliseconds since 1970; `None`: not yet.
    pub since_ms: Option<u64>,
    /// CPU time of all computes, microseconds.
    pub cpu_us: u64,
    /// How much of the present compute's counter is in that sum.
    pub cpu_seen_us: u64,
    /// Memory times time of all computes, KiB times milliseconds.
    pub memory_kib_ms: u64,
    /// The CPU time of some compute could not be counted.
    pub cpu_missing: bool,
    /// The memory of some compute could not be counted.
    pub memory_missing: bool,
}

impl SessionUsage {
    /// Of a session that is made now.
    pub fn new(now_ms: u64) -> Self {
        Self { since_ms: Some(now_ms), ..Self::default() }
    }

    /// CPU time in seconds; `None` when it is not known.
    pub fn cpu_seconds(&self) -> Option<f64> {
        let known = self.since_ms.is_some() && !self.cpu_missing;
        known.then(|| to_f64(self.cpu_us) / 1e6)
    }

    /// Memory in GB (2^30 bytes) times seconds; `None` when it is not known.
    pub fn memory_gb_seconds(&self) -> Option<f64> {
        let known = self.since_ms.is_some() && !self.memory_missing;
        known.then(|| to_f64(self.memory_kib_ms) / f64::from(1 << 20) / 1e3)
    }
}

/// Exact up to 2^53, which is 285 years of microseconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "sums for people, whose digits beyond the fifteenth nobody reads"
)]
fn to_f64(number: u64) -> f64 {
    number as f64
}

/// Whether a counter of the present compute can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Reading {
    /// Nobody has tried yet.
    #[default]
    Untried,
    /// It cannot, so far.
    Failed,
    /// It could.
    Got,
}

impl Reading {
    fn tried(&mut self, got: bool) {
        *self = match (*self, got) {
            (Self::Got, _) | (_, true) => Self::Got,
            (Self::Untried | Self::Failed, false) => Self::Failed,
        };
    }
}

/// One look at memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    at_ms: u64,
    memory_bytes: Option<u64>,
}

/// Adds up the use of one session.
#[derive(Debug, Clone, Default)]
pub struct UsageMeter {
    usage: SessionUsage,
    last: Option<Look>,
    cpu: Reading,
    memory: Reading,
}

impl UsageMeter {
    /// Goes on from what was stored.
    pub fn new(stored: SessionUsage) -> Self {
        Self { usage: stored, ..Self::default() }
    }

    /// The sums, to be stored.
    pub fn usage(&self) -> SessionUsage {
        self.usage
    }

    /// The sums as of now, for whoever asks: not known where a counter of the present compute cannot be read.
    pub fn told(&self) -> SessionUsage {
        let mut usage = self.usage;
        usage.cpu_missing |= self.cpu == Reading::Failed;
        usage.memory_missing |= self.memory == Reading::Failed;
        usage
    }

    /// When it was looked at last, milliseconds since 1970.
    pub fn looked_at_ms(&self) -> Option<u64> {
        self.last.map(|look| look.at_ms)
    }

    /// A new compute starts.
    pub fn starts(&mut self, now_ms: u64) {
        self.usage.since_ms.get_or_insert(now_ms);
        self.usage.cpu_seen_us = 0;
        self.last = Some(Look { at_ms: now_ms, memory_bytes: None });
        (self.cpu, self.memory) = (Reading::Untried, Reading::Untried);
    }

    /// A look at the compute that runs. A compute that was there before anything was counted is counted from this look on.
    pub fn sample(&mut self, now_ms: u64, stats: &SandboxStats) {
        self.cpu.tried(stats.cpu_usage_us.is_some());
        self.memory.tried(stats.memory_bytes.is_some());
        if self.usage.since_ms.is_none() {
            self.usage.since_ms = Some(now_ms);
            self.usage.cpu_seen_us = stats.cpu_usage_us.unwrap_or(0);
        }
        self.count_cpu(stats.cpu_usage_us);
        self.count_memory(now_ms, stats.memory_bytes);
    }

    /// The compute has ended; `cpu_usage_us` is what its counter said last, where that is known.
    pub fn ends(&mut self, now_ms: u64, cpu_usage_us: Option<u64>) {
        if cpu_usage_us.is_some() {
            self.cpu = Reading::Got;
        }
        self.count_cpu(cpu_usage_us);
        self.count_memory(now_ms, None);
        self.is_over();
    }

    /// The compute has ended while nobody looked, at a time that is not known.
    pub fn was_lost(&mut self, cpu_usage_us: Option<u64>) {
        if self.usage.since_ms.is_some() {
            self.count_cpu(cpu_usage_us);
        }
        self.is_over();
    }

    fn is_over(&mut self) {
        self.usage.cpu_missing |= self.cpu == Reading::Failed;
        self.usage.memory_missing |= self.memory == Reading::Failed;
        self.usage.cpu_seen_us = 0;
        self.last = None;
        (self.cpu, self.memory) = (Reading::Untried, Reading::Untried);
    }

    fn count_cpu(&mut self, counter: Option<u64>) {
        let Some(counter) = counter else { return };
        let more = counter.saturating_sub(self.usage.cpu_seen_us);
        self.usage.cpu_us = self.usage.cpu_us.saturating_add(more);
        self.usage.cpu_seen_us = self.usage.cpu_seen_us.max(counter);
    }

    fn count_memory(&mut self, now_ms: u64, memory_bytes: Option<u64>) {
        if let Some(last) = self.last {
            let stretch_ms = now_ms.saturating_sub(last.at_ms).min(STRETCH_MS_MAX);
            let mean = match (last.memory_bytes, memory_bytes) {
                (Some(from), Some(to)) => u64::midpoint(from, to),
                (one, other) => one.or(other).unwrap_or(0),
            };
            let more = (mean / 1024).saturating_mul(stretch_ms);
            self.usage.memory_kib_ms = self.usage.memory_kib_ms.saturating_add(more);
        }
        self.last = Some(Look { at_ms: now_ms, memory_bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn stats(cpu_usage_us: u64, memory_bytes: u64) -> SandboxStats {
        SandboxStats {
            cpu_usage_us: Some(cpu_usage_us),
            memory_bytes: Some(memory_bytes),
            ..SandboxStats::default()
        }
    }

    fn sums(meter: &UsageMeter) -> (Option<f64>, Option<f64>) {
        (meter.told().cpu_seconds(), meter.told().memory_gb_seconds())
    }

    #[test]
    fn computes_add_up_and_nothing_counts_twice() {
        let mut meter = UsageMeter::new(SessionUsage::new(0));
        meter.starts(0);
        meter.sample(10_000, &stats(1_000_000, GIB));
        meter.sample(10_000, &stats(1_000_000, GIB));
        assert_eq!(sums(&meter), (Some(1.0), Some(10.0)));
        meter.sample(20_000, &stats(3_000_000, 3 * GIB));
        assert_eq!(sums(&meter), (Some(3.0), Some(30.0)), "memory is the mean of both looks");
        meter.ends(21_000, Some(3_500_000));
        assert_eq!(sums(&meter), (Some(3.5), Some(33.0)));
        // Stopped for an hour, then a counter that is soon above where the old one ended.
        meter.starts(3_621_000);
        meter.sample(3_631_000, &stats(4_000_000, GIB));
        assert_eq!(sums(&meter), (Some(7.5), Some(43.0)));
    }

    #[test]
    fn a_server_that_was_killed_goes_on_from_what_it_stored() {
        let mut meter = UsageMeter::new(SessionUsage::new(0));
        meter.starts(0);
        meter.sample(10_000, &stats(2_000_000, GIB));
        let stored = meter.usage();
        meter.sample(15_000, &stats(3_000_000, GIB));
        // The counter went on meanwhile; for the memory of that time there is no witness.
        let mut meter = UsageMeter::new(stored);
        meter.sample(100_000, &stats(9_000_000, GIB));
        meter.sample(110_000, &stats(9_000_000, GIB));
        assert_eq!(sums(&meter), (Some(9.0), Some(20.0)));
        let mut lost = UsageMeter::new(stored);
        lost.was_lost(Some(5_000_000));
        assert_eq!(sums(&lost), (Some(5.0), Some(10.0)));
        assert_eq!(lost.usage().cpu_seen_us, 0);
    }

    #[test]
    fn what_cannot_be_read_is_not_known_and_not_nothing() {
        let none = SandboxStats::default();
        let mut meter = UsageMeter::new(SessionUsage::new(0));
        meter.starts(0);
        assert_eq!(sums(&meter), (Some(0.0), Some(0.0)));
        meter.sample(1_000, &none);
        assert_eq!(sums(&meter), (None, None));
        let mut ended = meter.clone();
        ended.ends(2_000, None);
        ended.starts(3_000);
        ended.sample(4_000, &stats(1, 1));
        assert_eq!(sums(&ended), (None, None), "a sum with a gap stays unknown");
        // A compute that ends on its own is gone before its last look.
        meter.sample(2_000, &stats(7_000_000, GIB));
        meter.sample(3_000, &none);
        meter.ends(3_000, None);
        assert_eq!(sums(&meter).0, Some(7.0));
    }

    #[test]
    fn sessions_from_before_are_counted_from_the_first_look_on() {
        let mut meter = UsageMeter::new(SessionUsage::default());
        assert_eq!(sums(&meter), (None, None));
        meter.sample(5_000, &stats(60_000_000, GIB));
        meter.sample(6_000, &stats(61_000_000, GIB));
        assert_eq!((sums(&meter), meter.usage().since_ms), ((Some(1.0), Some(1.0)), Some(5_000)));
        let mut stopped = UsageMeter::new(SessionUsage::default());
        stopped.was_lost(Some(9));
        assert_eq!(sums(&stopped), (None, None));
        stopped.starts(7_000);
        assert_eq!(sums(&stopped), (Some(0.0), Some(0.0)));
    }

    #[test]
    fn no_clock_and_no_counter_makes_sums_jump() {
        let mut meter = UsageMeter::new(SessionUsage::new(0));
        meter.starts(100_000);
        meter.sample(50_000, &stats(1_000_000, GIB));
        assert_eq!(sums(&meter), (Some(1.0), Some(0.0)), "a clock that was set back");
        meter.sample(86_400_000, &stats(500_000, GIB));
        assert_eq!(sums(&meter), (Some(1.0), Some(120.0)), "a machine that slept");
        meter.sample(86_400_000, &stats(u64::MAX, u64::MAX));
        meter.sample(u64::MAX, &stats(u64::MAX, u64::MAX));
        assert!(sums(&meter).0.is_some_and(f64::is_finite));
    }
}
