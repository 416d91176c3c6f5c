//! Whether the walk agrees with the files, field by field. Pure: readings in, verdicts out.
//!
//! Each cgroup is walked, then its files are read, then it is walked again. The files come after the walk that is judged:
//! reading them flushes, and a walk whose own flush does not work must not be corrected by the comparison. A field is
//! proven by a cgroup in which it is not zero; values that agree because all are zero prove nothing.

use super::{CgroupId, Counters, Field};

/// Pages that may be pending per processor before a reader of `memory.stat` flushes (`MEMCG_CHARGE_BATCH`,
/// `mm/memcontrol.c`).
const BATCH_PAGES: u64 = 64;

/// The flush threshold of `memory.stat`, in pages (`memcg_vmstats_needs_flush`, `mm/memcontrol.c`).
pub(crate) const fn pending_pages(processors: u64) -> u64 {
    BATCH_PAGES.saturating_mul(processors)
}

/// Longest tick of a kernel (`CONFIG_HZ_100`), in µs: a running task's time is accounted at each tick.
const TICK_US: u64 = 10_000;

/// One cgroup, read three times.
#[derive(Debug, Clone)]
pub(crate) struct Readings {
    pub(crate) cgroup: CgroupId,
    /// By the walk that is judged.
    pub(crate) walk: Counters,
    /// By its files, afterwards.
    pub(crate) files: Counters,
    /// By another walk after that.
    pub(crate) later: Counters,
    /// From the first walk until the files were read, in ns.
    pub(crate) elapsed_ns: u64,
}

/// What was found of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Verdict {
    /// Cgroups in which the field was compared.
    pub(crate) compared: usize,
    /// Those among them that prove it.
    pub(crate) witnesses: usize,
    /// The first that differs.
    pub(crate) mismatch: Option<Mismatch>,
}

/// A value that differs from its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} of cgroup {} is {} by the walk, {} by its file and {} by the next walk", .field.name(), .cgroup.0, text(*.walk), text(*.file), text(*.later))]
pub(crate) struct Mismatch {
    field: Field,
    cgroup: CgroupId,
    walk: Option<u64>,
    file: Option<u64>,
    later: Option<u64>,
}

fn text(value: Option<u64>) -> String {
    value.map_or_else(|| "absent".to_owned(), |value| value.to_string())
}

/// Judges a field over all cgroups that could be read.
pub(crate) fn judge(field: Field, readings: &[Readings], processors: u64) -> Verdict {
    let mut verdict = Verdict::default();
    for reading in readings {
        let (walk, file, later) =
            (reading.walk.get(field), reading.files.get(field), reading.later.get(field));
        let found = match (walk, file, later) {
            (Some(walk), Some(file), Some(later)) => compare(field, reading, [walk, file, later], processors),
            // Without a swap device the kernel counts swap, and has no file for it.
            (_, None, _) if field == Field::Swap => None,
            // The flush skipped the cgroup.
            (None, Some(_), _) if reading.walk.lacks_inactive_file() => None,
            (Some(_), None, Some(_)) | (None, Some(_), None) => Some(Found::Differs),
            // Absent from both, or the cgroup was going, or its controllers were just switched.
            _ => None,
        };
        match found {
            None => {}
            Some(Found::Agrees { witness }) => {
                verdict.compared += 1;
                verdict.witnesses += usize::from(witness);
            }
            Some(Found::Differs) => {
                verdict.compared += 1;
                let cgroup = reading.cgroup;
                verdict.mismatch.get_or_insert(Mismatch { field, cgroup, walk, file, later });
            }
        }
    }
    verdict
}

enum Found {
    Agrees { witness: bool },
    Differs,
}

/// `None`: the values may be anything.
fn compare(field: Field, reading: &Readings, values: [u64; 3], processors: u64) -> Option<Found> {
    let [walk, file, later] = values;
    let stood_still = reading.walk.cpu_ns == reading.later.cpu_ns;
    let (agrees, witness) = match field {
        Field::Cpu => {
            // The counter only grows, and no faster than processors times time. The file has whole microseconds.
            let [walk, file, later] = [walk / 1000, file / 1000, later / 1000];
            let most = (reading.elapsed_ns / 1000).saturating_add(TICK_US).saturating_mul(processors);
            let agrees = (walk..=walk.saturating_add(most)).contains(&file) && file <= later;
            (agrees, file > 0)
        }
        // Memory of a cgroup in which something runs may be anything in between.
        _ if !stood_still => return None,
        Field::Usage | Field::Swap => ((walk.min(later)..=walk.max(later)).contains(&file), file > 0),
        Field::InactiveFile => {
            let pending = pending_pages(processors);
            (walk.abs_diff(file) <= pending, file > pending)
        }
    };
    Some(if agrees { Found::Agrees { witness } } else { Found::Differs })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn counters(cpu_ns: u64, usage: u64, inactive: u64) -> Counters {
        Counters {
            cpu_ns: Some(cpu_ns),
            usage_pages: Some(usage),
            inactive_file_pages: Some(inactive),
            swap_pages: Some(0),
        }
    }

    fn readings(walk: Counters, files: Counters, later: Counters) -> Readings {
        Readings { cgroup: CgroupId(5), walk, files, later, elapsed_ns: 2 * MS }
    }

    fn judged(field: Field, walk: Counters, files: Counters, later: Counters) -> Verdict {
        judge(field, &[readings(walk, files, later)], 2)
    }

    #[test]
    fn what_stood_still_agrees_to_the_page() {
        let idle = counters(1_500_999, 95, 500);
        let file = counters(1_500_000, 95, 500);
        for field in [Field::Cpu, Field::Usage, Field::InactiveFile] {
            let verdict = judged(field, idle, file, idle);
            assert_eq!(verdict, Verdict { compared: 1, witnesses: 1, mismatch: None }, "{field:?}");
        }
        let swap = judged(Field::Swap, idle, file, idle);
        assert_eq!((swap.compared, swap.witnesses), (1, 0), "zero proves nothing");
    }

    #[test]
    fn each_value_outside_is_named() {
        let idle = counters(1_500_000, 95, 500);
        for (field, file) in [
            (Field::Cpu, counters(1_499_000, 95, 500)),
            (Field::Cpu, counters(1_501_000, 95, 500)),
            (Field::Usage, counters(1_500_000, 96, 500)),
            (Field::Usage, counters(1_500_000, 94, 500)),
            (Field::InactiveFile, counters(1_500_000, 95, 629)),
            (Field::InactiveFile, counters(1_500_000, 95, 371)),
            (Field::Swap, Counters { swap_pages: Some(1), ..idle }),
        ] {
            let mismatch = judged(field, idle, file, idle).mismatch.unwrap();
            assert!(mismatch.to_string().starts_with(field.name()), "{mismatch}");
        }
        assert_eq!(judged(Field::InactiveFile, idle, counters(1_500_000, 95, 628), idle).mismatch, None);
    }

    /// A slot that is always zero is caught by the first cgroup that has page cache, and proven by none that has not.
    #[test]
    fn a_counter_that_is_always_zero_is_never_proven() {
        let stuck = counters(1_000, 95, 0);
        let without = judged(Field::InactiveFile, stuck, counters(1_000, 95, 0), stuck);
        assert_eq!((without.witnesses, without.mismatch), (0, None));
        let little = judged(Field::InactiveFile, stuck, counters(1_000, 95, 100), stuck);
        assert_eq!((little.witnesses, little.mismatch), (0, None), "within what may be pending");
        assert!(judged(Field::InactiveFile, stuck, counters(1_000, 95, 5_000), stuck).mismatch.is_some());
    }

    #[test]
    fn zeros_that_agree_prove_nothing() {
        for field in Field::ALL {
            let zero = counters(0, 0, 0);
            let verdict = judged(field, zero, zero, zero);
            assert_eq!(verdict, Verdict { compared: 1, witnesses: 0, mismatch: None }, "{field:?}");
        }
    }

    /// The walk shows a busy container as of a second ago: the file was flushed by its reader, the walk was not.
    #[test]
    fn a_walk_that_is_not_flushed_differs() {
        let stale = counters(7_000 * MS, 95, 0);
        let file = counters(7_900 * MS, 95, 0);
        let mismatch = judged(Field::Cpu, stale, file, file).mismatch;
        assert!(mismatch.is_some(), "0.9 s within 2 ms on two processors");
        let fresh = counters(7_890 * MS, 95, 0);
        assert_eq!(judged(Field::Cpu, fresh, file, file).witnesses, 1);
    }

    #[test]
    fn memory_of_what_ran_meanwhile_is_not_judged() {
        let (walk, file, later) =
            (counters(MS, 100, 9_000), counters(2 * MS, 70, 0), counters(3 * MS, 90, 9));
        for field in [Field::Usage, Field::InactiveFile] {
            assert_eq!(judged(field, walk, file, later), Verdict::default());
        }
        assert_eq!(judged(Field::Cpu, walk, file, later).witnesses, 1);
    }

    #[test]
    fn a_field_that_is_in_one_source_alone_differs() {
        let idle = counters(1_500_000, 95, 500);
        let without = Counters { usage_pages: None, swap_pages: None, ..idle };
        assert!(judged(Field::Usage, without, idle, without).mismatch.is_some());
        assert!(judged(Field::Usage, idle, without, idle).mismatch.is_some());
        assert_eq!(judged(Field::Usage, without, without, without), Verdict::default());
        assert_eq!(judged(Field::Usage, without, idle, idle), Verdict::default(), "just switched on");
        assert_eq!(judged(Field::Swap, idle, without, idle), Verdict::default(), "no swap device");
    }

    #[test]
    fn nothing_read_is_no_verdict() {
        assert_eq!(judge(Field::Cpu, &[], 1), Verdict::default());
    }
}
