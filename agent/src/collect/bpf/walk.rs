//! The eBPF walk: flush, iterate, identify.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use waggle_agent_ebpf::{Classes, Record, group};

use super::identities::{Cgroup, Identities};
use super::link::Start;
use super::load::{self, Loaded};
use crate::collect::fallback::Walk;
use crate::collect::files::Reader;
use crate::collect::kubepods::{self, Kubepods};
use crate::collect::node::NodeFiles;
use crate::collect::tree::{Listing, Role};
use crate::collect::walked::{Walked, WalkedCgroup, renew};
use crate::collect::{
    BootTime, CgroupId, CollectError, Collector, Costs, Counters, Field, RealTime, Refusal, Snapshot, clock,
};

/// Fewest slots of the array that the agent runs with: 512 KiB.
pub const LEAST_SLOTS: usize = 8192;
/// Time between searches for kubepods that were made later.
const SEARCH_EVERY: u64 = 30_000_000_000;
/// Walks for one snapshot: kubepods or a class may be replaced meanwhile.
const ATTEMPTS: u32 = 3;

/// The loaded program, its links and its array. Works without any capability once loaded.
pub struct BpfWalk {
    root: PathBuf,
    loaded: Loaded,
    starts: Vec<Start>,
    node: NodeFiles,
    reader: Reader,
    records: Vec<Record>,
    identities: Identities,
    /// The last search for kubepods.
    searched: BootTime,
    /// Kubepods was linked since the last walk, so what is new need not have been created since.
    uncertain: bool,
    /// Pods and containers of the newest walk.
    identified: usize,
    /// The last listing showed a pod without containers.
    without_containers: bool,
    /// A container outside kubepods, and when it was looked for.
    outside: Option<PathBuf>,
    outside_searched: Option<BootTime>,
    walked: Walked,
    costs: Costs,
}

impl BpfWalk {
    /// Loads the program for the cgroup2 mount at `root` and links it to kubepods if there is one yet. The array has
    /// `least_slots`, or twice the cgroups found if that is more: it cannot grow once capabilities are dropped.
    pub fn open(root: &Path, least_slots: usize) -> Result<Self, Refusal> {
        let kubepods = Kubepods::find(root).unwrap_or_default();
        let cgroups = Listing::of(&kubepods).directories.len();
        let slots = u32::try_from((cgroups * 2).max(least_slots)).unwrap_or(u32::MAX);
        let mut walk = Self {
            root: root.to_owned(),
            loaded: load::load(slots)?,
            starts: Vec::new(),
            node: NodeFiles::open(root),
            reader: Reader::new(),
            records: Vec::new(),
            identities: Identities::default(),
            searched: BootTime(0),
            uncertain: false,
            identified: 0,
            without_containers: false,
            outside: None,
            outside_searched: None,
            walked: Walked::default(),
            costs: Costs::default(),
        };
        match walk.search(clock::boot()) {
            Ok(()) | Err(CollectError::NoKubepods { .. }) => Ok(walk),
            Err(error) => Err(super::diagnosis::link_refused(&error)),
        }
    }

    /// What the newest walk recorded: kubepods first, parents before children, down to the containers.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Flushes and walks, without node totals and without handing anything over; finds kubepods again if it was
    /// replaced. Returns the middle of the walk on both clocks.
    pub fn walk(&mut self) -> Result<(BootTime, RealTime), CollectError> {
        let mut missing = self.starts.is_empty();
        for _ in 0..ATTEMPTS {
            let begun = clock::boot();
            let due = begun.0.saturating_sub(self.searched.0) >= SEARCH_EVERY;
            if missing || due || self.identified == 0 {
                self.search(begun)?;
            }
            missing = !self.flush()?;
            let flushed = clock::boot();
            if missing {
                continue;
            }
            missing = !self.iterate()?;
            let (boot, real) = clock::middle_since(flushed);
            self.costs.flush = clock::between(begun, flushed);
            self.costs.walk = clock::between(flushed, clock::boot());
            if missing {
                continue;
            }
            if self.identify() {
                return Ok((boot, real));
            }
        }
        self.starts.clear();
        Err(CollectError::NoKubepods { root: self.root.display().to_string() })
    }

    /// Links to kubepods cgroups that are not linked yet, and drops those that are gone.
    fn search(&mut self, now: BootTime) -> Result<(), CollectError> {
        self.searched = now;
        let found = Kubepods::find(&self.root).inspect_err(|_| self.starts.clear())?;
        let mut before = std::mem::take(&mut self.starts);
        for kubepods in found {
            let kept = before.iter().position(|start| start.kubepods == kubepods);
            if let Some(at) = kept {
                self.starts.push(before.swap_remove(at));
                continue;
            }
            let path = kubepods.path.display().to_string();
            let mut start = Start::at(&self.loaded, kubepods)
                .map_err(|error| CollectError::read(format!("a link of the program to {path}"), error))?;
            start.classes = classes(&Listing::of(std::slice::from_ref(&start.kubepods)));
            tracing::info!(kubepods = path, "the walk starts here");
            self.uncertain = true;
            self.starts.push(start);
        }
        let kubepods: Vec<Kubepods> = self.starts.iter().map(|start| start.kubepods.clone()).collect();
        self.costs.dying = kubepods::dying(&kubepods);
        Ok(())
    }

    /// Returns whether every kubepods is still there.
    fn flush(&mut self) -> Result<bool, CollectError> {
        for start in &self.starts {
            if !start.flush(self.loaded.flush_memory, &mut self.reader)? {
                return Ok(false);
            }
        }
        Ok(!self.starts.is_empty())
    }

    /// The same, after the walk of all.
    fn iterate(&mut self) -> Result<bool, CollectError> {
        self.records.clear();
        for start in &self.starts {
            if !start.iterate(&self.loaded, &mut self.records)? {
                return Ok(false);
            }
        }
        // A record without an id belongs to nothing.
        self.records.retain(|record| record.id != 0);
        Ok(true)
    }

    /// Maps the records to pods and containers. Returns false if the walk stopped short of pods because a class was new to it.
    fn identify(&mut self) -> bool {
        let begun = clock::boot();
        let uncertain = self.uncertain;
        let mut complete = true;
        if self.identities.update(self.records.iter().map(|record| record.id), uncertain) {
            for start in &mut self.starts {
                let listing = Listing::of(std::slice::from_ref(&start.kubepods));
                let classes = classes(&listing);
                complete &= std::mem::replace(&mut start.classes, classes) == classes;
            }
            let kubepods: Vec<Kubepods> = self.starts.iter().map(|start| start.kubepods.clone()).collect();
            let listing = Listing::of(&kubepods);
            self.without_containers = listing.has_pod_without_containers();
            self.outside_searched = None;
            self.costs.unreadable = listing.unreadable;
            self.identities.learn(listing);
        }
        if complete {
            self.uncertain = false;
        }
        self.identified =
            self.identities.ascending().filter(|(_, cgroup, _)| cgroup.identity.is_some()).count();
        self.costs.identified = self.identified;
        self.costs.identify = clock::between(begun, clock::boot());
        self.costs.seen = self.records.len();
        self.costs.unlisted = self.identities.unlisted();
        self.costs.faulted = self.records.iter().filter(|record| record.faulted != 0).count();
        complete
    }

    /// A pod without containers is usual for a moment, and a sandbox always has none. If its containers are outside of
    /// kubepods, the walk cannot reach them.
    fn check_outside(&mut self, now: BootTime) -> Result<(), CollectError> {
        let due = self.outside_searched.is_none_or(|last| now.0.saturating_sub(last.0) >= SEARCH_EVERY);
        if self.without_containers && due {
            self.outside_searched = Some(now);
            self.outside = kubepods::outside_kubepods(&self.root).into_iter().next().map(|found| found.path);
        }
        match &self.outside {
            Some(path) if self.without_containers => {
                Err(CollectError::Outside { path: path.display().to_string() })
            }
            _ => Ok(()),
        }
    }
}

/// The stale `inactive_file` of a cgroup that the flush skipped.
fn skipped(record: &Record) -> Option<i64> {
    let read = record.valid | record.faulted;
    (record.valid & group::USAGE != 0 && read & group::INACTIVE_FILE == 0).then_some(record.inactive_file)
}

/// The quality-of-service classes of a listing.
fn classes(listing: &Listing) -> Classes {
    let mut classes = Classes::default();
    let found = listing.directories.iter().filter(|directory| directory.role == Role::Class);
    for (slot, directory) in classes.ids.iter_mut().zip(found) {
        *slot = directory.id.0;
    }
    classes
}

impl Walk for BpfWalk {
    fn walk(&mut self, into: &mut Walked) -> Result<(), CollectError> {
        // Files of the node come first: reading them between walk and publication would age what was walked.
        into.node = self.node.read(&mut self.reader);
        let walked = Self::walk(self);
        self.loaded.messages.pass_on();
        (into.boot, into.real) = walked?;
        self.check_outside(into.boot)?;
        let wanted = |cgroup: &Cgroup| cgroup.identity.is_some() || cgroup.role == Role::Kubepods;
        let found = self.identities.ascending().filter(|(_, cgroup, _)| wanted(cgroup));
        renew(
            &mut into.cgroups,
            found.filter_map(|(at, cgroup, late)| Some((self.records.get(at)?, cgroup, late))),
            // An id is never given to another cgroup: its path and identity stay.
            |walked, (record, _, late)| {
                (walked.late, walked.counters) = (*late, Counters::of(record));
                walked.skipped = skipped(record);
                walked.id.0 == record.id
            },
            |(record, cgroup, late)| WalkedCgroup {
                id: CgroupId(record.id),
                path: Arc::clone(&cgroup.path),
                identity: cgroup.identity.clone(),
                late,
                skipped: skipped(record),
                counters: Counters::of(record),
            },
        );
        Ok(())
    }

    fn missing(&self) -> &[(Field, Refusal)] {
        &self.loaded.missing
    }

    fn costs(&self) -> Costs {
        self.costs
    }
}

/// The walk alone, every field of it: for tests and measurements. The agent runs it behind files.
impl Collector for BpfWalk {
    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), CollectError> {
        let mut walked = std::mem::take(&mut self.walked);
        let result = Walk::walk(self, &mut walked);
        if result.is_ok() {
            walked.publish(into);
        }
        self.walked = walked;
        result
    }

    fn name(&self) -> &'static str {
        "bpf"
    }

    fn costs(&self) -> Costs {
        self.costs
    }
}
