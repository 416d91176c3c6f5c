//! Totals of the node, from files: the root cgroup's CPU counter in the kernel is 0 and it has no `memory.current`.
//!
//! A total that cannot be had is absent and costs nothing else.

use std::path::{Path, PathBuf};

use super::NodeTotals;
use super::files::{Kept, Reader, lines, number, value};

const MEMINFO: &str = "/proc/meminfo";
const PROC_STAT: &str = "/proc/stat";
/// `USER_HZ`, the unit of `/proc/stat`: 100 on every architecture Linux supports here.
const USER_HZ: u64 = 100;

/// The files that totals come from, kept open.
#[derive(Debug)]
pub(crate) struct NodeFiles {
    cpu: File,
    proc_stat: File,
    current: File,
    memory: File,
    meminfo: File,
}

/// A file that is optional, and logged once when it cannot be used.
#[derive(Debug)]
struct File {
    path: PathBuf,
    kept: Kept,
    logged: bool,
}

impl NodeFiles {
    /// Opens the files of the hierarchy mounted at `root`.
    pub(crate) fn open(root: &Path) -> Self {
        Self::with(root, Path::new(PROC_STAT), Path::new(MEMINFO))
    }

    fn with(root: &Path, proc_stat: &Path, meminfo: &Path) -> Self {
        let current = File::open(root.join("memory.current"));
        // The root of the whole hierarchy has no `memory.current`. Its `memory.stat` would flush the memory counters of
        // every cgroup of the host, for a sum that `/proc/meminfo` has as well.
        let memory = match current.kept {
            Kept::Absent => Kept::Absent,
            _ => File::open(root.join("memory.stat")).kept,
        };
        Self {
            cpu: File::open(root.join("cpu.stat")),
            proc_stat: File::open(proc_stat.to_owned()),
            current,
            memory: File { path: root.join("memory.stat"), kept: memory, logged: false },
            meminfo: File::open(meminfo.to_owned()),
        }
    }

    /// Reads what there is, each file once.
    ///
    /// Memory is by the kubelet's formula (opencontainers/cgroups 0.0.4, `fs2/memory.go`, and cAdvisor's working set):
    /// `memory.current − inactive_file` where the root has a `memory.current` (a node that is itself a container), else
    /// `anon + file − inactive_file` of the whole machine.
    pub(crate) fn read(&mut self, reader: &mut Reader) -> NodeTotals {
        let cpu_ns = self.cpu_ns(reader);
        let usage = self.current.read(reader).and_then(number);
        let of_cgroup = usage.map(|usage| Some(usage.saturating_sub(self.inactive_file(reader)?)));
        let meminfo = self.meminfo.read(reader);
        let swap_bytes = meminfo.and_then(swap);
        let working_set_bytes = of_cgroup.unwrap_or_else(|| {
            let of_machine = meminfo.and_then(meminfo_working_set);
            if of_machine.is_none() {
                self.meminfo.log("it lacks AnonPages, Cached, Buffers, SwapCached or Inactive(file)");
            }
            of_machine
        });
        NodeTotals { cpu_ns, working_set_bytes, swap_bytes }
    }

    /// `usage_usec` of the root's `cpu.stat`; kernels before 5.10 have no such file at the root.
    fn cpu_ns(&mut self, reader: &mut Reader) -> Option<u64> {
        let by_cgroup = self.cpu.read(reader).map(|text| value(text, "usage_usec"));
        match by_cgroup {
            Some(Some(usec)) => Some(usec.saturating_mul(1000)),
            found => {
                if found.is_some() {
                    self.cpu.log("it has no usage_usec");
                }
                let ticks = self.proc_stat.read(reader).and_then(ticks);
                if ticks.is_none() {
                    self.proc_stat.log("the node's CPU time is neither there nor in the root's cpu.stat");
                }
                ticks.map(|ticks| ticks.saturating_mul(1_000_000_000 / USER_HZ))
            }
        }
    }

    fn inactive_file(&mut self, reader: &mut Reader) -> Option<u64> {
        let inactive = self.memory.read(reader).and_then(|text| value(text, "inactive_file"));
        if inactive.is_none() {
            self.memory.log("it has no inactive_file");
        }
        inactive
    }
}

impl File {
    /// A file that cannot be opened is as good as absent.
    fn open(path: PathBuf) -> Self {
        // Few enough never to count against a budget.
        let kept = Kept::open(path.clone(), &mut 1).unwrap_or(Kept::Absent);
        Self { path, kept, logged: false }
    }

    fn read<'r>(&mut self, reader: &'r mut Reader) -> Option<&'r [u8]> {
        match self.kept.read(reader) {
            Ok(text) => text,
            Err(error) => {
                if !std::mem::replace(&mut self.logged, true) {
                    tracing::warn!(file = %self.path.display(), %error, "cannot read a total of the node");
                }
                None
            }
        }
    }

    fn log(&mut self, why: &str) {
        if !std::mem::replace(&mut self.logged, true) {
            tracing::warn!(file = %self.path.display(), why, "a total of the node is not available");
        }
    }
}

/// The sum that the kernel makes for the root's `cpu.stat` (`root_cgroup_cputime`): user, nice, system, irq and softirq;
/// guest time is part of user.
fn ticks(text: &[u8]) -> Option<u64> {
    let all = lines(text).find_map(|line| line.strip_prefix(b"cpu "))?;
    let mut numbers = all.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).map(number);
    let mut next = || numbers.next().flatten();
    let [user, nice, system, _idle, _iowait, irq, softirq] =
        [next()?, next()?, next()?, next()?, next()?, next()?, next()?];
    [user, nice, system, irq, softirq].into_iter().try_fold(0u64, u64::checked_add)
}

/// `anon + file − inactive_file` of the machine: `file` counts what meminfo splits into page cache, buffers and swap
/// cache (`fs/proc/meminfo.c`).
fn meminfo_working_set(text: &[u8]) -> Option<u64> {
    let sum = ["AnonPages", "Cached", "Buffers", "SwapCached"]
        .into_iter()
        .try_fold(0u64, |sum, key| Some(sum.saturating_add(value(text, key)?)))?;
    Some(sum.saturating_sub(value(text, "Inactive(file)")?).saturating_mul(1024))
}

/// `SwapTotal − SwapFree`; `None` without swap.
fn swap(text: &[u8]) -> Option<u64> {
    let total = value(text, "SwapTotal").filter(|total| *total > 0)?;
    Some(total.saturating_sub(value(text, "SwapFree")?).saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal: 9 kB\nBuffers: 2 kB\nCached: 30 kB\nSwapCached: 1 kB\nInactive(file): 13 kB\n\
                           AnonPages: 40 kB\nSwapTotal: 8 kB\nSwapFree: 3 kB\n";
    const STAT: &str = "cpu  100 20 30 4000 50 6 7 80 9 10\ncpu0 1 2 3\n";

    fn totals(files: &[(&str, &str)]) -> NodeTotals {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(root.path().join(name), text).unwrap();
        }
        let path = |name: &str| root.path().join(name);
        NodeFiles::with(root.path(), &path("stat"), &path("meminfo")).read(&mut Reader::new())
    }

    #[test]
    fn the_machines_totals_come_from_the_roots_cpu_and_meminfo() {
        let all = [("cpu.stat", "usage_usec 1500\nuser_usec 1\n"), ("stat", STAT), ("meminfo", MEMINFO)];
        let expected = NodeTotals {
            cpu_ns: Some(1_500_000),
            working_set_bytes: Some(60 * 1024),
            swap_bytes: Some(5 * 1024),
        };
        assert_eq!(totals(&all), expected);
    }

    #[test]
    fn a_node_in_a_container_counts_what_its_own_root_counts() {
        let files = [
            ("memory.current", "9000\n"),
            ("memory.stat", "anon 1\nfile 1\ninactive_file 2000\n"),
            ("meminfo", MEMINFO),
        ];
        assert_eq!(totals(&files).working_set_bytes, Some(7000));
        let more_inactive = [("memory.current", "1\n"), ("memory.stat", "inactive_file 2\n")];
        assert_eq!(totals(&more_inactive).working_set_bytes, Some(0));
    }

    #[test]
    fn without_the_roots_cpu_stat_the_time_comes_from_proc_stat() {
        let expected = Some((100 + 20 + 30 + 6 + 7) * 10_000_000);
        assert_eq!(totals(&[("stat", STAT)]).cpu_ns, expected);
        assert_eq!(totals(&[("stat", STAT), ("cpu.stat", "nr_periods 0\n")]).cpu_ns, expected);
        assert_eq!(totals(&[("stat", "cpu  1 2 3\n")]).cpu_ns, None);
    }

    #[test]
    fn what_cannot_be_had_is_absent_and_costs_nothing_else() {
        assert_eq!(totals(&[]), NodeTotals::default());
        let found = totals(&[("cpu.stat", "usage_usec 3\n"), ("meminfo", "AnonPages: 40 kB\n")]);
        assert_eq!((found.cpu_ns, found.working_set_bytes), (Some(3000), None));
        let torn = totals(&[("memory.current", "9\n"), ("memory.stat", "anon 1\n"), ("meminfo", MEMINFO)]);
        assert_eq!(
            (torn.working_set_bytes, torn.swap_bytes),
            (None, Some(5 * 1024)),
            "no other formula instead"
        );
        assert_eq!(swap(b"SwapTotal: 0 kB\nSwapFree: 0 kB\n"), None);
    }
}
