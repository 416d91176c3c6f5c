//! The two clocks of a snapshot: `CLOCK_BOOTTIME` for differences, `CLOCK_REALTIME` for stamps.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use super::{BootTime, RealTime};

/// Nanoseconds since boot, suspended time included.
pub(crate) fn boot() -> BootTime {
    BootTime(nanoseconds(clock_gettime(ClockId::Boottime)))
}

/// Nanoseconds since the Unix epoch.
fn real() -> RealTime {
    RealTime(nanoseconds(clock_gettime(ClockId::Realtime)))
}

/// The time between two instants; zero if they are not in order.
pub(crate) fn between(start: BootTime, end: BootTime) -> Duration {
    Duration::from_nanos(end.0.saturating_sub(start.0))
}

/// The middle of `start` and now on both clocks.
pub(crate) fn middle_since(start: BootTime) -> (BootTime, RealTime) {
    let end = boot();
    let half = end.0.saturating_sub(start.0) / 2;
    (BootTime(start.0 + half), RealTime(real().0.saturating_sub(half)))
}

fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let rest = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}
