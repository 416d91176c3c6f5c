//! Records the node's totals from the kernel's own root files, so that a served value can be compared with what these
//! files said over the very same span.

use std::{collections::VecDeque, fs};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use waggle_node_init::control::Totals;

use crate::CGROUP_ROOT;

/// Five readings a second for two minutes.
const KEPT: usize = 600;

/// The readings, oldest first.
#[derive(Debug, Default)]
pub struct Recorder {
    readings: VecDeque<Totals>,
}

impl Recorder {
    /// Reads the files once.
    pub fn record(&mut self) -> Result<()> {
        let before = now(ClockId::Realtime);
        let cpu = read("cpu.stat")?;
        let after = now(ClockId::Realtime);
        let memory = read("memory.stat")?;
        let cpu_usec = field(&cpu, "usage_usec").context("the root's cpu.stat has no usage_usec")?;
        let of = |name| field(&memory, name).with_context(|| format!("the root's memory.stat has no {name}"));
        let working_set_bytes = (of("anon")? + of("file")?).saturating_sub(of("inactive_file")?);
        if self.readings.len() == KEPT {
            self.readings.pop_front();
        }
        self.readings.push_back(Totals {
            real_ns: i64::midpoint(before, after),
            cpu_usec,
            working_set_bytes,
        });
        Ok(())
    }

    /// All readings that are kept.
    pub fn readings(&self) -> Vec<Totals> {
        self.readings.iter().copied().collect()
    }

    /// Forgets them: after the clock was set, old stamps mean nothing.
    pub fn clear(&mut self) {
        self.readings.clear();
    }
}

fn read(name: &str) -> Result<String> {
    let path = format!("{CGROUP_ROOT}/{name}");
    fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn now(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// `CLOCK_BOOTTIME`, ns.
pub fn boot_ns() -> u64 {
    u64::try_from(now(ClockId::Boottime)).unwrap_or_default()
}
