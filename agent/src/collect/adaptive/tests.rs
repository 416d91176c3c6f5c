use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Adaptive, CHECK_EVERY};
use crate::collect::{BootTime, CgroupId, CollectError, Collector, Reason, Refusal, Sample, Snapshot};
use crate::identify::locate;

/// What a collector says once.
type Answer = Box<dyn Fn() -> Result<Snapshot, CollectError> + Send>;

/// A collector that says what it is told to, and the last thing again and again.
#[derive(Clone)]
struct Scripted(&'static str, Arc<Mutex<VecDeque<Answer>>>);

impl Scripted {
    fn new(name: &'static str, answers: Vec<Answer>) -> Self {
        Self(name, Arc::new(Mutex::new(answers.into())))
    }
}

impl Collector for Scripted {
    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), CollectError> {
        let mut answers = self.1.lock();
        let answer = if answers.len() > 1 {
            answers.pop_front().unwrap()
        } else {
            let answer = answers.front().unwrap()();
            *into = answer?;
            return Ok(());
        };
        *into = answer()?;
        Ok(())
    }

    fn name(&self) -> &'static str {
        self.0
    }
}

fn at(boot_s: u64, cpu_ns: u64) -> Snapshot {
    let path = format!("/kubepods/podd6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b/{}", "a".repeat(64));
    let identity = Arc::new(locate(&path).unwrap().identity);
    let sample = Sample { cgroup: CgroupId(5), identity, cpu_ns: Some(cpu_ns), memory: None, late: false };
    Snapshot { boot: BootTime(boot_s * 1_000_000_000), samples: vec![sample], ..Snapshot::default() }
}

fn says(snapshot: Snapshot) -> Answer {
    Box::new(move || Ok(snapshot.clone()))
}

fn fails(error: fn() -> CollectError) -> Answer {
    Box::new(move || Err(error()))
}

fn truncated() -> CollectError {
    CollectError::Truncated { slots: 8 }
}

fn unpublished() -> CollectError {
    CollectError::Unpublished { why: "test".to_owned() }
}

fn adaptive(walk: Vec<Answer>, files: Vec<Answer>) -> Adaptive {
    let files = Scripted::new("cgroupfs", files);
    let open = move || -> Result<Box<dyn Collector>, CollectError> { Ok(Box::new(files.clone())) };
    Adaptive::new(Box::new(Scripted::new("bpf", walk)), Box::new(open), 1)
}

fn reasons(collector: &dyn Collector) -> Vec<Reason> {
    collector.refusals().iter().map(|Refusal { reason, .. }| reason.clone()).collect()
}

#[test]
fn a_walk_that_agrees_is_taken() {
    let mut collector = adaptive(vec![says(at(1, 5_999))], vec![says(at(1, 5_000))]);
    assert_eq!(collector.name(), "cgroupfs", "not before it is proven");
    collector.settle().unwrap();
    assert_eq!((collector.name(), reasons(&collector)), ("bpf", vec![]));
    let mut snapshot = Snapshot::default();
    collector.snapshot(&mut snapshot).unwrap();
    assert_eq!(snapshot.samples[0].cpu_ns, Some(5_999));
}

#[test]
fn a_walk_that_differs_again_and_again_is_given_up() {
    let mut collector = adaptive(vec![says(at(1, 9_000))], vec![says(at(1, 5_000))]);
    collector.settle().unwrap();
    assert_eq!((collector.name(), reasons(&collector)), ("cgroupfs", vec![Reason::ParityFailed]));
    let mut snapshot = Snapshot::default();
    collector.snapshot(&mut snapshot).unwrap();
    assert_eq!(snapshot.samples[0].cpu_ns, Some(5_000));
}

#[test]
fn one_difference_is_forgiven() {
    let mut collector = adaptive(vec![says(at(1, 9_000)), says(at(1, 5_000))], vec![says(at(1, 5_000))]);
    collector.settle().unwrap();
    assert_eq!(collector.name(), "bpf");
}

#[test]
fn without_containers_files_are_read_until_there_is_one_to_compare() {
    let empty = Snapshot::default;
    let walk = vec![says(empty()), says(empty()), says(empty()), says(at(4, 5_000))];
    // Each comparison reads files twice, each unproven snapshot once more.
    let mut files: Vec<_> = (0..9).map(|_| says(empty())).collect();
    files.push(says(at(4, 5_000)));
    let mut collector = adaptive(walk, files);
    collector.settle().unwrap();
    assert_eq!((collector.name(), reasons(&collector)), ("cgroupfs", vec![Reason::ParityFailed]));
    assert!(collector.refusals()[0].to_string().contains("no container"));
    collector.snapshot(&mut Snapshot::default()).unwrap();
    assert_eq!((collector.name(), reasons(&collector)), ("bpf", vec![]));
}

#[test]
fn a_tree_that_does_not_fit_means_files_at_once() {
    let mut collector = adaptive(
        vec![says(at(1, 5_000)), fails(truncated)],
        vec![says(at(1, 5_000)), says(at(1, 5_000)), says(at(2, 7_000))],
    );
    collector.settle().unwrap();
    assert_eq!(collector.name(), "bpf");
    let mut snapshot = Snapshot::default();
    collector.snapshot(&mut snapshot).unwrap();
    assert_eq!(snapshot.samples[0].cpu_ns, Some(7_000), "never partial data");
    assert_eq!((collector.name(), reasons(&collector)), ("cgroupfs", vec![Reason::Truncated]));
}

#[test]
fn a_walk_that_fails_is_bridged_by_files_and_given_up_when_it_goes_on() {
    let mut collector = adaptive(
        vec![says(at(1, 5_000)), fails(unpublished), says(at(3, 5_000)), fails(unpublished)],
        vec![says(at(1, 5_000))],
    );
    collector.settle().unwrap();
    let mut snapshot = Snapshot::default();
    for (name, left) in [("bpf", 0), ("bpf", 0), ("bpf", 0), ("bpf", 0), ("cgroupfs", 1)] {
        collector.snapshot(&mut snapshot).unwrap();
        assert_eq!((collector.name(), collector.refusals().len()), (name, left));
    }
    assert_eq!(reasons(&collector), [Reason::IterRefused]);
}

#[test]
fn the_comparison_is_made_again_later() {
    let later = 1 + CHECK_EVERY / 1_000_000_000;
    let mut collector = adaptive(
        vec![says(at(1, 5_000)), says(at(2, 5_000)), says(at(later, 9_000))],
        vec![says(at(1, 5_000))],
    );
    collector.settle().unwrap();
    let mut snapshot = Snapshot::default();
    collector.snapshot(&mut snapshot).unwrap();
    assert_eq!(collector.name(), "bpf");
    for _ in 0..3 {
        collector.snapshot(&mut snapshot).unwrap();
        assert_eq!(
            snapshot.samples[0].cpu_ns,
            Some(5_000),
            "what the files say, not what was found to differ"
        );
    }
    assert_eq!((collector.name(), reasons(&collector)), ("cgroupfs", vec![Reason::ParityFailed]));
}
