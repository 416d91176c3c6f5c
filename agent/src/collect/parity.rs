//! Whether the walk says what the files say. Pure: three snapshots in, a verdict out.
//!
//! The files are read before and after the walk. A counter only grows, so the walk's value must lie between. Memory rises and
//! falls: it must lie between, within what the kernel batches per processor, where nothing of the cgroup ran meanwhile; where
//! something did, it may have been anything. A comparison of nothing proves nothing.

use super::{CgroupId, Memory, Sample, Snapshot};

/// Pages by which `inactive_file` may lag per processor: the kernel's flush threshold (`MEMCG_CHARGE_BATCH`).
const BATCH_PAGES: u64 = 64;

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Cgroups compared.
    pub compared: usize,
    /// Containers among them whose values were all compared: nothing of them ran meanwhile.
    pub containers: usize,
    /// One line for each value that differs.
    pub mismatches: Vec<String>,
}

impl Outcome {
    /// Whether at least one container was compared in full and every value agrees.
    pub fn holds(&self) -> bool {
        self.containers > 0 && self.mismatches.is_empty()
    }
}

/// Compares all cgroups that are in all three snapshots.
pub fn compare(before: &Snapshot, walk: &Snapshot, after: &Snapshot, processors: u64) -> Outcome {
    let mut outcome = Outcome::default();
    for sample in &walk.samples {
        let (Some(old), Some(new)) = (find(before, sample.cgroup), find(after, sample.cgroup)) else {
            continue;
        };
        let cpu = |sample: &Sample| sample.cpu_ns.unwrap_or_default() / 1000;
        let stood_still = cpu(old) == cpu(new);
        outcome.compared += 1;
        outcome.containers += usize::from(stood_still && sample.identity.container.is_some());
        let mut check = |what: &str, value: u64, a: u64, b: u64, slack: u64| {
            let (low, high) = (a.min(b).saturating_sub(slack), a.max(b).saturating_add(slack));
            if !(low..=high).contains(&value) {
                outcome.mismatches.push(format!(
                    "{what} of cgroup {} is {value}, its file said {a} before and {b} after",
                    sample.cgroup.0
                ));
            }
        };
        check("cpu time (µs)", cpu(sample), cpu(old), cpu(new), 0);
        match (sample.memory, old.memory, new.memory) {
            (Some(memory), Some(old), Some(new)) if stood_still => {
                compare_memory(memory, old, new, processors, &mut check);
            }
            (Some(_), Some(_), Some(_)) | (None, None, None) => {}
            (memory, ..) => outcome.mismatches.push(format!(
                "memory of cgroup {} is {} by the walk and the other way round by files",
                sample.cgroup.0,
                if memory.is_some() { "there" } else { "absent" }
            )),
        }
        if sample.identity != old.identity {
            outcome.mismatches.push(format!("cgroup {} is another pod's by its path", sample.cgroup.0));
        }
    }
    outcome
}

fn compare_memory(
    memory: Memory,
    old: Memory,
    new: Memory,
    processors: u64,
    check: &mut impl FnMut(&str, u64, u64, u64, u64),
) {
    check("memory.current (pages)", memory.usage_pages, old.usage_pages, new.usage_pages, 0);
    let lag = BATCH_PAGES.saturating_mul(processors);
    let (a, b) = (old.inactive_file_pages, new.inactive_file_pages);
    check("inactive_file (pages)", memory.inactive_file_pages, a, b, lag);
    if let (Some(swap), Some(a), Some(b)) = (memory.swap_pages, old.swap_pages, new.swap_pages) {
        check("memory.swap.current (pages)", swap, a, b, 0);
    }
}

fn find(snapshot: &Snapshot, id: CgroupId) -> Option<&Sample> {
    let at = snapshot.samples.binary_search_by_key(&id, |sample| sample.cgroup).ok()?;
    snapshot.samples.get(at)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identify::locate;

    fn sample(id: u64, cpu_ns: u64, usage: u64, inactive: u64) -> Sample {
        let path = format!("/kubepods/podd6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b/{}", "a".repeat(64));
        Sample {
            cgroup: CgroupId(id),
            identity: Arc::new(locate(&path).unwrap().identity),
            cpu_ns: Some(cpu_ns),
            memory: Some(Memory { usage_pages: usage, inactive_file_pages: inactive, swap_pages: Some(0) }),
            late: false,
        }
    }

    fn snapshot(samples: Vec<Sample>) -> Snapshot {
        Snapshot { samples, ..Snapshot::default() }
    }

    fn verdict(walk: Sample, cpu_ns: [u64; 2]) -> Outcome {
        let before = snapshot(vec![sample(5, cpu_ns[0], 100, 10)]);
        let after = snapshot(vec![sample(5, cpu_ns[1], 90, 10)]);
        compare(&before, &snapshot(vec![walk]), &after, 2)
    }

    const RAN: [u64; 2] = [1_000_000, 2_000_000];
    const STOOD_STILL: [u64; 2] = [1_500_000, 1_500_999];

    #[test]
    fn values_between_hold() {
        assert!(verdict(sample(5, 1_500_000, 95, 10), STOOD_STILL).holds());
        assert!(
            verdict(sample(5, 1_500_999, 90, 138), STOOD_STILL).holds(),
            "the kernel may lag by a batch per processor"
        );
    }

    #[test]
    fn each_value_outside_is_named() {
        for (walk, cpu_ns, what) in [
            (sample(5, 999_999, 95, 10), RAN, "cpu time"),
            (sample(5, 2_001_000, 95, 10), RAN, "cpu time"),
            (sample(5, 1_499_999, 95, 10), STOOD_STILL, "cpu time"),
            (sample(5, 1_500_000, 101, 10), STOOD_STILL, "memory.current"),
            (sample(5, 1_500_000, 89, 10), STOOD_STILL, "memory.current"),
            (sample(5, 1_500_000, 95, 139), STOOD_STILL, "inactive_file"),
            (Sample { memory: None, ..sample(5, 1_500_000, 95, 10) }, STOOD_STILL, "absent"),
            (Sample { memory: None, ..sample(5, 1_500_000, 95, 10) }, RAN, "absent"),
        ] {
            let outcome = verdict(walk, cpu_ns);
            assert!(!outcome.holds());
            assert!(outcome.mismatches.iter().any(|line| line.contains(what)), "{what}: {outcome:?}");
        }
    }

    #[test]
    fn memory_of_what_ran_meanwhile_says_nothing_either_way() {
        let outcome = verdict(sample(5, 1_500_000, 101, 10), RAN);
        assert!(outcome.mismatches.is_empty() && !outcome.holds(), "{outcome:?}");
        // The container beside it stood still: it is the proof, or the objection.
        let beside = |usage| {
            let of = |cpu_ns: u64, usage: u64, still: u64| {
                snapshot(vec![sample(5, cpu_ns, usage, 10), sample(6, 7_000, still, 0)])
            };
            compare(&of(1_000_000, 100, 3), &of(1_500_000, 101, usage), &of(2_000_000, 90, 3), 1)
        };
        assert!(beside(3).holds());
        assert!(!beside(4).holds());
    }

    #[test]
    fn nothing_compared_is_no_proof() {
        let outcome = verdict(sample(6, 1_500_000, 95, 10), STOOD_STILL);
        assert_eq!(outcome.compared, 0);
        assert!(!outcome.holds());
        assert!(!compare(&snapshot(vec![]), &snapshot(vec![]), &snapshot(vec![]), 1).holds());
    }

    #[test]
    fn a_pod_alone_is_no_proof() {
        let mut pod = sample(5, 1, 1, 1);
        pod.identity = Arc::new(crate::identify::Identity { container: None, ..(*pod.identity).clone() });
        let all = snapshot(vec![pod]);
        let outcome = compare(&all, &all, &all, 1);
        assert_eq!((outcome.compared, outcome.holds()), (1, false));
    }
}
