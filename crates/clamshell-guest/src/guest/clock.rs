//! The two clocks: one that only goes forward, for deadlines, and the calendar, for records.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Milliseconds of a clock that never jumps.
pub(super) fn monotonic_ms() -> u64 {
    milliseconds(clock_gettime(ClockId::Monotonic))
}

/// Milliseconds since 1970.
pub(super) fn calendar_ms() -> u64 {
    milliseconds(clock_gettime(ClockId::Realtime))
}

/// Lets other processes run for a moment.
pub(super) fn nap(time: std::time::Duration) {
    std::thread::sleep(time);
}

fn milliseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000)
}
