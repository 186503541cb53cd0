//! Frame rates of a terminal connection. Time is passed in: milliseconds of a clock that never goes
//! back.

use std::collections::VecDeque;

/// Frames a second a server takes from one connection; more closes it with 1008.
pub const CLIENT_FRAMES_PER_SECOND_MAX: usize = 250;

/// Frames a second a client sends: far enough below the limit that two clocks need not agree.
pub const CLIENT_FRAMES_PER_SECOND: usize = 200;

/// Consecutive text messages after which a server closes with 1003.
pub const TEXT_MESSAGES_MAX: u32 = 5;

const WINDOW_MS: u64 = 1000;

/// Counts the frames of the last second, exactly.
///
/// Holds one number for each of them, so at most 2 KiB for the server's limit.
#[derive(Debug, Clone)]
pub struct FrameBudget {
    frames_max: usize,
    taken_at_ms: VecDeque<u64>,
}

impl FrameBudget {
    /// At most `frames_max` frames in any second.
    pub fn new(frames_max: usize) -> Self {
        Self { frames_max, taken_at_ms: VecDeque::new() }
    }

    /// The limit a server holds its clients to.
    pub fn server() -> Self {
        Self::new(CLIENT_FRAMES_PER_SECOND_MAX)
    }

    /// The pace a client keeps.
    pub fn client() -> Self {
        Self::new(CLIENT_FRAMES_PER_SECOND)
    }

    /// Counts one frame. `false` when the last second already held as many as allowed; the frame is
    /// then not counted.
    pub fn take(&mut self, now_ms: u64) -> bool {
        if self.delay_ms(now_ms) > 0 {
            return false;
        }
        self.taken_at_ms.push_back(now_ms);
        true
    }

    /// How long a sender waits until [`FrameBudget::take`] gives `true`; 0 when it does now.
    pub fn delay_ms(&mut self, now_ms: u64) -> u64 {
        while self.taken_at_ms.front().is_some_and(|taken| now_ms.saturating_sub(*taken) >= WINDOW_MS) {
            self.taken_at_ms.pop_front();
        }
        match self.taken_at_ms.front() {
            Some(oldest) if self.taken_at_ms.len() >= self.frames_max => {
                WINDOW_MS - now_ms.saturating_sub(*oldest)
            }
            _ => 0,
        }
    }
}

/// Counts text messages on a connection that wants binary ones.
#[derive(Debug, Clone, Default)]
pub struct TextCounter {
    consecutive: u32,
}

impl TextCounter {
    /// A text message came. `true` when it is one too many: close with 1003.
    pub fn on_text(&mut self) -> bool {
        self.consecutive = self.consecutive.saturating_add(1);
        self.consecutive >= TEXT_MESSAGES_MAX
    }

    /// A binary message came.
    pub fn on_binary(&mut self) {
        self.consecutive = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_251st_frame_of_a_second_is_one_too_many() {
        let mut budget = FrameBudget::server();
        for frame in 0..250 {
            assert!(budget.take(10_000 + frame), "frame {frame}");
        }
        assert!(!budget.take(10_999));
        assert_eq!(budget.delay_ms(10_400), 600);
        assert!(budget.take(11_000));
        assert!(!budget.take(11_000));
        assert!(budget.take(11_001));
    }

    #[test]
    fn five_text_messages_in_a_row() {
        let mut counter = TextCounter::default();
        let texts = |counter: &mut TextCounter| (0..4).any(|_| counter.on_text());
        assert!(!texts(&mut counter));
        counter.on_binary();
        assert!(!texts(&mut counter));
        assert!(counter.on_text());
    }

    proptest! {
        #[test]
        fn no_second_holds_more(steps in proptest::collection::vec(0u64..400, 1..300), limit in 1usize..20) {
            let mut budget = FrameBudget::new(limit);
            let mut now_ms = 0;
            let mut taken = Vec::new();
            for step in steps {
                now_ms += step;
                let delay_ms = budget.delay_ms(now_ms);
                prop_assert_eq!(budget.take(now_ms), delay_ms == 0);
                if delay_ms > 0 {
                    now_ms += delay_ms;
                    prop_assert!(budget.take(now_ms));
                }
                taken.push(now_ms);
            }
            for &end in &taken {
                let in_window = taken.iter().filter(|&&at| at <= end && end - at < 1000).count();
                prop_assert!(in_window <= limit);
            }
        }
    }
}
