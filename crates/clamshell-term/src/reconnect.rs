//! When a terminal client connects again, and after how long.
//!
//! Sans-I/O: the caller brings the time and a random number and does the waiting.

/// What the code of a close frame asks of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseMeaning {
    /// The connection is lost, the shell is not: connect again.
    Lost,
    /// Normal end.
    Ended,
    /// Another client took the shell over. Connecting again would start a fight.
    Replaced,
    /// The server refused what this client sends; sending it again changes nothing.
    Refused,
}

impl CloseMeaning {
    /// Of a close code; `None` when the connection went without one.
    pub fn of(code: Option<u16>) -> Self {
        match code {
            Some(1000) => Self::Ended,
            Some(4000) => Self::Replaced,
            // 1009: a frame too long. We never send one, so it would come again.
            Some(1002 | 1003 | 1007 | 1009 | 1010) => Self::Refused,
            // Among them 1001 server restart, 1006 network, 1008 age or rate, 1011 server error. A
            // code nobody knows yet is tried again: the retries are bounded.
            _ => Self::Lost,
        }
    }
}

/// Numbers of a [`Reconnect`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReconnectPolicy {
    /// Attempts in a round.
    pub retries_max: u32,
    /// First delay; it doubles with each attempt.
    pub delay_base_ms: u64,
    /// Largest delay before jitter.
    pub delay_max_ms: u64,
    /// Each delay is off by up to this much either way.
    pub jitter_percent: u64,
    /// No attempt starts later than this after the connection was lost; `None` is for ever.
    pub window_ms: Option<u64>,
    /// Pause between rounds; `None`: one round only.
    pub round_pause_ms: Option<u64>,
}

impl ReconnectPolicy {
    /// One round of five, as for a first connect: somebody waits at the terminal.
    pub const ONE_ROUND: Self = Self {
        retries_max: 5,
        delay_base_ms: 1_000,
        delay_max_ms: 15_000,
        jitter_percent: 25,
        window_ms: Some(900_000),
        round_pause_ms: None,
    };

    /// Rounds of five with half a minute between, as long as a detached shell is kept: a laptop was
    /// closed, a train went through a tunnel.
    pub const WHOLE_WINDOW: Self = Self { round_pause_ms: Some(30_000), ..Self::ONE_ROUND };
}

impl Default for ReconnectPolicy {
    fn default() -> Self {
        Self::ONE_ROUND
    }
}

/// What to do after a connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Wait, then connect.
    Retry {
        /// Number of this attempt in its round, from 1.
        attempt: u32,
        /// Attempts in a round.
        retries_max: u32,
        /// Time to wait.
        delay_ms: u64,
    },
    /// Do not connect again.
    Stop(StopReason),
}

/// Why a client does not connect again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The server ended the connection for good; see the meaning.
    Closed(CloseMeaning),
    /// All attempts failed.
    RetriesUsedUp,
    /// The window is over.
    WindowOver,
}

/// State of one client's attempts.
#[derive(Debug, Clone)]
pub struct Reconnect {
    policy: ReconnectPolicy,
    attempts: u32,
    lost_at_ms: Option<u64>,
}

impl Reconnect {
    /// Nothing failed yet.
    pub fn new(policy: ReconnectPolicy) -> Self {
        Self { policy, attempts: 0, lost_at_ms: None }
    }

    /// The connection closed with `code`, or went or never came (`None`). `random` is any number,
    /// evenly spread; it picks the jitter.
    pub fn on_closed(&mut self, now_ms: u64, code: Option<u16>, random: u32) -> Decision {
        let meaning = CloseMeaning::of(code);
        if meaning != CloseMeaning::Lost {
            return Decision::Stop(StopReason::Closed(meaning));
        }
        let lost_at_ms = *self.lost_at_ms.get_or_insert(now_ms);
        let mut delay_ms = 0;
        if self.attempts >= self.policy.retries_max {
            let Some(pause_ms) = self.policy.round_pause_ms else {
                return Decision::Stop(StopReason::RetriesUsedUp);
            };
            self.attempts = 0;
            delay_ms = pause_ms;
        }
        delay_ms += self.backoff_ms(random);
        let starts_after_ms = now_ms.saturating_sub(lost_at_ms) + delay_ms;
        if self.policy.window_ms.is_some_and(|window_ms| starts_after_ms > window_ms) {
            return Decision::Stop(StopReason::WindowOver);
        }
        self.attempts += 1;
        Decision::Retry { attempt: self.attempts, retries_max: self.policy.retries_max, delay_ms }
    }

    /// A connection was confirmed: the next loss starts from the beginning.
    pub fn on_confirmed(&mut self) {
        self.attempts = 0;
        self.lost_at_ms = None;
    }

    fn backoff_ms(&self, random: u32) -> u64 {
        let doubled = 1u64.checked_shl(self.attempts).unwrap_or(u64::MAX);
        let delay_ms = self.policy.delay_base_ms.saturating_mul(doubled).min(self.policy.delay_max_ms);
        let spread_ms = delay_ms / 100 * self.policy.jitter_percent.min(100);
        delay_ms - spread_ms + u64::from(random) * (2 * spread_ms) / u64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIDDLE: u32 = u32::MAX / 2 + 1;

    fn delays(policy: ReconnectPolicy, random: u32) -> (Vec<u64>, StopReason) {
        let mut reconnect = Reconnect::new(policy);
        let mut now_ms = 5_000;
        let mut delays = Vec::new();
        loop {
            match reconnect.on_closed(now_ms, None, random) {
                Decision::Retry { delay_ms, .. } => {
                    now_ms += delay_ms;
                    delays.push(delay_ms);
                }
                Decision::Stop(reason) => return (delays, reason),
            }
        }
    }

    #[test]
    fn five_attempts_further_and_further_apart() {
        let check = |random, expected: [u64; 5]| {
            let expected = (expected.to_vec(), StopReason::RetriesUsedUp);
            assert_eq!(delays(ReconnectPolicy::default(), random), expected);
        };
        check(MIDDLE, [1_000, 2_000, 4_000, 8_000, 15_000]);
        check(0, [750, 1_500, 3_000, 6_000, 11_250]);
        check(u32::MAX, [1_250, 2_500, 5_000, 10_000, 18_750]);
    }

    #[test]
    fn rounds_fill_the_window() {
        let (delays, reason) = delays(ReconnectPolicy::WHOLE_WINDOW, MIDDLE);
        assert_eq!(delays[..7], [1_000, 2_000, 4_000, 8_000, 15_000, 31_000, 2_000]);
        assert_eq!(reason, StopReason::WindowOver);
        let sum: u64 = delays.iter().sum();
        assert!((850_000..=900_000).contains(&sum), "{sum}");
    }

    #[test]
    fn codes_that_end_it() {
        let check = |code, expected: Option<CloseMeaning>| {
            let decision = Reconnect::new(ReconnectPolicy::default()).on_closed(0, Some(code), MIDDLE);
            let again = Decision::Retry { attempt: 1, retries_max: 5, delay_ms: 1_000 };
            assert_eq!(
                decision,
                expected.map_or(again, |it| Decision::Stop(StopReason::Closed(it))),
                "{code}"
            );
        };
        check(1000, Some(CloseMeaning::Ended));
        check(1003, Some(CloseMeaning::Refused));
        check(1009, Some(CloseMeaning::Refused));
        check(4000, Some(CloseMeaning::Replaced));
        for code in [1001, 1006, 1008, 1011, 1012, 4001] {
            check(code, None);
        }
    }

    #[test]
    fn a_confirmation_starts_over() {
        let mut reconnect = Reconnect::new(ReconnectPolicy::default());
        for _ in 0..5 {
            reconnect.on_closed(0, Some(1006), MIDDLE);
        }
        reconnect.on_confirmed();
        let again = Decision::Retry { attempt: 1, retries_max: 5, delay_ms: 1_000 };
        assert_eq!(reconnect.on_closed(10_000_000, Some(1001), MIDDLE), again);
    }

    proptest! {
        #[test]
        fn jitter_stays_within_a_quarter(random in any::<u32>(), attempts in 0u32..200) {
            let reconnect = Reconnect { attempts, ..Reconnect::new(ReconnectPolicy::default()) };
            let delay_ms = reconnect.backoff_ms(random);
            prop_assert!((750..=18_750).contains(&delay_ms));
        }
    }
}
