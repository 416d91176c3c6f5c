//! What a container uses, and the CPU counter that follows from it. Pure.

use waggle_agent::collect::{BootTime, Memory};

/// Bytes of a page, the unit in which memory is reported.
pub const PAGE_SIZE: u32 = 4096;

/// What a cgroup uses from an instant on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// CPU: nanoseconds of CPU time per second of boot time.
    pub nanocores: u64,
    /// Working set, bytes; whole pages of it are reported.
    pub working_set_bytes: u64,
    /// Page cache that nobody uses, bytes: part of the usage, not of the working set.
    pub inactive_file_bytes: u64,
}

impl Load {
    /// Thousandths of a processor and mebibytes of working set; a tenth as much inactive page cache beside it.
    pub const fn new(millicores: u64, mebibytes: u64) -> Self {
        let working_set_bytes = mebibytes << 20;
        Self {
            nanocores: millicores * 1_000_000,
            working_set_bytes,
            inactive_file_bytes: working_set_bytes / 10,
        }
    }

    /// What the memory controller says of it.
    pub const fn memory(self) -> Memory {
        let page = PAGE_SIZE as u64;
        let inactive_file_pages = self.inactive_file_bytes / page;
        let usage_pages = self.working_set_bytes / page + inactive_file_pages;
        Memory { usage_pages, inactive_file_pages, swap_pages: None }
    }
}

/// A cumulative CPU counter: the exact integral of a rate that changes now and then.
#[derive(Debug, Clone, Copy)]
pub struct CpuCounter {
    nanocores: u64,
    since: BootTime,
    /// Until `since`, in nanoseconds × nanocores: no change of the rate loses a fraction.
    used: u128,
}

impl CpuCounter {
    /// Zero at `start`.
    pub const fn new(start: BootTime, nanocores: u64) -> Self {
        Self { nanocores, since: start, used: 0 }
    }

    /// The rate now.
    pub const fn nanocores(&self) -> u64 {
        self.nanocores
    }

    /// Goes on at another rate from `at` on; an instant before the last change counts as that one.
    pub fn set(&mut self, at: BootTime, nanocores: u64) {
        let at = at.max(self.since);
        self.used = self.used_until(at);
        self.since = at;
        self.nanocores = nanocores;
    }

    /// CPU time until `at`, ns. Never falls, whatever is asked: before the last change it is the value of that instant.
    pub fn cpu_ns(&self, at: BootTime) -> u64 {
        u64::try_from(self.used_until(at) / 1_000_000_000).unwrap_or(u64::MAX)
    }

    fn used_until(&self, at: BootTime) -> u128 {
        self.used + u128::from(at.0.saturating_sub(self.since.0)) * u128::from(self.nanocores)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_counter_is_the_integral_of_its_rate() {
        let mut counter = CpuCounter::new(BootTime(10 * SECOND), 250_000_000);
        assert_eq!(counter.cpu_ns(BootTime(10 * SECOND)), 0);
        assert_eq!(counter.cpu_ns(BootTime(14 * SECOND)), SECOND);
        counter.set(BootTime(14 * SECOND), 2 * SECOND);
        assert_eq!(counter.cpu_ns(BootTime(15 * SECOND)), 3 * SECOND);
        counter.set(BootTime(15 * SECOND), 0);
        assert_eq!(counter.cpu_ns(BootTime(99 * SECOND)), 3 * SECOND);
        assert_eq!(counter.cpu_ns(BootTime(1)), 3 * SECOND, "it never falls");
    }

    #[test]
    fn many_changes_lose_nothing() {
        let mut counter = CpuCounter::new(BootTime(0), 1);
        // A rate of one nanocore uses a nanosecond in a second: each piece alone is a small fraction of it.
        for millisecond in 0..=7000 {
            counter.set(BootTime(millisecond * 1_000_000), 1);
        }
        assert_eq!(counter.cpu_ns(BootTime(7 * SECOND)), 7);
    }

    #[test]
    fn the_working_set_is_what_was_asked_for_in_whole_pages() {
        let load = Load { working_set_bytes: 10_000, inactive_file_bytes: 5000, ..Load::default() };
        assert_eq!(load.memory().working_set_pages(), 2);
        assert_eq!(load.memory().usage_pages, 3);
        assert_eq!(Load::new(250, 64).memory().working_set_pages(), 64 << 8);
    }
}
